"""How much of a needle the selector keeps: no language model answers.

What is counted are the visual tokens of the groups of frames that hold a needle. A selector that
drew lots would keep of them what it keeps of everything: the rate itself. One with weights of no
meaning does not draw lots: a needle that differs from all else is first or last by any measure, so
that at a low rate it often stays. What the question does is told by another question, about a
needle that is not there.

Shape suffixes: M visual tokens of a video, G its groups of frames.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import torch
from torch import Tensor

from vxp_model.eval.adapters.base import FrameSource
from vxp_model.eval.benchmarks.base import Prompt
from vxp_model.eval.needle.grid import Grid, Trial
from vxp_model.eval.needle.results import drawn_interval
from vxp_model.eval.store import Appended, digest, read_lines
from vxp_model.inference.answers import WatchedVideo
from vxp_model.inference.asked import Asked
from vxp_model.inference.session import LongVideoModel
from vxp_model.modules.selector import TokenLayout, keep_within

Say = Callable[[str], None]
SURVIVAL_NAME: Final = "survival.jsonl"
_NO_LIMIT: Final = 1 << 60


class TokenScores(Protocol):
    """What tells how much each visual token of a video matters to a question."""

    identity: Mapping[str, Any]
    """What the key of a measurement holds of it; JSON."""

    def watch(self, source: FrameSource) -> Any:
        """Encode a video; what `scores` takes."""
        ...

    def scores(self, watched: Any, prompt: Prompt) -> Tensor:
        """Return scores_M: of the video's tokens in their order, higher = keep."""
        ...


class SelectorScores:
    """The scores of a model's own selector."""

    def __init__(self, model: LongVideoModel, identity: Mapping[str, Any]) -> None:
        """Hold the model; `identity` tells its weights from others'."""
        self.identity = identity
        self._model = model

    def watch(self, source: FrameSource) -> WatchedVideo:
        """Encode a video."""
        model, plan = self._model, source.plan
        pieces = source.pieces(
            frame_px=model.model.config.vision.image_px, piece_frames=model.piece_frames
        )
        return model.watch_frames(
            pieces, time_s_F=plan.time_s, duration_s=plan.duration_s, uri=plan.video
        )

    def scores(self, watched: WatchedVideo, prompt: Prompt) -> Tensor:
        """Return the scores of a video's tokens for a question."""
        asked = Asked(
            text=prompt.text,
            system=prompt.system,
            prime=prompt.reply_start,
            max_new_tokens=prompt.max_new_tokens,
        )
        num_visual = watched.tokens_GND.shape[0] * watched.tokens_GND.shape[1]
        # Scores are computed where something has to go, and do not depend on how much.
        selection = self._model.select(
            watched, asked, keep_ratio=max(1, num_visual - 1) / num_visual
        )
        if selection.scores_M is None:
            raise ValueError(f"{watched.uri}: {num_visual} visual token leaves nothing to select")
        return selection.scores_M


@dataclass(frozen=True, slots=True, kw_only=True)
class SurvivalAt:
    """What is left of needles at one rate."""

    rate: float
    """Share of all visual tokens that may stay."""
    kept: float
    """Share of them that did: the rate, but for rounding to whole tokens. This is chance."""
    survival: float
    """Share of the needles' tokens among them, mean over the trials."""
    interval_95: tuple[float, float] | None
    """Of it, by a bootstrap over drawings of needles."""
    above_chance: float
    other_question: float | None
    """Survival where another needle was asked for, which is not there; None: there is none."""
    untouched: float
    """Share of the trials in which not one token of the needle is left."""
    num_trials: int

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


def run_survival(
    scorer: TokenScores, grid: Grid, rates: Sequence[float], out: Path, say: Say
) -> list[SurvivalAt]:
    """Measure every trial with a needle that `out` does not hold yet.

    How much may stay is the rate alone: the context limit is not heeded.

    Args:
        scorer: that is tried.
        grid: the trials; controls are left out.
        rates: shares in (0, 1].
        out: directory for survival.jsonl, one line a trial.
        say: prints a line.

    Returns:
        One for each rate, in their order.
    """
    path = out / SURVIVAL_NAME
    rows: list[Mapping[str, Any]] = []
    with Appended(path) as file:
        done: dict[str, Mapping[str, Any]] = {row["key"]: row for row in read_lines(path)}
        for showing in grid.showings():
            trials = [trial for trial in showing.trials if not trial.is_control]
            keys = [_key(trial, showing.other, scorer.identity, rates) for trial in trials]
            if any(key not in done for key in keys):
                watched, other = scorer.watch(showing.source), showing.other
                other_M = None if other is None else scorer.scores(watched, other)
                for trial, key in zip(trials, keys, strict=True):
                    if key not in done:
                        scores_M = scorer.scores(watched, trial.prompt)
                        done[key] = {"key": key, **_measured(trial, scores_M, other_M, rates)}
                        file.add(done[key])
                say(f"{showing.source.plan.video}: {_told(done[keys[0]])}")
            rows += (done[key] for key in keys)
    return [_at(number, rate, rows) for number, rate in enumerate(rates)]


def needle_tokens_kept(
    scores_M: Tensor, groups: Sequence[int], *, num_groups: int, rate: float
) -> tuple[int, int]:
    """Keep the best share of a video's tokens, and count.

    Args:
        scores_M: higher = keep.
        groups: that hold a needle.
        num_groups: G; each has M / G tokens.
        rate: share to keep.

    Returns:
        (tokens kept, those of them in the groups).
    """
    of_group = len(scores_M) // num_groups
    group_M = torch.arange(len(scores_M), device=scores_M.device) // of_group
    layout = TokenLayout(group_M=group_M, time_tokens_G=group_M.new_zeros(num_groups))
    most = max(1, round(rate * len(scores_M)))
    keep_M = keep_within(scores_M, layout, budget=_NO_LIMIT, keep_time="with_tokens", most=most)
    kept_G = keep_M.view(num_groups, of_group).sum(-1)
    return int(kept_G.sum()), int(kept_G[list(groups)].sum())


def _measured(
    trial: Trial, scores_M: Tensor, other_M: Tensor | None, rates: Sequence[float]
) -> dict[str, Any]:
    num_groups = -(-trial.placement.num_frames // trial.frames_per_group)
    if len(scores_M) % num_groups:
        raise ValueError(f"{len(scores_M)} scores are not those of {num_groups} groups of frames")

    def kept_of(asked_M: Tensor) -> list[tuple[int, int]]:
        return [
            needle_tokens_kept(asked_M, trial.groups, num_groups=num_groups, rate=rate)
            for rate in rates
        ]

    kept = kept_of(scores_M)
    return {
        **trial.describe(),
        "visual_tokens": len(scores_M),
        "needle_tokens": len(scores_M) // num_groups * len(trial.groups),
        "rates": list(rates),
        "kept_tokens": [all_kept for all_kept, _ in kept],
        "needle_tokens_kept": [needle_kept for _, needle_kept in kept],
        "kept_for_other": None if other_M is None else [one for _, one in kept_of(other_M)],
    }


def _at(number: int, rate: float, rows: Sequence[Mapping[str, Any]]) -> SurvivalAt:
    left = [row["needle_tokens_kept"][number] / row["needle_tokens"] for row in rows]
    kept = statistics.fmean(row["kept_tokens"][number] / row["visual_tokens"] for row in rows)
    survival = statistics.fmean(left)
    other = [
        row["kept_for_other"][number] / row["needle_tokens"]
        for row in rows
        if row["kept_for_other"] is not None
    ]
    drawn = [f"{row['needle']}-seed{row['seed']}" for row in rows]
    return SurvivalAt(
        rate=rate,
        kept=kept,
        survival=survival,
        interval_95=drawn_interval(zip(drawn, left, strict=True)),
        above_chance=survival - kept,
        other_question=statistics.fmean(other) if other else None,
        untouched=statistics.fmean(float(share == 0) for share in left),
        num_trials=len(rows),
    )


def describe_survival(found: Sequence[SurvivalAt]) -> str:
    """Return the rates as a table."""
    heads = ("rate", "kept", "survival", "95 %", "asked for another", "all lost")
    lines = ["{:>6} {:>7} {:>9} {:>15} {:>18} {:>9}".format(*heads)]
    for one in found:
        low_high = "" if one.interval_95 is None else "{:.3f} to {:.3f}".format(*one.interval_95)
        other = "-" if one.other_question is None else f"{one.other_question:.3f}"
        lines.append(
            f"{one.rate:6.0%} {one.kept:7.3f} {one.survival:9.3f} {low_high:>15} {other:>18} "
            f"{one.untouched:9.3f}"
        )
    return "\n".join(lines)


def _key(
    trial: Trial, other: Prompt | None, identity: Mapping[str, Any], rates: Sequence[float]
) -> str:
    return digest(
        {
            "trial": trial.describe(),
            "needle": trial.needle_digest,
            "haystack": dict(trial.haystack),
            "prompt": asdict(trial.prompt),
            "other": None if other is None else asdict(other),
            "scorer": dict(identity),
            "rates": list(rates),
        }
    )


def _told(row: Mapping[str, Any]) -> str:
    shares = [
        f"{kept / row['needle_tokens']:.0%} at {rate:.0%}"
        for kept, rate in zip(row["needle_tokens_kept"], row["rates"], strict=True)
    ]
    return f"of the needle's tokens kept: {', '.join(shares)}"
