"""Look for drawn needles in drawn haystacks, with the toy model: heat map and selector's survival.

    python pipelines/bench/toy.py --out runs/toy                       # trains it: minutes
    python pipelines/bench/niah_toy.py --model runs/toy/video/model

Needles are what the toy knows: discs of one colour over grey noise, as one frame, or as a clip of
eight frames as it was trained on; asked in its own words. Haystacks are frames of grey noise, and
drawn scenes. First the clip alone, which must be answered as toy.py says; then haystacks up to
64 times as long as what the toy has ever seen, each also without its needle.

Survival: the share of the needle's visual tokens among those that the selector keeps at 50 % and
10 %, beside the rate, which drawing lots would give. The toy was trained with every token kept
(`selector.drop_max: 0`): nothing ever taught its selector to choose. Further selectors are drawn
anew. The record: manifests/runs/niah-toy.json.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import records
import torch
from numpy.typing import NDArray
from toy_clips import FPS, GROUND, LETTERS, NUM_FRAMES, QUESTIONS, SIDE_PX, ToyClip, draw_clips

from vxp_model.eval.adapters.base import FrameSource
from vxp_model.eval.adapters.ours import OurModel, weights_identity
from vxp_model.eval.benchmarks.base import Prompt
from vxp_model.eval.needle.grid import Grid
from vxp_model.eval.needle.haystack import DrawnFilm, Haystack
from vxp_model.eval.needle.heatmap import draw_heat_map, heat_table
from vxp_model.eval.needle.needles import Needle, NeedleQuestion
from vxp_model.eval.needle.results import NeedleResult, or_null
from vxp_model.eval.needle.run import run_needle
from vxp_model.eval.needle.survival import SelectorScores, SurvivalAt, run_survival
from vxp_model.inference.answers import WatchedVideo
from vxp_model.inference.placement import Placement
from vxp_model.inference.session import LongVideoModel
from vxp_model.modules.selector import QueryAwareSelector

LIBRARIES: Final = ("vxp", "torch", "transformers", "numpy", "pillow")
LENGTHS: Final = (8, 16, 32, 64, 128, 256, 512)
DEPTHS: Final = (0.0, 0.25, 0.5, 0.75, 1.0)
SURVIVAL_LENGTHS: Final = (64, 512)
RATES: Final = (0.5, 0.1)
CLIP_SEED: Final = 7
"""Of needles: neither the clips that were trained on nor those held out."""
_MOVING: Final = ("colour", "direction", "count")
SHOWS: Final = (
    "That trials, placement, scoring and the measure of survival work end to end on a model whose "
    "ability on the clip alone is known, and how far one reaches that was trained on eight frames. "
    "Nothing about a model trained on long video, about real films, or about a trained selector: "
    "this one never had to choose. Selectors that were drawn and know nothing keep of a needle, "
    "on average, the rate at 50 %, and far more than the rate at 10 %: what differs from all else "
    "is first or last by any measure. So that survival above the rate is no evidence of a selector "
    "that heeds the question; it has to be above that of drawn ones, or of another question."
)


def main(argv: Sequence[str] | None = None) -> None:
    """Ask, measure survival, write the record."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--model", type=Path, required=True, help="what toy.py has trained")
    parser.add_argument("--draws", type=int, default=12, help="needles of each kind, and films")
    parser.add_argument("--selectors", type=int, default=10, help="drawn anew, for survival")
    parser.add_argument("--out", type=Path, default=Path("runs/niah-toy"), help="made anew")
    parser.add_argument("--note", default="", help="goes into the record: what else ran, say")
    args = parser.parse_args(argv)
    shutil.rmtree(args.out, ignore_errors=True)
    torch.set_num_threads(1)  # the model is tiny: threads would wait for each other
    began_s, clips = time.monotonic(), moving_clips(args.draws)
    where = Placement.of(device="cpu")
    weights = weights_identity(args.model, where)
    model = LongVideoModel.load(args.model, device=where.device, attention=where.attention)
    asked = OurModel(model, weights=weights)
    found = {
        "clip_alone": clip_alone(asked, clips, args.out),
        "haystacks": {name: haystack(asked, clips, args.out, name) for name in HAYSTACKS},
        "offsets": offsets(asked, clips, args.out),
        "survival": survival(model, weights, clips, args.selectors, args.out),
        "draws": args.draws,
        "models": 1,
        "chance": 0.25,
        "shows": SHOWS,
        "note": args.note,
        "minutes": round((time.monotonic() - began_s) / 60, 1),
    }
    told = [sys.argv[0], *(argv or sys.argv[1:])]
    print(f"record: {records.write_record('niah-toy', found, argv=told, libraries=LIBRARIES)}")


class NoiseFilm:
    """Grey noise as the ground of the toy's clips, at their frame rate."""

    def __init__(self, seed: int) -> None:
        self.identity: Mapping[str, Any] = {"film": "noise", "seed": seed}
        self.width_px = self.height_px = SIDE_PX
        self.num_bytes = 0
        self._seed = seed

    def time_s(self, length: int) -> tuple[float, ...]:
        """Return when so many frames are shown, seconds."""
        return tuple(frame / FPS for frame in range(length))

    def frames(
        self, length: int, *, frame_px: int | None
    ) -> Generator[NDArray[np.uint8], None, None]:
        """Draw so many frames, of the only size there is."""
        assert frame_px in (None, SIDE_PX)
        for frame in range(length):
            rng = np.random.default_rng([self._seed, frame])
            yield rng.integers(*GROUND, (SIDE_PX, SIDE_PX, 1)).repeat(3, -1).astype(np.uint8)


HAYSTACKS: Final[Mapping[str, Callable[[int], Haystack]]] = {
    "noise": NoiseFilm,
    "scenes": lambda seed: DrawnFilm(seed=seed, side_px=SIDE_PX),
}


def moving_clips(count: int) -> list[ToyClip]:
    """Draw clips of moving discs: three of five that the toy draws are."""
    clips = draw_clips(-(-count * 5 // 3), seed=CLIP_SEED)
    return [clip for clip in clips if "colour" in clip.answers][:count]


def image_needle(clip: ToyClip) -> Needle:
    """Return one frame of a clip, asked for what one frame tells."""
    return Needle(
        name="image",
        images=(clip.frames_THWC[NUM_FRAMES // 2],),
        questions=(question(clip, "colour"), question(clip, "count")),
    )


def clip_needle(clip: ToyClip) -> Needle:
    """Return all of a clip, asked as the toy was in training."""
    return Needle(
        name="clip",
        images=tuple(clip.frames_THWC),
        questions=tuple(question(clip, key) for key in _MOVING),
    )


def question(clip: ToyClip, key: str) -> NeedleQuestion:
    """Return a question of the toy, its options in the order that it has learned."""
    text, options = QUESTIONS[key]
    gold = LETTERS[options.index(clip.answers[key])]
    return NeedleQuestion(name=key, text=text, options=options, gold=gold)


def own_words(asked: NeedleQuestion) -> Prompt:
    """Return a question as it stood in training."""
    options = [f"({a}) {b}" for a, b in zip(LETTERS, asked.options, strict=True)]
    return Prompt(text=" ".join([asked.text, *options]), max_new_tokens=4, choices=tuple(LETTERS))


def grid(clips: Sequence[ToyClip], **changes: Any) -> Grid:
    """Return a grid with a drawing of both needles for each clip."""
    settings: dict[str, Any] = {
        "lengths": LENGTHS,
        "depths": DEPTHS,
        "haystack": NoiseFilm,
        "needles": lambda seed: [image_needle(clips[seed]), clip_needle(clips[seed])],
        "seeds": range(len(clips)),
        "prompt": own_words,
    }
    return Grid(**(settings | changes))


def clip_alone(asked: OurModel, clips: Sequence[ToyClip], out: Path) -> dict[str, float]:
    """Return the shares right where the clip is all there is: its frames replace the haystack's."""
    alone = grid(
        clips,
        lengths=(NUM_FRAMES,),
        depths=(0.0,),
        mode="replace",
        needles=lambda seed: [clip_needle(clips[seed])],
    )
    result = run(asked, alone, out / "alone")
    return rounded(result.by("question", "generation"))


def haystack(asked: OurModel, clips: Sequence[ToyClip], out: Path, name: str) -> dict[str, Any]:
    """Ask at all lengths and depths in one kind of haystack; write the heat maps."""
    result = run(asked, grid(clips, haystack=HAYSTACKS[name]), out / name)
    found: dict[str, Any] = {}
    for kind in ("image", "clip"):
        for key in _MOVING if kind == "clip" else ("colour", "count"):
            own = NeedleResult(
                outcomes=tuple(
                    one
                    for one in result.outcomes
                    if (one.row["needle"], one.row["question"]) == (kind, key)
                )
            )
            found[f"{kind}, {key}"] = figures(own, out, f"{name}, {kind}, {key}")
    return found


def figures(result: NeedleResult, out: Path, name: str) -> dict[str, Any]:
    """Return one heat map as numbers; write it, and print it."""
    summary, cells = result.summary("generation"), result.cells("generation")
    draw_heat_map(cells, out / f"{name.replace(', ', '-')}.png", title=f"toy model: {name}")
    print(f"\n{name}; without needle {summary.control:.3f}\n{heat_table(cells)}", flush=True)
    return {
        "trials": summary.num_trials,
        "grid_mean": round(cells.grid_mean, 4),
        "interval_95": summary.interval_95 and [round(limit, 4) for limit in summary.interval_95],
        "without_needle": round(summary.control, 4),
        "above_that": round(summary.above_control, 4),
        "unparsed": result.num_unparsed,
        "lengths": cells.lengths,
        "depths": cells.depths,
        "cells": [[or_null(round(value, 3)) for value in row] for row in cells.mean_DL.tolist()],
    }


def offsets(asked: OurModel, clips: Sequence[ToyClip], out: Path) -> dict[str, Any]:
    """Return the shares right by the needle's place in its group of four frames."""
    moved = grid(
        clips, lengths=(16, 32), offsets=(0, 1, 2, 3), has_control=False,
        needles=lambda seed: [image_needle(clips[seed])],
    )  # fmt: skip
    result = run(asked, moved, out / "offsets")
    return {"lengths": [16, 32], "image": rounded(result.by("in_group", "generation"))}


def survival(
    model: LongVideoModel,
    weights: Mapping[str, Any],
    clips: Sequence[ToyClip],
    num_selectors: int,
    out: Path,
) -> dict[str, Any]:
    """Measure the toy's own selector, then others drawn as it was."""
    own = model.model.selector
    scores = RememberedScores(model, weights)
    trials = grid(
        clips,
        lengths=SURVIVAL_LENGTHS,
        has_control=False,
        needles=lambda seed: [
            replace(one, questions=one.questions[:1])
            for one in (image_needle(clips[seed]), clip_needle(clips[seed]))
        ],
    )
    found: dict[str, Any] = {
        "lengths": SURVIVAL_LENGTHS,
        "own_selector": [at(one) for one in run_survival(scores, trials, RATES, out, _quiet)],
    }
    drawn: list[list[SurvivalAt]] = []
    try:
        for seed in range(num_selectors):
            torch.manual_seed(seed)
            model.model.selector = QueryAwareSelector(model.model.config.text_width, own.config)
            scores.identity = {**weights, "selector": seed}
            drawn.append(run_survival(scores, trials, RATES, out, _quiet))
    finally:
        model.model.selector = own
    found["drawn_selectors"] = [
        over_selectors([one[number] for one in drawn]) for number in range(len(RATES))
    ]
    for part in ("own_selector", "drawn_selectors"):
        for row in found[part]:
            print(part, row, flush=True)
    return found


class RememberedScores(SelectorScores):
    """Encodes each video once for all selectors: they see the same tokens."""

    def __init__(self, model: LongVideoModel, identity: Mapping[str, Any]) -> None:
        super().__init__(model, identity)
        self._seen: dict[str, WatchedVideo] = {}

    def watch(self, source: FrameSource) -> WatchedVideo:
        """Encode a video, or remember it."""
        if source.plan.video not in self._seen:
            self._seen[source.plan.video] = super().watch(source)
        return self._seen[source.plan.video]


def at(one: SurvivalAt) -> dict[str, Any]:
    """Return what one selector keeps at one rate."""
    return {
        "rate": one.rate,
        "kept": round(one.kept, 4),
        "survival": round(one.survival, 4),
        "interval_95_over_draws": one.interval_95 and [round(x, 4) for x in one.interval_95],
        "all_lost": round(one.untouched, 4),
        "trials": one.num_trials,
    }


def over_selectors(found: Sequence[SurvivalAt]) -> dict[str, Any]:
    """Return what selectors that were drawn keep at one rate: mean, its 95 % interval, range."""
    survivals = [one.survival for one in found]
    rng = np.random.default_rng(0)
    means = rng.choice(survivals, (4000, len(survivals))).mean(1)
    return {
        "rate": found[0].rate,
        "selectors": len(found),
        "survival": round(statistics.fmean(survivals), 4),
        "interval_95_over_selectors": np.quantile(means, (0.025, 0.975)).round(4).tolist(),
        "least": round(min(survivals), 4),
        "most": round(max(survivals), 4),
    }


def run(asked: OurModel, trials: Grid, out: Path) -> NeedleResult:
    """Ask every trial; the toy knows letters alone, which it writes."""
    return run_needle(asked, trials, out, _quiet, options_likelihood=False, forced=False)


def rounded(shares: Mapping[str, float]) -> dict[str, float]:
    """Return shares with four digits."""
    return {name: round(share, 4) for name, share in shares.items()}


def _quiet(line: str) -> None:
    del line


if __name__ == "__main__":
    main()
