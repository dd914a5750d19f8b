"""Long video: seconds, tokens a second and memory by stage; computed at full size, measured here.

    python pipelines/bench/long_video.py [--frames 1024 8192 16384]

With a GPU: the full-size model with random weights on random frames, with every token and with
selection to the context limit, and at the first count beside the plain path: the same tower,
projector and 2 x 2 pool without the compressor, 144 tokens a frame instead of 36. Answers are
noise; past the language model's trained positions they would be with any weights.

Without one: what the full size would take, computed, and a small model measured whose cache must
have exactly the bytes that the computation says.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import torch
from records import write_record
from torch import Tensor
from transformers import Qwen2Config

from vxp_model.inference.prefill import prefill
from vxp_model.inference.session import UNLIMITED, LongVideoModel, WatchedVideo, peak_bytes
from vxp_model.models.budget import ContextBudget
from vxp_model.models.byte_tokenizer import NUM_TOKENS, VISUAL_ID, byte_tokenizer
from vxp_model.models.processor import VideoXLProProcessor
from vxp_model.models.video_xl_pro import VideoXLProForConditionalGeneration
from vxp_model.models.video_xl_pro_config import VideoXLProConfig, video_xl_pro_preset
from vxp_model.modules.siglip import normalise_frames

TEN_BYTES: Final = "at{:06.1f}s:"
"""A time text as long in bytes as Qwen's is in tokens: the tokenizer here has one for each byte."""
NEW_TOKENS: Final = 32
QUESTION: Final = "What is shown?"
LIBRARIES: Final = ("vxp", "torch", "transformers", "flash_attn")


def main(argv: Sequence[str]) -> None:
    """Measure, print, write the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    has_gpu = torch.cuda.is_available()
    default = [1024, 8192, 16_384] if has_gpu else [64, 128, 256]
    parser.add_argument("--frames", type=int, nargs="+", default=default, help="measured counts")
    arguments = parser.parse_args(argv)
    device = "cuda" if has_gpu else "cpu"
    config = full_size() if has_gpu else small()
    figures: dict[str, Any] = {"computed_full_size": computed(), "device": device, "measured": []}
    model = build(config, device)
    for num_frames in arguments.frames:
        for limit in (UNLIMITED, 32_768 if has_gpu else 2048):
            figures["measured"].append(measure(model, num_frames, limit=limit))
            print(figures["measured"][-1], flush=True)
    figures["against_plain_path"] = against_plain(model, arguments.frames[0])
    print(figures["against_plain_path"])
    print(f"record: {write_record('long-video', figures, argv=sys.argv, libraries=LIBRARIES)}")


def full_size() -> VideoXLProConfig:
    """Return the paper's model, with the byte tokenizer's visual token."""
    config = video_xl_pro_preset("3b")
    config.visual_token_id = VISUAL_ID
    return config


def small() -> VideoXLProConfig:
    """Return a model with as many tokens a frame as the full size, and little else."""
    config = video_xl_pro_preset("tiny")
    config.grid = 24
    config.text_config = Qwen2Config(
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=1,
        vocab_size=NUM_TOKENS,
        max_position_embeddings=32_768,
    )
    return config


def build(config: VideoXLProConfig, device: str) -> LongVideoModel:
    """Build a model with random weights, where it will be used."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16 if device == "cuda" else torch.float32)
    try:
        torch.manual_seed(0)
        with torch.device(device):
            model = VideoXLProForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(before)
    processor = VideoXLProProcessor.for_model(config, byte_tokenizer(), time_format=TEN_BYTES)
    return LongVideoModel(model, processor)


def computed() -> dict[str, Any]:
    """Compute memory at full size, and operations up to the first token at 1,024 frames."""
    config = video_xl_pro_preset("3b")
    budget = ContextBudget.of(config)
    memory = {}
    for num_frames in (1024, 8192, 16_384):
        cost = budget.cost(num_frames)
        memory[num_frames] = {
            "positions": cost.num_positions,
            "weights_gb": cost.weight_bytes / 1e9,
            "cache_gb": cost.cache_bytes / 1e9,
            "tokens_gb": cost.embedding_bytes / 1e9,
            "total_gb": round(cost.total_bytes / 1e9, 2),
        }
    ours, plain = (first_token_flop(config, 1024, compressed=c) for c in (True, False))
    return {
        "memory_without_activations": memory,
        "most_frames_in_72_gb": budget.max_frames(72 * 10**9),
        "most_frames_in_72_gb_selected": budget.max_frames(72 * 10**9, context_limit=32_768),
        "first_token_tflop_at_1024_frames": {
            "compressed": ours / 1e12,
            "plain": plain / 1e12,
            "ratio": plain / ours,
        },
    }


def first_token_flop(config: VideoXLProConfig, num_frames: int, *, compressed: bool) -> float:
    """Count matmuls and convolutions, two operations for each multiply-add."""
    vision, text = config.vision, config.text_config
    width, patches, grid = vision.width, vision.grid**2, config.grid**2
    layer = 2 * patches * (4 * width**2 + 2 * width * vision.mlp_width) + 4 * patches**2 * width
    flop = float(num_frames * vision.layer * layer)
    num_groups = num_frames // config.temporal_factor
    if compressed:
        attention = 2 * 4 * width**2 * 2 * grid + 4 * grid**2 * width  # two blocks, one over space
        kernel = 2 * 27 * width**2 * grid
        flop += num_groups * (attention * (4 + 2) + kernel * (2 + 1))
    num_projected = (num_groups if compressed else num_frames) * grid
    flop += 2 * num_projected * (width * config.text_width + config.text_width**2)
    num_positions = num_groups * 10 + num_projected // config.pool_stride**2
    head = text.hidden_size // text.num_attention_heads
    block = 2 * text.hidden_size**2 + 2 * text.hidden_size * head * text.num_key_value_heads
    block += 3 * text.hidden_size * text.intermediate_size
    flop += 2 * text.num_hidden_layers * num_positions * block
    return flop + 2 * text.num_hidden_layers * num_positions**2 * text.hidden_size  # causal: half


def random_pieces(model: LongVideoModel, num_frames: int) -> Iterator[Tensor]:
    """Return pieces of random frames, made where the model is."""
    config = model.model.config
    side, device = config.vision.image_px, model.model.device
    for start in range(0, num_frames, config.chunk_frames):
        shape = (min(config.chunk_frames, num_frames - start), side, side, 3)
        yield torch.randint(0, 256, shape, dtype=torch.uint8, device=device)


def measure(long_video: LongVideoModel, num_frames: int, *, limit: int) -> dict[str, Any]:
    """Encode, select, read, answer."""
    model = long_video.model
    model.config.context_limit = limit
    _reset(model.device)
    began_s = time.monotonic()
    tokens_GND = long_video.encode(random_pieces(long_video, num_frames), num_frames=num_frames)
    encode_s = time.monotonic() - began_s
    video = WatchedVideo(
        uri="random",
        tokens_GND=tokens_GND,
        time_s_F=tuple(float(second) for second in range(num_frames)),
        duration_s=float(num_frames),
        encode_s=encode_s,
        peak_bytes=peak_bytes(model.device),
    )
    answer = long_video.ask(video, QUESTION, max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS)
    budget = ContextBudget.of(model.config, bytes_per_number=model.dtype.itemsize)
    cost = budget.cost(num_frames, num_text=answer.num_positions, context_limit=None)
    cost = replace(cost, num_positions=answer.num_positions)
    return {
        "frames": num_frames,
        "mode": "every token" if limit == UNLIMITED else f"selected to {limit} positions",
        "positions": answer.num_positions,
        "kept_visual_share": answer.num_kept / answer.num_visual,
        "encode_s": encode_s,
        "encode_frames_per_s": num_frames / encode_s,
        "select_s": answer.select_s,
        "prefill_s": answer.prefill_s,
        "prefill_tokens_per_s": answer.prefill_tokens_per_s,
        "decode_tokens_per_s": answer.decode_tokens_per_s,
        "computed_cache_gb": answer.num_positions * budget.cache_bytes_per_position / 1e9,
        "computed_weights_gb": cost.weight_bytes / 1e9,
        "peak_gb": answer.peak_bytes / 1e9,
    }


@torch.no_grad()
def against_plain(long_video: LongVideoModel, num_frames: int) -> dict[str, Any]:
    """Time from frames to the first token, with the compressor and without it."""
    model, seconds = long_video.model, {}
    model.config.context_limit = UNLIMITED
    for name in ("compressed", "plain", "compressed", "plain"):  # the first two warm up
        began_s = time.monotonic()
        pieces = random_pieces(long_video, num_frames)
        if name == "plain":
            parts = [_plain_tokens(model, piece) for piece in pieces]
            tokens_MD = torch.cat(parts).flatten(0, 1)
        else:
            tokens_MD = long_video.encode(pieces, num_frames=num_frames).flatten(0, 1)
        cache = prefill(model.language_model, torch.cat([tokens_MD, tokens_MD[-1:]])[None])
        model.language_model(inputs_embeds=tokens_MD[None, -1:], past_key_values=cache)
        if model.device.type == "cuda":
            torch.cuda.synchronize()
        seconds[name] = time.monotonic() - began_s
        cached = cache.layers[0].keys
        num_layers = model.config.text_config.num_hidden_layers
        num_bytes = 2 * num_layers * cached.numel() * cached.element_size()
        budget = ContextBudget.of(model.config, bytes_per_number=model.dtype.itemsize)
        wanted = (len(tokens_MD) + 1) * budget.cache_bytes_per_position
        assert num_bytes == wanted, (num_bytes, wanted)
    return {"frames": num_frames, **seconds, "ratio": seconds["plain"] / seconds["compressed"]}


def _plain_tokens(model: VideoXLProForConditionalGeneration, frames_THWC: Tensor) -> Tensor:
    vision = model.vision
    features_FCHW = vision.resampler(vision.tower(normalise_frames(frames_THWC).to(model.dtype)))
    features_FNC = features_FCHW.flatten(2).transpose(1, 2)
    tokens_FND: Tensor = vision.pool(vision.projector(features_FNC))
    return tokens_FND


def _reset(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


if __name__ == "__main__":
    main(sys.argv[1:])
