"""ReCoT training in one process: exact resume in every mode, what it leaves, errors."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from support.later import LATER
from support.recot_runs import recipe, training_shards
from vxp_data.errors import UserError as DataError
from vxp_model.errors import StoppedError, UserError
from vxp_model.settings.recot import EngineSettings, OptimSettings
from vxp_model.train.metrics_log import read_log

if LATER:
    import torch
    from torch import Tensor

    from vxp_model.models.artefacts import load_recot
    from vxp_model.models.siglip import random_tower
    from vxp_model.train.build import new_model
    from vxp_model.train.distributed import DistributedContext
    from vxp_model.train.engine import deepspeed_config
    from vxp_model.train.recot.run import ReCoTTraining, train_recot
    from vxp_model.train.training import TrainResult

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    # DeepSpeed and TensorBoard, about their own use of torch, numpy and protobuf.
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

MODES: list[dict[str, Any]] = [
    {"zero_stage": 0},
    {"zero_stage": 2},
    {"zero_stage": 2, "precision": "bf16", "offload": "torch"},
]
MORE_MODES: list[dict[str, Any]] = [
    {"zero_stage": 1},
    {"zero_stage": 1, "offload": "torch"},
    {"zero_stage": 2, "offload": "torch"},
    {"zero_stage": 0, "precision": "bf16"},
    {"zero_stage": 1, "precision": "bf16"},
    {"zero_stage": 2, "precision": "bf16"},
]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    return training_shards(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="module")
def whole(
    context: DistributedContext, shards: str, tmp_path_factory: pytest.TempPathFactory
) -> TrainResult:
    """Six steps, never stopped."""
    return train_recot(recipe(shards, tmp_path_factory.mktemp("whole") / "run"), context, print)


class StopAfter:
    """Asks to stop once a number of steps are done."""

    def __init__(self, training: ReCoTTraining, step: int) -> None:
        self._training = training
        self._step = step

    @property
    def came(self) -> bool:
        return self._training.state.step >= self._step - 1


def stopped(loaded: Any, context: DistributedContext, *, after: int) -> None:
    """Train until a stop is asked for."""
    training = ReCoTTraining(loaded, context, print)
    training.resume()
    with pytest.raises(StoppedError, match=f"after step {after}, which is saved"):
        training.run(StopAfter(training, after))  # type: ignore[arg-type]
    training.loader.close()


def log(out: Path) -> list[dict[str, Any]]:
    return read_log(out / "log.jsonl")


def learning(out: Path) -> list[tuple[float, float]]:
    return [(entry["loss"], entry["grad_norm"]) for entry in log(out)]


@pytest.mark.parametrize(
    "mode",
    [*MODES, *(pytest.param(mode, marks=pytest.mark.slow) for mode in MORE_MODES)],
    ids=lambda mode: "-".join(map(str, mode.values())),
)
def test_stopped_and_resumed_gives_the_losses_of_never_stopped_to_the_bit(
    mode: dict[str, Any],
    context: DistributedContext,
    shards: str,
    whole: TrainResult,
    tmp_path: Path,
) -> None:
    changes = {f"engine__{name}": value for name, value in mode.items()}
    loaded = recipe(shards, tmp_path / "twice", **changes)
    stopped(loaded, context, after=2)
    train_recot(loaded, context, print)
    once = train_recot(recipe(shards, tmp_path / "once", **changes), context, print)
    assert learning(tmp_path / "twice") == learning(once.out)
    assert [entry["step"] for entry in log(tmp_path / "twice")] == [1, 2, 3, 4, 5, 6]
    parts = [load_recot(tmp_path / name / "model").state_dict() for name in ("once", "twice")]
    assert all(torch.equal(parts[0][name], tensor) for name, tensor in parts[1].items())
    # Every mode learns the same; bf16 rounds. The norm is the first step's, of equal weights.
    loose = 3e-2 if "precision" in mode else 1e-4
    first, plain = learning(once.out)[0], learning(whole.out)[0]
    assert first == pytest.approx(plain, rel=loose)
    losses = [loss for loss, _ in learning(once.out)]
    assert losses == pytest.approx([loss for loss, _ in learning(whole.out)], rel=loose)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_deepspeeds_cpu_adam_resumes_to_the_bit(
    context: DistributedContext, shards: str, tmp_path: Path
) -> None:
    engine = {"zero_stage": 2, "offload": "deepspeed"}
    changes: dict[str, Any] = {"engine": engine, "run__steps": 16}
    once = train_recot(recipe(shards, tmp_path / "once", **changes), context, print)
    stopped(recipe(shards, tmp_path / "twice", **changes), context, after=9)
    train_recot(recipe(shards, tmp_path / "twice", **changes), context, print)
    assert learning(tmp_path / "twice") == learning(once.out)
    whole = train_recot(recipe(shards, tmp_path / "whole", run__steps=16), context, print)
    losses = [loss for loss, _ in learning(once.out)]
    assert losses == pytest.approx([loss for loss, _ in learning(whole.out)], rel=1e-3)


def test_the_step_is_the_one_of_plain_torch(
    context: DistributedContext, shards: str, tmp_path: Path
) -> None:
    loaded = recipe(shards, tmp_path / "run", run__steps=2)
    training = ReCoTTraining(loaded, context, print)
    batches = next(training.micro_batches())
    model = new_model(training.config, seed=0).train()
    total = sum(batch.num_valid for batch in batches)
    expected = torch.zeros(())
    for batch in batches:
        features_FCHW = training.features(batch.frames_FHWC)
        output = model(
            groups=batch.groups,
            features_FCHW=features_FCHW,
            noise_GTN=batch.noise_GTN,
            whole_G=batch.whole_G,
        )
        (output.loss * batch.num_valid / total).backward()
        expected = expected + output.loss.detach() * batch.num_valid / total
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    training.loader.close()
    rates = {"sgm": 5e-3}
    groups = [
        {"params": [p], "lr": rates.get(name.partition(".")[0], 1e-3),
         "weight_decay": 0.05 if name.endswith(".weight") and p.ndim > 1 else 0.0}
        for name, p in model.named_parameters()
    ]  # fmt: skip
    torch.optim.AdamW(groups, betas=(0.9, 0.95)).step()
    result = train_recot(loaded, context, print)
    first = log(result.out)[0]
    assert first["loss"] == pytest.approx(float(expected), rel=1e-6)
    assert first["grad_norm"] == pytest.approx(float(norm), rel=1e-5)
    assert first["lr"] == 1e-3
    # One step in: the trained weights after step 1 are not kept, so do the step again and stop.
    again = recipe(shards, tmp_path / "again", run__steps=2)
    stopped(again, context, after=1)
    resumed = ReCoTTraining(again, context, print)
    resumed.resume()
    weights = resumed.engine.full_weights()
    resumed.loader.close()
    for name, parameter in model.named_parameters():
        wanted = parameter.detach()
        torch.testing.assert_close(weights[name], wanted, rtol=1e-4, atol=1e-5)
        # Where a gradient is about Adam's epsilon, its rounding shows in the step of 1e-3.
        is_far = ~torch.isclose(weights[name], wanted, rtol=1e-5, atol=2e-7)
        assert is_far.sum() <= max(1, is_far.numel() // 100), name


@pytest.mark.parametrize("micro_samples", [1, 4])
def test_losses_do_not_depend_on_how_a_step_is_cut_up(
    micro_samples: int, context: DistributedContext, shards: str, whole: TrainResult, tmp_path: Path
) -> None:
    changed = recipe(shards, tmp_path / "run", batch__micro_samples=micro_samples)
    result = train_recot(changed, context, print)
    got, wanted = learning(result.out), learning(whole.out)
    assert [loss for loss, _ in got] == pytest.approx([loss for loss, _ in wanted], rel=1e-5)


def test_a_run_leaves_a_model_a_card_a_log_and_the_newest_checkpoints(
    context: DistributedContext, shards: str, whole: TrainResult
) -> None:
    model = load_recot(whole.model)
    assert sum(p.numel() for p in model.parameters()) == 133_952
    card = (whole.model / "README.md").read_text()
    assert "**The vision tower had random weights.**" in card
    digest = ReCoTTraining(recipe(shards, "/nowhere"), context, print).state.loader["sources"][0][
        "digest"
    ]
    assert f"| `{shards}` | image | 1.0 | `{digest}` |" in card
    assert "- 6 steps, 24 samples" in card
    assert "optim.lr: 0.001" in card
    names = sorted(path.name for path in (whole.out / "checkpoints").iterdir())
    assert names == ["step-00000003", "step-00000006"]
    last = log(whole.out)[-1]
    assert {"score_change_corr", "score_entropy", "masked_share", "tokens_per_s", "lr"} <= set(last)
    assert 0 < last["masked_share"] < 0.9  # some samples are whole
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(whole.out / "tensorboard")).Reload().Scalars("loss")
    assert [event.step for event in events] == [1, 2, 3, 4, 5, 6]
    assert events[-1].value == pytest.approx(last["loss"])


def test_a_finished_run_has_nothing_left_to_do(
    context: DistributedContext, shards: str, whole: TrainResult
) -> None:
    before = (whole.out / "log.jsonl").read_bytes()
    again = train_recot(recipe(shards, whole.out), context, print)
    assert again.was_done
    assert (whole.out / "log.jsonl").read_bytes() == before


def test_a_checkpoint_cut_short_is_passed_over_and_half_written_ones_are_removed(
    context: DistributedContext, shards: str, whole: TrainResult, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    loaded = recipe(shards, tmp_path / "run", run__checkpoint_steps=1)
    stopped(loaded, context, after=4)
    root = tmp_path / "run" / "checkpoints"
    newest = root / "step-00000004" / "engine" / "mp_rank_00_model_states.pt"
    newest.write_bytes(newest.read_bytes()[:-100])
    (root / ".step-00000005.part").mkdir()
    result = train_recot(loaded, context, print)
    said = capsys.readouterr().out
    assert "step-00000004 is not whole: engine/mp_rank_00_model_states.pt has" in said
    assert "going on after step 3 of 6" in said
    assert sorted(path.name for path in root.iterdir()) == ["step-00000005", "step-00000006"]
    assert learning(result.out) == learning(whole.out)


def test_without_a_whole_checkpoint_it_does_not_begin_anew_by_itself(
    context: DistributedContext, shards: str, tmp_path: Path
) -> None:
    loaded = recipe(shards, tmp_path / "run")
    stopped(loaded, context, after=1)
    (tmp_path / "run" / "checkpoints" / "step-00000001" / "rng-0.pt").unlink()
    with pytest.raises(UserError, match=r"no checkpoint .* can be used:(.|\n)*rng-0.pt"):
        train_recot(loaded, context, print)


def test_other_settings_are_refused_with_all_differences(
    context: DistributedContext, shards: str, tmp_path: Path
) -> None:
    stopped(recipe(shards, tmp_path / "run"), context, after=1)
    other = recipe(
        shards, tmp_path / "run", optim__lr=2e-3, model={"preset": "tiny", "sgm": {"ratio": 0.25}}
    )
    with pytest.raises(UserError, match=r"model.sgm.ratio is 0.25, was 0.9; optim.lr is 0.002"):
        train_recot(other, context, print)


def test_images_and_videos_come_one_to_three_and_padding_is_left_out(
    context: DistributedContext, shards: str, tmp_path: Path
) -> None:
    training = ReCoTTraining(
        recipe(shards, tmp_path, batch={"global_samples": 8, "micro_samples": 8}), context, print
    )
    steps = training.micro_batches()
    for _ in range(4):
        (batch,) = next(steps)
        kinds = [name.partition("/")[0] for name in batch.sample_ids]
        assert sorted(kinds) == ["image"] * 2 + ["video"] * 6
        shown = [int((batch.groups.clip_G == clip).sum()) * 4 for clip in range(8)]
        images = sum(count for count, kind in zip(shown, kinds, strict=True) if kind == "image")
        assert batch.num_valid == len(batch.frames_FHWC) - 2 + images
        assert batch.frames_FHWC.shape[1:] == (56, 56, 3)
    training.loader.close()


def test_the_feature_cache_gives_the_same_losses_without_the_tower(
    context: DistributedContext, shards: str, whole: TrainResult, tmp_path: Path
) -> None:
    cached = {"tower": {"init": "random", "cache_dir": str(tmp_path / "cache")}}
    first = train_recot(recipe(shards, tmp_path / "a", **cached), context, print)
    training = ReCoTTraining(recipe(shards, tmp_path / "b", **cached), context, print)
    training.features.tower = random_tower(training.config.vision, seed=9)  # would be noticed
    batches = next(training.micro_batches())
    for batch in batches:
        training.features(batch.frames_FHWC)
    training.loader.close()
    cache = training.features.cache
    assert cache is not None
    assert (cache.hits, cache.misses) == (sum(len(b.frames_FHWC) for b in batches), 0)
    got, wanted = learning(first.out), learning(whole.out)
    assert [loss for loss, _ in got] == pytest.approx([loss for loss, _ in wanted], rel=1e-5)


def test_missing_tower_weights_are_refused_unless_the_recipe_says_random(
    context: DistributedContext, shards: str, tmp_path: Path
) -> None:
    tower = {"init": "pretrained", "source": str(tmp_path / "no")}
    with pytest.raises(UserError, match="neither a folder nor a hub repository"):
        ReCoTTraining(recipe(shards, tmp_path, tower=tower), context, print)


def test_shards_without_a_kind_asked_for_are_refused(
    context: DistributedContext, tmp_path: Path
) -> None:
    only_images = training_shards(tmp_path / "images", videos=0, images=1)
    with pytest.raises(DataError, match="the index has no samples of kind video"):
        ReCoTTraining(recipe(only_images, tmp_path / "run"), context, print)


def test_a_loss_that_is_no_number_stops_with_the_samples(
    context: DistributedContext, shards: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"not a number: (image|video)/\d, |gradient is not finite"):
        train_recot(recipe(shards, tmp_path / "run", optim={"lr": 1e30}), context, print)


class PoisonedTower:
    """The tower, with one micro-batch spoilt."""

    def __init__(self, real: Any, call: int) -> None:
        self._real, self._left = real, call

    def __call__(self, pixels_FCHW: Tensor) -> Tensor:
        self._left -= 1
        features_FCHW: Tensor = self._real(pixels_FCHW)
        return features_FCHW * (math.nan if self._left == 0 else 1.0)


@pytest.mark.parametrize("mode", [{"zero_stage": 0}, {"zero_stage": 2, "offload": "torch"}])
def test_bad_batches_may_be_left_out_up_to_a_number(
    mode: dict[str, Any], context: DistributedContext, shards: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    changes = {"engine": mode, "run": {"steps": 3, "max_bad_batches": 1}}
    training = ReCoTTraining(recipe(shards, tmp_path / "run", **changes), context, print)
    training.features.tower = PoisonedTower(training.features.tower, 3)  # type: ignore[assignment]
    training.run(StopAfter(training, 99))  # type: ignore[arg-type]
    assert len(training.state.bad_batches) == 1
    said = capsys.readouterr().out
    assert f"not a number: {', '.join(training.state.bad_batches[0])}; they were left out" in said
    assert all(math.isfinite(entry["loss"]) for entry in log(tmp_path / "run"))
    assert all(bool(w.isfinite().all()) for w in training.engine.full_weights().values())
    training.loader.close()


def test_out_of_memory_says_what_to_set(
    context: DistributedContext, shards: str, tmp_path: Path
) -> None:
    training = ReCoTTraining(recipe(shards, tmp_path / "run"), context, print)

    def too_much(pixels_FCHW: Tensor) -> Tensor:
        return torch.empty(len(pixels_FCHW) << 45)

    training.features.tower = too_much  # type: ignore[assignment]
    with pytest.raises(UserError, match=r"out of memory with 2 samples at once .*micro_samples"):
        training.run(StopAfter(training, 99))  # type: ignore[arg-type]
    training.loader.close()


def test_deepspeed_knows_every_key_of_its_dict() -> None:
    from deepspeed.runtime import config as known_config
    from deepspeed.runtime import constants
    from deepspeed.runtime.zero import config as zero_config

    engine = EngineSettings(zero_stage=2, offload="torch")
    settings = deepspeed_config(
        engine, OptimSettings(), micro_samples=2, accumulation=3, bf16=True, num_parameters=10
    )
    modules = (constants, known_config, zero_config)
    words = {word for m in modules for word in vars(m).values() if isinstance(word, str)}
    assert set(settings) - words == set()
    known_zero = set(zero_config.DeepSpeedZeroConfig.model_fields)
    assert set(settings["zero_optimization"]) <= known_zero
    assert settings["zero_optimization"]["reduce_bucket_size"] == 10
