"""`vxp-data upgrade`: a run of an older format becomes one of ours, whatever stops it."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from support.commands import vxp_data
from support.flat_videos import BLUE, RED, write_flat_video
from support.format_4 import (
    as_format_4,
    as_format_5,
    old_sampler,
    run_files,
    stored_run,
    stored_run_of_format_6,
)
from support.runs import caption_row, run_prune, table, write_rows
from support.s3 import Bucket
from support.stopped_writes import KILLED, stop_after
from vxp_data.api.run import open_run as open_from_python
from vxp_data.errors import UserError
from vxp_data.pipeline import prune as prune_module
from vxp_data.pipeline.prune import sampler_fingerprint
from vxp_data.pipeline.redecide import redecide
from vxp_data.pipeline.run_dir.directory import open_run
from vxp_data.pipeline.run_dir.part_index import indexed_parts, read_part_index
from vxp_data.pipeline.upgrade import Upgraded, upgrade
from vxp_data.pipeline.verify.run import verify_run

REFUSED = r"is of run format 4, this version reads 7. Run `vxp-data upgrade \S+run`"
UPGRADES = """
from vxp_data.pipeline.upgrade import upgrade
upgrade(sys.argv[1])
"""


def embeddings(run: Path) -> dict[tuple[str, float], Any]:
    """Return every clip's embeddings as lists, of whichever format its part is."""
    found = {}
    for path in sorted((run / "embeddings").glob("part-*")):
        for row in pq.read_table(path).to_pylist():
            value = row["embedding"]
            if isinstance(value, bytes):
                value = np.frombuffer(value, "<f2").reshape(len(row["frame_index"]), -1).tolist()
            found[row["uri"], row["clip_start_s"]] = value
    return found


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return stored_run(tmp_path)


@pytest.fixture(scope="module")
def upgraded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of the stored run, converted without a stop."""
    run = stored_run(tmp_path_factory.mktemp("upgraded"))
    upgrade(run)
    return run_files(run)


def test_a_stored_run_keeps_all_it_has_under_new_names(old: Path) -> None:
    before = {name: table(old, name) for name in ("samples", "media", "duplicates", "scores")}
    record, stored = json.loads((old / "run.json").read_text()), embeddings(old)
    assert upgrade(old) == Upgraded(was_current=False, num_parts=4)
    assert verify_run(open_run(old), media=False).problems == []
    assert embeddings(old) == stored
    assert sum(value is not None for value in stored.values()) == 3
    turns = [json.loads(row["turns"]) for row in table(old, "samples")]
    pairs = [json.loads(row["exchanges"]) for row in before["samples"]]
    assert len(turns) == len(pairs) == 6
    for said, [(question, answer)], row in zip(turns, pairs, before["samples"], strict=True):
        words = {"type": "text", "text": question.removeprefix("<image>\n")}
        shown = [{"type": "video"}, words] if row["modality"] == "video" else question
        assert said == [
            {"role": "user", "content": shown},
            {"role": "assistant", "content": answer},
        ]
    assert [row["file_version"] for row in table(old, "media")] == [
        row["file_stamp"] for row in before["media"]
    ]
    assert [row["representative_uri"] for row in table(old, "duplicates")] == [
        row["keeper_uri"] for row in before["duplicates"]
    ]
    assert table(old, "scores") == before["scores"]
    now = json.loads((old / "run.json").read_text())
    assert now["format_version"] == 7
    assert now["config"]["shard"]["image_format"] == "webp"
    assert now["config"]["costs"]["tokens_per_image"] == 144.0
    assert "shard.image_format" in now["config_origin"]
    assert now["decided"] == record["decided"]
    assert {row["sampler"] for row in table(old, "media")} == {now["sampler"]}
    assert now["sampler"] != record["sampler"] == old_sampler(record["config"])


def test_the_old_format_written_by_hand_is_the_stored_one(old: Path) -> None:
    wanted = run_files(old)
    upgrade(old)
    as_format_4(old)
    assert run_files(old) == wanted


def test_an_upgraded_run_embeds_anew_only_what_is_selected_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, rgb in (("a", RED), ("b", BLUE), ("c", RED)):
        write_flat_video(tmp_path / f"{name}.mp4", num_frames=9, rgb=rgb)
    rows = [caption_row(name, f"{name}.mp4") for name in ("a", "b", "c", "missing")]
    rows.append(caption_row("part", "a.mp4", clip_start_s=0.2, clip_end_s=0.6))
    manifest, out = write_rows(tmp_path / "rows.json", rows), tmp_path / "run"
    settings = {"thresholds__default": "keep 1.0", "duplicates__mode": "drop"}
    as_then = partial(sampler_fingerprint, selection_version=1)
    with monkeypatch.context() as patch:
        patch.setattr(prune_module, "sampler_fingerprint", as_then)
        run_prune(manifest, out, tmp_path, **settings)
    wanted, stored = run_files(out), embeddings(out)
    as_format_4(out)
    with pytest.raises(UserError, match=REFUSED):
        run_prune(manifest, out, tmp_path, **settings)
    upgrade(out)
    # What the old format did not have is unknown now: facts about files, in these two.
    now = run_files(out)
    assert top(now) == top(wanted)
    assert {name for name in top(now) if now[name] != wanted[name]} == {"media.parquet"}
    assert embeddings(out) == stored
    with monkeypatch.context() as patch:
        patch.setattr(prune_module, "sampler_fingerprint", as_then)
        assert run_prune(manifest, out, tmp_path, **settings).num_files == 0
    assert run_prune(manifest, out, tmp_path, **settings).num_files == 4


def test_stopped_anywhere_it_goes_on_and_nothing_is_lost(
    old: Path, tmp_path: Path, upgraded: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = embeddings(old)
    for num_done in range(100):
        run = tmp_path / str(num_done)
        shutil.copytree(old, run)
        with monkeypatch.context() as patch:
            stop_after(num_done, patch)
            try:
                upgrade(run)
                break
            except KeyboardInterrupt:
                pass
        with pytest.raises(UserError, match="is of run format 4"):
            open_run(run).read_run()
        assert embeddings(run) == stored
        upgrade(run)
        assert run_files(run) == upgraded
    assert num_done > 16  # parts and sheets written, then removed; tables; run.json


def top(files: dict[str, bytes]) -> set[str]:
    """Return the names of a run's own files, without those of its folders."""
    return {name for name in files if "/" not in name}


@pytest.mark.parametrize("num_done", [1, 6, 15, 18])
def test_killed_it_goes_on(old: Path, upgraded: dict[str, bytes], num_done: int) -> None:
    command = [sys.executable, "-c", KILLED + UPGRADES, str(old), str(num_done)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert (old / "lock.json").exists()
    upgrade(old)
    assert run_files(old) == upgraded


def test_a_run_that_had_not_ended_is_converted_too(old: Path, upgraded: dict[str, bytes]) -> None:
    (old / "run.json").unlink()
    with pytest.raises(UserError, match=r"older run format. Run `vxp-data upgrade \S+/run`: it"):
        list(read_part_index(open_run(old)))
    assert upgrade(old).num_parts == 4
    assert run_files(old) == {n: data for n, data in upgraded.items() if n != "run.json"}
    assert upgrade(old) == Upgraded(was_current=True)


def test_sheets_without_embeddings_are_converted_under_their_name(old: Path) -> None:
    part = sorted((old / "embeddings").iterdir())[0]
    part.unlink()
    upgrade(old)
    names = pq.read_schema(old / "thumbnails" / part.name).names
    assert "file_version" in names
    assert "file_stamp" not in names


def test_parts_of_a_sampling_that_is_not_known_stay(old: Path) -> None:
    part = sorted((old / "embeddings").iterdir())[0]
    stored = pq.read_table(part)
    index = stored.column_names.index("sampler")
    other = stored.set_column(index, "sampler", [["of a plug-in"] * len(stored)])
    pq.write_table(other, part)
    assert upgrade(old) == Upgraded(was_current=False, num_parts=4, num_unknown=1)
    samplers = pq.read_table(old / "embeddings")["sampler"].to_pylist()
    assert samplers.count("of a plug-in") == len(stored)


def test_parts_of_earlier_settings_are_known_without_a_record(old: Path) -> None:
    frames = {"sampler": "midpoint", "num_frames": 7, "seek": "keyframe"}
    sampler = old_sampler({"decode": {"decoder": "decord"}, "frames": frames})
    for part in (old / "embeddings").iterdir():
        stored = pq.read_table(part)
        column = [[sampler] * len(stored)]
        pq.write_table(
            stored.set_column(stored.column_names.index("sampler"), "sampler", column), part
        )
    assert upgrade(old).num_unknown == 0


def test_in_an_object_store_it_does_the_same(
    s3: Bucket, old: Path, upgraded: dict[str, bytes]
) -> None:
    for name, data in run_files(old).items():
        s3.put(f"run/{name}", data)
    uri = f"{s3.uri}/run"
    assert upgrade(uri).num_parts == 4
    folder = open_run(uri).root
    names = [name for name in folder.walk() if not name.endswith("lock.json")]
    assert {name: folder.read_bytes(name) for name in names} == upgraded


def test_a_run_of_format_5_becomes_the_run_that_it_would_be_now(tmp_path: Path) -> None:
    for name, rgb in (("a", RED), ("b", BLUE)):
        write_flat_video(tmp_path / f"{name}.mp4", num_frames=9, rgb=rgb)
    rows = [caption_row(name, f"{name}.mp4") for name in ("a", "b", "missing")]
    manifest, out = write_rows(tmp_path / "rows.json", rows), tmp_path / "run"
    run_prune(manifest, out, tmp_path, thresholds__default="keep 1.0")
    wanted = {name: table(out, name) for name in ("samples", "media", "scores", "decisions")}
    stored = embeddings(out)
    as_format_5(out)
    with pytest.raises(UserError, match="is of run format 5, this version reads 7"):
        redecide(out, measure=None, thresholds={}, default=None)
    assert upgrade(out) == Upgraded(was_current=False, num_parts=3)
    assert table(out, "samples") == wanted["samples"]
    unknown = {"num_video_streams": 0}  # the only fact of these files that is not '' or 0
    assert table(out, "media") == [row | unknown for row in wanted["media"]]
    assert embeddings(out) == stored
    assert verify_run(open_run(out), media=True).problems == []
    redecide(out, measure=None, thresholds={}, default=None)
    assert str(table(out, "decisions")) == str(wanted["decisions"])  # NaN is like NaN there


def test_a_run_of_format_6_has_all_that_ours_has(tmp_path: Path) -> None:
    run = stored_run_of_format_6(tmp_path)
    before = {name: table(run, name) for name in ("samples", "scores")}
    media, means = table(run, "media"), table(run, "means")
    stored, sheets = embeddings(run), len(pq.read_table(run / "thumbnails"))
    with pytest.raises(UserError, match="is of run format 6, this version reads 7"):
        redecide(run, measure=None, thresholds={}, default=None)
    assert upgrade(run) == Upgraded(was_current=False, num_parts=1)
    assert verify_run(open_run(run), media=False).problems == []
    assert embeddings(run) == stored
    assert {name: table(run, name) for name in before} == before
    sampler = json.loads((run / "run.json").read_text())["sampler"]
    assert table(run, "media") == [row | {"sampler": sampler} for row in media]
    assert table(run, "means") == means
    assert (pq.read_schema(run / "means.parquet").metadata or {})[b"sampler"] == sampler.encode()
    (part,) = (pq.read_table(path) for path in (run / "embeddings").iterdir())
    key = ["uri", "clip_start_s"]
    in_parts = {(row["uri"], row["clip_start_s"]): row for row in part.to_pylist()}
    for score, mean in zip(before["scores"], means, strict=True):
        row = in_parts[tuple(score[name] for name in key)]
        assert row["mean"] == mean["mean"]
        for measure in ("mean_pairwise", "mean_adjacent", "min_pairwise", "effective_frames"):
            assert row[f"score:{measure}@1"] == score[measure]
        assert (row["beside"] is None) == bool(row["reason"])
    assert indexed_parts(open_run(run)) == {path.name for path in (run / "embeddings").iterdir()}
    (index,) = open_run(run).index_files()
    assert "part-" not in index.name  # of all parts, not of a merged one
    assert len(pq.read_table(run / "thumbnails")) == sheets == 5
    redecide(run, measure=None, thresholds={}, default=None)


def test_a_run_of_format_6_that_had_not_ended_is_converted_too(tmp_path: Path) -> None:
    run = stored_run_of_format_6(tmp_path)
    (run / "run.json").unlink()
    assert upgrade(run).num_parts == 1
    assert upgrade(run) == Upgraded(was_current=True)


def test_a_run_of_ours_is_left_as_it_is(old: Path) -> None:
    upgrade(old)
    before = {path: path.stat().st_mtime_ns for path in old.rglob("*")}
    done = vxp_data("upgrade", old)
    assert (done.returncode, done.stdout) == (
        0,
        f"{old} is of run format 7 already: nothing to do.\n",
    )
    assert {path: path.stat().st_mtime_ns for path in old.rglob("*")} == before


@pytest.mark.parametrize("version", [3, 8, None])
def test_other_formats_are_refused_and_nothing_is_changed(old: Path, version: int | None) -> None:
    record = json.loads((old / "run.json").read_text())
    (old / "run.json").write_text(json.dumps({**record, "format_version": version}))
    before = run_files(old)
    with pytest.raises(UserError, match=rf"is of run format {version}; `upgrade` converts form"):
        upgrade(old)
    assert run_files(old) == before


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no run: neither run.json nor samples.parquet"):
        upgrade(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_all_else_asks_for_it(old: Path) -> None:
    before = run_files(old)
    with pytest.raises(UserError, match=REFUSED):
        open_from_python(old)
    with pytest.raises(UserError, match=REFUSED):
        redecide(old, measure=None, thresholds={}, default=None)
    done = vxp_data("verify", old)
    assert done.returncode == 2
    assert f"Run `vxp-data upgrade {old}`" in done.stderr
    assert run_files(old) == before
