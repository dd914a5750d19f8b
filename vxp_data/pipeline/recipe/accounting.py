"""Where every input row of a recipe ended, and what became of the kept ones in shards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from vxp_data.pipeline.run_record import expected_counts
from vxp_data.shard_index import ShardIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeAccounting:
    """Rows from end to end, and what the shards hold."""

    num_in: int
    num_kept: int
    num_pruned: int
    num_duplicates: int
    """Also those in evaluation sets."""
    num_quarantined: int
    quarantined: dict[str, int]
    """By reason."""
    num_samples: int
    """Kept rows in shards."""
    num_unsharded: int
    """Kept rows whose file could not be used any more when it was put into a shard."""
    num_clips: int
    num_shards: int
    num_frames: int
    """Planned, of the first stored epoch."""
    num_bytes: int
    """Of the shards."""
    rows: dict[str, int]
    """Rows in shards, by dataset; every dataset that goes in is there."""
    wanted: dict[str, int]
    """By dataset, the rows that were to stay, where its mixture states any."""

    @classmethod
    def of(cls, run: Mapping[str, Any], index: ShardIndex, sharded: Mapping[str, int]) -> Self:
        """Read the accounting from what the steps have written.

        Args:
            run: run.json.
            index: of the shards.
            sharded: by dataset, rows in shards.
        """
        wanted = {count["dataset"]: count["wanted"] for count in run["decided"]["datasets"]}
        return cls(
            **expected_counts(run["decided"]),
            num_samples=index.samples.num_rows,
            num_unsharded=index.quarantine.num_rows,
            num_clips=sum(shard.num_clips for shard in index.shards),
            num_shards=len(index.shards),
            num_frames=sum(shard.num_frames for shard in index.shards),
            num_bytes=sum(shard.num_bytes for shard in index.shards),
            rows={name: sharded.get(name, 0) for name in wanted},
            wanted={name: rows for name, rows in wanted.items() if rows is not None},
        )

    def check(self) -> None:
        """Check that every row is there once.

        Raises:
            AssertionError: a row was lost, or counted twice: our mistake, never the user's.
        """
        ends = self.num_kept + self.num_pruned + self.num_duplicates + self.num_quarantined
        is_whole = self.num_kept == self.num_samples + self.num_unsharded
        if self.num_in != ends or not is_whole or sum(self.rows.values()) != self.num_samples:
            raise AssertionError(f"rows do not add up: {self}")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return the accounting as two lines, and one of a mixture's datasets."""
        decided = (
            f"{self.num_in} rows in = {self.num_kept} kept + {self.num_pruned} pruned + "
            f"{self.num_duplicates} duplicate + {self.num_quarantined} quarantined."
        )
        sharded = (
            f"{self.num_kept} rows kept = {self.num_samples} in shards + {self.num_unsharded} "
            f"quarantined on the way: {self.num_clips} clips, {self.num_shards} shards, "
            f"{self.num_frames} frames planned, {self.num_bytes / 1e6:.1f} MB."
        )
        mixed = [
            f"{name} {self.rows[name]:,} of {wanted:,}" for name, wanted in self.wanted.items()
        ]
        return [decided, sharded, *([f"Rows of the mixture: {', '.join(mixed)}."] if mixed else [])]
