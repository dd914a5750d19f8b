"""Generation: lengths, beams, batches; transformers' own generation is the truth."""

from __future__ import annotations

from typing import Any

import pytest

from support.later import LATER
from support.tiny_video_xl_pro import drawn_frames, say_letters
from vxp_model.errors import UserError

if LATER:
    import torch
    from torch import Tensor
    from transformers import GenerationConfig

    from vxp_model.inference.session import LongVideoModel
    from vxp_model.models.byte_tokenizer import byte_tokenizer
    from vxp_model.models.processor import VideoXLProProcessor
    from vxp_model.models.video_xl_pro import VideoXLProForConditionalGeneration
    from vxp_model.models.video_xl_pro_config import video_xl_pro_preset

pytestmark = pytest.mark.usefixtures("one_thread", "no_grad")

PX = 56


@pytest.fixture(scope="module")
def processor() -> VideoXLProProcessor:
    return VideoXLProProcessor.for_model(video_xl_pro_preset("tiny"), byte_tokenizer())


@pytest.fixture
def model(processor: VideoXLProProcessor) -> VideoXLProForConditionalGeneration:
    torch.manual_seed(0)
    model = VideoXLProForConditionalGeneration(video_xl_pro_preset("tiny")).eval()
    say_letters(model, processor.tokenizer)
    return model


def ask(question: str, *visuals: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [*visuals, {"type": "text", "text": question}]}]


def video(num: int, seed: int = 0) -> dict[str, Any]:
    return {"type": "video", "video": torch.from_numpy(drawn_frames(num, px=PX, seed=seed))}


def image(seed: int = 0) -> dict[str, Any]:
    return {"type": "image", "image": torch.from_numpy(drawn_frames(1, px=PX, seed=seed))[0]}


def theirs(model: VideoXLProForConditionalGeneration, ids: Tensor, **given: Any) -> Tensor:
    """What transformers' own generation gives for text, without the prompt."""
    config = GenerationConfig(
        suppress_tokens=model.generation_config.suppress_tokens, pad_token_id=0, do_sample=False
    )
    full = model.language_model.generate(
        ids, attention_mask=torch.ones_like(ids), generation_config=config, **given
    )
    return full[:, ids.shape[1] :]


# --- lengths ---------------------------------------------------------------------


@pytest.mark.parametrize("more", [1, 7])
def test_max_length_counts_the_prompt_as_transformers_does(
    model: VideoXLProForConditionalGeneration, processor: VideoXLProProcessor, more: int
) -> None:
    batch = processor(ask("Just text?"))
    length = batch["input_ids"].shape[1] + more
    got = model.generate(**batch, max_length=length)
    assert got.shape == (1, more)
    assert torch.equal(got, theirs(model, batch["input_ids"], max_length=length))


def test_max_length_counts_visual_positions_and_padding_too(
    model: VideoXLProForConditionalGeneration, processor: VideoXLProProcessor
) -> None:
    batch = processor([ask("What?", video(9)), ask("?")])
    length = batch["input_ids"].shape[1] + 3
    assert model.generate(**batch, max_length=length).shape == (2, 3)
    with pytest.raises(ValueError, match=f"max_length is {length - 3}, and the prompt alone takes"):
        model.generate(**batch, max_length=length - 3)


def test_of_two_lengths_the_new_tokens_count_as_in_transformers(
    model: VideoXLProForConditionalGeneration, processor: VideoXLProProcessor
) -> None:
    batch = processor(ask("Just text?"))
    assert model.generate(**batch, max_length=10_000, max_new_tokens=2).shape == (1, 2)
    config = GenerationConfig(max_new_tokens=4)
    assert model.generate(**batch, generation_config=config).shape == (1, 4)
    assert config.max_new_tokens == 4
    assert config.suppress_tokens is None  # the caller's own is left as it is
    assert model.generate(**batch, generation_config=config, max_new_tokens=1).shape == (1, 1)
    model.generation_config.max_new_tokens = 3
    assert model.generate(**batch).shape == (1, 3)


@pytest.mark.parametrize("wrong", [0, -1])
def test_no_new_tokens_are_refused_rather_than_taken_for_the_default(
    model: VideoXLProForConditionalGeneration, processor: VideoXLProProcessor, wrong: int
) -> None:
    batch = processor(ask("Just text?"))
    with pytest.raises(ValueError, match=f"must be greater than 0, but is {wrong}"):
        model.generate(**batch, max_new_tokens=wrong)
    long_video = LongVideoModel(model, processor)
    watched = long_video.watch_frames([drawn_frames(1, px=PX)], time_s_F=(0.0,), duration_s=1.0)
    with pytest.raises(UserError, match=f"max_new_tokens must be 1 or more, got {wrong}"):
        long_video.ask(watched, "What?", max_new_tokens=wrong)


def test_min_length_counts_the_prompt_too(
    model: VideoXLProForConditionalGeneration, processor: VideoXLProProcessor
) -> None:
    batch = processor(ask("Just text?"))
    first = int(model.generate(**batch, max_new_tokens=1)[0, 0])
    num_positions = batch["input_ids"].shape[1]
    given = {"eos_token_id": first, "max_new_tokens": 6}
    assert model.generate(**batch, **given).shape == (1, 1)
    given["min_length"] = num_positions + 4
    got = model.generate(**batch, **given)
    assert got.shape[1] >= 4
    assert torch.equal(got, theirs(model, batch["input_ids"], **given))


# --- beams and several answers ------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        {"num_beams": 3},
        {"num_beams": 4, "num_return_sequences": 3, "length_penalty": 0.3},
        {"do_sample": True, "num_return_sequences": 4, "top_k": 5},
    ],
)
def test_beams_and_several_answers_are_those_of_transformers(
    model: VideoXLProForConditionalGeneration, processor: VideoXLProProcessor, given: dict[str, Any]
) -> None:
    batch = processor(ask("Just text?"))
    given = {"max_new_tokens": 6, "eos_token_id": 40} | given
    torch.manual_seed(3)
    wanted = theirs(model, batch["input_ids"], **given)
    torch.manual_seed(3)
    got = model.generate(**batch, **given)
    assert len(got) == given.get("num_return_sequences", 1)
    assert torch.equal(got, wanted)


def test_all_that_transformers_tells_of_beams_is_given_back(
    model: VideoXLProForConditionalGeneration, processor: VideoXLProProcessor
) -> None:
    batch = processor([ask("What?", video(9)), ask("?", image())])
    told = model.generate(
        **batch,
        max_new_tokens=4,
        num_beams=3,
        num_return_sequences=2,
        return_dict_in_generate=True,
        output_scores=True,
    )
    assert told.sequences.shape == (4, 4)
    assert told.sequences_scores.shape == (4,)
    assert bool((told.sequences_scores[0::2] >= told.sequences_scores[1::2]).all())


CONVERSATIONS = {
    "text": lambda: [ask("Just text?"), ask("Some more text, is it not?"), ask("a")],
    "image": lambda: [ask("What?", image(1)), ask("And which one is this?", image(2), image(3))],
    "video": lambda: [ask("What?", video(9, 4)), ask("Which is it?", video(2, 5), video(17, 6))],
    "mixed": lambda: [
        ask("Just text?"),
        ask("What?", image(1), video(5, 2)),
        ask("A longer question about a video?", video(13, 3)),
    ],
}


@pytest.mark.parametrize("given", [{}, {"num_beams": 3, "num_return_sequences": 2}])
@pytest.mark.parametrize("kind", CONVERSATIONS)
def test_a_batch_gives_what_each_prompt_gives_alone(
    model: VideoXLProForConditionalGeneration,
    processor: VideoXLProProcessor,
    kind: str,
    given: dict[str, Any],
) -> None:
    conversations = CONVERSATIONS[kind]()
    batch = processor(conversations)
    assert len({int(count) for count in batch["attention_mask"].sum(-1)}) > 1
    together = model.generate(**batch, max_new_tokens=6, **given)
    alone = [model.generate(**processor(one), max_new_tokens=6, **given) for one in conversations]
    assert torch.equal(together, torch.cat(alone))


def test_a_batch_of_which_some_prompts_lose_tokens_too(
    model: VideoXLProForConditionalGeneration, processor: VideoXLProProcessor
) -> None:
    conversations = [ask("Short?"), ask("What?", video(60)), ask("Which?", video(20, 1))]
    model.config.context_limit = 120
    together = model.generate(**processor(conversations), max_new_tokens=6)
    alone = [model.generate(**processor(one), max_new_tokens=6) for one in conversations]
    assert torch.equal(together, torch.cat(alone))


# --- what ends an answer, and what is not understood -----------------------------------


def test_a_config_of_the_callers_still_ends_where_the_model_says(
    model: VideoXLProForConditionalGeneration, processor: VideoXLProProcessor
) -> None:
    batch = processor(ask("Just text?"))
    ids = model.generate(**batch, max_new_tokens=5)[0].tolist()
    model.generation_config.eos_token_id = [ids[2]]
    stop = ids.index(ids[2]) + 1
    config = GenerationConfig(max_new_tokens=5)
    assert model.generate(**batch, generation_config=config)[0].tolist() == ids[:stop]


def test_labels_and_unknown_arguments_are_refused(
    model: VideoXLProForConditionalGeneration, processor: VideoXLProProcessor
) -> None:
    batch = processor(ask("Just text?"))
    with pytest.raises(TypeError, match="no labels"):
        model.generate(**batch, labels=batch["input_ids"])
    with pytest.raises(ValueError, match="max_new_token'"):
        model.generate(**batch, max_new_token=4)
    with pytest.raises(ValueError, match="selector_seeds"):
        model.generate(**batch, max_new_tokens=1, selector_seeds=[3])
    for name in ("visual_token", "num_logits_to_keep", "return_dict", "output_router_logits"):
        with pytest.raises(TypeError, match=f"unknown arguments: {name}"):
            model(**batch, **{name: None})


def test_states_and_attentions_are_given_back_where_asked_for(
    model: VideoXLProForConditionalGeneration, processor: VideoXLProProcessor
) -> None:
    batch = processor(ask("What?", video(5)))
    model.language_model.set_attn_implementation("eager")
    output = model(**batch, output_hidden_states=True, output_attentions=True)
    count, width = batch["input_ids"].shape[1], model.config.text_width
    assert [state.shape for state in output.hidden_states] == [(1, count, width)] * 3
    assert [one.shape[-2:] for one in output.attentions] == [(count, count)] * 2
    assert model(**batch).hidden_states is None


def test_asking_takes_beams_and_one_answer_each(
    model: VideoXLProForConditionalGeneration, processor: VideoXLProProcessor
) -> None:
    long_video = LongVideoModel(model, processor)
    frames = drawn_frames(9, px=PX)
    times = tuple(float(number) for number in range(9))
    watched = long_video.watch_frames([frames], time_s_F=times, duration_s=9.0)
    whole = processor(ask("What?", {**video(9), "time_s": list(times)}))
    ids = model.generate(**whole, max_new_tokens=5, num_beams=3)
    answer = long_video.ask(watched, "What?", max_new_tokens=5, num_beams=3)
    assert answer.text == processor.decode(ids[0], skip_special_tokens=True).strip()
    with pytest.raises(UserError, match="one answer to a question"):
        long_video.ask(watched, "What?", num_return_sequences=2, num_beams=2)
