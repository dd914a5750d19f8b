"""Special tokens with Qwen's real vocabulary: visual positions, padding, what ends an answer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models

from support.later import LATER
from support.qwen_vocabulary import NUM_EMBEDDINGS, qwen_tokenizer
from vxp_model.errors import UserError

if LATER:
    import torch
    from transformers import AutoProcessor, AutoTokenizer, PreTrainedTokenizerFast, Qwen2Config

    from vxp_model.models.byte_tokenizer import NUM_TOKENS, VISUAL_ID, byte_tokenizer
    from vxp_model.models.processor import Clip, VideoXLProProcessor
    from vxp_model.models.special_tokens import (
        check_fits,
        end_ids,
        find_token,
        set_answer_ends,
        with_visual_token,
    )
    from vxp_model.models.video_xl_pro import VideoXLProForConditionalGeneration
    from vxp_model.models.video_xl_pro_config import VideoXLProConfig, video_xl_pro_preset
    from vxp_model.models.visual_sequence import IGNORED_LABEL, Kind

pytestmark = pytest.mark.usefixtures("one_thread")

ASKED = {
    "role": "user",
    "content": [{"type": "video", "video": None}, {"type": "text", "text": "?"}],
}


@pytest.fixture(scope="module")
def qwen2_5() -> Any:
    return qwen_tokenizer("qwen2.5")


def config_for(tokenizer: Any, **text: Any) -> VideoXLProConfig:
    config = video_xl_pro_preset("tiny")
    config.text_config = Qwen2Config(**{"vocab_size": NUM_EMBEDDINGS, **text})
    config.visual_token_id = with_visual_token(tokenizer, num_embeddings=NUM_EMBEDDINGS)
    return config


def test_ids_are_those_that_qwen_publishes(qwen2_5: Any) -> None:
    ids = {"<|endoftext|>": 151_643, "<|im_end|>": 151_645, "<|vision_pad|>": 151_654}
    ids |= {"<|video_pad|>": 151_656, "</tool_call>": 151_658, "<|file_sep|>": 151_664}
    assert {token: find_token(qwen2_5, token) for token in ids} == ids
    assert len(qwen2_5) == 151_665
    assert qwen2_5("Time 0012.3s:")["input_ids"] == [1462, 220, 15, 15, 16, 17, 13, 18, 82, 25]


def test_a_token_that_is_not_there_is_none_though_transformers_gives_the_padding() -> None:
    tokenizer = qwen_tokenizer("qwen2")
    assert tokenizer.convert_tokens_to_ids("<|vision_pad|>") == tokenizer.pad_token_id == 151_643
    assert find_token(tokenizer, "<|vision_pad|>") is None
    assert find_token(byte_tokenizer(), "<|none|>") is None


@pytest.mark.parametrize("resaved", [False, True])
def test_qwen2_gets_the_visual_token_in_a_spare_row_once(tmp_path: Path, resaved: bool) -> None:
    tokenizer: Any = qwen_tokenizer("qwen2")
    if resaved:
        tokenizer.save_pretrained(tmp_path)
        tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    added = with_visual_token(tokenizer, num_embeddings=NUM_EMBEDDINGS)
    assert added == 151_646  # behind <|im_end|>
    assert len(tokenizer) == 151_647
    tokenizer.save_pretrained(tmp_path / "again")
    again = AutoTokenizer.from_pretrained(tmp_path / "again")
    for one in (tokenizer, again):
        assert with_visual_token(one, num_embeddings=NUM_EMBEDDINGS) == added
        assert len(one) == 151_647
    assert tokenizer("<|vision_pad|>", split_special_tokens=True)["input_ids"] != [added]


def test_a_tokenizer_that_has_it_is_left_as_it_is(qwen2_5: Any) -> None:
    assert with_visual_token(qwen2_5, num_embeddings=NUM_EMBEDDINGS) == 151_654
    assert with_visual_token(byte_tokenizer(), num_embeddings=NUM_TOKENS) == VISUAL_ID


def test_without_a_spare_row_it_is_refused_and_nothing_is_added(qwen2_5: Any) -> None:
    tokenizer = qwen_tokenizer("qwen2")
    with pytest.raises(UserError, match=r"151,646 embeddings none is left .* token is 151,645"):
        with_visual_token(tokenizer, num_embeddings=151_646)
    assert len(tokenizer) == 151_646
    with pytest.raises(UserError, match="not of one kind"):
        with_visual_token(qwen2_5, num_embeddings=151_600)


@pytest.mark.parametrize("family", ["qwen2", "qwen2.5"])
def test_a_padded_batch_has_as_many_visual_positions_as_its_prompts(family: Any) -> None:
    tokenizer = qwen_tokenizer(family)
    processor = VideoXLProProcessor.for_model(config_for(tokenizer), tokenizer)
    assert processor.visual_token_id != tokenizer.pad_token_id
    long, short = ([0.0, 1.0, 2.0, 3.0, 4.0], [0.0])
    prompts = [processor.prompt([ASKED], [Clip(time_s_T=times)]) for times in (long, short)]
    for prompt in prompts:
        assert prompt.ids.count(processor.visual_token_id) == prompt.kinds.count(Kind.VISUAL)
    batch = processor.batch(prompts)
    is_visual_BP = batch["input_ids"] == processor.visual_token_id
    assert is_visual_BP.sum(-1).tolist() == [8, 4]
    assert torch.equal(is_visual_BP, batch["token_kinds"] == Kind.VISUAL)
    assert set(batch["input_ids"][batch["attention_mask"] == 0].tolist()) == {151_643}


def test_a_processor_is_read_again_with_what_was_added(tmp_path: Path) -> None:
    tokenizer = qwen_tokenizer("qwen2")
    processor = VideoXLProProcessor.for_model(config_for(tokenizer), tokenizer)
    processor.save_pretrained(tmp_path)
    again = AutoProcessor.from_pretrained(tmp_path)
    assert again.visual_token_id == processor.visual_token_id == 151_646
    assert again.prompt([ASKED], [Clip(time_s_T=[0.0])]) == processor.prompt(
        [ASKED], [Clip(time_s_T=[0.0])]
    )


@pytest.mark.parametrize(
    ("visual_id", "message"),
    [
        (151_643, r"'<\|endoftext\|>' \(id 151643\), which has another meaning"),
        (151_645, "has another meaning"),
        (1462, r"'Time' \(id 1462\), which has another meaning"),
        (151_657, r"'<tool_call>' .* has another meaning"),
        (151_900, "no such token.*with_visual_token"),
    ],
)
def test_a_visual_token_of_another_meaning_is_refused(
    qwen2_5: Any, visual_id: int, message: str
) -> None:
    config = config_for(qwen2_5)
    config.visual_token_id = visual_id
    with pytest.raises(UserError, match=message):
        VideoXLProProcessor.for_model(config, qwen2_5)


def test_qwen2_itself_is_refused_by_the_default_config() -> None:
    config = config_for(byte_tokenizer())
    config.visual_token_id = 151_654
    with pytest.raises(UserError, match=r"has token 151654 at visual positions"):
        VideoXLProProcessor.for_model(config, qwen_tokenizer("qwen2"))


def test_padding_is_never_the_visual_token_nor_missing() -> None:
    tokenizer = qwen_tokenizer("qwen2.5")
    for pad in ("<|vision_pad|>", None):
        tokenizer.pad_token = pad
        VideoXLProProcessor.for_model(config_for(tokenizer), tokenizer)
        assert tokenizer.pad_token == "<|endoftext|>"
    tokenizer.pad_token = "<|fim_pad|>"  # one of its own stays
    VideoXLProProcessor.for_model(config_for(tokenizer), tokenizer)
    assert tokenizer.pad_token == "<|fim_pad|>"


@pytest.mark.parametrize("missing", ["<|im_start|>", "<|im_end|>", "<|vision_pad|>"])
def test_a_tokenizer_without_a_token_is_refused_by_its_name(missing: str) -> None:
    known = ["<unk>", "<|im_start|>", "<|im_end|>", "<|vision_pad|>"]
    known.remove(missing)
    bare = Tokenizer(models.WordLevel({"a": 0}, unk_token="<unk>"))
    bare.add_special_tokens(known)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bare, unk_token="<unk>")
    assert tokenizer.convert_tokens_to_ids(missing) == tokenizer.unk_token_id
    with pytest.raises(UserError, match=f"no token '{re.escape(missing)}'"):
        VideoXLProProcessor(tokenizer)


@pytest.mark.parametrize("base", [True, False])
def test_answers_end_with_the_turn_or_the_text(base: bool) -> None:
    assert end_ids(qwen_tokenizer("qwen2", base=base)) == [151_645, 151_643]
    assert end_ids(qwen_tokenizer("qwen2.5", base=base)) == [151_645, 151_643]
    assert end_ids(byte_tokenizer()) == [2, 0]


def test_a_models_own_ends_are_replaced_and_stored(tmp_path: Path) -> None:
    config = video_xl_pro_preset("tiny")
    config.text_config.eos_token_id = 0  # of a base model
    model = VideoXLProForConditionalGeneration(config)
    assert model.generation_config.eos_token_id == 0
    set_answer_ends(model, byte_tokenizer())
    model.save_pretrained(tmp_path)
    again = VideoXLProForConditionalGeneration.from_pretrained(tmp_path)
    assert again.generation_config.eos_token_id == [2, 0]
    assert again.generation_config.pad_token_id == 0
    assert again.language_model.generation_config.eos_token_id is None  # it has no say


def test_a_processor_of_another_model_is_refused(qwen2_5: Any) -> None:
    processor = VideoXLProProcessor.for_model(config_for(qwen2_5), qwen2_5)
    check_fits(config_for(qwen2_5), processor)
    with pytest.raises(UserError, match=r"token 11 at visual positions, its processor 151654"):
        check_fits(video_xl_pro_preset("tiny"), processor)
    with pytest.raises(UserError, match="go up to 151,645"):
        check_fits(config_for(qwen2_5, vocab_size=151_645), processor)


def test_tool_calls_in_text_stay_one_token_and_turns_stay_text(qwen2_5: Any) -> None:
    processor = VideoXLProProcessor.for_model(config_for(qwen2_5), qwen2_5)
    answer = "<tool_call>\n{}\n</tool_call><|im_end|>"
    prompt = processor.prompt(
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": answer}], []
    )
    labels = [one for one in prompt.labels if one != IGNORED_LABEL]
    assert (labels[0], labels[-1]) == (151_657, 151_645)
    assert labels.count(151_658) == labels.count(151_645) == 1
