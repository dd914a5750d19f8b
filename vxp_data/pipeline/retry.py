"""`vxp-data retry`: media that failed are tried again, otherwise; the others are not touched."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pyarrow.compute as pc

from vxp_data.core.frame_sampling import SELECTION_VERSION
from vxp_data.encoders.base import EncoderSpec
from vxp_data.engines.choose import open_engine
from vxp_data.errors import UserError
from vxp_data.pipeline.curate.decide import Decided
from vxp_data.pipeline.embed.job import EmbedTotals
from vxp_data.pipeline.embed.job_settings import JobSettings
from vxp_data.pipeline.embed.preflight_extras import require_installed
from vxp_data.pipeline.embed.run_encoder import settle_device
from vxp_data.pipeline.embed.wanted_media import read_wanted_media
from vxp_data.pipeline.prune import (
    Observer,
    check_decoders,
    embed_missing,
    hear_shortages,
    prepare_encoder,
    sampler_fingerprint,
    score_and_decide,
)
from vxp_data.pipeline.run_dir.directory import RunDirectory, open_run, read_table
from vxp_data.pipeline.run_dir.lock import RunLock, run_lock
from vxp_data.pipeline.run_dir.samples import dataset_from_facts
from vxp_data.pipeline.run_record import changed_record, decided_record
from vxp_data.records import ClipKey, Reason
from vxp_data.settings.prune import PruneConfig, load_config

RETRIED: Final = frozenset(
    {
        Reason.TIMEOUT,
        Reason.OUT_OF_MEMORY,
        Reason.CRASHED,
        Reason.DECODE_FAILED,
        Reason.INEXACT,
        Reason.UNSUPPORTED,
        Reason.UNREADABLE,
        Reason.FETCH_FAILED,
    }
)
"""Reasons that a longer limit, another decoder, a mended disk or store may remove. The others
follow from the file's own bytes, and stay until it changes; a file that has changed is read again
anyway."""

RETRIABLE: Final = RETRIED | {
    Reason.MISSING,
    Reason.EMPTY,
    Reason.TOO_LARGE,
    Reason.NOT_VIDEO,
    Reason.NO_VIDEO_STREAM,
    Reason.NO_FRAMES,
    Reason.TRUNCATED,
    Reason.CORRUPT,
    Reason.ENCRYPTED,
}
"""Reasons that may be asked for: all that are of a file, not of a row."""

LONGER: Final = 4
"""The time limit of a retry, as a multiple of the run's, where none is given."""
ROOMIER: Final = 2
"""The memory cap likewise."""

_SETTABLE: Final = ("decode.", "fetch.", "cluster.", "encoder.device")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryResult:
    """What a retry gave."""

    reasons: tuple[str, ...]
    """What was to be tried, sorted."""
    failed: Counter[str]
    """Clips by the reason for which they had failed, before."""
    tried: Counter[str]
    """Of them, those that were tried."""
    recovered: Counter[str]
    """Those of them that have embeddings now."""
    decided: Decided
    changed: tuple[str, ...]
    totals: EmbedTotals
    wall_s: float
    measure: str
    decoder: str
    timeout_s: float
    memory_mib: int


def retry(
    out: str | Path,
    overrides: Sequence[tuple[str, Any, str]],
    reasons: Collection[Reason],
    observer: Observer,
) -> RetryResult:
    """Try the media of a finished run that failed again, then score, decide and account anew.

    What succeeds counts as if it had succeeded at first; what fails again stays quarantined. Files
    that have changed since are read again too.

    Args:
        out: the run directory.
        overrides: (dotted key, value, origin) over the run's own settings, of the sections `decode`
            and `cluster`. Without them the limits are LONGER and ROOMIER ones.
        reasons: which failures to try.
        observer: hears of the progress.

    Raises:
        UserError: there is no finished run, a setting does not fit, or this machine would embed in
            another way than the run did.
    """
    for key, _, origin in overrides:
        if not key.startswith(_SETTABLE):
            raise UserError(
                f"{origin}: `retry` takes settings of the sections decode, fetch and cluster, "
                "and encoder.device; another setting is another run: `vxp-data prune`."
            )
    run = open_run(out)
    record = run.read_run(stopped=True)  # before a lock is put where no run is
    require_installed(PruneConfig.model_validate(record["config"]))
    with run_lock(run.root, "vxp-data retry") as lock:
        return _retry(run, overrides, reasons, observer, lock)


def _retry(
    run: RunDirectory,
    overrides: Sequence[tuple[str, Any, str]],
    reasons: Collection[Reason],
    observer: Observer,
    lock: RunLock,
) -> RetryResult:
    started = time.monotonic()
    record = run.read_run(stopped=True)
    kept_config = PruneConfig.model_validate(record["config"])
    config = load_config(
        None, [*_otherwise(kept_config, overrides), *overrides], run_settings=record["config"]
    ).config
    with open_engine(config.cluster) as engine:
        hear_shortages(engine, observer)
        config = settle_device(config, engine)
        spec = prepare_encoder(config)
        _check_same_encoder(spec, record["encoder"])
        _check_same_frames(kept_config, record["sampler"])
        check_decoders(config)
        settings = _job_settings(run, config, spec, record)
        before = _failed_clips(run)
        wanted = read_wanted_media(run)
        run.remove_unfinished()
        totals, num_files = embed_missing(
            run, wanted, config, settings, engine, observer, but=reasons
        )
        lock.check()
        run.begin_change(record, "vxp-data retry")
        datasets = [dataset_from_facts(facts) for facts in record["datasets"]]
        decided, changed = score_and_decide(run, datasets, kept_config, settings, wanted, engine)
    after = _failed_clips(run)
    tried = {key: reason for key, reason in before.items() if reason in reasons}
    result = RetryResult(
        reasons=tuple(sorted(map(str, reasons))),
        failed=Counter(before.values()),
        tried=Counter(tried.values()),
        recovered=Counter(reason for key, reason in tried.items() if key not in after),
        decided=decided,
        changed=changed,
        totals=totals,
        wall_s=time.monotonic() - started,
        measure=decided.decided_by,
        decoder=config.decode.decoder,
        timeout_s=config.decode.timeout_s,
        memory_mib=config.decode.memory_mib,
    )
    lock.check()
    retries = [*record.get("retries", []), _retry_record(result, num_files)]
    record = {name: value for name, value in record.items() if name != "sampled"}
    run.write_run(record | {"decided": decided_record(decided), "retries": retries})
    return result


def _job_settings(
    run: RunDirectory, config: PruneConfig, spec: EncoderSpec, record: dict[str, Any]
) -> JobSettings:
    return JobSettings(
        frames=config.frames,
        decode=config.decode,
        fetch=config.fetch,
        encoder=config.encoder,
        spec=spec,
        sampler=record["sampler"],  # the same frames, whichever decoder gives them
        parts=run.parts,
        thumbnails=run.thumbnails if config.thumbnails.max_bytes else None,
        sheet_bytes=config.thumbnails.max_bytes,
        beside=config.duplicates.kept_beside(config.encoder.name),
    )


def _otherwise(
    config: PruneConfig, overrides: Sequence[tuple[str, Any, str]]
) -> list[tuple[str, Any, str]]:
    """Return a retry's settings where none are given: wider limits; the run's decoder second."""
    settings: list[tuple[str, Any, str]] = [
        ("decode.timeout_s", config.decode.timeout_s * LONGER, "retry"),
        ("decode.memory_mib", config.decode.memory_mib * ROOMIER, "retry"),
    ]
    decoder = {key: value for key, value, _ in overrides}.get("decode.decoder")
    if decoder not in (None, config.decode.decoder):
        settings.append(("decode.fallback", config.decode.decoder, "retry"))
    return settings


def _check_same_encoder(spec: EncoderSpec, recorded: dict[str, Any]) -> None:
    if spec.fingerprint != recorded["fingerprint"]:
        raise UserError(
            "here, embeddings would be others than the run's: the encoder's fingerprint is "
            f"{spec.fingerprint}, the run's {recorded['fingerprint']}. Retry on a machine like the "
            "run's (--set encoder.device=cpu or cuda), with the same weights and package versions."
        )


def _check_same_frames(config: PruneConfig, recorded: str) -> None:
    if sampler_fingerprint(config) != recorded:
        raise UserError(
            "here, other frames would be selected than the run's: another version of vxp-data made "
            "it. `vxp-data prune` into the same directory embeds its videos anew, by selection "
            f"version {SELECTION_VERSION}."
        )


def _failed_clips(run: RunDirectory) -> dict[ClipKey, str]:
    columns = ["uri", "clip_start_s", "clip_end_s", "reason"]
    media = read_table(run.media, columns=columns, filters=pc.field("reason") != "")
    rows = zip(*(media[name].to_pylist() for name in columns), strict=True)
    return {(uri, start_s, end_s): reason for uri, start_s, end_s, reason in rows}


def _retry_record(result: RetryResult, num_files: int) -> dict[str, Any]:
    return {
        "ended_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "decoder": result.decoder,
        "timeout_s": result.timeout_s,
        "memory_mib": result.memory_mib,
        "files_read": num_files,
        "tried": dict(sorted(result.tried.items())),
        "recovered": dict(sorted(result.recovered.items())),
        "changed_files": changed_record(result.changed),
        "wall_s": round(result.wall_s, 3),
    }
