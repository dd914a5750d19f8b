"""Duplicates in a run: what becomes of the rows, and that no video is opened for it."""

import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.duplicate_clips import clip, film
from support.runs import by_sample, caption_row, write_rows
from support.stored_runs import StoredClip, decide, stored_run
from vxp_data.errors import UserError
from vxp_data.manifests.renamed_media import Renaming, rename_in_json
from vxp_data.pipeline.shard.kept_rows import kept_rows
from vxp_data.pipeline.verify.run import verify_run


def stored(path, start_s=0.0, end_s=None, **more):
    emb_FD, times = clip(path, start_s, end_s)
    return StoredClip(emb_FD=emb_FD, duration_s=times.duration_s, **more)


def noisy(given, seed=0, **more):
    """Another encoding of a clip: every frame a little off."""
    noise = np.random.default_rng(seed).normal(size=given.emb_FD.shape) * 0.005
    emb_FD = given.emb_FD + noise
    emb_FD /= np.linalg.norm(emb_FD, axis=1, keepdims=True)
    return StoredClip(emb_FD=emb_FD, duration_s=given.duration_s, **more)


SLOW = {"speed": 0.25}
A, B = film(1, 40, **SLOW), film(2, 40, **SLOW)
WHOLE = stored(A, media_id="a")


def family():
    """Two films; of the first a small copy, the same bytes under another name, and a part."""
    return {
        "a.mp4": WHOLE,
        "a-same.mp4": WHOLE,
        "a-small.mp4": noisy(WHOLE, width_px=320, height_px=180),
        "a-part.mp4": stored(A, 10, 26, width_px=1920, height_px=1080),
        "b.mp4": stored(B),
    }


def reasons(run):
    found = table_of(run)
    return {
        name: (row["reason"], row["representative_uri"].split("/")[-1])
        for name, row in found.items()
    }


def table_of(run):
    rows = pq.read_table(str(run.duplicates)).to_pylist()
    return {row["uri"].split("/")[-1]: row for row in rows}


FAMILY = {
    "a-part.mp4": ("contained", "a-same.mp4"),
    "a-small.mp4": ("near_duplicate", "a-same.mp4"),
    "a.mp4": ("same_content", "a-same.mp4"),
}


def test_duplicates_are_dropped_with_their_reason_and_the_run_verifies(tmp_path):
    run = stored_run(tmp_path, family())
    decided = decide(run, duplicates__mode="drop")
    assert reasons(run) == FAMILY
    out = tmp_path / "run"
    assert by_sample(out, "decision") == {
        "row-a.mp4": "duplicate",
        "row-a-same.mp4": "keep",
        "row-a-small.mp4": "duplicate",
        "row-a-part.mp4": "duplicate",
        "row-b.mp4": "keep",
    }
    assert by_sample(out, "reason")["row-a-part.mp4"] == "contained"
    assert by_sample(out, "duplicate_of")["row-a-small.mp4"].endswith("/a-same.mp4")
    assert (decided.num_kept, decided.num_duplicates) == (2, 3)
    assert table_of(run)["a-part.mp4"]["offset_s"] == pytest.approx(10, abs=1)
    assert len(json.loads((out / "dropped.json").read_text())) == 3
    assert verify_run(run, media=False).problems == []


def test_relinked_rows_stay_and_name_the_video_that_is_kept(tmp_path):
    run = stored_run(tmp_path, family())
    decided = decide(run, duplicates__mode="relink")
    assert (decided.num_kept, decided.num_duplicates, decided.num_relinked) == (5, 0, 2)
    kept = json.loads((tmp_path / "run" / "kept.json").read_text())
    assert {row["id"]: row["video"] for row in kept} == {
        "row-a.mp4": "a-same.mp4",
        "row-a-same.mp4": "a-same.mp4",
        "row-a-small.mp4": "a-same.mp4",
        "row-a-part.mp4": "a-part.mp4",  # its rows are about that part
        "row-b.mp4": "b.mp4",
    }
    rows = kept_rows(run).to_pylist()
    assert [row["media_uri"].split("/")[-1] for row in rows].count("a-same.mp4") == 3
    assert {row["width_px"] for row in rows if "a-same" in row["media_uri"]} == {640}
    assert verify_run(run, media=False).problems == []


def test_all_else_of_a_relinked_row_stays_as_it_was(tmp_path):
    run = stored_run(tmp_path, family())
    before = json.loads((tmp_path / "rows.json").read_text())
    decide(run, duplicates__mode="relink")
    kept = json.loads((tmp_path / "run" / "kept.json").read_text())
    for old, new in zip(before, kept, strict=True):
        assert {**old, "video": None} == {**new, "video": None}


def test_a_report_changes_no_row(tmp_path):
    run = stored_run(tmp_path, family())
    assert decide(run).num_kept == 5
    plain = (tmp_path / "run" / "kept.json").read_bytes()
    assert not run.duplicates.is_file()
    assert decide(run, duplicates__mode="report").num_kept == 5
    assert (tmp_path / "run" / "kept.json").read_bytes() == plain
    assert reasons(run) == FAMILY
    assert by_sample(tmp_path / "run", "duplicate_of")["row-a-part.mp4"].endswith("/a-same.mp4")


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_shuffled_rows_give_the_same_groups(tmp_path, seed):
    names = list(family())
    np.random.default_rng(seed).shuffle(names)
    run = stored_run(tmp_path, {name: family()[name] for name in names})
    decide(run, duplicates__mode="drop")
    assert reasons(run) == FAMILY


def test_by_subset_only_videos_of_one_task_are_compared(tmp_path):
    other_task = [
        {"from": "human", "value": "What does the man hold after he sits down?"},
        {"from": "gpt", "value": "Red"},
    ]
    rows = [
        caption_row("whole", "a.mp4"),
        {**caption_row("small", "a-small.mp4"), "conversations": other_task},
        {**caption_row("small-2", "a-small.mp4")},
    ]
    clips = {name: family()[name] for name in ("a.mp4", "a-small.mp4")}
    run = stored_run(tmp_path, clips, rows)
    decide(run, duplicates__mode="drop", duplicates__scope="subset")
    decisions = by_sample(tmp_path / "run", "decision")
    assert decisions == {"whole": "keep", "small": "keep", "small-2": "duplicate"}
    decide(run, duplicates__scope="all", duplicates__mode="drop")
    assert by_sample(tmp_path / "run", "decision")["small"] == "duplicate"


def test_more_copies_than_neighbours_are_one_group(tmp_path):
    clips = {f"{i:02}.mp4": noisy(WHOLE, seed=i) for i in range(40)}
    run = stored_run(tmp_path, clips)
    decided = decide(run, duplicates__mode="drop", duplicates__neighbours=3)
    assert (decided.num_kept, decided.num_duplicates) == (1, 39)


def test_what_is_listed_is_taken_out(tmp_path):
    listed = tmp_path / "ids.txt"
    listed.write_text("# ours\n\nb\nrow-a.mp4\n")
    run = stored_run(tmp_path / "train", family())
    decide(run, duplicates__exclude=[str(listed)])
    out = tmp_path / "train" / "run"
    gone = {name for name, why in by_sample(out, "reason").items() if why == "in_evaluation"}
    assert gone == {"row-b.mp4", "row-a.mp4"}
    assert by_sample(out, "duplicate_of")["row-b.mp4"] == f"{listed}: b"
    assert verify_run(run, media=False).problems == []


def test_what_a_run_over_evaluation_videos_has_is_taken_out(tmp_path):
    decontamination = {
        "bytes.mp4": WHOLE,
        "longer.mp4": stored(B, 0, 40),
        "else.mp4": stored(film(3, 40, **SLOW)),
    }
    other = stored_run(tmp_path / "eval", decontamination)
    train = {
        "a.mp4": WHOLE,
        "part.mp4": stored(B, 5, 20),
        "c.mp4": stored(film(4, 40, **SLOW)),
    }
    run = stored_run(tmp_path / "train", train)
    decide(run, duplicates__exclude=[str(other.root)])
    found = table_of(run)
    assert {name: row["representative_uri"].split("/")[-1] for name, row in found.items()} == {
        "a.mp4": "bytes.mp4",
        "part.mp4": "longer.mp4",
    }
    assert {row["source"] for row in found.values()} == {str(other.root)}
    assert by_sample(tmp_path / "train" / "run", "decision") == {
        "row-a.mp4": "duplicate",
        "row-part.mp4": "duplicate",
        "row-c.mp4": "keep",
    }


def test_a_run_of_another_encoder_is_refused(tmp_path):
    other = stored_run(tmp_path / "eval", {"b.mp4": stored(B)}, encoder="encoder-2")
    run = stored_run(tmp_path / "train", family())
    with pytest.raises(UserError, match="another encoder"):
        decide(run, duplicates__exclude=[str(other.root)])


def test_a_missing_list_is_named(tmp_path):
    run = stored_run(tmp_path, family())
    with pytest.raises(UserError, match=r"nowhere\.txt: cannot be read"):
        decide(run, duplicates__exclude=[str(tmp_path / "nowhere.txt")])


def test_decide_refuses_settings_that_need_video(tmp_path):
    run = stored_run(tmp_path, family())
    with pytest.raises(UserError, match="another setting is another run"):
        decide(run, frames__num_frames=8)


def test_verify_tells_a_forged_duplicate(tmp_path):
    run = stored_run(tmp_path, family())
    decide(run, duplicates__mode="drop")
    rows = pq.read_table(str(run.duplicates))
    index = rows.schema.get_field_index("reason")
    forged = rows.set_column(index, "reason", pa.array(["same_content"] * len(rows)))
    pq.write_table(forged, str(run.duplicates))
    assert any("duplicates.parquet" in problem for problem in verify_run(run, media=False).problems)


@pytest.mark.parametrize("kind", ["json", "jsonl", "csv", "tsv", "parquet"])
def test_rows_are_relinked_in_every_format(tmp_path, kind):
    tmp_path = tmp_path / "media"
    tmp_path.mkdir()
    rows = [
        {"id": f"row-{name}", "video": name, "question": 'What, "here"?', "answer": "A\u00e9"}
        for name in family()
    ]
    manifest = tmp_path / f"rows.{kind}"
    if kind == "json":
        write_rows(manifest, rows)
    elif kind == "jsonl":
        manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), manifest)
    else:
        with manifest.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if kind == "tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    run = stored_run(tmp_path, family(), manifest=manifest)
    decided = decide(run, duplicates__mode="relink")
    (name,) = decided.outputs
    kept = tmp_path / "run" / name
    if name.endswith("parquet"):
        there = pq.read_table(kept).to_pylist()
    elif name.endswith("csv"):
        delimiter = "\t" if kind == "tsv" else ","
        there = list(csv.DictReader(kept.read_text().splitlines(), delimiter=delimiter))
    else:
        text = kept.read_text()
        there = json.loads(text) if kind == "json" else [json.loads(x) for x in text.splitlines()]
    linked = {"row-a.mp4": "a-same.mp4", "row-a-small.mp4": "a-same.mp4"}
    assert there == [{**row, "video": linked.get(row["id"], row["video"])} for row in rows]
    assert verify_run(run, media=False).problems == []


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        (
            b'{"id": 1,  "video" : "old.mp4", "x": 1.50}',
            b'{"id": 1,  "video" : "new.mp4", "x": 1.50}',
        ),
        (b'{"images":["old.jpg", "b"]}', b'{"images":["new.mp4", "b"]}'),
        (b'{"video": {"path": "old", "n": 1}}', b'{"video": {"path": "new.mp4", "n": 1}}'),
        (
            b'{"x": {"video": "old"}, "video": "old"}',
            b'{"x": {"video": "old"}, "video": "new.mp4"}',
        ),
    ],
)
def test_only_the_name_changes_in_a_json_row(row, wanted):
    assert rename_in_json(row, Renaming(name="new.mp4")) == wanted
