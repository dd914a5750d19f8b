"""An answer about a long video on a device: seconds to the first token, and memory.

Frames are drawn, not decoded, and the prompt is written in tokens, so that neither a decoder nor a
tokenizer is needed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from support.gpu_checks.common import beside_estimate, clear_device

if TYPE_CHECKING:
    from vxp_model.models.video_xl_pro import VideoXLProForConditionalGeneration
    from vxp_model.models.video_xl_pro_config import VideoXLProConfig

NUM_BEFORE: Final = 32
"""Tokens of text before the video."""
NUM_QUESTION: Final = 16
"""Tokens of the question behind it."""
TEXT_ID: Final = 20


@dataclass
class TokenTimes:
    """A streamer of transformers: notes when each token is out."""

    at_s: list[float] = field(default_factory=list)

    def put(self, value: Tensor) -> None:
        """Take tokens; the first call brings the prompt's, of which there are none."""
        if value.numel():
            self.at_s.append(time.perf_counter())

    def end(self) -> None:
        """Do nothing: all tokens are out."""


@torch.no_grad()
def answer(
    preset: str, device: torch.device, *, num_frames: int, new_tokens: int
) -> dict[str, Any]:
    """Encode drawn frames, select, read the prompt and answer, as `vxp-model generate` does.

    Args:
        preset: of the model; its weights are random, bf16 on CUDA.
        device: where.
        num_frames: of the video.
        new_tokens: of the answer, no more and no less.
    """
    from device_rates import peak_bytes, wait_for

    from vxp_model.inference.prefill import prefill
    from vxp_model.models.budget import ContextBudget

    model = _build(preset, device)
    config: Any = model.config
    ids_BP, kinds_BP = _prompt(config, num_frames, device)
    clear_device(device)
    wait_for(device)
    began_s = time.perf_counter()
    tokens_GND = _encode(model, num_frames)
    wait_for(device)
    encoded_s = time.perf_counter()
    sequence = model.sequence(
        input_ids=ids_BP, token_kinds=kinds_BP, visual_tokens=tokens_GND, room=new_tokens
    )
    num_positions = sequence.embeds_BPD.shape[1]
    cache = prefill(model.language_model, sequence.embeds_BPD)
    wait_for(device)
    read_s, times = time.perf_counter(), TokenTimes()
    model.language_model.generate(
        inputs_embeds=sequence.embeds_BPD,
        attention_mask=sequence.attention_mask_BP,
        past_key_values=cache,
        max_new_tokens=new_tokens,
        min_new_tokens=new_tokens,
        do_sample=False,
        pad_token_id=0,
        eos_token_id=1,
        streamer=times,
    )
    budget = ContextBudget.of(config, bytes_per_number=model.dtype.itemsize)
    cost = budget.cost(
        num_frames,
        num_text=NUM_BEFORE + NUM_QUESTION + new_tokens,
        context_limit=config.context_limit,
    )
    return {
        "frames": num_frames,
        "positions": num_positions + new_tokens,
        "positions_estimated": cost.num_positions,
        "visual_tokens": cost.num_visual,
        "visual_tokens_kept": sequence.selections[0].num_kept,
        "encode_s": round(encoded_s - began_s, 3),
        "read_s": round(read_s - encoded_s, 3),
        "first_token_s": round(times.at_s[0] - began_s, 3),
        "new_tokens": len(times.at_s),
        "new_tokens_per_s": round((len(times.at_s) - 1) / (times.at_s[-1] - times.at_s[0]), 1),
        **beside_estimate(peak_bytes(device), cost.total_bytes),
        "peak_bytes": peak_bytes(device),
        "estimate_bytes": cost.total_bytes,
    }


def _build(preset: str, device: torch.device) -> VideoXLProForConditionalGeneration:
    from vxp_model.models.video_xl_pro import VideoXLProForConditionalGeneration
    from vxp_model.models.video_xl_pro_config import video_xl_pro_preset

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16 if device.type == "cuda" else torch.float32)
    try:
        torch.manual_seed(0)
        with torch.device(device):
            model = VideoXLProForConditionalGeneration(video_xl_pro_preset(preset))
    finally:
        torch.set_default_dtype(before)
    model.train(False)
    return model


def _prompt(
    config: VideoXLProConfig, num_frames: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Write text, then each group's time text and visual positions, then the question."""
    from vxp_model.models.budget import TIME_TOKENS
    from vxp_model.models.visual_sequence import Kind

    groups = -(-num_frames // config.temporal_factor)
    group = [Kind.TIME] * TIME_TOKENS + [Kind.VISUAL] * config.group_tokens
    kinds = [Kind.TEXT] * NUM_BEFORE + group * groups + [Kind.QUERY] * NUM_QUESTION
    kinds_BP = torch.tensor([[int(kind) for kind in kinds]], device=device)
    ids_BP = torch.where(kinds_BP == Kind.VISUAL, config.visual_token_id, TEXT_ID)
    return ids_BP, kinds_BP


def _encode(model: VideoXLProForConditionalGeneration, num_frames: int) -> Tensor:
    """Encode drawn frames a piece at a time, into a tensor made before, as a session does."""
    config: Any = model.config
    factor, side = config.temporal_factor, config.vision.image_px
    piece = max(1, config.chunk_frames // factor) * factor
    tokens_GND = torch.empty(
        (-(-num_frames // factor), config.group_tokens, config.text_width),
        dtype=model.dtype,
        device=model.device,
    )
    for start in range(0, num_frames, piece):
        count = min(piece, num_frames - start)
        shape = (count, side, side, 3)
        frames = torch.randint(0, 256, shape, dtype=torch.uint8, device=model.device)
        part_GND = model.vision(frames, [count])
        tokens_GND[start // factor : start // factor + len(part_GND)] = part_GND
    return tokens_GND
