"""One run at a time: who holds a run directory, who may take it over, who notices."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from support.s3 import Bucket
from vxp_data.errors import UserError
from vxp_data.pipeline.run_dir import lock as run_lock_module
from vxp_data.pipeline.run_dir.lock import run_lock
from vxp_data.storage.folder import Folder, open_folder

HOLD = """
import sys, time
from vxp_data.pipeline.run_dir.lock import run_lock
from vxp_data.storage.folder import open_folder
with run_lock(open_folder(sys.argv[1]), "vxp-data prune"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(params=["disk", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    if request.param == "disk":
        return open_folder(tmp_path / "run")
    bucket: Bucket = request.getfixturevalue("s3")
    return open_folder(f"{bucket.uri}/run")


def lock_of(folder: Folder) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(folder.read_bytes("lock.json"))
    return found


def change_lock(folder: Folder, **changes: Any) -> None:
    folder.write_text("lock.json", json.dumps(lock_of(folder) | changes))


def test_a_second_run_is_refused_with_the_holder_named_and_may_come_after(folder: Folder) -> None:
    with run_lock(folder, "vxp-data prune"):
        holder = lock_of(folder)
        wanted = rf"in use by `vxp-data prune` on {holder['host']}, process {holder['pid']}, since"
        with pytest.raises(UserError, match=wanted), run_lock(folder, "vxp-data decide"):
            pass
        assert lock_of(folder) == holder
    assert folder.names() == []
    with run_lock(folder, "vxp-data decide"):
        assert lock_of(folder)["command"] == "vxp-data decide"


def test_a_holder_that_was_killed_is_replaced_at_once(folder: Folder) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, folder.uri], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=f"process {process.pid}"), run_lock(folder, "mine"):
            pass
        process.kill()
        process.wait()
        with run_lock(folder, "mine"):
            assert lock_of(folder)["command"] == "mine"
    assert folder.names() == []


def test_another_process_with_the_same_number_is_not_the_holder(folder: Folder) -> None:
    with run_lock(folder, "first"):
        change_lock(folder, process_start="1")
        with run_lock(folder, "second"):
            assert lock_of(folder)["command"] == "second"


@pytest.mark.parametrize(("silent_s", "free"), [(60.0, False), (400.0, True)])
def test_a_lease_of_another_machine_ends_when_it_is_not_renewed(
    folder: Folder, silent_s: float, free: bool
) -> None:
    with run_lock(folder, "first"):
        change_lock(folder, machine="another", host="node-7", renewed_at_s=time.time() - silent_s)
        if free:
            with run_lock(folder, "second"):
                assert lock_of(folder)["command"] == "second"
        else:
            with pytest.raises(UserError, match="on node-7"), run_lock(folder, "second"):
                pass


def test_a_holder_renews_its_lease(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock_module, "RENEW_S", 0.05)
    with run_lock(folder, "first") as lock:
        before = lock_of(folder)["renewed_at_s"]
        deadline = time.monotonic() + 60
        while lock_of(folder)["renewed_at_s"] == before:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        lock.check()
    assert folder.names() == []


def test_a_holder_notices_that_it_was_taken_over(folder: Folder) -> None:
    with run_lock(folder, "first") as lock:
        change_lock(folder, token="theirs", host="node-7")
        theirs = lock_of(folder)
        assert not lock.renew()
        with pytest.raises(UserError, match=r"taken over by .* on node-7"):
            lock.check()
    assert lock_of(folder) == theirs


def test_a_holder_that_could_not_renew_for_long_stops(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with run_lock(folder, "first") as lock:
        lock.check()
        monkeypatch.setattr(run_lock_module, "EXPIRE_S", 0.0)
        with pytest.raises(UserError, match="could not be renewed in time"):
            lock.check()


def test_a_lock_that_makes_no_sense_is_nobody_s_to_take(folder: Folder) -> None:
    folder.write_text("lock.json", "{")
    wanted = r"in use by another run.*remove .*lock\.json"
    with pytest.raises(UserError, match=wanted), run_lock(folder, "mine"):
        pass
