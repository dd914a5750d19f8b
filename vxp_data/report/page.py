"""`report.html`: everything about a run on one page that needs nothing but itself."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import jinja2
import numpy as np

from vxp_data.core.per_cost import per_cost_unit
from vxp_data.core.run_report import Card, RunReport, SubsetReport
from vxp_data.registry import MEASURES
from vxp_data.report.charts import bars_svg, curve_svg, histogram_svg
from vxp_data.report.keep_curves import UNIT_NAMES, amount, number

_LISTS: Final = {
    "just_kept": "Just kept",
    "just_dropped": "Just dropped",
    "least": "Least redundant",
    "most": "Most redundant",
}
_BY_ORDER: Final = {"least": "Taken first", "most": "Taken last"}
"""Where something else than a measure of redundancy decides."""
_OUTCOMES: Final = {
    "keep": "kept",
    "prune": "pruned",
    "duplicate": "duplicates",
    "quarantine": "quarantined",
}
_BADGES: Final = _OUTCOMES | {"duplicate": "duplicate"}
"""Of one video or row."""
_SHEET_COLUMNS: Final = 5
_IDLE: Final = 0.35
"""A stage busy for less than this share of the time did not hold the others up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTime:
    """What one stage of a run took."""

    name: str
    cpu_s: float
    workers: int
    busy: float
    """CPU seconds over workers times wall-clock time; NaN where that is not known."""


def render_report(report: RunReport) -> str:
    """Write a report as HTML; the same report gives the same text.

    Args:
        report: what was gathered. Texts of rows and files may hold anything: they are escaped.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vxp_data.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., str]] = {
        "score": number,
        "whole": lambda value: f"{value:,}",
        "percent": lambda share: f"{share:.0%}",
        "hours": lambda value: amount("hours", value),
        "sheet": _data_uri,
        "shape": _shape,
        "facts": _facts,
    }
    environment.filters |= filters
    template = environment.get_template("report.html.j2")
    return template.render(
        report=report,
        outcomes=_OUTCOMES,
        badges=_BADGES,
        lists=_LISTS if report.measure in MEASURES.names() else _LISTS | _BY_ORDER,
        unit=per_cost_unit(report.measure),
        charts={subset.task: _charts(subset, report.measure) for subset in report.subsets},
        costs=[
            (UNIT_NAMES[unit], amount(unit, before), amount(unit, after), after / before)
            for unit in UNIT_NAMES
            if unit in report.costs
            for before, after in [report.costs[unit]]
            if before
        ],
        stages=stages(report.timings),
        verdict=verdict(report.timings),
    )


def _charts(subset: SubsetReport, measure: str) -> list[tuple[str, str, str, list[list[str]]]]:
    """Return (title, explanation, SVG, rows of the same numbers) of each chart of a subset."""
    charts = []
    if subset.scores is not None:
        scores = subset.scores
        rows = [["from", "to", "kept", "dropped"]]
        for low, high, kept, dropped in zip(
            scores.edges[:-1], scores.edges[1:], scores.kept_B, scores.dropped_B, strict=True
        ):
            rows.append([number(low), number(high), f"{kept:,}", f"{dropped:,}"])
        svg = histogram_svg(scores, subset.threshold, measure)
        charts.append(("Scores", "Rows by score; kept and dropped.", svg, rows))
    if len(subset.curve):
        curve = subset.curve
        shares = {
            UNIT_NAMES[unit]: curve.costs[unit] / (curve.costs[unit][-1] or 1.0)
            for unit in ("rows", "frames", "hours")
        }
        svg = curve_svg(curve.threshold_P, shares, subset.threshold, measure)
        rows = [["threshold", *shares]]
        for i in np.unique(np.linspace(0, len(curve) - 1, 11).astype(int)).tolist():
            values = [f"{share_P[i]:.0%}" for share_P in shares.values()]
            rows.append([number(float(curve.threshold_P[i])), *values])
        charts.append(("Keep curve", "What each threshold would keep.", svg, rows))
    for title, words, bars in (
        ("Durations", _of_durations(subset, measure), subset.durations),
        ("Questions", _of_questions(subset), subset.question_types),
        ("Answers", "Rows by the words of their answers.", subset.answer_words),
        ("Frames a row", "Rows by frames in their plan.", subset.frames),
        ("Sampling", "Kept rows by frames in their plan: a fixed rate, and the rule.",
         subset.sampling),
    ):  # fmt: skip
        if bars.labels:
            names = list(bars.series)
            rows = [["", *names]]
            rows += [
                [label, *(f"{bars.series[name][i]:,}" for name in names)]
                for i, label in enumerate(bars.labels)
            ]
            charts.append((title, words, bars_svg(bars, title), rows))
    return charts


def _of_durations(subset: SubsetReport, measure: str) -> str:
    words = "Rows by the length of their video."
    if math.isnan(subset.duration_correlation):
        return words
    return f"{words} Rank correlation of {measure} with length: {subset.duration_correlation:+.2f}."


def _of_questions(subset: SubsetReport) -> str:
    words = "Rows by what their questions ask, told by English words."
    shares = [
        f"{share:.0%} {name}" for name, share in subset.needs_time.items() if not math.isnan(share)
    ]
    return f"{words} They need time: {', '.join(shares)}." if shares else words


def stages(timings: Mapping[str, Any]) -> list[StageTime]:
    """Return the stages of a run, and how busy their workers were."""
    decode_workers = int(timings.get("decode_workers", 0))
    embed_workers = int(timings.get("embed_workers", 0))
    wall_s = float(timings["embed_wall_s"])
    decode_s = float(timings["probe_cpu_s"]) + float(timings["decode_cpu_s"])
    embed_s = float(timings["embed_cpu_s"])

    def busy(cpu_s: float, workers: int) -> float:
        return cpu_s / (workers * wall_s) if workers and wall_s else math.nan

    return [
        StageTime(name="decode", cpu_s=decode_s, workers=decode_workers,
              busy=busy(decode_s, decode_workers)),
        StageTime(name="embed", cpu_s=embed_s, workers=embed_workers or decode_workers,
              busy=busy(embed_s, embed_workers or decode_workers)),
    ]  # fmt: skip


def verdict(timings: Mapping[str, Any]) -> tuple[str, str]:
    """Return what held the run up, in a word or two and in a sentence.

    Where encoders run beside decoding, the stage whose workers were busier; where each decoding
    task embeds too, the one that took more CPU time.
    """
    decode, embed = stages(timings)
    total_s = decode.cpu_s + embed.cpu_s
    if not total_s:
        return "Nothing decoded", "Every video had embeddings from an earlier run."
    beside = bool(timings.get("embed_workers", 0))
    shares = (decode.busy, embed.busy) if beside else (decode.cpu_s, embed.cpu_s)
    busiest = max(decode.busy + embed.busy, 0) if not beside else max(decode.busy, embed.busy)
    if busiest < _IDLE:
        words = f"Workers were busy for {busiest:.0%} of the time; the rest went into starting "
        return (
            "Start-bound",
            words + "them and into waiting. More videos in one run cost little more.",
        )
    if shares[0] >= shares[1]:
        words = f"Decoding took {decode.cpu_s / total_s:.0%} of the CPU time. "
        return "Decode-bound", words + "More cores, or --set frames.seek=auto, make it faster."
    if timings.get("on_gpu"):
        words = "The encoders were busier than the decoders. "
        return "GPU-bound", words + "More GPUs, or larger encoder.batch_frames, make it faster."
    return "Encoder-bound", "Embedding on CPU cores took most of the time; a GPU makes it faster."


def _data_uri(sheet: bytes) -> str:
    return f"data:image/webp;base64,{base64.b64encode(sheet).decode('ascii')}"


def _shape(card: Card) -> str:
    """Return the sheet's proportions: squares are drawn as wide as the video is."""
    columns = min(_SHEET_COLUMNS, max(1, card.num_frames))
    rows = max(1, math.ceil(card.num_frames / columns))
    width, height = (card.width_px, card.height_px) if card.height_px else (1, 1)
    return f"{columns * width} / {rows * height}"


def _facts(card: Card) -> str:
    parts = [f"{card.duration_s:.1f} s" if card.duration_s else ""]
    parts.append(
        f"{card.width_px} \N{MULTIPLICATION SIGN} {card.height_px}" if card.width_px else ""
    )
    return " \N{MIDDLE DOT} ".join(filter(None, parts))
