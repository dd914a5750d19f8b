"""The whole job, on videos made here, in one shared Ray."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from demo_videos import make_videos

from support import tiny_models
from support.compared_runs import COMPARED
from support.runs import by_sample, caption_row, run_prune, table, write_rows
from vxp_data.core.thresholds import parse_keep
from vxp_data.core.timeline import unpack_timeline
from vxp_data.errors import ExpectationError, UserError
from vxp_data.pipeline.redecide import redecide

pytestmark = pytest.mark.usefixtures("engine")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's videos and annotations."""
    folder = tmp_path_factory.mktemp("videos")
    manifest: Path = make_videos(folder)
    return manifest


@pytest.fixture(scope="module")
def demo_run(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One finished run over them."""
    out = tmp_path_factory.mktemp("run") / "demo"
    run_prune(videos, out)
    return out


def test_every_row_ends_in_one_place_and_comes_back_unchanged(videos: Path, demo_run: Path) -> None:
    rows = json.loads(videos.read_text(encoding="utf-8"))
    kept = json.loads((demo_run / "kept.json").read_text(encoding="utf-8"))
    dropped = json.loads((demo_run / "dropped.json").read_text(encoding="utf-8"))
    decided = by_sample(demo_run, "decision")
    assert len(decided) == len(rows)
    assert [row for row in rows if decided[row["id"]] == "keep"] == kept
    assert [row for row in rows if decided[row["id"]] == "prune"] == dropped
    quarantined = {row["sample_id"].split("/", 1)[1] for row in table(demo_run, "quarantine")}
    assert {row_id for row_id, outcome in decided.items() if outcome == "quarantine"} == quarantined
    assert quarantined


def test_half_of_each_subset_is_kept(demo_run: Path) -> None:
    outcomes = Counter((row["task"], row["decision"]) for row in table(demo_run, "decisions"))
    tasks = {task for task, _ in outcomes}
    assert tasks == {"caption", "multiple_choice", "open_ended"}
    for task in tasks:
        usable = outcomes[task, "keep"] + outcomes[task, "prune"]
        assert outcomes[task, "keep"] == (usable + 1) // 2


def test_kept_rows_are_the_less_redundant_ones_of_their_subset(demo_run: Path) -> None:
    for task in ("caption", "multiple_choice", "open_ended"):
        rows = [row for row in table(demo_run, "decisions") if row["task"] == task]
        kept = [row["score"] for row in rows if row["decision"] == "keep"]
        pruned = [row["score"] for row in rows if row["decision"] == "prune"]
        assert max(kept) <= min(pruned)
        assert {row["threshold"] for row in rows if row["decision"] == "keep"} == {max(kept)}


def test_a_file_that_many_rows_name_is_embedded_once(videos: Path, demo_run: Path) -> None:
    rows = json.loads(videos.read_text(encoding="utf-8"))
    files = {row["video"] for row in rows}
    assert len(files) < len(rows)
    parts = [pq.read_table(part) for part in (demo_run / "embeddings").glob("*.parquet")]
    embedded = Counter(Path(uri).name for part in parts for uri in part["uri"].to_pylist())
    assert embedded == Counter(Path(name).name for name in files)


def test_embeddings_are_unit_rows_of_at_most_20_frames(demo_run: Path) -> None:
    part = pa.concat_tables(
        pq.read_table(path) for path in (demo_run / "embeddings").glob("*.parquet")
    )
    for embedding, reason, index in zip(
        part["embedding"].to_pylist(),
        part["reason"].to_pylist(),
        part["frame_index"].to_pylist(),
        strict=True,
    ):
        if reason:
            assert embedding is None
            continue
        assert len(index) == 20
        rows = np.frombuffer(embedding, np.float16).reshape(20, -1).astype(np.float64)
        assert np.abs(np.linalg.norm(rows, axis=1) - 1).max() < 5e-3


def test_the_stored_timeline_holds_every_frames_time(demo_run: Path) -> None:
    good = [row for row in table(demo_run, "media") if not row["reason"]]
    assert good
    for row in good:
        time_s_N = unpack_timeline(row["timeline"])
        assert len(time_s_N) == row["num_frames"]
        assert time_s_N[row["frame_index"]].tolist() == row["time_s"]
        assert 0 <= time_s_N[-1] < row["duration_s"]
        assert len(row["timeline"]) < 400


def test_the_same_run_twice_gives_the_same_bytes(
    videos: Path, demo_run: Path, tmp_path: Path
) -> None:
    run_prune(videos, tmp_path / "again")
    for name in COMPARED:
        assert (tmp_path / "again" / name).read_bytes() == (demo_run / name).read_bytes(), name


def test_a_second_run_embeds_nothing_and_a_changed_file_again(
    videos: Path, demo_run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(demo_run, out)
    (out / "run.json").unlink()  # as if it had been stopped
    again = run_prune(videos, out)
    assert (again.num_files, again.totals.clips) == (0, 0)
    assert (out / "kept.json").read_bytes() == (demo_run / "kept.json").read_bytes()

    root = tmp_path / "media"
    shutil.copytree(videos.parent, root)
    first = run_prune(root / videos.name, tmp_path / "moved")
    good = next(row for row in table(tmp_path / "moved", "media") if not row["reason"])
    other = next(
        row
        for row in table(tmp_path / "moved", "media")
        if not row["reason"] and row["media_id"] != good["media_id"]
    )
    shutil.copyfile(other["uri"], good["uri"])
    second = run_prune(root / videos.name, tmp_path / "moved")
    assert first.num_files > 1
    assert second.num_files == 1
    found = {row["uri"]: row["media_id"] for row in table(tmp_path / "moved", "media")}
    assert found[good["uri"]] == other["media_id"]


def test_decide_changes_decisions_without_the_videos(
    videos: Path, demo_run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(demo_run, out)
    decided, measure = redecide(
        out, measure="effective_frames", thresholds={"caption": parse_keep("3")}, default=None
    )
    assert measure == "effective_frames"
    kept = Counter(r["task"] for r in table(out, "decisions") if r["decision"] == "keep")
    before = Counter(r["task"] for r in table(demo_run, "decisions") if r["decision"] == "keep")
    assert kept["caption"] == 3
    assert kept["open_ended"] == before["open_ended"]
    assert decided.num_kept == sum(kept.values())
    record = json.loads((out / "run.json").read_text())
    assert record["config"]["measure"] == "effective_frames"
    assert record["config"]["thresholds"] == {"default": "keep 0.5", "caption": "keep 3"}
    rows = json.loads(videos.read_text(encoding="utf-8"))
    assert len(json.loads((out / "kept.json").read_text(encoding="utf-8"))) == decided.num_kept
    assert decided.num_in == len(rows)


def test_all_kinds_of_manifest_at_once(videos: Path, tmp_path: Path) -> None:
    rows = json.loads(videos.read_text(encoding="utf-8"))[:6]
    jsonl = tmp_path / "lines.jsonl"
    jsonl.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    flat = [{"id": row["id"], "video": row["video"], "caption": "A scene."} for row in rows]
    with (tmp_path / "table.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(flat[0]))
        writer.writeheader()
        writer.writerows(flat)
    pq.write_table(pa.Table.from_pylist(flat), tmp_path / "table.parquet")
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copyfile(videos.parent / rows[0]["video"], folder / "ünï 日本.mp4")
    mixture = tmp_path / "mix.yaml"
    mixture.write_text(
        f"datasets:\n- name: lines\n  manifest: lines.jsonl\n  media_root: {videos.parent}\n"
        f"- name: sheet\n  manifest: table.csv\n  media_root: {videos.parent}\n  task: caption\n"
    )
    out = tmp_path / "run"
    result = run_prune(
        [mixture, tmp_path / "table.parquet", folder],
        out,
        videos.parent,
        thresholds__default="keep 1.0",
    )
    assert result.decided.num_in == 19
    names = {path.name for path in out.glob("kept*")}
    assert names == {
        "kept.lines.jsonl",
        "kept.sheet.csv",
        "kept.table.parquet",
        "kept.folder.jsonl",
    }
    decided = by_sample(out, "decision")
    kept_ids = [row["id"] for row in flat if decided[row["id"]] == "keep"]
    assert pq.read_table(out / "kept.table.parquet")["id"].to_pylist() == kept_ids
    assert (out / "kept.sheet.csv").read_text().splitlines()[0] == "id,video,caption"
    assert json.loads((out / "kept.folder.jsonl").read_text())["video"] == "ünï 日本.mp4"


def test_clips_images_text_and_bad_rows_each_have_their_place(videos: Path, tmp_path: Path) -> None:
    rows = json.loads(videos.read_text(encoding="utf-8"))
    usable = {Path(r["uri"]).name for r in table_of_media(videos, tmp_path) if not r["reason"]}
    video = next(row["video"] for row in rows if Path(row["video"]).name in usable)
    import av

    with av.open(str(videos.parent / video)) as container:
        next(container.decode(video=0)).to_image().save(videos.parent / "still.jpg")
    mixed = [
        caption_row("whole", video),
        caption_row("clip", video, clip_start_s=0.5, clip_end_s=1.0),
        caption_row("beyond", video, clip_start_s=9000, clip_end_s=9001),
        {**caption_row("image", ""), "image": "still.jpg"},
        {"id": "talk", "conversations": [{"from": "human", "value": "Hello"}]},
        caption_row("gone", "no/such/file.mp4"),
        caption_row("outside", "../../etc/passwd"),
        {**caption_row("odd", video), "video": 17},
    ]
    for row in mixed:
        if row.get("video") == "":
            del row["video"]
    out = tmp_path / "run"
    run_prune(
        write_rows(tmp_path / "mixed.json", mixed),
        out,
        videos.parent,
        thresholds__default="keep 1.0",
    )
    assert by_sample(out, "reason") == {
        "whole": "within_threshold",
        "clip": "within_threshold",
        "beyond": "outside_clip",
        "image": "image",
        "talk": "text_only",
        "gone": "missing",
        "outside": "forbidden",
        "odd": "bad_row",
    }
    parts = [pq.read_table(part).to_pylist() for part in (out / "embeddings").glob("*.parquet")]
    times = {
        row["clip_start_s"]: row["time_s"] for part in parts for row in part if row["frame_index"]
    }
    assert times[0.5][0] <= 0.5 < times[0.5][1]  # the first is on screen when the clip begins
    assert max(times[0.5]) < 1.0


def table_of_media(videos: Path, tmp_path: Path) -> list[dict[str, object]]:
    out = tmp_path / "facts"
    run_prune(videos, out)
    return table(out, "media")


def test_siglip_from_a_checkpoint_on_disk(videos: Path, tmp_path: Path) -> None:
    checkpoint = tiny_models.write_tiny_siglip(tmp_path / "siglip")
    out = tmp_path / "run"
    result = run_prune(videos, out, encoder__name="siglip", encoder__checkpoint=str(checkpoint))
    assert result.decided.num_kept > 0
    assert result.decided.quarantined_by_reason == {"truncated": 2}
    scores = [row["mean_pairwise"] for row in table(out, "scores") if row["media_id"]]
    assert len({round(score, 6) for score in scores}) > 10


def test_children_that_die_hang_and_hoard_cost_their_own_video_only(
    videos: Path, tmp_path: Path
) -> None:
    honest = json.loads(videos.read_text(encoding="utf-8"))[0]["video"]
    names = ("hangs", "dozes", "crashes", "killed", "allocates", "raises", "fine")
    for name in names:
        shutil.copyfile(videos.parent / honest, tmp_path / f"{name}.mp4")
    manifest = write_rows(
        tmp_path / "rows.json", [caption_row(name, f"{name}.mp4") for name in names]
    )
    settings = {
        "decode__decoder": "misbehaving",
        "decode__timeout_s": 4.0,
        "decode__memory_mib": 512,
        "thresholds__default": "keep 1.0",
    }
    run_prune(manifest, tmp_path / "alone", decode__fallback=None, **settings)
    assert by_sample(tmp_path / "alone", "reason") == {
        "hangs": "timeout",
        "dozes": "timeout",
        "crashes": "crashed",
        "killed": "out_of_memory",
        "allocates": "out_of_memory",
        "raises": "decode_failed",
        "fine": "within_threshold",
    }
    run_prune(manifest, tmp_path / "helped", decode__fallback="pyav", **settings)
    assert set(by_sample(tmp_path / "helped", "decision").values()) == {"keep"}
    used = {Path(m["uri"]).stem: m for m in table(tmp_path / "helped", "media")}
    assert used["fine"]["decoder"] == "misbehaving"
    assert used["crashes"]["decoder"] == "pyav"
    assert "SIGSEGV" in used["crashes"]["decoder_note"]


def test_an_expectation_not_met_ends_the_finished_run_with_the_difference(
    videos: Path, demo_run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(demo_run, out)
    with pytest.raises(ExpectationError, match=r"num_in: expected 1, got \d+"):
        run_prune(videos, out, expect__num_in=1)
    assert json.loads((out / "run.json").read_text())["decided"]["num_in"] > 1


def test_a_threshold_for_a_task_that_nobody_has_is_refused(
    videos: Path, demo_run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(demo_run, out)
    with pytest.raises(UserError, match="Did you mean 'caption'"):
        run_prune(videos, out, thresholds__captoin="keep 0.5")


def test_the_corpus_is_ranked_as_a_person_would(corpus: Path, tmp_path: Path) -> None:
    result = run_prune(corpus / "annotations.json", tmp_path / "run")
    assert (result.decided.num_in, result.decided.num_quarantined) == (80, 0)
    assert {s.task: s.rows for s in result.decided.subsets} == {
        "caption": 37,
        "multiple_choice": 24,
        "open_ended": 19,
    }
    scores = table(tmp_path / "run", "scores")
    ranked = sorted(scores, key=lambda row: row["mean_pairwise"])
    index = {Path(row["uri"]).name: i / len(ranked) for i, row in enumerate(ranked)}
    static = (
        "LLaVA-NeXT__code.mp4",
        "sample-videos__classroom.gif",
        "sample-videos__bottle-detection.mp4",
        "sample-videos__one-by-one-person-detection.mp4",
        "sample-videos__car-detection.mp4",
        "ExoPlayer__portrait_4k60.mp4",
    )
    lively = (
        "made__bbb_full_634s_320x180.mp4",
        "fuzzing-corpus__fragmented.mp4",
        "PySceneDetect__testvideo.mp4",
    )
    assert all(index[name] >= 0.5 for name in static), index
    assert all(index[name] < 0.5 for name in lively), index


def test_the_awkward_corpus_is_scored_or_quarantined_with_reason(
    corpus: Path, tmp_path: Path
) -> None:
    run_prune(corpus / "annotations_hard.json", tmp_path / "run")
    with (corpus / "catalog.tsv").open(encoding="utf-8") as file:
        frames = {
            row["file"]: row["n_frames_decoded"] for row in csv.DictReader(file, delimiter="\t")
        }
    reason = {
        f"hard/{Path(row['media_uri']).name}": row["reason"]
        for row in table(tmp_path / "run", "quarantine")
    }
    hopeless = {name for name, n in frames.items() if name.startswith("hard/") and n in ("", "0")}
    assert hopeless <= set(reason)
    decodable = sum(name.startswith("hard/") for name in frames) - len(hopeless)
    assert len(set(reason) - hopeless) <= 0.05 * decodable
    fitting = {
        "made__zero_byte.mp4": "empty",
        "made__html_error_page.mp4": "not_video",
        "made__lfs_pointer.mp4": "not_video",
        "made__no_moov_truncated60.mp4": "truncated",
        "made__header_only_4k.mp4": "truncated",
        "made__audio_only.mp4": "no_video_stream",
        "mp4parse-rust__short-cenc.mp4": "encrypted",
        "ExoPlayer__sample_fragmented_clearkey.mp4": "encrypted",
        "ExoPlayer__invalid-bitstream.webm": "decode_failed",
        "ExoPlayer__sample_iframe_init.ts": "no_frames",
    }
    assert {name: reason[f"hard/{name}"] for name in fitting} == fitting


@pytest.mark.slow
def test_the_full_so400m_architecture_on_two_clips(videos: Path, tmp_path: Path) -> None:
    checkpoint = tiny_models.write_random_so400m(tmp_path / "so400m")
    rows = json.loads(videos.read_text(encoding="utf-8"))
    good = [row for row in rows if "truncated" not in row["video"]]
    two = [
        next(r for r in good if r["video"] == name)
        for name in sorted({g["video"] for g in good})[:2]
    ]
    out = tmp_path / "run"
    result = run_prune(
        write_rows(tmp_path / "two.json", two),
        out,
        videos.parent,
        encoder__name="siglip",
        encoder__checkpoint=str(checkpoint),
        frames__num_frames=4,
    )
    assert result.totals.clips == 2
    part = pq.read_table(next((out / "embeddings").glob("*.parquet")))
    assert len(part["embedding"][0].as_py()) == 2 * 1152 * len(part["frame_index"][0])
