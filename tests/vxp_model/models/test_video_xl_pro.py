"""Video-XL-Pro as a whole, at its tiny size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.later import LATER
from support.mllm_videos import write_colours
from vxp_data.errors import UserError as DataUserError
from vxp_model.errors import UserError

if LATER:
    import torch
    from torch import Tensor
    from transformers import (
        AutoModel,
        AutoModelForImageTextToText,
        AutoProcessor,
        BatchFeature,
        Qwen2ForCausalLM,
        Qwen3Config,
        SiglipVisionModel,
    )

    from vxp_model.data.visuals import FrameChoice
    from vxp_model.models.budget import ContextBudget
    from vxp_model.models.byte_tokenizer import byte_tokenizer
    from vxp_model.models.processor import VideoXLProProcessor
    from vxp_model.models.video_xl_pro import VideoXLProForConditionalGeneration
    from vxp_model.models.video_xl_pro_config import VideoXLProConfig, video_xl_pro_preset
    from vxp_model.models.visual_sequence import Kind

pytestmark = pytest.mark.usefixtures("one_thread")

PX = 56


def frames(num: int, *, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    cells = torch.randint(0, 256, (num, 4, 4, 3), generator=generator, dtype=torch.uint8)
    return cells.repeat_interleave(14, 1).repeat_interleave(14, 2)


def ask(question: str, *visuals: dict[str, Any], answer: str | None = None) -> list[dict[str, Any]]:
    turns = [{"role": "user", "content": [*visuals, {"type": "text", "text": question}]}]
    return turns + ([] if answer is None else [{"role": "assistant", "content": answer}])


def video(num: int, *, seed: int = 0, **more: Any) -> dict[str, Any]:
    return {"type": "video", "video": frames(num, seed=seed), **more}


def image(*, seed: int = 0) -> dict[str, Any]:
    return {"type": "image", "image": frames(1, seed=seed)[0]}


def build(**changes: Any) -> VideoXLProForConditionalGeneration:
    config = video_xl_pro_preset("tiny")
    for name, value in changes.items():
        setattr(config, name, value)
    torch.manual_seed(0)
    return VideoXLProForConditionalGeneration(config).eval()


@pytest.fixture(scope="module")
def model() -> VideoXLProForConditionalGeneration:
    return build()


@pytest.fixture(scope="module")
def processor() -> VideoXLProProcessor:
    return VideoXLProProcessor.for_model(video_xl_pro_preset("tiny"), byte_tokenizer())


def logits(model: VideoXLProForConditionalGeneration, batch: BatchFeature) -> Tensor:
    given = {name: value for name, value in batch.items() if name != "labels"}
    with torch.no_grad():
        return model(**given).logits


# --- the whole against other code -----------------------------------------------


def plain_composition(
    model: VideoXLProForConditionalGeneration, ids: Tensor, frames_FHWC: Tensor
) -> Tensor:
    """One video without the model's own code but for the compressor: transformers' parts."""
    siglip = SiglipVisionModel(model.config.vision_config).eval()
    state = {
        name.replace("layers.", "encoder.layers.", 1) if name.startswith("layers.") else name: value
        for name, value in model.vision.tower.state_dict().items()
    }
    state |= {k: v for k, v in siglip.state_dict().items() if "post_layernorm" in k}
    siglip.load_state_dict(state)
    pixels = (frames_FHWC.permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
    features = siglip(pixels, output_hidden_states=True).hidden_states[-1]
    while len(features) % 4:
        features = torch.cat([features, features[-1:]])
    grid = features.view(-1, 4, 4, 4, features.shape[-1])  # groups, frames, rows, columns, width
    mixed = model.vision.dts(grid.permute(0, 4, 1, 2, 3))[:, :, 0]  # groups, width, rows, columns
    first, second = model.vision.projector.up, model.vision.projector.out
    tokens = second(torch.nn.functional.gelu(first(mixed.permute(0, 2, 3, 1))))
    pooled = tokens.unfold(1, 2, 2).unfold(2, 2, 2).mean((-2, -1)).reshape(-1, tokens.shape[-1])
    qwen = Qwen2ForCausalLM(model.config.text_config).eval()
    qwen.load_state_dict(model.language_model.state_dict())
    embeds = qwen.model.embed_tokens(ids)
    embeds[0, ids[0] == model.config.visual_token_id] = pooled
    return qwen(inputs_embeds=embeds).logits


@pytest.mark.usefixtures("no_grad")
@pytest.mark.parametrize("num_frames", [1, 2, 3, 4, 5, 8, 61])
def test_logits_are_those_of_a_plain_composition(
    model: VideoXLProForConditionalGeneration, processor: VideoXLProProcessor, num_frames: int
) -> None:
    batch = processor(ask("What is it?", video(num_frames)))
    wanted = plain_composition(model, batch["input_ids"], frames(num_frames))
    torch.testing.assert_close(logits(model, batch), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("no_grad")
def test_groups_are_independent_and_the_order_within_one_counts(
    model: VideoXLProForConditionalGeneration,
) -> None:
    shown = frames(8)
    tokens = model.vision(shown, [8])
    swapped = model.vision(shown[[1, 0, 2, 3, 4, 5, 6, 7]], [8])
    assert (tokens[0] - swapped[0]).abs().max() > 1e-5
    torch.testing.assert_close(tokens[1], swapped[1])
    alone = model.vision(shown[4:], [4])
    torch.testing.assert_close(tokens[1:], alone)


def test_qwen3_can_be_the_language_model(processor: VideoXLProProcessor) -> None:
    text = Qwen3Config(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        vocab_size=268,
        max_position_embeddings=32_768,
    )
    model = build(text_config=text)
    assert type(model.language_model).__name__ == "Qwen3ForCausalLM"
    answer = model.generate(**processor(ask("What?", video(4))), max_new_tokens=2, do_sample=False)
    assert answer.shape[0] == 1
    with pytest.raises(UserError, match="qwen2, qwen3; got 'llama'"):
        VideoXLProForConditionalGeneration(VideoXLProConfig(text_config={"model_type": "llama"}))


# --- batches -----------------------------------------------------------------------


def test_text_images_videos_and_mixtures_give_what_each_gives_alone(
    model: VideoXLProForConditionalGeneration, processor: VideoXLProProcessor
) -> None:
    conversations = [
        ask("Just text?"),
        ask("Two images?", image(seed=1), image(seed=2)),
        ask("Two videos?", video(5, seed=3), video(2, seed=4)),
        ask("Both?", image(seed=5), video(4, seed=6)),
    ]
    together = processor(conversations)
    assert together["clip_frames"].tolist() == [1, 1, 5, 2, 1, 4]
    assert together["clip_is_image"].tolist() == [True, True, False, False, True, False]
    all_logits = logits(model, together)
    for row, conversation in enumerate(conversations):
        alone = logits(model, processor(conversation))
        torch.testing.assert_close(
            all_logits[row, -alone.shape[1] :], alone[0], rtol=1e-4, atol=1e-5
        )


def test_padding_at_the_end_gives_the_same_loss_as_no_padding(
    model: VideoXLProForConditionalGeneration, processor: VideoXLProProcessor
) -> None:
    pairs = [
        ask("Short?", video(4), answer="No"),
        ask("A longer question, is it?", image(), answer="Yes, it is."),
    ]
    with torch.no_grad():
        together = model(**processor(pairs))
        alone = [model(**processor(pair)) for pair in pairs]
    assert together.num_labels_B.tolist() == [3, 12]
    total = sum(o.loss * o.num_labels_B.sum() for o in alone)
    torch.testing.assert_close(together.loss, total / 15, rtol=1e-5, atol=1e-6)


def test_visual_positions_and_tokens_must_be_as_many(
    model: VideoXLProForConditionalGeneration, processor: VideoXLProProcessor
) -> None:
    batch = processor(ask("What?", video(8)))
    batch["frames"], batch["clip_frames"] = batch["frames"][:4], torch.tensor([4])
    with pytest.raises(ValueError, match="8 visual positions, and 4 visual tokens"):
        model(**batch)


# --- selection -----------------------------------------------------------------------


def test_below_the_limit_selection_is_the_identity_bit_for_bit(
    processor: VideoXLProProcessor,
) -> None:
    batch = processor(ask("What?", video(24)))
    num_positions = batch["input_ids"].shape[1]
    exact = build(context_limit=num_positions + 7)
    tokens = exact.vision(batch["frames"], batch["clip_frames"])
    given = {k: batch[k] for k in ("input_ids", "attention_mask", "token_kinds")}
    sequence = exact.sequence(**given, visual_tokens=tokens, room=7)
    assert sequence.selections[0].num_kept == 24
    assert sequence.selections[0].scores_M is None
    is_visual_P = batch["input_ids"][0] == exact.config.visual_token_id
    assert torch.equal(sequence.embeds_BPD[0, is_visual_P], tokens.flatten(0, 1))
    text_PD = exact.get_input_embeddings()(batch["input_ids"][0][~is_visual_P])
    assert torch.equal(sequence.embeds_BPD[0, ~is_visual_P], text_PD)
    one_more = exact.sequence(**given, visual_tokens=tokens, room=8)
    assert one_more.selections[0].num_kept == 23
    assert torch.equal(
        build(context_limit=10**6).generate(**batch, max_new_tokens=3, do_sample=False),
        exact.generate(**batch, max_new_tokens=7, do_sample=False)[:, :3],
    )


@pytest.mark.usefixtures("no_grad")
def test_above_the_limit_the_prompt_fits_and_keeps_its_order(
    processor: VideoXLProProcessor,
) -> None:
    batch = processor(ask("Which one is it?", video(80)))
    model = build(context_limit=300)
    tokens = model.vision(batch["frames"], batch["clip_frames"])
    given = {k: batch[k] for k in ("input_ids", "attention_mask", "token_kinds")}
    sequence = model.sequence(**given, visual_tokens=tokens, room=20)
    (selection,) = sequence.selections
    assert 0 < selection.num_kept < 80
    assert 280 - 14 < sequence.embeds_BPD.shape[1] <= 280  # a token and its time text: 1 + 13
    assert int(selection.kept_G.sum()) == selection.num_kept
    best = torch.sort(selection.scores_M, descending=True, stable=True).indices
    kept_M = torch.sort(best[: selection.num_kept]).values
    wanted_KD = tokens.flatten(0, 1)[kept_M]
    found = (sequence.embeds_BPD[0][:, None] == wanted_KD[None]).all(-1).nonzero()
    assert found[:, 1].tolist() == list(range(len(kept_M)))


def test_text_that_exceeds_the_limit_alone_is_an_error(processor: VideoXLProProcessor) -> None:
    batch = processor(ask("A question that is far too long for this.", video(4)))
    with pytest.raises(UserError, match="may take 20: more than context_limit 60"):
        build(context_limit=60).generate(**batch, max_new_tokens=20)


def test_keep_ratio_keeps_that_share(
    model: VideoXLProForConditionalGeneration, processor: VideoXLProProcessor
) -> None:
    batch = processor(ask("What?", video(40)))
    given = {k: batch[k] for k in ("input_ids", "attention_mask", "token_kinds")}
    with torch.no_grad():
        tokens = model.vision(batch["frames"], batch["clip_frames"])
        for ratio, num_kept in ((1.0, 40), (0.5, 20), (0.1, 4)):
            sequence = model.sequence(**given, visual_tokens=tokens, keep_ratio=ratio)
            assert sequence.selections[0].num_kept == num_kept
    with pytest.raises(ValueError, match="keep_ratio must be in"):
        model.sequence(**given, visual_tokens=tokens, keep_ratio=0)


def test_training_leaves_out_5_to_30_percent_by_the_samples_own_seed(
    processor: VideoXLProProcessor,
) -> None:
    model = build().train()
    pair = ask("What?", video(100), answer="That")
    single = processor(pair)
    double = processor([pair, ask("And?", video(60, seed=1), answer="This one")])
    kept = set()
    for seed in range(3):
        alone = model(**single, selector_seeds=[seed])
        batched = model(**double, selector_seeds=[seed, 99])
        (first,), (second, other) = alone.selections, batched.selections
        assert torch.equal(first.kept_G, second.kept_G)
        assert 70 <= first.num_kept <= 95
        assert 42 <= other.num_kept <= 57
        kept.add(first.num_kept)
    assert len(kept) > 1
    with pytest.raises(ValueError, match="give selector_seeds"):
        model(**single)


def test_the_answer_changes_no_score(processor: VideoXLProProcessor) -> None:
    model = build().train()
    scores = []
    for answer in ("A", "A very different and longer answer"):
        batch = processor(ask("Which?", video(40), answer=answer))
        scores.append(model(**batch, selector_seeds=[3]).selections[0].scores_M)
    assert torch.equal(*scores)
    other = processor(ask("What else?", video(40), answer="A"))
    assert not torch.equal(model(**other, selector_seeds=[3]).selections[0].scores_M, scores[0])


def test_every_trained_part_gets_a_gradient(processor: VideoXLProProcessor) -> None:
    model = build().train()
    model.vision.dts.requires_grad_(True)
    batch = processor(ask("What?", video(40), answer="That"))
    model(**batch, selector_seeds=[3]).loss.backward()
    for part in ("selector.up", "selector.out", "vision.projector.up", "vision.dts.stages.1.conv"):
        weight = model.get_submodule(part).weight
        assert weight.grad is not None, part
        assert weight.grad.abs().max() > 0, part
    assert all(p.grad is None for p in model.vision.tower.parameters())


# --- answers and files -------------------------------------------------------------------


def test_generating_twice_gives_the_same(
    model: VideoXLProForConditionalGeneration, processor: VideoXLProProcessor
) -> None:
    batch = processor([ask("What?", video(9)), ask("A longer question?", image())])
    answers = [model.generate(**batch, max_new_tokens=8, do_sample=False) for _ in range(2)]
    assert torch.equal(*answers)
    for row, conversation in enumerate(
        [ask("What?", video(9)), ask("A longer question?", image())]
    ):
        alone = model.generate(**processor(conversation), max_new_tokens=8, do_sample=False)
        assert torch.equal(answers[0][row], alone[0])


@pytest.mark.parametrize("tied", [True, False])
def test_saved_and_read_again_it_is_the_same(
    tied: bool, processor: VideoXLProProcessor, tmp_path: Path
) -> None:
    config = video_xl_pro_preset("tiny")
    config.text_config.tie_word_embeddings = tied
    model = VideoXLProForConditionalGeneration(config).eval()
    model.generation_config.max_new_tokens = 5
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    batch = processor(ask("What?", video(9)))
    for kind in (AutoModel, AutoModelForImageTextToText, VideoXLProForConditionalGeneration):
        again = kind.from_pretrained(tmp_path)
        assert isinstance(again, VideoXLProForConditionalGeneration)
        assert again.generation_config.max_new_tokens == 5
        assert torch.equal(logits(again, batch), logits(model, batch))
    read = AutoProcessor.from_pretrained(tmp_path)
    assert isinstance(read, VideoXLProProcessor)
    for name, value in read(ask("What?", video(9))).items():
        assert torch.equal(value, batch[name])
    half = VideoXLProForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert logits(half, batch).dtype == torch.bfloat16


def test_a_file_that_lacks_a_tensor_is_refused(tmp_path: Path) -> None:
    model = build()
    state = model.state_dict()
    del state["vision.projector.up.weight"]
    model.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(UserError, match=r"missing_keys: vision.projector.up.weight"):
        VideoXLProForConditionalGeneration.from_pretrained(tmp_path)


def test_four_questions_are_learned_and_their_letters_generated(
    processor: VideoXLProProcessor,
) -> None:
    colours = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0]])
    shown = colours.to(torch.uint8)[:, None, None, None].expand(4, 4, PX, PX, 3).contiguous()
    pairs = [
        ({"type": "video", "video": frames_THWC}, letter)
        for frames_THWC, letter in zip(shown, "ABCD", strict=True)
    ]
    batch = processor([ask("Which?", colour, answer=letter) for colour, letter in pairs])
    model = build().train()
    model.vision.dts.requires_grad_(True)
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=3e-3)
    for step in range(120):
        loss = model(**batch, selector_seeds=[step * 4 + row for row in range(4)]).loss
        if loss.item() < 0.05:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    model.eval()
    for colour, letter in pairs:
        ids = model.generate(
            **processor(ask("Which?", colour)),
            max_new_tokens=4,
            do_sample=False,
            eos_token_id=processor.tokenizer.eos_token_id,
            pad_token_id=0,
        )
        assert processor.decode(ids[0], skip_special_tokens=True) == letter


# --- arithmetic -----------------------------------------------------------------------------


@pytest.mark.parametrize("num_frames", [1, 2, 3, 4, 5, 8, 61])
def test_the_budget_counts_what_the_prompt_has(
    model: VideoXLProForConditionalGeneration, processor: VideoXLProProcessor, num_frames: int
) -> None:
    batch = processor(ask("What?", video(num_frames)))
    kinds_P = batch["token_kinds"][0]
    num_text = int(((kinds_P == Kind.TEXT) | (kinds_P == Kind.QUERY)).sum())
    budget = ContextBudget.of(video_xl_pro_preset("tiny"), time_tokens=13)
    cost = budget.cost(num_frames, num_text=num_text)
    assert cost.num_visual == int((kinds_P == Kind.VISUAL).sum())
    assert cost.num_time == int((kinds_P == Kind.TIME).sum())
    assert cost.num_positions == len(kinds_P)
    with torch.no_grad():  # and the model makes as many
        tokens_GND = model.vision(batch["frames"], batch["clip_frames"], batch["clip_is_image"])
    assert tokens_GND.shape == (-(-num_frames // 4), 4, 64)
    assert tokens_GND.shape[:2].numel() == cost.num_visual


def test_the_cache_takes_the_bytes_computed(
    model: VideoXLProForConditionalGeneration, processor: VideoXLProProcessor
) -> None:
    batch = processor(ask("What?", video(9)))
    with torch.no_grad():
        cache = model(**batch, use_cache=True).past_key_values
    num_bytes = sum(
        tensor.numel() * tensor.element_size()
        for layer in cache.layers
        for tensor in (layer.keys, layer.values)
    )
    budget = ContextBudget.of(model.config, bytes_per_number=4)
    assert num_bytes == budget.cache_bytes_per_position * batch["input_ids"].shape[1]
    assert budget.num_weights == sum(p.numel() for p in model.parameters())


def test_the_full_size_counts_are_those_of_the_paper() -> None:
    budget = ContextBudget.of(video_xl_pro_preset("3b"))
    assert round(budget.num_weights / 1e9, 2) == 3.59
    assert budget.cache_bytes_per_position == 36_864
    assert budget.frames_within(32_768) == 848
    assert budget.cost(8192).num_positions == 315_392
    assert round(budget.cost(8192).total_bytes / 1e9, 1) == 20.1
    assert round(budget.cost(16_384).total_bytes / 1e9, 1) == 33.0
    most = budget.max_frames(80 * 10**9)
    assert budget.cost(most).total_bytes <= 80 * 10**9 < budget.cost(most + 4).total_bytes
    with pytest.raises(UserError, match="Take a larger card"):
        budget.max_frames(10**9)


def test_frames_given_as_a_file_are_those_of_the_plan(
    processor: VideoXLProProcessor, tmp_path: Path
) -> None:
    path = write_colours(tmp_path / "clip.mp4", num_frames=20, fps=2)
    batch = processor(
        ask("What?", {"type": "video", "video": str(path)}), choice=FrameChoice(fps=1.0)
    )
    assert batch["clip_frames"].tolist() == [10]
    text = processor.tokenizer.decode(batch["input_ids"][0][batch["token_kinds"][0] == Kind.TIME])
    assert text == "Time 0000.0s:Time 0004.0s:Time 0008.0s:"
    assert tuple(batch["frames"].shape) == (10, PX, PX, 3)
    own = {"type": "video", "video": path, "num_frames": 5}
    assert processor(ask("What?", own))["clip_frames"].tolist() == [5]
    with pytest.raises(DataUserError, match="there is no such file"):
        processor(ask("What?", {"type": "video", "video": tmp_path / "none.mp4"}))
