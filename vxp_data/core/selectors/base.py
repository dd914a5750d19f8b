"""What a selector sees and gives, and the one way in to it.

Shapes: N candidate rows, C clips that they are about, D embedding width.

A measure looks at one video; a selector sees all candidates of a subset at once. It gives a finite
score a row, larger = taken earlier. Share, count and budget cut that order, ties by `sample_id`, so
that more to keep never drops what less to keep has.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from vxp_data.core.similarity import NORM_TOLERANCE
from vxp_data.errors import UserError
from vxp_data.registry import SELECTORS

Need = Literal["means", "frame_statistics", "text", "scores"]
"""What is read for a selector beside scores and durations: the clips' mean embeddings; what
happens between their frames; the rows' words; a file of scores that the user gives."""

BLOCK_ROWS: Final = 1 << 13
"""Clips that are widened to float32 at once, 42 MB of them at 1,280 dimensions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """The rows of one subset that are left after filters and duplicates, and their clips.

    What nobody knows of a clip or a row is NaN, but for redundancy and duration. `select` puts rows
    in the order of their ids and clips in that of their names before a selector sees them.
    """

    sample_id_N: NDArray[np.object_]
    """Unique."""
    clip_N: NDArray[np.int64]
    """Index of each row's clip; every clip is of one row or more."""
    dataset_N: NDArray[np.object_]
    needs_time_N: NDArray[np.float64]
    """1 where a question of the row needs time (`core.question_words`), 0 where none does."""
    outside_N: NDArray[np.float64]
    """What the user's file of scores says, larger = keep."""
    clip_name_C: NDArray[np.object_]
    """Unique; follows from the content of the file and the part of it, not from its path. A row of
    several media has a clip of its own, all of them together."""
    redundancy_C: NDArray[np.float64]
    """By the run's measure, higher = more redundant; finite."""
    duration_s_C: NDArray[np.float64]
    change_C: NDArray[np.float64]
    """Mean change from one frame to the next, see `core.frame_statistics`."""
    effective_frames_C: NDArray[np.float64]
    mean_CD: NDArray[np.float16]
    """Mean embeddings, unit rows; of width 0 for a selector that does not need them. May lie in a
    file."""
    seed: int = 0

    def __post_init__(self) -> None:
        for suffix in "NC":
            sizes = {f.name: len(getattr(self, f.name)) for f in fields(self) if _is(f, suffix)}
            if len(set(sizes.values())) > 1:
                raise ValueError(f"columns of candidates must have the same length, got {sizes}")

    def __len__(self) -> int:
        return len(self.sample_id_N)

    @property
    def num_clips(self) -> int:
        """C."""
        return len(self.clip_name_C)

    def of_rows(self, value_C: NDArray[Any]) -> NDArray[Any]:
        """Return for each row what its clip has."""
        return value_C[self.clip_N]


def _is(field: Any, suffix: str) -> bool:
    return str(field.name).removesuffix("D").endswith(f"_{suffix}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """One way to choose rows by looking at all of them."""

    name: str
    """Its name in registry.SELECTORS."""
    version: int
    """Counts up with every change of the order that it gives."""
    needs: frozenset[Need]
    of: Literal["clips", "rows"]
    """'clips': one score a clip, so that its rows are taken together."""
    score: Callable[[Candidates], NDArray[np.float64]]
    """float64 [C] or [N], finite, larger = taken earlier."""

    @property
    def measure(self) -> str:
        """What decisions are said to be made by."""
        return f"select:{self.name}@{self.version}"


def load_selector(name: str) -> Selector:
    """Return the selector of a name.

    Raises:
        UserError: there is none.
    """
    selector: Selector = SELECTORS.load(name)
    return selector


def select(selector: Selector, candidates: Candidates) -> NDArray[np.float64]:
    """Score candidates; the order in which they come changes nothing.

    Args:
        selector: by what.
        candidates: rows of one subset.

    Returns:
        score_N: float64, finite, in the order of the candidates.

    Raises:
        ValueError: ids or names are not unique, or means are not of unit norm.
        UserError: the selector needs scores that there are none of, or gives something else than
            one finite number a clip or row.
    """
    row_N, ordered = canonical(candidates)
    if "scores" in selector.needs and not np.isfinite(ordered.outside_N).all():
        raise UserError(
            f"selector {selector.name!r} goes by a score of yours for each row, and "
            f"{int((~np.isfinite(ordered.outside_N)).sum())} of {len(ordered)} rows have none. "
            "Give `vxp-data decide RUN --scores FILE`."
        )
    if "means" in selector.needs:
        _check_means(ordered.mean_CD)
    score = selector.score(ordered) if len(ordered) else np.zeros(0)
    num = ordered.num_clips if selector.of == "clips" else len(ordered)
    if _told(score) != f"({num},) of float64, all finite":
        raise UserError(
            f"selector {selector.name!r}: gave {_told(score)}, wanted {num} finite numbers of "
            f"float64, one a {'clip' if selector.of == 'clips' else 'row'}. Whoever wrote it must "
            "mend that; until then choose another."
        )
    score_N = np.empty(len(ordered))
    score_N[row_N] = ordered.of_rows(score) if selector.of == "clips" else score
    return score_N + 0.0  # -0.0 becomes 0.0: the two are equal, and are written alike


def canonical(candidates: Candidates) -> tuple[NDArray[np.intp], Candidates]:
    """Put rows in the order of their ids, and clips in the order of their names.

    Returns:
        row_N: where each row of the result was; and the result, which shares memory with what was
        given where that was in order.

    Raises:
        ValueError: ids or names are not unique.
    """
    row_N = _order(candidates.sample_id_N, "sample ids")
    at_C = _order(candidates.clip_name_C, "names of clips")
    changes: dict[str, Any] = {}
    if (np.diff(at_C) != 1).any():
        place_C = np.empty_like(at_C)
        place_C[at_C] = np.arange(len(at_C))
        changes = {f.name: getattr(candidates, f.name)[at_C] for f in fields(candidates)
                   if _is(f, "C")}  # fmt: skip
        changes["clip_N"] = place_C[candidates.clip_N]
    if (np.diff(row_N) != 1).any():
        own = {f.name: getattr(candidates, f.name) for f in fields(candidates) if _is(f, "N")}
        changes |= {name: value[row_N] for name, value in (own | changes).items() if name in own}
    return row_N, replace(candidates, **changes)


def _order(name_M: NDArray[np.object_], what: str) -> NDArray[np.intp]:
    names: Sequence[str] = name_M.tolist()
    order = sorted(range(len(names)), key=names.__getitem__)
    for first, second in itertools.pairwise(order):
        if names[first] == names[second]:
            raise ValueError(f"{what} must be unique; {names[first]!r} is there twice")
    return np.array(order, dtype=np.intp)


def _check_means(mean_CD: NDArray[np.float16]) -> None:
    """Refuse rows that are neither unit vectors nor 0: their products would be no cosines."""
    for start in range(0, len(mean_CD), BLOCK_ROWS):
        block_BD = mean_CD[start : start + BLOCK_ROWS].astype(np.float32)
        norm_B = np.sqrt(np.einsum("bd,bd->b", block_BD, block_BD))
        bad_B = ~(np.abs(norm_B - 1) <= NORM_TOLERANCE) & ~(norm_B == 0)
        if bad_B.any():
            bad = int(bad_B.argmax())
            raise ValueError(f"mean {start + bad} has norm {norm_B[bad]:.4g}, not 1")


def _told(score: Any) -> str:
    if not isinstance(score, np.ndarray):
        return f"a {type(score).__name__}"
    finite = score.dtype.kind in "fiu" and bool(np.isfinite(score).all())
    shape = ", ".join(map(str, score.shape)) + ("," if score.ndim == 1 else "")
    return f"({shape}) of {score.dtype}, {'all' if finite else 'not all'} finite"


def digest(selector: Selector, candidates: Candidates) -> str:
    """Name by a SHA-256 all that a selection follows from; the order of rows changes nothing.

    Two selections of the same digest are the same, on every machine.
    """
    _, ordered = canonical(candidates)
    found = hashlib.sha256(f"{selector.measure}\0{ordered.seed}\0".encode())
    optional = {
        "mean_CD": "means", "change_C": "frame_statistics", "needs_time_N": "text",
        "outside_N": "scores",
    }  # fmt: skip
    for field in fields(ordered):
        if field.name == "seed" or optional.get(field.name, "") not in ("", *selector.needs):
            continue
        value = getattr(ordered, field.name)
        found.update(f"{field.name}\0{value.shape}\0".encode())
        if value.dtype == np.object_:
            for text in value.tolist():
                found.update(text.encode("utf-8", "surrogatepass") + b"\0")
        else:
            for start in range(0, len(value), BLOCK_ROWS):
                block = value[start : start + BLOCK_ROWS]
                found.update(block.astype(value.dtype.newbyteorder("<")).tobytes())
    return found.hexdigest()
