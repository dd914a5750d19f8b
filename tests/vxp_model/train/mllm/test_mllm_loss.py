"""What a step minimises: the mean over label tokens or over samples, as torch alone computes it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from support.later import LATER
from support.mllm_runs import recipe
from support.repo import PIPELINES
from support.shard_fixtures import make_image, make_video, media_clip, text_clip, write_shards
from vxp_data.conversation import Part, Role, Turn
from vxp_data.settings.file import read_yaml
from vxp_model.train.metrics_log import read_log

if LATER:
    import torch
    from torch import Tensor, nn
    from torch.nn import functional

    from vxp_model.data.frames import FrameOptions
    from vxp_model.data.loader import ShardLoader
    from vxp_model.data.sample import TrainSample
    from vxp_model.models.flops import MllmFlops
    from vxp_model.settings.mllm import ALL_PARTS
    from vxp_model.train.distributed import DistributedContext
    from vxp_model.train.engine import Engine
    from vxp_model.train.mllm.batches import MllmBatch, collate
    from vxp_model.train.mllm.run import train_mllm
    from vxp_model.train.mllm.start import start_model
    from vxp_model.train.mllm.step import MllmStepper, MllmStepResult

pytestmark = pytest.mark.usefixtures("one_thread")

Mean = Literal["token", "sample"]
ANSWERS = {"video/long": "A long answer: " + "word " * 30, "image": "B", "text": "No. Yes.",
           "video/short": "C"}  # fmt: skip
NO_DROP = {"selector": {"drop_min": 0.0, "drop_max": 0.0}}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("shards")
    clip = make_video(folder / "v.mp4", 24)
    picture = make_image(folder / "i.png")
    clips = [
        [media_clip(clip, ["video/long", "video/short"])],
        [media_clip(picture, ["image"], is_image=True)],
        [text_clip("text")],
    ]
    return write_shards(folder / "shards", clips).uri


@pytest.fixture(scope="module")
def samples(shards: str) -> list[TrainSample]:
    """A video's, an image's and a text's, with answers of 2 to 160 tokens."""
    loader = ShardLoader(shards, frames=FrameOptions(frame_px=56))
    found = {s.sample_id: s for batch in loader for s in batch.samples}
    loader.close()
    return [
        replace(
            found[name],
            conversation=(
                found[name].conversation[0],
                Turn(role=Role.ASSISTANT, parts=(Part(type="text", text=answer),)),
            ),
        )
        for name, answer in ANSWERS.items()
    ]


def token_losses(model: nn.Module, batch: MllmBatch) -> list[Tensor]:
    """Each sample's losses, from logits of all positions: the first 8 rows of any tutorial."""
    logits_BPV = model(**{k: v for k, v in batch.inputs.items() if k != "labels"}).logits
    found = []
    for logits_PV, label_P in zip(logits_BPV, batch.inputs["labels"], strict=True):
        own = label_P[1:] != -100
        found.append(
            functional.cross_entropy(logits_PV[:-1][own], label_P[1:][own], reduction="none")
        )
    return found


def means(losses: list[Tensor]) -> dict[Mean, Tensor]:
    learnt = [own for own in losses if len(own)]
    return {
        "token": torch.cat(learnt).mean(),
        "sample": torch.stack([own.mean() for own in learnt]).mean(),
    }


def step(
    batches: list[MllmBatch],
    context: DistributedContext,
    tmp_path: Path,
    *,
    loss: Mean,
    packed: bool = False,
) -> tuple[nn.Module, MllmStepResult]:
    """Run one step without learning, on a model that is the same every time."""
    config = recipe("none", tmp_path, **NO_DROP).config
    model, _ = start_model(config)
    engine = Engine(
        model,
        engine=config.engine,
        optim=config.optim,
        micro_samples=len(batches[0].tasks),
        accumulation=len(batches),
        bf16=False,
        context=context,
    )
    engine.train()
    stepper = MllmStepper(
        engine,
        context,
        flops=MllmFlops.of(model.config, ALL_PARTS),
        frames_per_group=model.config.temporal_factor,
        packed=packed,
        loss=loss,
    )
    return model, stepper.run(batches, lr=0.0)


def dealt(samples: list[TrainSample], at_once: int, tmp_path: Path) -> list[MllmBatch]:
    _, processor = start_model(recipe("none", tmp_path).config)
    parts = [samples[i : i + at_once] for i in range(0, len(samples), at_once)]
    return [collate(part, processor=processor, seed=0) for part in parts]


def total_norm(model: nn.Module, loss: Tensor) -> float:
    model.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return float(torch.stack([(g.double() ** 2).sum() for g in gradients]).sum().sqrt())


@pytest.mark.parametrize("loss", ["token", "sample"])
@pytest.mark.parametrize(
    ("at_once", "packed"), [(1, False), (2, False), (2, True), (4, False), (4, True)]
)
def test_loss_and_gradient_are_torchs_however_samples_are_dealt_out(
    loss: Mean,
    at_once: int,
    packed: bool,
    samples: list[TrainSample],
    context: DistributedContext,
    tmp_path: Path,
) -> None:
    batches = dealt(samples, at_once, tmp_path)
    model, result = step(batches, context, tmp_path, loss=loss, packed=packed)
    wanted = means(token_losses(model, dealt(samples, 4, tmp_path)[0]))
    told = {mean: number.item() for mean, number in wanted.items()}
    assert abs(told["token"] - told["sample"]) > 1e-3  # they can be told apart
    assert result.loss == pytest.approx(told[loss], rel=1e-6)
    assert result.token_loss == pytest.approx(told["token"], rel=1e-6)
    assert result.grad_norm == pytest.approx(total_norm(model, wanted[loss]), rel=1e-6)
    assert result.num_labels == sum(len(answer) + 1 for answer in ANSWERS.values())


@pytest.mark.parametrize("loss", ["token", "sample"])
def test_padding_and_samples_without_a_label_count_nothing(
    loss: Mean, samples: list[TrainSample], context: DistributedContext, tmp_path: Path
) -> None:
    padded = [samples[0], replace(samples[1], is_padding=True), *samples[2:]]
    batches = dealt(padded, 2, tmp_path)
    batches[1].inputs["labels"][0] = -100  # cut off, say
    batches[1] = replace(batches[1], num_labels=2)
    model, result = step(batches, context, tmp_path, loss=loss)
    alone = dealt([samples[0], samples[3]], 2, tmp_path)[0]
    wanted = means(token_losses(model, alone))[loss]
    assert result.loss == pytest.approx(wanted.item(), rel=1e-6)
    assert result.grad_norm == pytest.approx(total_norm(model, wanted), rel=1e-6)


@pytest.mark.parametrize("at_once", [1, 2])
@pytest.mark.parametrize("loss", ["token", "sample"])
def test_a_sample_of_several_sequences_is_one_sample(
    loss: Mean,
    at_once: int,
    samples: list[TrainSample],
    context: DistributedContext,
    tmp_path: Path,
) -> None:
    """The second answer of the first sample is learned from a sequence of its own."""
    more = (Turn.of_text(Role.USER, "And?"), Turn.of_text(Role.ASSISTANT, "Nothing more."))
    talk = replace(samples[0], conversation=(*samples[0].conversation, *more))
    _, processor = start_model(recipe("none", tmp_path).config)
    batches = [
        collate(part, processor=processor, seed=0, turns="split")
        for part in ([[talk], [samples[1]]] if at_once == 1 else [[talk, samples[1]]])
    ]
    model, result = step(batches, context, tmp_path, loss=loss)
    first, second, other = (
        own
        for part in ([talk], [samples[1]])
        for own in token_losses(model, collate(part, processor=processor, seed=0, turns="split"))
    )
    wanted = means([torch.cat([first, second]), other])[loss]
    assert result.loss == pytest.approx(wanted.item(), rel=1e-6)
    assert result.grad_norm == pytest.approx(total_norm(model, wanted), rel=1e-6)


def test_the_papers_recipes_have_the_references_mean() -> None:
    means = {stage: read_yaml(PIPELINES / "video_xl_pro" / f"{stage}.yaml")["loss"]
             for stage in ("sft", "align")}  # fmt: skip
    assert means == {"sft": "sample", "align": "token"}


def test_the_log_has_what_is_minimised_and_the_loss_of_a_token(
    shards: str, context: DistributedContext, tmp_path: Path
) -> None:
    logs: dict[str, list[dict[str, Any]]] = {}
    for loss in ("token", "sample"):
        changes: dict[str, Any] = {"loss": loss, "run__steps": 2, "optim__lr": 1e-9}
        changes |= NO_DROP | {"validation": {"sources": [{"uri": shards}]}}
        result = train_mllm(recipe(shards, tmp_path / loss, **changes), context, lambda _: None)
        logs[loss] = read_log(result.out / "log.jsonl")
        card = (result.model / "README.md").read_text()
        assert f", the mean over {'samples' if loss == 'sample' else 'label tokens'}" in card
    for token, sample in zip(logs["token"], logs["sample"], strict=True):
        assert token["loss"] == pytest.approx(token["token_loss"])
        assert token["token_loss"] == pytest.approx(sample["token_loss"])
        assert token["token_loss/caption"] == pytest.approx(sample["token_loss/caption"])
    assert logs["token"][-1]["val/loss"] == pytest.approx(logs["sample"][-1]["val/loss"])
