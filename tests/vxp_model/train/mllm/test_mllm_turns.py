"""Samples of several answers: by whose question tokens are selected, and what is learned where."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from support.later import LATER
from support.mllm_runs import changed_parts, recipe, tensors
from support.runs import run_prune, run_shard, write_rows
from support.talks import TALKS, talks_run
from support.train_samples import sample_of
from vxp_model.errors import UserError
from vxp_model.train.metrics_log import read_log

if LATER:
    import torch

    from vxp_model.data.seeded_draws import selector_seed
    from vxp_model.data.sources import Source, read_rows
    from vxp_model.models.byte_tokenizer import byte_tokenizer
    from vxp_model.models.processor import VideoXLProProcessor
    from vxp_model.models.video_xl_pro import VideoXLProForConditionalGeneration
    from vxp_model.models.video_xl_pro_config import video_xl_pro_preset
    from vxp_model.models.visual_sequence import IGNORED_LABEL, Kind
    from vxp_model.settings.mllm import Turns
    from vxp_model.train.distributed import DistributedContext
    from vxp_model.train.mllm.batches import MllmBatch, collate
    from vxp_model.train.mllm.run import train_mllm
    from vxp_model.train.mllm.start import start_model
    from vxp_model.train.mllm.validation import Validator

pytestmark = pytest.mark.usefixtures("one_thread", "engine")

TALK = (
    ("user", "@video What is it?"),
    ("assistant", "A cat."),
    ("user", "And where?"),
    ("assistant", "On a roof."),
    ("user", "At night?"),
    ("assistant", "No."),
)


@pytest.fixture(scope="module")
def model() -> VideoXLProForConditionalGeneration:
    config = video_xl_pro_preset("tiny")
    config.selector_drop_min, config.selector_drop_max = 0.3, 0.6
    torch.manual_seed(0)
    return VideoXLProForConditionalGeneration(config).train()


@pytest.fixture(scope="module")
def processor() -> VideoXLProProcessor:
    return VideoXLProProcessor.for_model(video_xl_pro_preset("tiny"), byte_tokenizer())


def talk_with(turn: int, words: str) -> list[tuple[str, str]]:
    return [(role, words if n == turn else said) for n, (role, said) in enumerate(TALK)]


def kept(model: Any, batch: MllmBatch) -> list[torch.Tensor]:
    """Which visual tokens stay in each sequence of a training step."""
    output = model(**batch.inputs, selector_seeds=batch.selector_seeds)
    assert all(s.keep_M is not None for s in output.selections)
    return [selection.keep_M for selection in output.selections]


def spelt(batch: MllmBatch, row: int, name: str = "labels") -> str:
    ids = batch.inputs["input_ids"][row]
    if name == "labels":
        return byte_tokenizer().decode(ids[batch.inputs["labels"][row] != IGNORED_LABEL])
    return byte_tokenizer().decode(ids[batch.inputs["token_kinds"][row] == Kind.QUERY])


@pytest.mark.parametrize("rule", ["first", "split"])
def test_no_later_question_decides_what_an_earlier_answer_is_learned_from(
    rule: Turns, model: Any, processor: VideoXLProProcessor
) -> None:
    def keeps(*said: tuple[str, str]) -> list[torch.Tensor]:
        sample = sample_of(*said, frames=[80])
        return kept(model, collate([sample], processor=processor, seed=1, turns=rule))

    whole = keeps(*TALK)
    for turn in range(len(TALK)):
        changed = keeps(*talk_with(turn, "@video Why, then?" if not turn else "Why, then?"))
        for row, (before, after) in enumerate(zip(whole, changed, strict=True)):
            own_question = 0 if rule == "first" else 2 * row
            assert torch.equal(before, after) == (turn != own_question), (turn, row)
    short = keeps(*TALK[:4])  # what comes later changes nothing by being there
    for before, after in zip(whole, short, strict=False):
        assert torch.equal(before, after)


def test_one_sequence_has_every_answer_and_is_judged_by_the_first_question(
    processor: VideoXLProProcessor,
) -> None:
    batch = collate([sample_of(*TALK, frames=[9])], processor=processor, seed=1)
    assert spelt(batch, 0) == "A cat.<|im_end|>On a roof.<|im_end|>No.<|im_end|>"
    assert spelt(batch, 0, "query") == "What is it?"
    assert batch.num_sequences == [1]
    assert "clip_index" not in batch.inputs


def test_split_learns_every_answer_once_each_by_its_own_question(
    processor: VideoXLProProcessor,
) -> None:
    samples = [
        sample_of(("user", "Hi @image"), ("assistant", "Yes?"), frames=[1], name="b", position=7),
        sample_of(*TALK, frames=[9], position=8),
        sample_of(*TALK[:4], frames=[5], position=9, is_padding=True),
    ]
    batch = collate(samples, processor=processor, seed=1, turns="split")
    whole = collate(samples, processor=processor, seed=1)
    assert batch.num_sequences == [1, 3, 2]
    assert [spelt(batch, row) for row in range(6)] == [
        "Yes?<|im_end|>", "A cat.<|im_end|>", "On a roof.<|im_end|>", "No.<|im_end|>", "", ""
    ]  # fmt: skip
    assert [spelt(batch, row, "query") for row in range(4)] == [
        "Hi", "What is it?", "And where?", "At night?"
    ]  # fmt: skip
    assert batch.num_labels == whole.num_labels == len("Yes?A cat.On a roof.No.") + 4
    assert batch.sample_ids == whole.sample_ids == ["b", "a"]
    assert len(batch.tasks) == len(batch.selector_seeds) == len(set(batch.selector_seeds)) == 6
    assert batch.selector_seeds[2] == selector_seed(1, epoch=0, position=8, sequence=1)
    last = batch.inputs["input_ids"][3, : int(batch.inputs["attention_mask"][3].sum())]
    assert torch.equal(last, whole.inputs["input_ids"][1, : len(last)])  # all turns before it


def test_split_encodes_frames_once_and_shows_each_answer_what_came_before_it(
    model: Any, processor: VideoXLProProcessor
) -> None:
    said = (
        ("user", "@video First?"), ("assistant", "One."),
        ("user", "@image Second?"), ("assistant", "Two."), ("user", "@image"),
    )  # fmt: skip
    sample = sample_of(*said, frames=[9, 1, 1])
    batch = collate([sample], processor=processor, seed=1, turns="split")
    assert len(batch.inputs["frames"]) == 11
    assert batch.inputs["clip_index"].tolist() == [0, 0, 1]
    output = model(**batch.inputs, selector_seeds=batch.selector_seeds)
    output.loss.backward()
    gradient = model.vision.projector.up.weight.grad.clone()
    model.zero_grad()
    # Each sequence by itself, with frames of its own.
    losses, counts = [], []
    for row, (turns, frames) in enumerate(((said[:2], [9]), (said[:4], [9, 1]))):
        own = sample_of(*turns, frames=frames)
        alone = collate([own], processor=processor, seed=1, turns="split")
        inputs = {
            name: value[-1:] if value.ndim == 2 else value for name, value in alone.inputs.items()
        }
        inputs["clip_index"] = torch.arange(len(frames))
        result = model(**inputs, selector_seeds=batch.selector_seeds[row : row + 1])
        losses.append(result.loss * int(result.num_labels_B.sum()))
        counts.append(int(result.num_labels_B.sum()))
        assert torch.equal(result.selections[0].keep_M, output.selections[row].keep_M)
    assert counts == output.num_labels_B.tolist()
    mean = sum(losses) / sum(counts)
    torch.testing.assert_close(output.loss, mean, rtol=1e-5, atol=1e-6)
    mean.backward()
    torch.testing.assert_close(
        model.vision.projector.up.weight.grad, gradient, rtol=1e-3, atol=1e-6
    )
    model.zero_grad()


def test_an_answer_to_nothing_is_judged_by_no_question(processor: VideoXLProProcessor) -> None:
    said = (("assistant", "Hello."), ("user", "@video What?"), ("assistant", "It."))
    for rule, queries in (("first", [""]), ("split", ["", "What?"])):
        batch = collate(
            [sample_of(*said, frames=[4])],
            processor=processor,
            seed=1,
            turns=rule,  # type: ignore[arg-type]
        )
        assert [spelt(batch, n, "query") for n in range(len(queries))] == queries


# Whole trainings


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory, engine: None) -> str:  # noqa: ARG001
    """Shards of all talks that have an answer."""
    folder = tmp_path_factory.mktemp("talks")
    media = talks_run(folder).parent / "media"
    rows = [{"id": name, **talk.row} for name, talk in TALKS.items()]
    manifest = write_rows(folder / "answered.json", rows)
    run_prune(manifest, folder / "answered", media, thresholds__default="keep 1.0")
    run_shard(folder / "answered", folder / "own", shard__payload="frames", shard__frame_px=56)
    return str(folder / "own")


def num_answers(sample_ids: list[str]) -> int:
    names = [sample_id.partition("/")[2] for sample_id in sample_ids]
    return sum(who == "assistant" for name in names for who, _ in TALKS[name].prompt)


def test_a_split_training_says_what_samples_became_and_goes_on_to_the_same_bits(
    shards: str, context: DistributedContext, tmp_path: Path
) -> None:
    said: list[str] = []
    loaded = recipe(shards, tmp_path / "whole", data__turns="split", run__steps=4)
    whole = train_mllm(loaded, context, said.append)
    log = read_log(whole.out / "log.jsonl")
    assert [entry["sequences"] for entry in log] == [num_answers(e["sample_ids"]) for e in log]
    total = sum(entry["sequences"] for entry in log)
    assert total > 16  # four steps of four samples
    card = (whole.model / "README.md").read_text()
    assert f"4 steps of 4 samples, {total} sequences" in card
    mean = num_answers([f"/{name}" for name in TALKS]) / len(TALKS)
    assert any(f"steps of 4 samples, {mean:.2f} sequences each (" in line for line in said)

    half = tmp_path / "half"
    step = "step-00000002"
    shutil.copytree(whole.out / "checkpoints" / step, half / "checkpoints" / step)
    shutil.copy(whole.out / "log.jsonl", half / "log.jsonl")
    loaded = recipe(shards, half, data__turns="split", run__steps=4)
    again = train_mllm(loaded, context, said.append)
    assert any("going on after step 2 of 4" in line for line in said)
    assert changed_parts(tensors(whole.model), tensors(again.model)) == set()
    other = recipe(shards, half, data__turns="first", run__steps=4)
    with pytest.raises(UserError, match=r"data\.turns is 'first', was 'split'"):
        train_mllm(other, context, said.append)


def test_held_out_rows_have_the_same_measures_however_they_are_split(
    shards: str, context: DistributedContext, tmp_path: Path
) -> None:
    """Where nothing is left out, every answer sees the same before it."""
    found = []
    for rule in ("first", "split"):
        loaded = recipe(
            shards,
            tmp_path / rule,
            data__turns=rule,
            batch={"global_samples": 8, "micro_samples": 8},
            validation={"sources": [{"uri": shards}]},
        ).config
        model, processor = start_model(loaded)
        engine: Any = Engine(model)
        rows = read_rows([Source(uri=shards)])
        validator = Validator(loaded, rows, image_px=56, processor=processor, context=context)
        found.append(validator.run(engine))
        validator.loader.close()
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        assert found[1][name] == pytest.approx(value, rel=1e-4), name


class Engine:
    """A model as validation sees an engine."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.evaluate, self.train = model.eval, model.train

    def forward(self, **inputs: Any) -> Any:
        return self._model(**inputs)
