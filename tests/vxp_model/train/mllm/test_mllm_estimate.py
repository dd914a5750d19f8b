"""What a training of Video-XL-Pro will take: against hand numbers, DeepSpeed's, and autograd's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner

from support.later import LATER
from support.repo import PIPELINES
from vxp_data.settings.file import read_yaml
from vxp_model.cli import app
from vxp_model.errors import UserError
from vxp_model.settings.mllm import MLLM_RECIPES, MllmRecipe

if LATER:
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM, SiglipVisionConfig, SiglipVisionModel

    from vxp_model.models.video_xl_pro_config import video_xl_pro_preset
    from vxp_model.train.mllm.estimate import (
        GIB,
        SampleShape,
        count_parameters,
        describe_mllm,
        estimate_mllm,
        model_states,
        text_layer_numbers,
        tower_layer_numbers,
    )

pytestmark = pytest.mark.usefixtures("one_thread")

SFT = PIPELINES / "video_xl_pro" / "sft.yaml"
ALL = 3_592_115_264
"""397.7 M tower, 93.5 M compressor, 6.6 M projector, 8.4 M selector, 3,085.9 M language model."""


def sft(**changes: Any) -> MllmRecipe:
    return MLLM_RECIPES.read(read_yaml(SFT) | changes, "test").config


def test_the_full_size_recipe_has_the_numbers_computed_by_hand() -> None:
    recipe = sft(chunk_frames=8)
    result = estimate_mllm(recipe, SampleShape(num_frames=360, num_text=512), num_gpus=8)
    assert result.num_parameters == pytest.approx(ALL, rel=1e-3)
    assert result.num_trained == result.num_parameters
    assert result.num_positions == 90 * (144 + 10) + 512
    device, count = result.device_bytes, result.num_parameters
    assert device["weights"] == 2 * count
    assert result.host_bytes == count * 12 // 8 + count * 4 // 8  # ZeRO-2, offload: 16 bytes / 8
    assert device["pixels"] == 360 * 3 * 384**2 * 4  # 0.64 GB
    assert device["tower"] == 8 * 729 * 26 * (9 * 1152 + 2 * 4304) * 2  # 5.8 GB
    assert device["features"] == 360 * (729 + 576) * 1152 * 2
    assert device["projector"] == 90 * (576 * (1152 + 2 * 2048) + 144 * 2048) * 2
    layer = 8 * 2048 + 5 * 2048 + 4 * 11_008
    assert device["language model"] == 14_372 * (36 * 2048 + layer) * 2  # 2.1 GB and 2.0 GB
    assert device["head"] == 256 * 151_936 * 10
    assert 15 * GIB < result.total_bytes < 30 * GIB


def test_what_costs_memory_is_seen_in_it() -> None:
    shape = SampleShape()
    lean = estimate_mllm(sft(chunk_frames=8), shape).device_bytes
    wide = estimate_mllm(sft(chunk_frames=32), shape).device_bytes
    assert wide["tower"] == 4 * lean["tower"]
    whole = estimate_mllm(sft(chunk_frames=8, checkpoint_layers=False), shape).device_bytes
    assert whole["language model"] > 12 * lean["language model"]
    frozen = estimate_mllm(sft(optim={"freeze": ["tower", "dts"]}), shape).device_bytes
    assert frozen["pixels"] == frozen["compressor"] == 0
    assert frozen["tower"] < lean["tower"]
    lora = estimate_mllm(sft(lora={"rank": 16}), shape)
    # Of each layer: q and o, k and v, gate and up, down.
    pairs = 2 * (2048 + 2048) + 2 * (2048 + 256) + 3 * (2048 + 11_008)
    assert lora.num_parameters - ALL == pytest.approx(36 * 16 * pairs, rel=0.3)
    llm_alone = sft(lora={"rank": 16}, optim={"freeze": ["tower", "dts", "projector", "selector"]})
    assert estimate_mllm(llm_alone, shape).num_trained == 36 * 16 * pairs


@pytest.mark.parametrize("gpus", [1, 8])
@pytest.mark.parametrize("offload", [False, True])
def test_weights_gradients_and_optimizer_are_what_deepspeed_estimates(
    gpus: int, offload: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs

    host, device = estimate_zero2_model_states_mem_needs(
        total_params=ALL,
        num_gpus_per_node=gpus,
        num_nodes=1,
        cpu_offload=offload,
        additional_buffer_factor=1.0,
    )
    engine = {"zero_stage": 2, "offload": "torch" if offload else "none", "bucket_mib": 1}
    states, host_bytes = model_states(sft(engine=engine), ALL, ALL, size=2, num_gpus=gpus)
    assert sum(states.values()) == pytest.approx(device, rel=1e-3)  # theirs has no buckets
    if not offload:
        assert host_bytes == 0  # theirs has the weights, while they are read
    elif gpus == 1:
        assert host_bytes == host == 16 * ALL
    else:
        assert host_bytes == 2 * ALL


@pytest.mark.parametrize(
    ("precision", "stage", "offload", "gradients", "optimizer", "host"),
    [
        ("bf16", 0, "none", 4800, 9600, 0),
        ("bf16", 1, "none", 4800, 1200, 0),
        ("bf16", 2, "none", 600 + 1600, 1200, 0),
        ("bf16", 1, "torch", 1600, 0, 1200 + 400),
        ("bf16", 2, "torch", 1600, 0, 1200 + 400),
        ("fp32", 0, "none", 3200, 6400, 0),
        ("fp32", 1, "none", 3200, 1200, 0),
        ("fp32", 2, "none", 3200, 1200, 0),  # the bucket alone holds them all
        ("fp32", 2, "torch", 3200, 0, 1200 + 400),
    ],
)
def test_model_states_are_those_of_the_table(
    precision: str, stage: int, offload: str, gradients: int, optimizer: int, host: int
) -> None:
    """1000 weights, 800 of them trained, on 8 GPUs; buckets hold all that is trained."""
    recipe = sft(engine={"precision": precision, "zero_stage": stage, "offload": offload})
    size = 4 if precision == "fp32" else 2
    device, host_bytes = model_states(recipe, 1000, 800, size=size, num_gpus=8)
    assert device == {"weights": 1000 * size, "gradients": gradients, "optimizer": optimizer}
    assert host_bytes == host


def test_without_zero_the_copy_that_is_reduced_counts_where_activations_do_not_hide_it() -> None:
    plain = {"precision": "fp32", "zero_stage": 0, "offload": "none"}
    shape = SampleShape(num_frames=1, num_text=16, num_labels=4)
    lean = sft(engine=plain, optim={"freeze": ["tower", "dts"]})
    uses = estimate_mllm(lean, shape).device_bytes
    others = ("pixels", "tower", "features", "compressor", "projector", "language model", "head")
    assert uses["reduction"] == 4 * 500_000_000 - sum(uses[use] for use in others)
    long = estimate_mllm(sft(engine=plain), SampleShape(num_frames=360)).device_bytes
    assert long["reduction"] == 0


def test_buckets_are_no_larger_than_the_recipe_says() -> None:
    recipe = sft(engine={"zero_stage": 2, "offload": "torch", "bucket_mib": 4})
    device, _ = model_states(recipe, ALL, ALL, size=2, num_gpus=8)
    assert device["gradients"] == 2 * (4 * 2**20 // 4)  # 4 MiB of fp32, in bf16


def test_samples_that_run_at_once_take_memory_each_and_the_same_operations() -> None:
    shape = SampleShape(num_frames=10, num_text=100, num_labels=20)
    one, three = (
        estimate_mllm(sft(chunk_frames=64, batch={"micro_samples": number}), shape)
        for number in (1, 3)
    )
    for use in ("pixels", "tower", "features", "projector", "language model", "head"):
        assert three.device_bytes[use] == 3 * one.device_bytes[use]
    assert one.device_bytes["projector"] == 3 * (576 * (1152 + 2 * 2048) + 144 * 2048) * 2
    assert one.device_bytes["tower"] == 10 * 729 * 26 * (9 * 1152 + 2 * 4304) * 2  # no 64 frames
    for use in ("weights", "gradients", "optimizer", "spare"):
        assert three.device_bytes[use] == one.device_bytes[use]
    assert three.sample_flop == one.sample_flop
    assert three.num_positions == one.num_positions


def test_the_compressor_keeps_what_goes_into_its_two_stages() -> None:
    into = 576 * 1152 * 2  # bytes of a frame
    shape = SampleShape(num_frames=360)
    whole = estimate_mllm(sft(checkpoint_layers=False), shape).device_bytes
    assert whole["compressor"] == 16 * (360 + 180) * into
    lean = estimate_mllm(sft(checkpoint_layers=True, chunk_frames=8), shape).device_bytes
    assert lean["compressor"] == (360 + 180 + 16 * 8) * into


def test_words_say_the_hours_of_the_operations() -> None:
    shape = SampleShape(num_frames=64)
    alone = {"freeze": ["tower", "dts", "projector", "selector"]}
    whole = estimate_mllm(sft(optim=alone), shape, num_gpus=4)
    lora = estimate_mllm(sft(optim=alone, lora={"rank": 8}), shape, num_gpus=4)
    assert lora.sample_flop < whole.sample_flop
    said = describe_mllm(
        whole, shape, gpu="a100", utilisation=0.25, num_gpus=4, num_samples=100_000
    )
    lines = dict(line.split(maxsplit=1) for line in said.splitlines() if line[0] != " ")
    seconds = whole.sample_flop / (312e12 * 0.25)
    assert lines["seconds"] == f"{seconds:.3g} a sample, at 25% of an A100's 312 TFLOP/s"
    hours = seconds * 100_000 / 3600
    assert f"GPU hours          {hours:,.3g} for 100,000 samples, {hours / 4:,.3g} each" in said
    assert f"{whole.total_bytes / GIB:,.2f} GiB, each of 4" in said
    assert sum(whole.device_bytes.values()) == whole.total_bytes
    for gpu, utilisation, message in (("b52", 0.4, "unknown GPU"), ("a100", 0.0, "got 0.0")):
        with pytest.raises(UserError, match=message):
            describe_mllm(
                whole, shape, gpu=gpu, utilisation=utilisation, num_gpus=4, num_samples=None
            )


@pytest.mark.parametrize("targets", [["w_pack"], ["q_proj", "lm_head"]])
def test_lora_that_the_training_refuses_is_not_estimated(targets: list[str]) -> None:
    with pytest.raises(UserError, match=f"'{targets[-1]}'.*wanted some of: down_proj"):
        estimate_mllm(sft(lora={"rank": 8, "targets": targets}), SampleShape())


def kept_numbers(module: torch.nn.Module, run: Callable[[], object]) -> float:
    """Count what autograd keeps for the backward pass, in numbers of 2 bytes."""
    weights = {p.untyped_storage().data_ptr() for p in module.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = run()
        total = sum(kept.values())
    del output
    return total / 2


def test_a_layer_keeps_no_more_than_is_said_and_not_much_less() -> None:
    def tower(layers: int) -> float:
        config = SiglipVisionConfig(
            image_size=56, patch_size=14, hidden_size=64, intermediate_size=240,
            num_attention_heads=2, num_hidden_layers=layers, vision_use_head=False,
        )  # fmt: skip
        model = SiglipVisionModel(config).bfloat16()
        x = torch.randn(4, 16, 64, dtype=torch.bfloat16, requires_grad=True)

        def run() -> torch.Tensor:
            y = x
            for layer in model.encoder.layers:
                y = layer(y, None)
            return y

        return kept_numbers(model, run) / 64

    def text(layers: int, *, is_frozen: bool = False) -> float:
        model = Qwen2ForCausalLM(text_config(layers)).bfloat16().requires_grad_(not is_frozen)
        x = torch.randn(1, 64, 64, dtype=torch.bfloat16, requires_grad=True)
        decoder = model.get_decoder()
        return kept_numbers(model, lambda: decoder(inputs_embeds=x, use_cache=False)) / 64

    def text_config(layers: int) -> Qwen2Config:
        return Qwen2Config(
            hidden_size=64, intermediate_size=320, num_attention_heads=2, num_key_value_heads=1,
            num_hidden_layers=layers, vocab_size=16,
        )  # fmt: skip

    for found, said in (
        (tower(2) - tower(1), tower_layer_numbers(64, 240)),
        (text(2) - text(1), text_layer_numbers(text_config(1))),
        (
            text(2, is_frozen=True) - text(1, is_frozen=True),
            text_layer_numbers(text_config(1), is_frozen=True),
        ),
    ):
        assert 0.8 * said <= found <= 1.05 * said


def test_the_command_says_it_for_both_kinds_of_recipe() -> None:
    done = CliRunner().invoke(
        app, ["estimate", str(SFT), "--gpus", "8", "--samples", "1000000", "--frames", "128"]
    )
    assert done.exit_code == 0, done.output
    assert "128 frames, 5,440 positions" in done.stdout
    assert "for 1,000,000 samples" in done.stdout
    with pytest.raises(UserError, match="num_frames of a sample must be 1 or more, got 0"):
        estimate_mllm(sft(), SampleShape(num_frames=0))
    total, trained = count_parameters(video_xl_pro_preset("3b"), sft(stage="align"))
    assert trained == 6_557_696
    assert total == pytest.approx(ALL, rel=1e-3)
