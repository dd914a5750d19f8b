"""A run's answers in others' layouts: lmms-eval's, and what the test servers take."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from vxp_data.storage.local import whole_file
from vxp_model.errors import UserError
from vxp_model.eval.benchmarks.base import Benchmark, Question
from vxp_model.eval.benchmarks.mlvu import TASK_OF_TYPE
from vxp_model.eval.catalogue import load_benchmark
from vxp_model.eval.scores import Scores
from vxp_model.eval.statistics import standard_error
from vxp_model.eval.store import BenchmarkFolder, read_run
from vxp_model.eval.stored import chosen_benchmark, read_scores

FORMS: Final = ("lmms-eval", "submission")
_UNDATED: Final = "19700101_000000"
"""Time in file names: a run's record has none, so that the same answers are the same files."""
_FILTER: Final = "none"
"""lmms-eval's name for a reply that is taken as it is."""

_MLVU_TYPES: Final = {task: kind for kind, task in TASK_OF_TYPE.items()}
"""MLVU-test's task -> `question_type` of its files."""

Answers = Mapping[str, Mapping[str, Any]]


def export_run(
    run: Path,
    out: Path,
    *,
    form: str = FORMS[0],
    benchmark: str | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> list[Path]:
    """Write a run in another layout.

    Args:
        run: run directory.
        out: folder; files of the same names are replaced.
        form: one of FORMS.
        benchmark: this one alone; None: all of the run.
        say: prints how many answers are empty.

    Returns:
        The files.

    Raises:
        UserError: there is no such run or form, or a benchmark has no test server.
    """
    if form not in FORMS:
        raise UserError(f"--form {form}: no such layout. Known: {', '.join(FORMS)}.")
    names = chosen_benchmark(run, benchmark)
    if form == "submission":
        if benchmark is None:
            names = [name for name in names if name in SUBMISSIONS] or names
        paths = [submission(run, name, out) for name in names]
    else:
        paths = export_lmms_eval(run, out, benchmark=benchmark)
    for name in names:
        if line := _empty_line(run, name):
            say(line)
    return paths


def _empty_line(run: Path, name: str) -> str:
    """Return what is said of questions without an answer that can be read; '' where none is."""
    _, questions, _, scores = _scored(run, name)
    missing = len(questions) - scores.num_answered
    if not missing and not scores.unparsed:
        return ""
    return (
        f"{name}: of {len(questions):,} questions {missing:,} have no answer, and the replies to "
        f"{len(scores.unparsed):,} cannot be read: what is written of them is wrong or empty"
    )


def export_lmms_eval(run: Path, out: Path, *, benchmark: str | None = None) -> list[Path]:
    """Write '<time>_results.json' and '<time>_samples_<task>.jsonl', as lmms-eval's tracker does.

    Tasks have our benchmarks' names and metrics our figures'. `input` is the question with its
    options: the whole prompt is not kept. Questions without a reply have an empty one.

    Args:
        run: run directory.
        out: folder.
        benchmark: this one alone; None: all of the run.

    Returns:
        The files.

    Raises:
        UserError: there is no such run.

    Source:
        lmms_eval/loggers/evaluation_tracker.py and evaluator.py of lmms-eval.
    """
    record = read_run(run)
    names = chosen_benchmark(run, benchmark)
    written, results, samples = [], {}, {}
    for name in names:
        _, questions, answers, scores = _scored(run, name)
        results[name] = {"alias": name, **_metrics(scores)}
        samples[name] = {"original": scores.num_questions, "effective": scores.num_answered}
        path = out / f"{_UNDATED}_samples_{name}.jsonl"
        _write(path, (_json_line(row) for row in _sample_rows(questions, scores, answers)))
        written.append(path)
    content = {
        "results": results,
        "group_subtasks": {name: [] for name in names},
        "configs": {name: {"task": name, "output_type": "generate_until"} for name in names},
        "versions": {name: load_benchmark(name).version for name in names},
        "n-shot": dict.fromkeys(names, 0),
        "higher_is_better": {
            name: dict.fromkeys(_figure_names(results[name]), True) for name in names
        },
        "n-samples": samples,
        "config": {"model": record.get("settings", {}).get("model", "")},
        "date": _UNDATED,
    }
    path = out / f"{_UNDATED}_results.json"
    _write(path, [json.dumps(content, indent=2, ensure_ascii=False) + "\n"])
    return [path, *written]


def submission(run: Path, benchmark: str, out: Path) -> Path:
    """Write the file that the benchmark's test server, or its makers' script, takes.

    A question without a readable answer has an empty one, so that it counts as wrong there too:
    VNBench's script forgets samples whose `pred` is null.

    Args:
        run: run directory.
        benchmark: one of SUBMISSIONS.
        out: folder.

    Returns:
        The file.

    Raises:
        UserError: there is no such run, or nobody takes submissions for that benchmark.
    """
    if benchmark not in SUBMISSIONS:
        raise UserError(
            f"{benchmark} has no form of submission. Those that have: "
            f"{', '.join(sorted(SUBMISSIONS))}."
        )
    chosen_benchmark(run, benchmark)
    own, questions, answers, _ = _scored(run, benchmark)
    name, lines = SUBMISSIONS[benchmark](own, questions, answers)
    _write(out / name, lines)
    return out / name


def _mlvu_test(
    benchmark: Benchmark, questions: Sequence[Question], answers: Answers
) -> tuple[str, list[str]]:
    """Return MLVU-test's: a list of question, type and letter (evaluation_test/README.md there)."""
    rows = [
        {
            "question_id": one.question_id,
            "question_type": _MLVU_TYPES[one.groups["task"]],
            "option": _letter(benchmark, one, answers),
        }
        for one in questions
        if one.options
    ]
    return "mlvu_test.json", [json.dumps(rows, indent=4, ensure_ascii=False) + "\n"]


def _vnbench(
    benchmark: Benchmark, questions: Sequence[Question], answers: Answers
) -> tuple[str, list[str]]:
    """Return what VideoNIAH's evaluation/eval.py reads: a line a question, four a sample."""
    del benchmark
    rows = [
        {
            "question_id": one.question_id,
            "pred": _reply(one, answers),
            "gt": one.gold,
            "type": one.groups["task"],
            "try": int(one.question_id.rpartition("_")[2]),
        }
        for one in questions
    ]
    return "vnbench.jsonl", [_json_line(row) for row in rows]


def _longvideobench_test(
    benchmark: Benchmark, questions: Sequence[Question], answers: Answers
) -> tuple[str, list[str]]:
    """Return one object from id to letter, as lmms-eval writes it for the leaderboard."""
    content = {one.question_id: _letter(benchmark, one, answers) for one in questions}
    text = json.dumps(content, ensure_ascii=False) + "\n"
    return "longvideobench_test_for_submission.json", [text]


SUBMISSIONS: Final[
    Mapping[str, Callable[[Benchmark, Sequence[Question], Answers], tuple[str, list[str]]]]
] = {
    "mlvu_test": _mlvu_test,
    "vnbench": _vnbench,
    "longvideobench_test": _longvideobench_test,
    "longvideobench_test_subtitles": _longvideobench_test,
}
"""Benchmark -> name and content of its file."""


def _scored(run: Path, name: str) -> tuple[Benchmark, list[Question], Answers, Scores]:
    benchmark, folder = load_benchmark(name), BenchmarkFolder(run, name)
    questions, answers = folder.questions(), folder.answers()
    scores = read_scores(folder, benchmark)
    return benchmark, questions, answers, scores


def _metrics(scores: Scores) -> dict[str, float | str]:
    """Return the figures over all questions under lmms-eval's names: 'metric,filter'."""
    found: dict[str, float | str] = {}
    for one in scores.figures:
        value, error = one.all.value, standard_error(one.all.figure)
        # ',' parts metric and filter.
        name = one.name.replace(", ", "/")
        found[f"{name},{_FILTER}"] = value if math.isfinite(value) else "N/A"
        found[f"{name}_stderr,{_FILTER}"] = round(error, 6) if math.isfinite(error) else "N/A"
    return found


def _figure_names(metrics: Mapping[str, Any]) -> Iterator[str]:
    for key in metrics:
        name = key.removesuffix(f",{_FILTER}")
        if name != key and not name.endswith("_stderr"):
            yield name


def _sample_rows(
    questions: Sequence[Question], scores: Scores, answers: Answers
) -> Iterator[dict[str, Any]]:
    """Return a row a question; of one in no figure, parsed and score are None."""
    scored = {one.question.question_id: one for one in scores.scored}
    for number, question in enumerate(questions):
        one, row = scored.get(question.question_id), answers.get(question.question_id)
        yield {
            "doc_id": number,
            "target": question.gold,
            "filtered_resps": [_reply(question, answers)],
            "score": {
                "question_id": question.question_id,
                "video": question.video,
                "parsed": None if one is None else one.parsed,
                "score": None if one is None else one.score,
                "answered": row is not None and row["error"] is None,
                **question.groups,
            },
            "input": _input(question),
        }


def _input(question: Question) -> str:
    lines = [f"{chr(65 + at)}. {option}" for at, option in enumerate(question.options)]
    return "\n".join([question.text, *lines])


def _reply(question: Question, answers: Answers) -> str:
    row = answers.get(question.question_id)
    return "" if row is None or row["error"] is not None else str(row["reply"])


def _letter(benchmark: Benchmark, question: Question, answers: Answers) -> str:
    return benchmark.parse(question, _reply(question, answers)) or ""


def _json_line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def _write(path: Path, lines: Sequence[str] | Iterator[str]) -> None:
    """Write a file, whole or not at all; a lone surrogate of a reply is kept."""
    with whole_file(path) as beside:
        beside.write_text("".join(lines), encoding="utf-8", errors="surrogatepass")
