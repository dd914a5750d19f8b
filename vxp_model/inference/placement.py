"""Where a model runs, in what precision, with which attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from transformers.utils.import_utils import is_flash_attn_2_available


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Nothing in it is 'auto'."""

    device: str
    dtype: str
    attention: str

    @classmethod
    def of(cls, *, device: str = "auto", dtype: str = "auto", attention: str = "auto") -> Self:
        """Decide what was left open.

        Args:
            device: 'cuda', 'cpu', ...; 'auto': a GPU where there is one.
            dtype: 'bfloat16', 'float32', ...; 'auto': bfloat16 on a GPU, else float32.
            attention: 'sdpa', 'flash_attention_2'; 'auto': the latter where it is installed and the
                device is a GPU.
        """
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        on_gpu = device.startswith("cuda")
        if dtype == "auto":
            dtype = "bfloat16" if on_gpu else "float32"
        if attention == "auto":
            flash = on_gpu and is_flash_attn_2_available()
            attention = "flash_attention_2" if flash else "sdpa"
        return cls(device=device, dtype=dtype, attention=attention)
