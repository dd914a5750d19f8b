"""`prune`, `open_run` and `Run`: pruning from Python, by the same calls as the commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from vxp_data.api.arguments import (
    Amount,
    Where,
    as_list,
    column_overrides,
    exclusions,
    overrides,
    score_file,
    selector_overrides,
    selectors,
    target_texts,
    weight_overrides,
)
from vxp_data.api.arguments import weights as weights_of
from vxp_data.api.shards import Shards
from vxp_data.core.keep_curve import RunPlan
from vxp_data.errors import UserError
from vxp_data.manifests.datasets import resolve_datasets
from vxp_data.pipeline.curate.decide import Decided
from vxp_data.pipeline.inspect.plan import plan_choice
from vxp_data.pipeline.inspect.report import report_run
from vxp_data.pipeline.prune import Observer
from vxp_data.pipeline.prune import prune as run_prune
from vxp_data.pipeline.redecide import redecide
from vxp_data.pipeline.run_dir import directory
from vxp_data.pipeline.run_record import decided_from_record
from vxp_data.pipeline.shard.command import ShardObserver, shard_run
from vxp_data.report.page import render_report
from vxp_data.settings.prune import load_config
from vxp_data.settings.words import (
    gpu_hour_rate,
    num_bytes,
    read_per,
    read_targets,
    read_weights,
    target_overrides,
)
from vxp_data.storage.folder import File, find_file, open_folder


def prune(
    manifests: Where | Sequence[Where],
    out: Where,
    *,
    media_root: Where | None = None,
    format_name: str | None = None,
    columns: Mapping[str, str] | None = None,
    recipe: Where | None = None,
    encoder: str | None = None,
    threshold: Amount | None = None,
    keep: Amount | None = None,
    budget: str | Mapping[str, str] | None = None,
    weight: Mapping[str, float] | None = None,
    tokens_per_gpu_hour: float | Where | None = None,
    measure: str | None = None,
    select: str | Mapping[str, str] | None = None,
    per: str | None = None,
    duplicates: str | None = None,
    exclude: Where | Sequence[Where] | None = None,
    address: str | None = None,
    engine: str | None = None,
    settings: Mapping[str, Any] | None = None,
    observer: Observer | None = None,
) -> Run:
    """Keep the informative videos: what `vxp-data prune` does, in this process.

    Works with processes of this machine, or on a Ray cluster. What an earlier, stopped call has
    embedded into `out` is used: the same call goes on from there, also after Ctrl-C.

    Args:
        manifests: one or several: LLaVA JSON or JSON Lines, Parquet, CSV, a folder of videos, a
            YAML mixture.
        out: run directory to write, or to go on with.
        media_root: where media paths count from; None: each manifest's own folder.
        format_name: format of the manifests, a name in `registry.MANIFEST_FORMATS`; None: told by
            their suffixes and content.
        columns: which column of the rows is what, where it has no usual name: `{"video":
            "clip.path", "question": "prompt"}`; '' for what they do not have.
        recipe: YAML settings; None: the defaults.
        encoder: a name in `registry.ENCODERS`; None: the run's own, else the best that is here.
        threshold: keep what scores so much or less: 0.8, 'q0.5' or 'knee'; or by task.
        keep: keep the least redundant: 0.5 is a share of the rows, 1000 a number of them; 1 is one
            row, 1.0 all; 'mixture' is of each dataset the rows that its mixture states. Or by task:
            `{"caption": 0.3, "default": 0.5}`.
        budget: keep the least redundant that so much pays for: 'frames=2M'; or by task.
        weight: by task, in a budget over all: 2 keeps twice the share of this subset.
        tokens_per_gpu_hour: for budgets in GPU hours; a number, or the record of a training run.
        measure: similarity measure, a name in `registry.MEASURES`.
        select: what puts rows in order, a name in `registry.SELECTORS`; or by task.
        per: 'cost' takes rows by rank for what they cost in training tokens; 'row': by rank.
        duplicates: what becomes of the same video twice: 'off', 'report', 'drop' or 'relink'.
        exclude: evaluation sets to take out: lists of ids, or runs over their videos.
        address: of a Ray cluster: 'auto', or 'HOST:PORT'.
        engine: what runs the job, a name in `registry.ENGINES`: 'local' or 'ray'; None: 'ray' with
            an address, else 'local'.
        settings: all others, by dotted key: `{"frames.num_frames": 8}`; see `vxp-data show-config`.
        observer: told the progress; nothing is printed.

    Returns:
        The finished run.

    Raises:
        UserError: something the user can fix; nothing already written is lost.
        ExpectationError: the run is written, but not as the recipe's `expect:` says.
    """
    given = overrides(
        settings, encoder=encoder, measure=measure, duplicates=duplicates,
        exclude=exclusions(exclude), address=address, engine=engine,
        tokens_per_gpu_hour=_rate(tokens_per_gpu_hour), per=read_per(per, "per"),
    )  # fmt: skip
    given += target_overrides(target_texts(threshold, keep, budget))
    given += weight_overrides(weight) + selector_overrides(select) + column_overrides(columns)
    loaded = load_config(None if recipe is None else Path(recipe), given)
    named = loaded.config.manifest.columns
    datasets = resolve_datasets(as_list(manifests), media_root, format_name, named)
    run_prune(datasets, loaded, out, observer or Observer())
    return Run(out)


def open_run(path: Where) -> Run:
    """Open a finished run.

    Args:
        path: its directory, or its URI in an object store.

    Raises:
        UserError: there is no finished run, or it was written by another version.
    """
    return Run(path)


class Run:
    """A finished prune: its tables, and what can be made of it. Made by `prune` and `open_run`.

    A property reads the run as it is at that moment, also after it was decided again: hold on to a
    table that is used several times. On a run that is being changed, or whose change was stopped,
    all raise `UserError`.
    """

    def __init__(self, path: Where) -> None:
        self._directory = directory.open_run(path)
        self._directory.read_run()

    def __repr__(self) -> str:
        return f"Run({self.uri!r})"

    @property
    def uri(self) -> str:
        """An absolute path, or a URI of an object store."""
        return self._directory.root.uri

    @property
    def record(self) -> dict[str, Any]:
        """What run.json says: settings and their origins, inputs, versions, counts, timings."""
        return self._directory.read_run()

    @property
    def counts(self) -> Decided:
        """How many rows came in and where they ended, also by task and by reason."""
        return decided_from_record(self.record["decided"])

    @property
    def kept(self) -> tuple[str, ...]:
        """The manifests of kept rows, one a dataset, each in its own format."""
        return tuple(self._directory.root.where(name) for name in self.counts.outputs)

    @property
    def decisions(self) -> pa.Table:
        """One row a sample: keep, prune, duplicate or quarantine, and why."""
        return self._table(self._directory.decisions)

    @property
    def scores(self) -> pa.Table:
        """One row a clip, one column a measure."""
        return self._table(self._directory.scores)

    @property
    def clips(self) -> pa.Table:
        """One row a clip: facts about its file, and which of its frames were embedded."""
        return self._table(self._directory.media)

    @property
    def samples(self) -> pa.Table:
        """One row a sample: its conversation, its clip, and the row as its manifest has it."""
        return self._table(self._directory.samples)

    @property
    def quarantine(self) -> pa.Table:
        """One row for each sample that could not be used, with reason and message."""
        return self._table(self._directory.quarantine)

    def decide(
        self,
        *,
        threshold: Amount | None = None,
        keep: Amount | None = None,
        budget: str | Mapping[str, str] | None = None,
        weight: Mapping[str, float] | None = None,
        tokens_per_gpu_hour: float | Where | None = None,
        measure: str | None = None,
        select: str | Mapping[str, str] | None = None,
        scores: Where | Mapping[str, str] | None = None,
        per: str | None = None,
        duplicates: str | None = None,
        exclude: Where | Sequence[Where] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Decided:
        """Decide again from kept scores: seconds, no video touched. Replaces the run's kept rows.

        Args:
            threshold: these, to `exclude`, are those of `prune`; None: as the run has it. An amount
                for some tasks leaves the others as they are, one for all replaces all.
            keep: see `prune`.
            budget: see `prune`.
            weight: see `prune`.
            tokens_per_gpu_hour: see `prune`.
            measure: see `prune`.
            select: see `prune`; 'none' goes back to the measure.
            scores: a file of yours, larger = keep; or `{"path": FILE, "column": NAME, "scorer":
                "NAME@VERSION", "missing": "keep"}` (or "drop"), of which all but the path may be
                left out. What decides is what was named last: measure, select or scores.
            per: see `prune`; 'row' goes back.
            duplicates: see `prune`.
            exclude: see `prune`.
            settings: of the sections `duplicates`, `filters` and `selection`.

        Returns:
            What `counts` gives from now on.

        Raises:
            UserError: a threshold or a setting does not fit, or the run is in use.
        """
        by_task, default = read_targets(target_texts(threshold, keep, budget))
        decided, _ = redecide(
            self.uri,
            measure=measure,
            thresholds=by_task,
            default=default,
            weights=read_weights(weights_of(weight)) or None,
            tokens_per_gpu_hour=_rate(tokens_per_gpu_hour),
            overrides=overrides(settings, duplicates=duplicates, exclude=exclusions(exclude)),
            select=selectors(select) or None,
            scores=score_file(scores),
            per=read_per(per, "per"),
        )
        return decided

    def plan(
        self,
        *,
        threshold: Amount | None = None,
        keep: Amount | None = None,
        budget: str | Mapping[str, str] | None = None,
        weight: Mapping[str, float] | None = None,
        tokens_per_gpu_hour: float | Where | None = None,
        measure: str | None = None,
        select: str | Mapping[str, str] | None = None,
        scores: Where | Mapping[str, str] | None = None,
        per: str | None = None,
        points: int = 100,
        settings: Mapping[str, Any] | None = None,
    ) -> RunPlan:
        """Return what thresholds would keep, and cost, before anything is decided. Changes nothing.

        Args:
            threshold: these, to `per`, are those of `decide`; what they would keep stands under
                the name 'chosen' beside 'now' and 'knee'.
            keep: see `prune`.
            budget: see `prune`.
            weight: see `prune`.
            tokens_per_gpu_hour: see `prune`; without it there are no costs in GPU hours.
            measure: see `prune`.
            select: see `prune`.
            scores: see `decide`; the file is read and not kept.
            per: see `prune`.
            points: of a curve, at most.
            settings: others, by dotted key; those of `sampling` and `costs` matter here.

        Returns:
            The keep curve of each subset and of all together, and what rows ask before and after.

        Raises:
            UserError: a threshold does not fit, or a budget cannot be met.
        """
        if points < 1:
            raise UserError(f"points={points}: wanted 1 or more.")
        by_task, default = read_targets(target_texts(threshold, keep, budget))
        return plan_choice(
            self._directory,
            measure=measure,
            thresholds=by_task,
            default=default,
            weights=read_weights(weights_of(weight)) or None,
            tokens_per_gpu_hour=_rate(tokens_per_gpu_hour),
            overrides=overrides(settings),
            num_points=points,
            select=selectors(select) or None,
            scores=score_file(scores),
            per=read_per(per, "per"),
        )

    def shard(
        self,
        out: Where,
        *,
        payload: str | None = None,
        shard_bytes: int | str | None = None,
        max_samples: int | None = None,
        world_size: int | None = None,
        workers: int | None = None,
        address: str | None = None,
        engine: str | None = None,
        settings: Mapping[str, Any] | None = None,
        observer: ShardObserver | None = None,
    ) -> Shards:
        """Write the kept rows as WebDataset shards, with their sampling plans.

        Whole shards of an earlier, stopped call are kept: the same call goes on from there.

        Args:
            out: folder for the shards, or its URI.
            payload: 'video' (the files' bytes), 'frames' (the planned frames as images), 'none'.
            shard_bytes: what a shard should hold: a number of bytes, '500M', '1Gi'.
            max_samples: most clips in a shard.
            world_size: training processes; divides the number of shards.
            workers: loader workers of each training process.
            address: of a Ray cluster; see `prune`.
            engine: what runs the job; see `prune`.
            settings: others, by dotted key; those of `shard` and `sampling` matter here.
            observer: told the progress; nothing is printed.

        Raises:
            UserError: no row was kept, or `out` holds something else or cannot be written to.
        """
        given = overrides(
            settings,
            payload=payload,
            shard_bytes=num_bytes(shard_bytes, f"shard_bytes={shard_bytes!r}"),
            max_samples=max_samples,
            world_size=world_size,
            workers=workers,
            address=address,
            engine=engine,
        )
        record = self.record
        config = load_config(None, given, run_settings=record["config"]).config
        folder = open_folder(out)
        shard_run(self._directory, record, config, folder, observer or ShardObserver())
        return Shards(out)

    def report(self, out: Where | None = None) -> str:
        """Write one page about the run: counts, curves, frames on either side of the threshold.

        Args:
            out: the file, or its URI; None: report.html in the run.

        Returns:
            Where it was written.

        Raises:
            UserError: it cannot be written there.
        """
        page = render_report(report_run(self._directory, self.uri.rpartition("/")[2]))
        file = self._directory.report if out is None else find_file(out)
        if isinstance(file, Path):
            file = open_folder(file.parent).file(file.name)
        file.folder.write_text(file.name, page)
        return str(file)

    def _table(self, file: File) -> pa.Table:
        self._directory.read_run()  # its tables belong together only while nobody changes them
        return directory.read_table(file)


def _rate(tokens_per_gpu_hour: float | Where | None) -> float | None:
    return gpu_hour_rate(tokens_per_gpu_hour, f"tokens_per_gpu_hour={tokens_per_gpu_hour!r}")
