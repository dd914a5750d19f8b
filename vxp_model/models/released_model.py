"""Read a public Video-XL-Pro-3B or Video-XL-2 checkpoint as a model of ours, into memory.

What the released code does and this model does not, with these weights: Video-XL-Pro pads short
groups with frames drawn at random and drops tokens at random whatever the length, both show an
image as tiles; ours pads with the last frame, keeps every token that fits, and shows an image as
one group. The selector has other parts than Video-XL-Pro's, so that it starts from chance: it acts
above the context limit alone. `released_import` writes the model to a folder instead, holding
little of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from vxp_model.models.released_plan import ImportReport, Kind, plan_released
from vxp_model.models.video_xl_pro import VideoXLProForConditionalGeneration
from vxp_model.modules.shapes import VisionConfig


def load_released_model(
    folder: Path | str,
    *,
    kind: Kind | None = None,
    vision: VisionConfig | None = None,
    grid: int | None = None,
    visual_token_id: int = 151_654,
    seed: int = 0,
    ignore: Sequence[str] = (),
) -> tuple[VideoXLProForConditionalGeneration, ImportReport]:
    """Build a model with released weights, on the CPU, in fp32.

    The legacy flags of compressor and, for Video-XL-Pro, visual rotation are on.

    Args:
        folder: see `plan_released`, as all others.
        kind: see there.
        vision: see there.
        grid: see there.
        visual_token_id: see there.
        seed: see there.
        ignore: see there.

    Raises:
        UserError: it is no such checkpoint; a tensor is missing, unknown, or of another shape.
    """
    plan = plan_released(
        folder,
        kind=kind,
        vision=vision,
        grid=grid,
        visual_token_id=visual_token_id,
        seed=seed,
        ignore=ignore,
    )
    with torch.random.fork_rng(devices=[]):
        model = VideoXLProForConditionalGeneration(plan.config)
    state: dict[str, Any] = {
        name: tensor.float() for name, tensor in plan.read(list(plan.shapes)).items()
    }
    if plan.config.text_config.tie_word_embeddings:  # type: ignore[union-attr]
        state["language_model.lm_head.weight"] = state["language_model.model.embed_tokens.weight"]
    model.load_state_dict(state, strict=True)
    model.requires_grad_(True)
    model.vision.tower.requires_grad_(False)
    model.train(False)
    return model, plan.report
