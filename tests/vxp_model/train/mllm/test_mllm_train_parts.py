"""Parts of Video-XL-Pro's training: packed batches, LoRA, counted operations."""

from __future__ import annotations

import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from support.later import LATER
from support.mllm_runs import changed_parts, recipe, tensors, training_shards
from vxp_data.errors import UserError as DataUserError
from vxp_data.settings.words import gpu_hour_rate
from vxp_model.data.frames import FrameOptions
from vxp_model.errors import UserError
from vxp_model.settings.mllm import ALL_PARTS, LoraSettings, Part
from vxp_model.train.metrics_log import read_log

if LATER:
    import torch
    from peft import PeftModel
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import AutoModelForCausalLM

    from vxp_model.data.loader import ShardLoader
    from vxp_model.inference.session import LongVideoModel
    from vxp_model.models.flops import MllmFlops, decoder_matrices, peak_tflops
    from vxp_model.models.video_xl_pro_config import video_xl_pro_preset
    from vxp_model.models.visual_sequence import run_packed
    from vxp_model.train.distributed import DistributedContext
    from vxp_model.train.mllm.batches import MllmBatch, collate
    from vxp_model.train.mllm.lora import add_lora, merge_lora
    from vxp_model.train.mllm.run import train_mllm
    from vxp_model.train.mllm.start import start_model
    from vxp_model.train.mllm.step import MllmStepper
    from vxp_model.train.training import TrainResult

pytestmark = pytest.mark.usefixtures("one_thread")

LORA = {"rank": 4, "alpha": 8}
LLM_ALONE = ["tower", "dts", "projector", "selector"]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    return training_shards(tmp_path_factory.mktemp("shards"), videos=3, images=2)


@pytest.fixture(scope="module")
def batch(shards: str, tmp_path_factory: pytest.TempPathFactory) -> MllmBatch:
    """All samples at once: videos of different lengths, and images."""
    _, processor = start_model(recipe(shards, tmp_path_factory.mktemp("out")).config)
    loader = ShardLoader(shards, frames=FrameOptions(frame_px=56))
    samples = [sample for batch in loader for sample in batch.samples]
    loader.close()
    return collate(samples, processor=processor, seed=1)


# Packed batches


def decoded(model: Any) -> list[dict[str, Any]]:
    """Record what the model's decoder gets from now on, without the selector's questions."""
    asked: list[dict[str, Any]] = []

    def note(_: object, __: object, kwargs: dict[str, Any]) -> None:
        if "inputs_embeds" in kwargs:
            asked.append(kwargs)

    model.language_model.get_decoder().register_forward_pre_hook(note, with_kwargs=True)
    return asked


def test_packed_samples_have_the_loss_and_gradient_of_padded_ones(
    shards: str, batch: MllmBatch, tmp_path: Path
) -> None:
    model, _ = start_model(recipe(shards, tmp_path).config)
    found, asked = [], decoded(model)
    for packed in (False, True):
        model.zero_grad()
        output = model(**batch.inputs, selector_seeds=batch.selector_seeds, packed=packed)
        output.loss.backward()
        gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        found.append((output, gradients))
    (padded, own), (packed_output, packed_own) = found
    assert len(set(batch.inputs["attention_mask"].sum(-1).tolist())) > 2  # there is padding
    wide, long = (kwargs["inputs_embeds"].shape for kwargs in asked)
    real = int(asked[0]["attention_mask"].sum())
    assert long[:2] == (1, real)  # nothing is computed for padding
    assert wide[0] * wide[1] > real
    torch.testing.assert_close(packed_output.logits, padded.logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(packed_output.num_labels_B, padded.num_labels_B)
    assert own.keys() == packed_own.keys()
    for name, gradient in own.items():
        torch.testing.assert_close(packed_own[name], gradient, rtol=1e-3, atol=1e-6)


def test_a_packed_sample_does_not_see_its_neighbours(
    shards: str, batch: MllmBatch, tmp_path: Path
) -> None:
    model, _ = start_model(recipe(shards, tmp_path).config)
    model.train(False)
    changed = dict(batch.inputs) | {"input_ids": batch.inputs["input_ids"].clone()}
    first = changed["input_ids"][0]
    first[torch.nonzero(changed["token_kinds"][0] == 3)[:5, 0]] = 99  # of its question
    with torch.no_grad():
        before = model(**batch.inputs, packed=True)
        after = model(**changed, packed=True)
    own = int(before.num_labels_B[0])
    assert not torch.equal(before.logits[:own], after.logits[:own])
    torch.testing.assert_close(before.logits[own:], after.logits[own:])


def test_training_packed_has_the_losses_of_training_padded(
    shards: str, context: DistributedContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses, calls = [], list[bool]()

    def noted(*args: Any, **kwargs: Any) -> Any:
        calls.append(packed)
        return run_packed(*args, **kwargs)

    monkeypatch.setattr("vxp_model.models.video_xl_pro.run_packed", noted)
    for packed in (False, True):
        loaded = recipe(
            shards,
            tmp_path / str(packed),
            batch={"global_samples": 4, "micro_samples": 4, "packed": packed},
            run__steps=3,
        )
        result = train_mllm(loaded, context, lambda _: None)
        losses.append([entry["loss"] for entry in read_log(result.out / "log.jsonl")])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert calls == [True] * 3


# LoRA


@pytest.fixture(scope="module")
def with_lora(
    shards: str, context: DistributedContext, tmp_path_factory: pytest.TempPathFactory
) -> TrainResult:
    loaded = recipe(
        shards,
        tmp_path_factory.mktemp("lora"),
        optim={"lr": 1e-2, "freeze": LLM_ALONE},
        lora=LORA | {"dropout": 0.1},
    )
    return train_mllm(loaded, context, lambda _: None)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")  # peft's own
def test_lora_is_written_merged_and_as_peft_reads_it(
    shards: str, with_lora: TrainResult, tmp_path: Path
) -> None:
    start, _ = start_model(recipe(shards, tmp_path).config)
    start.save_pretrained(tmp_path / "start")
    before, after = tensors(tmp_path / "start"), tensors(with_lora.model)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert len(changed) == 2 * 7  # two layers, seven matrices each
    assert all(name.endswith("_proj.weight") and ".layers." in name for name in changed)
    merged = LongVideoModel.load(with_lora.model, device="cpu").model
    assert "language_model" in merged.config.random_parts  # its own weights are still of chance
    theirs = PeftModel.from_pretrained(start.language_model, str(with_lora.out / "adapter"))
    ids = torch.arange(20, 60)[None]
    with torch.no_grad():
        ours, expected = merged.language_model(ids).logits, theirs.eval()(ids).logits
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


def test_a_stopped_training_with_lora_goes_on_to_the_same_bits(
    shards: str, with_lora: TrainResult, context: DistributedContext, tmp_path: Path
) -> None:
    step = "step-00000002"
    shutil.copytree(with_lora.out / "checkpoints" / step, tmp_path / "checkpoints" / step)
    shutil.copy(with_lora.out / "log.jsonl", tmp_path / "log.jsonl")
    loaded = recipe(
        shards,
        tmp_path,
        optim={"lr": 1e-2, "freeze": LLM_ALONE},
        lora=LORA | {"dropout": 0.1},
    )
    said: list[str] = []
    again = train_mllm(loaded, context, said.append)
    assert any("going on after step 2 of 4" in line for line in said)
    assert changed_parts(tensors(with_lora.model), tensors(again.model)) == set()


def test_lora_without_anything_to_adapt_is_refused(shards: str, tmp_path: Path) -> None:
    with pytest.raises(DataUserError, match="language model is not trained"):
        recipe(shards, tmp_path, lora=LORA, optim={"freeze": ["language_model"]})


@pytest.mark.parametrize(
    "targets", [["w_pack"], ["q_proj", "v_prj"], ["embed_tokens"], ["q_proj", "lm_head"], ["mlp"]]
)
def test_lora_beside_what_is_no_matrix_of_its_own_is_refused(targets: list[str]) -> None:
    config = video_xl_pro_preset("tiny").text_config
    model = AutoModelForCausalLM.from_config(config)  # its head is its embedding
    rule = LoraSettings.model_validate(LORA | {"targets": targets})
    with pytest.raises(UserError, match=rf"{targets[-1]}.*wanted some of: down_proj, gate_proj, "):
        add_lora(model, rule, seed=0)
    assert not any("lora" in name for name, _ in model.named_parameters())


def test_lora_is_drawn_from_its_seed_alone_and_alone_is_trained() -> None:
    config = deepcopy(video_xl_pro_preset("tiny").text_config)
    config.tie_word_embeddings = False
    rule = LoraSettings.model_validate(
        LORA | {"targets": ["self_attn.q_proj", "lm_head"], "dropout": 0.25}
    )
    drawn = []
    for state, seed in ((1, 7), (2, 7), (3, 8)):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
        torch.manual_seed(state)
        before = torch.get_rng_state()
        add_lora(model, rule, seed=seed)
        assert torch.equal(torch.get_rng_state(), before)
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        assert len(trained) == 2 * 3
        assert all(".lora_" in name for name in trained)
        drawn.append(torch.cat([p.detach().flatten() for p in trained.values()]))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert [m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)] == [0.25] * 3
    merged = merge_lora(model.state_dict(), rule)
    assert merged.keys() == AutoModelForCausalLM.from_config(config).state_dict().keys()


# Counted operations, and what they lead to


def test_counted_operations_are_those_that_torch_counts(
    shards: str, batch: MllmBatch, tmp_path: Path
) -> None:
    model, _ = start_model(recipe(shards, tmp_path).config)
    model.train(False)
    model.language_model.set_attn_implementation("eager")
    flops = MllmFlops.of(model.config, ())
    positions = batch.inputs["attention_mask"].sum(-1).tolist()
    indices = batch.inputs["input_ids"].shape
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        output = model(**batch.inputs)
    visual = sum(selection.num_visual for selection in output.selections)
    ours = flops.of_samples(
        num_frames=len(batch.inputs["frames"]),
        num_groups=visual // model.config.group_tokens,
        positions=[indices[1]] * indices[0],  # padded, as it was run
        num_labels=int(output.num_labels_B.sum()),
    )
    whole = ours + flops.squared_position * indices[0] * indices[1] ** 2  # eager computes all pairs
    assert whole == pytest.approx(counted.get_total_flops(), rel=0.02)
    assert sum(positions) < indices[0] * indices[1]


@pytest.mark.parametrize(
    ("trained", "rank", "tolerance"),
    [(ALL_PARTS, 0, 0.01), (("projector",), 0, 0.01), (("projector", "language_model"), 1, 0.05)],
)
def test_operations_of_the_language_models_training_are_those_that_torch_counts(
    trained: tuple[Part, ...], rank: int, tolerance: float
) -> None:
    config = video_xl_pro_preset("tiny")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config.text_config, attn_implementation="eager")
    model.requires_grad_("language_model" in trained)
    if rank:
        add_lora(model, LoraSettings(rank=rank), seed=0)
    indices = 400
    embeds_BPD = torch.randn(1, indices, 64, requires_grad=True)  # of what the projector gives
    with FlopCounterMode(display=False) as counted:
        output = model.get_decoder()(inputs_embeds=embeds_BPD, use_cache=False)
        output.last_hidden_state.sum().backward()
    flops = MllmFlops.of(config, trained, with_lora=rank > 0)
    ours = flops.position * indices + 2 * flops.squared_position * indices**2  # eager: all pairs
    assert ours == pytest.approx(counted.get_total_flops(), rel=tolerance)


def test_a_steps_operations_are_of_what_the_selector_left(
    shards: str, batch: MllmBatch, context: DistributedContext, tmp_path: Path
) -> None:
    loaded = recipe(shards, tmp_path, selector={"drop_min": 0.8, "drop_max": 0.9})
    model, _ = start_model(loaded.config)
    asked = decoded(model)
    with torch.no_grad():
        output = model.train()(**batch.inputs, selector_seeds=batch.selector_seeds)
    assert any(selection.num_dropped_time for selection in output.selections)
    engine: Any = None  # not asked
    flops, factor = MllmFlops.of(model.config, ALL_PARTS), model.config.temporal_factor
    stepper = MllmStepper(
        engine, context, flops=flops, frames_per_group=factor, packed=False, loss="token"
    )
    clips = batch.inputs["clip_frames"].tolist()
    assert stepper.flop_of(batch, output.selections) == flops.of_samples(
        num_frames=sum(clips),
        num_groups=sum(-(-frames // factor) for frames in clips),
        positions=asked[0]["attention_mask"].sum(-1).tolist(),
        num_labels=int(output.num_labels_B.sum()),
    )


def test_training_counts_thrice_what_is_trained_and_twice_what_lies_behind() -> None:
    config = video_xl_pro_preset("3b")
    # Qwen2.5-3B: 36 layers of q and o, k and v of two heads, and three matrices of the MLP.
    assert decoder_matrices(config) == 36 * (2 * 2048**2 + 2 * 2048 * 256 + 3 * 2048 * 11_008)
    forward = MllmFlops.of(config, ())
    assert forward.position == 2 * 2_774_532_096
    assert forward.squared_position == 2 * 36 * 2048
    assert forward.label == 2 * 2048 * 151_936
    sft, align = MllmFlops.of(config, ALL_PARTS), MllmFlops.of(config, ("projector",))
    assert (sft.position, align.position) == (3 * forward.position, 2 * forward.position)
    assert (sft.label, align.label) == (3 * forward.label, 2 * forward.label)
    assert (sft.frame, align.frame) == (3 * forward.frame, forward.frame)
    projector = 2 * 24**2 * (1152 * 2048 + 2048**2)
    assert sft.group == 3 * forward.group
    assert align.group == forward.group + 2 * projector
    without_dts = MllmFlops.of(config, tuple(part for part in ALL_PARTS if part != "dts"))
    assert without_dts.group == 2 * forward.group + projector
    lora = MllmFlops.of(config, ("language_model",), with_lora=True)
    assert (lora.position, lora.group) == (2 * forward.position, forward.group)
    assert (lora.label, lora.squared_position) == (2 * forward.label, 3 * forward.squared_position)
    assert forward.of_samples(
        num_frames=5, num_groups=2, positions=[3, 4], num_labels=6
    ) == pytest.approx(
        5 * forward.frame + 2 * forward.group + 7 * forward.position
        + 25 * forward.squared_position + 6 * forward.label
    )  # fmt: skip


def test_the_log_has_the_utilisation_and_the_record_a_rate_that_vxp_data_reads(
    shards: str, context: DistributedContext, tmp_path: Path
) -> None:
    known = train_mllm(recipe(shards, tmp_path / "a", peak_tflops=0.5), context, lambda _: None)
    for entry in read_log(known.out / "log.jsonl"):
        assert entry["mfu"] == pytest.approx(entry["flop"] / entry["step_s"] / 0.5e12)
    log = read_log(known.out / "log.jsonl")[1:]
    expected = sum(e["visual_tokens"] for e in log) / sum(e["step_s"] for e in log) * 3600
    assert gpu_hour_rate(known.out / "run.json", "rate") == pytest.approx(expected)
    unknown = train_mllm(recipe(shards, tmp_path / "b", run__steps=1), context, lambda _: None)
    (entry,) = read_log(unknown.out / "log.jsonl")
    assert entry["mfu"] is None  # nobody says what a CPU could do
    assert peak_tflops("NVIDIA A100-SXM4-80GB") == 312.0
    assert peak_tflops("NVIDIA GeForce RTX 4090") == 165.0
    assert peak_tflops("Tesla T4") is None
