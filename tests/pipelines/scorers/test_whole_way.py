"""From videos to what a model's scores keep: prune, template, blind filter, decide, verify."""

from __future__ import annotations

import json
from pathlib import Path

import blind
import pyarrow.parquet as pq
import pytest

from support import mixed_media, runs
from support.chat_server import chat_server
from support.commands import vxp_data_here
from support.score_rows import asked_options
from support.tiny_causal_lm import write_tiny_causal_lm


def command(*words: str | Path) -> str:
    done = vxp_data_here(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.usefixtures("engine", "one_thread")
def test_a_tiny_models_scores_decide_a_run_which_verifies(tmp_path: Path):
    manifest = mixed_media.write_media(tmp_path / "media")
    run = tmp_path / "run"
    runs.run_prune(manifest, run)
    template, out = tmp_path / "rows.jsonl", tmp_path / "blind.parquet"
    command("score-template", run, "--out", template)
    model = write_tiny_causal_lm(tmp_path / "tiny-lm")
    words = [str(template), "--out", str(out), "--model", str(model), "--device", "cpu"]
    assert blind.main([*words, "--by", "likelihood"]) == 0

    command("decide", run, "--scores", out, "--missing", "keep", "--keep", "0.5")
    scores = {row["sample_id"]: row["score"] for row in pq.read_table(out).to_pylist()}
    known = {name: score for name, score in scores.items() if score is not None}
    assert len(known) == 4  # the questions; eleven captions have none
    decided = {row["sample_id"]: row for row in runs.table(run, "decisions")}
    best = sorted(known, key=lambda name: -known[name])[:2]
    for name in known:
        assert decided[name]["decision"] == ("keep" if name in best else "prune")
        assert decided[name]["score"] == known[name]
        assert decided[name]["measure"].startswith("scores:blind@tiny-lm@")
    assert {decided[name]["reason"] for name in scores if name not in known} == {"kept_unscored"}
    command("report", run)
    assert "blind@tiny-lm@" in (run / "report.html").read_text(encoding="utf-8")
    command("verify", run)
    command("plan", run, "--keep", "0.5")


@pytest.mark.usefixtures("engine")
def test_what_a_model_knows_from_the_words_goes_and_what_needs_the_video_stays(tmp_path: Path):
    media = tmp_path / "media"
    mixed_media.write_media(media)
    rows = []
    for number in range(4):
        known = number < 2
        question = "Which animal barks?" if known else f"Which animal is in video {number}?"
        text = f"<video>\n{question}\nA. A cat\nB. A dog\nAnswer with the option's letter."
        turns = [{"from": "human", "value": text}, {"from": "gpt", "value": "B"}]
        rows.append({"id": f"{number}", "video": f"{number}.mp4", "conversations": turns})
    run, template, out = tmp_path / "run", tmp_path / "rows.jsonl", tmp_path / "blind.jsonl"
    runs.run_prune(runs.write_rows(media / "questions.json", rows), run)
    command("score-template", run, "--out", template)

    def reply(body: dict[str, object]) -> str:
        question, options = asked_options(body)
        return "AB"[options.index("A dog")] if "barks" in question else "A"

    with chat_server(["m"], reply) as server:
        assert blind.main([str(template), "--out", str(out), "--server", f"{server.url}#m"]) == 0
    assert [json.loads(line)["score"] for line in out.read_text().splitlines()] == [0, 0, 0.5, 0.5]
    command("decide", run, "--scores", out, "--keep", "0.5")
    assert runs.by_sample(run, "decision") == {
        "0": "prune", "1": "prune", "2": "keep", "3": "keep",
    }  # fmt: skip
    command("decide", run, "--scores", out, "--select", "text_blind", "--keep", "0.5")
    assert {name for name, d in runs.by_sample(run, "decision").items() if d == "keep"} == {
        "2",
        "3",
    }
    command("verify", run, "--selection")
