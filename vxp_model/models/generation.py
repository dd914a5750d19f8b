"""What transformers is told when a model of ours answers, and what it may be told."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any, Final

from transformers import GenerationConfig
from transformers.utils.generic import TransformersKwargs

DEFAULT_NEW_TOKENS: Final = 256
"""Of an answer, where neither the caller nor the generation config says."""

_OURS: Final = ("input_ids", "inputs_embeds", "attention_mask", "num_items_in_batch")
"""Arguments of a decoder that the whole model gives, or uses itself."""


def answer_config(
    own: GenerationConfig, given: Mapping[str, Any], *, num_positions: int
) -> tuple[GenerationConfig, dict[str, Any]]:
    """Put together how an answer is generated; `max_new_tokens` is set in it.

    As transformers has it: what is given goes before the model's own, `max_new_tokens` before
    `max_length`, and `max_length` and `min_length` count the prompt's positions too.

    Args:
        own: of the model.
        given: arguments of `generate`, a whole `generation_config` perhaps among them.
        num_positions: of the prompt, its padding included, before any selection.

    Returns:
        config: a new one.
        rest: what is given and belongs to no generation config.

    Raises:
        ValueError: there is no room for an answer.
    """
    asked = dict(given)
    config = deepcopy(asked.pop("generation_config", None) or own)
    config.update(**own.to_dict(), defaults_only=True, allow_custom_entries=True)
    rest: dict[str, Any] = config.update(**asked)
    if config.max_new_tokens is None and config.max_length is not None:
        config.max_new_tokens = config.max_length - num_positions
        if config.max_new_tokens < 1:
            raise ValueError(
                f"max_length is {config.max_length}, and the prompt alone takes {num_positions} "
                "positions: raise it, or give max_new_tokens, which does not count the prompt"
            )
        config.max_length = None
    elif config.max_new_tokens is None:
        config.max_new_tokens = DEFAULT_NEW_TOKENS
    if config.min_length and config.min_new_tokens is None:
        config.min_new_tokens = max(config.min_length - num_positions, 0)
        config.min_length = None
    return config, rest


def check_decoder_arguments(names: Iterable[str], decoder: Any) -> None:
    """Check arguments that a forward pass hands on; a decoder takes any name, and ignores most.

    Args:
        names: of the arguments.
        decoder: of the language model.

    Raises:
        TypeError: it does nothing with one of them.
    """
    named = inspect.signature(decoder.forward).parameters.values()
    known = {one.name for one in named if one.kind is not one.VAR_KEYWORD}
    known |= TransformersKwargs.__optional_keys__
    known -= {*_OURS, "output_router_logits"}
    if unknown := sorted(set(names) - known):
        raise TypeError(
            f"forward() got unknown arguments: {', '.join(unknown)}. Of the language model's own "
            f"it takes {', '.join(sorted(known))}."
        )
