"""`report.html` of an evaluation: scores, and answers with the frames that were seen."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import jinja2

from vxp_data.storage.local import whole_file
from vxp_model.errors import UserError
from vxp_model.eval.benchmarks.base import About, Scored
from vxp_model.eval.catalogue import load_benchmark
from vxp_model.eval.compare import Comparison, Differing, compare, gap_text, p_text
from vxp_model.eval.media import VideoReader
from vxp_model.eval.report_frames import FrameShop, Seen
from vxp_model.eval.score_tables import SplitTable, interval_text, split_figures, value_text
from vxp_model.eval.scores import ScoredFigure, Scores
from vxp_model.eval.store import BenchmarkFolder, read_run
from vxp_model.eval.stored import chosen_benchmark, media_folder, read_scores

REPORT_NAME: Final = "report.html"
_MOST_EXAMPLES: Final = 6
"""Right ones, wrong ones, and ones that differ, with frames."""
_MOST_LISTED: Final = 200
"""Differing answers, and replies that cannot be read, without frames."""
_RIGHT: Final = 0.5
"""An answer worth as much is shown among the right ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One answer with its frames."""

    anchor: str
    scored: Scored
    reply: str
    seen: Seen
    other: tuple[str, Scored] | None = None
    """(reply, its worth) of the other run, where two are compared."""

    @property
    def options(self) -> list[tuple[str, str, str]]:
        """Return (letter, option, what is said of it) of each option."""
        rows = []
        for at, option in enumerate(self.scored.question.options):
            letter = chr(65 + at)
            is_gold = letter == self.scored.question.gold
            is_said = letter == self.scored.parsed
            rows.append((letter, option, "gold" * is_gold + " said" * is_said))
        return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One benchmark of the page."""

    scores: Scores
    about: About
    alone: list[ScoredFigure]
    tables: list[SplitTable]
    right: list[Example]
    wrong: list[Example]
    comparison: Comparison | None
    differing: list[Example]
    """Some of the answers that differ, of many videos."""

    @property
    def other_differing(self) -> list[Differing]:
        """The rest of them, as they are listed."""
        if self.comparison is None:
            return []
        shown = {one.anchor for one in self.differing}
        name = self.comparison.benchmark
        left = (
            one
            for one in self.comparison.differing
            if anchor_of(name, one.question.question_id) not in shown
        )
        return list(islice(left, _MOST_LISTED))


def write_report(run: Path, *, out: Path | None = None, against: Path | None = None) -> Path:
    """Write one page about a run; it needs nothing but itself.

    Args:
        run: run directory.
        out: the file; None: 'report.html' in the run directory.
        against: another run, whose answers that differ are shown beside.

    Returns:
        The file.

    Raises:
        UserError: there is no such run, or the two cannot be compared.
    """
    path = run / REPORT_NAME if out is None else out
    text = render_report(run, against=against, beside=path.parent)
    with whole_file(path) as beside:
        beside.write_text(text, encoding="utf-8", errors="replace")
    return path


def render_report(run: Path, *, against: Path | None = None, beside: Path | None = None) -> str:
    """Return the page; the same run and videos give the same text.

    Args:
        run: run directory.
        against: see `write_report`.
        beside: folder of the page, from which it links to the other run's page; None: `run`.

    Raises:
        UserError: see `write_report`.
    """
    record = read_run(run)
    names = chosen_benchmark(run, None)
    others = [] if against is None else chosen_benchmark(against, None)
    if against is not None and not set(names) & set(others):
        raise UserError(
            f"--against {against}: it has {', '.join(others)}, and {run} has {', '.join(names)}: "
            "no benchmark in common. Name a run over the same questions."
        )
    with closing(VideoReader()) as reader:
        sections = [
            _section(reader, run, name, against if name in others else None) for name in names
        ]
    other_page = ""
    if against is not None:
        other = os.path.relpath(against / REPORT_NAME, beside or run)
        other_page = quote(Path(other).as_posix())
    return _environment().get_template("report.html.j2").render(
        run=run.resolve().name,
        against="" if against is None else against.resolve().name,
        model=record.get("settings", {}).get("model", ""),
        sections=sections,
        settings=list(_flat(record.get("settings", {}))),
        versions=record.get("versions", {}),
        other_page=other_page,
        anchor_of=anchor_of,
        listed=_MOST_LISTED,
    )  # fmt: skip


def anchor_of(benchmark: str, question_id: str) -> str:
    """Return the name of a question's place in a page, the same in every run's."""
    return (
        "q-"
        + hashlib.sha256(f"{benchmark}/{question_id}".encode("utf-8", "replace")).hexdigest()[:12]
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vxp_model.eval", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "whole": lambda value: f"{value:,}",
        "percent": lambda share: f"{share * 100:.0f} %",
        "value": lambda one: value_text(one.value, is_share=one.is_share),
        "interval": lambda one: interval_text(one.interval, is_share=one.is_share),
        "share": lambda value: value_text(value, is_share=True),
        "gap": gap_text,
        "p": p_text,
        "clock": _clock,
        "plain": lambda value, one: value_text(value, is_share=one.is_share),
    }
    return environment


def _section(reader: VideoReader, run: Path, name: str, against: Path | None) -> Section:
    benchmark, folder = load_benchmark(name), BenchmarkFolder(run, name)
    answers = folder.answers()
    scores = read_scores(folder, benchmark)
    shop = FrameShop(reader, media_folder(run, name), folder.plans())
    alone, tables = split_figures(scores)

    def examples(chosen: Sequence[Scored]) -> list[Example]:
        return [_example(name, one, answers, shop) for one in chosen]

    comparison, differing = None, []
    if against is not None:
        (comparison,) = compare(run, against, benchmark=name, across_plans=True)
        first_of = {one.question.video: one for one in reversed(comparison.differing)}
        for one in sorted(first_of.values(), key=comparison.differing.index)[:_MOST_EXAMPLES]:
            other = (one.reply_b, one.b)
            differing.append(_example(name, one.a, answers, shop, other))
    listed = set() if comparison is None else {d.question.question_id for d in comparison.differing}
    right, wrong = _chosen([s for s in scores.scored if s.question.question_id not in listed])
    return Section(
        scores=scores,
        about=benchmark.about,
        alone=alone,
        tables=tables,
        right=examples(right),
        wrong=examples(wrong),
        comparison=comparison,
        differing=differing,
    )


def _chosen(scored: Sequence[Scored]) -> tuple[list[Scored], list[Scored]]:
    """Return some right and some wrong answers: always the same, of many videos, in order."""
    order = {one.question.question_id: at for at, one in enumerate(scored)}
    drawn = sorted(
        (one for one in scored if one.is_answered),
        key=lambda one: hashlib.sha256(
            one.question.question_id.encode("utf-8", "replace")
        ).digest(),
    )
    found: tuple[list[Scored], list[Scored]] = ([], [])
    for take, is_right in zip(found, (True, False), strict=True):
        own = [one for one in drawn if (one.score >= _RIGHT) == is_right]
        videos: set[str] = set()
        for one in own:
            if one.question.video not in videos and len(take) < _MOST_EXAMPLES:
                videos.add(one.question.video)
                take.append(one)
        take.sort(key=lambda one: order[one.question.question_id])
    return found


def _example(
    benchmark: str,
    scored: Scored,
    answers: Mapping[str, Mapping[str, Any]],
    shop: FrameShop,
    other: tuple[str, Scored] | None = None,
) -> Example:
    question = scored.question
    row = answers[question.question_id]
    return Example(
        anchor=anchor_of(benchmark, question.question_id),
        scored=scored,
        reply=row["reply"],
        seen=shop.seen(question.video, row),
        other=other,
    )


def _flat(settings: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Return every setting by its dotted name."""
    if isinstance(settings, Mapping):
        for name, value in settings.items():
            yield from _flat(value, f"{key}.{name}" if key else str(name))
    elif isinstance(settings, list | tuple) and any(isinstance(one, Mapping) for one in settings):
        for at, value in enumerate(settings):
            yield from _flat(value, f"{key}[{at}]")
    else:
        yield key, "" if settings is None else str(settings)


def _clock(seconds: float) -> str:
    """Return a time in a video as people say it: 75.4 -> '1:15'."""
    whole = int(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"
