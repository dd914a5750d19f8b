"""Which matrices of the language model LoRA stands beside, by name."""

from __future__ import annotations

from collections.abc import Collection

from vxp_model.errors import UserError
from vxp_model.settings.mllm import LoraSettings


def adapted_names(
    rule: LoraSettings, *, matrices: Collection[str], modules: Collection[str]
) -> list[str]:
    """Return the names of the matrices that get a pair, each once.

    Args:
        rule: its targets are the ends of names.
        matrices: names of those that can have one.
        modules: names of everything, matrices among them.

    Raises:
        UserError: a target names nothing, or what cannot have one.
    """
    found: dict[str, None] = {}
    for target in rule.targets:
        named = [name for name in modules if f".{name}".endswith(f".{target}")]
        if not named or not set(matrices) >= set(named):
            known = sorted({name.rpartition(".")[2] for name in matrices})
            raise UserError(
                f"lora.targets has {target!r}, which is no matrix of the language model's own; "
                f"wanted some of: {', '.join(known)}."
            )
        found |= dict.fromkeys(named)
    return list(found)
