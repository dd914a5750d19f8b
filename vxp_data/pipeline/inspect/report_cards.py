"""The rows that a report shows with their frames: looked up once, for a few hundred rows."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from vxp_data.conversation import conversation_from_json, question_answer_pairs
from vxp_data.core.run_report import Card, DuplicateGroup
from vxp_data.core.seeds import hash64
from vxp_data.pipeline.curate.exclude import relinked_samples
from vxp_data.pipeline.inspect.plan_rows import PlanRows
from vxp_data.pipeline.run_dir.directory import RunDirectory, read_table
from vxp_data.pipeline.run_dir.part_index import read_part_index
from vxp_data.pipeline.run_dir.part_table import read_groups
from vxp_data.records import ClipKey, Reason
from vxp_data.schemas import CLIP_KEY, SAMPLE_CLIP_KEY, THUMBNAIL_SCHEMA

_FACTS: Final = ("width_px", "height_px", "duration_s", "file_version", "frames_expected")
"""Where LLaVA-style rows put the media: the card shows it."""
_MAX_CHARS: Final = 600
"""Of a question or answer that is shown."""
_DONE: Final = {"drop": "dropped", "relink": "rows relinked", "report": "reported"}
_MAX_SHEET_BYTES: Final = 6_000_000
"""All contact sheets of a report together; base64 makes a third more of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicate:
    """A clip that is a duplicate."""

    key: ClipKey
    decision: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A clip, and those that are the same."""

    representative: ClipKey
    source: str
    """The file or run of evaluation videos that holds the representative; '' for this run."""
    duplicates: tuple[Duplicate, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """Some groups of duplicates; `num_groups` there are in all."""

    num_groups: int
    shown: tuple[Group, ...]


class CardSource:
    """Makes cards of rows.

    Args:
        run: a finished run.
        rows: its rows.
    """

    def __init__(self, run: RunDirectory, rows: PlanRows) -> None:
        self._run = run
        self._rows = rows
        self._samples: dict[int, dict[str, Any]] = {}
        self._media: dict[ClipKey, dict[str, Any]] = {}
        self._sheets: dict[ClipKey, bytes] = {}
        self._decisions: dict[int, str] = {}
        self._num_bytes = 0

    @property
    def has_sheets(self) -> bool:
        """Whether there is an image of any row that was loaded."""
        return bool(self._sheets)

    def load(self, rows: Sequence[int], groups: Groups) -> None:
        """Read what cards need of some rows, and of duplicates."""
        indices = sorted(set(rows))
        columns = ["task", *SAMPLE_CLIP_KEY, "clips", "turns"]
        taken = read_table(self._run.samples, columns=columns).take(pa.array(indices, pa.int64()))
        taken = relinked_samples(self._run, taken)
        self._samples = dict(zip(indices, taken.to_pylist(), strict=True))
        outcomes = read_table(self._run.decisions, columns=["decision"])["decision"]
        self._decisions = {index: outcomes[index].as_py() for index in indices}
        keys = {_key(row) for row in self._samples.values()}
        for group in groups.shown:
            keys |= {group.representative, *(duplicate.key for duplicate in group.duplicates)}
        self._media = _read_media(self._run, keys)
        self._sheets = _read_sheets(self._run, self._media)

    def card(self, row: int) -> Card:
        """Build the card of a row that was loaded."""
        sample = self._samples[row]
        question, answer = _words(sample["turns"])
        return self._card(
            _key(sample),
            sample_id=str(self._rows.sample_id_N[row]),
            decision=self._decisions[row],
            score=float(self._rows.score_N[row]),
            question=question,
            answer=answer,
        )

    def groups(self, groups: Groups) -> tuple[DuplicateGroup, ...]:
        """Build the cards of duplicates."""
        return tuple(
            DuplicateGroup(
                representative=self._card(
                    group.representative,
                    decision="evaluation" if group.source else "stays",
                    note=f"in {group.source}" if group.source else "",
                ),
                duplicates=tuple(
                    self._card(duplicate.key, decision=duplicate.decision, note=duplicate.note)
                    for duplicate in group.duplicates
                ),
            )
            for group in groups.shown
        )

    def _card(
        self,
        key: ClipKey,
        *,
        decision: str,
        sample_id: str = "",
        score: float = math.nan,
        question: str = "",
        answer: str = "",
        note: str = "",
    ) -> Card:
        media = self._media.get(key, {})
        return Card(
            sample_id=sample_id,
            file=_file_name(key),
            decision=decision,
            score=score,
            question=question,
            answer=answer,
            duration_s=max(0.0, min(media.get("duration_s") or 0.0, key[2]) - key[1]),
            width_px=media.get("width_px") or 0,
            height_px=media.get("height_px") or 0,
            num_frames=media.get("frames_expected") or 0,
            sheet=self._sheet(key),
            note=note,
        )

    def _sheet(self, key: ClipKey) -> bytes | None:
        """Return a clip's contact sheet while there is room for it."""
        sheet = self._sheets.get(key)
        self._num_bytes += len(sheet or b"")
        return sheet if self._num_bytes <= _MAX_SHEET_BYTES else None


def read_duplicate_groups(run: RunDirectory, *, limit: int) -> Groups:
    """Read groups of duplicates, drawn with a fixed seed; none where none were looked for."""
    if not run.duplicates.is_file():
        return Groups(num_groups=0, shown=())
    representative_key = [f"representative_{name}" for name in CLIP_KEY]
    names = [*CLIP_KEY, "reason", "action", "agreement", "offset_s", "source", *representative_key]
    duplicates_of: dict[tuple[str, ClipKey], dict[ClipKey, Duplicate]] = {}
    for row in read_table(run.duplicates, columns=names).to_pylist():
        uri, start_s, end_s = (row[name] for name in representative_key)
        if start_s is None or end_s is None:  # an id of a list, not a clip
            start_s, end_s = 0.0, math.inf
        note = f"{row['reason'].replace('_', ' ')}, {_DONE[row['action']]}"
        if row["agreement"] is not None and math.isfinite(row["agreement"]):
            note += f", agreement {row['agreement']:.3f}"
        if row["reason"] == Reason.CONTAINED:
            note += f", from {max(0.0, row['offset_s']):.1f} s"
        key = _key(row, "uri")
        decision = "duplicate" if row["action"] == "drop" else "copy"
        group = duplicates_of.setdefault((row["source"], (uri, start_s, end_s)), {})
        group[key] = Duplicate(key=key, decision=decision, note=note)
    drawn = sorted(duplicates_of, key=lambda group: hash64("report", 0, *map(str, group)))[:limit]
    shown = tuple(
        Group(
            representative=representative,
            source=source,
            duplicates=tuple(duplicates_of[source, representative].values())[:limit],
        )
        for source, representative in sorted(drawn)
    )
    return Groups(num_groups=len(duplicates_of), shown=shown)


def _read_media(run: RunDirectory, keys: Collection[ClipKey]) -> dict[ClipKey, dict[str, Any]]:
    uris = pa.array(sorted({uri for uri, _, _ in keys}), pa.string())
    table = read_table(run.media, columns=[*CLIP_KEY, *_FACTS], filters=pc.field("uri").isin(uris))
    return {key: row for row in table.to_pylist() if (key := _key(row, "uri")) in keys}


def _read_sheets(
    run: RunDirectory, media: Mapping[ClipKey, Mapping[str, Any]]
) -> dict[ClipKey, bytes]:
    """Find the contact sheets of some clips, of their files as they were when embedded."""
    uris = pa.array(sorted({uri for uri, _, _ in media}), pa.string())
    named = {
        name
        for table in read_part_index(run)
        for name in table.filter(pc.is_in(table["uri"], value_set=uris))["part"].to_pylist()
    }
    elsewhere = {file.name for file in run.part_files()} - named
    files = [file for file in run.thumbnail_files() if file.name not in elsewhere]
    sheets: dict[ClipKey, bytes] = {}
    for _, group in read_groups(files, THUMBNAIL_SCHEMA.names):
        for row in group.filter(pc.is_in(group["uri"], value_set=uris)).to_pylist():
            key = _key(row, "uri")
            if key in media and media[key]["file_version"] == row["file_version"] and row["sheet"]:
                sheets[key] = row["sheet"]
    return sheets


def _key(row: Mapping[str, Any], uri: str = "media_uri") -> ClipKey:
    return (row[uri], row["clip_start_s"], row["clip_end_s"])


def _words(turns: str) -> tuple[str, str]:
    """Return a row's first question and answer, cut where they are very long."""
    pairs = question_answer_pairs(conversation_from_json(turns))
    question, answer = pairs[0] if pairs else ("", "")
    return _cut(question.strip()), _cut(answer.strip())


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_CHARS else text[:_MAX_CHARS] + "\N{HORIZONTAL ELLIPSIS}"


def _file_name(key: ClipKey) -> str:
    uri, start_s, end_s = key
    name = uri.rstrip("/").rpartition("/")[2]
    if start_s == 0 and end_s == math.inf:
        return name
    end = "end" if end_s == math.inf else f"{end_s:g} s"
    return f"{name}, {start_s:g} s to {end}"
