"""An output that is full, read-only or gone: one message, nothing corrupt, and it goes on later."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.chaos import make_media
from support.compared_runs import COMPARED
from support.runs import run_prune
from vxp_data.errors import UserError
from vxp_data.manifests.datasets import resolve_datasets
from vxp_data.pipeline.embed.job import EmbedTotals
from vxp_data.pipeline.prune import Observer, prune
from vxp_data.pipeline.run_dir.directory import open_run
from vxp_data.pipeline.verify.run import verify_run
from vxp_data.settings.prune import load_config

pytestmark = pytest.mark.usefixtures("engine")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_media(tmp_path_factory.mktemp("media"), copies=1)


@pytest.fixture(scope="module")
def undisturbed(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    run_prune(manifest, out)
    return out


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of our own: a tmpfs of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount(folder, "-t", "tmpfs", "-o", "size=4m", "none")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)


def mount(folder: Path, *words: str) -> None:
    try:
        done = subprocess.run(
            ["mount", *words, str(folder)], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")


def fill(disk: Path, free_kib: int) -> Path:
    """Leave so much free."""
    ballast = disk / "ballast"
    free = shutil.disk_usage(disk).free
    ballast.write_bytes(b"\0" * (free - (free_kib << 10)))
    return ballast


def assert_whole(out: Path, undisturbed: Path) -> None:
    for name in COMPARED:
        assert (out / name).read_bytes() == (undisturbed / name).read_bytes(), name
    assert verify_run(open_run(out), media=False).problems == []
    assert [path.name for path in out.rglob(".*")] == []


@pytest.mark.parametrize(
    "free_kib", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (8, 200, 540)), 60, 400]
)
def test_a_full_disk_ends_the_run_with_one_message_and_the_rest_follows_when_there_is_room(
    manifest: Path, undisturbed: Path, disk: Path, free_kib: int
) -> None:
    out = disk / "run"
    ballast = fill(disk, free_kib)
    with pytest.raises(UserError) as caught:
        run_prune(manifest, out)
    message = str(caught.value)
    assert re.match(rf"cannot write {out}\S*: No space left on device\. ", message), message
    assert "make room or choose another --out, then run the same command again" in message
    assert message.count("\n") == 0
    assert not (out / "run.json").exists()
    assert not (out / "lock.json").exists()
    ballast.unlink()
    run_prune(manifest, out)
    assert_whole(out, undisturbed)


def test_a_read_only_output_is_refused_before_anything_is_read(
    manifest: Path, undisturbed: Path, disk: Path
) -> None:
    out = disk / "run"
    mount(disk, "-o", "remount,ro")
    with pytest.raises(UserError, match=r"cannot write .*: Read-only file system\."):
        run_prune(manifest, out)
    mount(disk, "-o", "remount,rw")
    run_prune(manifest, out)
    assert_whole(out, undisturbed)
    before = {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
    mount(disk, "-o", "remount,ro")
    with pytest.raises(UserError, match="Read-only file system"):
        run_prune(manifest, out)
    assert {p: p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()} == before


class Disturbing(Observer):
    """Does something once, when the first videos are embedded."""

    def __init__(self, act: Any) -> None:
        self._act = act
        self.done = False

    def progressed(self, totals: EmbedTotals) -> None:
        if totals.clips and not self.done:
            self.done = True
            self._act()


def run_disturbed(manifest: Path, out: Path, act: Any) -> None:
    loaded = load_config(None, [("encoder.name", "thumbnail", "test")])
    observer = Disturbing(act)
    try:
        prune(resolve_datasets([manifest], None), loaded, out, observer)
    finally:
        assert observer.done


def test_an_output_that_vanishes_ends_the_run_with_one_message(
    manifest: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(UserError) as caught:
        run_disturbed(manifest, out, lambda: shutil.rmtree(out, ignore_errors=True))
    message = str(caught.value)
    assert message.startswith(f"{out}: stopped, because "), message
    assert "is gone" in message
    shutil.rmtree(out, ignore_errors=True)
    run_prune(manifest, out)
    assert_whole(out, undisturbed)


def test_a_disk_that_is_unmounted_ends_the_run_and_goes_on_when_it_is_back(
    manifest: Path, undisturbed: Path, tmp_path: Path
) -> None:
    disk, mount_point = tmp_path / "disk", tmp_path / "mount"
    for folder in (disk, mount_point):
        folder.mkdir()
    mount(mount_point, "--bind", str(disk))
    out = mount_point / "run"
    try:
        with pytest.raises(UserError, match=r"stopped, because .* is gone"):
            run_disturbed(
                manifest,
                out,
                lambda: subprocess.run(["umount", "-l", str(mount_point)], check=True),
            )
        assert list(mount_point.rglob("*")) == []  # nothing was written below the mount
        mount(mount_point, "--bind", str(disk))
        holder = json.loads((out / "lock.json").read_text())
        (out / "lock.json").write_text(json.dumps(holder | {"process_start": "1"}))  # it has ended
        run_prune(manifest, out)
        assert_whole(out, undisturbed)
    finally:
        subprocess.run(["umount", "-l", str(mount_point)], capture_output=True, check=False)
