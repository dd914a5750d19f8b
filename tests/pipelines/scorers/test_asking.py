"""How models are asked: busy and broken servers, killed commands, folders, wrong names, Ray."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import blind
import pytest
from asks import Ask
from command import run
from server_backend import ServerBackend

from support.chat_server import Server, chat_server, said
from support.repo import PIPELINES, ROOT
from support.score_rows import asked_options, choice_row, template_row, write_template
from support.tiny_causal_lm import write_tiny_causal_lm
from vxp_model.eval.chat_server import ChatServer

OPTIONS = ("ice", "steam", "sand")


def answer_by_words(body: dict[str, Any]) -> str:
    """Another letter for another text, the same for the same."""
    text = body["messages"][-1]["content"]
    return "ABC"[sum(text.encode()) % 3]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    made = [choice_row(f"row-{n}", f"What is {n}?", OPTIONS, n % 3) for n in range(10)]
    return write_template(tmp_path / "rows.jsonl", made)


def score(rows: Path, server: Server, out: str = "b.jsonl", *more: str) -> int:
    words = [str(rows), "--out", str(rows.with_name(out)), "--server", f"{server.url}#m"]
    return run(lambda: blind.main([*words, "--first-wait-s", "0.01", *more]))


def reasons(path: Path) -> dict[str, str]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert all((row["score"] is None) == bool(row["reason"]) for row in rows)
    return {row["sample_id"]: row["reason"] for row in rows if row["reason"]}


def test_a_busy_server_is_asked_again_and_nothing_is_lost(rows: Path):
    with chat_server(["m"], answer_by_words) as server:
        assert score(rows, server) == 0
        wanted = rows.with_name("b.jsonl").read_bytes()
        server.failures = [(code, {}, b"later") for code in (429, 500, 503, 502) * 3]
        assert score(rows, server, "again.jsonl") == 0
    assert rows.with_name("again.jsonl").read_bytes() == wanted


def test_a_row_without_an_answer_has_a_counted_reason_and_is_asked_again_later(
    rows: Path, capsys: pytest.CaptureFixture[str]
):
    def answer(body: dict[str, Any]) -> Any:
        question = asked_options(body)[0]
        if question == "What is 1?":
            return 400, {}, b"too long for this model"
        if question == "What is 2?":
            return 500, {}, b"out of memory"
        if question == "What is 3?":
            return 200, {}, b"<html>oops</html>"
        if question == "What is 4?":
            time.sleep(1.5)
        return said(answer_by_words(body))

    with chat_server(["m"]) as server:
        server.answer = answer  # type: ignore[method-assign]
        assert score(rows, server, "b.jsonl", "--attempts", "2", "--timeout-s", "0.5") == 0
        assert reasons(rows.with_name("b.jsonl")) == {
            "row-1": "refused", "row-2": "no_answer", "row-3": "bad_answer", "row-4": "no_answer",
        }  # fmt: skip
        assert "bad_answer 1, no_answer 2, refused 1" in capsys.readouterr().out
        details = json.loads(
            json.loads(rows.with_name("b.jsonl").read_text().splitlines()[1])["details"]
        )
        assert "too long for this model" in details
        num = len(server.requests)
        del server.answer
        server.reply = answer_by_words  # type: ignore[method-assign]
        assert score(rows, server) == 0
        assert len(server.requests) - num == 4 * blind.TRIES
    assert reasons(rows.with_name("b.jsonl")) == {}


def test_many_rows_that_are_refused_for_good_do_not_stop_the_next_command(tmp_path: Path):
    made = [choice_row(f"row-{n:02}", f"What is {n}?", OPTIONS, n % 3) for n in range(22)]
    rows = write_template(tmp_path / "rows.jsonl", made)
    with chat_server(["m"]) as server:
        server.answer = lambda body: (  # type: ignore[method-assign]
            said("A") if asked_options(body)[0] == "What is 0?" else (400, {}, b"too long")
        )
        for _ in range(2):
            assert score(rows, server, "b.jsonl", "--parallel", "1") == 0
            assert len(reasons(tmp_path / "b.jsonl")) == 21
        server.answer = lambda _: (400, {}, b"no such field")  # type: ignore[method-assign]
        num = len(server.requests)
        assert score(rows, server, "d.jsonl", "--parallel", "1") == 2
        assert len(server.requests) - num == 16


def test_no_more_requests_are_under_way_than_are_allowed(rows: Path):
    def slow(body: dict[str, Any]) -> str:
        time.sleep(0.05)
        return answer_by_words(body)

    for limit in (1, 3):
        with chat_server(["m"], slow) as server:
            score(rows, server, f"{limit}.jsonl", "--parallel", str(limit))
            assert server.num_together == limit
    assert rows.with_name("1.jsonl").read_bytes() == rows.with_name("3.jsonl").read_bytes()


def test_requests_are_made_a_few_ahead_and_not_all_at_once():
    made, answered = 0, 0

    def asks() -> Iterator[tuple[str, Ask]]:
        nonlocal made
        for number in range(40):
            made += 1
            assert made - answered <= 4
            yield str(number), Ask(chat=(("user", f"say {number}"),), max_tokens=4)

    with chat_server(["m"]) as server:
        backend = ServerBackend(ChatServer(server.url, "m"), revision="", body={}, num_parallel=3)
        for key, answer in backend.answers(asks()):
            assert answer == {"text": key}
            answered += 1
    assert answered == 40


def test_a_killed_command_goes_on_where_it_was_and_writes_the_same_bytes(rows: Path):
    def slow(body: dict[str, Any]) -> str:
        time.sleep(0.1)
        return answer_by_words(body)

    with chat_server(["m"], slow) as server:
        assert score(rows, server, "whole.jsonl") == 0
        num_whole = len(server.requests)
        out = rows.with_name("killed.jsonl")
        command = [
            sys.executable, str(PIPELINES / "scorers" / "blind.py"), str(rows), "--out", str(out),
            "--server", f"{server.url}#m", "--parallel", "2",
        ]  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(command, env=environment) as process:
            while len(server.requests) < num_whole + 10:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
        assert not out.exists()
        journal = out.with_name("killed.jsonl.answers.jsonl")
        num_kept = len(journal.read_text().splitlines())
        assert num_kept >= 6
        with journal.open("a") as file:
            file.write('{"key": "half')
        before = len(server.requests)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert len(server.requests) - before == num_whole - num_kept
    assert out.read_bytes() == rows.with_name("whole.jsonl").read_bytes()


def test_a_server_that_is_dead_ends_the_command_and_keeps_what_it_said(
    rows: Path, capsys: pytest.CaptureFixture[str]
):
    with chat_server(["m"], answer_by_words) as server:
        server.failures = []
        good = server.answer
        server.answer = lambda body: (  # type: ignore[method-assign]
            good(body) if len(server.requests) <= 5 else (503, {}, b"no room")
        )
        assert score(rows, server, "b.jsonl", "--attempts", "1", "--parallel", "1") == 2
        told = capsys.readouterr().err
        assert told.startswith("error: 16 requests in a row have no answer; the last one: server")
        assert "it answers 503: no room" in told
    assert len(rows.with_name("b.jsonl.answers.jsonl").read_text().splitlines()) == 5


@pytest.mark.parametrize(
    ("code", "body", "message"),
    [
        (401, b"who are you?", "it answers 401: who are you?"),
        (404, b"no such model", "Look at the address, the model's name and the API key"),
    ],
)
def test_a_server_that_refuses_everything_ends_the_command_at_once(
    rows: Path, capsys: pytest.CaptureFixture[str], code: int, body: bytes, message: str
):
    with chat_server() as server:
        server.answer = lambda _: (code, {}, body)  # type: ignore[method-assign]
        assert score(rows, server, "b.jsonl", "--parallel", "1") == 2
        assert len(server.requests) == 1
    assert message in capsys.readouterr().err


def test_a_wrong_key_is_told_before_anything_is_asked_and_is_not_shown(
    rows: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OWN_KEY", "sk-wrong")
    with chat_server(["m"], answer_by_words) as server:

        def listed(headers: dict[str, str]) -> Any:
            if headers.get("Authorization") == "Bearer sk-right":
                return 200, {}, json.dumps({"data": [{"id": "m"}]}).encode()
            return 401, {}, b"invalid key"

        server.listed = listed  # type: ignore[method-assign]
        assert score(rows, server, "b.jsonl", "--key-variable", "OWN_KEY") == 2
        told = capsys.readouterr().err
        assert "it answers 401: invalid key" in told
        assert "sk-wrong" not in told
        monkeypatch.setenv("OWN_KEY", "sk-right")
        assert score(rows, server, "b.jsonl", "--key-variable", "OWN_KEY") == 0
        assert server.requests[0][1]["Authorization"] == "Bearer sk-right"
    for path in rows.parent.glob("b.jsonl*"):
        assert "sk-right" not in path.read_text()


def test_what_a_user_has_got_wrong_is_one_message(
    rows: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    empty = write_template(tmp_path / "empty.jsonl", [])
    other = tmp_path / "other.jsonl"
    other.write_text('{"id": 1}\n')
    with chat_server(["Qwen2.5-7B"], answer_by_words) as server:
        there = ["--server", f"{server.url}#Qwen2.5-7B"]
        out = ["--out", str(tmp_path / "x.parquet")]
        for words, message in (
            ([rows, *out, "--server", f"{server.url}#Qwen2.5-7b"],
             f"unknown model of {server.url} 'Qwen2.5-7b'. Did you mean 'Qwen2.5-7B'?"),
            ([rows, *out, "--server", f"http://127.0.0.1:{port}/v1#m"], "cannot be reached"),
            ([rows, *out, "--server", server.url], "wanted an address and a model's name"),
            ([rows, *out], "wanted one of --server URL#MODEL and --model FOLDER"),
            ([rows, *out, *there, "--key-variable", "NO_SUCH"], "NO_SUCH: the environment"),
            ([rows, *out, "--model", str(tmp_path)], "holds no model: there is no config.json"),
            ([empty, *out, *there], "no row is to be scored"),
            ([other, *out, *there], "has no column 'sample_id'"),
            ([tmp_path / "no.jsonl", *out, *there], "cannot be read: No such file"),
            ([rows, "--out", "x.xlsx", *there], "wanted a name that ends in .parquet or .jsonl"),
            ([rows, *out, "--model", "m", "--ray"], "runs vLLM, which is not installed here"),
        ):  # fmt: skip
            assert run(lambda w=words: blind.main([str(one) for one in w])) == 2
            told = capsys.readouterr()
            assert message in told.err
            assert told.err.count("\n") == 1
        assert server.requests == []
    assert not (tmp_path / "x.parquet").exists()


def test_a_template_of_each_kind_is_read(tmp_path: Path):
    import pyarrow as pa
    import pyarrow.csv as pa_csv
    import pyarrow.parquet as pq

    made = [
        choice_row("a", 'Is it, "now"?', OPTIONS, 0),
        template_row("007", "Who?", "Ann, 5", task=""),
    ]
    table = pa.Table.from_pylist(made)
    pq.write_table(table, tmp_path / "rows.parquet")
    pa_csv.write_csv(table, tmp_path / "rows.csv")
    write_template(tmp_path / "rows.jsonl", made)
    found = []
    with chat_server(["m"], answer_by_words) as server:
        for suffix in ("parquet", "csv", "jsonl"):
            score(tmp_path / f"rows.{suffix}", server, f"{suffix}-out.jsonl")
            found.append((tmp_path / f"{suffix}-out.jsonl").read_bytes())
    assert found[0] == found[1] == found[2]
    assert b'"007"' in found[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_causal_lm(tmp_path_factory.mktemp("lm") / "tiny-lm")


def local(rows: Path, folder: Path, out: str, *more: str) -> bytes:
    path = rows.with_name(out)
    words = [str(rows), "--out", str(path), "--model", str(folder), "--device", "cpu"]
    assert blind.main([*words, "--max-tokens", "4", "--temperature", "4", *more]) == 0
    return path.read_bytes()


@pytest.mark.usefixtures("one_thread")
def test_a_folders_model_gives_the_same_scores_in_any_batch_and_after_a_stop(
    rows: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    made = json.loads(rows.read_text().splitlines()[0])
    more = [template_row(f"open-{n}", f"Who is {n}?", "Ann", task="open_ended") for n in range(3)]
    write_template(rows, [made, *more])
    whole = local(rows, folder, "whole.jsonl")
    assert local(rows, folder, "alone.jsonl", "--batch", "1") == whole
    from vxp_model.eval.text_model import TextModel

    drawn = TextModel.drawn_reply
    calls = []

    def stops(self: TextModel, *words: Any, **more: Any) -> str:
        calls.append(words)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return drawn(self, *words, **more)

    with monkeypatch.context() as patch:
        patch.setattr(TextModel, "drawn_reply", stops)
        words = [str(rows), "--out", str(rows.with_name("stopped.jsonl")), "--model", str(folder)]
        words += ["--max-tokens", "4", "--device", "cpu", "--temperature", "4"]
        assert run(lambda: blind.main(words)) == 130
    assert local(rows, folder, "stopped.jsonl") == whole
    replies = [
        [one["reply"] for one in json.loads(json.loads(line)["details"])[0]["tries"]]
        for line in whole.splitlines()[1:]
    ]
    assert all(len(set(own)) > 2 for own in replies)  # the likeliest, and drawn ones that differ


@pytest.mark.usefixtures("one_thread")
def test_likelihoods_of_a_folders_model_are_those_of_its_logits(rows: Path, folder: Path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from vxp_model.eval.text_model import TextModel

    chat = [{"role": "user", "content": "Who?"}]
    (log_prob, num), _ = TextModel(folder, device="cpu").log_probs(chat, ["Ann", "B"])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
    wanted = 0.0
    for token in tokenizer("Ann")["input_ids"]:  # one at a time
        with torch.no_grad():
            wanted += float(model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)[token])
        ids = [*ids, token]
    assert num == 3
    assert log_prob == pytest.approx(wanted, abs=1e-4)
    first = local(rows, folder, "l.jsonl", "--by", "likelihood").splitlines()[0]
    tries = json.loads(json.loads(first)["details"])[0]["tries"]
    shares = []
    for one in tries:
        weights = torch.tensor(one["log_probs"]).softmax(0)
        shares.append(float(weights["ABC".index(one["right"])]))
    assert json.loads(first)["score"] == pytest.approx(1 - sum(shares) / len(shares), abs=1e-6)
