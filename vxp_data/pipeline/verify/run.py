"""`vxp-data verify` of a run directory: reads everything it holds, believes nothing.

What follows from something else is worked out anew and compared: scores from the stored embeddings,
decisions from the scores and the recorded thresholds, kept and dropped rows from the decisions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vxp_data.core.decisions import decide
from vxp_data.core.sampling_plans import SamplingRule
from vxp_data.errors import UserError
from vxp_data.manifests.base import ManifestFormat
from vxp_data.manifests.formats import written_format
from vxp_data.manifests.renamed_media import Renaming
from vxp_data.manifests.samples import Dataset
from vxp_data.pipeline.curate.mixture_rows import cut_datasets, rows_rule
from vxp_data.pipeline.curate.selection import DecidedBy
from vxp_data.pipeline.run_dir.clip_facts import few_texts, read_clip_facts, row_costs
from vxp_data.pipeline.run_dir.directory import RunDirectory, read_batches, read_table
from vxp_data.pipeline.run_dir.row_clips import named_clips
from vxp_data.pipeline.run_dir.samples import dataset_from_facts
from vxp_data.pipeline.verify.beside import check_beside
from vxp_data.pipeline.verify.clip_names import clip_keys, clip_name
from vxp_data.pipeline.verify.duplicate_pairs import check_duplicates, renamed_rows, with_own_names
from vxp_data.pipeline.verify.means import check_means
from vxp_data.pipeline.verify.media import check_media
from vxp_data.pipeline.verify.parts import check_parts
from vxp_data.pipeline.verify.row_scores import check_row_scores
from vxp_data.pipeline.verify.selection import DecidedAgain, check_selection
from vxp_data.records import Outcome, outcome_of
from vxp_data.registry import MANIFEST_FORMATS
from vxp_data.schemas import SAMPLE_CLIP_KEY
from vxp_data.settings.prune import PruneConfig
from vxp_data.storage.folder import File

_SAMPLE_COLUMNS: Final = [
    "sample_id", "dataset", "row", "task", "modality", "reason", "media_uri", "clip_start_s",
    "clip_end_s", "clips",
]  # fmt: skip
_SHOWN: Final = 20


@dataclass(slots=True)
class VerifiedRun:
    """What was looked at, and what is wrong with it."""

    num_samples: int = 0
    num_clips: int = 0
    num_parts: int = 0
    num_embeddings: int = 0
    num_hashed: int = 0
    """Media files that were read again."""
    num_unhashed: int = 0
    """Media files in stores, which are not."""
    num_problems: int = 0
    problems: list[str] = field(default_factory=list)
    """The first of them."""

    def add(self, problem: str) -> None:
        """Record a problem; all are counted, the first are told."""
        self.num_problems += 1
        if len(self.problems) < _SHOWN:
            self.problems.append(problem)


def verify_run(run: RunDirectory, *, media: bool, selection: bool = False) -> VerifiedRun:
    """Check a finished run.

    Args:
        run: its directory.
        media: read every media file again and compare its digest: as long as it takes to read them.
        selection: select anew what a selector has put in order: as long as that takes.

    Raises:
        UserError: there is no finished run.
    """
    record = run.read_run()
    found = VerifiedRun()
    try:
        samples = read_table(run.samples, columns=_SAMPLE_COLUMNS)
        decisions = read_table(run.decisions)
        quarantine = read_table(run.quarantine)
        clips = read_table(run.media)
        scores = read_table(run.scores)
    except UserError as error:
        found.add(str(error))
        return found
    found.num_samples, found.num_clips = samples.num_rows, clips.num_rows
    _check_samples(samples, decisions, found)
    _check_sums(decisions, quarantine, record, found)
    _check_clips(samples, clips, scores, found)
    found.num_parts, found.num_embeddings = check_parts(run, clips, scores, record, found.add)
    if not found.num_problems:  # else it would say the same again
        check_row_scores(run, record, found.add)
        check_means(run, record, found.add)
        check_beside(run, record, found.add)
        _check_decisions(run, samples, decisions, record, found, selection=selection)
    if samples.num_rows == decisions.num_rows:  # else it was said that they are not of one run
        _check_rows(run, samples, decisions, record, found)
    if media:
        found.num_hashed, found.num_unhashed = check_media(clips, found.add)
    return found


def _check_samples(samples: pa.Table, decisions: pa.Table, found: VerifiedRun) -> None:
    """Check that every sample has exactly one decision, under its id, with a reason that fits."""
    for name, column in (("samples", samples["sample_id"]), ("decisions", decisions["sample_id"])):
        doubled = [i for i, times in Counter(column.to_pylist()).items() if times > 1]
        for sample_id in doubled:
            found.add(f"{name}.parquet: sample {sample_id!r} is there twice")
    columns = ["sample_id", "dataset", "row", "task"]
    pairs = zip_longest(samples.select(columns).to_pylist(), decisions.select(columns).to_pylist())
    for sample, decision in pairs:
        if sample != decision:
            found.add(f"decisions.parquet: wanted {sample}, got {decision}")
            break  # all that follow are shifted
    outcomes = zip(
        *(decisions[name].to_pylist() for name in ("sample_id", "decision", "reason")), strict=True
    )
    for sample_id, outcome, reason in outcomes:
        if outcome_of(reason or "") != (outcome or ""):  # a damaged file may have nulls
            found.add(f"sample {sample_id!r}: {outcome!r} because of {reason!r}")


def _check_sums(
    decisions: pa.Table, quarantine: pa.Table, record: dict[str, Any], found: VerifiedRun
) -> None:
    """Compare the counts in run.json with the decisions, in all and by task."""
    decided = record["decided"]
    counts = Counter(decisions["decision"].to_pylist())
    lost = decisions.filter(pa.array(_is(decisions, Outcome.QUARANTINE)))
    wanted = {
        "num_in": decisions.num_rows,
        "num_kept": counts[Outcome.KEEP],
        "num_pruned": counts[Outcome.PRUNE],
        "num_duplicates": counts[Outcome.DUPLICATE],
        "num_quarantined": counts[Outcome.QUARANTINE],
        "quarantined_by_reason": dict(Counter(lost["reason"].to_pylist())),
    }
    for name, value in wanted.items():
        if decided[name] != value:
            found.add(f"run.json: {name} is {decided[name]}, the decisions give {value}")
    if (read := record.get("manifests", {}).get("rows", decisions.num_rows)) != decisions.num_rows:
        found.add(f"run.json: {read} rows were read, {decisions.num_rows} are decided")
    by_task = Counter(zip(decisions["task"].to_pylist(), decisions["decision"].to_pylist()))  # noqa: B905
    for subset in decided["subsets"]:
        task = subset["task"]
        there = {
            "kept": by_task[task, Outcome.KEEP],
            "pruned": by_task[task, Outcome.PRUNE],
            "duplicates": by_task[task, Outcome.DUPLICATE],
            "quarantined": by_task[task, Outcome.QUARANTINE],
        }
        for name, value in there.items():
            if subset[name] != value:
                found.add(f"run.json: {task}: {name} is {subset[name]}, decisions give {value}")
    columns = ["sample_id", "reason"]
    if lost.select(columns).to_pylist() != quarantine.select(columns).to_pylist():
        found.add("quarantine.parquet: its rows are not those that the decisions quarantine")


def _check_clips(samples: pa.Table, clips: pa.Table, scores: pa.Table, found: VerifiedRun) -> None:
    """Check that every clip that a usable sample names is there once, in media and in scores."""
    keys = clip_keys(clips)
    for key, times in Counter(keys).items():
        if times > 1:
            found.add(f"media.parquet: {clip_name(key)} is there {times} times")
    if keys != clip_keys(scores):
        found.add("scores.parquet: its clips are not those of media.parquet")
    named = named_clips(samples)
    usable = zip(*(named[n].to_pylist() for n in (*SAMPLE_CLIP_KEY, "reason")), strict=True)
    wanted = {(uri, start_s, end_s) for uri, start_s, end_s, reason in usable if uri and not reason}
    for key in sorted(wanted - set(keys)):
        found.add(f"media.parquet: {clip_name(key)} is missing")
    for key in sorted(set(keys) - wanted):
        found.add(f"media.parquet: {clip_name(key)} is of no sample")


def _check_decisions(
    run: RunDirectory,
    samples: pa.Table,
    decisions: pa.Table,
    record: dict[str, Any],
    found: VerifiedRun,
    *,
    selection: bool,
) -> None:
    """Decide anew, by the recorded thresholds, from duplicates that are looked for anew."""
    config = PruneConfig.model_validate(record["config"])
    counted = record["decided"].get("counted_by")  # `sample` may have set another rule since
    rule = SamplingRule.from_dict(counted) if counted else config.sampling
    decided_by = DecidedBy.of(config)
    excluded = check_duplicates(run, samples, record, found.add)
    if excluded is None:
        return
    facts = read_clip_facts(run, excluded.samples, config.measure)
    costs = row_costs(facts, few_texts(samples["modality"]), rule, config.costs)
    by = DecidedAgain(record=record, decided_by=decided_by, tokens_N=costs.tokens_N)
    columns = check_selection(run, excluded, facts, by, found.add, anew=selection)
    if columns is None:
        return
    targets = (config.threshold_specs(), config.default_threshold())
    scales = decided_by.scales(few_texts(samples["task"]))
    anew = decide(
        columns,
        thresholds=targets[0],
        default=targets[1],
        measure=decided_by.measure,
        weights=config.budget_weights,
        costs=costs,
        measures=scales,
    )
    datasets = [dataset_from_facts(facts) for facts in record["datasets"]]
    rows = rows_rule(config.mixture, datasets, targets)
    anew, counts = cut_datasets(columns, anew, rows, scales, targets)
    told = record["decided"].get("datasets")  # runs of before they were counted have none
    if told is not None and told != [asdict(count) for count in counts]:
        found.add("run.json: decided.datasets is not what the decisions say of each dataset")
    there = (np.array(decisions[name].to_pylist(), object) for name in ("decision", "reason"))
    same_N = np.ones(len(anew), dtype=np.bool_)
    for column, other in zip(there, (anew.decision, anew.reason), strict=True):
        same_N &= column == other.astype(str)
    same_N &= np.array(decisions["duplicate_of"].to_pylist(), object) == excluded.duplicate_of
    for name, number_N in (("score", anew.score), ("threshold", anew.threshold)):
        there_N = np.array(decisions[name].to_pylist(), dtype=np.float64)
        same_N &= (there_N == number_N) | (np.isnan(there_N) & np.isnan(number_N))
    for i in np.flatnonzero(~same_N).tolist():
        found.add(
            f"decisions.parquet: {decisions['sample_id'][i].as_py()!r} is "
            f"{decisions['decision'][i].as_py()!r}; its score and threshold give "
            f"{str(anew.decision[i])!r}"
        )


def _check_rows(
    run: RunDirectory,
    samples: pa.Table,
    decisions: pa.Table,
    record: dict[str, Any],
    found: VerifiedRun,
) -> None:
    """Read the kept and dropped rows back, and compare them with the samples' own bytes."""
    datasets = [dataset_from_facts(facts) for facts in record["datasets"]]
    dataset_N = np.array(decisions["dataset"].to_pylist(), dtype=object)
    for dataset in datasets:
        renamed = renamed_rows(run, samples, decisions, dataset)
        for stem, outcomes in (
            ("kept", (Outcome.KEEP,)),
            ("dropped", (Outcome.PRUNE, Outcome.DUPLICATE)),
        ):
            wanted_N = np.logical_or.reduce([_is(decisions, outcome) for outcome in outcomes])
            wanted_N &= dataset_N == dataset.name
            file = run.root.file(_rows_name(stem, dataset, len(datasets)))
            try:
                names = renamed if stem == "kept" else {}
                problem = _rows_problem(run, file, dataset, wanted_N, names)
            except (UserError, OSError) as error:
                problem = str(error)
            if problem:
                found.add(f"{file.name}: {problem}")


def _rows_name(stem: str, dataset: Dataset, num_datasets: int) -> str:
    suffix: str = MANIFEST_FORMATS.load(dataset.format)().output_suffix
    return f"{stem}{suffix}" if num_datasets == 1 else f"{stem}.{dataset.name}{suffix}"


def _rows_problem(
    run: RunDirectory,
    file: File,
    dataset: Dataset,
    wanted_N: NDArray[np.bool_],
    renamed: dict[int, Renaming],
) -> str:
    """Return how a file of rows differs from what was wanted; '' where it does not."""
    manifest: ManifestFormat = MANIFEST_FORMATS.load(written_format(dataset.format))()
    local = Path(str(file)) if not file.folder.is_remote else file
    pairs = with_own_names(manifest.rows(local), _annotations(run, wanted_N), renamed)
    for index, (wanted, got) in enumerate(pairs):
        if wanted != got:
            return (
                f"row {index} is {_excerpt(got)}, wanted {_excerpt(wanted)} "
                f"({int(wanted_N.sum())} rows in all)"
            )
    return ""


def _annotations(run: RunDirectory, wanted_N: NDArray[np.bool_]) -> Iterator[bytes]:
    first = 0
    for batch in read_batches(run.samples, columns=["annotation"]):
        wanted = batch.filter(pa.array(wanted_N[first : first + batch.num_rows]))
        first += batch.num_rows
        yield from wanted["annotation"].to_pylist()


def _is(decisions: pa.Table, outcome: Outcome) -> NDArray[np.bool_]:
    is_N: NDArray[np.bool_] = np.array(decisions["decision"].to_pylist(), object) == outcome.value
    return is_N


def _excerpt(row: bytes | None) -> str:
    return "nothing" if row is None else repr(row[:60].decode(errors="replace"))
