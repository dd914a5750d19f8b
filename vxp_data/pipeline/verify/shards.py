"""`vxp-data verify` of a folder of shards: reads everything, believes nothing."""

from __future__ import annotations

import hashlib
import io
import json
import math
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vxp_data.conversation import conversation_from_json
from vxp_data.core.sampling_plans import SamplingRule
from vxp_data.errors import MediaError, UserError
from vxp_data.pipeline.media.reader import MediaReader
from vxp_data.pipeline.shard.clip_records import stored_rule
from vxp_data.pipeline.shard.command import TAR_SUFFIX
from vxp_data.pipeline.shard.frame_plans import draw_medium_plans, rules_of
from vxp_data.pipeline.shard.index import read_index
from vxp_data.records import Modality
from vxp_data.settings.prune import DecodeConfig
from vxp_data.shard_format import (
    ClipRecord,
    MixedRecord,
    Payload,
    PayloadRecord,
    ShardRecord,
    clip_key,
    mixed_key,
    selection_version,
)
from vxp_data.shard_index import ShardEntry, ShardIndex, TableEntry
from vxp_data.shards.frames_payload import unpack_frames
from vxp_data.shards.hashing import HashingReader
from vxp_data.shards.shard_file import ShardClip, read_clips
from vxp_data.shards.tar_file import Member, read_bytes
from vxp_data.storage.digest import CHUNK_BYTES, stream_sha256
from vxp_data.storage.folder import Folder

_NO_LIMITS: Final = DecodeConfig(
    max_pixels=(1 << 31) - 1, max_frames=1 << 40, max_streams=1000, max_duration_s=1e12
)
"""What was pruned has kept to the limits of its run."""


@dataclass(slots=True)
class Verified:
    """What was looked at, and what is wrong with it."""

    num_shards: int = 0
    num_clips: int = 0
    num_samples: int = 0
    num_bytes: int = 0
    problems: list[str] = field(default_factory=list)
    """Each begins with a file's name."""


def verify_shards(out: Folder) -> Verified:
    """Check a folder of shards: sums, keys, records, plans, indices, and every payload opened.

    Raises:
        UserError: there is no index that can be read.
    """
    index = read_index(out)
    found = Verified()
    named = {entry.name for entry in index.shards}
    found.problems += [
        f"{name}: a tar that the index does not name"
        for name in out.names()
        if name.endswith(TAR_SUFFIX) and name not in named
    ]
    samples = _table(out, index.samples, found)
    _table(out, index.quarantine, found)
    shards_of: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    with closing(MediaReader(_NO_LIMITS)) as reader:
        for position, entry in enumerate(index.shards):
            rows: list[dict[str, Any]] = []
            num_problems = len(found.problems)
            for clip in _checked_shard(out, entry, index, reader, found):
                shards_of["key", clip.record.key].append(entry.name)
                for row in clip.record.rows:
                    shards_of["sample", row.sample_id].append(entry.name)
                rows += [row | {"shard": position} for row in clip.sample_rows()]
            is_whole = len(found.problems) == num_problems
            if is_whole and samples is not None and rows != _rows_of_shard(samples, position):
                found.problems.append(f"{entry.name}: {index.samples.name} says otherwise")
    found.problems += [
        f"{names[-1]}: {what} {name!r} is there twice, first in {names[0]}"
        for (what, name), names in shards_of.items()
        if len(names) > 1
    ]
    return found


def require_whole(verified: Verified, where: str) -> None:
    """End what looked at a folder of shards if anything is wrong with them.

    Args:
        verified: what `verify_shards` found.
        where: the folder, as messages name it.

    Raises:
        UserError: there are problems; the message lists them.
    """
    if verified.problems:
        lines = "\n".join(f"  {problem}" for problem in verified.problems)
        raise UserError(
            f"{where} is not what its index says, {len(verified.problems)} problems:\n{lines}\n"
            "Remove tars that the index does not name, and run the same `vxp-data shard` again: it "
            "checks every shard, and writes only those that are missing or broken."
        )


def _table(out: Folder, entry: TableEntry, found: Verified) -> pa.Table | None:
    try:
        data = out.read_bytes(entry.name)
    except OSError as error:
        found.problems.append(f"{entry.name}: {error}")
        return None
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        found.problems.append(f"{entry.name}: its SHA-256 is not the index's")
        return None
    table = pq.read_table(io.BytesIO(data))
    if table.num_rows != entry.num_rows:
        found.problems.append(f"{entry.name}: {table.num_rows} rows, not {entry.num_rows}")
    return table


def _rows_of_shard(samples: pa.Table, position: int) -> list[dict[str, Any]]:
    mine: list[dict[str, Any]] = samples.filter(pc.equal(samples["shard"], position)).to_pylist()
    return mine


def _checked_shard(
    out: Folder, entry: ShardEntry, index: ShardIndex, reader: MediaReader, found: Verified
) -> Iterator[ShardClip]:
    """Return a shard's clips, as far as they can be read; note what is wrong."""
    found.num_shards += 1
    num_clips = num_samples = 0
    try:
        with out.open(entry.name) as file:
            sha256 = stream_sha256(file)
            found.num_bytes += file.tell()
            if sha256 != entry.sha256:
                found.problems.append(f"{entry.name}: its SHA-256 is not the index's")
            file.seek(0)
            for clip in read_clips(file):
                num_clips += 1
                num_samples += len(clip.record.rows)
                problem = (
                    _record_problem(clip.record, entry, index)
                    or _plan_problem(clip.record)
                    or _payload_problem(file, clip, reader)
                )
                if problem:
                    found.problems.append(f"{entry.name}: key {clip.record.key!r}: {problem}")
                yield clip
    except (OSError, ValueError) as error:
        found.problems.append(f"{entry.name}: {error}")
        return
    if (num_clips, num_samples) != (entry.num_clips, entry.num_samples):
        found.problems.append(
            f"{entry.name}: {num_clips} clips and {num_samples} rows; the index says "
            f"{entry.num_clips} and {entry.num_samples}"
        )
    found.num_clips += num_clips
    found.num_samples += num_samples


def _record_problem(record: ShardRecord, entry: ShardEntry, index: ShardIndex) -> str:
    """Compare a record with its key, its shard and the index; '' where they agree."""
    if not record.rows:
        return "it has no rows"
    if isinstance(record, ClipRecord):
        problem = _clip_problem(record, index, index.sampling)
    else:
        problem = _mixed_problem(record, index)
    if not problem and record.kind != entry.kind:
        problem = "its kind is not what the index says"
    return problem or _conversation_problem(record)


def _mixed_problem(record: MixedRecord, index: ShardIndex) -> str:
    """Compare the record of several media with its clips and the index; '' where they agree."""
    for what, own, wanted in (
        ("key", record.key, mixed_key([clip.key for clip in record.clips])),
        ("format", record.format_version, index.format_version),
        ("sampling", record.sampling, index.sampling),
        ("provenance", record.provenance, index.provenance),
    ):
        if own != wanted:
            return f"its {what} is not what the rest of the record or the index says"
    rules = rules_of({"clips": [_facts(clip) for clip in record.clips]}, _rule(record.sampling))
    for number, (clip, rule) in enumerate(zip(record.clips, rules, strict=True)):
        if clip.rows:
            return f"clip {number} has {len(clip.rows)} rows of its own"
        if problem := _clip_problem(clip, index, stored_rule(rule)):
            return f"clip {number}: {problem}"
    return ""


def _clip_problem(record: ClipRecord, index: ShardIndex, sampling: str) -> str:
    """Compare a clip with its key and the index; '' where they agree."""
    keys = {
        clip_key(
            record.kind,
            media_id=record.media.media_id,
            clip_start_s=record.clip_start_s,
            clip_end_s=end_s,
            sample_id=record.rows[0].sample_id if record.rows else "",
        )
        for end_s in (record.clip_end_s, math.inf)
    }
    payload = Payload.NONE.value if record.kind == Modality.TEXT else index.payload
    for what, own, wanted in (
        ("key", record.key in keys, True),
        ("payload", record.payload.kind, payload),
        ("format", record.format_version, index.format_version),
        ("sampling", record.sampling, sampling),
        ("provenance", record.provenance, index.provenance),
    ):
        if own != wanted:
            return f"its {what} is not what the rest of the record or the index says"
    return ""


def _conversation_problem(record: ShardRecord) -> str:
    """Hold the media that conversations show against the clips; '' where they agree."""
    kinds = [clip.kind for clip in record.media_clips]
    for row in record.rows:
        turns = conversation_from_json(row.conversation)
        shown = [part.type for turn in turns for part in turn.parts if part.type != "text"]
        if turns and shown != kinds:
            return f"sample {row.sample_id!r}: its conversation shows {shown}, its clip is {kinds}"
    return ""


def _plan_problem(record: ShardRecord) -> str:
    """Draw every stored plan again from the stored rule and timeline; '' where they agree."""
    for medium, clip in enumerate(record.media_clips):
        facts, rule = _facts(clip), _rule(clip.sampling)
        version = selection_version(clip.format_version)
        for place, row in enumerate(record.rows):
            plans = record.plans_of(place)[medium]
            again = [
                (p.epoch, p.policy, p.fps, p.frame_index_F.tolist(), p.time_s_F.tolist())
                for p in draw_medium_plans(
                    facts, rule, len(plans), sample_id=row.sample_id, selection_version=version
                )
            ]
            stored = [(p.epoch, p.policy, p.fps, p.frame_index, p.time_s) for p in plans]
            if again != stored:
                return f"sample {row.sample_id!r}: the plan is not the one that its rule gives"
    return ""


def _facts(clip: ClipRecord) -> dict[str, Any]:
    """Return what plans are drawn from, as `frame_plans` takes it."""
    is_whole = clip.clip_end_s >= clip.media.duration_s
    return {
        "modality": clip.kind,
        "timeline": clip.media.timeline,
        "duration_s": clip.media.duration_s,
        "fps": clip.media.fps,
        "clip_start_s": clip.clip_start_s,
        "clip_end_s": math.inf if is_whole else clip.clip_end_s,
    }


def _rule(stored: str) -> SamplingRule:
    return SamplingRule.from_dict(json.loads(stored))


def _payload_problem(file: BinaryIO, clip: ShardClip, reader: MediaReader) -> str:
    """Open all payloads; say what is wrong with the first that is, or nothing ('')."""
    if not clip.payloads:
        return ""
    for medium, (about, payload) in enumerate(
        zip(clip.record.media_clips, clip.payloads, strict=True)
    ):
        if about.payload.kind == Payload.FRAMES:
            planned = {
                index
                for place in range(len(clip.record.rows))
                for plan in clip.record.plans_of(place)[medium]
                for index in plan.frame_index
            }
            problem = _frames_problem(read_bytes(file, payload), about.payload, planned)
        else:
            problem = _file_problem(file, payload, about, reader)
        if problem:
            return problem
    return ""


def _file_problem(file: BinaryIO, payload: Member, clip: ClipRecord, reader: MediaReader) -> str:
    file.seek(payload.offset)
    reading = HashingReader(file)
    with tempfile.NamedTemporaryFile(prefix="vxp-verify-") as scratch:
        left_bytes = payload.num_bytes
        while left_bytes:
            scratch.write(reading.read(min(left_bytes, CHUNK_BYTES)))
            left_bytes -= min(left_bytes, CHUNK_BYTES)
        scratch.flush()
        if reading.sha256 != clip.payload.sha256:
            return "the payload's SHA-256 is not its record's"
        is_image = clip.kind == Modality.IMAGE
        try:
            media = reader.probe(scratch.name, is_image=is_image).value.media
        except MediaError as error:
            return f"the payload does not open: {error}"
    # An animated image has one frame, whatever a video row about the same file made of it.
    for what in ("media_id", "num_bytes", *(() if is_image else ("num_frames", "duration_s"))):
        if getattr(media, what) != getattr(clip.media, what):
            return f"the payload's {what} is not its record's"
    return ""


def _frames_problem(data: bytes, payload: PayloadRecord, wanted: set[int]) -> str:
    if hashlib.sha256(data).hexdigest() != payload.sha256:
        return "the payload's SHA-256 is not its record's"
    try:
        images = unpack_frames(data)
    except ValueError as error:
        return str(error)
    if odd := sorted(set(images) ^ wanted):
        return f"frames {odd[:5]} are planned and not there, or there and not planned"
    shape = (payload.height_px, payload.width_px, 3)
    if any(image.shape != shape for image in images.values()):
        return f"an image is not of {payload.width_px} x {payload.height_px} pixels"
    if len(images) != payload.num_frames:
        return f"{len(images)} images; its record says {payload.num_frames}"
    return ""
