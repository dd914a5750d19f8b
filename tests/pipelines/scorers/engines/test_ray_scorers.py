"""Scorers by ray.data.llm: the HTTP processor in front of a server that is there; vLLM's built."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import blind
import pytest
from asks import Ask, Failure
from command import run
from ray_backend import RayEngineBackend, engine_answer, engine_row

from support.chat_server import chat_server
from support.score_rows import choice_row, write_template

pytestmark = [
    pytest.mark.usefixtures("ray_session"),
    # Ray's own settings.
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20"),
]
OPTIONS = ("ice", "steam", "sand")


def slow(body: dict[str, Any]) -> str:
    time.sleep(0.05)
    return "ABC"[sum(body["messages"][-1]["content"].encode()) % 3]


def test_ray_asks_a_server_together_counts_what_fails_and_gives_the_same_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    made = [choice_row(f"row-{n}", f"What is {n}?", OPTIONS, n % 3) for n in range(8)]
    rows = write_template(tmp_path / "rows.jsonl", made)
    with chat_server(["m"], slow) as server:
        words = [str(rows), "--server", f"{server.url}#m", "--parallel", "4", "--out"]
        assert blind.main([*words, str(tmp_path / "plain.jsonl")]) == 0
        server.num_together = 0
        server.failures = [(500, {}, b"later"), (429, {}, b"later")]
        good = server.answer
        server.answer = lambda body: (  # type: ignore[method-assign]
            (400, {}, b"too long")
            if "What is 3?" in body["messages"][-1]["content"]
            else good(body)
        )
        more = ["--ray", "--first-wait-s", "0.01"]
        assert blind.main([*words, str(tmp_path / "ray.jsonl"), *more]) == 0
        assert server.num_together == 4
        wanted = (tmp_path / "plain.jsonl").read_text().splitlines()
        found = (tmp_path / "ray.jsonl").read_text().splitlines()
        assert json.loads(found[3])["reason"] == "refused"
        assert found[:3] + found[4:] == wanted[:3] + wanted[4:]

        server.answer = lambda _: (401, {}, b"who are you?")  # type: ignore[method-assign]
        last = [*words, str(tmp_path / "wrong.jsonl"), *more]
        assert run(lambda: blind.main(last)) == 2
    assert "it answers 401: who are you?" in capsys.readouterr().err


def test_ray_accepts_how_its_own_engine_is_asked(tmp_path: Path):
    from support.tiny_causal_lm import write_tiny_causal_lm

    folder = write_tiny_causal_lm(tmp_path / "m")
    backend = RayEngineBackend(
        str(folder), revision="r1", engine={"max_model_len": 128}, address=None, num_workers=1
    )
    assert backend.model == "m@r1"
    assert "vLLMEngineStage" in backend.processor().list_stage_names()
    ask = Ask(chat=(("system", "x"), ("user", "y")), max_tokens=4, temperature=0.5, seed=7)
    assert engine_row("k", ask) == {
        "key": "k",
        "messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "y"}],
        "sampling_params": {"temperature": 0.5, "max_tokens": 4, "seed": 7},
    }
    assert engine_answer({"key": "k", "generated_text": "B", "__inference_error__": ""}) == (
        "k", {"text": "B"},
    )  # fmt: skip
    key, failure = engine_answer({"key": "k", "__inference_error__": "too long"})
    assert isinstance(failure, Failure)
    assert (key, failure.reason, failure.message) == ("k", "refused", "vLLM: too long")
