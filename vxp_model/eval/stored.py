"""What else is read from a run directory: which benchmarks, their scores, where media lay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from vxp_model.errors import UserError
from vxp_model.eval.benchmarks.base import Benchmark, Convention, JudgePrompt, Question
from vxp_model.eval.judges import kept_judgments
from vxp_model.eval.scores import Scores, convention_of, score_answers
from vxp_model.eval.store import QUESTIONS_NAME, BenchmarkFolder, read_run

JUDGMENTS_NAME: Final = "judgments.jsonl"


def benchmarks_of(run: Path) -> list[str]:
    """Return the names of the benchmarks that a run has questions of."""
    return sorted(path.parent.name for path in run.glob(f"*/{QUESTIONS_NAME}"))


def chosen_benchmark(run: Path, benchmark: str | None) -> list[str]:
    """Return the benchmarks of a run, or the one that is named.

    Raises:
        UserError: there is no run, it has no questions yet, or no such benchmark.
    """
    read_run(run)
    names = benchmarks_of(run)
    if not names:
        raise UserError(
            f"{run}: the run has no questions yet. Answer some first: vxp-model eval, with --out "
            f"{run}."
        )
    if benchmark is None:
        return names
    if benchmark not in names:
        raise UserError(
            f"{run} has no answers to {benchmark!r}. It has: {', '.join(names) or 'none'}."
        )
    return [benchmark]


def judge_prompts(
    benchmark: Benchmark,
    questions: Sequence[Question],
    answers: Mapping[str, Mapping[str, Any]],
    rule: Convention,
) -> dict[str, JudgePrompt]:
    """Return what a judge is asked, by question: of replies that a rule cannot decide.

    Args:
        benchmark: that asked.
        questions: of the run.
        answers: question_id -> row of answers.jsonl.
        rule: how replies are read: some have a judge read what they cannot.
    """
    prompts = {}
    for question in questions:
        reply = answers.get(question.question_id, {}).get("reply")
        if reply is None:
            continue
        is_asked = benchmark.needs_judge(question) or (
            rule.judges_unparsed and rule.parse(question, reply) is None
        )
        if is_asked:
            prompts[question.question_id] = benchmark.judge_prompt(question, reply)
    return prompts


def read_scores(
    folder: BenchmarkFolder, benchmark: Benchmark, *, compat: str | None = None
) -> Scores:
    """Score a run's stored answers, with the judgments of these very replies that are kept.

    Raises:
        UserError: there are no questions, or there is no such convention.
    """
    questions, answers = folder.questions(), folder.answers()
    prompts = judge_prompts(benchmark, questions, answers, convention_of(benchmark, compat))
    judgments = kept_judgments(prompts, folder.path / JUDGMENTS_NAME)
    return score_answers(benchmark, questions, answers, compat=compat, judgments=judgments)


def media_folder(run: Path, benchmark: str) -> str | None:
    """Return where a benchmark's videos lay when it was asked; None: the record does not say."""
    return BenchmarkFolder(run, benchmark).asked().get("media")
