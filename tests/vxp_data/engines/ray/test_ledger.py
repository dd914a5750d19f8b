"""Who is blamed for an attempt that died: the file that was read, not a machine that was lost."""

from __future__ import annotations

import time
from typing import Any

import pytest

from support.later import LATER

if LATER:
    import ray

    from vxp_data.engines.ray.ledger import PlannedAnewError, RayCrashLedger


@pytest.fixture
def ledger(ray_session: None) -> RayCrashLedger:  # noqa: ARG001 - where it lives
    return RayCrashLedger()


def test_a_worker_that_dies_is_counted_with_what_it_had_named(ledger) -> None:
    assert ledger.begin("task") == (0, {})
    assert ledger.begin("task") == (1, {})
    ledger.name("task", "file")
    assert ledger.begin("task") == (2, {"file": 1})


def test_an_attempt_that_ended_with_its_job_blames_nobody(ledger) -> None:
    ledger.begin("task")
    ledger.begin("task")
    for _ in range(5):
        ledger.name("task", "file")
        ledger.next_job()
        assert ledger.begin("task") == (1, {})


def test_what_kills_whatever_it_runs_on_is_found_out_in_the_end(ledger) -> None:
    deaths = []
    for _ in range(15):
        deaths.append(ledger.begin("task")[1].get("file", 0))
        ledger.name("task", "file")
        ledger.next_job()
    assert deaths == [0] * 11 + [1, 2, 3, 4]


def test_the_tasks_of_a_job_that_is_planned_anew_end_when_they_begin(ledger) -> None:
    import pickle

    taken_along = pickle.loads(pickle.dumps(ledger))
    taken_along.begin("task")
    ledger.next_job()
    with pytest.raises(PlannedAnewError):
        taken_along.begin("another")
    ledger.begin("another")


def started_encoder(ledger) -> Any:
    """Return an actor of a core that has told the ledger of itself."""

    class Encoder:
        def __init__(self, ledger) -> None:
            ledger.add_this_encoder()

        def is_there(self) -> bool:
            return True

    actor = ray.remote(num_cpus=1)(Encoder).remote(ledger)
    assert ray.get(actor.is_there.remote())
    return actor


def until_all_cores_are_free() -> None:
    until_s = time.monotonic() + 60
    while ray.available_resources().get("CPU", 0) < 2:
        assert time.monotonic() < until_s
        time.sleep(0.1)


def test_an_encoder_ends_when_ray_data_lets_go_of_it(ledger) -> None:
    actor = started_encoder(ledger)
    (place,) = ledger.encoders()
    del actor  # whoever knows where it is does not hold it
    until_all_cores_are_free()
    assert place.actor_id


def test_the_encoders_of_a_failed_job_give_back_what_they_hold(ledger) -> None:
    actor = started_encoder(ledger)  # as a traceback holds it
    ledger.end_encoders()
    until_all_cores_are_free()
    assert ledger.encoders() == []
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(actor.is_there.remote())
