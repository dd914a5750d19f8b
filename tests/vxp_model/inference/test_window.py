"""Reading a long prompt with a cache that forgets visual tokens."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.later import LATER

if LATER:
    import torch
    from torch import Tensor
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import Qwen2Config, Qwen2ForCausalLM
    from transformers.cache_utils import Cache

    from vxp_model.data.visuals import FrameChoice
    from vxp_model.inference.prefill import cached_positions, prefill
    from vxp_model.inference.session import UNLIMITED, LongVideoModel

    CHOICE = FrameChoice(fps=2.0, max_frames=1000)

pytestmark = pytest.mark.usefixtures("one_thread")

GROUPS, TIME, VISUAL = 12, 3, 8
PREFIX, SUFFIX = 10, 9


@pytest.fixture(scope="module")
def model() -> Qwen2ForCausalLM:
    torch.manual_seed(0)
    config = Qwen2Config(
        hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, vocab_size=50,
    )  # fmt: skip
    return Qwen2ForCausalLM(config).eval()


def prompt() -> tuple[Tensor, Tensor]:
    """Text, groups of time text and visual tokens, text."""
    group = [False] * TIME + [True] * VISUAL
    is_visual_P = torch.tensor([False] * PREFIX + group * GROUPS + [False] * SUFFIX)
    generator = torch.Generator().manual_seed(1)
    return torch.randn(1, len(is_visual_P), 64, generator=generator) * 0.1, is_visual_P


def read(model: Qwen2ForCausalLM, *, window: int | None, chunk: int = 16) -> Cache:
    embeds_BPD, is_visual_P = prompt()
    return prefill(model, embeds_BPD, chunk_positions=chunk, is_visual_P=is_visual_P, window=window)


def last_logits(model: Qwen2ForCausalLM, cache: Cache) -> Tensor:
    embeds_BPD, _ = prompt()
    index = torch.tensor([[embeds_BPD.shape[1] - 1]])
    with torch.no_grad():
        output = model(inputs_embeds=embeds_BPD[:, -1:], position_ids=index, past_key_values=cache)
    logits: Tensor = output.logits[0, -1]
    return logits


def masked_logits(model: Qwen2ForCausalLM, *, window: int, chunk: int) -> Tensor:
    """Read at once, with a mask that says what each position may see: nothing is forgotten."""
    embeds_BPD, is_visual_P = prompt()
    count = len(is_visual_P)
    sees_PP = torch.zeros(count, count, dtype=torch.bool)
    for start in [*range(0, count - 1, chunk), count - 1]:
        stop = min(start + chunk, count - 1) if start < count - 1 else count
        visual = [p for p in range(start) if is_visual_P[p]]
        kept = set(visual[-window:] if window else [])
        for q in range(start, stop):
            for k in range(q + 1):
                sees_PP[q, k] = k >= start or not is_visual_P[k] or k in kept
    mask = torch.where(sees_PP, 0.0, float("-inf"))[None, None]
    with torch.no_grad():
        logits: Tensor = model(inputs_embeds=embeds_BPD, attention_mask=mask).logits[0, -1]
    return logits


@pytest.mark.parametrize("chunk", [1, 7, 16, 500])
def test_a_window_over_everything_forgets_nothing(model: Qwen2ForCausalLM, chunk: int) -> None:
    whole, windowed = read(model, window=None, chunk=chunk), read(model, window=96, chunk=chunk)
    assert cached_positions(windowed) == cached_positions(whole) == len(prompt()[1]) - 1
    for ours, wanted in zip(windowed.layers, whole.layers, strict=True):
        assert torch.equal(ours.keys, wanted.keys)
        assert torch.equal(ours.values, wanted.values)


@pytest.mark.parametrize(("window", "chunk"), [(0, 16), (8, 16), (20, 7), (20, 1), (24, 40)])
def test_a_window_is_reading_at_once_under_its_mask(
    model: Qwen2ForCausalLM, window: int, chunk: int
) -> None:
    cache = read(model, window=window, chunk=chunk)
    expected = masked_logits(model, window=window, chunk=chunk)
    torch.testing.assert_close(last_logits(model, cache), expected, rtol=1e-4, atol=1e-5)
    if window < 24:
        whole = last_logits(model, read(model, window=None))
        assert not torch.allclose(whole, expected, rtol=1e-4, atol=1e-5)


def test_memory_and_operations_fall(model: Qwen2ForCausalLM) -> None:
    _, is_visual_P = prompt()
    text = int((~is_visual_P).sum()) - 1
    for window in (0, 8, 20):
        cache = read(model, window=window)
        assert cached_positions(cache) == text + window
        assert all(layer.keys.shape[-2] == text + window for layer in cache.layers)
        assert cache.get_seq_length() == len(is_visual_P) - 1
    flop = {}
    for window in (None, 8):
        with FlopCounterMode(display=False) as counted:
            read(model, window=window)
        flop[window] = counted.get_total_flops()
    assert flop[8] < flop[None]


def test_an_answer_under_a_window_over_everything_is_the_answer_without(
    long_video: LongVideoModel,
    clip: Path,
) -> None:
    long_video.model.config.context_limit = UNLIMITED
    video = long_video.watch(clip, CHOICE)
    plain = long_video.ask(video, "Which?", max_new_tokens=8, chunk_positions=50)
    wide = long_video.ask(video, "Which?", max_new_tokens=8, chunk_positions=50, window=92)
    assert (plain.text, plain.num_cached) == (wide.text, wide.num_cached)
    narrow = long_video.ask(video, "Which?", max_new_tokens=8, chunk_positions=50, window=12)
    assert narrow.num_positions == plain.num_positions
    assert narrow.num_cached == plain.num_cached - (92 - 12)


def test_a_window_wants_to_know_what_is_visual(model: Qwen2ForCausalLM) -> None:
    with pytest.raises(ValueError, match="needs is_visual_P"):
        prefill(model, prompt()[0], window=4)
