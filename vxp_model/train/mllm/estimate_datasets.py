"""What each dataset of a recipe's shards gives to an epoch, by their indexes alone."""

from __future__ import annotations

import numpy as np

from vxp_model.data.order import part_counts
from vxp_model.data.row_facts import facts_of
from vxp_model.data.sources import Rows
from vxp_model.models.budget import TIME_TOKENS
from vxp_model.models.video_xl_pro_shape import ModelShape, preset_shape
from vxp_model.settings.mllm import MllmRecipe
from vxp_model.train.datasets import read_shares, with_shares
from vxp_model.train.mixture import epoch_samples, rows_of
from vxp_model.train.text_table import text_table

_BYTES_PER_TOKEN = 4
"""Of English text with Qwen's tokenizer, about."""
_HEAD = ["rows", "samples an epoch", "share", "tokens of frames", "of text, about", "share"]


def describe_datasets(recipe: MllmRecipe) -> str:
    """Return rows, samples and tokens of each dataset in an epoch, for the terminal.

    Tokens of frames, with the text of their times, are those of the first stored plans before
    selection; text has four bytes a token, about.

    Args:
        recipe: of the training; `data.mixture` is told beside.

    Raises:
        UserError: an index cannot be used.
    """
    parts = rows_of(recipe)
    sizes = [len(rows.row_N) for rows in parts]
    weights = [rows.source.weight for rows in parts]
    counts = part_counts(sizes, weights, epoch_samples(recipe, parts))
    shape = preset_shape(recipe.start.preset)
    total: dict[str, list[float]] = {}
    for rows, count, size in zip(parts, counts, sizes, strict=True):
        for name, numbers in _of_source(rows, shape).items():
            num_rows, frame_tokens, text_tokens = numbers
            times = count / size
            sums = total.setdefault(name, [0.0] * 4)
            for i, more in enumerate(
                (num_rows, times * num_rows, times * frame_tokens, times * text_tokens)
            ):
                sums[i] += more
    samples = sum(sums[1] for sums in total.values())
    tokens = sum(sums[2] + sums[3] for sums in total.values())
    body = {
        name: [
            f"{rows:,.0f}",
            f"{drawn:,.0f}",
            f"{drawn / samples:.1%}",
            f"{frames:,.0f}",
            f"{text:,.0f}",
            f"{(frames + text) / max(tokens, 1):.1%}",
        ]
        for name, (rows, drawn, frames, text) in sorted(total.items())
    }
    head, lines = with_shares(_HEAD, body, read_shares(recipe.data.mixture))
    return text_table(head, lines, num_words=1)


def _of_source(rows: Rows, shape: ModelShape) -> dict[str, tuple[float, float, float]]:
    """Return rows, tokens of frames and tokens of text of each dataset of a source."""
    facts = rows.facts or facts_of(rows.table)
    names, dataset_N = facts.datasets()
    own_N = rows.row_N
    groups_N = -(-rows.table.num_frames_N[own_N].astype(np.int64) // shape.temporal_factor)
    is_still_N = np.isin(own_N, rows.table.rows_of(["image"]))
    frames_N = groups_N * (shape.group_tokens + np.where(is_still_N, 0, TIME_TOKENS))
    text_N = facts.text_bytes_N[own_N] / _BYTES_PER_TOKEN

    def by_dataset(value_N: np.ndarray | None) -> list[float]:
        sums: list[float] = np.bincount(dataset_N[own_N], value_N, minlength=len(names)).tolist()
        return sums

    columns = zip(by_dataset(None), by_dataset(frames_N), by_dataset(text_N), strict=True)
    return {name: found for name, found in zip(names, columns, strict=True) if found[0]}
