"""What a model is asked, what it answers, and why it did not; and the prompt files.

An answer is JSON, so that it can be kept: `{"text": reply}`, or, where likelihood was asked for,
`{"log_probs": [[sum over the text's tokens, number of tokens], ...]}`, null for a text that the
model did not consider.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from vxp_model.errors import UserError
from vxp_model.eval.store import digest

Answer = Mapping[str, Any]
Chat = tuple[tuple[str, str], ...]
"""Turns as (role, text)."""

PROMPTS: Final = Path(__file__).parent / "prompts"
_SECTION: Final = re.compile(r"^\[(\w+)\]\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames:
    """Which frames of a clip are shown with the last turn."""

    uri: str
    frame_index: tuple[int, ...]
    side_px: int
    """The longer side is made so long where it is longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request."""

    chat: Chat
    max_tokens: int
    temperature: float = 0.0
    seed: int = 0
    """Of the draw; 0 where the likeliest reply is asked for."""
    texts: tuple[str, ...] = ()
    """How likely is a reply that begins with each of them? None: the reply itself is asked for."""
    frames: Frames | None = None

    def key(self, identity: Mapping[str, Any]) -> str:
        """Return what its answer is kept under: another model, prompt or seed has another key."""
        return digest([dict(identity), asdict(self)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why there is no answer."""

    reason: str
    message: str
    is_of_all: bool = False
    """Whether it may be the fault of the server, and not of this request."""


Keyed = tuple[str, Ask]


class Backend(Protocol):
    """A model, however it is run."""

    identity: Mapping[str, Any]
    """What its answers depend on: JSON values, and no secret."""
    model: str
    """Name, and revision or digest of the weights: what stands in the scorer's version."""
    takes_images: bool
    likelihood: frozenset[str]
    """Of what it can tell the likelihood: 'letters', 'texts'."""

    def check(self) -> None:
        """Check that it can be asked, before anything is.

        Raises:
            UserError: it cannot.
        """
        ...

    def answers(self, asks: Iterable[Keyed]) -> Iterator[tuple[str, Answer | Failure]]:
        """Yield key and answer of each, in any order, reading only a few ahead.

        Raises:
            UserError: none of the others will have an answer either.
        """
        ...


class Prompts:
    """A file of prompts: sections '[name]' with a text each, in which '{word}' is filled in."""

    def __init__(self, path: Path, wanted: Iterable[str]) -> None:
        """Read it.

        Raises:
            UserError: it cannot be read, or has not the sections that are wanted.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--prompts {path}: cannot be read: {error}.") from error
        parts = _SECTION.split(text)
        self._sections = {
            name: body.strip() for name, body in zip(parts[1::2], parts[2::2], strict=True)
        }
        missing = [name for name in wanted if name not in self._sections]
        if missing:
            raise UserError(
                f"--prompts {path}: has no section [{missing[0]}]. Look at the ones in {PROMPTS}."
            )
        self.digest = digest(self._sections)

    def fill(self, section: str, **words: str) -> str:
        """Return a section with its words filled in, each once; braces in words are left alone."""
        return re.sub(
            r"\{(\w+)\}", lambda found: words.get(found[1], found[0]), self._sections[section]
        )
