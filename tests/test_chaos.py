"""Killed at random moments, a run ends with the bytes of an undisturbed one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chaos import MODES, Arena, arena, chaos

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    """Videos, and a Ray cluster that outlives the commands."""
    with arena(tmp_path_factory.mktemp("chaos")) as place:
        yield place


def test_a_run_killed_three_times_ends_with_the_bytes_of_an_undisturbed_one(place: Arena) -> None:
    outcome = chaos(
        place,
        kills=3,
        encoders={"thumbnail": ["--encoder", "thumbnail"]},
        seed=1,
        moments=["files"],
    )
    assert {kill.mode for kill in outcome.kills} == set(MODES)
    assert outcome.rows > 0
    assert (outcome.lost, outcome.doubled) == (0, 0)
    assert outcome.different == []
    assert outcome.left_behind == []
    assert sum(kill.files_read_again for kill in outcome.kills) <= 3 * place.num_files
