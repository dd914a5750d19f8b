"""`retry`, `verify` and `upgrade`: what is done with a run that has ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vxp_data.commands.options import Address, EngineName, Run, Set, Share, read_overrides, say
from vxp_data.errors import StoppedError, UserError, unknown_name

if TYPE_CHECKING:
    from vxp_data.pipeline.retry import RetryResult
    from vxp_data.storage.folder import Folder


def retry(
    run: Run,
    decoder: Annotated[
        str | None,
        typer.Option("--decoder", help="Try this decoder first, the run's own second."),
    ] = None,
    timeout_s: Annotated[
        float | None,
        typer.Option("--timeout", help="Time limit of a decode, seconds. [4 times the run's]"),
    ] = None,
    memory_mib: Annotated[
        int | None,
        typer.Option("--memory", help="What a decode may allocate, MiB. [twice the run's]"),
    ] = None,
    reasons: Annotated[
        list[str] | None,
        typer.Option(
            "--reason",
            metavar="REASON",
            help="Try what failed for this reason; may be given again. [timeout, out_of_memory, "
            "crashed, decode_failed, inexact, unsupported, unreadable, fetch_failed]",
        ),
    ] = None,
    address: Address = None,
    engine: EngineName = None,
    share: Share = None,
    settings: Set = None,
) -> None:
    """Try quarantined media of a finished run again; what succeeds is scored and decided.

    Replaces RUN's decisions and kept rows.

    Example: vxp-data retry runs/a --decoder torchcodec --timeout 600
    """
    from vxp_data.commands.progress import PruneProgress
    from vxp_data.pipeline.retry import RETRIABLE, RETRIED
    from vxp_data.pipeline.retry import retry as run_retry
    from vxp_data.records import Reason

    for reason in reasons or ():
        if reason not in RETRIABLE:
            raise unknown_name("--reason", reason, sorted(RETRIABLE))
    overrides = read_overrides(
        settings,
        decoder=decoder,
        timeout=timeout_s,
        memory=memory_mib,
        address=address,
        engine=engine,
        share=share,
    )
    chosen = frozenset(map(Reason, reasons)) if reasons else RETRIED
    try:
        result = run_retry(run, overrides, chosen, PruneProgress())
    except KeyboardInterrupt:
        raise StoppedError("stopped. What succeeded is kept: run the same command again.") from None
    _show_retry(result, run)


def _show_retry(result: RetryResult, run: str) -> None:
    from vxp_data.report.terminal import subset_table

    if not result.tried:
        say(why_none(result.failed, result.reasons))
    else:
        say("Tried again:")
        for reason, number in sorted(result.tried.items()):
            say(f"{number:>6}  {reason}: {result.recovered[reason]} succeeded")
    if result.changed:
        say(f"{len(result.changed):>6}  files have changed content")
    decided: Any = result.decided
    say(subset_table(decided.subsets))
    say(
        f"{sum(result.recovered.values())} of {sum(result.tried.values())} videos succeeded with "
        f"{result.decoder}, {result.timeout_s:g} s and {result.memory_mib} MiB, in "
        f"{result.wall_s:.1f} s. {decided.num_in} rows in: {decided.num_kept} kept, "
        f"{decided.num_pruned} pruned, {decided.num_duplicates} duplicates, "
        f"{decided.num_quarantined} quarantined in {run}."
    )


def why_none(failed: Mapping[str, int], reasons: Sequence[str]) -> str:
    """Return why a retry had nothing to try.

    Args:
        failed: clips of the run by the reason for which they failed.
        reasons: what was to be tried.
    """
    from vxp_data.pipeline.retry import RETRIABLE

    if not failed:
        return "Nothing to try again: no video or image of the run failed."
    counts = ", ".join(f"{number} {reason}" for reason, number in sorted(failed.items()))
    wanted = ", ".join(reasons)
    words = f"Nothing to try again: what failed is {counts}, and this retry takes {wanted}."
    if askable := sorted(failed.keys() & RETRIABLE):
        options = " ".join(f"--reason {reason}" for reason in askable)
        return (
            f"{words} Files that have changed since are read again by themselves; {options} "
            "tries these though they have not."
        )
    return f"{words} That follows from the rows: put them right, and prune again."


def verify(
    where: Annotated[
        str, typer.Argument(metavar="DIR", help="A run directory, or a folder of shards.")
    ],
    media: Annotated[
        bool,
        typer.Option("--media", help="Of a run: read every media file again, compare its digest."),
    ] = False,
    selection: Annotated[
        bool,
        typer.Option(
            "--selection", help="Of a run: select anew, compare the order and its inputs."
        ),
    ] = False,
) -> None:
    """Check a run directory, or shards: sums, ids, and all that follows from something else.

    A run: its scores are worked out from the embeddings, its decisions from the scores, its kept
    rows from the decisions. Shards: every record and payload is opened.

    Example: vxp-data verify runs/a --media
    """
    from vxp_data.shard_format import INDEX_NAME
    from vxp_data.storage.folder import open_folder

    folder = open_folder(where)
    if folder.exists(INDEX_NAME):
        if media:
            raise UserError(f"--media: {where} holds shards; their payloads are always read.")
        if selection:
            raise UserError(f"--selection: {where} holds shards; name the run they were made of.")
        _verify_shards(folder, where)
    elif folder.exists("run.json"):
        _verify_run(folder, where, media=media, selection=selection)
    else:
        raise UserError(
            f"{where} holds neither a finished run (run.json) nor finished shards ({INDEX_NAME}). "
            "If the command that writes it was stopped, run the same command again."
        )


def _verify_run(folder: Folder, where: str, *, media: bool, selection: bool) -> None:
    from vxp_data.pipeline.run_dir.directory import RunDirectory
    from vxp_data.pipeline.verify.run import verify_run

    verified = verify_run(RunDirectory(folder), media=media, selection=selection)
    hashed = f", {verified.num_hashed} media files read again" if media else ""
    say(
        f"{where}: {verified.num_samples} rows, {verified.num_clips} clips, "
        f"{verified.num_embeddings} embeddings in {verified.num_parts} parts{hashed}"
    )
    if verified.num_unhashed:
        say(f"{verified.num_unhashed} media files lie in stores and were not read.")
    if verified.problems:
        lines = "\n".join(f"  {problem}" for problem in verified.problems)
        raise UserError(
            f"{where} is not whole, {verified.num_problems} problems:\n{lines}\n"
            "Remove the embeddings parts named here, if any, and run the same `vxp-data prune` "
            "again: it writes only what is missing, and all that follows from it."
        )
    say("All is as it should be.")


def _verify_shards(folder: Folder, where: str) -> None:
    from vxp_data.pipeline.verify.shards import require_whole, verify_shards

    verified = verify_shards(folder)
    say(
        f"{where}: {verified.num_shards} shards, {verified.num_clips} clips, "
        f"{verified.num_samples} rows, {verified.num_bytes / 1e6:.1f} MB"
    )
    require_whole(verified, where)
    say("All is as the index says.")


def upgrade(run: Run) -> None:
    """Convert a run of an older format to this version's; reads no video, embeds nothing again.

    Stopped half-way, the same command goes on; a run that needs nothing is left as it is.

    Example: vxp-data upgrade runs/a
    """
    from vxp_data.pipeline.upgrade import upgrade as run_upgrade
    from vxp_data.schemas import RUN_FORMAT_VERSION

    try:
        done = run_upgrade(run)
    except KeyboardInterrupt:
        raise StoppedError("stopped. Nothing is lost: run the same command again.") from None
    if done.was_current:
        say(f"{run} is of run format {RUN_FORMAT_VERSION} already: nothing to do.")
        return
    say(
        f"{run}: {done.num_parts} parts written anew. It is of run format {RUN_FORMAT_VERSION} now."
    )
    if done.num_unknown:
        say(
            f"{done.num_unknown} parts are of a frame sampling that is not installed here. They "
            "stay, and are not used: `vxp-data prune` embeds their clips again if it is asked to."
        )
