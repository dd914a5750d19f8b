"""Tiny random models of ours on disk, and frames that are drawn for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def write_tiny_video_xl_pro(folder: Path, *, seed: int = 0) -> Path:
    """Write the tiny preset with random weights and a tokenizer of bytes."""
    import torch

    from vxp_model.models.byte_tokenizer import byte_tokenizer
    from vxp_model.models.processor import VideoXLProProcessor
    from vxp_model.models.video_xl_pro import VideoXLProForConditionalGeneration
    from vxp_model.models.video_xl_pro_config import video_xl_pro_preset

    config = video_xl_pro_preset("tiny")
    torch.manual_seed(seed)
    VideoXLProForConditionalGeneration(config).save_pretrained(folder)
    VideoXLProProcessor.for_model(config, byte_tokenizer()).save_pretrained(folder)
    return folder


def say_letters(model: Any, tokenizer: Any) -> None:
    """Have a random model answer in printable bytes, so that answers can be told apart."""
    known = range(len(tokenizer))
    mute = [one for one in known if not _is_plain(tokenizer.decode([one]))]
    model.generation_config.suppress_tokens = mute


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and text.strip() == text and len(text) == 1


def drawn_frames(count: int, *, px: int, seed: int = 0) -> NDArray[np.uint8]:
    """Draw frames of large patches, no two alike: uint8 [count, px, px, 3]."""
    draw = np.random.default_rng(seed)
    coarse = draw.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    frames_THWC: NDArray[np.uint8] = coarse.repeat(px // 4, 1).repeat(px // 4, 2)
    return frames_THWC
