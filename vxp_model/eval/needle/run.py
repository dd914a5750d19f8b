"""Ask a model about needles, trial by trial; killed anywhere, the same call goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from vxp_model.eval.adapters.base import EvalModel, Reply
from vxp_model.eval.needle.grid import Grid, Showing, Trial
from vxp_model.eval.needle.results import NeedleResult, outcome_of
from vxp_model.eval.store import Appended, digest, read_lines

Say = Callable[[str], None]
TRIALS_NAME: Final = "trials.jsonl"
TIMINGS_NAME: Final = "timings.jsonl"


def run_needle(
    model: EvalModel,
    grid: Grid,
    out: Path,
    say: Say,
    *,
    options_likelihood: bool = True,
    forced: bool = True,
) -> NeedleResult:
    """Run every trial of a grid that `out` does not hold yet.

    A video is looked at once for all that is asked about it, and each question is asked by itself,
    so that a run that was killed and goes on writes the bytes that it would have written at once.

    Encoded groups of frames are not shared among videos: what a model makes of a group may depend,
    by a rounding, on what it is encoded with.

    Args:
        model: that is asked.
        grid: the trials.
        out: directory for trials.jsonl, one line a trial, and timings.jsonl.
        say: prints a line.
        options_likelihood: ask also how likely each option is.
        forced: ask also whether the gold answer, without options, is the likeliest throughout.

    Raises:
        UserError: a film cannot be read, or a prompt does not fit the model.
    """
    path = out / TRIALS_NAME
    asked = {"options_likelihood": options_likelihood, "forced": forced}
    with ExitStack() as stack:
        trials_file = stack.enter_context(Appended(path))
        timings_file = stack.enter_context(Appended(out / TIMINGS_NAME))
        done: dict[str, Mapping[str, Any]] = {row["key"]: row for row in read_lines(path)}
        rows: list[Mapping[str, Any]] = []
        for showing in grid.showings():
            keys = [trial_key(trial, model.identity, asked) for trial in showing.trials]
            for row, took in _ask(model, showing, keys, done, **asked):
                trials_file.add(row)
                timings_file.add({"key": row["key"], **took})
                done[row["key"]] = row
            rows += (done[key] for key in keys)
            say(_line(showing, [done[key] for key in keys]))
    return NeedleResult(outcomes=tuple(outcome_of(row) for row in rows))


def trial_key(trial: Trial, identity: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """Return what a trial's answer is found by: all that may change it."""
    return digest(
        {
            "trial": trial.describe(),
            "needle": trial.needle_digest,
            "haystack": dict(trial.haystack),
            "prompt": asdict(trial.prompt),
            "open": asdict(trial.open) if asked["forced"] else None,
            "model": dict(identity),
            "asked": dict(asked),
        }
    )


def _ask(
    model: EvalModel,
    showing: Showing,
    keys: list[str],
    done: Mapping[str, Any],
    *,
    options_likelihood: bool,
    forced: bool,
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Ask what has not been asked about one video; return rows, and what each took."""
    left = [
        (trial, key) for trial, key in zip(showing.trials, keys, strict=True) if key not in done
    ]
    if not left:
        return
    began_s = time.monotonic()
    watched = model.watch(showing.source)
    watch_s = time.monotonic() - began_s
    for trial, key in left:
        (reply,) = model.answer(watched, [trial.prompt])
        row = {"key": key, **trial.describe(), **_reply_fields(trial, reply)}
        row["log_probs"] = row["forced"] = None
        began_s = time.monotonic()
        if options_likelihood:
            found = model.continued(watched, trial.prompt, trial.prompt.choices)
            row["log_probs"] = [one.log_prob for one in found]
        if forced:
            (gold,) = model.continued(watched, trial.open, [trial.question.gold_text])
            row["forced"] = asdict(gold)
        likelihood_s = time.monotonic() - began_s
        seconds = {"watch": watch_s, **reply.seconds, "likelihood": likelihood_s}
        yield row, {"seconds": seconds, "peak_bytes": reply.peak_bytes}
        watch_s = 0.0


def _reply_fields(trial: Trial, reply: Reply) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "reply": reply.text,
        "finish": reply.finish,
        "visual_tokens": reply.num_visual,
        "kept_tokens": reply.num_kept,
        "needle_tokens": None,
        "needle_tokens_kept": None,
    }
    num_groups = -(-trial.placement.num_frames // trial.frames_per_group)
    if trial.is_control or reply.num_visual % num_groups:
        return fields
    of_group = reply.num_visual // num_groups
    fields["needle_tokens"] = of_group * len(trial.groups)
    if reply.num_kept == reply.num_visual:
        fields["needle_tokens_kept"] = fields["needle_tokens"]
    elif reply.kept_by_group is not None:
        fields["needle_tokens_kept"] = sum(reply.kept_by_group[group] for group in trial.groups)
    return fields


def _line(showing: Showing, rows: list[Mapping[str, Any]]) -> str:
    right = sum(outcome_of(row).scores["generation"] for row in rows)
    return f"{showing.source.plan.video}: {right:g} of {len(rows)} right"
