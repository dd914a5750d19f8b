"""What selectors see of a run's rows: read from its files, put into the order that they promise.

Shapes: N samples of a run, M of them candidates, C clips of these, L videos of those, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vxp_data.core.question_words import row_needs_time
from vxp_data.core.selectors.base import Candidates, Need
from vxp_data.core.selectors.grid import unit_rows
from vxp_data.pipeline.curate.filter_rows import frame_statistics, read_turns
from vxp_data.pipeline.curate.placed_rows import PlacedRows, place_rows
from vxp_data.pipeline.run_dir.clip_facts import ClipFacts, few_texts, read_clip_facts
from vxp_data.pipeline.run_dir.clip_means import clip_means
from vxp_data.pipeline.run_dir.directory import RunDirectory, read_table
from vxp_data.schemas import CLIP_KEY

_MEDIA: Final = (*CLIP_KEY, "media_id", "file_version", "reason")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRows:
    """A run's rows, and what has been found out about them."""

    run: RunDirectory
    samples: pa.Table
    """sample_id, dataset, task, modality, reason, SAMPLE_CLIP_KEY and `clips`, where duplicates
    were linked to another clip with that clip's key."""
    facts: ClipFacts
    """With scores of the measure by which `intra` goes."""
    redundancy_N: NDArray[np.float64]
    """These scores, higher = more redundant."""
    outside_N: NDArray[np.float64]
    """The user's scores; NaN where there are none."""
    encoder: str
    sampler: str


class CandidateReader:
    """Reads candidates of a run; what several subsets need is read once.

    Args:
        rows: of the run.
        needs: of all selectors that will ask.
        seed: see `Candidates`.
    """

    def __init__(self, rows: RunRows, needs: frozenset[Need], seed: int) -> None:
        self._rows, self._needs, self._seed = rows, needs, seed
        self._media = read_table(rows.run.media, columns=list(_MEDIA))
        self._placed: PlacedRows = place_rows(rows.samples, self._media)
        self._several = self._videos_of_several()
        columns = (self._media[name].to_pylist() for name in ("media_id", *CLIP_KEY[1:]))
        self._names = [f"{i}#t={start!r},{end!r}" for i, start, end in zip(*columns, strict=True)]
        self._dataset_N = few_texts(rows.samples["dataset"])
        num_rows = len(rows.samples)
        self._change_C = self._effective_N = np.full(num_rows, np.nan)
        if "frame_statistics" in needs:
            self._change_C = frame_statistics(rows.run).change_C
            facts = read_clip_facts(rows.run, rows.samples, "effective_frames")
            self._effective_N = facts.score_N
        self._needs_time_N = np.full(num_rows, np.nan)
        if "text" in needs:
            said = read_turns(rows.run, np.ones(num_rows, dtype=np.bool_))
            self._needs_time_N = np.array([row_needs_time(turns) for turns in said])

    def read(self, row_M: NDArray[np.intp], *, with_means: bool) -> tuple[NDArray[Any], Candidates]:
        """Read some rows: usable videos.

        Args:
            row_M: their indices among all.
            with_means: whether the clips' means are needed.

        Returns:
            The rows in the order of the candidates, which is that of their ids; and these.
        """
        rows = self._rows
        ids = rows.samples["sample_id"].take(pa.array(row_M)).to_pylist()
        by_id = sorted(range(len(ids)), key=ids.__getitem__)
        row_M = row_M[by_id]
        names = [self._name(row) for row in row_M.tolist()]
        place = {name: number for number, name in enumerate(sorted(set(names)))}
        clip_M = np.array([place[name] for name in names], dtype=np.int64)
        first_C = np.zeros(len(place), dtype=np.int64)
        first_C[clip_M[::-1]] = row_M[::-1]
        videos = [self._videos(row) for row in first_C.tolist()]
        means_CD = self._means(videos) if with_means else np.zeros((len(videos), 0), np.float16)
        return row_M, Candidates(
            sample_id_N=np.array([ids[i] for i in by_id], dtype=object),
            clip_N=clip_M,
            dataset_N=self._dataset_N[row_M],
            needs_time_N=self._needs_time_N[row_M],
            outside_N=rows.outside_N[row_M],
            clip_name_C=np.array(sorted(place), dtype=object),
            redundancy_C=rows.redundancy_N[first_C],
            duration_s_C=rows.facts.duration_s_N[first_C],
            change_C=self._change(videos),
            effective_frames_C=self._effective_N[first_C],
            mean_CD=means_CD,
            seed=self._seed,
        )

    def _videos_of_several(self) -> dict[int, tuple[int, ...]]:
        clips, found = self._placed.clips, dict[int, tuple[int, ...]]()
        triples = zip(clips.row_E, self._placed.clip_E, clips.is_video_E, strict=True)
        for row, clip, is_video in triples:
            if is_video:
                found[int(row)] = (*found.get(int(row), ()), int(clip))
        return found

    def _videos(self, row: int) -> tuple[int, ...]:
        """Return where the videos of a row are in media.parquet."""
        return self._several.get(row) or (int(self._placed.index_N[row]),)

    def _name(self, row: int) -> str:
        return " ".join(self._names[index] for index in self._videos(row))

    def _change(self, videos: Sequence[tuple[int, ...]]) -> NDArray[np.float64]:
        if "frame_statistics" not in self._needs:
            return np.full(len(videos), np.nan)
        return np.array([self._change_C[list(own)].mean() for own in videos], dtype=np.float64)

    def _means(self, videos: Sequence[tuple[int, ...]]) -> NDArray[np.float16]:
        """Return the mean of each clip; of several videos that of their means."""
        index_L, of_E = np.unique([i for own in videos for i in own], return_inverse=True)
        if all(len(own) == 1 for own in videos) and len(index_L) == len(videos):
            return self._stored(np.array([own[0] for own in videos], dtype=np.int64))
        mean_LD = self._stored(index_L.astype(np.int64))
        end_C = np.cumsum([len(own) for own in videos])
        mean_CD = np.empty((len(videos), mean_LD.shape[1]), dtype=np.float16)
        for clip, own_E in enumerate(np.split(of_E, end_C[:-1])):
            mean_CD[clip] = mean_LD[own_E[0]]
            if len(own_E) > 1:
                mean_CD[clip] = unit_rows(mean_LD[own_E].astype(np.float64).mean(axis=0)[None])[0]
        return mean_CD

    def _stored(self, index_L: NDArray[np.int64]) -> NDArray[np.float16]:
        rows, clips = self._rows, self._media.take(pa.array(index_L))
        mean_LD = np.zeros((len(index_L), 0), dtype=np.float16)
        batches = clip_means(rows.run, clips, encoder=rows.encoder, sampler=rows.sampler)
        for batch in batches:
            if not mean_LD.shape[1]:
                mean_LD = np.zeros((len(index_L), batch.mean_BD.shape[1]), dtype=np.float16)
            mean_LD[batch.index_B] = batch.mean_BD
        return mean_LD


def by_task(task_N: NDArray[np.object_], row_M: NDArray[np.intp]) -> dict[str, NDArray[np.intp]]:
    """Return the rows of each task, by its name."""
    tasks = sorted(set(task_N[row_M].tolist()))
    return {str(task): row_M[task_N[row_M] == task] for task in tasks}
