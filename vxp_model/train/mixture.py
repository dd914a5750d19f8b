"""What a recipe makes of its shards: how many samples a step and an epoch have. Loads no torch."""

from __future__ import annotations

from collections.abc import Sequence

from vxp_model.data.order import part_counts
from vxp_model.data.sources import Rows, Source, read_rows
from vxp_model.errors import require
from vxp_model.settings.recot import BatchSettings, SourceSettings, TrainRecipe


def accumulation(batch: BatchSettings, world_size: int) -> int:
    """Return how many micro-batches each process runs for a step.

    Raises:
        UserError: the step's samples cannot be dealt out evenly.
    """
    at_once = batch.micro_samples * world_size
    require(
        batch.global_samples % at_once == 0,
        f"batch.global_samples {batch.global_samples} is no multiple of batch.micro_samples "
        f"{batch.micro_samples} x {world_size} processes: change one of them.",
    )
    return batch.global_samples // at_once


def sources_of(sources: Sequence[SourceSettings]) -> list[Source]:
    """Return the mixture as the loader takes it."""
    return [
        Source(
            uri=source.uri,
            weight=source.weight,
            kinds=tuple(source.kinds),
            datasets=source.datasets,
        )
        for source in sources
    ]


def rows_of(recipe: TrainRecipe) -> list[Rows]:
    """Read the indexes of a recipe's shards; no row is left out.

    Raises:
        UserError: see `Rows.of`.
    """
    return read_rows(sources_of(recipe.data.sources))


def epoch_samples(recipe: TrainRecipe, parts: Sequence[Rows]) -> int:
    """Return the samples of an epoch: every sample at least once, and no step cut short."""
    sizes = [len(rows.row_N) for rows in parts]
    weights = [rows.source.weight for rows in parts]
    step = recipe.batch.global_samples
    return -(-sum(part_counts(sizes, weights, None)) // step) * step


def mean_answers(parts: Sequence[Rows]) -> float:
    """Return how many answers a sample has on average, of rows drawn as the loader does.

    Rows of an index that does not tell count as one each.
    """
    sizes = [len(rows.row_N) for rows in parts]
    counts = part_counts(sizes, [rows.source.weight for rows in parts], None)
    total = 0.0
    for rows, count in zip(parts, counts, strict=True):
        facts = rows.facts
        total += count * (1.0 if facts is None else float(facts.num_answers_N[rows.row_N].mean()))
    return total / sum(counts)
