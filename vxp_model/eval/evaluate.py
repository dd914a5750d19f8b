"""`vxp-model eval`: every benchmark of a recipe, at every point of its sweep."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

from vxp_data.errors import unknown_name
from vxp_data.settings.file import Loaded
from vxp_model import __version__
from vxp_model.errors import StoppedError, UserError
from vxp_model.eval.adapters.answers_file import read_answers
from vxp_model.eval.adapters.prepare import ANSWERS, Models, Prepared
from vxp_model.eval.catalogue import load_benchmark
from vxp_model.eval.questions import load_questions
from vxp_model.eval.run import Answering, Held, Outcome, Say, answer_row
from vxp_model.eval.score_run import check_scoring, score_run
from vxp_model.eval.split import Part
from vxp_model.eval.store import ASKED_NAME, RUN_NAME, BenchmarkFolder, write_json
from vxp_model.eval.sweep import write_sweep
from vxp_model.eval.work import Work
from vxp_model.settings.eval import EVAL_RECIPES, EvalRecipe, points_of

_LIBRARIES: Final = ("torch", "transformers", "av")


@dataclass(frozen=True, slots=True, kw_only=True)
class PointRun:
    """One point of a sweep: settings with nothing left to vary, and what they ask."""

    values: Mapping[str, Any]
    """Of the sweep's settings; empty without a sweep."""
    recipe: EvalRecipe
    out: Path
    works: tuple[Work, ...]
    """Of each benchmark."""
    prepared: tuple[Prepared, ...]


def run_recipe(
    loaded: Loaded[EvalRecipe],
    part: Part,
    say: Say,
    tell: Callable[[str], None],
    scoring: Mapping[str, Any],
) -> None:
    """Answer and score all benchmarks of a recipe.

    All annotation files are read before the first video is opened.

    Args:
        loaded: the settings.
        part: this process's share of the videos.
        say: prints a line about progress.
        tell: prints a result.
        scoring: arguments of `score_run`.

    Raises:
        UserError: settings, files or model do not go together.
        StoppedError: the user pressed Ctrl-C; answers are kept.
    """
    recipe, models = loaded.config, Models()
    check_scoring([own.name for own in recipe.benchmarks], **scoring)
    points = [_at(recipe, values, models) for values in points_of(recipe.sweep)]
    _check_points(points, say)
    for point in points:
        _write_record(point, loaded)
    num_left = num_answered = 0
    held = Held()
    try:
        for number, own in enumerate(recipe.benchmarks):
            outcomes = _answer(points, number, part, say, held)
            for point, outcome in zip(points, outcomes, strict=True):
                say(_outcome_line(point, own.name, outcome))
                num_left += outcome.num_left
                num_answered += outcome.num_answered
    except KeyboardInterrupt as error:
        raise StoppedError(
            f"stopped; all answers are in {recipe.out}, and the same command goes on."
        ) from error
    finally:
        held.reader.close()
    if num_left:
        say("other parts have questions left: the last to end scores, or `vxp-model score`.")
        return
    _score(recipe, points, say, tell, scoring)
    if not num_answered:
        raise UserError(
            f"no question has an answer, see {recipe.out}: look at the reasons above, at the data "
            "folders of the benchmarks, and where their videos lie (benchmarks[].media)."
        )


def _score(
    recipe: EvalRecipe,
    points: Sequence[PointRun],
    say: Say,
    tell: Callable[[str], None],
    scoring: Mapping[str, Any],
) -> None:
    """Score all points, and sum up a sweep."""
    names = [own.name for own in recipe.benchmarks]
    for point in points:
        if point.values:
            tell(f"=== {_values_text(point.values)}: {point.out}\n")
        for text in score_run(point.out, say, only=names, **scoring):
            tell(f"{text}\n")
    if recipe.sweep:
        runs = [(point.values, point.out) for point in points]
        tell(write_sweep(Path(recipe.out), runs, names, compat=scoring.get("compat")))


def _check_points(points: Sequence[PointRun], say: Say) -> None:
    """Check that every point has a folder of its own, and that prompt styles are known.

    A style that is meant for several benchmarks need not be one of each; that is said.

    Raises:
        UserError: it is so.
    """
    folders = [point.out for point in points]
    if twice := [str(folder) for folder in folders if folders.count(folder) > 1]:
        raise UserError(f"sweep: two points of it would lie in {twice[0]}. Name each value once.")
    lines: dict[str, None] = {}
    for point in points:
        styles = {style for work in point.works for style in work.benchmark.styles}
        if (told := point.recipe.prompt.style) not in (None, *styles):
            raise unknown_name("prompt.style", str(told), styles)
        for work in point.works:
            name, known = work.benchmark.name, work.benchmark.styles
            if (own := work.own.prompt.style) not in (None, *known):
                raise unknown_name(f"prompt.style of {name}", str(own), known)
            if (style := work.resolved.prompt.style) not in (None, *known):
                lines[f"{name} has no prompt style {style!r}: asked in its {work.style!r}"] = None
    for line in lines:
        say(line)


def _at(recipe: EvalRecipe, values: Mapping[str, Any], models: Models) -> PointRun:
    """Put the values of one point of a sweep into the settings, and read what they ask."""
    if values:
        label = ",".join(f"{key.rpartition('.')[2]}={_label(v)}" for key, v in values.items())
        overrides = [(key, value, "sweep") for key, value in values.items()]
        overrides.append(("out", str(Path(recipe.out) / label), "sweep"))
        tree = recipe.model_dump(mode="json", exclude={"sweep"})
        recipe = EVAL_RECIPES.read(tree, "sweep", overrides).config
    is_file = recipe.model.startswith(ANSWERS)
    works, prepared = [], []
    for own in recipe.benchmarks:
        benchmark, resolved = load_benchmark(own.name), recipe.resolved(own)
        questions = load_questions(
            benchmark,
            Path(own.data),
            only=own.only,
            limit=recipe.limit,
            allow_partial=recipe.allow_partial,
        )
        model = (
            Prepared.of_answers(Path(recipe.model.removeprefix(ANSWERS)))
            if is_file
            else models.prepare(recipe, resolved.frames)
        )
        prepared.append(model)
        works.append(
            Work(
                benchmark=benchmark,
                questions=questions,
                own=own,
                resolved=resolved,
                answer=recipe.answer,
                identity=model.identity,
            )
        )
    return PointRun(
        values=values,
        recipe=recipe,
        out=Path(recipe.out),
        works=tuple(works),
        prepared=tuple(prepared),
    )


def _label(value: Any) -> str:
    """Return a sweep's value as a part of a folder's name."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text.strip("/").replace("/", "_").replace(":", "_")


def _answer(
    points: Sequence[PointRun], number: int, part: Part, say: Say, held: Held
) -> list[Outcome]:
    """Answer one benchmark at all points, video by video: each is encoded once for all of them."""
    answerings: list[Answering] = []
    outcomes: list[Callable[[], Outcome]] = []
    for point in points:
        work, prepared = point.works[number], point.prepared[number]
        folder = BenchmarkFolder(point.out, work.own.name)
        if point.recipe.model.startswith(ANSWERS):
            path = Path(point.recipe.model.removeprefix(ANSWERS))
            outcomes.append(partial(_take, work, path, folder, say))
            continue
        answering = Answering(work, folder, prepared, part, say, held)
        answerings.append(answering)
        outcomes.append(answering.outcome)
    for _ in zip_longest(*(one.videos() for one in answerings)):
        pass
    return [outcome() for outcome in outcomes]


def _take(work: Work, path: Path, folder: BenchmarkFolder, say: Say) -> Outcome:
    """Keep replies that were made elsewhere as a run's answers."""
    began_s, replies = time.monotonic(), read_answers(path)
    folder.write_questions(work.questions)
    rows = []
    for question in work.questions:
        row = answer_row(question, work.key(question, None, None))
        reply = replies.pop(question.question_id, None)
        told = {"reason": "no_reply", "message": f"{path.name} has no reply to it"}
        rows.append(row | ({"error": told} if reply is None else {"reply": reply}))
    if replies:
        say(
            f"{work.own.name}: {len(replies)} replies of {path} are to no question asked here, "
            f"for example {next(iter(replies))!r}"
        )
    folder.write_answers(rows)
    num_failed = sum(row["error"] is not None for row in rows)
    num_answered = len(rows) - num_failed
    return Outcome(
        num_questions=len(rows),
        num_answered=num_answered,
        num_new=num_answered,
        num_failed=num_failed,
        num_left=0,
        seconds=time.monotonic() - began_s,
    )


def _write_record(point: PointRun, loaded: Loaded[EvalRecipe]) -> None:
    """Write run.json and asked.json: what is asked, of which model, with which versions."""
    content = {
        "settings": point.recipe.model_dump(mode="json"),
        "origins": {one.key: one.origin for one in loaded.origins},
        "point": dict(point.values),
        "versions": {"vxp": __version__, **_versions()},
    }
    write_json(point.out / RUN_NAME, content)
    for work in point.works:
        asked = {
            "asked": work.asked,
            "model": dict(work.identity),
            "version": work.benchmark.version,
            "data": work.own.data,
            "media": work.own.media or work.own.data,
            "style": work.style,
            **work.resolved.model_dump(mode="json"),
            "answer": work.answer.model_dump(mode="json"),
        }
        write_json(point.out / work.own.name / ASKED_NAME, asked)


def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _values_text(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _outcome_line(point: PointRun, name: str, outcome: Outcome) -> str:
    where = f", {_values_text(point.values)}" if point.values else ""
    rate = outcome.num_new / outcome.seconds if outcome.seconds else 0.0
    failed = f", {outcome.num_failed} without an answer" if outcome.num_failed else ""
    return (
        f"{name}{where}: {outcome.num_answered} of {outcome.num_questions} questions answered, "
        f"{outcome.num_new} of them now ({rate:.2f} a second){failed}"
    )
