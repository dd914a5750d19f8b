"""`vxp-data run`: ingest -> prune -> near-duplicates -> sample -> shard, each step only if need be.

Every step is the function behind the command of its name. A step is left out where its inputs are
those of last time and its files are as it left them (`step_book`); one that was stopped goes on
where it was, as that command does. What a recipe writes lies in its own folder.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final

import pyarrow.compute as pc

from vxp_data.core.frame_plan_counts import PlanCounts
from vxp_data.engines.choose import one_engine, open_engine
from vxp_data.errors import UserError
from vxp_data.manifests.base import ManifestFormat
from vxp_data.manifests.datasets import resolve_datasets
from vxp_data.manifests.formats import FOLDER
from vxp_data.manifests.samples import Dataset
from vxp_data.pipeline.embed.preflight_extras import require_installed
from vxp_data.pipeline.embed.run_encoder import settle_device, settle_encoder
from vxp_data.pipeline.prune import (
    TRIED_AGAIN,
    Observer,
    files_to_read,
    hear_shortages,
    prepare_encoder,
    prune,
    sampler_fingerprint,
)
from vxp_data.pipeline.recipe.accounting import RecipeAccounting
from vxp_data.pipeline.recipe.sources import RecipeSources, with_own_names
from vxp_data.pipeline.recipe.step_cache import StepCache, file_digest, key_of
from vxp_data.pipeline.redecide import redecide
from vxp_data.pipeline.run_dir.directory import RunDirectory, open_run, read_table
from vxp_data.pipeline.run_dir.lock import LOCK_NAME, RunLock, run_lock
from vxp_data.pipeline.run_dir.samples import dataset_facts
from vxp_data.pipeline.run_record import check_expectations, speed_per_s
from vxp_data.pipeline.shard.command import ShardObserver, shard_run
from vxp_data.pipeline.shard.index import read_index
from vxp_data.pipeline.shard.sample import sample_run
from vxp_data.registry import MANIFEST_FORMATS
from vxp_data.schemas import RUN_FORMAT_VERSION
from vxp_data.settings.data import DataRecipe, prune_settings
from vxp_data.settings.file import Loaded
from vxp_data.shard_format import INDEX_NAME, QUARANTINE_NAME, SAMPLES_NAME, SHARD_FORMAT_VERSION
from vxp_data.shipped_files import here_or_shipped
from vxp_data.storage.folder import Folder, find_file, open_folder

STEPS: Final = ("ingest", "prune", "near-duplicates", "sample", "shard")
RUN_FOLDER: Final = "run"
SHARDS_FOLDER: Final = "shards"

_DATA: Final = ("samples.parquet", "media.parquet", "scores.parquet", "decisions.parquet")
"""What of a run directory the steps after it depend on."""
_AFTER_PRUNE: Final = ("duplicates", "shard", "cluster")
"""Sections that change nothing of what `prune` writes here."""
_OF_COSTS: Final = ("sampling", "costs", "budget_weights")
"""Sections that decide only where a threshold is a budget, or the order is per cost."""


class RecipeObserver:
    """Hears of the steps; every method may be overridden."""

    prune: Observer = Observer()
    shard: ShardObserver = ShardObserver()

    def begun(self, step: str) -> None:
        """Called when a step begins."""

    def ended(self, step: str, what: str, wall_s: float) -> None:
        """Called when a step has ended, with what it gave."""

    def skipped(self, step: str) -> None:
        """Called when a step is left out: its inputs are those of last time."""

    def finished(self, result: RecipeResult) -> None:
        """Called when all is written; whether it is as expected comes after."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeResult:
    """What a recipe gave."""

    out: str
    done: tuple[str, ...]
    """Steps that were at work this time."""
    accounting: RecipeAccounting
    wall_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    name: str
    inputs: Mapping[str, Any]
    """JSON values from which all that it writes follows."""
    work: Callable[[], tuple[str, Iterable[str]]]
    """Does it; gives what to tell the user, and the files that were written."""
    is_stale: Callable[[], bool] = lambda: False
    """Tells what `inputs` cannot: asked where they are those of last time."""


def run_recipe(
    loaded: Loaded[DataRecipe], draw: Callable[[PlanCounts], bytes], observer: RecipeObserver
) -> RecipeResult:
    """Make shards of annotated video as a recipe says; only what is not there yet.

    Args:
        loaded: the recipe.
        draw: draws the figure of sampling plans, a PNG.
        observer: hears of the steps.

    Raises:
        UserError: something the user can fix; what is written stays, and the same call goes on.
        ExpectationError: all is done and written, but not as the recipe expects.
    """
    out = open_folder(loaded.config.out)
    loaded, choice = settle_encoder(loaded, open_run(out.where(RUN_FOLDER)))
    if choice is not None:
        observer.prune.chose_encoder(choice)
    require_installed(loaded.config)
    started_s = time.monotonic()
    with run_lock(out, "vxp-data run") as lock, one_engine(loaded.config.cluster):
        cache = StepCache.open(out, STEPS)
        run = _RecipeRun(loaded, out, cache, lock, draw, observer)
        for step in (run.ingest, run.prune, run.near_duplicates, run.sample, run.shard):
            run.do(step())
        accounting = run.accounting()
        accounting.check()
        lock.check()
        wall_s = time.monotonic() - started_s
        cache.close(
            {
                "recipe": loaded.config.model_dump(mode="json"),
                "accounting": accounting.to_dict(),
                "vxp_version": version("vxp"),
            }
        )
    result = RecipeResult(
        out=loaded.config.out, done=tuple(run.done), accounting=accounting, wall_s=wall_s
    )
    observer.finished(result)
    if loaded.config.expect is not None:
        check_expectations(loaded.config.expect, accounting.to_dict() | run.speeds)
    return result


@dataclass
class _RecipeRun:
    """One run of a recipe: makes the steps, one after the other, from what came before."""

    loaded: Loaded[DataRecipe]
    out: Folder
    cache: StepCache
    lock: RunLock
    draw: Callable[[PlanCounts], bytes]
    observer: RecipeObserver
    done: list[str] = field(default_factory=list)
    speeds: dict[str, float | None] = field(
        default_factory=lambda: {"videos_per_s": None, "clips_per_s": None}
    )
    datasets: list[Dataset] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pruning = prune_settings(self.loaded)
        self.config = self.pruning.config
        self.run: RunDirectory = open_run(self.out.where(RUN_FOLDER))
        self.shards = self.out.child(SHARDS_FOLDER)
        self.sources = RecipeSources(self.loaded.config.ingest, self.out)

    def do(self, step: _Step) -> None:
        """Run a step, unless it is done."""
        key = key_of(step.inputs)
        if self.cache.is_done(step.name, key) and not step.is_stale():
            self.observer.skipped(step.name)
            return
        started_s = time.monotonic()
        self.observer.begun(step.name)
        self.lock.check()
        self.cache.begin(step.name, key)
        what, files = step.work()
        wall_s = time.monotonic() - started_s
        self.cache.end(step.name, key, files, wall_s)
        self.done.append(step.name)
        self.observer.ended(step.name, what, wall_s)

    def ingest(self) -> _Step:
        """Find the manifests, and write those of public datasets; `vxp-data ingest`."""
        ingest, sources = self.loaded.config.ingest, self.sources
        columns = self.config.manifest.columns
        given = resolve_datasets(ingest.manifests, ingest.media_root, ingest.format, columns)
        self.datasets = with_own_names(given, sources.datasets)
        written = [source.dataset for source in sources.sources]
        there = [dataset for dataset in self.datasets if dataset not in written]
        inputs = {
            "manifests": [_facts_of_manifest(dataset) for dataset in there],
            "datasets": sources.inputs(),
        }

        def work() -> tuple[str, Iterable[str]]:
            names = ", ".join(dataset.name for dataset in self.datasets)
            told, files = sources.ingest()
            return "; ".join([f"{len(self.datasets)} manifests: {names}", *told]), files

        return _Step(name="ingest", inputs=inputs, work=work, is_stale=sources.is_stale)

    def prune(self) -> _Step:
        """Embed, score, decide; `vxp-data prune`, but for near-duplicates."""
        with open_engine(self.config.cluster) as engine:
            hear_shortages(engine, self.observer.prune)
            spec = prepare_encoder(settle_device(self.config, engine))
        sampler = sampler_fingerprint(self.config)
        settings = self.config.model_dump(mode="json", exclude=set(_AFTER_PRUNE))
        has_budget = any(text.startswith("budget ") for text in self.config.thresholds.values())
        if not has_budget and self.config.selection.per != "cost":
            settings = {name: settings[name] for name in settings if name not in _OF_COSTS}
        inputs = {
            "settings": settings,
            "filters": list(self.config.filters),  # whose order decides, and is not in a key
            "datasets": [_facts_of_manifest(dataset) for dataset in self.datasets],
            "encoder": spec.fingerprint,
            "versions": [version("vxp"), RUN_FORMAT_VERSION],
        }

        def is_stale() -> bool:
            made_by = {"encoder": spec.fingerprint, "sampler": sampler}
            try:
                self.run.read_run()
            except UserError:  # gone, or a command was stopped half-way in it
                return True
            return files_to_read(self.run, **made_by, but=TRIED_AGAIN) > 0

        return _Step(name="prune", inputs=inputs, work=self._prune, is_stale=is_stale)

    def _prune(self) -> tuple[str, Iterable[str]]:
        alone = self.config.model_copy(
            update={"duplicates": self.config.duplicates.model_copy(update=_NO_DUPLICATES)}
        )
        loaded = Loaded(config=alone, origins=self.pruning.origins)
        result = prune(self.datasets, loaded, str(self.run.root), self.observer.prune)
        timings = self.run.read_run()["timings"]
        self.speeds["videos_per_s"] = speed_per_s(
            timings["clips_embedded"], timings["embed_wall_s"]
        )
        decided = result.decided
        what = (
            f"{decided.num_in} rows: {decided.num_kept} kept, {decided.num_pruned} pruned, "
            f"{decided.num_quarantined} quarantined; {result.num_files} files read"
        )
        return what, self._run_files()

    def near_duplicates(self) -> _Step:
        """Exclude duplicates and what is in evaluation sets; `vxp-data decide --duplicates`."""
        duplicates = self.config.duplicates
        inputs = {
            "settings": duplicates.model_dump(mode="json"),
            "exclude": [_digest_of_excluded(source) for source in duplicates.exclude],
            "data": self._data_of("prune"),
        }
        is_off = duplicates.mode == "off" and not duplicates.exclude
        was_there = self.cache.has("near-duplicates")

        def work() -> tuple[str, Iterable[str]]:
            if is_off and ("prune" in self.done or not was_there):  # it has decided without them
                return "off", self._run_files()
            overrides = [
                (f"duplicates.{name}", value, "recipe")
                for name, value in duplicates.model_dump(mode="json").items()
            ]
            decided, _ = redecide(
                str(self.run.root), measure=None, thresholds={}, default=None, overrides=overrides
            )
            what = (
                f"{decided.num_duplicates} rows out, {decided.num_relinked} relinked; "
                f"{decided.num_kept} kept"
            )
            return what, self._run_files()

        return _Step(name="near-duplicates", inputs=inputs, work=work)

    def sample(self) -> _Step:
        """Plan what training sees; `vxp-data sample`."""
        rule, num_epochs = self.config.sampling.to_dict(), self.config.shard.num_epochs
        inputs = {
            "settings": rule,
            "num_epochs": num_epochs,
            "data": self._data_of("near-duplicates"),
        }

        def work() -> tuple[str, Iterable[str]]:
            settings = [(f"sampling.{name}", value, "recipe") for name, value in rule.items()]
            settings.append(("shard.num_epochs", num_epochs, "recipe"))
            run, sampled = sample_run(str(self.run.root), settings, self.draw)
            names = (run.plans.name, run.sampling_figure.name)
            what = (
                f"{sampled.num_rows} rows x {sampled.num_epochs} epochs: {sampled.num_frames} "
                "frames planned"
            )
            return what, [f"{RUN_FOLDER}/{name}" for name in names]

        return _Step(name="sample", inputs=inputs, work=work)

    def shard(self) -> _Step:
        """Write the shards; `vxp-data shard`."""
        inputs = {
            "settings": self.config.shard.model_dump(mode="json"),
            "sampling": self.config.sampling.to_dict(),
            "decoder": self.config.decode.decoder,
            "data": self._data_of("near-duplicates"),
            "versions": [version("vxp"), SHARD_FORMAT_VERSION],
        }
        is_ours = self.cache.has("shard")

        def is_stale() -> bool:
            try:
                sizes = {s.name: s.num_bytes for s in read_index(self.shards).shards}
                return any(self.shards.size_bytes(name) != size for name, size in sizes.items())
            except OSError:
                return True

        def work() -> tuple[str, Iterable[str]]:
            result = shard_run(
                self.run,
                self.run.read_run(),
                self.config,
                self.shards,
                self.observer.shard,
                replace=is_ours,
            )
            shards = result.index.shards
            if not result.num_found:
                num_clips = sum(shard.num_clips for shard in shards)
                self.speeds["clips_per_s"] = speed_per_s(num_clips, result.wall_s)
            what = (
                f"{result.index.samples.num_rows} rows in {len(shards)} shards, "
                f"{result.num_found} of them were there"
            )
            names = (INDEX_NAME, SAMPLES_NAME, QUARANTINE_NAME)
            return what, [f"{SHARDS_FOLDER}/{name}" for name in names]

        return _Step(name="shard", inputs=inputs, work=work, is_stale=is_stale)

    def accounting(self) -> RecipeAccounting:
        """Count the rows from end to end, when all steps are done."""
        ids = read_table(self.shards.file(SAMPLES_NAME), columns=["sample_id"])["sample_id"]
        is_there = pc.field("sample_id").isin(ids.combine_chunks())
        rows = read_table(self.run.decisions, columns=["dataset"], filters=is_there)["dataset"]
        sharded = Counter(rows.to_pylist())
        return RecipeAccounting.of(self.run.read_run(), read_index(self.shards), sharded)

    def _data_of(self, step: str) -> list[str]:
        outputs = self.cache.outputs(step)
        return [outputs[f"{RUN_FOLDER}/{name}"] for name in _DATA]

    def _run_files(self) -> list[str]:
        """Name the files that `prune` and `decide` write beside the embeddings.

        Not run.json: every command changes it, and what it says of data the others hold.
        """
        run = self.run
        others = {run.plans.name, run.sampling_figure.name, run.report.name, run.run_json.name}
        names = [name for name in run.root.names() if name not in others | {LOCK_NAME}]
        return [f"{RUN_FOLDER}/{name}" for name in names]


_NO_DUPLICATES: Final = {"mode": "off", "exclude": ()}


def _facts_of_manifest(dataset: Dataset) -> dict[str, str]:
    """Return a dataset with a digest of its manifest; for a folder of videos, of their names."""
    if dataset.format == FOLDER:
        manifest: ManifestFormat = MANIFEST_FORMATS.load(dataset.format)()
        names = [row.fields["id"] for row in manifest.rows(dataset.manifest)]
        digest = key_of({"videos": names})
    else:
        digest = file_digest(dataset.manifest)
    return {**dataset_facts(dataset), "digest": digest}


def _digest_of_excluded(source: str) -> str:
    """Digest what `duplicates.exclude` names: a list of ids, or a run."""
    path = find_file(here_or_shipped(source))
    if path.is_dir():
        run = open_run(source)
        return key_of({"run": [file_digest(file) for file in (run.media, run.scores)]})
    return file_digest(path)
