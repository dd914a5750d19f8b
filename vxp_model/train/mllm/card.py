"""The model card of a Video-XL-Pro training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from vxp_data.settings.file import Loaded
from vxp_model.settings.mllm import LossMean, MllmRecipe
from vxp_model.train.datasets import Counts, trained_table
from vxp_model.train.run_record import versions

LOSS_MEANS: Final[dict[LossMean, str]] = {
    "token": "mean over label tokens",
    "sample": "mean over samples of each one's mean over its label tokens",
}


def write_mllm_card(
    path: Path,
    *,
    loaded: Loaded[MllmRecipe],
    trained: Sequence[str],
    temporal_factor: int,
    random_parts: Sequence[str],
    steps: int,
    sequences: int,
    positions: int,
    loss: float,
    token_loss: float,
    rows: Sequence[str],
    datasets: Counts,
) -> None:
    """Write it; last of a model's files, so that its presence says that the model is whole.

    Args:
        path: of the card.
        loaded: the recipe.
        trained: parts of this stage.
        temporal_factor: of the model.
        random_parts: parts that nobody has trained.
        steps: of this stage.
        sequences: that samples were made: one each, or one for each answer.
        positions: tokens that went in, before selection.
        loss: mean of the last steps, of what was minimised.
        token_loss: the same of the mean over label tokens.
        rows: what is said of the rows that could not be learned from, in lines.
        datasets: what went in of each dataset.
    """
    recipe = loaded.config
    warning = (
        f"**Not trained, weights from chance: {', '.join(random_parts)}.**\n\n"
        if random_parts
        else ""
    )
    settings = "\n".join(f"| `{origin.key}` | `{origin.value}` |" for origin in loaded.origins)
    about = ", ".join(f"{name} {number}" for name, number in versions().items())
    told = "".join(f"{line}.\n\n" for line in rows)
    groups = (
        "No compressor: every frame has its own visual tokens. "
        if temporal_factor == 1
        else f"{temporal_factor} frames become the visual tokens of one. "
    )
    losses = f"loss of the last steps {loss:.4g}, the {LOSS_MEANS[recipe.loss]}"
    if recipe.loss != "token":
        losses += f" ({token_loss:.4g} as the {LOSS_MEANS['token']})"
    text = (
        f"# Video-XL-Pro, stage {recipe.stage}\n\n{warning}"
        f"{groups}Trained parts: {', '.join(trained)}. {steps} steps of "
        f"{recipe.batch.global_samples} samples, {sequences:,} sequences, {positions:,} positions; "
        f"{losses}. What was trained on: `sample_ids` in the run's `log.jsonl`.\n\n"
        f"{told}{trained_table(datasets, recipe.data.mixture)}\n\n"
        f"Made with {about}.\n\n| setting | value |\n|---|---|\n{settings}\n"
    )
    beside = path.with_name(f".{path.name}.part")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)
