"""`vxp-data export`: the kept rows in the layouts that other trainers read."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from vxp_data.conversation import Role, Turn, conversation_from_json
from vxp_data.errors import UserError, unknown_name
from vxp_data.manifests.base import ManifestFormat, ManifestRow, is_given
from vxp_data.manifests.conversation_shapes import TURN_COLUMNS
from vxp_data.manifests.formats import written_format
from vxp_data.manifests.row_columns import original_place, with_columns
from vxp_data.manifests.row_media import find_media
from vxp_data.manifests.row_values import ALL_CLIP_COLUMNS, CLIP_COLUMNS, ID_COLUMNS
from vxp_data.media_markers import MARKER, MARKERS, marked_text
from vxp_data.pipeline.run_dir.directory import RunDirectory
from vxp_data.pipeline.run_dir.samples import dataset_from_facts
from vxp_data.pipeline.shard.frame_plans import draw_plans, media_of
from vxp_data.pipeline.shard.kept_rows import kept_rows
from vxp_data.pipeline.shard.trained_turns import LeftOut, trained_turns
from vxp_data.registry import MANIFEST_FORMATS
from vxp_data.settings.prune import PruneConfig
from vxp_data.storage.local import whole_file

_LLAVA_MARKERS: Final = dict.fromkeys(MARKERS, "<image>")
"""LLaVA writes `<image>` for videos too."""
_LLAVA_NAMES: Final = {
    Role.SYSTEM: "system", Role.USER: "human", Role.ASSISTANT: "gpt", Role.TOOL: "observation",
}  # fmt: skip
_REWRITTEN: Final = frozenset((*TURN_COLUMNS, *CLIP_COLUMNS))
"""Columns that the export writes itself, whatever a row was read from."""
_PLAN_SCHEMA: Final = pa.schema(
    [
        ("sample_id", pa.string()), ("dataset", pa.string()), ("task", pa.string()),
        ("modality", pa.string()), ("media_id", pa.string()), ("media_uri", pa.string()),
        ("clip_start_s", pa.float64()), ("clip_end_s", pa.float64()), ("score", pa.float64()),
        ("turns", pa.large_string()), ("annotation", pa.large_binary()),
        ("medium", pa.int32()), ("epoch", pa.int32()), ("fps", pa.float64()),
        ("frame_index", pa.list_(pa.int64())), ("time_s", pa.list_(pa.float64())),
    ]
)  # fmt: skip

_OF_MEDIUM: Final = ("modality", "media_id", "media_uri", "clip_start_s", "clip_end_s")
"""Columns of that schema that are a medium's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written."""

    num_rows: int
    left_out: Mapping[LeftOut, int]
    """What no trainer of this layout could use: how many of each."""
    num_marked: int
    """Rows whose words hold `<video>` or `<image>` where no medium is."""


def export_rows(
    run: RunDirectory, record: Mapping[str, Any], config: PruneConfig, layout: str, out: Path
) -> Exported:
    """Write the kept rows of a finished run.

    Args:
        run: a finished run.
        record: its run.json.
        config: for the sampling rule and the number of epochs, with 'parquet'.
        layout: 'llava': a JSON array of `{id, video | image, conversations}`, with lists of paths
            where a row has several. 'ms-swift': a line `{messages, videos | images}` a row. Both
            with the row's own id and other columns, as many markers as media, and what can be
            trained on of each conversation. 'parquet': a row for each row, medium and stored
            epoch, with its plan; once, without one, for a text-only row. Media are named by
            absolute paths; a row about a part of its video has `clip_start_s` or `clip_end_s`, as
            in the manifests that we read.
        out: the file.

    Raises:
        UserError: an unknown layout, the run's kept rows are not those that it decided, or the file
            cannot be written.
    """
    writers: dict[str, Callable[[], Exported]] = {
        "llava": lambda: _write_llava(out, _Rows(run, record)),
        "ms-swift": lambda: _write_ms_swift(out, _Rows(run, record)),
        "parquet": lambda: _write_parquet(out, kept_rows(run), config),
    }
    if layout not in writers:
        raise unknown_name("export format", layout, writers)
    return writers[layout]()


class _Rows:
    """The kept rows that can be trained on, and the count of what cannot."""

    def __init__(self, run: RunDirectory, record: Mapping[str, Any]) -> None:
        self.left_out: Counter[LeftOut] = Counter()
        self.num_rows = 0
        self.num_marked = 0
        self._run = run
        names = zip(record["datasets"], record["decided"]["outputs"], strict=True)
        self._columns = {
            facts["name"]: dataset_from_facts(facts).columns for facts in record["datasets"]
        }
        self._own = {facts["name"]: self._read(facts["format"], file) for facts, file in names}

    def __iter__(self) -> Iterator[tuple[dict[str, Any], list[Turn], dict[str, Any]]]:
        """Return (row of `kept_rows`, turns, the row's own other columns).

        Raises:
            UserError: the run's file of kept rows has other rows.
        """
        for batch in kept_rows(self._run).to_batches(max_chunksize=1024):
            for row in batch.to_pylist():
                own = next(self._own[row["dataset"]], None)
                if own is None:
                    raise UserError(
                        f"{self._run.root}: the kept rows of {row['dataset']!r} are fewer than "
                        f"were decided. Write them again: vxp-data decide {self._run.root}"
                    )
                turns = trained_turns(conversation_from_json(row["turns"]), self.left_out)
                if turns:
                    self.num_rows += 1
                    self.num_marked += any(MARKER.search(turn.text) for turn in turns)
                    yield row, turns, _others(own, row, self._columns[row["dataset"]])

    def exported(self) -> Exported:
        """Return what was written; to be called at the end."""
        return Exported(num_rows=self.num_rows, left_out=self.left_out, num_marked=self.num_marked)

    def _read(self, format_name: str, file: str) -> Iterator[ManifestRow]:
        manifest: ManifestFormat = MANIFEST_FORMATS.load(written_format(format_name))()
        return manifest.rows(self._run.root.file(file))


def _others(own: ManifestRow, row: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """Return a row's columns but those that are rewritten; with an id, if it has none."""
    fields = _fields(own)
    rewritten = _REWRITTEN | _read_columns(fields, columns)
    others = {name: value for name, value in fields.items() if name not in rewritten}
    if not any(is_given(others.get(name)) for name in ID_COLUMNS):
        others = {"id": row["sample_id"].removeprefix(f"{row['dataset']}/")} | others
    return others


def _read_columns(fields: Mapping[str, Any], columns: Mapping[str, str]) -> set[str]:
    """Return the columns from which a row's media, and its part of them, were read."""
    view = with_columns(fields, columns)
    media = find_media(view)
    places = [place for one in media for place in (one.place, *one.also)]
    read = {str(original_place(place, fields, columns)[0]) for place in places}
    return read | set(ALL_CLIP_COLUMNS) if media else read


def _fields(own: ManifestRow) -> dict[str, Any]:
    """Return a row's columns as JSON has them: Parquet's bytes and times are text there."""
    try:
        fields = json.loads(own.annotation)
    except ValueError:  # CSV, or another format of its own
        fields = None
    return fields if isinstance(fields, dict) else dict(own.fields)


def _media(row: dict[str, Any]) -> dict[str, list[str]]:
    """Return the paths of a row's videos and of its images, each in order; the first kind first."""
    paths: dict[str, list[str]] = {}
    for medium in media_of(row):
        paths.setdefault(medium["modality"], []).append(medium["media_uri"])
    return paths


def _part(row: dict[str, Any]) -> dict[str, float]:
    """Return the limits of the part of its video that a row is about; nothing for the whole."""
    limits = {"clip_start_s": 0.0, "clip_end_s": math.inf}
    return {name: row[name] for name, whole in limits.items() if row[name] != whole}


def _json(value: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # half a character, which JSON can only name by its number
        return json.dumps(value).encode()


def _write_llava(out: Path, rows: _Rows) -> Exported:
    with whole_file(out) as beside, beside.open("wb") as file:
        for row, turns, others in rows:
            paths = _media(row)
            media = {kind: own if len(own) > 1 else own[0] for kind, own in paths.items()}
            # Of both kinds, the markers say which comes when.
            markers = MARKERS if len(paths) > 1 else _LLAVA_MARKERS
            said = [
                {"from": _LLAVA_NAMES[turn.role], "value": marked_text(turn, markers)}
                for turn in turns
            ]
            file.write(b",\n" if rows.num_rows > 1 else b"[\n")
            file.write(_json(others | media | _part(row) | {"conversations": said}))
        file.write(b"\n]\n" if rows.num_rows else b"[]\n")
    return rows.exported()


def _write_ms_swift(out: Path, rows: _Rows) -> Exported:
    with whole_file(out) as beside, beside.open("wb") as file:
        for row, turns, others in rows:
            said = [{"role": turn.role.value, "content": marked_text(turn)} for turn in turns]
            media = {f"{kind}s": paths for kind, paths in _media(row).items()}
            file.write(_json(others | {"messages": said} | media | _part(row)) + b"\n")
    return rows.exported()


def _write_parquet(out: Path, table: pa.Table, config: PruneConfig) -> Exported:
    num_rows = 0
    with (
        whole_file(out) as beside,
        pq.ParquetWriter(beside, _PLAN_SCHEMA, compression="zstd") as file,
    ):
        for batch in table.to_batches(max_chunksize=1024):
            rows = [
                {name: row.get(name) for name in _PLAN_SCHEMA.names} | plan
                for row in batch.to_pylist()
                for plan in _plans(row, config)
            ]
            file.write_table(pa.Table.from_pylist(rows, _PLAN_SCHEMA))
            num_rows += len(rows)
    return Exported(num_rows=num_rows, left_out={}, num_marked=0)


def _plans(row: dict[str, Any], config: PruneConfig) -> list[dict[str, Any]]:
    """Return a table row for each medium and epoch; one without a plan for a text-only row."""
    plans = draw_plans(row, config.sampling, config.shard.num_epochs)
    nothing: dict[str, Any] = {
        "medium": None, "epoch": None, "fps": None, "frame_index": [], "time_s": [],
    }  # fmt: skip
    return [
        {name: medium[name] for name in _OF_MEDIUM}
        | {
            "medium": number,
            "epoch": plan.epoch,
            "fps": plan.fps,
            "frame_index": plan.frame_index_F,
            "time_s": plan.time_s_F,
        }
        for number, (medium, own) in enumerate(zip(media_of(row), plans, strict=True))
        for plan in own
    ] or [nothing]
