"""What a ReCoT training ends with: its loss, and the model with its card."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vxp_data.settings.file import Loaded
from vxp_model.data.state import LoaderState
from vxp_model.models.artefacts import PARTS, save_recot
from vxp_model.models.recot import ReCoTModel
from vxp_model.models.recot_config import ReCoTConfig
from vxp_model.settings.recot import ReCoTRecipe
from vxp_model.train.checkpoints import TrainState
from vxp_model.train.datasets import trained_table
from vxp_model.train.metrics_log import LAST_STEPS, LOG_NAME, MODEL_NAME, last_mean, read_log
from vxp_model.train.recot.model_card import CardFacts, write_card
from vxp_model.train.run_record import versions


def write_model(
    weights: Mapping[str, Tensor],
    config: ReCoTConfig,
    *,
    loaded: Loaded[ReCoTRecipe],
    state: TrainState,
    rows: Sequence[str],
    out: Path,
) -> Path:
    """Write the artefacts and their card.

    Args:
        weights: of the whole autoencoder, fp32.
        config: its shapes.
        loaded: the recipe.
        state: at the end.
        rows: what is said of the rows that could not be learned from, in lines.
        out: the run directory, with its log.

    Returns:
        folder: that holds them.
    """
    with torch.device("meta"):
        model = ReCoTModel(config)
    model.load_state_dict(dict(weights), strict=True, assign=True)
    folder = save_recot(model, out / MODEL_NAME)
    recipe = loaded.config
    log = _with_loss(out)
    loader = LoaderState.from_dict(state.loader)
    is_random = recipe.tower.init == "random"
    facts = CardFacts(
        settings=[(origin.key, origin.value) for origin in loaded.origins],
        sources=loader.sources,
        tower="random weights" if is_random else f"`{recipe.tower.source}`",
        tower_digest=state.frozen_digest,
        tower_is_random=is_random,
        steps=state.step,
        samples=state.step * recipe.batch.global_samples,
        tokens=state.num_tokens,
        first_loss=log[0]["reconstruction_loss"] if log else math.nan,
        final_loss=last_mean(out, "reconstruction_loss"),
        final_loss_steps=min(LAST_STEPS, len(log)),
        mask_ratio=config.sgm.ratio_at(1.0),
        unmasked_share=config.sgm.unmasked_share,
        num_replaced=len(loader.replaced),
        rows=rows,
        datasets=trained_table(state.datasets, recipe.data.mixture),
        num_bad_batches=len(state.bad_batches),
        num_parameters={
            f"`{part}.safetensors`": sum(p.numel() for p in model.get_submodule(part).parameters())
            for part in PARTS
        },
        versions=versions(),
    )
    write_card(facts, folder / "README.md")
    return folder


def _with_loss(out: Path) -> list[dict[str, Any]]:
    return [entry for entry in read_log(out / LOG_NAME) if "reconstruction_loss" in entry]
