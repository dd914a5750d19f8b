"""Small shard directories, written after the contract with tarfile and pyarrow alone."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from vxp_data.conversation import conversation_from_json
from vxp_data.core.sampling_plans import SamplingPlan, SamplingRule, draw_plan, image_plan
from vxp_data.core.timeline import pack_timeline
from vxp_data.decoders.probe import probe
from vxp_data.shard_format import (
    FILE_SUFFIX,
    FRAMES_SUFFIX,
    INDEX_NAME,
    QUARANTINE_NAME,
    SAMPLES_NAME,
    SHARD_FORMAT_VERSION,
    ClipRecord,
    MediaRecord,
    PayloadRecord,
    PlanRecord,
    ProvenanceRecord,
    RowRecord,
    clip_key,
    frame_name,
)
from vxp_data.shard_index import (
    SAMPLE_COLUMNS,
    ShardEntry,
    ShardIndex,
    TableEntry,
    word_counts,
)

PROVENANCE = ProvenanceRecord(run="r", encoder="e", sampler="s", vxp_version="0")
RULE = SamplingRule()
NO_MEDIA = MediaRecord(
    media_id="", uri="", num_bytes=0, container="", codec="", pixel_format="", width_px=0,
    height_px=0, fps=0.0, num_frames=0, duration_s=0.0, start_s=0.0, rotation=0, timeline="",
)  # fmt: skip
NO_PAYLOAD = PayloadRecord(
    kind="none", suffix="", num_bytes=0, sha256="", image_format="", width_px=0, height_px=0,
    num_frames=0, num_exact=0,
)  # fmt: skip


@dataclass
class Clip:
    """A record and its payload's bytes."""

    record: ClipRecord
    payload: bytes = b""


@dataclass
class Shards:
    """What was written."""

    folder: Path
    index: ShardIndex
    clips: list[Clip] = field(default_factory=list)

    @property
    def uri(self) -> str:
        return str(self.folder)

    @property
    def sample_ids(self) -> list[str]:
        return [row.sample_id for clip in self.clips for row in clip.record.rows]


def caption_row(sample_id: str) -> str:
    turns = [{"from": "human", "value": f"<video>\nWhat is {sample_id}?"},
             {"from": "gpt", "value": f"It is {sample_id}."}]  # fmt: skip
    return json.dumps({"id": sample_id, "conversations": turns})


def make_video(path: Path, num_frames: int = 50, *, seed: int = 0, fps: int = 10) -> Path:
    """Encode images that are told apart at a glance, at a rate that varies a little."""
    rng = np.random.default_rng(seed)
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream(
            "libx264", rate=fps, options={"crf": "10", "g": "12", "threads": "1"}
        )
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for i in range(num_frames):
            small = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)
            image = np.kron(small, np.ones((8, 8, 1), dtype=np.uint8))
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = i * 1000 // fps + (i % 3) * 7
            frame.time_base = Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def make_image(path: Path, *, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 255, (2, 3, 3), dtype=np.uint8)
    Image.fromarray(np.kron(small, np.ones((10, 10, 1), np.uint8))).save(path, format="png")
    return path


def _conversation(sample_id: str, kind: str) -> str:
    asked = f"What is {sample_id}?"
    shown = asked if kind == "text" else [{"type": kind}, {"type": "text", "text": asked}]
    turns = [{"role": "user", "content": shown},
             {"role": "assistant", "content": f"It is {sample_id}."}]  # fmt: skip
    return json.dumps(turns, separators=(",", ":"))


def _rows(
    ids: Sequence[str], plans: Sequence[Sequence[SamplingPlan]], kind: str
) -> list[RowRecord]:
    return [
        RowRecord(
            sample_id=sample_id, dataset="d", row=number, task="caption", decision="keep",
            reason="within_threshold", measure="mean_pairwise", has_score=True, score=0.5,
            has_threshold=True, threshold=0.6, annotation=caption_row(sample_id),
            conversation=_conversation(sample_id, kind),
            plans=[
                PlanRecord(
                    epoch=plan.epoch, policy=plan.policy, fps=float(plan.fps),
                    frame_index=plan.frame_index_F.tolist(), time_s=plan.time_s_F.tolist(),
                )
                for plan in own
            ],
        )
        for number, (sample_id, own) in enumerate(zip(ids, plans, strict=True))
    ]  # fmt: skip


def _record(key: str, kind: str, rows: list[RowRecord], **fields: Any) -> ClipRecord:
    values: dict[str, Any] = {
        "clip_start_s": 0.0, "clip_end_s": 0.0, "media": NO_MEDIA, "payload": NO_PAYLOAD,
    } | fields  # fmt: skip
    return ClipRecord(
        format_version=SHARD_FORMAT_VERSION,
        key=key,
        kind=kind,
        sampling=json.dumps(RULE.to_dict()),
        provenance=PROVENANCE,
        rows=rows,
        **values,
    )


def text_clip(sample_id: str) -> Clip:
    key = clip_key(
        "text", media_id="", clip_start_s=0.0, clip_end_s=float("inf"), sample_id=sample_id
    )
    return Clip(_record(key, "text", _rows([sample_id], [[]], "text")))


def media_clip(
    path: Path,
    ids: Sequence[str],
    *,
    payload: str = "video",
    num_epochs: int = 1,
    clip_s: tuple[float, float] = (0.0, float("inf")),
    rule: SamplingRule = RULE,
    is_image: bool = False,
    frames_NHWC: NDArray[np.uint8] | None = None,
) -> Clip:
    """Make the clip of a file; `frames_NHWC` are all its frames, for a frames payload."""
    found = probe(str(path), str(path), image=is_image)
    media, timeline = found.media, found.timeline
    plans = [
        [
            image_plan(rule, epoch=epoch)
            if is_image
            else draw_plan(
                rule, sample_id=sample_id, epoch=epoch, time_s_N=timeline.time_s_N,
                duration_s=media.duration_s, source_fps=media.fps,
                clip_start_s=clip_s[0], clip_end_s=clip_s[1],
            )
            for epoch in range(num_epochs)
        ]
        for sample_id in ids
    ]  # fmt: skip
    kind = "image" if is_image else "video"
    data, about = b"", NO_PAYLOAD
    if payload == "video":
        data = path.read_bytes()
        about = replace(NO_PAYLOAD, kind="video", suffix=FILE_SUFFIX[kind])
    elif payload == "frames":
        assert frames_NHWC is not None
        positions = sorted({int(i) for own in plans for plan in own for i in plan.frame_index_F})
        data = _frames_tar(frames_NHWC, positions)
        height_px, width_px = frames_NHWC.shape[1:3]
        about = replace(
            NO_PAYLOAD, kind="frames", suffix=FRAMES_SUFFIX, image_format="webp",
            width_px=width_px, height_px=height_px, num_frames=len(positions),
            num_exact=len(positions),
        )  # fmt: skip
    if data:
        sha256 = hashlib.sha256(data).hexdigest()
        about = replace(about, num_bytes=len(data), sha256=sha256)
    record = _record(
        clip_key(
            kind, media_id=media.media_id, clip_start_s=clip_s[0], clip_end_s=clip_s[1],
            sample_id="",
        ), kind, _rows(ids, plans, kind),
        clip_start_s=clip_s[0], clip_end_s=min(clip_s[1], media.duration_s),
        media=MediaRecord(
            media_id=media.media_id, uri=str(path), num_bytes=media.num_bytes,
            container=media.container, codec=media.codec, pixel_format=media.pixel_format,
            width_px=media.width_px, height_px=media.height_px, fps=media.fps,
            num_frames=media.num_frames, duration_s=media.duration_s, start_s=media.start_s,
            rotation=0, timeline=pack_timeline(timeline.pts_N, timeline.tick_s),
        ),
        payload=about,
    )  # fmt: skip
    return Clip(record, data)


def _frames_tar(frames_NHWC: NDArray[np.uint8], positions: Iterable[int]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for position in positions:
            image = io.BytesIO()
            Image.fromarray(frames_NHWC[position]).save(image, format="webp", lossless=True)
            info = tarfile.TarInfo(frame_name(position, "webp"))
            info.size = image.tell()
            image.seek(0)
            tar.addfile(info, image)
    return file.getvalue()


def told(clip: Clip, conversation: str | Sequence[dict[str, Any]], dataset: str = "d") -> Clip:
    """Let all rows of a clip say something else: messages, or what stands there instead."""
    text = conversation if isinstance(conversation, str) else json.dumps(conversation)
    rows = [replace(row, conversation=text, dataset=dataset) for row in clip.record.rows]
    return replace(clip, record=replace(clip.record, rows=rows))


def _facts(row: RowRecord, kind: str) -> dict[str, int]:
    """What the index says of a row; of a conversation that is none, that all is well."""
    num_media = int(kind != "text")
    try:
        return word_counts(conversation_from_json(row.conversation), num_media=num_media)
    except ValueError:
        counts = dict.fromkeys(("num_answers", "text_bytes", "answer_bytes"), 1)
        return counts | dict.fromkeys(("num_media", "num_markers"), num_media)


def write_shards(
    folder: Path, shards: Sequence[Sequence[Clip]], *, payload: str = "video"
) -> Shards:
    """Write a shard for each list of clips, then the index."""
    folder.mkdir(parents=True, exist_ok=True)
    entries, table = [], []
    flat = [clip for clips in shards for clip in clips]
    for number, clips in enumerate(shards):
        kind = clips[0].record.kind
        path = folder / f"{kind}-{number:05d}.tar"
        with tarfile.open(path, "w") as tar:
            for clip in clips:
                suffix = clip.record.payload.suffix
                members = {"json": clip.record.to_json()} | (
                    {suffix: clip.payload} if suffix else {}
                )
                for name in sorted(members):
                    info = tarfile.TarInfo(f"{clip.record.key}.{name}")
                    info.size = len(members[name])
                    tar.addfile(info, io.BytesIO(members[name]))
        with tarfile.open(path) as tar:
            at = {info.name: info for info in tar}
        for clip in clips:
            key, suffix = clip.record.key, clip.record.payload.suffix
            own, data = at[f"{key}.json"], at.get(f"{key}.{suffix}")
            table += [
                {
                    "shard": number, "key": key, "place": position, "sample_id": row.sample_id,
                    "task": row.task, "json_offset": own.offset_data, "json_bytes": own.size,
                    "payload_offset": data.offset_data if data else 0,
                    "payload_bytes": data.size if data else 0,
                    "num_frames": len(row.plans[0].frame_index) if row.plans else 0,
                    "dataset": row.dataset, **_facts(row, kind),
                }
                for position, row in enumerate(clip.record.rows)
            ]  # fmt: skip
        rows = [row for row in table if row["shard"] == number]
        entries.append(
            ShardEntry(
                name=path.name, kind=kind, num_clips=len(clips), num_samples=len(rows),
                num_frames=sum(row["num_frames"] for row in rows),
                num_bytes=path.stat().st_size, decode_cost=1.0,
                sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            )
        )  # fmt: skip
    schema = pa.schema([(name, pa.type_for_alias(t)) for name, t in SAMPLE_COLUMNS.items()])
    pq.write_table(pa.Table.from_pylist(table, schema), folder / SAMPLES_NAME)
    sha256 = hashlib.sha256((folder / SAMPLES_NAME).read_bytes()).hexdigest()
    index = ShardIndex(
        format_version=SHARD_FORMAT_VERSION, payload=payload,
        num_epochs=max(len(row.plans) for clip in flat for row in clip.record.rows) or 1,
        sampling=json.dumps(RULE.to_dict()), provenance=PROVENANCE,
        samples=TableEntry(name=SAMPLES_NAME, num_rows=len(table), sha256=sha256),
        quarantine=TableEntry(name=QUARANTINE_NAME, num_rows=0, sha256=""),
        quarantined_by_reason={}, shards=entries,
    )  # fmt: skip
    (folder / INDEX_NAME).write_bytes(index.to_json())
    return Shards(folder, index, flat)


def text_shards(folder: Path, num_samples: int, *, per_shard: int = 7, name: str = "t") -> Shards:
    """Write text-only samples: the cheapest to read."""
    clips = [text_clip(f"{name}/{i}") for i in range(num_samples)]
    cut = [clips[i : i + per_shard] for i in range(0, num_samples, per_shard)]
    return write_shards(folder, cut, payload="none")


def rewrite_index(shards: Shards, **changes: Any) -> None:
    """Change fields of index.json."""
    values = json.loads((shards.folder / INDEX_NAME).read_bytes()) | changes
    (shards.folder / INDEX_NAME).write_text(json.dumps(values))


def rewrite_samples(shards: Shards, sample_id: str, **columns: Any) -> None:
    """Let samples.parquet say something else of a row, as if it had been written so."""
    path = shards.folder / SAMPLES_NAME
    table = pq.read_table(path)
    rows = [row | columns if row["sample_id"] == sample_id else row for row in table.to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    rewrite_index(shards, samples={"name": SAMPLES_NAME, "num_rows": len(rows), "sha256": sha256})


def damage(shards: Shards, key: str, *, at: float = 0.5, member: str | None = None) -> None:
    """Flip a byte of a member in its tar; sizes and the index stay."""
    for path in shards.folder.glob("*.tar"):
        with tarfile.open(path) as tar:
            for info in tar:
                stem, _, suffix = info.name.partition(".")
                if stem == key and (suffix == member or (member is None and suffix != "json")):
                    data = bytearray(path.read_bytes())
                    data[info.offset_data + int(info.size * at)] ^= 0xFF
                    path.write_bytes(data)
                    return
    raise AssertionError(key)
