"""`vxp-data prune` from manifests to kept rows: the order of the steps, and what run.json says."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa

from vxp_data.core.frame_sampling import SELECTION_VERSION
from vxp_data.encoders.base import Encoder, EncoderSpec, fingerprint
from vxp_data.encoders.choose import Choice
from vxp_data.engines.base import Engine, Shortage
from vxp_data.engines.choose import open_engine
from vxp_data.manifests.samples import Dataset, ManifestCounts, TaskRules
from vxp_data.pipeline.curate.decide import (
    Decided,
    DecisionSettings,
    decide_run,
    require_rows_to_decide,
    require_tasks,
)
from vxp_data.pipeline.curate.image_text import (
    measure_similarities,
    prepare_text_encoder,
    wants_similarity,
)
from vxp_data.pipeline.curate.score import changed_files, media_ids, score_clips
from vxp_data.pipeline.curate.score_rows import write_row_scores
from vxp_data.pipeline.decoders_used import decoders_used
from vxp_data.pipeline.embed.job import EmbedTotals, embed_media
from vxp_data.pipeline.embed.job_settings import JobSettings
from vxp_data.pipeline.embed.merging import merging
from vxp_data.pipeline.embed.metrics import run_metrics
from vxp_data.pipeline.embed.preflight import (
    Check,
    check_children,
    check_machine,
    check_media,
    check_room,
    require,
    sampled,
    shortage_check,
)
from vxp_data.pipeline.embed.preflight_extras import (
    require_installed,
    require_scores,
)
from vxp_data.pipeline.embed.preflight_manifests import check_counts
from vxp_data.pipeline.embed.preflight_nodes import check_nodes
from vxp_data.pipeline.embed.run_encoder import settle_device, settle_encoder
from vxp_data.pipeline.embed.stages import encoder_needs
from vxp_data.pipeline.embed.wanted_media import WantedMedia, read_wanted_media
from vxp_data.pipeline.embed.work_items import WorkList, done_clips
from vxp_data.pipeline.run_dir.directory import RunDirectory, open_run, read_table
from vxp_data.pipeline.run_dir.lock import RunLock, run_lock
from vxp_data.pipeline.run_dir.part_index import read_part_index
from vxp_data.pipeline.run_dir.samples import write_samples
from vxp_data.pipeline.run_dir.samples_read import forget_counts
from vxp_data.pipeline.run_record import (
    PruneResult,
    check_expectations,
    decided_record,
    expected_counts,
    run_record,
    speed_per_s,
)
from vxp_data.records import Reason
from vxp_data.registry import ENCODERS
from vxp_data.settings.prune import LoadedConfig, PruneConfig

TRIED_AGAIN: Final = (Reason.FETCH_FAILED,)
"""Of what failed, what every prune tries again: the store may answer now."""


class Observer:
    """Hears of a run's progress; every method may be overridden."""

    def chose_encoder(self, choice: Choice) -> None:
        """Called first, where no encoder is named: with the one that is taken, and why."""

    def warned(self, warnings: Sequence[Check]) -> None:
        """Called with what the checks before the run did not like."""

    def read(self, checks: Sequence[Check]) -> None:
        """Called with what was found in each manifest."""

    def decoded(self, check: Check) -> None:
        """Called with what decoded the clips, where they were for a GPU."""

    def started(self, num_clips: int, num_done: int) -> None:
        """Called with how many clips are to be embedded, and how many already are."""

    def progressed(self, totals: EmbedTotals) -> None:
        """Called with the totals so far, every few clips."""

    def ended(self) -> None:
        """Called when no more progress comes."""


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
    loaded, choice = settle_encoder(loaded, run)
    if choice is not None:
        observer.chose_encoder(choice)
    require_installed(loaded.config, datasets)
    require_scores(loaded.config)
    with (
        open_engine(loaded.config.cluster) as engine,
        run_lock(run.root, "vxp-data prune") as lock,
    ):
        return _prune(datasets, loaded, str(out), run, lock, engine, observer)


def _prune(
    datasets: Sequence[Dataset],
    loaded: LoadedConfig,
    out: str,
    run: RunDirectory,
    lock: RunLock,
    engine: Engine,
    observer: Observer,
) -> PruneResult:
    started = time.monotonic()
    config = loaded.config
    observer.warned(require(check_machine(config, run.root)))
    hear_shortages(engine, observer)
    config = settle_device(config, engine)
    spec = prepare_encoder(config)
    prepare_text_encoder(config)
    run.check_format()

    def accept(found: Sequence[ManifestCounts]) -> None:
        checks = [
            check_counts(dataset, own, config.manifest.max_bad_share)
            for dataset, own in zip(datasets, found, strict=True)
        ]
        require(checks)
        observer.read(checks)
        run.root.remove(run.run_json.name)  # from here on it is another run

    rules = TaskRules(field=config.tasks.field, mapping=config.tasks.map)
    counts = write_samples(run, datasets, rules, accept)
    run.remove_unfinished()
    settings = JobSettings(
        frames=config.frames,
        decode=config.decode,
        fetch=config.fetch,
        encoder=config.encoder,
        spec=spec,
        sampler=sampler_fingerprint(config),
        parts=run.parts,
        thumbnails=run.thumbnails if config.thumbnails.max_bytes else None,
        sheet_bytes=config.thumbnails.max_bytes,
        beside=config.duplicates.kept_beside(config.encoder.name),
    )
    wanted = read_wanted_media(run)
    deciding = DecisionSettings.of(config, encoder=spec.fingerprint, sampler=settings.sampler)
    require_tasks(deciding, read_table(run.samples, columns=["task"]))
    require_rows_to_decide(run, datasets, deciding)
    totals, num_files = embed_missing(
        run, wanted, config, settings, engine, observer, but=TRIED_AGAIN
    )
    embed_s = time.monotonic() - started
    lock.check()
    decided, changed = score_and_decide(run, datasets, config, settings, wanted, engine)
    if (used := decoders_used(run, config.decode.decoder)) is not None:
        observer.decoded(used)
    wall_s = time.monotonic() - started
    result = PruneResult(
        out=out,
        decided=decided,
        counts=counts,
        num_files=num_files,
        changed=changed,
        totals=totals,
        wall_s=wall_s,
        measure=decided.decided_by,
    )
    lock.check()
    forget_counts(run)
    run.write_run(run_record(result, loaded, datasets, spec, settings.sampler, embed_s))
    if config.expect is not None:
        speed = {"videos_per_s": speed_per_s(totals.clips, embed_s)}
        check_expectations(config.expect, expected_counts(decided_record(decided)) | speed)
    return result


def hear_shortages(engine: Engine, observer: Observer) -> None:
    """Have an observer warned of what a job of an engine waits for, when it does."""

    def tell(short: Shortage) -> None:
        observer.warned([shortage_check(short)])

    engine.on_shortage = tell


def prepare_encoder(config: PruneConfig) -> EncoderSpec:
    """Make sure that the encoder's weights are here, and return what it gives.

    Raises:
        UserError: they are not there and cannot be fetched.
    """
    encoder_class: type[Encoder] = ENCODERS.load(config.encoder.name)
    encoder_class.prepare(config.encoder)
    return encoder_class.describe(config.encoder)


def embed_missing(
    run: RunDirectory,
    wanted: WantedMedia,
    config: PruneConfig,
    settings: JobSettings,
    engine: Engine,
    observer: Observer,
    *,
    but: Collection[str] = (),
) -> tuple[EmbedTotals, int]:
    """Embed the clips that have no embeddings yet, or failed for one of the reasons `but`.

    Returns:
        What was done, and how many files were read.

    Raises:
        UserError: none of the files can be opened, or a node is not ready; see `embed_media`.
    """
    fingerprints = {"encoder": settings.spec.fingerprint, "sampler": settings.sampler}
    work = _missing(run, wanted, **fingerprints, but=but)
    if len(work):  # files that need not be read are not looked at either
        uris = work.uris()
        media = uris.take(pa.array(sampled(len(uris)))).to_pylist()
        found = (
            check_nodes(config, run.root, media, engine)
            if engine.spans_machines
            else [check_media(media)]
        )
        found += check_room(engine, encoder_needs(settings))
        observer.warned(require(found))
    observer.started(work.num_clips, wanted.num_clips - work.num_clips)
    totals = EmbedTotals()
    try:
        with merging(run, engine):
            if len(work):
                totals = _embed_measured(run, work, wanted, config, settings, engine, observer)
    finally:
        observer.ended()
    return totals, len(work)


def _embed_measured(
    run: RunDirectory,
    work: WorkList,
    wanted: WantedMedia,
    config: PruneConfig,
    settings: JobSettings,
    engine: Engine,
    observer: Observer,
) -> EmbedTotals:
    with run_metrics(
        run,
        engine,
        num_clips=work.num_clips,
        num_before=wanted.num_clips - work.num_clips,
        num_files=len(work),
        port=config.cluster.metrics_port,
    ) as metrics:

        def progressed(totals: EmbedTotals) -> None:
            metrics.heard(totals)
            observer.progressed(totals)

        return embed_media(work, engine, settings, progressed)


def _missing(
    run: RunDirectory, wanted: WantedMedia, *, encoder: str, sampler: str, but: Collection[str]
) -> WorkList:
    """Find what has no embeddings yet, or failed for one of the reasons `but`."""
    is_done_C = done_clips(read_part_index(run), wanted, encoder=encoder, sampler=sampler, but=but)
    return WorkList(wanted, is_done_C)


def files_to_read(
    run: RunDirectory, *, encoder: str, sampler: str, but: Collection[str] = ()
) -> int:
    """Count the files that `embed_missing` would read: new ones, and those that have changed."""
    wanted = read_wanted_media(run)
    return len(_missing(run, wanted, encoder=encoder, sampler=sampler, but=but))


def score_and_decide(
    run: RunDirectory,
    datasets: Sequence[Dataset],
    config: PruneConfig,
    settings: JobSettings,
    wanted: WantedMedia,
    engine: Engine,
) -> tuple[Decided, tuple[str, ...]]:
    """Write everything of a run that follows from its embeddings, but for run.json.

    Returns:
        What was decided, and the files whose content is another than in the run before.
    """
    before = media_ids(run)
    fingerprints = {"encoder": settings.spec.fingerprint, "sampler": settings.sampler}
    score_clips(run, wanted, **fingerprints)
    write_row_scores(run, **fingerprints)
    if wants_similarity(config):
        measure_similarities(run, settings, engine)
    decided = decide_run(run, datasets, DecisionSettings.of(config, **fingerprints))
    return decided, changed_files(before, media_ids(run))


def check_decoders(config: PruneConfig) -> None:
    """Try the decoders in a child, as they will run.

    Raises:
        UserError: one does not work.
    """
    elsewhere = config.cluster.address is not None
    require(check_children(config.decode, gpu_elsewhere=elsewhere))


def sampler_fingerprint(config: PruneConfig, selection_version: int = SELECTION_VERSION) -> str:
    """Name by a digest all that decides which frames are embedded, and how they are decoded."""
    return fingerprint(
        {
            "frames": config.frames.model_dump(),
            "decoder": config.decode.decoder,
            "selection_version": selection_version,
        }
    )
