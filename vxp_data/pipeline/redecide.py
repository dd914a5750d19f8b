"""`vxp-data decide`: other thresholds for a finished run."""

from __future__ import annotations

from pathlib import Path

from vxp_data.config import PruneConfig
from vxp_data.core.thresholds import ThresholdSpec
from vxp_data.pipeline.decide import Decided, DecisionSettings, decide_run
from vxp_data.pipeline.ingest import dataset_from_facts
from vxp_data.pipeline.run_lock import run_lock
from vxp_data.pipeline.run_record import decided_record, threshold_text
from vxp_data.pipeline.rundir import RunDirectory, open_run


def redecide(
    out: str | Path,
    *,
    measure: str | None,
    thresholds: dict[str, ThresholdSpec],
    default: ThresholdSpec | None,
) -> tuple[Decided, str]:
    """Decide a finished run anew from its kept scores; touches no video.

    Args:
        out: the run directory; its decisions, kept and dropped rows are replaced.
        measure: another measure, or None for the run's.
        thresholds: by task, over the run's; they replace all of them where `default` is given.
        default: for the other tasks, or None for the run's.

    Returns:
        What was decided, and the measure used.

    Raises:
        UserError: there is no finished run, or a threshold does not fit.
    """
    run = open_run(out)
    run.read_run(stopped=True)  # before a lock is put where no run is
    with run_lock(run.root, "vxp-data decide"):
        return _redecide(run, measure, thresholds, default)


def _redecide(
    run: RunDirectory,
    measure: str | None,
    thresholds: dict[str, ThresholdSpec],
    default: ThresholdSpec | None,
) -> tuple[Decided, str]:
    record = run.read_run(stopped=True)
    config = PruneConfig.model_validate(record["config"])
    measure = measure or config.measure
    base = {} if default is not None else config.threshold_specs()
    by_task, default = base | thresholds, default or config.default_threshold()
    datasets = [dataset_from_facts(facts) for facts in record["datasets"]]
    run.begin_change(record, "vxp-data decide")
    decided = decide_run(
        run, datasets, DecisionSettings(measure=measure, thresholds=by_task, default=default)
    )
    record["config"]["measure"] = measure
    texts = {"default": default, **by_task}
    record["config"]["thresholds"] = {task: threshold_text(spec) for task, spec in texts.items()}
    record["decided"] = decided_record(decided)
    run.write_run({k: v for k, v in record.items() if k != "sampled"})
    return decided, measure
