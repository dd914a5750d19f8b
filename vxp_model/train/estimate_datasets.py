"""What each dataset of a recipe's shards gives to an epoch, by their indexes alone.

Tokens of frames are those of the first stored plans: for the language model, before selection and
with the text of their times; for ReCoT, of the window that is shown. Text has four bytes a token,
about. Loads no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vxp_model.data.order import part_counts
from vxp_model.data.row_facts import facts_of
from vxp_model.data.sources import Rows
from vxp_model.models.budget import TIME_TOKENS
from vxp_model.models.video_xl_pro_shape import preset_shape
from vxp_model.settings.mllm import MllmRecipe
from vxp_model.settings.recot import ReCoTRecipe, TrainRecipe
from vxp_model.train.datasets import read_shares, with_shares
from vxp_model.train.mixture import epoch_samples, rows_of
from vxp_model.train.model_config import model_config
from vxp_model.train.text_table import text_table

FrameTokens = Callable[[Rows], NDArray[np.int64]]
"""Tokens of the frames of each row of a source."""

_COUNTED: Final = "Of all rows, those too that a training leaves out: `vxp-model check` names them."
_BYTES_PER_TOKEN: Final = 4
"""Of English text with Qwen's tokenizer, about."""


def describe_datasets(recipe: MllmRecipe | ReCoTRecipe) -> str:
    """Return rows, samples and tokens of each dataset in an epoch, for the terminal.

    Args:
        recipe: of the training; `data.mixture` is told beside.

    Raises:
        UserError: an index cannot be used.
    """
    with_text = isinstance(recipe, MllmRecipe)
    frame_tokens = (
        _of_language_model(recipe) if isinstance(recipe, MllmRecipe) else _of_tower(recipe)
    )
    sums = _per_epoch(recipe, frame_tokens)
    all_samples = sum(own[1] for own in sums.values())
    all_tokens = sum(own[2] + own[3] * with_text for own in sums.values())
    body = {}
    for name, (rows, samples, frames, text) in sorted(sums.items()):
        tokens = [frames, text] if with_text else [frames]
        share = sum(tokens) / max(all_tokens, 1)
        body[name] = [
            f"{rows:,.0f}",
            f"{samples:,.0f}",
            f"{samples / all_samples:.1%}",
            *(f"{number:,.0f}" for number in tokens),
            f"{share:.1%}",
        ]
    of_text = ["of text, about"] * with_text
    head = ["rows", "samples an epoch", "share", "tokens of frames", *of_text, "share"]
    table = text_table(*with_shares(head, body, read_shares(recipe.data.mixture)), num_words=1)
    return f"{table}\n{_COUNTED}"


def _per_epoch(recipe: TrainRecipe, frame_tokens: FrameTokens) -> dict[str, NDArray[np.float64]]:
    """Return of each dataset: rows; samples, tokens of frames and tokens of text of an epoch."""
    parts = rows_of(recipe)
    sizes = [len(rows.row_N) for rows in parts]
    weights = [rows.source.weight for rows in parts]
    counts = part_counts(sizes, weights, epoch_samples(recipe, parts))
    total: dict[str, NDArray[np.float64]] = {}
    for rows, count, size in zip(parts, counts, sizes, strict=True):
        facts = rows.facts or facts_of(rows.table)
        names, dataset_N = facts.datasets()
        text_N = facts.text_bytes_N[rows.row_N] / _BYTES_PER_TOKEN
        of_row = [np.ones(size), frame_tokens(rows), text_N]
        rows_D, frames_D, text_D = (
            np.bincount(dataset_N[rows.row_N], weights=value_N, minlength=len(names))
            for value_N in of_row
        )
        for name, *own in zip(names, rows_D, rows_D, frames_D, text_D, strict=True):
            if own[0]:
                more = np.array(own) * [1.0, *[count / size] * 3]
                total[name] = total.get(name, np.zeros(4)) + more
    return total


def _of_language_model(recipe: MllmRecipe) -> FrameTokens:
    start = recipe.start
    shape = preset_shape(start.preset, temporal_factor=start.temporal_factor)

    def tokens(rows: Rows) -> NDArray[np.int64]:
        groups_N = -(-rows.table.num_frames_N[rows.row_N].astype(np.int64) // shape.temporal_factor)
        time_N = np.where(_is_image(rows), 0, TIME_TOKENS)
        tokens_N: NDArray[np.int64] = groups_N * (shape.group_tokens + time_N)
        return tokens_N

    return tokens


def _of_tower(recipe: ReCoTRecipe) -> FrameTokens:
    config = model_config(recipe.model)

    def tokens(rows: Rows) -> NDArray[np.int64]:
        planned_N = rows.table.num_frames_N[rows.row_N].astype(np.int64)
        shown_N = np.minimum(planned_N, recipe.data.window_frames)
        # An image is shown as a group of itself, whose copies count.
        frames_N = np.where(_is_image(rows), config.dts.temporal_factor, shown_N)
        tokens_N: NDArray[np.int64] = frames_N * config.grid**2
        return tokens_N

    return tokens


def _is_image(rows: Rows) -> NDArray[np.bool_]:
    return np.isin(rows.row_N, rows.table.rows_of(["image"]))
