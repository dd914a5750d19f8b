"""What is shown while a command works. Loads the pipeline: import it where it is needed."""

from __future__ import annotations

import time
from collections.abc import Sequence

from vxp_data.commands.options import console, say
from vxp_data.encoders.choose import Choice
from vxp_data.pipeline.embed.job import EmbedTotals
from vxp_data.pipeline.embed.preflight import Check
from vxp_data.pipeline.prune import Observer
from vxp_data.pipeline.shard.command import ShardObserver
from vxp_data.pipeline.shard.write_shard import WrittenShard
from vxp_data.report.terminal import ClipProgress


class PruneProgress(Observer):
    """Embeddings, as they come."""

    def __init__(self) -> None:
        self._progress = ClipProgress(console())

    def chose_encoder(self, choice: Choice) -> None:
        """Print which encoder is taken where none is named, why, and what it knows."""
        say(str(choice), err=True)

    def warned(self, warnings: Sequence[Check]) -> None:
        """Print what the checks before the run did not like."""
        for check in warnings:
            say(f"warning: {check}", err=True)

    def read(self, checks: Sequence[Check]) -> None:
        """Print what is in each manifest."""
        for check in checks:
            say(str(check), err=True)

    def decoded(self, check: Check) -> None:
        """Print which decoder the clips came from."""
        say(str(check), err=True)

    def started(self, num_clips: int, num_done: int) -> None:
        """Show the bar."""
        if num_done:
            say(f"{num_done} videos have embeddings here; {num_clips} to go.", err=True)
        self._progress.start(num_clips)

    def progressed(self, totals: EmbedTotals) -> None:
        """Show how far it is."""
        self._progress.update(totals.clips, totals.failed, totals.reading_s)

    def ended(self) -> None:
        """Remove the bar."""
        self._progress.stop()


class ShardProgress(ShardObserver):
    """Clips in shards, as these come."""

    def __init__(self) -> None:
        self._progress = ClipProgress(console())
        self._done = self._lost = 0
        self._started_s = 0.0

    def started(self, num_clips: int) -> None:
        """Show the bar."""
        self._started_s = time.monotonic()
        self._progress.start(num_clips)

    def progressed(self, shard: WrittenShard) -> None:
        """Show how far it is."""
        self._done += shard.entry.num_clips
        self._lost += len(set(shard.quarantined["key"].to_pylist()))
        self._progress.update(self._done, self._lost, time.monotonic() - self._started_s)

    def ended(self) -> None:
        """Remove the bar."""
        self._progress.stop()
