"""Models that compress 1, 2, 4 or 8 frames into one; with 1 there is no compressor."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.later import LATER
from support.mllm_runs import changed_parts, recipe, tensors, training_shards
from support.tiny_video_xl_pro import drawn_frames
from vxp_data.errors import UserError as DataUserError
from vxp_model.errors import UserError
from vxp_model.models.video_xl_pro_shape import preset_shape

if LATER:
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import Qwen2ForCausalLM, SiglipVisionModel

    from vxp_model.eval.adapters.ours import OurModel
    from vxp_model.inference.session import LongVideoModel
    from vxp_model.models.budget import ContextBudget
    from vxp_model.models.byte_tokenizer import byte_tokenizer
    from vxp_model.models.flops import MllmFlops
    from vxp_model.models.parameter_counts import part_parameters
    from vxp_model.models.processor import VideoXLProProcessor
    from vxp_model.models.recot_config import ReCoTConfig
    from vxp_model.models.video_xl_pro import VideoXLProForConditionalGeneration, parts_of
    from vxp_model.models.video_xl_pro_config import video_xl_pro_preset
    from vxp_model.models.visual_sequence import is_visual
    from vxp_model.modules.shapes import DTSConfig
    from vxp_model.train.distributed import DistributedContext
    from vxp_model.train.mllm.estimate import SampleShape, estimate_mllm
    from vxp_model.train.mllm.run import train_mllm
    from vxp_model.train.mllm.start import start_model
    from vxp_model.train.training import TrainResult

pytestmark = pytest.mark.usefixtures("one_thread")

FACTORS = (1, 2, 4, 8)
PX = 56


def build(factor: int) -> tuple[VideoXLProForConditionalGeneration, VideoXLProProcessor]:
    config = video_xl_pro_preset("tiny", temporal_factor=factor)
    torch.manual_seed(0)
    model = VideoXLProForConditionalGeneration(config).eval()
    return model, VideoXLProProcessor.for_model(config, byte_tokenizer())


def asked(num_frames: int) -> list[dict[str, object]]:
    shown = torch.from_numpy(drawn_frames(num_frames, px=PX))
    parts = [{"type": "video", "video": shown}, {"type": "text", "text": "What is it?"}]
    return [{"role": "user", "content": parts}]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    return training_shards(tmp_path_factory.mktemp("shards"), videos=3, images=2)


@pytest.fixture(scope="module")
def aligned(
    shards: str, context: DistributedContext, tmp_path_factory: pytest.TempPathFactory
) -> TrainResult:
    start = {"init": "random", "preset": "tiny", "temporal_factor": 1}
    out = tmp_path_factory.mktemp("align")
    loaded = recipe(shards, out, stage="align", start=start, run__steps=2)
    return train_mllm(loaded, context, lambda _: None)


@pytest.mark.usefixtures("no_grad")
@pytest.mark.parametrize("num_frames", [1, 3])
def test_without_a_compressor_each_frame_goes_to_the_projector_as_the_tower_gives_it(
    num_frames: int,
) -> None:
    """Against transformers' own tower and language model."""
    model, processor = build(1)
    batch = processor(asked(num_frames))
    siglip = SiglipVisionModel(model.config.vision_config).eval()
    state = {
        name.replace("layers.", "encoder.layers.", 1) if name.startswith("layers.") else name: value
        for name, value in model.vision.tower.state_dict().items()
    }
    siglip.load_state_dict(
        state | {k: v for k, v in siglip.state_dict().items() if "post_layernorm" in k}
    )
    pixels = (batch["frames"].permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
    features = siglip(pixels, output_hidden_states=True).hidden_states[-1]
    first, second = model.vision.projector.up, model.vision.projector.out
    tokens = second(torch.nn.functional.gelu(first(features))).view(num_frames, 4, 4, -1)
    pooled = tokens.unfold(1, 2, 2).unfold(2, 2, 2).mean((-2, -1)).reshape(num_frames * 4, -1)
    qwen = Qwen2ForCausalLM(model.config.text_config).eval()
    qwen.load_state_dict(model.language_model.state_dict())
    embeds = qwen.model.embed_tokens(batch["input_ids"])
    embeds[0, batch["input_ids"][0] == model.config.visual_token_id] = pooled
    wanted = qwen(inputs_embeds=embeds).logits
    torch.testing.assert_close(model(**batch).logits, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["tiny", "3b"])
@pytest.mark.parametrize("factor", FACTORS)
def test_shape_config_and_model_agree_for_every_factor(name: str, factor: int) -> None:
    config = video_xl_pro_preset(name, temporal_factor=factor)
    shape = preset_shape(name, temporal_factor=factor)
    with torch.device("meta"):
        model = VideoXLProForConditionalGeneration(config)
    built = {
        part: sum(p.numel() for p in model.get_submodule(where).parameters())
        for part, where in parts_of(config).items()
    }
    assert built.keys() >= {"tower", "projector", "selector", "language_model"}
    assert ("dts" in built) == (factor > 1)
    assert sum(built.values()) == sum(p.numel() for p in model.parameters())
    assert part_parameters(shape) == part_parameters(config) == {"dts": 0} | built
    assert shape.temporal_factor == config.temporal_factor == factor
    assert MllmFlops.of(shape, ()) == MllmFlops.of(config, ())
    # 16 frames: groups of `factor`, each with its tokens and 10 of time text.
    cost = ContextBudget.of(shape).cost(16)
    assert cost == ContextBudget.of(config).cost(16)
    assert cost.num_positions == 16 // factor * (config.group_tokens + 10)


@pytest.mark.parametrize("factor", FACTORS)
def test_a_prompt_has_the_tokens_and_the_operations_that_are_counted(factor: int) -> None:
    model, processor = build(factor)
    model.language_model.set_attn_implementation("eager")
    batch = processor(asked(16))
    assert int(is_visual(batch["token_kinds"]).sum()) == 16 // factor * 4
    flops, positions = MllmFlops.of(model.config, ()), batch["input_ids"].shape[1]
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        model(**batch, logits_to_keep=1)
    ours = flops.of_samples(
        num_frames=16, num_groups=16 // factor, positions=[positions], num_labels=1
    )
    whole = ours + flops.squared_position * positions**2  # eager computes all pairs
    assert whole == pytest.approx(counted.get_total_flops(), rel=0.02)


def test_recot_needs_frames_to_compress() -> None:
    with pytest.raises(DataUserError, match="temporal_factor must be 2, 4 or 8, got 1"):
        ReCoTConfig(dts=DTSConfig(temporal_factor=1))


def test_without_a_compressor_stages_are_trained_and_say_so(
    shards: str, aligned: TrainResult, context: DistributedContext, tmp_path: Path
) -> None:
    said: list[str] = []
    loaded = recipe(
        shards, tmp_path, start={"model": str(aligned.model)}, run__steps=2, checkpoint_layers=True
    )
    result = train_mllm(loaded, context, said.append)
    parts = {"tower", "projector", "selector", "language_model"}
    assert changed_parts(tensors(aligned.model), tensors(result.model)) == parts
    assert any(
        line.startswith("sft: tower, projector, selector, language_model (") for line in said
    )
    card = (result.model / "README.md").read_text()
    assert "No compressor: every frame" in card
    assert "Trained parts: tower, projector, selector, language_model." in card
    of_chance = (aligned.model / "README.md").read_text()
    assert "weights from chance: language_model, tower, selector.**" in of_chance
    assert not any(".dts." in name for name in tensors(result.model))


def test_without_a_compressor_a_model_is_watched_with_asked_and_evaluated(
    aligned: TrainResult,
) -> None:
    model = LongVideoModel.load(aligned.model, device="cpu", dtype="float32")
    assert model.piece_frames == model.model.config.chunk_frames
    frames_THWC = drawn_frames(11, px=PX)
    pieces = (frames_THWC[:3], frames_THWC[3:])
    watched = model.watch_frames(pieces, time_s_F=[float(t) for t in range(11)], duration_s=11)
    assert watched.tokens_GND.shape == (11, 4, 64)
    answer = model.ask(watched, "What?", keep_ratio=0.5, max_new_tokens=2)
    assert (answer.num_visual, answer.num_kept, len(answer.kept_G)) == (44, 22, 11)
    assert OurModel(model, weights={}).frames_per_group == 1
    with torch.no_grad():  # frames never meet
        alone = model.model.vision(torch.from_numpy(frames_THWC[5:6]), [1])
    torch.testing.assert_close(watched.tokens_GND[5:6], alone)


def test_the_estimate_follows_the_factor(shards: str, tmp_path: Path) -> None:
    sizes = {}
    for factor in FACTORS:
        start = {"init": "random", "preset": "3b", "temporal_factor": factor}
        loaded = recipe(shards, tmp_path, start=start)
        sizes[factor] = estimate_mllm(loaded.config, SampleShape(num_frames=360, num_text=1))
        assert sizes[factor].num_positions == 360 // factor * 154 + 1
    assert sizes[1].device_bytes["compressor"] == 0 < sizes[4].device_bytes["compressor"]
    assert sizes[4].num_trained - sizes[1].num_trained == 93_526_272
    assert sizes[1].sample_flop > sizes[2].sample_flop > sizes[4].sample_flop


@pytest.mark.parametrize("factor", [2, 8])
def test_the_named_factor_is_the_models(shards: str, tmp_path: Path, factor: int) -> None:
    start = {"init": "random", "preset": "tiny", "temporal_factor": factor}
    model, processor = start_model(recipe(shards, tmp_path, start=start).config)
    assert model.vision.dts is not None
    assert model.vision.dts.config.temporal_factor == processor.temporal_factor == factor


def test_a_factor_that_does_not_fit_is_refused(
    shards: str, aligned: TrainResult, tmp_path: Path
) -> None:
    with pytest.raises(DataUserError, match=r"start\.recot names a compressor"):
        recipe(shards, tmp_path, start={"recot": "runs/recot", "temporal_factor": 1})
    own_rate = {"start": {"temporal_factor": 1}, "optim": {"rate_mults": {"dts": 0.5}}}
    with pytest.raises(DataUserError, match="names what is not trained: dts"):
        recipe(shards, tmp_path, **own_rate)
    with pytest.raises(DataUserError, match="temporal_factor"):
        recipe(shards, tmp_path, start={"temporal_factor": 3})
    other = recipe(shards, tmp_path, start={"model": str(aligned.model), "temporal_factor": 4})
    with pytest.raises(UserError, match=r"temporal_factor is 4, and the model in .* has 1"):
        start_model(other.config)
    alone = ["tower", "projector", "selector", "language_model"]
    nothing = recipe(shards, tmp_path, start={"model": str(aligned.model)}, optim={"freeze": alone})
    with pytest.raises(UserError, match="has no compressor, and nothing else is trained"):
        start_model(nothing.config)
