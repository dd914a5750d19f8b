"""A server that speaks OpenAI's chat completions: asked again while it is busy, and told apart.

What ends a command (nobody is there, the key or the model is wrong) is a `UserError`; what may be
the fault of one prompt (too long for the model, an answer that cannot be read, no answer after
several tries) is its subclass `AnswerError`, so that whoever has other prompts can go on.
"""

from __future__ import annotations

import email.message
import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Final

from vxp_model.errors import UserError, require

_BUSY: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Status codes after which asking again may help."""
_OF_ALL_PROMPTS: Final = frozenset({301, 302, 303, 307, 308, 401, 403, 404, 405})
"""Status codes that every other prompt would get too: the address, the key or the model."""
_MOST_WAIT_S: Final = 60.0
_MOST_SHOWN: Final = 300
"""Characters of a server's message that an error shows."""


class AnswerError(UserError):
    """A prompt without an answer, though the server is there.

    Attributes:
        reason: 'refused', 'no_answer' (busy or silent at every try) or 'bad_answer' (no chat
            completion).
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


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


class ChatServer:
    """One model of a server. May be asked by several threads at once."""

    def __init__(
        self,
        url: str,
        model: str,
        *,
        key: str | None = None,
        num_tries: int = 6,
        timeout_s: float = 120.0,
        first_wait_s: float = 1.0,
        wait: Callable[[float], None] = time.sleep,
        what: str = "server",
    ) -> None:
        """Name it; nothing is sent yet.

        Args:
            url: to which '/chat/completions' is added.
            model: as the server names it.
            key: API key; sent, and never stored or shown.
            num_tries: of a request, while the server is busy or does not answer.
            timeout_s: longest silence of the server.
            first_wait_s: seconds before the second try; they double with each further one, up to a
                minute. A server that says how long to wait is obeyed.
            wait: called with the seconds.
            what: what messages call it.

        Raises:
            UserError: the address holds a password.
        """
        parts = urllib.parse.urlsplit(url)
        require(
            parts.username is None and parts.password is None,
            f"{what}: the address holds a user or password; name an environment variable that "
            "holds the API key instead.",
        )
        self.url = url.rstrip("/")
        self.model = model
        self._key = key
        self._num_tries = num_tries
        self._timeout_s = timeout_s
        self._first_wait_s = first_wait_s
        self._wait = wait
        self._what = what

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_opener"}

    @cached_property
    def _opener(self) -> urllib.request.OpenerDirector:
        """Of each process its own: it holds what cannot be sent to another."""
        return urllib.request.build_opener(_NoRedirect)

    def complete(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """Return the first choice of what the server answers.

        Args:
            content: of the request, without the model's name.

        Returns:
            An object with 'message'.

        Raises:
            AnswerError: there is none, which may be due to this request.
            UserError: there will be none to any request.
        """
        answer = self.post(json.dumps({"model": self.model, **content}).encode())
        try:
            choice = json.loads(answer)["choices"][0]
            choice["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise AnswerError(
                "bad_answer",
                f"{self._what} {self.url}: the answer is no chat completion: {_shown(answer)}. Is "
                "this the address of an OpenAI-compatible server, '/v1' included?",
            ) from error
        return dict(choice)

    def models(self) -> list[str] | None:
        """Return the names of the models that the server says it has; None: it does not say.

        Raises:
            UserError: nobody is there, or the key is wrong.
        """
        request = urllib.request.Request(f"{self.url}/models", headers=self._headers())
        try:
            with self._opener.open(request, timeout=self._timeout_s) as response:
                return [str(one["id"]) for one in json.loads(response.read())["data"]]
        except urllib.error.HTTPError as error:
            if error.code in (401, 403):
                raise self._refused(f"it answers {error.code}: {_shown(_body_of(error))}") from None
            return None
        except (OSError, http.client.HTTPException) as error:
            raise UserError(
                f"{self._what} {self.url}: cannot be reached: {_reason(error)}. Is the server "
                "running, and is this its address, '/v1' included?"
            ) from None
        except (ValueError, KeyError, TypeError):
            return None

    def post(self, body: bytes) -> bytes:
        """Return what the server answers to a request.

        Raises:
            AnswerError: it refuses this one, or is busy or silent at every try.
            UserError: it refuses all, or nobody is there.
        """
        problem, is_there = "", False
        for number in range(self._num_tries):
            request = urllib.request.Request(
                f"{self.url}/chat/completions", data=body, headers=self._headers(), method="POST"
            )
            after_s: float | None = None
            try:
                with self._opener.open(request, timeout=self._timeout_s) as response:
                    answer: bytes = response.read()
                    return answer
            except urllib.error.HTTPError as error:
                is_there = True
                problem = f"it answers {error.code}: {_shown(_body_of(error))}"
                after_s = _asked_wait_s(error.headers)
                if error.code not in _BUSY:
                    refused = self._refused(problem)
                    if error.code in _OF_ALL_PROMPTS:
                        raise refused from None
                    raise AnswerError("refused", str(refused)) from None
            except (OSError, http.client.HTTPException) as error:
                is_there = _is_cut_off(getattr(error, "reason", error))
                problem = _reason(error)
            if number + 1 < self._num_tries:
                again_s = self._first_wait_s * 2.0**number
                self._wait(min(again_s if after_s is None else after_s, _MOST_WAIT_S))
        message = (
            f"{self._what} {self.url}: no answer after {self._num_tries} tries; at last: "
            f"{problem}. Is the server running? What it has said is kept; the same command goes on."
        )
        raise AnswerError("no_answer", message) if is_there else UserError(message)

    def _headers(self) -> dict[str, str]:
        authorization = {} if self._key is None else {"Authorization": f"Bearer {self._key}"}
        return {"Content-Type": "application/json", **authorization}

    def _refused(self, problem: str) -> UserError:
        return UserError(
            f"{self._what} {self.url}, model {self.model}: {problem}. Look at the address, the "
            "model's name and the API key."
        )


def _is_cut_off(error: object) -> bool:
    """Whether a request has failed though somebody was there to take it."""
    return isinstance(
        error, TimeoutError | ConnectionError | http.client.HTTPException
    ) and not isinstance(error, ConnectionRefusedError)


def _reason(error: BaseException) -> str:
    return f"{getattr(error, 'reason', None) or error or type(error).__name__}"


def _body_of(error: urllib.error.HTTPError) -> bytes:
    """Return what a server says beside a status code: as much of it as comes."""
    try:
        return error.read()
    except (OSError, http.client.HTTPException) as cut_off:
        return getattr(cut_off, "partial", b"")


def _asked_wait_s(headers: email.message.Message) -> float | None:
    """Return how long a server asks to be left alone; None: it does not say, or gives a date."""
    told = headers.get("Retry-After", "")
    return float(told) if told.isdecimal() else None


def _shown(answer: bytes) -> str:
    return " ".join(answer[: 4 * _MOST_SHOWN].decode("utf-8", "replace").split())[:_MOST_SHOWN]
