"""What does another encoder change? One ranking beside the other, on real clips.

    python pipelines/bench/encoders_compared.py VIDEOS [--annotations FILE]

Every clip of a folder is read with each encoder, 20 frames by each way of seeking. Compared are, by
measure: the rankings of two encoders; which half `--keep 0.5` keeps, of the clips, and of the rows
of annotations by their task subsets; how redundancy goes with duration; key frames and `auto`
against exact frames, also in CPU time; and the cosines of clips' means, those of the pairs that
tests/support/duplicate_pairs.tsv has labelled foremost. Intervals are over clips, by bootstrap.
The record: manifests/runs/encoders-compared.json.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import records
from encoder_clips import NUM_FRAMES, SEEKS, Clips, Seen, load_encoder, read_clips
from encoder_figures import (
    frame_cosines,
    kept,
    kept_by_subset,
    moved_most,
    nearest_in_time,
    pair_cosines,
    spearman,
    unit_mean,
    with_duration,
)
from numpy.typing import NDArray

from vxp_data.core.similarity import Measure, score_videos
from vxp_data.core.tasks import classify_conversation
from vxp_data.registry import MEASURES

ENCODERS: Final = ("efficientnet_lite0", "thumbnail")
PAIRS: Final = records.ROOT / "tests" / "support" / "duplicate_pairs.tsv"
LIBRARIES: Final = ("vxp", "av", "numpy", "onnxruntime")
MOVED: Final = 8
"""Clips that are named for having moved most."""

Scores = Mapping[str, NDArray[np.float64]]
"""By measure, [N]."""


def main(argv: Sequence[str] | None = None) -> None:
    """Read, compare, write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("videos", type=Path, help="a folder of clips")
    parser.add_argument("--annotations", type=Path, help="rows about them, as LLaVA has them")
    parser.add_argument("--repeats", type=int, default=2, help="of each reading, for CPU times")
    parser.add_argument("--out", type=Path, default=records.RUNS / "encoders-compared.json")
    options = parser.parse_args(argv)
    paths = sorted(path for path in options.videos.iterdir() if path.is_file())
    encoders = {name: load_encoder(name) for name in ENCODERS}
    clips = read_clips(paths, encoders, repeats=options.repeats)
    names = [path.name for path in paths]
    measures = [MEASURES.load(name) for name in MEASURES.names()]
    figures = compare(clips, names, measures)
    if options.annotations is not None:
        figures["rows"] = rows_that_change(options.annotations, clips, names, measures)
    words = ["pipelines/bench/encoders_compared.py", str(options.videos)]
    words += ["--annotations", options.annotations.name] if options.annotations else []
    path = records.write_record(
        options.out.stem, figures, argv=words, libraries=LIBRARIES, folder=options.out.parent
    )
    print(json.dumps({name: figures[name] for name in figures if name != "clips"}, indent=1))
    print(f"record: {path}")


def compare(clips: Clips, names: Sequence[str], measures: Sequence[Measure]) -> dict[str, Any]:
    """Compose all figures that need no annotations."""
    scores = {
        name: {seek: scores_of(seen, measures) for seek, seen in ways.items()}
        for name, ways in clips.items()
    }
    first, second = ENCODERS
    exact = {name: scores[name]["exact"] for name in ENCODERS}
    duration_s_N = np.array([seen.duration_s for seen in clips[first]["exact"]])
    return {
        "frames": NUM_FRAMES,
        "encoders": list(ENCODERS),
        "between_encoders": {
            measure.name: between(exact[first], exact[second], names, measure)
            for measure in measures
        },
        "moved_most": moved_most(
            exact[first]["mean_pairwise"], exact[second]["mean_pairwise"], names, count=MOVED
        ),
        "with_duration": {
            name: {
                measure.name: with_duration(own[measure.name], duration_s_N, names, measure)
                for measure in measures
            }
            for name, own in exact.items()
        },
        "ways_of_seeking": {
            name: {
                seek: against_exact(clips[name], scores[name], seek, names, measures)
                for seek in SEEKS
            }
            for name in ENCODERS
        },
        "cosines_of_means": {name: cosines(clips[name]["exact"], names) for name in ENCODERS},
        "clips": {
            name: {
                "duration_s": round(float(duration_s_N[index]), 3),
                **{
                    encoder: {key: round(float(own[key][index]), 4) for key in own}
                    for encoder, own in exact.items()
                },
            }
            for index, name in enumerate(names)
        },
    }


def scores_of(seen_N: Sequence[Seen], measures: Sequence[Measure]) -> Scores:
    """Score clips with every measure."""
    return score_videos([seen.emb_FD for seen in seen_N], measures)


def between(
    first: Scores, second: Scores, names: Sequence[str], measure: Measure
) -> dict[str, Any]:
    """Compare two rankings of clips by one measure, and what is kept of them."""
    first_N, second_N = first[measure.name], second[measure.name]
    differ_N = kept(first_N, names, measure) != kept(second_N, names, measure)
    return {
        **spearman(first_N, second_N),
        "change_side_at_keep_0.5": int(differ_N.sum()),
        "share_that_changes_side": round(float(differ_N.mean()), 3),
        "which": [name for name, differs in zip(names, differ_N, strict=True) if differs],
    }


def against_exact(
    ways: Mapping[Any, Sequence[Seen]],
    scores: Mapping[Any, Scores],
    seek: str,
    names: Sequence[str],
    measures: Sequence[Measure],
) -> dict[str, Any]:
    """Compare a way of seeking with exact frames: cost, frames, ranking, what is kept."""
    exact_N, other_N = ways["exact"], ways[seek]
    facts: dict[str, Any] = {
        "decode_cpu_s": round(sum(seen.decode_cpu_s for seen in other_N), 3),
        "embed_cpu_s": round(sum(seen.embed_cpu_s for seen in other_N), 3),
    }
    if seek == "exact":
        return facts
    cosines_N = [
        frame_cosines(exact.emb_FD, other.emb_FD, nearest_in_time(exact.time_s_F, other.time_s_F))
        for exact, other in zip(exact_N, other_N, strict=True)
    ]
    is_other_N = np.array([
        not np.array_equal(exact.time_s_F, other.time_s_F)
        for exact, other in zip(exact_N, other_N, strict=True)
    ])  # fmt: skip
    mean_N = np.array([own_F.mean() for own_F in cosines_N])
    return {
        **facts,
        "clips_with_other_frames": int(is_other_N.sum()),
        "frames_read": sum(len(seen.time_s_F) for seen in other_N),
        "frames_read_exact": sum(len(seen.time_s_F) for seen in exact_N),
        "frame_cosine_median_clip": round(float(np.median(mean_N)), 4),
        "frame_cosine_least_clip": round(float(mean_N.min()), 4),
        "frame_cosine_least_at": names[int(mean_N.argmin())],
        "measures": {
            measure.name: {
                **between(scores["exact"], scores[seek], names, measure),
                "mean_abs_difference": round(
                    float(
                        np.abs(scores["exact"][measure.name] - scores[seek][measure.name]).mean()
                    ),
                    4,
                ),
            }
            for measure in measures
        },
    }


def cosines(seen_N: Sequence[Seen], names: Sequence[str]) -> dict[str, Any]:
    """Return the cosines of clips' means; see `pair_cosines`."""
    with PAIRS.open(encoding="utf-8", newline="") as file:
        pairs = list(csv.DictReader(file, delimiter="\t"))
    return pair_cosines(np.stack([unit_mean(seen.emb_FD) for seen in seen_N]), names, pairs)


def rows_that_change(
    annotations: Path, clips: Clips, names: Sequence[str], measures: Sequence[Measure]
) -> dict[str, Any]:
    """Count the rows of annotations that change side between the encoders, each subset halved."""
    at = {name: index for index, name in enumerate(names)}
    rows = [
        row
        for row in json.loads(annotations.read_text(encoding="utf-8"))
        if Path(row["video"]).name in at
    ]
    clip_N = np.array([at[Path(row["video"]).name] for row in rows])
    ids = [row["id"] for row in rows]
    subset_N = np.array([subset_of(row) for row in rows])
    scores = [scores_of(clips[name]["exact"], measures) for name in ENCODERS]
    found = {}
    for measure in measures:
        keep_2N = [
            kept_by_subset(own[measure.name][clip_N], ids, subset_N, measure) for own in scores
        ]
        differ_N = keep_2N[0] != keep_2N[1]
        found[measure.name] = {"change_side": int(differ_N.sum()),
                               "share": round(float(differ_N.mean()), 3)}  # fmt: skip
    subsets = {str(name): int((subset_N == name).sum()) for name in np.unique(subset_N)}
    return {"rows": len(rows), "subsets": subsets, "by_measure": found}


def subset_of(row: Mapping[str, Any]) -> str:
    """Return the task of a row, as a run tells it from the words."""
    turns = [turn["value"] for turn in row["conversations"]]
    return str(classify_conversation(list(zip(turns[::2], turns[1::2], strict=False))).task)


if __name__ == "__main__":
    main()
