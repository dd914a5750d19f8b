"""`vxp-model score`: what a run's answers are worth, without a model and without videos."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from vxp_model.eval.benchmarks.base import Benchmark
from vxp_model.eval.catalogue import load_benchmark
from vxp_model.eval.contamination import describe_overlap, overlap
from vxp_model.eval.judges import Judge, judge_all, open_judge
from vxp_model.eval.score_tables import describe
from vxp_model.eval.scores import convention_of
from vxp_model.eval.store import BenchmarkFolder, scores_name, write_json
from vxp_model.eval.stored import JUDGMENTS_NAME, chosen_benchmark, judge_prompts, read_scores


def score_run(
    run: Path,
    say: Callable[[str], None],
    *,
    only: str | None = None,
    compat: str | None = None,
    judge: str | None = None,
    judge_key: str | None = None,
    training_run: Path | None = None,
) -> Iterator[str]:
    """Score every benchmark of a run, and write scores.json, or scores-<compat>.json.

    Args:
        run: run directory.
        say: prints a line about progress.
        only: this benchmark alone.
        compat: count as another publisher does; benchmarks without that convention are left out
            where there are several.
        judge: see `open_judge`; None: judgments that are kept count, and no new ones are made.
        judge_key: name of the environment variable with the judge's API key.
        training_run: of `vxp-data prune`: its overlap with the benchmarks is told.

    Yields:
        A text for each benchmark.

    Raises:
        UserError: there is no such run, benchmark, convention or judge.
    """
    names = chosen_benchmark(run, only)
    opened = None if judge is None else open_judge(judge, key_variable=judge_key)
    for name in names:
        benchmark = load_benchmark(name)
        if compat is not None and len(names) > 1 and compat not in benchmark.conventions:
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
