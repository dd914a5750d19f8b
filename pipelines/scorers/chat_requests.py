"""Requests in the words of OpenAI's chat completions, and what is read from what comes back."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from asks import Answer, Ask, Failure

from vxp_model.eval.chat_server import AnswerError, ChatServer

MOST_TOP: Final = 20
"""Tokens of which servers tell the likelihood at most."""


def body_of(ask: Ask, more: Mapping[str, Any], images: Sequence[str] = ()) -> dict[str, Any]:
    """Return a request without the model's name.

    Args:
        ask: what is asked.
        more: fields of the user's own; they win.
        images: as data URIs; shown before the words of the last turn.
    """
    messages: list[dict[str, Any]] = [{"role": role, "content": text} for role, text in ask.chat]
    if images:
        shown = [{"type": "image_url", "image_url": {"url": uri}} for uri in images]
        messages[-1]["content"] = [*shown, {"type": "text", "text": messages[-1]["content"]}]
    body = {"messages": messages, "temperature": ask.temperature, "max_tokens": ask.max_tokens}
    if ask.temperature:
        body["seed"] = ask.seed
    if ask.texts:
        body |= {"max_tokens": 1, "logprobs": True, "top_logprobs": MOST_TOP}
    return {**body, **more}


def answer_of(ask: Ask, choice: Mapping[str, Any]) -> Answer | Failure:
    """Return what the first choice of a completion says.

    Where likelihood was asked for, the texts are letters, and a letter has that of all first tokens
    that are it, with spaces around or without.
    """
    if not ask.texts:
        said = choice["message"]["content"]
        return {"text": said if isinstance(said, str) else ""}
    try:
        top = choice["logprobs"]["content"][0]["top_logprobs"]
        pairs = [(str(one["token"]).strip(), float(one["logprob"])) for one in top]
    except (KeyError, IndexError, TypeError, ValueError):
        return Failure(
            reason="no_likelihood",
            message="the server tells no likelihoods (top_logprobs). Use --by replies.",
        )
    found: list[list[float] | None] = []
    for text in ask.texts:
        own = [math.exp(value) for token, value in pairs if token == text]
        found.append([math.log(math.fsum(own)), 1] if own and math.fsum(own) > 0 else None)
    return {"log_probs": found}


def asked(server: ChatServer, ask: Ask, body: Mapping[str, Any]) -> Answer | Failure:
    """Ask a server.

    Raises:
        UserError: no other request will be answered either.
    """
    return tried(ask, lambda: server.complete(body))


def tried(ask: Ask, complete: Callable[[], Mapping[str, Any]]) -> Answer | Failure:
    """Return what a completion says, or why there is none.

    Raises:
        UserError: no other request will be answered either.
    """
    try:
        return answer_of(ask, complete())
    except AnswerError as error:
        return Failure(
            reason=error.reason, message=str(error), is_of_all=error.reason == "no_answer"
        )
