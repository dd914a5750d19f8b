"""The bound on a prompt's positions: never below what the tokenizer makes of it."""

from __future__ import annotations

import sys
import unicodedata
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from support.later import LATER
from vxp_model.models.prompt_bound import NFC_GROWTH, PromptBound

if LATER:
    from tokenizers import normalizers

    from vxp_model.models.byte_tokenizer import byte_tokenizer
    from vxp_model.models.processor import Clip, VideoXLProProcessor
    from vxp_model.models.visual_sequence import Kind

SYSTEM = "You are a helpful assistant."
GROWS = "\U0001d160"
"""A note of four bytes of UTF-8, of which NFC makes twelve."""


@pytest.fixture(scope="module")
def processor() -> Any:
    """With a token for each byte and NFC before it: no tokenizer of Qwen's makes more of a text."""
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    return VideoXLProProcessor(tokenizer, group_tokens=1)


def test_nfc_makes_at_most_three_bytes_of_one() -> None:
    growth = max(
        len(unicodedata.normalize("NFC", chr(n)).encode()) / len(chr(n).encode())
        for n in range(sys.maxunicode + 1)
        if not 0xD800 <= n < 0xE000
    )
    assert growth == NFC_GROWTH


ROLES = ["system", "user", "assistant", "tool"]
ANY = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
TEXTS = ANY | st.sampled_from([GROWS * 5, "<|im_start|>", "<tool_response>", "a"])
TURNS = st.lists(
    st.tuples(st.sampled_from(ROLES), TEXTS, st.integers(0, 2)), min_size=1, max_size=8
)


@given(turns=TURNS)
@example(turns=[("tool", "a", 0)] * 3)
@example(turns=[("user", GROWS * 9, 2), ("assistant", GROWS, 0)])
def test_no_prompt_takes_more_text_than_the_bounds(
    processor: Any, turns: list[tuple[str, str, int]]
) -> None:
    turns = [(role, text, media if role == "user" else 0) for role, text, media in turns]
    parts: dict[bool, Any] = {False: lambda text, _: text, True: shown}
    conversation = [
        {"role": role, "content": parts[media > 0](text, media)} for role, text, media in turns
    ]
    num_media = sum(media for *_, media in turns)
    clips = [Clip(time_s_T=[0.0])] * num_media
    kinds = processor.prompt(conversation, clips, add_generation_prompt=False).kinds
    real = sum(kind in (Kind.TEXT, Kind.QUERY) for kind in kinds)
    bound = PromptBound(system=SYSTEM)
    answers = [text for role, text, _ in turns if role == "assistant"]
    by_counts = bound.of_counts(
        text_bytes_N=np.array([sum(len(text.encode()) for _, text, _ in turns)]),
        answer_bytes_N=np.array([sum(len(text.encode()) for text in answers)]),
        num_answers_N=np.array([len(answers)], dtype=np.int32),
        num_media_N=np.array([num_media], dtype=np.int32),
    )
    assert real <= bound.of_turns(turns) <= by_counts[0]


def shown(text: str, media: int) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text}, *[{"type": "video", "video": None}] * media]


def test_the_bound_of_plain_english_is_near(processor: Any) -> None:
    turns = [("user", "What happens? " * 20, 0), ("assistant", "A bar moves.", 0)]
    real = len(processor.prompt([{"role": r, "content": t} for r, t, _ in turns], []).ids)
    assert real == PromptBound(system=SYSTEM).of_turns(turns)
