"""What plan and report say of questions: counted by hand, before a decision and after."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_run import write_synthetic_run
from typer.testing import CliRunner

from support.runs import by_sample, caption_row
from support.stored_runs import StoredClip, decide, stored_run
from vxp_data.cli import app
from vxp_data.pipeline.inspect import asked
from vxp_data.pipeline.inspect.report import report_run
from vxp_data.pipeline.run_dir.directory import RunDirectory, open_run
from vxp_data.report.page import render_report

QUESTIONS = {  # question, its type, whether it needs time
    "What happens to the man after he falls?": ("order", True),
    "How many dogs bark?": ("count", False),
    "How many times does it bark?": ("count", True),
    "Is the man next to the car?": ("yes_no", False),
    "Qui est ici ?": ("other", False),
}
NUM = 20


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """Twenty clips, ever more varied: a question and a caption about each, one of an image."""
    rng = np.random.default_rng(0)
    clips: dict[str, StoredClip] = {}
    rows: list[dict[str, Any]] = []
    questions = list(QUESTIONS)
    for n in range(NUM):
        frames = np.ones(16) + rng.normal(size=(8, 16)) * (n + 1) / 10
        unit = frames / np.linalg.norm(frames, axis=1, keepdims=True)
        clips[f"{n}.mp4"] = StoredClip(emb_FD=unit, duration_s=9.0)
        rows.append(caption_row(f"c{n}", f"{n}.mp4"))
        rows.append(caption_row(f"q{n}", f"{n}.mp4"))
        rows[-1]["conversations"][0]["value"] = questions[n % len(questions)]
        rows[-1]["conversations"][1]["value"] = " ".join(["word"] * (n + 1))
    made = stored_run(tmp_path, clips, rows)
    decide(made, thresholds__default="keep 0.5")
    return made


def said(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def by_hand(names: list[str]) -> dict[str, Any]:
    numbers = [int(name[1:]) for name in names]
    told = [list(QUESTIONS.values())[n % len(QUESTIONS)] for n in numbers]
    kinds = [kind for kind, _ in told]
    return {
        "rows": len(names),
        "needs_time": sum(needs for _, needs in told) / len(told),
        "types": {kind: kinds.count(kind) / len(kinds) for kind in set(kinds)},
        "answer_words": {
            f"{share:.0%}": float(np.quantile(np.array(numbers) + 1, share))
            for share in (0.1, 0.5, 0.9)
        },
    }


def flat(told: dict[str, Any]) -> dict[str, float]:
    """Put a dictionary's dictionaries beside its numbers, to be compared as numbers are."""
    inner = {f"{name} {key}": v for name in ("types", "answer_words")
             for key, v in told[name].items()}  # fmt: skip
    return {"rows": told["rows"], "needs_time": told["needs_time"], **inner}


def questions_of(out: str, decision: str = "keep") -> list[str]:
    ended = by_sample(Path(out), "decision")
    return [name for name, d in ended.items() if name[0] == "q" and d == decision]


def test_plan_counts_what_is_asked_before_and_after_each_decision(run: RunDirectory) -> None:
    told = json.loads(said("plan", run.root, "--keep", "0.2", "--json"))
    assert list(told["asked"]) == ["caption", "open_ended"]
    of_questions = told["asked"]["open_ended"]
    assert list(of_questions) == ["in", "now", "knee", "chosen"]
    out = str(run.root)
    everything = [f"q{n}" for n in range(NUM)]
    assert flat(of_questions["in"]) == pytest.approx(flat(by_hand(everything)))
    assert flat(of_questions["now"]) == pytest.approx(flat(by_hand(questions_of(out))))
    said("decide", run.root, "--keep", "0.2")
    assert flat(of_questions["chosen"]) == pytest.approx(flat(by_hand(questions_of(out))))
    captions = told["asked"]["caption"]["in"]
    assert (captions["rows"], captions["needs_time"], captions["types"]) == (NUM, None, {})
    assert told["asked_of_all"] is True


def test_rows_that_filters_took_are_among_those_in(run: RunDirectory) -> None:
    decide(run, filters__needs_time={"min": 1})
    told = json.loads(said("plan", run.root, "--json"))["asked"]["open_ended"]
    assert flat(told["in"]) == pytest.approx(flat(by_hand([f"q{n}" for n in range(NUM)])))
    assert told["now"]["needs_time"] == 1.0
    assert flat(told["now"]) == pytest.approx(flat(by_hand(questions_of(str(run.root)))))


def test_images_and_texts_count_among_what_is_kept(mixed_run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(mixed_run, tmp_path / "run"))
    told = json.loads(said("plan", copy, "--json"))
    ended = by_sample(copy, "decision")
    kept = sum(d == "keep" for d in ended.values())
    usable = sum(d != "quarantine" for d in ended.values())
    assert sum(ways["now"]["rows"] for ways in told["asked"].values()) == kept
    assert sum(ways["in"]["rows"] for ways in told["asked"].values()) == usable


def test_the_table_is_readable_at_80_columns(run: RunDirectory) -> None:
    text = said("plan", run.root, "--keep", "0.2")
    table = text[text.index("\nasked") : text.index("Of 40 rows")]
    assert max(map(len, table.splitlines())) <= 80
    assert re.search(r"\n  needs time +40% +[0-9]+%", table)
    assert "  yes_no" in table
    notes = text[text.index("Asked, in") :].splitlines()
    assert max(map(len, notes[:2])) <= 80


def test_of_large_subsets_some_are_drawn_and_it_is_said(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_synthetic_run(tmp_path / "large", num_rows=3000, num_videos=500, seed=1)
    whole = json.loads(said("plan", tmp_path / "large", "--json"))
    monkeypatch.setattr(asked, "MOST_ROWS", 100)
    drawn = json.loads(said("plan", tmp_path / "large", "--json"))
    assert (whole.pop("asked_of_all"), drawn.pop("asked_of_all")) == (True, False)
    assert drawn == whole  # all rows of a subset ask the same there, and numbers are of all
    assert "read of some rows of each subset" in said("plan", tmp_path / "large")
    monkeypatch.setattr(asked, "MOST_ROWS", 10)
    part = json.loads(said("plan", run.root, "--json"))["asked"]["open_ended"]["in"]
    everything = by_hand([f"q{n}" for n in range(NUM)])
    assert part["rows"] == NUM
    assert sum(part["types"].values()) == pytest.approx(1)
    assert part["types"] != pytest.approx(everything["types"])


def test_rows_are_drawn_whatever_step_a_manifest_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = {"a.mp4": StoredClip(emb_FD=np.eye(8)[:2], duration_s=9.0)}
    rows = [caption_row(f"q{n}", "a.mp4") for n in range(900)]
    for n, row in enumerate(rows):
        row["conversations"][0]["value"] = "How many dogs bark?" if n % 3 else "Who barks loudly?"
    made = stored_run(tmp_path, clips, rows)
    decide(made)
    monkeypatch.setattr(asked, "MOST_ROWS", 90)
    told = json.loads(said("plan", made.root, "--json"))["asked"]["open_ended"]["in"]
    assert told["types"] == pytest.approx({"count": 2 / 3, "who": 1 / 3}, abs=0.05)


def test_the_report_shows_the_same(run: RunDirectory) -> None:
    record = run.read_run()
    more = {"ended_at": "2026-01-01", "versions": {}, "timings": {
        "embed_wall_s": 1, "probe_cpu_s": 0, "decode_cpu_s": 0, "embed_cpu_s": 0, "wall_s": 1,
        "files_read": 0, "clips_embedded": 0, "bytes_fetched": 0,
    }}  # fmt: skip
    run.write_run({**record, **more, "encoder": {**record["encoder"], "name": "x"}})
    found = report_run(open_run(str(run.root)), "r")
    caption, questions = found.subsets
    kept = by_hand(questions_of(str(run.root)))
    everything = by_hand([f"q{n}" for n in range(NUM)])
    labels = questions.question_types.labels
    for name, wanted in (("before", everything), ("after", kept)):
        counts = dict(zip(labels, questions.question_types.series[name], strict=True))
        shares = {kind: n / wanted["rows"] for kind, n in counts.items() if n}
        assert shares == pytest.approx(wanted["types"])
        assert questions.needs_time[name] == pytest.approx(wanted["needs_time"])
    words = dict(
        zip(questions.answer_words.labels, questions.answer_words.series["before"], strict=True)
    )
    assert words == {"1": 1, "2\u20135": 4, "6\u201310": 5, "11\u201320": 10}
    assert caption.question_types.labels == ()
    assert math.isnan(caption.needs_time["before"])
    page = render_report(found)
    assert f"They need time: 40% before, {kept['needs_time']:.0%} after." in page
    assert page.count("<h4>Questions</h4>") == 1
    assert page.count("<h4>Answers</h4>") == 2
