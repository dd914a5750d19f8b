"""`vxp-model score`: what a run's answers are worth, without a model and without videos."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from vxp_model.errors import UserError
from vxp_model.eval.benchmarks.base import Benchmark
from vxp_model.eval.catalogue import load_benchmark
from vxp_model.eval.contamination import describe_overlap, overlap
from vxp_model.eval.judges import Judge, judge_all, open_judge
from vxp_model.eval.score_tables import describe
from vxp_model.eval.scores import OWN, convention_of
from vxp_model.eval.store import BenchmarkFolder, scores_name, write_json
from vxp_model.eval.stored import JUDGMENTS_NAME, chosen_benchmark, judge_prompts, read_scores


def score_run(
    run: Path,
    say: Callable[[str], None],
    *,
    only: Sequence[str] | None = None,
    compat: str | None = None,
    judge: str | None = None,
    judge_key: str | None = None,
    training_run: Path | None = None,
) -> Iterator[str]:
    """Score every benchmark of a run, and write scores.json, or scores-<compat>.json.

    Args:
        run: run directory.
        say: prints a line about progress.
        only: these benchmarks alone, in this order; None: all of the run.
        compat: count as another publisher does; benchmarks without that convention are left out
            where another has it. None or OWN: the benchmark's own way.
        judge: see `open_judge`; None: judgments that are kept count, and no new ones are made.
        judge_key: name of the environment variable with the judge's API key.
        training_run: of `vxp-data prune`: its overlap with the benchmarks is told.

    Yields:
        A text for each benchmark.

    Raises:
        UserError: there is no such run, benchmark, convention or judge.
    """
    compat = None if compat == OWN else compat
    names = chosen_benchmark(run, None)
    if only is not None:
        names = [name for one in only for name in chosen_benchmark(run, one)]
    opened = check_scoring(names, compat=compat, judge=judge, judge_key=judge_key)
    for name in names:
        benchmark = load_benchmark(name)
        if compat is not None and compat not in benchmark.conventions:
            say(f"{name} has no convention {compat!r}: left out.")
            continue
        folder = BenchmarkFolder(run, name)
        folder.merge_parts(folder.asked().get("asked", ""))
        if opened is not None:
            _judge(benchmark, compat, opened, folder, say)
        scores = read_scores(folder, benchmark, compat=compat)
        write_json(folder.path / scores_name(compat), scores.to_dict())
        yield describe(scores)
        if training_run is not None:
            yield describe_overlap(overlap(training_run, folder.questions()), name)


def check_scoring(
    names: Sequence[str],
    *,
    compat: str | None = None,
    judge: str | None = None,
    judge_key: str | None = None,
) -> Judge | None:
    """Check how benchmarks are to be scored, before hours are spent on answers.

    Args:
        names: of the benchmarks.
        compat: see `score_run`.
        judge: see `score_run`.
        judge_key: see `score_run`.

    Returns:
        The judge; None where none is named. It has been sent nothing.

    Raises:
        UserError: no benchmark has that convention, or there is no such judge.
    """
    known = {name: load_benchmark(name).conventions for name in names}
    if compat not in (None, OWN) and not any(compat in own for own in known.values()):
        all_known = ", ".join(sorted({OWN}.union(*known.values())))
        raise UserError(
            f"--compat {compat}: no such convention of {', '.join(names)}. Known: {all_known}."
        )
    return None if judge is None else open_judge(judge, key_variable=judge_key)


def _judge(
    benchmark: Benchmark,
    compat: str | None,
    judge: Judge,
    folder: BenchmarkFolder,
    say: Callable[[str], None],
) -> None:
    """Have all replies judged that need it; judgments are kept."""
    rule = convention_of(benchmark, compat)
    prompts = judge_prompts(benchmark, folder.questions(), folder.answers(), rule)
    if prompts:
        say(f"{benchmark.name}: {len(prompts)} replies go to the judge, unless it has seen them")
        judge_all(judge, prompts, folder.path / JUDGMENTS_NAME)
