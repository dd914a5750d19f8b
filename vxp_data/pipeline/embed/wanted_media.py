"""The media files that samples name, with the clips that are wanted of them, as columns.

Ten million files are held so: no Python object for any of them.

Shapes: N files, C clips of all files, R rows of a table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vxp_data.pipeline.run_dir.directory import RunDirectory, read_batches
from vxp_data.pipeline.run_dir.row_clips import named_clips
from vxp_data.records import Modality
from vxp_data.schemas import CLIP_KEY, SAMPLE_CLIP_KEY
from vxp_data.storage.file_versions import file_versions

Versions = Callable[[Sequence[str]], Mapping[str, str]]
"""Takes URIs, ascending, and gives the version of each; see `file_versions`."""

_FILES_ASKED: Final = 200_000
"""Whose versions are asked for at a time."""
ROWS_HELD: Final = 1 << 24
"""Rows of samples, of 100 bytes or so, that are held before those of one clip are made one."""
_CLIP_SCHEMA: Final = pa.schema(
    [
        ("uri", pa.large_string()),
        *((name, pa.float64()) for name in CLIP_KEY[1:]),
        ("is_video", pa.bool_()),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WantedMedia:
    """Files by URI, ascending, and the clips of each by start and end; both are numbered so."""

    uri: pa.LargeStringArray
    """[N], each once."""
    file_version: pa.LargeStringArray
    """[N], as it is now; '' where it is not there."""
    num_bytes_N: NDArray[np.int64]
    """0 where unknown: what is known of a file's cost before it is opened."""
    is_image_N: NDArray[np.bool_]
    first_clip: NDArray[np.int64]
    """[N + 1]: file n has the clips [first_clip[n], first_clip[n + 1])."""
    start_s_C: NDArray[np.float64]
    end_s_C: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.num_bytes_N)

    @property
    def num_clips(self) -> int:
        """Count the clips of all files."""
        return len(self.start_s_C)

    def current_clips(self, rows: pa.Table, *, encoder: str, sampler: str) -> NDArray[np.int64]:
        """Find the clips of which rows hold what would be made of the files as they are now.

        Args:
            rows: CURRENT_COLUMNS. What does not depend on their number takes seconds with ten
                million files: give many at a time.
            encoder: fingerprint of the embeddings.
            sampler: fingerprint of their frame sampling.

        Returns:
            clip_R: the clip's number; -1 where it is not wanted, of a file that has changed since,
            or made otherwise.
        """
        clip_R = np.full(len(rows), -1, dtype=np.int64)
        made_so = pc.and_(pc.equal(rows["encoder"], encoder), pc.equal(rows["sampler"], sampler))
        made_so_M = np.flatnonzero(made_so.to_numpy())
        if not len(self) or not len(made_so_M):
            return clip_R
        made = rows.select(["uri", *CLIP_KEY[1:], "file_version"])
        if len(made_so_M) < len(rows):
            made = made.take(pa.array(made_so_M))
        file = pc.index_in(made["uri"].cast(pa.large_string()), value_set=self.uri)
        version = self.file_version.take(file.combine_chunks())
        is_same = pc.equal(version, made["file_version"].cast(pa.large_string()).combine_chunks())
        same_S = np.flatnonzero(pc.fill_null(is_same, False).to_numpy(zero_copy_only=False))
        file_S = pc.fill_null(file, -1).to_numpy()[same_S].astype(np.int64)
        start_s_S, end_s_S = (made[name].to_numpy()[same_S] for name in CLIP_KEY[1:])
        clip_R[made_so_M[same_S]] = self._clips(file_S, start_s_S, end_s_S)
        return clip_R

    def _clips(
        self,
        file_R: NDArray[np.int64],
        start_s_R: NDArray[np.float64],
        end_s_R: NDArray[np.float64],
    ) -> NDArray[np.int64]:
        """Find clips among those of their files by bisection, all at once; -1 where none is so."""
        low_R, high_R = self.first_clip[file_R].copy(), self.first_clip[file_R + 1] - 1
        while (is_open_R := low_R < high_R).any():
            middle_R = (low_R + high_R) // 2
            own_s_R = self.start_s_C[middle_R]
            is_before_R = (own_s_R < start_s_R) | (
                (own_s_R == start_s_R) & (self.end_s_C[middle_R] < end_s_R)
            )
            low_R = np.where(is_open_R & is_before_R, middle_R + 1, low_R)
            high_R = np.where(is_open_R & ~is_before_R, middle_R, high_R)
        is_it_R = (self.start_s_C[low_R] == start_s_R) & (self.end_s_C[low_R] == end_s_R)
        return np.where(is_it_R, low_R, -1)


def read_wanted_media(run: RunDirectory, versions: Versions = file_versions) -> WantedMedia:
    """List the files that usable samples name, with their versions: once in a run.

    Args:
        run: with samples.parquet.
        versions: says how files are now.

    Raises:
        UserError: an object store fails at every attempt.
    """
    columns = [*SAMPLE_CLIP_KEY, "clips", "modality", "reason"]
    batches = read_batches(run.samples, columns=columns)
    return wanted_media(_gathered(_usable_clips(batch) for batch in batches), versions)


def wanted_media(clips: pa.Table, versions: Versions = file_versions) -> WantedMedia:
    """Order clips by file, and look how the files are now.

    Args:
        clips: CLIP_KEY and whether the file `is_video`; a clip may come several times.
        versions: says how files are now.
    """
    clips = clips.select(_CLIP_SCHEMA.names).cast(_CLIP_SCHEMA)
    clips = clips.combine_chunks()  # step by step: two copies at a time, not three
    order = _order(clips)
    if order is not None:
        clips = clips.take(order)
        del order
        clips = _one_row_each(clips)
    first_N = np.flatnonzero(_differs(clips["uri"]))
    uri = _one_array(clips["uri"])
    if len(first_N) < len(uri):
        uri = uri.take(pa.array(first_N))
    is_video_C = clips["is_video"].to_numpy()
    is_image_N = ~np.logical_or.reduceat(is_video_C, first_N) if len(clips) else ~is_video_C
    start_s_C, end_s_C = (clips[name].to_numpy() for name in CLIP_KEY[1:])
    first_clip = np.append(first_N, len(clips))
    del clips
    file_version, num_bytes_N = _versions_of(uri, versions)
    return WantedMedia(
        uri=uri,
        file_version=file_version,
        num_bytes_N=num_bytes_N,
        is_image_N=is_image_N,
        first_clip=first_clip,
        start_s_C=start_s_C,
        end_s_C=end_s_C,
    )


def _usable_clips(samples: pa.RecordBatch) -> pa.Table:
    """List the clips that usable rows name (_CLIP_SCHEMA)."""
    named = named_clips(pa.Table.from_batches([samples]))
    is_usable = pc.and_(pc.not_equal(named["media_uri"], ""), pc.equal(named["reason"], ""))
    usable = named.filter(is_usable)
    columns = [usable[name] for name in SAMPLE_CLIP_KEY]
    columns.append(pc.equal(usable["modality"], Modality.VIDEO.value))
    return pa.table(columns, names=_CLIP_SCHEMA.names).cast(_CLIP_SCHEMA)


def _gathered(tables: Iterable[pa.Table]) -> pa.Table:
    """Put rows together; those of one clip are made one where they are very many."""
    waiting: list[pa.Table] = []
    num_rows, most = 0, ROWS_HELD
    for table in tables:
        waiting.append(table)
        num_rows += len(table)
        if num_rows >= most:
            waiting = [_each_once(waiting)]
            num_rows = len(waiting[0])
            most = max(ROWS_HELD, 2 * num_rows)
    return pa.concat_tables([_CLIP_SCHEMA.empty_table(), *waiting])


def _each_once(tables: Sequence[pa.Table]) -> pa.Table:
    groups = pa.concat_tables(tables).group_by(list(CLIP_KEY), use_threads=False)
    found = groups.aggregate([("is_video", "max")])
    return found.rename_columns([*CLIP_KEY, "is_video"]).cast(_CLIP_SCHEMA)


def _order(clips: pa.Table) -> pa.Array | None:
    """Return the order of clips by URI, start and end; None where they are in it, each once."""
    uri_C = clips["uri"]
    if len(clips) < 2 or pc.all(pc.less(uri_C[:-1], uri_C[1:])).as_py():
        return None
    columns = [clips[name].to_numpy() for name in CLIP_KEY[1:]]
    if all((column == column[0]).all() for column in columns):
        return pc.sort_indices(_one_array(uri_C))  # by one column it is much faster
    return pc.sort_indices(clips, [(name, "ascending") for name in CLIP_KEY])


def _one_row_each(clips: pa.Table) -> pa.Table:
    """Make the rows of a clip one, which come one after the other: a video if one of them is."""
    is_new_C = np.logical_or.reduce([_differs(clips[name]) for name in CLIP_KEY])
    if is_new_C.all():
        return clips
    first = np.flatnonzero(is_new_C)
    is_video = np.logical_or.reduceat(clips["is_video"].to_numpy(), first)
    clips = clips.take(pa.array(first)).drop_columns(["is_video"])
    return clips.append_column("is_video", pa.array(is_video)).combine_chunks()


def _differs(column: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Whether each value is another than the one before it, or the first."""
    values = _one_array(column)
    differs = np.ones(len(values), dtype=np.bool_)
    if len(values) > 1:
        differs[1:] = pc.not_equal(values[1:], values[:-1]).to_numpy(zero_copy_only=False)
    return differs


def _versions_of(
    uri: pa.LargeStringArray, versions: Versions
) -> tuple[pa.LargeStringArray, NDArray[np.int64]]:
    """Return the version of each file, and its size."""
    texts: list[pa.Array] = []
    num_bytes_N = np.zeros(len(uri), dtype=np.int64)
    for first in range(0, len(uri), _FILES_ASKED):
        uris = uri.slice(first, _FILES_ASKED).to_pylist()
        found = versions(uris)
        texts.append(pa.array([found[uri] for uri in uris], pa.large_string()))
        sizes = pc.list_element(pc.split_pattern(texts[-1], "-", max_splits=1), 0)
        known = pc.if_else(pc.equal(sizes, ""), "0", sizes)
        num_bytes_N[first : first + len(uris)] = known.cast(pa.int64()).to_numpy()
    return pa.concat_arrays(texts) if texts else pa.array([], pa.large_string()), num_bytes_N


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    """Return a column in one piece, which one of one piece is already."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
