"""Rows that cannot be learned from: found before a training begins, and left out by rule.

What the index says of each row's words decides all but a few: those whose markers are not as many
as their media, and those whose text may be longer than the context. Of these the conversation is
read. Broken media are found when they are read, and replaced (see `dataset`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vxp_data.conversation import Role, Turn, conversation_from_json
from vxp_data.media_markers import num_unplaced
from vxp_data.shard_format import ShardRecord
from vxp_model.data.clip import read_clip
from vxp_model.data.frames import BrokenSampleError
from vxp_model.data.index import RowFacts, ShardTable
from vxp_model.data.row_facts import facts_of
from vxp_model.data.sources import Rows
from vxp_model.errors import UserError


class LeftOut(StrEnum):
    """Why a row cannot be learned from: a closed set."""

    BAD_RECORD = "bad_record"
    """Its record, or its conversation, is none."""
    NO_FRAMES = "no_frames"
    """It has media, and its plan has no frame of them."""
    NO_ANSWER = "no_answer"
    """No turn of the assistant's says anything: there is no label."""
    MEDIA_MISPLACED = "media_misplaced"
    """Its conversation shows more or fewer media than it has, or not in the user's turns."""
    MARKER_WITHOUT_MEDIUM = "marker_without_medium"
    """A marker, alone on its line or at the beginning of a turn, and no medium for it."""
    TOO_LONG = "too_long"
    """Its text alone, of which nothing is ever cut off, is longer than the context."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOutRow:
    """One row that is left out."""

    source: int
    """Index in the list of sources."""
    uri: str
    row: int
    """Index in the source's samples.parquet."""
    sample_id: str
    dataset: str
    """'' where nobody knows: of format 1, where words are not read."""
    reason: LeftOut
    message: str


class TextLimit(Protocol):
    """How long a row's text may be; see `train.mllm.text_limit`."""

    def may_exceed(self, facts: RowFacts, num_frames_N: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Return which rows may be too long, by what the index says; no row too long is missed."""

    def problem(self, turns: Sequence[Turn], media: Sequence[tuple[str, Sequence[float]]]) -> str:
        """Return what is wrong with a row's length; '' where it fits.

        Args:
            turns: of the row.
            media: kind of each of its media, and the times of its planned frames.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class RowCheck:
    """What was found."""

    parts: tuple[Rows, ...]
    """The sources, without the rows that are left out."""
    left_out: tuple[LeftOutRow, ...]
    """By source, and row."""
    num_rows: Mapping[tuple[int, str], int]
    """(source, dataset) -> its rows, those that are left out as well."""

    @property
    def num_all(self) -> int:
        """Rows of all sources."""
        return sum(self.num_rows.values())

    @property
    def share(self) -> float:
        """Share of all rows that is left out."""
        return len(self.left_out) / self.num_all

    def by_reason(self) -> dict[str, int]:
        """Return how many rows are left out for each reason."""
        found = Counter(row.reason for row in self.left_out)
        return {reason.value: found[reason] for reason in LeftOut if found[reason]}


def check_rows(
    parts: Sequence[Rows], *, reads_words: bool, limit: TextLimit | None = None
) -> RowCheck:
    """Find the rows that cannot be learned from.

    The same rows and the same limit give the same answer, whoever asks.

    Args:
        parts: the sources.
        reads_words: the training learns from words; else frames alone must be there.
        limit: of the text; None: none.

    Raises:
        UserError: a shard of format 1 cannot be read; nothing of a source is left.
    """
    kept, left_out, num_rows = [], list[LeftOutRow](), dict[tuple[int, str], int]()
    known: dict[str, RowFacts] = {}
    for number, rows in enumerate(parts):
        facts = rows.facts
        if facts is None and reads_words:
            facts = known[rows.source.uri] = known.get(rows.source.uri) or facts_of(rows.table)
        found = _bad_rows(rows.table, rows.row_N, facts if reads_words else None, limit)
        left_out += [
            LeftOutRow(
                source=number,
                uri=rows.source.uri,
                row=row,
                sample_id=rows.table.sample_id(row),
                dataset="" if facts is None else str(facts.dataset_N[row]),
                reason=reason,
                message=message,
            )
            for row, (reason, message) in sorted(found.items())
        ]
        if len(found) == len(rows.row_N):
            raise _nothing_left(rows, left_out[-1])
        kept.append(rows.without(found, facts=facts, reads_words=reads_words))
        num_rows |= {(number, name): count for name, count in _counts(rows, facts).items()}
    return RowCheck(parts=tuple(kept), left_out=tuple(left_out), num_rows=num_rows)


def conversation_problem(turns: Sequence[Turn], num_media: int) -> tuple[LeftOut, str] | None:
    """Return what keeps a conversation from being learned from, its length apart.

    Args:
        turns: of the row.
        num_media: that the row is about.
    """
    if not any(turn.role is Role.ASSISTANT and turn.text.strip() for turn in turns):
        return LeftOut.NO_ANSWER, "it has no answer"
    for number, turn in enumerate(turns, start=1):
        if turn.num_media and turn.role is not Role.USER:
            return LeftOut.MEDIA_MISPLACED, f"turn {number}, the {turn.role}'s, shows a medium"
    num_shown = sum(turn.num_media for turn in turns)
    if num_shown != num_media:
        return LeftOut.MEDIA_MISPLACED, f"it shows {num_shown} media, and the row has {num_media}"
    if unplaced := num_unplaced(turns):
        return (
            LeftOut.MARKER_WITHOUT_MEDIUM,
            f"it marks {num_media + unplaced} media, and the row has {num_media}",
        )
    return None


def _bad_rows(
    table: ShardTable, row_N: NDArray[np.int64], facts: RowFacts | None, limit: TextLimit | None
) -> dict[int, tuple[LeftOut, str]]:
    found: dict[int, tuple[LeftOut, str]] = {}
    if facts is not None:
        unreadable = set(facts.unreadable).intersection(row_N.tolist())
        found |= {row: (LeftOut.BAD_RECORD, facts.unreadable[row]) for row in unreadable}
    has_media = np.array([entry.kind != "text" for entry in table.index.shards], dtype=np.bool_)
    no_frames_N = has_media[table.shard_N[row_N]] & (table.num_frames_N[row_N] == 0)
    for row in row_N[no_frames_N].tolist():
        found.setdefault(row, (LeftOut.NO_FRAMES, "its plan has no frame"))
    if facts is None:
        return found
    for row in row_N[facts.num_answers_N[row_N] == 0].tolist():
        found.setdefault(row, (LeftOut.NO_ANSWER, "it has no answer"))
    odd_N = facts.num_markers_N != facts.num_media_N
    if limit is not None:
        odd_N |= limit.may_exceed(facts, table.num_frames_N)
    for row, record in _records(table, [r for r in row_N[odd_N[row_N]].tolist() if r not in found]):
        if (problem := _problem(record, int(table.index_N[row]), limit)) is not None:
            found[row] = problem
    return found


def _records(
    table: ShardTable, rows: Sequence[int]
) -> Iterator[tuple[int, ShardRecord | BrokenSampleError]]:
    """Return rows with their records, or why there is none; each record is read once."""
    before, record = "", None
    for row in rows:
        key = str(table.key_N[row])
        if record is None or key != before:
            before = key
            try:
                record = read_clip(table, row, with_payload=False)[0]
            except BrokenSampleError as error:
                yield row, error
                record = None
                continue
        yield row, record


def _problem(
    record: ShardRecord | BrokenSampleError, place: int, limit: TextLimit | None
) -> tuple[LeftOut, str] | None:
    if isinstance(record, BrokenSampleError):
        # One that cannot be read now may be readable later: the loader sees to it.
        is_bad = record.reason == "bad_record"
        return (LeftOut.BAD_RECORD, record.message) if is_bad else None
    try:
        turns = conversation_from_json(record.rows[place].conversation)
    except ValueError as error:
        return LeftOut.BAD_RECORD, str(error)
    clips = record.media_clips
    if (problem := conversation_problem(turns, len(clips))) is not None or limit is None:
        return problem
    media = [
        (clip.kind, max((plan.time_s for plan in stored), key=len, default=[]))
        for clip, stored in zip(clips, record.plans_of(place), strict=True)
    ]
    message = limit.problem(turns, media)
    return (LeftOut.TOO_LONG, message) if message else None


def _counts(rows: Rows, facts: RowFacts | None) -> dict[str, int]:
    """Return the rows of each dataset of a source, in order of their names."""
    if facts is None:
        return {"": len(rows.row_N)}
    names, dataset_N = facts.datasets()
    counts = np.bincount(dataset_N[rows.row_N], minlength=len(names)).tolist()
    return {name: count for name, count in sorted(zip(names, counts, strict=True)) if count}


def _nothing_left(rows: Rows, last: LeftOutRow) -> UserError:
    return UserError(
        f"{rows.source.uri}: not one of its {len(rows.row_N)} rows can be learned from; the last, "
        f"{last.sample_id}: {last.reason}: {last.message}. Put the rows right and shard them anew, "
        "or leave the source out."
    )
