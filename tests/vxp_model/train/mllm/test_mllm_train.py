"""Training of Video-XL-Pro: what is trained, from what, and going on after a stop."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from support.later import LATER
from support.mllm_runs import changed_parts, recipe, tensors, training_shards
from support.repo import PIPELINES
from vxp_data.conversation import Part, Role, Turn
from vxp_data.errors import UserError as DataUserError
from vxp_model.errors import UserError
from vxp_model.train.metrics_log import read_log

if LATER:
    from vxp_model.inference.session import LongVideoModel
    from vxp_model.models.video_xl_pro import PARTS
    from vxp_model.train.distributed import DistributedContext
    from vxp_model.train.mllm.batches import messages
    from vxp_model.train.mllm.run import train_mllm
    from vxp_model.train.mllm.start import start_model
    from vxp_model.train.training import TrainResult

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    return training_shards(tmp_path_factory.mktemp("shards"), videos=3, images=2)


@pytest.fixture(scope="module")
def aligned(
    shards: str, context: DistributedContext, tmp_path_factory: pytest.TempPathFactory
) -> TrainResult:
    out = tmp_path_factory.mktemp("align")
    loaded = recipe(shards, out, stage="align", run__steps=2)
    return train_mllm(loaded, context, lambda _: None)


def test_align_trains_the_projector_alone_and_says_what_is_of_chance(
    shards: str, aligned: TrainResult, tmp_path: Path
) -> None:
    model, _ = start_model(recipe(shards, tmp_path, stage="align").config)
    model.save_pretrained(tmp_path)
    assert changed_parts(tensors(tmp_path), tensors(aligned.model)) == {"projector"}
    trained = LongVideoModel.load(aligned.model, device="cpu").model
    of_chance = ["language_model", "tower", "dts", "selector"]
    assert trained.config.random_parts == of_chance
    card = (aligned.model / "README.md").read_text()
    assert f"weights from chance: {', '.join(of_chance)}" in card
    log = read_log(aligned.out / "log.jsonl")
    assert [len(entry["sample_ids"]) for entry in log] == [4, 4]
    assert all(name in entry for entry in log for name in ("loss", "grad_norm", "tokens_per_s"))


def test_sft_goes_on_from_it_with_frozen_parts_and_own_rates(
    shards: str, aligned: TrainResult, context: DistributedContext, tmp_path: Path
) -> None:
    loaded = recipe(
        shards,
        tmp_path,
        start={"model": str(aligned.model)},
        engine={"zero_stage": 2, "offload": "torch", "device": "cpu"},
        optim={"lr": 1e-3, "freeze": ["tower"], "rate_mults": {"language_model": 0.1}},
        run__steps=2,
        checkpoint_layers=True,
    )
    result = train_mllm(loaded, context, lambda _: None)
    before, after = tensors(aligned.model), tensors(result.model)
    assert changed_parts(before, after) == {"dts", "projector", "selector", "language_model"}

    def step(part: str) -> float:
        names = [name for name in before if name.startswith(f"{PARTS[part]}.")]
        return max(float((after[name] - before[name]).abs().max()) for name in names)

    assert step("language_model") < 0.2 * step("projector")
    assert LongVideoModel.load(result.model, device="cpu").model.config.random_parts == ["tower"]


def test_a_stopped_training_goes_on_to_the_same_bits(
    shards: str, context: DistributedContext, tmp_path: Path
) -> None:
    whole = train_mllm(recipe(shards, tmp_path / "whole"), context, lambda _: None)
    half = tmp_path / "half"
    shutil.copytree(
        whole.out / "checkpoints" / "step-00000002", half / "checkpoints" / "step-00000002"
    )
    shutil.copy(whole.out / "log.jsonl", half / "log.jsonl")
    said: list[str] = []
    again = train_mllm(recipe(shards, half), context, said.append)
    assert any("going on after step 2 of 4" in line for line in said)
    timeless = ("step", "loss", "grad_norm", "lr", "sample_ids", "labels", "tokens")
    logs = [
        [[entry[name] for name in timeless] for entry in read_log(run.out / "log.jsonl")]
        for run in (whole, again)
    ]
    assert logs[0] == logs[1]
    assert changed_parts(tensors(whole.model), tensors(again.model)) == set()
    assert train_mllm(recipe(shards, half), context, said.append).was_done
    with pytest.raises(UserError, match=r"optim.lr is 0.5, was 0.001"):
        train_mllm(recipe(shards, half, optim__lr=0.5), context, said.append)


def test_losses_do_not_depend_on_how_many_samples_run_at_once(
    shards: str, context: DistributedContext, tmp_path: Path
) -> None:
    losses = []
    for at_once in (1, 4):
        loaded = recipe(shards, tmp_path / str(at_once), batch__micro_samples=at_once, run__steps=2)
        result = train_mllm(loaded, context, lambda _: None)
        losses.append([entry["loss"] for entry in read_log(result.out / "log.jsonl")])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_nothing_starts_from_chance_unasked(shards: str, tmp_path: Path) -> None:
    loaded = recipe(shards, tmp_path, start={"preset": "tiny"})
    with pytest.raises(UserError, match="has no weights for: language_model, tower, dts"):
        start_model(loaded.config)
    loaded = recipe(shards, tmp_path, start={"model": str(tmp_path)})
    with pytest.raises(UserError, match="Train the stage before this one first"):
        start_model(loaded.config)
    loaded = recipe(shards, tmp_path, start={"init": "random", "preset": "3b"})
    with pytest.raises(UserError, match="needs a tokenizer"):
        start_model(loaded.config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optim__freeze": ["projector"], "stage": "align"}, "leaves nothing to train"),
        ({"optim__rate_mults": {"tower": 0.1}, "stage": "align"}, "names what is not trained"),
        ({"optim__rate_mults": {"head": 0.1}}, "wanted parts of"),
        ({"selector": {"drop_min": 0.5}}, "above selector.drop_max"),
        ({"stage": "dpo"}, "stage"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataUserError, match=message):
        recipe("shards", tmp_path, **changes)


VIDEO = Part("video")


def shown(*parts: Part | str) -> Turn:
    made = (Part("text", part) if isinstance(part, str) else part for part in parts)
    return Turn(Role.USER, tuple(made))


def test_the_medium_is_shown_at_its_place_and_what_says_nothing_goes() -> None:
    asked = [
        Turn.of_text(Role.SYSTEM, "Be brief."),
        shown("What is ", VIDEO, "\nthis?"),
        Turn.of_text(Role.ASSISTANT, "A <video> tag."),
        Turn.of_text(Role.TOOL, "4"),
        Turn.of_text(Role.ASSISTANT, " \n"),
        Turn.of_text(Role.ASSISTANT, "Four."),
        Turn.of_text(Role.USER, "And?"),
    ]
    words = [{"type": "text", "text": "What is "}, {"type": "text", "text": "this?"}]
    wanted = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [words[0], {"type": "video", "video": None}, words[1]]},
        {"role": "assistant", "content": "A <video> tag."},
        {"role": "tool", "content": "4"},
        {"role": "assistant", "content": "Four."},
    ]
    assert messages(asked) == wanted
    wanted[1]["content"] = "What is \nthis?"
    assert messages(asked, shows_media=False) == wanted
    caption = [shown(VIDEO), Turn.of_text(Role.ASSISTANT, "A cat.")]
    assert messages(caption)[0]["content"] == [{"type": "video", "video": None}]
    assert [turn["role"] for turn in messages(caption, shows_media=False)] == ["assistant"]
    late = [Turn.of_text(Role.ASSISTANT, "Hi."), shown(VIDEO, "What?")]
    assert [turn["role"] for turn in messages(late)] == ["assistant", "user"]


@pytest.mark.parametrize("folder", ["video_xl_pro", "smoke"])
@pytest.mark.parametrize("name", ["align", "sft"])
def test_the_recipes_can_be_read(folder: str, name: str) -> None:
    from vxp_data.settings.file import read_yaml
    from vxp_model.settings.mllm import MLLM_RECIPES

    path = PIPELINES / folder / f"{name}.yaml"
    assert MLLM_RECIPES.read(read_yaml(path), str(path)).config.stage == name
