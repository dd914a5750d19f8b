"""The parts of ReCoT training that need no DeepSpeed."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from support.later import LATER
from support.recot_runs import recipe, recipe_file, training_shards, tree
from support.repo import ROOT
from vxp_data.errors import UserError as DataError
from vxp_data.shard_format import PlanRecord
from vxp_model.cli import app
from vxp_model.data.seeded_draws import WindowRule, cut_window, mask_seed
from vxp_model.errors import UserError
from vxp_model.settings.recot import MAY_CHANGE, RECIPES, load_recipe
from vxp_model.train.guards import only_run
from vxp_model.train.metrics_log import read_log
from vxp_model.train.schedule import lr_factor

if LATER:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from vxp_model.models.flops import recot_flop_per_group, tower_flop_per_frame
    from vxp_model.models.parameter_counts import tower_parameters
    from vxp_model.models.presets import recot_preset
    from vxp_model.models.recot import ReCoTModel
    from vxp_model.models.recot_config import ReCoTConfig
    from vxp_model.models.siglip import random_tower
    from vxp_model.train.checkpoints import TrainState, require_same_run
    from vxp_model.train.engine import parameter_groups
    from vxp_model.train.mixture import accumulation
    from vxp_model.train.model_config import model_config
    from vxp_model.train.recot.estimate import activation_bytes_per_group, estimate_recot
    from vxp_model.train.recot.feature_cache import FeatureCache
    from vxp_model.train.recot.features import tower_digest
    from vxp_model.train.recot.mask_image import draw_mask, write_image

    TINY = recot_preset("tiny")

RECOT = ROOT / "pipelines" / "video_xl_pro" / "recot.yaml"


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    return training_shards(tmp_path_factory.mktemp("shards"), videos=2, images=2)


# --- draws ---


def plan(num_frames: int) -> PlanRecord:
    return PlanRecord(
        epoch=0,
        policy="variable",
        fps=2.0,
        frame_index=[3 * i for i in range(num_frames)],
        time_s=[i / 2 for i in range(num_frames)],
    )


def test_a_window_is_a_run_of_the_plan_drawn_evenly_and_by_seed() -> None:
    rule = WindowRule(num_frames=16, seed=1)
    starts = Counter[int]()
    for position in range(3000):
        cut = cut_window(plan(20), rule, epoch=0, position=position)
        first = cut.frame_index[0] // 3
        assert cut.frame_index == [3 * (first + i) for i in range(16)]
        assert cut.time_s == [(first + i) / 2 for i in range(16)]
        starts[first] += 1
    assert sorted(starts) == [0, 1, 2, 3, 4]
    chi2 = sum((count - 600) ** 2 / 600 for count in starts.values())
    assert chi2 < 18.5  # 0.1 % at 4 degrees of freedom
    again = cut_window(plan(20), rule, epoch=0, position=7)
    assert again == cut_window(plan(20), rule, epoch=0, position=7)
    epochs = {cut_window(plan(99), rule, epoch=e, position=7).frame_index[0] for e in range(9)}
    seeds = {
        cut_window(plan(99), WindowRule(num_frames=16, seed=s), epoch=0, position=7).frame_index[0]
        for s in range(9)
    }
    assert len(epochs) > 5
    assert len(seeds) > 5


@pytest.mark.parametrize("num_frames", [1, 15, 16])
def test_a_short_plan_is_shown_whole(num_frames: int) -> None:
    rule = WindowRule(num_frames=16)
    assert cut_window(plan(num_frames), rule, epoch=0, position=0) == plan(num_frames)


def test_mask_seeds_differ_by_all_that_they_are_about() -> None:
    seeds = {
        mask_seed(seed, epoch=epoch, position=position, group=group)
        for seed in range(2) for epoch in range(2) for position in range(3) for group in range(4)
    }  # fmt: skip
    assert len(seeds) == 48


# --- settings ---


def test_the_recipe_of_the_repository_asks_for_the_papers_model_and_mixture() -> None:
    config = load_recipe(RECOT).config
    assert model_config(config.model) == ReCoTConfig()
    assert [(s.kinds, s.weight) for s in config.data.sources] == [(("image",), 1), (("video",), 3)]
    assert config.data.window_frames == 16


def test_settings_lie_over_the_preset() -> None:
    settings = tree("s", "o", model={"temporal_factor": 2, "sgm": {"ratio": 0.25, "pool": 1.0}})
    config = model_config(RECIPES.read(settings, "test").config.model)
    assert (config.dts.temporal_factor, config.sgm.ratio, config.sgm.pool) == (2, 0.25, 1.0)
    assert (config.sgm.num_queries, config.vision) == (2, TINY.vision)


def test_what_may_change_on_resume_are_settings_that_exist() -> None:
    assert set(RECIPES.known_keys()) >= MAY_CHANGE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("batch.micro_sample=2", "Did you mean 'batch.micro_samples'"),
        ("optim.lr=-1", "optim.lr: Input should be greater than 0"),
        ("engine={zero_stage: 0, offload: torch}", "engine.offload needs engine.zero_stage 1 or 2"),
        ("engine.zero_stage=3", "Use engine.zero_stage=2 with engine.offload=torch"),
        ("data.sources=[{uri: a, weight: 1}, {uri: b}]", "give every source a weight, or none"),
        ("data.sources=[{uri: a, kinds: [text]}]", "Input should be 'image' or 'video'"),
    ],
)
def test_a_wrong_setting_is_named(change: str, message: str) -> None:
    with pytest.raises(DataError, match=message.replace("'", ".")):
        load_recipe(RECOT, [RECIPES.parse_set(change)])


def test_an_entry_that_is_wrong_is_not_told_as_missing_too() -> None:
    with pytest.raises(DataError) as caught:
        load_recipe(RECOT, [RECIPES.parse_set("data.sources=[{uri: a, weight: 0}]")])
    assert "data.sources.0.weight: Input should be greater than 0" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(DataError, match=r"data.sources: Tuple should have at least 1 item"):
        load_recipe(RECOT, [RECIPES.parse_set("data.sources=[]")])


def test_a_step_that_cannot_be_dealt_out_is_refused() -> None:
    loaded = recipe("s", "o", batch={"global_samples": 12, "micro_samples": 4})
    assert accumulation(loaded.config.batch, 3) == 1
    with pytest.raises(UserError, match=r"12 is no multiple of .* 4 x 2 processes"):
        accumulation(loaded.config.batch, 2)


def test_another_number_of_processes_is_refused_where_zero_has_divided_the_optimizer() -> None:
    def state(world_size: int) -> TrainState:
        return TrainState(
            step=0, total_steps=1, world_size=world_size, settings={}, loader={},
            frozen_digest="", num_tokens=0,
        )  # fmt: skip

    require_same_run(state(2), state(4), may_change=(), where="run", zero_stage=0)
    with pytest.raises(UserError, match="4 processes, 2 saved it"):
        require_same_run(state(2), state(4), may_change=(), where="run", zero_stage=1)


# --- parameter groups ---


def test_parameters_are_parted_by_decay_and_rate_and_frozen_ones_left_out() -> None:
    module = torch.nn.ModuleDict(
        {
            "a": torch.nn.Linear(2, 3),
            "slow": torch.nn.Linear(2, 3),
            "frozen": torch.nn.Linear(2, 3).requires_grad_(False),
        }
    )
    groups, mults = parameter_groups(module, weight_decay=0.5, rate_mults={"slow.": 0.1})
    shapes = [[list(p.shape) for p in group["params"]] for group in groups]
    assert shapes == [[[3, 2]], [[3]], [[3, 2]], [[3]]]
    assert [group["weight_decay"] for group in groups] == [0.5, 0.0, 0.5, 0.0]
    assert mults == [1.0, 1.0, 0.1, 0.1]
    with pytest.raises(ValueError, match=r"begins with \['frozen.'\]"):
        parameter_groups(module, weight_decay=0.5, rate_mults={"frozen.": 2.0})


# --- schedule ---


def test_the_rate_rises_in_a_straight_line_and_falls_along_a_cosine() -> None:
    factors = [lr_factor(s, total_steps=100, warmup=0.1, final=0.1) for s in range(101)]
    assert factors[:10] == pytest.approx([(s + 1) / 10 for s in range(10)])
    assert factors[10] == 1.0
    assert factors[55] == pytest.approx(0.55)
    assert factors[100] == pytest.approx(0.1)
    assert lr_factor(0, total_steps=5, warmup=0.0, final=0.0) == 1.0


# --- feature cache ---


def test_the_cache_gives_back_what_was_put_and_knows_frames_by_their_pixels(
    tmp_path: Path,
) -> None:
    cache = FeatureCache(tmp_path, digest="d" * 64, max_bytes=1 << 20)
    frames_FHWC = torch.randint(0, 255, (2, 8, 8, 3), dtype=torch.uint8)
    keys = cache.keys(frames_FHWC)
    features_CHW = torch.randn(4, 2, 2, dtype=torch.bfloat16)
    cache.put(keys[0], features_CHW)
    found, nothing = cache.get(keys, (4, 2, 2))
    assert found is not None
    assert torch.equal(found, features_CHW)
    assert nothing is None
    assert (cache.hits, cache.misses) == (1, 1)
    again = FeatureCache(tmp_path, digest="d" * 64, max_bytes=1 << 20)
    assert again.num_bytes == cache.num_bytes > 0
    assert again.keys(frames_FHWC.clone()) == keys
    other = FeatureCache(tmp_path, digest="e" * 64, max_bytes=1 << 20)
    assert other.get(keys[:1], (4, 2, 2)) == [None]


def test_a_full_cache_takes_no_more(tmp_path: Path) -> None:
    features_CHW = torch.randn(4, 2, 2)
    cache = FeatureCache(tmp_path, digest="d" * 64, max_bytes=400, share=2)
    for key in ("aa0", "bb1", "cc2"):
        cache.put(key, features_CHW)
    assert [found is None for found in cache.get(["aa0", "bb1", "cc2"], (4, 2, 2))] == [
        False, True, True,
    ]  # fmt: skip
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors")) <= 200


@pytest.mark.parametrize("damage", ["cut", "shape", "nan"])
def test_a_damaged_cache_file_is_named(damage: str, tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, digest="d" * 64, max_bytes=1 << 20)
    cache.put("aa0", torch.full((4, 2, 2), math.nan if damage == "nan" else 1.0))
    (path,) = tmp_path.rglob("*.safetensors")
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-3])
    shape = (4, 3, 3) if damage == "shape" else (4, 2, 2)
    with pytest.raises(UserError, match=r"aa0.safetensors' of the feature cache cannot be used"):
        cache.get(["aa0"], shape)


def test_a_towers_digest_tells_weights_precision_and_grid_apart() -> None:
    towers = [random_tower(TINY.vision, seed=seed) for seed in (0, 0, 1)]
    digests = [tower_digest(tower, grid=4) for tower in towers]
    assert digests[0] == digests[1] != digests[2]
    assert tower_digest(towers[0], grid=3) != digests[0]
    assert tower_digest(towers[0].bfloat16(), grid=4) != digests[0]


# --- what is written ---


def test_a_log_cut_off_in_a_line_is_read_up_to_there(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert read_log(tmp_path / "log.jsonl") == [{"step": 1}, {"step": 2}]


def test_the_image_shows_frames_masks_and_scores(tmp_path: Path) -> None:
    frames_THWC = torch.full((2, 8, 8, 3), 200, dtype=torch.uint8)
    mask_TN = torch.tensor([[True, False, False, False], [False] * 4])
    scores_TN = torch.tensor([[0.0, 1.0, 2.0, 4.0]]).repeat(2, 1)
    write_image(draw_mask(frames_THWC, mask_TN, scores_TN), tmp_path / "a" / "mask.png")
    image = np.asarray(Image.open(tmp_path / "a" / "mask.png"))
    assert image.shape == (3 * 172 - 4, 2 * 172 - 4, 3)
    assert (image[:168, :168] == 200).all()
    assert (image[172 : 172 + 84, :84] == 30).all()  # masked
    assert (image[172 : 172 + 84, 84:168] == 200).all()
    assert (image[172 : 172 + 168, 172:] == 200).all()
    corners = [image[344 + y, x, 0] for y, x in ((0, 0), (0, 167), (167, 0), (167, 167))]
    assert corners == [0, 63, 127, 255]


def test_two_runs_do_not_share_a_directory(tmp_path: Path) -> None:
    with only_run(tmp_path), pytest.raises(UserError, match="another process trains in"):
        only_run(tmp_path).__enter__()
    with only_run(tmp_path):
        pass


# --- estimate ---


def test_operations_are_those_that_torch_counts() -> None:
    tower = random_tower(TINY.vision, seed=0)
    with FlopCounterMode(display=False) as counted:
        tower(torch.zeros(3, 3, 56, 56))
    assert tower_flop_per_frame(TINY.vision) == counted.get_total_flops() / 3
    assert tower_parameters(TINY.vision) == sum(p.numel() for p in tower.parameters())
    model = ReCoTModel(TINY).train()
    with FlopCounterMode(display=False) as forward:
        output = model(groups=model.grouper([8]), features_FCHW=torch.randn(8, 32, 4, 4))
    assert recot_flop_per_group(TINY) == pytest.approx(forward.get_total_flops() / 2, rel=0.01)
    with FlopCounterMode(display=False) as backward:
        output.loss.backward()
    assert backward.get_total_flops() == pytest.approx(2 * forward.get_total_flops(), rel=0.02)


def test_the_full_size_counts_are_the_known_ones() -> None:
    assert tower_parameters(ReCoTConfig().vision) == pytest.approx(397.7e6, rel=1e-3)
    assert 4 * tower_flop_per_frame(ReCoTConfig().vision) == pytest.approx(2.56e12, rel=0.01)
    assert recot_flop_per_group(ReCoTConfig()) == pytest.approx(0.43e12, rel=0.01)


def test_the_papers_48_a100_hours_are_22_percent_of_its_peak_and_26_hours_at_40() -> None:
    config = load_recipe(RECOT).config
    result = estimate_recot(config, gpu="a100", utilisation=0.4, num_samples=1_000_000)
    assert (result.content.images, result.content.videos) == (250_000, 750_000)
    assert result.steps == 12_500
    assert math.floor(result.gpu_hours) == 26
    assert round(100 * 0.4 * result.gpu_hours / 48) == 22


def kept_bytes(config: ReCoTConfig, *, bf16: bool, checkpoint: bool) -> int:
    """Measure what autograd keeps of one group; convolutions in bf16 count as on a GPU."""
    dtype = torch.bfloat16 if bf16 else torch.float32
    model = ReCoTModel(config).train().to(dtype)
    model.checkpoint_stages = checkpoint
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}
    held = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            is_weight = tensor.shape[-3:] == (3, 3, 3)
            of_conv = bf16 and tensor.ndim == 5 and tensor.dtype == torch.float32
            kept[storage.data_ptr()] = 0 if is_weight else storage.nbytes() // (1 + of_conv)
            held.append(tensor)
        return tensor

    factor, width, grid = config.dts.temporal_factor, config.dts.width, config.grid
    features_FCHW = torch.randn(factor, width, grid, grid).to(dtype)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = model(groups=model.grouper([factor]), features_FCHW=features_FCHW)
        total = sum(kept.values())
    assert output.loss.requires_grad
    return total


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("factor", [2, 4, 8])
def test_what_autograd_keeps_is_what_is_measured(factor: int, bf16: bool) -> None:
    dts = replace(TINY.dts, width=128, norm_groups=32, temporal_factor=factor)
    config = replace(TINY, vision=replace(TINY.vision, width=128), dts=dts, grid=12)
    measured = kept_bytes(config, bf16=bf16, checkpoint=False)
    computed = activation_bytes_per_group(config, bf16=bf16, checkpoint=False)
    assert computed == pytest.approx(measured, rel=0.03)
    inputs = kept_bytes(config, bf16=bf16, checkpoint=True)
    computed = activation_bytes_per_group(config, bf16=bf16, checkpoint=True)
    assert inputs + 0.33 * measured < computed < inputs + 0.5 * measured  # one of three stages


def test_the_estimate_reads_the_recipes_shards(shards: str) -> None:
    config = recipe(shards, "o", run={"steps": None, "epochs": 2}).config
    result = estimate_recot(config, gpu="h100", utilisation=0.5, num_gpus=2)
    # 2 images and 2 videos at 1:3 are 8 samples: 2 images, and each video three times.
    assert (result.content.images, result.content.videos, result.steps) == (4, 12, 4)
    index = json.loads((Path(shards) / "index.json").read_text())
    frames = next(shard for shard in index["shards"] if shard["kind"] == "video")["num_frames"]
    assert result.content.frames <= 6 * frames
    assert result.tokens == result.content.groups * 4 * 16
    halves = estimate_recot(config, gpu="h100", utilisation=1.0, num_gpus=1)
    assert result.gpu_hours == pytest.approx(2 * halves.gpu_hours)
    assert result.memory_bytes["optimizer"] * 2 == pytest.approx(
        2 * halves.memory_bytes["optimizer"], rel=0.01
    )  # ZeRO-0 divides nothing


def test_the_estimate_says_it_on_the_command_line() -> None:
    command = ["estimate", str(RECOT), "--samples", "1000000", "--gpus", "8"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "GPU hours          26.8 at 40% of an A100's 312 TFLOP/s" in done.stdout
    with pytest.raises(UserError, match="unknown GPU 'a10'"):
        CliRunner().invoke(app, [*command, "--gpu", "a10"], catch_exceptions=False)


# --- command line ---


def test_show_config_tells_where_each_value_is_from(tmp_path: Path) -> None:
    path = recipe_file(tmp_path / "r.yaml", "shards", "out")
    done = CliRunner().invoke(app, ["show-config", str(path), "--set", "optim.lr=0.5"])
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert lines["optim.lr"].endswith("0.5                           --set optim.lr=0.5")
    assert lines["model.preset"].split()[1:] == ["'tiny'", str(path)]
    assert lines["optim.eps"].split()[1:] == ["1e-08", "default"]


def test_missing_shards_are_an_error_of_the_user(tmp_path: Path) -> None:
    shutil.copy(RECOT, tmp_path / "r.yaml")
    with pytest.raises(DataError, match="vxp-data shard"):
        CliRunner().invoke(
            app,
            ["estimate", str(tmp_path / "r.yaml"), "--set",
             f"data.sources=[{{uri: {tmp_path / 'no'}}}]"],
            catch_exceptions=False,
        )  # fmt: skip
