"""Judges: text models that say what a reply is worth where no rule can.

    judge = open_judge("http://localhost:8000/v1#Qwen2.5-72B-Instruct")
    judgments = judge_all(judge, {"x1#0/what": prompt}, folder / "judgments.jsonl")

A judge is a server that speaks OpenAI's chat completions, or a model of `transformers` in a folder.
Both are asked for the likeliest reply. What one has said is kept, and is not asked again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from vxp_model.errors import require
from vxp_model.eval.benchmarks.base import JudgePrompt
from vxp_model.eval.chat_server import ChatServer
from vxp_model.eval.store import Appended, digest, read_lines
from vxp_model.eval.text_model import TextModel


class Judge(Protocol):
    """Who reads prompts and says something to each."""

    identity: Mapping[str, Any]
    """What a kept judgment holds of it: JSON values, and no secret."""

    def judge(self, prompts: Sequence[JudgePrompt]) -> list[str]:
        """Return a judgment a prompt, in their order.

        Raises:
            UserError: the judge cannot be reached, or refuses.
        """
        ...


def open_judge(spec: str, *, key_variable: str | None = None) -> Judge:
    """Return a judge.

    Args:
        spec: 'http://host/v1#model': a server's address, to which '/chat/completions' is added,
            and the name of its model; or a folder with a text model of `transformers`.
        key_variable: name of the environment variable that holds the server's API key, which is
            sent to it and kept nowhere; None: it needs none.

    Raises:
        UserError: it is neither, or the variable is not set.
    """
    if spec.startswith(("http://", "https://")):
        url, _, model = spec.partition("#")
        require(
            bool(model),
            f"judge {spec}: no model is named. Add its name after '#': {spec.rstrip('#')}#MODEL.",
        )
        key = None if key_variable is None else os.environ.get(key_variable)
        require(
            key_variable is None or bool(key),
            f"judge {spec}: the environment variable {key_variable} is not set; it is to hold the "
            "API key.",
        )
        return UrlJudge(url, model, key=key)
    require(
        (Path(spec) / "config.json").is_file(),
        f"judge {spec!r}: neither an address such as http://localhost:8000/v1#MODEL nor a folder "
        "with a model (there is no config.json).",
    )
    return FolderJudge(Path(spec))


def judge_all(
    judge: Judge, prompts: Mapping[str, JudgePrompt], path: Path, *, at_once: int = 16
) -> dict[str, str]:
    """Return judgments by question; those that are kept are not asked for again.

    Args:
        judge: who is asked.
        prompts: question_id -> what is asked about its reply.
        path: file of JSON lines {"key", "question_id", "prompt", "judgment"}, only ever appended
            to. The key is a digest of judge and prompt: another reply, judge or wording is asked
            anew; 'prompt' is a digest of the prompt alone. A last line that a crash has cut off is
            dropped.
        at_once: prompts that are put to the judge together, and kept when all have a judgment.

    Raises:
        UserError: see `Judge.judge`; what was judged before is kept.
    """
    keys = {name: digest([dict(judge.identity), asdict(one)]) for name, one in prompts.items()}
    said = {row["key"]: row["judgment"] for row in read_lines(path)}
    last = {row["question_id"]: row["key"] for row in read_lines(path)}
    new = [name for name in prompts if keys[name] not in said]
    with Appended(path) as kept:

        def keep(name: str) -> None:
            key = keys[name]
            prompt = digest(asdict(prompts[name]))
            row = {"key": key, "question_id": name, "prompt": prompt, "judgment": said[key]}
            kept.add(row | {"judge": dict(judge.identity)})
            last[name] = key

        for start in range(0, len(new), at_once):
            names = new[start : start + at_once]
            judgments = judge.judge([prompts[name] for name in names])
            for name, judgment in zip(names, judgments, strict=True):
                said[keys[name]] = judgment
                keep(name)
        for name, key in keys.items():
            if last.get(name) != key:  # said before of another question, or before another one
                keep(name)
    return {name: said[key] for name, key in keys.items()}


def kept_judgments(prompts: Mapping[str, JudgePrompt], path: Path) -> dict[str, str]:
    """Return what was last said of the very prompts that are given, whoever the judge was.

    A judgment of an earlier reply to the same question is none of this one.

    Args:
        prompts: question_id -> what a judge is asked about its reply.
        path: see `judge_all`; nothing where there is no such file.
    """
    asked = {name: digest(asdict(one)) for name, one in prompts.items()}
    return {
        row["question_id"]: row["judgment"]
        for row in read_lines(path)
        if asked.get(row["question_id"]) == row["prompt"]
    }


class UrlJudge:
    """A server that speaks OpenAI's chat completions."""

    def __init__(
        self,
        url: str,
        model: str,
        *,
        key: str | None = None,
        num_parallel: int = 8,
        num_tries: int = 6,
        timeout_s: float = 120.0,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        """Name the server; nothing is sent yet.

        Args:
            url: to which '/chat/completions' is added.
            model: as the server names it.
            key: API key; sent, and never stored or shown.
            num_parallel: requests under way at once.
            num_tries: of a request, while the server is busy or does not answer.
            timeout_s: longest silence of the server.
            wait: called with seconds between tries, which double from 1.

        Raises:
            UserError: the address holds a password.
        """
        self._server = ChatServer(
            url, model, key=key, num_tries=num_tries, timeout_s=timeout_s, wait=wait, what="judge"
        )
        self.url = self._server.url
        self.identity: Mapping[str, Any] = {"url": self.url, "model": model, "temperature": 0}
        self._num_parallel = num_parallel

    def judge(self, prompts: Sequence[JudgePrompt]) -> list[str]:
        """Return a judgment a prompt; see `Judge`."""
        with ThreadPoolExecutor(self._num_parallel) as pool:
            return list(pool.map(self._one, prompts))

    def _one(self, prompt: JudgePrompt) -> str:
        content = {
            "messages": _chat(prompt),
            "temperature": 0,
            "max_tokens": prompt.max_new_tokens,
        }
        said = self._server.complete(content)["message"]["content"]
        return said if isinstance(said, str) else ""


class FolderJudge:
    """A text model of `transformers`, read when it is first asked."""

    def __init__(self, folder: Path, *, device: str = "auto", batch: int = 8) -> None:
        """Name it.

        Args:
            folder: of model and tokenizer.
            device: 'cuda', 'cpu'; 'auto': a GPU where there is one.
            batch: prompts that are answered together.

        Raises:
            UserError: it holds no model.
        """
        self._model = TextModel(folder, device=device, what="judge")
        self._batch = batch
        self.identity: Mapping[str, Any] = {
            "model": folder.name,
            "weights": self._model.fingerprint,
        }

    def judge(self, prompts: Sequence[JudgePrompt]) -> list[str]:
        """Return a judgment a prompt; see `Judge`."""
        said: list[str] = []
        for start in range(0, len(prompts), self._batch):
            some = prompts[start : start + self._batch]
            longest = [one.max_new_tokens for one in some]
            said += self._model.replies([_chat(one) for one in some], longest)
        return said


def _chat(prompt: JudgePrompt) -> list[dict[str, str]]:
    system = [] if prompt.system is None else [{"role": "system", "content": prompt.system}]
    return [*system, {"role": "user", "content": prompt.text}]
