"""Judges: text models that say what a reply is worth where no rule can.

    judge = open_judge("http://localhost:8000/v1#Qwen2.5-72B-Instruct")
    judgments = judge_all(judge, {"x1#0/what": prompt}, folder / "judgments.jsonl")

A judge is a server that speaks OpenAI's chat completions, or a model of `transformers` in a folder.
Both are asked for the likeliest reply. What one has said is kept, and is not asked again.
"""

from __future__ import annotations

import email.message
import http.client
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, Protocol

from vxp_model.errors import UserError, require
from vxp_model.eval.adapters.fingerprint import folder_fingerprint
from vxp_model.eval.benchmarks.base import JudgePrompt
from vxp_model.eval.store import Appended, digest, read_lines

_BUSY: Final = frozenset({408, 409, 429, 500, 502, 503, 504, 529})
"""Status codes after which asking again may help."""
_MOST_WAIT_S: Final = 60.0
_MOST_SHOWN: Final = 300
"""Characters of a server's message that an error shows."""


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


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirection: it would carry the API key to wherever it leads."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: Any,
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> None:
        del req, fp, code, msg, headers, newurl


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
        parts = urllib.parse.urlsplit(url)
        require(
            parts.username is None and parts.password is None,
            "judge: the address holds a user or password; name an environment variable that holds "
            "the API key instead.",
        )
        self.url = url.rstrip("/")
        self.identity: Mapping[str, Any] = {"url": self.url, "model": model, "temperature": 0}
        self._model = model
        self._key = key
        self._num_parallel = num_parallel
        self._num_tries = num_tries
        self._timeout_s = timeout_s
        self._wait = wait
        self._opener = urllib.request.build_opener(_NoRedirect)

    def judge(self, prompts: Sequence[JudgePrompt]) -> list[str]:
        """Return a judgment a prompt; see `Judge`."""
        with ThreadPoolExecutor(self._num_parallel) as pool:
            return list(pool.map(self._one, prompts))

    def _one(self, prompt: JudgePrompt) -> str:
        system = [] if prompt.system is None else [{"role": "system", "content": prompt.system}]
        content = {
            "model": self._model,
            "messages": [*system, {"role": "user", "content": prompt.text}],
            "temperature": 0,
            "max_tokens": prompt.max_new_tokens,
        }
        answer = self._posted(json.dumps(content).encode())
        try:
            said = json.loads(answer)["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise UserError(
                f"judge {self.url}: the answer is no chat completion: {_shown(answer)}. Is this "
                "the address of an OpenAI-compatible server, '/v1' included?"
            ) from error
        return said if isinstance(said, str) else ""

    def _posted(self, body: bytes) -> bytes:
        """Return what the server answers to a request.

        Raises:
            UserError: it refuses, or is busy or silent at every try.
        """
        headers = {"Content-Type": "application/json"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        problem = ""
        for number in range(self._num_tries):
            request = urllib.request.Request(
                f"{self.url}/chat/completions", data=body, headers=headers, method="POST"
            )
            after_s: float | None = None
            try:
                with self._opener.open(request, timeout=self._timeout_s) as response:
                    answer: bytes = response.read()
                    return answer
            except urllib.error.HTTPError as error:
                problem = f"it answers {error.code}: {_shown(error.read())}"
                after_s = _asked_wait_s(error.headers)
                if error.code not in _BUSY:
                    raise UserError(
                        f"judge {self.url}, model {self._model}: {problem}. Look at the address, "
                        "the model's name and the API key."
                    ) from None
            except (OSError, http.client.HTTPException) as error:
                problem = f"{getattr(error, 'reason', None) or error or type(error).__name__}"
            if number + 1 < self._num_tries:
                self._wait(min(2.0**number if after_s is None else after_s, _MOST_WAIT_S))
        raise UserError(
            f"judge {self.url}: no answer after {self._num_tries} tries; at last: {problem}. "
            "Is the server running? What it has judged is kept; the same command goes on."
        )


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
        self._folder = folder
        self._device = device
        self._batch = batch
        self._loaded: tuple[Any, Any] | None = None
        self.identity: Mapping[str, Any] = {
            "model": folder.name,
            "weights": folder_fingerprint(folder),
        }

    def judge(self, prompts: Sequence[JudgePrompt]) -> list[str]:
        """Return a judgment a prompt; see `Judge`."""
        if self._loaded is None:
            self._loaded = _load(self._folder, self._device)
        said: list[str] = []
        for start in range(0, len(prompts), self._batch):
            said += _replies(*self._loaded, prompts[start : start + self._batch])
        return said


def _load(folder: Path, device: str) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    except (OSError, ValueError) as error:
        raise UserError(f"judge {str(folder)!r}: no text model of transformers: {error}") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.to(device)
    return model.eval(), tokenizer


def _replies(model: Any, tokenizer: Any, prompts: Sequence[JudgePrompt]) -> list[str]:
    """Return the likeliest replies of a model to a few prompts."""
    import torch

    texts = [_chat_text(tokenizer, prompt) for prompt in prompts]
    inputs = tokenizer(
        texts, return_tensors="pt", padding=True, add_special_tokens=tokenizer.chat_template is None
    ).to(model.device)
    with torch.no_grad():
        tokens_BL = model.generate(
            **inputs,
            max_new_tokens=max(prompt.max_new_tokens for prompt in prompts),
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
        )
    start = inputs["input_ids"].shape[1]
    return [
        # Each as if it had been asked alone.
        tokenizer.decode(tokens[start : start + one.max_new_tokens], skip_special_tokens=True)
        for tokens, one in zip(tokens_BL, prompts, strict=True)
    ]


def _chat_text(tokenizer: Any, prompt: JudgePrompt) -> str:
    system = [] if prompt.system is None else [{"role": "system", "content": prompt.system}]
    turns = [*system, {"role": "user", "content": prompt.text}]
    if tokenizer.chat_template is None:
        return "\n\n".join(turn["content"] for turn in turns) + "\n"
    text: str = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    return text


def _asked_wait_s(headers: email.message.Message) -> float | None:
    """Return how long a server asks to be left alone; None: it does not say, or gives a date."""
    told = headers.get("Retry-After", "")
    return float(told) if told.isdecimal() else None


def _shown(answer: bytes) -> str:
    return " ".join(answer[: 4 * _MOST_SHOWN].decode("utf-8", "replace").split())[:_MOST_SHOWN]
