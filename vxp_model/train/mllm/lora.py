"""LoRA on the language model: small matrices are trained beside large ones that stay.

peft puts them in; what is written at the end is the model with them merged, and beside it the
matrices alone, as peft reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from peft import LoraConfig, inject_adapter_in_model
from safetensors.torch import save_file
from torch import Tensor, nn

from vxp_model.settings.mllm import LoraSettings
from vxp_model.train.mllm.lora_targets import adapted_names

ADAPTER_NAME: Final = "adapter"
"""Folder of the matrices alone, within the run directory."""
_BASE: Final = ".base_layer"
_OWN: Final = ".lora_"
_ACTIVE: Final = ".default"


def lora_config(rule: LoraSettings) -> LoraConfig:
    """Return peft's settings."""
    return LoraConfig(
        r=rule.rank,
        lora_alpha=rule.alpha,
        lora_dropout=rule.dropout,
        target_modules=list(rule.targets),
        bias="none",
        task_type="CAUSAL_LM",
    )


def adapted_modules(language_model: Any, rule: LoraSettings) -> dict[str, nn.Linear]:
    """Return the modules that get a pair, by name.

    Raises:
        UserError: a target names nothing, or what is no matrix, or a head that is the embedding
            too: what was trained beside it could not be merged.
    """
    modules = dict(language_model.named_modules())
    matrices = {name: own for name, own in modules.items() if isinstance(own, nn.Linear)}
    head = language_model.get_output_embeddings()
    if head is not None and head.weight is language_model.get_input_embeddings().weight:
        matrices = {name: own for name, own in matrices.items() if own is not head}
    names = adapted_names(rule, matrices=matrices, modules=modules)
    return {name: matrices[name] for name in names}


def add_lora(language_model: nn.Module, rule: LoraSettings, *, seed: int) -> None:
    """Insert the matrices; of the language model, they alone require a gradient.

    The model gives what it gave: the second of each pair begins at zero. Torch's own random state
    is left as it was.

    Args:
        language_model: changed in place; its class and methods stay.
        rule: what the recipe says.
        seed: of the first of each pair.

    Raises:
        UserError: a target cannot have one; see `adapted_modules`.
    """
    adapted_modules(language_model, rule)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(lora_config(rule), language_model)
    for name, parameter in language_model.named_parameters():
        parameter.requires_grad_(_OWN in name)


def merge_lora(weights: Mapping[str, Tensor], rule: LoraSettings) -> dict[str, Tensor]:
    """Add each pair's product to the matrix that it stands beside.

    Args:
        weights: of a model with LoRA, by name; anything else in it stays.
        rule: what the recipe says.

    Returns:
        weights: under the names that they have without LoRA.
    """
    scale, merged = rule.alpha / rule.rank, {}
    for name, weight in weights.items():
        if _OWN in name:
            continue
        stem, found, _ = name.partition(f"{_BASE}.weight")
        if found:
            up, down = (weights[f"{stem}{_OWN}{kind}{_ACTIVE}.weight"] for kind in "BA")
            weight = (weight.float() + scale * (up.float() @ down.float())).to(weight.dtype)
        merged[name.replace(_BASE, "")] = weight
    return merged


def write_adapter(
    folder: Path, weights: Mapping[str, Tensor], rule: LoraSettings, *, prefix: str
) -> None:
    """Write the matrices alone, for `peft.PeftModel.from_pretrained(language_model, folder)`.

    Args:
        folder: written.
        weights: of the whole model.
        rule: what the recipe says.
        prefix: where the language model is in it: 'language_model.'.
    """
    own: dict[str, Any] = {
        f"base_model.model.{name.removeprefix(prefix).replace(_ACTIVE, '')}": weight.contiguous()
        for name, weight in weights.items()
        if _OWN in name
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(own, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = lora_config(rule)
    config.inference_mode = True
    config.save_pretrained(str(folder))
