"""The blind filter: what a model knows without the video gets a low score, nothing else does."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import blind
import pyarrow.parquet as pq
import pytest

from support.chat_server import chat_server, said
from support.score_rows import asked_options, choice_row, template_row, write_template

OPTIONS = ("ice", "steam", "sand", "wood")
KNOWN = {f"What is number {n} made of?": OPTIONS[n % 4] for n in range(0, 12, 3)}
"""What the served model knows from the words alone."""


def one_who_knows(body: dict[str, Any]) -> str:
    """Names the right option of what it knows; likes the letter A otherwise."""
    question, options = asked_options(body)
    if question in KNOWN:
        return f"The answer is {'ABCD'[options.index(KNOWN[question])]}."
    return "A"


def rows_of(number: int = 12) -> list[dict[str, Any]]:
    return [
        choice_row(f"row-{n}", f"What is number {n} made of?", OPTIONS, n % 4)
        for n in range(number)
    ]


def scored(path: Path) -> dict[str, dict[str, Any]]:
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    else:
        rows = pq.read_table(path).to_pylist()
    return {row["sample_id"]: row for row in rows}


def scores(path: Path) -> dict[str, float | None]:
    return {name: row["score"] for name, row in scored(path).items()}


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_just_the_rows_that_a_model_knows_without_the_video_score_low(tmp_path: Path, suffix: str):
    rows = write_template(tmp_path / "rows.jsonl", rows_of())
    out = tmp_path / f"blind{suffix}"
    with chat_server(["knower"], one_who_knows) as server:
        assert blind.main([str(rows), "--out", str(out), "--server", f"{server.url}#knower"]) == 0
    # Who likes a letter is right once in four orders, wherever the right option stood at first.
    wanted = {f"row-{n}": (0.0 if n % 3 == 0 else 0.75) for n in range(12)}
    assert scores(out) == wanted


def test_one_try_alone_would_take_a_liked_letter_for_knowledge(tmp_path: Path):
    rows = write_template(tmp_path / "rows.jsonl", rows_of())
    out = tmp_path / "blind.jsonl"
    with chat_server(["m"], lambda _: "A") as server:
        words = [str(rows), "--out", str(out), "--server", f"{server.url}#m"]
        blind.main([*words, "--tries", "1"])
        assert set(scores(out).values()) == {0.0, 1.0}
        blind.main(words)
        assert set(scores(out).values()) == {0.75}


def test_options_that_speak_of_others_keep_their_order_and_tries_are_drawn(tmp_path: Path):
    options = ("ice", "steam", "all of the above")
    rows = write_template(tmp_path / "rows.jsonl", [choice_row("a", "Which?", options, 2)])
    with chat_server(["m"], lambda _: "C") as server:
        blind.main(
            [str(rows), "--out", str(tmp_path / "b.jsonl"), "--server", f"{server.url}#m",
             "--tries", "3", "--parallel", "1", "--temperature", "0.5"]
        )  # fmt: skip
        bodies = [body for _, _, body in server.requests]
    assert [asked_options(body)[1] for body in bodies] == [list(options)] * 3
    assert [body["temperature"] for body in bodies] == [0.0, 0.5, 0.5]
    assert "seed" not in bodies[0]
    assert len({body["seed"] for body in bodies[1:]}) == 2
    assert scores(tmp_path / "b.jsonl") == {"a": 0.0}


def test_open_answers_are_compared_word_by_word_and_captions_have_no_score(tmp_path: Path):
    rows = [
        template_row("known", "What colour is the sky?", "Blue", task="open_ended"),
        template_row("half", "Who comes?", "a man and a woman", task="open_ended"),
        template_row("unknown", "Where is it?", "in the attic", task="open_ended"),
        template_row("two", "What colour is the sky?", "Blue", "Where is it?", "attic",
                     task="open_ended"),
        template_row("caption", "Describe this video.", "A man walks.", task="caption"),
        template_row("mute", "", "A man walks.", task="open_ended"),
    ]  # fmt: skip
    replies = {"What colour is the sky?": "It is blue.", "Who comes?": "a man", "Where is it?": "?"}
    out = tmp_path / "blind.jsonl"
    with chat_server(["m"], lambda body: replies[asked_options(body)[0]]) as server:
        path = write_template(tmp_path / "rows.jsonl", rows)
        blind.main([str(path), "--out", str(out), "--server", f"{server.url}#m", "--tries", "2"])
        assert len(server.requests) == 5 * 2 - 1  # the same words are asked once
    found = scored(out)
    assert {name: row["score"] for name, row in found.items()} == {
        "known": 0.0, "half": pytest.approx(1 - 2 / 4), "unknown": 1.0, "two": 0.5,
        "caption": None, "mute": None,
    }  # fmt: skip
    assert {name: row["reason"] for name, row in found.items() if row["reason"]} == {
        "caption": "no_question", "mute": "no_question",
    }  # fmt: skip
    details = json.loads(found["half"]["details"])
    assert details[0]["answer"] == "a man and a woman"
    assert [one["reply"] for one in details[0]["tries"]] == ["a man", "a man"]


def test_earlier_turns_are_shown_unless_they_are_not_wanted(tmp_path: Path):
    row = template_row("r", "Who?", "Ann", "What then?", "She left", task="open_ended")
    path = write_template(tmp_path / "rows.jsonl", [row])
    with chat_server(["m"], lambda _: "x") as server:
        words = [str(path), "--server", f"{server.url}#m", "--tries", "1", "--parallel", "1"]
        blind.main([*words, "--out", str(tmp_path / "a.jsonl")])
        blind.main([*words, "--out", str(tmp_path / "b.jsonl"), "--history", "no"])
        roles = [[turn["role"] for turn in body["messages"]] for _, _, body in server.requests]
    assert roles[1] == ["system", "user", "assistant", "user"]
    assert roles[3] == ["system", "user"]


def likely(letter: str) -> Any:
    """A server's answer with the likelihoods of first tokens: 3 of 4 for a letter."""
    top = [
        {"token": letter, "logprob": math.log(0.5)},
        {"token": f" {letter}", "logprob": math.log(0.25)},
        {"token": "D" if letter != "D" else "A", "logprob": math.log(0.25)},
        {"token": "The", "logprob": math.log(0.2)},
    ]
    return said(letter, logprobs={"content": [{"top_logprobs": top}]})


def test_likelihood_of_letters_by_a_server(tmp_path: Path):
    rows = [choice_row("known", "Q", OPTIONS, 1), choice_row("unknown", "R", OPTIONS, 1)]
    path = write_template(tmp_path / "rows.jsonl", rows)
    out = tmp_path / "b.jsonl"
    with chat_server(["m"]) as server:
        server.answer = lambda body: likely(  # type: ignore[method-assign]
            "ABCD"[asked_options(body)[1].index("steam")] if asked_options(body)[0] == "Q" else "A"
        )
        blind.main(
            [str(path), "--out", str(out), "--server", f"{server.url}#m", "--by", "likelihood"]
        )
        assert all(body["top_logprobs"] == 20 for _, _, body in server.requests)
    found = scores(out)
    assert found["known"] == pytest.approx(0.25)
    # Likes A: of four orders the right one is A once (3/4), D once (1/4), and neither twice.
    assert found["unknown"] == pytest.approx(1 - (0.75 + 0.25) / 4)


def test_a_server_is_not_asked_how_likely_an_open_answer_is(tmp_path: Path):
    rows = [
        choice_row("choice", "Q", OPTIONS, 1),
        template_row("open", "What colour?", "It is blue.", task="open_ended"),
        template_row("short", "Is it?", "A", task="open_ended"),
        template_row("both", "Q\nA. ice\nB. steam", "B", "Why?", "Hot.", task="open_ended"),
    ]
    path, out = write_template(tmp_path / "rows.jsonl", rows), tmp_path / "b.jsonl"
    with chat_server(["m"]) as server:
        server.answer = lambda _: likely("A")  # type: ignore[method-assign]
        words = [str(path), "--out", str(out), "--server", f"{server.url}#m"]
        blind.main([*words, "--by", "likelihood"])
        assert len(server.requests) == blind.TRIES
    found = scored(out)
    assert [name for name, row in found.items() if row["score"] is not None] == ["choice"]
    assert {row["reason"] for name, row in found.items() if name != "choice"} == {"no_likelihood"}


def test_a_server_that_tells_no_likelihood_is_told(tmp_path: Path, capsys):
    path = write_template(tmp_path / "rows.jsonl", rows_of(2))
    with chat_server(["m"]) as server:
        words = [str(path), "--out", str(tmp_path / "b.jsonl"), "--server", f"{server.url}#m"]
        code = run_blind([*words, "--by", "likelihood"])
    assert code == 2
    assert "none of 2 rows has a score (no_likelihood 2)" in capsys.readouterr().err


def run_blind(words: list[str]) -> int:
    from command import run

    return run(lambda: blind.main(words))


def test_the_version_names_model_revision_prompts_and_settings(tmp_path: Path):
    path = write_template(tmp_path / "rows.jsonl", rows_of(1))
    own = tmp_path / "own.txt"
    own.write_text("[system]\nx\n[choice]\n{question}\n{options}\n[open]\n{question}\n")
    versions = set()
    with chat_server(["m"], lambda _: "A") as server:
        words = [str(path), "--server", f"{server.url}#m"]
        for number, more in enumerate(
            ([], ["--revision", "r1"], ["--tries", "2"], ["--prompts", str(own)], ["--seed", "1"])
        ):
            out = tmp_path / f"{number}.jsonl"
            blind.main([*words, "--out", str(out), *more])
            (row,) = scored(out).values()
            assert row["scorer"] == "blind"
            versions.add(row["scorer_version"])
    assert len(versions) == 5
    assert sum(version.startswith("m@r1/prompts-") for version in versions) == 1


def test_the_summary_says_what_there_is(tmp_path: Path, capsys):
    rows = [*rows_of(3), template_row("c", "Describe it.", "A man.", task="caption")]
    path = write_template(tmp_path / "rows.jsonl", rows)
    with chat_server(["m"], one_who_knows) as server:
        server.failures = [said("I cannot tell.")]
        blind.main(
            [str(path), "--out", str(tmp_path / "b.jsonl"), "--server", f"{server.url}#m",
             "--parallel", "1"]
        )  # fmt: skip
    told = capsys.readouterr().out
    assert "4 rows, 3 with a score of blind@m/prompts-" in told
    assert "without a score: no_question 1" in told
    assert "1 of 12 replies to questions with options name none" in told
    assert "--missing keep --keep 0.5" in told
