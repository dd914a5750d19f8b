"""Which steps of a recipe are done: `recipe.json`.

A step is known by a digest of its inputs (settings, files, what the step before has written), and
by the digests of the files that it has written. Later steps may write some of these files anew:
then theirs are the digests that hold.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

from vxp_data.errors import UserError
from vxp_data.storage.digest import stream_sha256
from vxp_data.storage.folder import File, Folder

CACHE_NAME: Final = "recipe.json"
CACHE_FORMAT_VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """A step that was begun."""

    key: str
    """Digest of its inputs."""
    outputs: dict[str, str] | None = None
    """Path below the recipe's folder -> SHA-256; None: it has not ended."""
    wall_s: float = 0.0
    ended_at: str = ""
    """UTC, ISO 8601."""


class StepCache:
    """What is known of the steps, in their order; every change is written at once."""

    def __init__(
        self, folder: Folder, order: Sequence[str], records: Mapping[str, StepRecord]
    ) -> None:
        self._folder = folder
        self._order = tuple(order)
        self._records = dict(records)
        self._digests: dict[str, str] = {}

    @classmethod
    def open(cls, folder: Folder, order: Sequence[str]) -> Self:
        """Read what an earlier run of the recipe has left; nothing where there was none.

        Raises:
            UserError: the file is there, and is not one of ours.
        """
        try:
            content = json.loads(folder.read_bytes(CACHE_NAME))
            if content["format_version"] != CACHE_FORMAT_VERSION:
                raise ValueError(f"format version {content['format_version']}")
            records = {name: StepRecord(**step) for name, step in content["steps"].items()}
        except FileNotFoundError:
            records = {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{folder.where(CACHE_NAME)} cannot be read: {type(error).__name__}: {error}. It "
                "tells which steps are done; remove it, and every step looks for itself what it "
                "can use of what is there."
            ) from error
        return cls(folder, order, {name: records[name] for name in order if name in records})

    def has(self, step: str) -> bool:
        """Whether a step was ever begun here."""
        return step in self._records

    def outputs(self, step: str) -> dict[str, str]:
        """Return the files of a step that has ended, with their digests."""
        return dict(self._records[step].outputs or {})

    def is_done(self, step: str, key: str) -> bool:
        """Whether a step has ended with these inputs, and its files are as it left them.

        Raises:
            UserError: a file is there and cannot be read.
        """
        record = self._records.get(step)
        if record is None or record.key != key or record.outputs is None:
            return False
        return all(self._digest(name) == self._holding(name) for name in record.outputs)

    def begin(self, step: str, key: str) -> None:
        """Record that a step is at work: until it ends, none of its files counts."""
        self._records[step] = StepRecord(key=key)
        self._write({})

    def end(self, step: str, key: str, files: Iterable[str], wall_s: float) -> None:
        """Record that a step has ended."""
        self._digests.clear()
        self._records[step] = StepRecord(
            key=key,
            outputs={name: self._digest(name) for name in sorted(files)},
            wall_s=round(wall_s, 3),
            ended_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        self._write({})

    def close(self, facts: Mapping[str, Any]) -> None:
        """Write the record of a recipe that has ended: the steps, and further facts."""
        self._write(facts)

    def _holding(self, name: str) -> str | None:
        """Return the digest that a file must have: that of the last step that wrote it."""
        steps = (self._records[step] for step in reversed(self._order) if step in self._records)
        return next((r.outputs[name] for r in steps if r.outputs and name in r.outputs), None)

    def _digest(self, name: str) -> str:
        if name not in self._digests:
            try:
                with self._folder.open(name) as file:
                    self._digests[name] = stream_sha256(file)
            except FileNotFoundError:
                return ""
            except OSError as error:
                raise UserError(
                    f"cannot read {self._folder.where(name)}: {error.strerror or error}. Make it "
                    "readable, or remove it: the step that wrote it writes it again."
                ) from error
        return self._digests[name]

    def _write(self, facts: Mapping[str, Any]) -> None:
        steps = {step: asdict(self._records[step]) for step in self._order if step in self._records}
        content = {"format_version": CACHE_FORMAT_VERSION, **facts, "steps": steps}
        self._folder.write_text(CACHE_NAME, json.dumps(content, indent=1) + "\n")


def file_digest(file: Path | File) -> str:
    """Digest a file that a recipe names.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with file.open("rb") as opened:
            return stream_sha256(opened)
    except OSError as error:
        raise UserError(
            f"{file}: cannot be read: {error.strerror or error}. The recipe names it; check the "
            "path and its permissions."
        ) from error


def key_of(inputs: Mapping[str, Any]) -> str:
    """Digest a step's inputs, JSON values."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
