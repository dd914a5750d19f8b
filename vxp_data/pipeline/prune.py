"""`vxp-data prune` from manifests to kept rows: the order of the steps, and what run.json says."""

from __future__ import annotations

import dataclasses
import math
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import pyarrow.compute as pc

from vxp_data.config import ExpectConfig, PruneConfig
from vxp_data.core.thresholds import ThresholdSpec
from vxp_data.decoders.child import check_decoder
from vxp_data.decoders.sandbox import Sandbox
from vxp_data.encoders.base import Encoder, EncoderSpec, fingerprint
from vxp_data.errors import ExpectationError, UserError
from vxp_data.manifests.base import cannot_open
from vxp_data.manifests.mixture import read_mixture
from vxp_data.manifests.samples import Dataset, ManifestCounts, TaskRules, detect_format
from vxp_data.pipeline.decide import Decided, DecisionSettings, decide_run
from vxp_data.pipeline.embed import EmbedTotals, embed_media
from vxp_data.pipeline.ingest import (
    ClipKey,
    dataset_facts,
    dataset_from_facts,
    done_clips,
    media_items,
    write_samples,
)
from vxp_data.pipeline.run_lock import RunLock, run_lock
from vxp_data.pipeline.rundir import RunDirectory, open_run, read_table
from vxp_data.pipeline.score import score_clips
from vxp_data.pipeline.stages import JobSettings
from vxp_data.recipes import LoadedConfig
from vxp_data.registry import ENCODERS
from vxp_data.schemas import RUN_FORMAT_VERSION
from vxp_data.storage.folder import File, find_file, find_folder
from vxp_data.storage.local import file_stamp

_VERSIONS_OF: Final = ("vxp", "av", "decord", "numpy", "open_clip_torch", "pyarrow", "ray", "torch")
_CHECK_TIMEOUT_S: Final = 120.0
_MIXTURE_SUFFIXES: Final = frozenset({".yaml", ".yml"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneResult:
    """What a run gave, for the summary."""

    out: str
    """As the user named it."""
    decided: Decided
    counts: ManifestCounts
    num_files: int
    """Files that were read in this run; the others had embeddings already."""
    totals: EmbedTotals
    wall_s: float
    measure: str


class Observer:
    """Hears of a run's progress; every method may be overridden."""

    def started(self, num_clips: int, num_done: int) -> None:
        """Hear how many clips are to be embedded, and how many already are."""

    def progressed(self, totals: EmbedTotals) -> None:
        """Hear the totals so far, every few clips."""

    def ended(self) -> None:
        """Hear that no more progress comes."""


def resolve_datasets(
    manifests: Sequence[str | Path], media_root: str | Path | None
) -> list[Dataset]:
    """Turn the command line's manifests into named datasets; a YAML mixture stands for several.

    Args:
        manifests: annotation files, folders of videos, mixtures; paths, or URIs of stores.
        media_root: where relative media paths count from; None: each manifest's own folder.

    Raises:
        UserError: a file is missing or of no known format.
    """
    datasets: list[Dataset] = []
    for place in manifests:
        path = find_file(place)
        if isinstance(path, File):
            datasets.append(_remote_dataset(path, media_root, datasets))
            continue
        if not path.exists():
            raise UserError(f"manifest {path}: no such file or folder.")
        if path.suffix.lower() in _MIXTURE_SUFFIXES:
            datasets += read_mixture(path)
            continue
        root = path if path.is_dir() else find_folder(media_root or path.parent)
        if isinstance(root, Path) and not root.is_dir():
            raise UserError(f"--media-root {root}: no such folder.")
        datasets.append(
            Dataset(
                name=_free_name(path.stem or path.name, datasets),
                manifest=path.resolve(),
                format=detect_format(path),
                media_root=root.resolve() if isinstance(root, Path) else root,
            )
        )
    return datasets


def _remote_dataset(
    path: File, media_root: str | Path | None, datasets: Sequence[Dataset]
) -> Dataset:
    if path.suffix.lower() in _MIXTURE_SUFFIXES:
        raise UserError(
            f"manifest {path}: a mixture is read from a disk. Copy it here; what it lists may stay."
        )
    try:
        kind = detect_format(path)
    except OSError as error:
        raise cannot_open(path, error) from error
    own_root = path.as_folder() if kind == "folder" else path.parent
    return Dataset(
        name=_free_name(path.stem, datasets),
        manifest=path,
        format=kind,
        media_root=find_folder(media_root) if media_root and kind != "folder" else own_root,
    )


def prune(
    datasets: Sequence[Dataset], loaded: LoadedConfig, out: str | Path, observer: Observer
) -> PruneResult:
    """Prune annotated videos: read rows, embed what is missing, score, decide, account.

    What was written by an earlier, stopped run into `out` is used: only missing clips are embedded.

    Raises:
        UserError: something the user can fix; nothing already written is lost.
        ExpectationError: the run has ended and is written, but not as the recipe expects.
    """
    run = open_run(out)
    with run_lock(run.root, "vxp-data prune") as lock:
        return _prune(datasets, loaded, str(out), run, lock, observer)


def _prune(
    datasets: Sequence[Dataset],
    loaded: LoadedConfig,
    out: str,
    run: RunDirectory,
    lock: RunLock,
    observer: Observer,
) -> PruneResult:
    started = time.monotonic()
    config = loaded.config
    encoder_class: type[Encoder] = ENCODERS.load(config.encoder.name)
    encoder_class.prepare(config.encoder)
    spec = encoder_class.describe(config.encoder)
    _check_decoders(config)
    run.root.remove(run.run_json.name)
    rules = TaskRules(field=config.tasks.field, mapping=config.tasks.map)
    counts = write_samples(run, datasets, rules)
    settings = JobSettings(
        frames=config.frames,
        decode=config.decode,
        encoder=config.encoder,
        spec=spec,
        sampler=_sampler_fingerprint(config),
        parts=run.parts,
    )
    totals, num_files = _embed_missing(run, config, settings, observer)
    embed_s = time.monotonic() - started
    lock.check()
    score_clips(run, _wanted(run), encoder=spec.fingerprint, sampler=settings.sampler)
    decided = decide_run(
        run,
        datasets,
        DecisionSettings(
            measure=config.measure,
            thresholds=config.threshold_specs(),
            default=config.default_threshold(),
        ),
    )
    wall_s = time.monotonic() - started
    result = PruneResult(
        out=out,
        decided=decided,
        counts=counts,
        num_files=num_files,
        totals=totals,
        wall_s=wall_s,
        measure=config.measure,
    )
    lock.check()
    run.write_run(_run_record(result, loaded, datasets, spec, settings.sampler, embed_s))
    if config.expect is not None:
        _check_expectations(config.expect, decided, totals.clips / embed_s)
    return result


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
    run.read_run()  # before a lock is put where no run is
    with run_lock(run.root, "vxp-data decide"):
        return _redecide(run, measure, thresholds, default)


def _redecide(
    run: RunDirectory,
    measure: str | None,
    thresholds: dict[str, ThresholdSpec],
    default: ThresholdSpec | None,
) -> tuple[Decided, str]:
    record = run.read_run()
    config = PruneConfig.model_validate(record["config"])
    measure = measure or config.measure
    base = {} if default is not None else config.threshold_specs()
    by_task, default = base | thresholds, default or config.default_threshold()
    datasets = [dataset_from_facts(facts) for facts in record["datasets"]]
    decided = decide_run(
        run, datasets, DecisionSettings(measure=measure, thresholds=by_task, default=default)
    )
    record["config"]["measure"] = measure
    texts = {"default": default, **by_task}
    record["config"]["thresholds"] = {task: _threshold_text(spec) for task, spec in texts.items()}
    record["decided"] = _decided_record(decided)
    run.write_run({k: v for k, v in record.items() if k not in ("format_version", "sampled")})
    return decided, measure


def _embed_missing(
    run: RunDirectory, config: PruneConfig, settings: JobSettings, observer: Observer
) -> tuple[EmbedTotals, int]:
    done = done_clips(run.part_files(), encoder=settings.spec.fingerprint, sampler=settings.sampler)
    items = media_items(run, done)
    num_todo = sum(len(item.clips_s) for item in items)
    observer.started(num_todo, len(done))
    try:
        totals = (
            embed_media(items, config, settings, observer.progressed) if items else EmbedTotals()
        )
    finally:
        observer.ended()
    return totals, len(items)


def _wanted(run: RunDirectory) -> dict[ClipKey, str]:
    """Give the clips that samples name, with their files' stamps as they are now."""
    usable = pc.field("reason") == ""  # other rows' paths are not even looked at
    columns = ["media_uri", "clip_start_s", "clip_end_s"]
    keys = read_table(run.samples, columns=columns, filters=usable)
    distinct = set(zip(*(column.to_pylist() for column in keys.columns), strict=True))
    stamps = {uri: file_stamp(uri) for uri, _, _ in distinct if uri}
    return {key: stamps[key[0]] for key in distinct if key[0]}


def _check_decoders(config: PruneConfig) -> None:
    names = {config.decode.decoder, config.decode.fallback or "pyav"} - {"pyav", "decord"}
    for name in sorted(names):
        sandbox = Sandbox(config.decode.memory_mib << 20)
        try:
            sandbox.call(check_decoder, name, timeout_s=_CHECK_TIMEOUT_S)
        finally:
            sandbox.close()


def _sampler_fingerprint(config: PruneConfig) -> str:
    return fingerprint(
        {
            "frames": config.frames.model_dump(),
            "decoder": config.decode.decoder,
            "run_format": RUN_FORMAT_VERSION,  # parts of another format are made again
        }
    )


def _free_name(name: str, datasets: Sequence[Dataset]) -> str:
    taken = {dataset.name for dataset in datasets}
    numbered = (name if i == 1 else f"{name}-{i}" for i in range(1, len(taken) + 2))
    return next(candidate for candidate in numbered if candidate not in taken)


def _threshold_text(spec: ThresholdSpec) -> str:
    return f"keep {spec}" if spec.policy in ("share", "count") else str(spec)


def _run_record(
    result: PruneResult,
    loaded: LoadedConfig,
    datasets: Sequence[Dataset],
    spec: EncoderSpec,
    sampler: str,
    embed_s: float,
) -> dict[str, Any]:
    return {
        "command": "prune",
        "ended_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": loaded.config.model_dump(mode="json"),
        "config_origin": {o.key: o.origin for o in loaded.origins if o.origin != "default"},
        "datasets": [dataset_facts(dataset) for dataset in datasets],
        "encoder": dataclasses.asdict(spec),
        "sampler": sampler,
        "manifests": {f.name: getattr(result.counts, f.name) for f in fields(result.counts)},
        "decided": _decided_record(result.decided),
        "timings": {
            "wall_s": round(result.wall_s, 3),
            "embed_wall_s": round(embed_s, 3),
            "files_read": result.num_files,
            "clips_embedded": result.totals.clips,
            "probe_cpu_s": round(result.totals.probe_cpu_s, 3),
            "decode_cpu_s": round(result.totals.decode_cpu_s, 3),
            "embed_cpu_s": round(result.totals.embed_cpu_s, 3),
        },
        "versions": {"python": platform.python_version()} | {n: version(n) for n in _VERSIONS_OF},
    }


def _decided_record(decided: Decided) -> dict[str, Any]:
    record = dataclasses.asdict(decided)
    record["outputs"] = list(decided.outputs)
    for subset in record["subsets"]:
        if not math.isfinite(subset["threshold"]):
            subset["threshold"] = None  # JSON has no NaN
    return record


def _check_expectations(expect: ExpectConfig, decided: Decided, videos_per_s: float) -> None:
    got: dict[str, object] = {
        "num_in": decided.num_in,
        "num_kept": decided.num_kept,
        "num_quarantined": decided.num_quarantined,
        "quarantined": decided.quarantined_by_reason,
    }
    wanted = expect.model_dump(exclude_none=True)
    floor = wanted.pop("videos_per_s_min", None)
    lines = [
        f"  {name}: expected {value}, got {got[name]}"
        for name, value in wanted.items()
        if got[name] != value
    ]
    if floor is not None and videos_per_s < floor:
        lines.append(f"  videos_per_s_min: expected {floor} or more, got {videos_per_s:.2f}")
    if lines:
        raise ExpectationError(
            "the run has ended and is written, but not as the recipe expects:\n" + "\n".join(lines)
        )
