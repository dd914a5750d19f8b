"""A tiny random language model on disk, with a tokenizer of bytes and a chat template."""

from __future__ import annotations

from pathlib import Path

from support.tiny_video_xl_pro import say_letters

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_tiny_causal_lm(folder: Path, *, seed: int = 0) -> Path:
    """Write a Llama of one layer whose replies are printable bytes."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from vxp_model.models.byte_tokenizer import byte_tokenizer

    tokenizer = byte_tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, eos_token_id=2, pad_token_id=0,
        initializer_range=1.0,
    )  # fmt: skip
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    say_letters(model, tokenizer)
    model.save_pretrained(folder)
    return folder
