"""Rules for what is a duplicate, tried on clips whose truth is known.

Every pair of clips is compared once; then any thresholds are a matter of comparing columns.

Shapes: C clips, P pairs of them, F frames of one, D embedding width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any, Final

import numpy as np
from duplicate_clips import ORIGINAL, EmbeddedClip
from duplicate_copies import alike
from numpy.typing import NDArray

from vxp_data.core.duplicate_thresholds import PairThresholds
from vxp_data.core.duplicates import (
    FULL_EVIDENCE,
    MIN_COVERED,
    NOISE,
    ClipTimes,
    clip_mean,
    match_clips,
    own_likeness,
    window_means,
)
from vxp_data.core.similarity import MEAN_PAIRWISE, cross_cosines

_PART_IS_WHOLE: Final = 0.98
_SHARE_IMAGES: Final = (
    frozenset(("slides_agenda_mp4", "slides_still_mp4")),
    frozenset(("cuts_fast_mp4", "cuts_mixed_mp4")),
)
"""Drawn videos that have images in common: a pair of these is neither right nor wrong."""

AGREEMENTS: Final = (0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
CANDIDATES: Final = (0.8, 0.85, 0.9, 0.93, 0.95)
LEAST_AGREEMENT: Final = 0.2
"""Pairs that agree less are not kept; no rule calls them the same."""
CONTRASTS: Final = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
WRONG_COSTS: Final = 10
"""So many copies missed weigh as much as one wrong: two different videos that are called the same,
or the two halves of one."""
NEARLY: Final = 0.97

Frames = tuple[NDArray[np.floating[Any]], ClipTimes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fits:
    """How pairs of clips fit, those whose means are not too far apart."""

    first_P: NDArray[np.int64]
    second_P: NDArray[np.int64]
    cosine_P: NDArray[np.float64]
    """The greatest of means and means of parts."""
    agreement_P: NDArray[np.float64]
    num_matched_P: NDArray[np.float64]
    covered_P: NDArray[np.float64]
    own_P: NDArray[np.float64]
    """As the rule has it: of the frames that are compared."""
    own_whole_P: NDArray[np.float64]
    """Of all frames of the more static clip, as the rule had it before."""

    def same(self, rule: PairThresholds, *, whole: bool = False) -> NDArray[np.bool_]:
        """Return which pairs are the same by a rule, as `Match.is_same` says."""
        own_P = self.own_whole_P if whole else self.own_P
        allowed_P = rule.contrast * np.minimum(1.0, self.num_matched_P / FULL_EVIDENCE)
        same_P: NDArray[np.bool_] = (
            (self.cosine_P >= rule.candidate_cosine)
            & (self.covered_P >= MIN_COVERED)
            & (self.agreement_P >= rule.agreement)
            & (1.0 - self.agreement_P <= allowed_P * (1.0 - own_P) + NOISE)
        )
        return same_P


def fit_all(clips: Sequence[Frames], pairs: Sequence[tuple[int, int]], least: float) -> Fits:
    """Compare pairs of clips whose means, or those of parts, have at least some cosine."""
    mean_CD = np.stack([clip_mean(emb) for emb, _ in clips]).astype(np.float16).astype(np.float32)
    cosine_CC = mean_CD @ mean_CD.T
    for index, (emb_FD, _) in enumerate(clips):
        part_WD = window_means(emb_FD)
        part_WD = part_WD[part_WD @ mean_CD[index] < _PART_IS_WHOLE]
        if len(part_WD):
            near_C = (part_WD @ mean_CD.T).max(axis=0)
            cosine_CC[index] = np.maximum(cosine_CC[index], near_C)
    cosine_CC = np.maximum(cosine_CC, cosine_CC.T)
    own_C = [MEAN_PAIRWISE.compute(emb[None])[0] for emb, _ in clips]
    rows = []
    for first, second in pairs:
        if cosine_CC[first, second] < least:
            continue
        (one, one_times), (other, other_times) = clips[first], clips[second]
        match = match_clips(cross_cosines(one, other), one_times, other_times)
        covered = max(match.first_covered, match.second_covered)
        if covered < MIN_COVERED or match.agreement < LEAST_AGREEMENT:
            continue
        rows.append(
            (
                cosine_CC[first, second],
                match.agreement,
                match.num_matched,
                covered,
                own_likeness(match, one, other, one_times, other_times),
                max(own_C[first], own_C[second]),
                first,
                second,
            )
        )
    columns = np.array(rows).reshape(-1, 8).T
    return Fits(
        first_P=columns[6].astype(np.int64),
        second_P=columns[7].astype(np.int64),
        cosine_P=columns[0],
        agreement_P=columns[1],
        num_matched_P=columns[2],
        covered_P=columns[3],
        own_P=columns[4],
        own_whole_P=columns[5],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a rule finds among some videos."""

    copies: frozenset[tuple[int, int]]
    """A copy and its original, by their numbers."""
    wrong: frozenset[str]
    """Pairs of different videos."""
    halves: frozenset[str]
    """Videos whose halves are called the same."""

    def united(self, other: Found) -> Found:
        """Return what either finds."""
        return Found(
            copies=self.copies | other.copies,
            wrong=self.wrong | other.wrong,
            halves=self.halves | other.halves,
        )

    def score(self) -> int:
        """Weigh what is found against what is wrong."""
        return len(self.copies) - WRONG_COSTS * (len(self.wrong) + len(self.halves))


class Corpus:
    """Clips, their vectors by one encoder or in one space, and what is true of them.

    Args:
        clips: of all videos and copies.
        vectors: float [F, D] of each.
        halves: of the videos; pairs of a video of each are not looked at.
        least: cosine of means below which pairs are not, either.
    """

    def __init__(
        self,
        clips: Sequence[EmbeddedClip],
        vectors: Sequence[NDArray[np.floating[Any]]],
        halves: Sequence[set[str]],
        least: float = min(CANDIDATES),
    ) -> None:
        self.clips = clips
        frames = [(emb, clip.times) for emb, clip in zip(vectors, clips, strict=True)]
        half_C = [clip.source in halves[0] for clip in clips]
        count = range(len(clips))
        pairs = [(i, j) for i in count for j in count[i + 1 :] if half_C[i] == half_C[j]]
        self.fits = fit_all(frames, pairs, least)
        self._allowed = alike() | set(_SHARE_IMAGES)
        source = [clip.source for clip in clips]
        fitted = zip(self.fits.first_P.tolist(), self.fits.second_P.tolist(), strict=True)
        named = [(source[i], source[j]) for i, j in fitted]
        self.is_own_P = np.array([a == b for a, b in named])
        self.is_wrong_P = np.array([self.is_wrong(a, b) for a, b in named])
        self.source_P = np.array([" = ".join(sorted(pair)) for pair in named], dtype=object)
        originals = np.array([clip.copy == ORIGINAL for clip in clips])
        self.of_original_P = originals[self.fits.first_P] | originals[self.fits.second_P]
        self.halves, self.halved = self._halves(frames)

    def _halves(self, frames: Sequence[Frames]) -> tuple[Fits, list[str]]:
        """Compare the two halves of each video that was filmed: the same place, another moment."""
        parts: list[Frames] = []
        halved = []
        for (emb_FD, times), clip in zip(frames, self.clips, strict=True):
            half = len(emb_FD) // 2
            if clip.copy != ORIGINAL or clip.kind == "drawn" or half < 5:
                continue
            middle_s = float(times.time_s_F[half])
            rest_s = times.duration_s - middle_s
            first = ClipTimes(time_s_F=times.time_s_F[:half], duration_s=middle_s)
            second = ClipTimes(time_s_F=times.time_s_F[half:] - middle_s, duration_s=rest_s)
            parts += [(emb_FD[:half], first), (emb_FD[half:], second)]
            halved.append(clip.source)
        pairs = [(2 * i, 2 * i + 1) for i in range(len(halved))]
        return fit_all(parts, pairs, -1.0), halved

    def found(self, same_P: NDArray[np.bool_], halves: Sequence[str]) -> Found:
        """Return what it means that some pairs are the same."""
        own_P = same_P & self.is_own_P & self.of_original_P
        pairs = (self.fits.first_P[own_P].tolist(), self.fits.second_P[own_P].tolist())
        return Found(
            copies=frozenset(zip(*pairs, strict=True)),
            wrong=frozenset(self.source_P[same_P & self.is_wrong_P].tolist()),
            halves=frozenset(halves),
        )

    def is_wrong(self, first: str, second: str) -> bool:
        """Whether two videos do not show the same."""
        return first != second and frozenset((first, second)) not in self._allowed

    def halved_of(self, sources: set[str]) -> list[str]:
        """Return those of some videos whose halves are compared."""
        return [source for source in self.halved if source in sources]

    def within(self, sources: set[str]) -> NDArray[np.bool_]:
        """Return which pairs are of some videos alone."""
        is_in = np.array([clip.source in sources for clip in self.clips])
        within_P: NDArray[np.bool_] = is_in[self.fits.first_P] & is_in[self.fits.second_P]
        return within_P

    def halves_called_same(self, rule: PairThresholds, sources: set[str]) -> list[str]:
        """Return the videos whose two halves are called the same."""
        called = self.halves.first_P[self.halves.same(rule)] // 2
        return [self.halved[index] for index in called.tolist() if self.halved[index] in sources]


def choose(
    corpus: Corpus,
    sources: set[str],
    agreements: Sequence[float] = AGREEMENTS,
    candidates: Sequence[float] = CANDIDATES,
    *,
    whole: bool = False,
    beside: Found | None = None,
) -> PairThresholds:
    """Choose thresholds on some videos: nearly the most copies, with as few wrong as can be.

    A few dozen videos say little of millions. So of the thresholds that are NEARLY as good as the
    best, the strictest are taken: least contrast, then greatest agreement, then candidate cosine.

    Args:
        corpus: of one encoder.
        sources: the videos.
        agreements: to try.
        candidates: likewise.
        whole: see `Fits.same`.
        beside: what is found already by another encoder: counted is what both find together.
    """
    within_P = corpus.within(sources)
    score: dict[PairThresholds, int] = {}
    for agreement, candidate, contrast in product(agreements, candidates, CONTRASTS):
        rule = PairThresholds(agreement=agreement, candidate_cosine=candidate, contrast=contrast)
        same_P = corpus.fits.same(rule, whole=whole) & within_P
        found = corpus.found(same_P, corpus.halves_called_same(rule, sources))
        score[rule] = (found if beside is None else found.united(beside)).score()
    least = NEARLY * max(score.values())
    return min(
        (rule for rule in score if score[rule] >= least),
        key=lambda rule: (rule.contrast, -rule.agreement, -rule.candidate_cosine),
    )


def told(rule: PairThresholds) -> dict[str, float]:
    """Return thresholds as a record has them."""
    return asdict(rule)


def halves_of(clips: Sequence[EmbeddedClip], seed: int) -> tuple[set[str], set[str]]:
    """Split the videos in two, by kind; videos of a labelled pair stay together."""
    kind_of = {clip.source: clip.kind for clip in clips}
    group_of = {source: {source} for source in kind_of}
    for pair in sorted(map(sorted, alike() | set(_SHARE_IMAGES))):
        both = set().union(*(group_of[source] for source in pair))
        group_of |= dict.fromkeys(both, both)
    groups = sorted({tuple(sorted(group)) for group in group_of.values()})
    rng = np.random.default_rng(seed)
    halves: tuple[set[str], set[str]] = (set(), set())
    for kind in ("real", "labelled", "drawn"):
        own = [group for group in groups if kind_of[group[0]] == kind]
        drawn = rng.permutation(len(own)).tolist()
        for index in sorted(drawn, key=lambda index: -len(own[index])):  # as drawn, where as large
            mine = [sum(kind_of[source] == kind for source in half) for half in halves]
            halves[int(mine[1] < mine[0])].update(own[index])
    return halves
