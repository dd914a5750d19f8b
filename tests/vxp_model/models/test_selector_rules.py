"""What the selector may leave out: when, of what, and how often nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.later import LATER
from support.mllm_runs import recipe
from support.train_samples import sample_of
from vxp_data.errors import UserError as DataUserError
from vxp_model.errors import UserError

if LATER:
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from vxp_model.data.seeded_draws import selector_seed
    from vxp_model.models.byte_tokenizer import byte_tokenizer
    from vxp_model.models.processor import VideoXLProProcessor
    from vxp_model.models.video_xl_pro import VideoXLProForConditionalGeneration
    from vxp_model.models.video_xl_pro_config import video_xl_pro_preset
    from vxp_model.models.visual_sequence import Kind, is_visual
    from vxp_model.modules.selector import SelectorConfig
    from vxp_model.train.mllm.batches import MllmBatch, collate
    from vxp_model.train.mllm.start import start_model

pytestmark = pytest.mark.usefixtures("one_thread")

GROUP = 4
MIXED = (
    ("user", "@image @video And @image which?"),
    ("assistant", "That."),
)
MIXED_FRAMES = (1, 40, 1)


def build(**changes: Any) -> VideoXLProForConditionalGeneration:
    config = video_xl_pro_preset("tiny")
    for name, value in changes.items():
        setattr(config, name, value)
    torch.manual_seed(0)
    return VideoXLProForConditionalGeneration(config).train()


def batch_of(*said: tuple[str, str], frames: tuple[int, ...]) -> MllmBatch:
    processor = VideoXLProProcessor.for_model(video_xl_pro_preset("tiny"), byte_tokenizer())
    return collate([sample_of(*said, frames=frames)], processor=processor, seed=1)


def of_images(batch: MllmBatch) -> torch.Tensor:
    """Which of the visual tokens are images'."""
    kinds_P = batch.inputs["token_kinds"][0]
    return kinds_P[is_visual(kinds_P)] == Kind.IMAGE


# Images


def test_training_leaves_out_videos_tokens_alone() -> None:
    batch = batch_of(*MIXED, frames=MIXED_FRAMES)
    is_image_M = of_images(batch)
    assert is_image_M.tolist() == [True] * 4 + [False] * 40 + [True] * 4
    model = build()
    kept = set()
    for seed in range(20):
        (selection,) = model(**batch.inputs, selector_seeds=[seed]).selections
        assert selection.keep_M[is_image_M].all()
        assert selection.scores_M[is_image_M].isinf().all()
        assert selection.scores_M[~is_image_M].isfinite().all()
        # 5 to 30 % of the video's 40 tokens, whatever images there are beside it.
        assert selection.num_kept - 8 == model.selector.config.num_kept(40, seed)
        kept.add(selection.num_kept)
    assert len(kept) > 3
    best_M = torch.sort(selection.scores_M, descending=True, stable=True).indices
    assert set(best_M[: selection.num_kept].tolist()) == set(
        selection.keep_M.nonzero()[:, 0].tolist()
    )


def test_told_so_it_leaves_out_images_tokens_too() -> None:
    batch = batch_of(*MIXED, frames=MIXED_FRAMES)
    model = build(selector_drops_images=True, selector_drop_min=0.9, selector_drop_max=0.9)
    (selection,) = model(**batch.inputs, selector_seeds=[1]).selections
    assert selection.num_kept == 48 - 43
    assert selection.scores_M.isfinite().all()
    assert not selection.keep_M[of_images(batch)].all()


def test_rows_of_images_alone_stay_whole_in_training() -> None:
    batch = batch_of(("user", "@image What?"), ("assistant", "It."), frames=(1,))
    model = build(selector_drop_min=0.9, selector_drop_max=0.9)
    output = model(**batch.inputs, selector_seeds=[1])
    assert output.selections[0].num_kept == 4
    assert output.selections[0].keep_M is None


def test_the_gate_is_the_videos_and_the_images_values_stay() -> None:
    batch = batch_of(*MIXED, frames=MIXED_FRAMES)
    model = build()
    given = {k: batch.inputs[k] for k in ("input_ids", "attention_mask", "token_kinds")}
    shown = [batch.inputs[k] for k in ("frames", "clip_frames", "clip_is_image")]
    tokens_GND = model.vision(*shown)
    sequence = model.sequence(**given, visual_tokens=tokens_GND, selector_seeds=[3])
    (selection,) = sequence.selections
    stays_KD = tokens_GND.flatten(0, 1)[selection.keep_M]
    assert torch.equal(sequence.embeds_BPD[sequence.is_visual_BP], stays_KD)  # in their order
    sequence.embeds_BPD.square().sum().backward()
    assert model.selector.out.weight.grad.abs().max() > 0


def test_above_the_limit_images_stay_and_videos_make_room() -> None:
    batch = batch_of(*MIXED, frames=MIXED_FRAMES)
    given = {k: batch.inputs[k] for k in ("input_ids", "attention_mask", "token_kinds")}
    kinds_P = given["token_kinds"][0]
    num_text = int(((kinds_P == Kind.TEXT) | (kinds_P == Kind.QUERY)).sum())
    # 40 positions for the video are two groups' time texts and tokens, 28; 48 would be three, 42.
    model = build(context_limit=num_text + 8 + 40).eval()
    shown = [batch.inputs[k] for k in ("frames", "clip_frames", "clip_is_image")]
    with torch.no_grad():
        tokens_GND = model.vision(*shown)
        sequence = model.sequence(**given, visual_tokens=tokens_GND)
        (selection,) = sequence.selections
        assert selection.keep_M[of_images(batch)].all()
        assert 8 < selection.num_kept < 48
        assert sequence.embeds_BPD.shape[1] <= model.config.context_limit
        (half,) = model.sequence(
            **given, visual_tokens=tokens_GND, keep_ratio=0.5, context_limit=10**6
        ).selections
        assert half.num_kept == 8 + 20
        with pytest.raises(UserError, match="images of a prompt take 8 positions, its text"):
            model.sequence(**given, visual_tokens=tokens_GND, context_limit=num_text + 7)
        model.selector.config = SelectorConfig(drops_images=True)
        less = model.sequence(**given, visual_tokens=tokens_GND, context_limit=num_text + 7)
        assert less.embeds_BPD.shape[1] <= num_text + 7  # not all of the images


# A share of samples with everything


def test_a_share_of_samples_keeps_every_token_by_its_own_seed() -> None:
    some, none = SelectorConfig(full_share=0.25), SelectorConfig()
    seeds = [selector_seed(0, epoch=0, position=n) for n in range(4000)]
    whole = [some.num_kept(1000, seed) == 1000 for seed in seeds]
    assert sum(whole) / len(whole) == pytest.approx(0.25, abs=0.03)
    for seed, is_whole in zip(seeds, whole, strict=True):
        assert none.num_kept(1000, seed) <= 950
        if not is_whole:  # the others lose what they would have
            assert some.num_kept(1000, seed) == none.num_kept(1000, seed)
    kept = [
        some.num_kept(1000, s) for s, is_whole in zip(seeds, whole, strict=True) if not is_whole
    ]
    assert (min(kept), max(kept)) == pytest.approx((700, 950), abs=2)  # of the whole range
    assert sum(kept) / len(kept) == pytest.approx(825, abs=8)
    assert all(SelectorConfig(full_share=1.0).num_kept(9, seed) == 9 for seed in seeds)
    with pytest.raises(DataUserError, match=r"full_share must be in \[0, 1\]"):
        SelectorConfig(full_share=1.5)


# Stages


@pytest.mark.parametrize(
    ("changes", "greatest"),
    [
        ({"stage": "align"}, 0.0),
        ({"stage": "align", "selector": {"drops_untrained": True}}, 0.3),
        ({"stage": "sft"}, 0.3),
        ({"stage": "sft", "optim": {"freeze": ["selector"]}}, 0.0),
        ({"stage": "sft", "selector": {"drop_min": 0.1, "drop_max": 0.87}}, 0.87),
    ],
)
def test_a_selector_that_knows_nothing_and_learns_nothing_leaves_nothing_out(
    changes: dict[str, Any], greatest: float, tmp_path: Path
) -> None:
    model, _ = start_model(recipe("shards", tmp_path, **changes).config)
    assert model.selector.config.drop_max == model.config.selector_drop_max == greatest
    batch = batch_of(("user", "@video What?"), ("assistant", "It."), frames=(80,))
    (selection,) = model.train()(**batch.inputs, selector_seeds=[5]).selections
    assert (selection.num_kept < 80) == (greatest > 0)


def test_a_selector_that_was_trained_leaves_tokens_out_while_others_are(tmp_path: Path) -> None:
    model, processor = start_model(recipe("shards", tmp_path).config)
    assert "selector" not in model.config.random_parts
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again = recipe("shards", tmp_path, stage="align", start={"model": str(tmp_path)})
    aligned, _ = start_model(again.config)
    assert aligned.selector.config.drop_max == 0.3


def test_the_rules_are_the_models_after_it_is_read_again(tmp_path: Path) -> None:
    rule = {"full_share": 0.2, "drops_images": True}
    model, _ = start_model(recipe("shards", tmp_path, selector=rule).config)
    model.save_pretrained(tmp_path)
    again = VideoXLProForConditionalGeneration.from_pretrained(tmp_path)
    assert again.selector.config == SelectorConfig(full_share=0.2, drops_images=True)


# Positions


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model that knows 5,000 positions, in a folder."""
    folder = tmp_path_factory.mktemp("llm")
    config = Qwen2Config(
        hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, vocab_size=len(byte_tokenizer()), max_position_embeddings=5000,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("setting", "limit"), [(None, 5000), (700, 700)])
def test_the_context_is_what_the_language_model_says(
    llm: Path, setting: int | None, limit: int, tmp_path: Path
) -> None:
    start = {"llm": str(llm), "init": "random", "preset": "tiny"}
    model, processor = start_model(
        recipe("shards", tmp_path, start=start, context_limit=setting).config
    )
    assert model.config.context_limit == limit
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    whole = recipe("shards", tmp_path, start={"model": str(tmp_path)})
    assert start_model(whole.config)[0].config.context_limit == limit
    other = recipe("shards", tmp_path, start={"model": str(tmp_path)}, context_limit=900)
    assert start_model(other.config)[0].config.context_limit == 900


def test_without_one_it_is_the_presets(tmp_path: Path) -> None:
    model, _ = start_model(recipe("shards", tmp_path).config)
    assert model.config.context_limit == 32_768
