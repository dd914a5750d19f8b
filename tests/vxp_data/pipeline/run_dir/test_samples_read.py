"""A prune that was stopped does not read the same manifests again, and any other it does."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from support import runs
from support.flat_videos import write_flat_video
from vxp_data.manifests.datasets import resolve_datasets
from vxp_data.manifests.samples import ManifestCounts, TaskRules
from vxp_data.pipeline.run_dir import samples as module
from vxp_data.pipeline.run_dir.directory import RunDirectory, open_run
from vxp_data.pipeline.run_dir.samples import write_samples

RULES = TaskRules(field="kind", mapping={"a": "caption"})


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    rows = [runs.caption_row(f"row-{i % 3}", f"{i}.mp4") | {"kind": "a"} for i in range(4)]
    return runs.write_rows(tmp_path / "rows.json", [*rows, {"id": "bad", "video": 3}])


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    (tmp_path / "run").mkdir()
    return open_run(tmp_path / "run")


def read(
    run: RunDirectory, manifest: Path, monkeypatch: pytest.MonkeyPatch, rules: TaskRules = RULES
) -> tuple[ManifestCounts, list[ManifestCounts], int]:
    """Write samples; return what was counted, in all and of each, and how many rows were read."""
    accepted: list[ManifestCounts] = []
    num_read = 0
    real = module.read_samples

    def counting(*args):
        nonlocal num_read
        for sample in real(*args):
            num_read += 1
            yield sample

    with monkeypatch.context() as patch:
        patch.setattr(module, "read_samples", counting)
        datasets = resolve_datasets([manifest], manifest.parent)
        counts = write_samples(run, datasets, rules, accepted.extend)
    return counts, accepted, num_read


def test_the_same_manifest_is_read_once(
    run: RunDirectory, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, accepted, num_read = read(run, manifest, monkeypatch)
    assert (num_read, first.ids_repeated, first.num_unusable) == (5, 1, 1)
    samples = Path(str(run.samples)).read_bytes()
    again, accepted_again, num_read = read(run, manifest, monkeypatch)
    assert num_read == 0
    assert (again, accepted_again) == (first, accepted)
    assert type(again.reasons) is type(first.reasons)
    assert Path(str(run.samples)).read_bytes() == samples


def test_what_may_read_otherwise_is_read_again(
    run: RunDirectory, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(run, manifest, monkeypatch)
    assert read(run, manifest, monkeypatch, TaskRules())[2] == 5
    assert read(run, manifest, monkeypatch, TaskRules())[2] == 0
    os.utime(manifest, (1, 1))
    assert read(run, manifest, monkeypatch, TaskRules())[2] == 5
    Path(str(run.samples)).unlink()
    assert read(run, manifest, monkeypatch, TaskRules())[2] == 5


def test_rows_whose_media_are_searched_for_are_read_again(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one.mp4").touch()
    row = {"video_id": "one", "conversations": runs.caption_row("a", "one.mp4")["conversations"]}
    manifest = runs.write_rows(tmp_path / "stems.json", [row])
    counts, _, _ = read(run, manifest, monkeypatch)
    assert (counts.stems, counts.num_unusable) == (1, 0)
    assert read(run, manifest, monkeypatch)[2] == 1


def test_a_folder_of_videos_is_listed_again(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "one.mp4").touch()
    assert read(run, tmp_path / "videos", monkeypatch)[2] == 1
    assert read(run, tmp_path / "videos", monkeypatch)[2] == 1


def test_samples_that_were_not_read_to_the_end_are_read_again(
    run: RunDirectory, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(run, manifest, monkeypatch)
    os.utime(manifest, (1, 1))
    datasets = resolve_datasets([manifest], manifest.parent)

    def refuse(_) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_samples(run, datasets, RULES, refuse)
    assert not any("samples_read" in name for name in run.root.names())
    assert read(run, manifest, monkeypatch)[2] == 5


def test_a_run_that_has_ended_keeps_no_record_of_it(tmp_path: Path) -> None:
    write_flat_video(tmp_path / "v.mp4", num_frames=5)
    manifest = runs.write_rows(tmp_path / "rows.json", [runs.caption_row("a", "v.mp4")])
    runs.run_prune(manifest, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["manifests"]["stems"] == 0
    assert not (tmp_path / "run" / "samples_read.json").exists()
