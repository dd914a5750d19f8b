"""Validation on held-out rows while Video-XL-Pro is trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.later import LATER
from support.mllm_runs import changed_parts, recipe, tensors, training_shards
from vxp_data.conversation import Role, Turn
from vxp_model.data.frames import FrameOptions
from vxp_model.data.sources import Source, read_rows
from vxp_model.train.metrics_log import read_log

if LATER:
    import torch
    from torch.nn import functional

    from vxp_model.data.loader import ShardLoader
    from vxp_model.data.sample import TrainSample
    from vxp_model.inference.session import LongVideoModel
    from vxp_model.models.output import label_output
    from vxp_model.train.distributed import DistributedContext
    from vxp_model.train.mllm.batches import collate
    from vxp_model.train.mllm.run import train_mllm
    from vxp_model.train.mllm.start import start_model
    from vxp_model.train.mllm.validation import Validator, add_sample_measures, is_choice

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    return training_shards(tmp_path_factory.mktemp("shards"), videos=3, images=2)


def test_the_loss_of_held_out_rows_is_the_models_own_and_looking_changes_nothing(
    shards: str, context: DistributedContext, tmp_path: Path
) -> None:
    unseen = training_shards(tmp_path / "unseen", videos=2, images=1)
    held_out = {"sources": [{"uri": unseen}], "steps": 2}
    looked = train_mllm(
        recipe(shards, tmp_path / "looked", run__steps=3, validation=held_out), context, print
    )
    plain = train_mllm(recipe(shards, tmp_path / "plain", run__steps=3), context, print)
    assert changed_parts(tensors(looked.model), tensors(plain.model)) == set()
    log = read_log(looked.out / "log.jsonl")
    assert [entry["step"] for entry in log if "val/loss" in entry] == [2, 3]
    model = LongVideoModel.load(looked.model, device="cpu")
    loader = ShardLoader(
        unseen, frames=FrameOptions(frame_px=56)
    )  # one sample at once, in its own order
    losses: list[float] = []
    for batch in loader:
        inputs = collate(batch.samples, processor=model.processor, seed=0).inputs
        labels = inputs.pop("labels")
        with torch.no_grad():
            logits = model.model(**inputs).logits[0, :-1].float()
        wanted = labels[0, 1:]
        own = functional.cross_entropy(logits, wanted, reduction="none", ignore_index=-100)
        losses += own[wanted != -100].tolist()
    loader.close()
    assert log[-1]["val/loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-4)
    assert log[-1]["val/loss/caption"] == pytest.approx(log[-1]["val/loss"])
    assert log[-1]["val/answers"] == 0.0  # three steps teach no words
    assert "val/multiple_choice_accuracy" not in log[-1]  # captions are no options


class Looking:
    """A model as the engine shows it, which notes what it was shown."""

    def __init__(self, model: Any) -> None:
        self.model, self.seen = model.train(), list[list[int]]()

    def evaluate(self) -> None:
        self.model.eval()

    def train(self) -> None:
        self.model.train()

    def forward(self, **inputs: torch.Tensor) -> Any:
        assert not self.model.training
        self.seen += inputs["input_ids"].tolist()
        return self.model(**inputs)


@pytest.mark.parametrize(("samples", "looked_at"), [(2, 2), (99, 5), (None, 5)])
def test_a_look_is_at_so_many_rows_the_same_every_time(
    shards: str, context: DistributedContext, tmp_path: Path, samples: int | None, looked_at: int
) -> None:
    rule = {"sources": [{"uri": shards}], "steps": 2, "samples": samples}
    loaded = recipe(shards, tmp_path, validation=rule).config
    model, processor = start_model(loaded)
    engine: Any = Looking(model)
    rows = read_rows([Source(uri=shards)])
    validator = Validator(loaded, rows, image_px=56, processor=processor, context=context)
    assert [n for n in range(1, 6) if validator.is_due(n, total_steps=5)] == [2, 4, 5]
    before = torch.get_rng_state()
    found = [validator.run(engine) for _ in range(2)]
    validator.loader.close()
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training
    assert found[0] == found[1]
    assert len(engine.seen) == 2 * looked_at
    assert engine.seen[:looked_at] == engine.seen[looked_at:]


def test_a_mean_is_over_the_label_tokens_of_all_processes(
    shards: str, context: DistributedContext, tmp_path: Path
) -> None:
    class WithAnother(DistributedContext):
        """Of two processes, of which the other has looked at ten label tokens of a loss of 3."""

        def gather(self, value: Any) -> list[Any]:
            return [value, {"loss": [30.0, 10]}]

    loaded = recipe(shards, tmp_path, validation={"sources": [{"uri": shards}]}).config
    model, processor = start_model(loaded)
    worlds = (context, WithAnother(rank=0, size=1, device=context.device))
    found = []
    for own in worlds:
        rows = read_rows([Source(uri=shards)])
        validator = Validator(loaded, rows, image_px=56, processor=processor, context=own)
        engine: Any = Looking(model)
        found.append(validator.run(engine))
        validator.loader.close()
    alone, together = (measures["val/loss"] for measures in found)
    labels = (30 - 10 * together) / (together - alone)  # of (sum + 30) / (labels + 10)
    assert labels == pytest.approx(round(labels), rel=1e-3)
    assert labels > 10
    assert found[0]["val/answers"] == found[1]["val/answers"]


def sample(answer: str, task: str = "multiple_choice") -> TrainSample:
    return TrainSample(
        sample_id="a", dataset="d", task=task, kind="text", key="k", source=0, epoch=0, position=0,
        frames_THWC=None, time_s_T=torch.zeros(0), fps=0.0, media=(), num_inexact=0,
        conversation=(Turn.of_text(Role.USER, "Which?"), Turn.of_text(Role.ASSISTANT, answer)),
        annotation="",
    )  # fmt: skip


def test_an_answer_is_right_when_every_token_of_it_is_the_likeliest() -> None:
    labels_BP = torch.tensor([[-100, 1, 2, -100], [-100, 3, 4, -100], [-100, -100, -100, -100]])
    said_BP = torch.tensor([[1, 2, 0, 0], [3, 0, 0, 0], [0, 0, 0, 0]])  # the second goes wrong
    states_BPD = functional.one_hot(said_BP, 5).float()
    output = label_output(states_BPD, labels_BP, torch.nn.Identity())
    measures: dict[str, list[float]] = {}
    rows = [sample("B"), sample("A dog.", "caption"), sample("B")]
    add_sample_measures(output, rows, [1, 1, 1], measures)
    shares = {name: value / number for name, (value, number) in measures.items()}
    assert shares["answers"] == 0.5
    assert shares["answers/multiple_choice"] == shares["multiple_choice_accuracy"] == 1.0
    assert shares["answers/caption"] == 0.0
    right, wrong = (-torch.log_softmax(torch.tensor([1.0, 0, 0, 0, 0]), 0))[:2].tolist()
    assert shares["loss"] == pytest.approx((3 * right + wrong) / 4)
    assert shares["loss/caption"] == pytest.approx((right + wrong) / 2)
    # The first two as the answers of one sample: it is right when both are.
    measures = {}
    add_sample_measures(output, [sample("B"), sample("B", "caption")], [2, 1], measures)
    assert measures["answers"] == [0.0, 1]  # the other has no label
    assert measures["loss/multiple_choice"] == pytest.approx([3 * right + wrong, 4])
    measures = {}
    add_sample_measures(output, [sample("B"), sample("B", "caption")], [1, 2], measures)
    assert measures["answers/multiple_choice"] == [1.0, 1]
    assert measures["loss/caption"] == pytest.approx([right + wrong, 2])


@pytest.mark.parametrize(
    ("answer", "expected"),
    [("B", True), ("(C)", True), ("A. a cat", True), ("D) two", True), ("(A): one", True),
     ("A cat.", False), ("Both", False), ("", False), ("b", False)],
)  # fmt: skip
def test_what_counts_as_an_option(answer: str, expected: bool) -> None:
    assert is_choice(sample(answer)) is expected
    twice = replace(
        sample("B"), conversation=(*sample("B").conversation, Turn.of_text(Role.ASSISTANT, answer))
    )
    assert is_choice(twice) is expected
