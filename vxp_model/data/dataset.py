"""Samples of several shard directories by their index: read, planned, decoded, replaced if broken.

A map-style dataset: which samples, in which order, is `order`'s business.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from vxp_data.conversation import Turn, conversation_from_json
from vxp_data.shard_format import MIXED, PlanRecord, RowRecordBase, ShardRecord
from vxp_data.shard_index import word_counts
from vxp_model.data.clip import payload_of, plans_of, read_clip
from vxp_model.data.frames import BadRowError, BrokenSampleError, FrameOptions, FrameReader
from vxp_model.data.row_check import conversation_problem
from vxp_model.data.sample import SampleMedium, TrainSample
from vxp_model.data.seeded_draws import WindowRule, cut_window
from vxp_model.data.sources import Rows, Source
from vxp_model.data.state import Replacement
from vxp_model.errors import UserError

_MAX_TRIES: Final = 20
"""Clips in a row that may be broken: more, and it is not the clips."""
_MAY_PASS: Final = frozenset({"unreadable", "missing"})
"""Reasons that may be gone a minute later: a file server's."""
_DEFAULT_FRAMES: Final = FrameOptions()


class SampleIndex(NamedTuple):
    """One sample to be given out."""

    source: int
    sample: int
    """Index in the source's rows."""
    epoch: int
    position: int
    is_padding: bool = False


class ShardDataset(Dataset[TrainSample]):
    """Samples by index; works in torch's DataLoader with any number of workers.

    A sample that cannot be used is replaced by the next of the same source and kind whose clip is
    another and can be used, in the circle of all of them sorted by (planned frames of the first
    stored epoch, row of the index). So a substitute needs about the same memory and time, and
    every rank, worker and run finds the same one. Where no clip of that kind is left, it is one of
    the source's other kinds, in the same order.

    Args:
        sources: the mixture's parts, as sources or as rows of theirs, or one path.
        frames: how frames are read; None: they are not, `frames_THWC` is None.
        window: shows, and decodes, only so many neighbouring frames of a plan; None: all of them.

    Raises:
        UserError: an index cannot be used, or rows have several media and `frames` sets no size.
    """

    def __init__(
        self,
        sources: Sequence[Source | Rows] | str | Path,
        frames: FrameOptions | None = _DEFAULT_FRAMES,
        window: WindowRule | None = None,
    ) -> None:
        if isinstance(sources, str | Path):
            sources = [Source(uri=str(sources))]
        given = list(sources)
        if not given:
            raise UserError("the loader has no sources, wanted one shard directory at least.")
        self.rows = [one if isinstance(one, Rows) else Rows.of(one) for one in given]
        if frames is not None and frames.frame_px is None:
            _refuse_mixed(self.rows)
        self.known_broken: dict[tuple[int, str], tuple[str, str]] = {}
        """(source, key) of clips that could not be used, and why: they are not tried again."""
        self._frames = frames
        self._window = window
        self._reader: FrameReader | None = None
        self._reader_pid = 0
        self._rings: dict[tuple[int, str], tuple[NDArray[np.int64], NDArray[np.int64]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_reader": None, "_rings": {}}

    def __len__(self) -> int:
        """Return the number of samples of all sources."""
        return sum(len(rows.row_N) for rows in self.rows)

    def __getitem__(self, index: SampleIndex) -> TrainSample:
        """Read one sample, or its substitute.

        Raises:
            UserError: twenty clips in a row cannot be used; the message has the last.
        """
        rows = self.rows[index.source]
        row = int(rows.row_N[index.sample])
        try:
            return self._read(index, row)
        except BrokenSampleError as error:
            return self._substitute(index, row, error)

    def close(self) -> None:
        """Stop the decoding process and close the shards; what is read next opens them again."""
        if self._reader is not None and self._reader_pid == os.getpid():
            self._reader.close()
        self._reader = None
        for rows in self.rows:
            rows.table.folder.close()

    def _read(self, index: SampleIndex, row: int) -> TrainSample:
        table = self.rows[index.source].table
        clip = (index.source, str(table.key_N[row]))
        if clip in self.known_broken:
            raise BrokenSampleError(*self.known_broken[clip])
        try:
            return self._sample(index, row)
        except BrokenSampleError as error:
            if error.reason not in _MAY_PASS and not isinstance(error, BadRowError):
                self.known_broken[clip] = (error.reason, error.message)
            raise

    def _sample(self, index: SampleIndex, row: int) -> TrainSample:
        rows = self.rows[index.source]
        record, payloads = read_clip(rows.table, row, with_payload=self._frames is not None)
        number = int(rows.table.index_N[row])
        about = record.rows[number]
        conversation = _conversation(rows, row, about, num_media=len(record.media_clips))
        plans = plans_of(record, number, index.epoch)
        if self._window is not None:
            place = {"epoch": index.epoch, "position": index.position}
            plans = [cut_window(plan, self._window, **place) for plan in plans]
        frames, num_inexact = None, 0
        if self._frames is not None and plans:
            frames, num_inexact = self._frames_of(record, payloads, plans, self._frames)
        return TrainSample(
            sample_id=about.sample_id,
            dataset=about.dataset,
            task=about.task,
            kind=record.kind,
            key=record.key,
            source=index.source,
            epoch=index.epoch,
            position=index.position,
            frames_THWC=frames,
            time_s_T=torch.tensor([t for plan in plans for t in plan.time_s], dtype=torch.float64),
            fps=plans[0].fps if len(plans) == 1 else 0.0,
            media=tuple(
                SampleMedium(kind=clip.kind, num_frames=len(plan.time_s), fps=plan.fps)
                for clip, plan in zip(record.media_clips, plans, strict=True)
            ),
            num_inexact=num_inexact,
            conversation=conversation,
            annotation=about.annotation,
            is_padding=index.is_padding,
        )

    def _frames_of(
        self,
        record: ShardRecord,
        payloads: bytes,
        plans: Sequence[PlanRecord],
        options: FrameOptions,
    ) -> tuple[Tensor, int]:
        """Read the frames of all media, one after the other; and how many are inexact."""
        reader = self._frame_reader(options)
        parts, num_inexact = [], 0
        for medium, (clip, plan) in enumerate(zip(record.media_clips, plans, strict=True)):
            frames_THWC, inexact = reader.read(
                clip,
                payload_of(record, medium, payloads),
                np.array(plan.frame_index, dtype=np.int64),
                np.array(plan.time_s, dtype=np.float64),
            )
            parts.append(torch.from_numpy(frames_THWC))
            num_inexact += inexact
        return parts[0] if len(parts) == 1 else torch.cat(parts), num_inexact

    def _substitute(self, index: SampleIndex, row: int, error: BrokenSampleError) -> TrainSample:
        rows = self.rows[index.source]
        table = rows.table
        tried = {str(table.key_N[row])}
        for other in self._after(index.source, index.sample):
            key = str(table.key_N[other])
            if key in tried:
                continue
            if len(tried) >= _MAX_TRIES:
                break
            tried.add(key)
            try:
                sample = self._read(index, other)
            except BrokenSampleError:
                continue
            replaced = Replacement(
                epoch=index.epoch,
                position=index.position,
                source=index.source,
                sample_id=table.sample_id(row),
                key=str(table.key_N[row]),
                uri=f"{rows.source.uri}/{table.index.shards[table.shard_N[row]].name}",
                reason=error.reason,
                message=error.message,
                by_sample_id=sample.sample_id,
            )
            return replace(sample, replaced=replaced)
        raise UserError(
            f"{rows.source.uri}: {len(tried)} clips of kind {table.kind(row)} cannot be used, and "
            f"none is left to take their place. The first: {table.sample_id(row)}: {error}. "
            f"See `vxp-data verify {rows.source.uri}`."
        )

    def _after(self, source: int, sample: int) -> list[int]:
        """Return the rows that may stand in for a sample, nearest first: its kind's before others.

        A circle of the kind's rows by frames, from the sample on, then the others' by frames.
        """
        rows = self.rows[source]
        kind = rows.table.kind(int(rows.row_N[sample]))
        if (source, kind) not in self._rings:
            is_own_N = np.isin(rows.row_N, rows.table.rows_of([kind]))
            order_N = np.argsort(rows.table.num_frames_N[rows.row_N], kind="stable")
            own_N = rows.row_N[order_N][is_own_N[order_N]]
            self._rings[source, kind] = (own_N, rows.row_N[order_N][~is_own_N[order_N]])
        ring_N, others_N = self._rings[source, kind]
        at = int(np.flatnonzero(ring_N == rows.row_N[sample])[0])
        after: list[int] = np.concatenate([np.roll(ring_N, -at)[1:], others_N]).tolist()
        return after

    def _frame_reader(self, options: FrameOptions) -> FrameReader:
        if (
            self._reader is None or self._reader_pid != os.getpid()
        ):  # forked: the parent's is its own
            self._reader, self._reader_pid = FrameReader(options), os.getpid()
        return self._reader


def _conversation(
    rows: Rows, row: int, about: RowRecordBase, *, num_media: int
) -> tuple[Turn, ...]:
    """Read a row's conversation; where words are learned, only one that can be learned from.

    Raises:
        BadRowError: it is none, cannot be learned from, or is not the one that was looked at when
            the training began.
    """
    try:
        turns = conversation_from_json(about.conversation)
    except ValueError as error:
        raise BadRowError("bad_row", f"{about.sample_id}: {error}") from error
    if not rows.reads_words or rows.facts is None:
        return turns
    wanted, found = rows.facts.counts(row), word_counts(turns, num_media=num_media)
    if odd := [
        f"{name} {found[name]}, not {wanted[name]}" for name in found if found[name] != wanted[name]
    ]:
        raise BadRowError("bad_row", f"{about.sample_id}: its record has {', '.join(odd)}")
    if (problem := conversation_problem(turns, num_media)) is not None:
        raise BadRowError("bad_row", f"{about.sample_id}: {problem[0]}: {problem[1]}")
    return turns


def _refuse_mixed(sources: Sequence[Rows]) -> None:
    """Refuse rows of several media where frames keep the sizes of their files.

    Raises:
        UserError: there are some.
    """
    for rows in sources:
        num_mixed = len(np.intersect1d(rows.row_N, rows.table.rows_of([MIXED])))
        if num_mixed:
            raise UserError(
                f"{rows.source.uri}: frame_px is None, and {num_mixed} rows have several media, "
                "whose frames have no size in common. Set frame_px, or take kinds without "
                f"{MIXED!r}."
            )
