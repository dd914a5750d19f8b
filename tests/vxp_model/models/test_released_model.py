"""The published Video-XL-Pro and Video-XL-2 as models of ours, from invented checkpoints."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from support.later import LATER
from vxp_model.errors import UserError

if LATER:
    import torch
    from safetensors.torch import save_file
    from torch import Tensor
    from torch.nn import functional

    from support.released_checkpoint import SELECTOR, Kind, qwen, siglip, write_released
    from support.released_dts import WIDTH, released_dts, run_released
    from support.tensors import random
    from vxp_model.models.byte_tokenizer import NUM_TOKENS, VISUAL_ID
    from vxp_model.models.released_model import load_released_model
    from vxp_model.models.released_plan import plan_released
    from vxp_model.models.visual_sequence import Kind as Position
    from vxp_model.modules.shapes import VisionConfig

pytestmark = pytest.mark.usefixtures("one_thread")

KINDS: list[Kind] = ["video-xl-pro", "video-xl-2"]


def load(folder: Path, **more: Any) -> Any:
    return load_released_model(folder, visual_token_id=VISUAL_ID, **more)


def turned_by_position(embeds_PD: Tensor) -> Tensor:
    count, width = embeds_PD.shape
    pairs = torch.view_as_complex(embeds_PD.reshape(count, width // 2, 2).contiguous())
    angle = torch.arange(count)[:, None] * 1e6 ** (-torch.arange(0, width, 2) / width)
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)).reshape(
        count, width
    )


@pytest.mark.usefixtures("no_grad")
@pytest.mark.parametrize("kind", KINDS)
def test_the_imported_model_computes_what_the_released_code_does_with_all_tokens(
    tmp_path: Path, kind: Kind
) -> None:
    state = write_released(tmp_path, kind)
    model, _ = load(tmp_path)
    frames = torch.randint(0, 256, (8, 56, 56, 3), dtype=torch.uint8)
    time_ids = [30, 31, 32]
    ids = torch.tensor([[20, *time_ids, *[VISUAL_ID] * 4, *time_ids, *[VISUAL_ID] * 4, 40, 41]])
    shown = ([Position.TIME] * 3 + [Position.VISUAL] * 4) * 2
    kinds = torch.tensor([[Position.TEXT, *shown, Position.QUERY, Position.QUERY]])
    got = model(ids, token_kinds=kinds, frames=frames, clip_frames=[8]).logits

    pixels = frames.permute(0, 3, 1, 2) / 127.5 - 1
    features = siglip()(pixels, output_hidden_states=True).hidden_states[-1]
    grid = features.transpose(1, 2).reshape(8, WIDTH, 4, 4)
    mixed = run_released(released_dts(), grid).flatten(2).transpose(1, 2)
    weights = {
        name: state[f"model.mm_projector.{name}"]
        for name in ("0.weight", "0.bias", "2.weight", "2.bias")
    }
    up = functional.gelu(functional.linear(mixed, weights["0.weight"], weights["0.bias"]))
    out = functional.linear(up, weights["2.weight"], weights["2.bias"])
    pooled = functional.avg_pool2d(out.transpose(1, 2).reshape(2, 24, 4, 4), 2).flatten(2)
    language = qwen(tied=kind == "video-xl-pro")
    embeds = language.model.embed_tokens(ids)
    embeds[0, ids[0] == VISUAL_ID] = pooled.transpose(1, 2).flatten(0, 1)
    if kind == "video-xl-pro":
        embeds[0, 1:15] = turned_by_position(embeds[0, 1:15])
    wanted = language(inputs_embeds=embeds).logits
    torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-4)


def test_every_tensor_is_accounted_for(tmp_path: Path) -> None:
    tower = "model.vision_tower.vision_tower.vision_model."
    behind = {
        f"{tower}encoder.layers.26.mlp.fc1.bias": random(3),
        f"{tower}head.probe": random(3),
        f"{tower}embeddings.position_ids": random(3),
        "model.layers.1.self_attn.rotary_emb.inv_freq": random(3),
        "model.vision_resampler.weight": random(3),
    }
    state = write_released(tmp_path, **behind, **{"extra.weight": random(2)})
    with pytest.raises(UserError, match=r"1 tensors that no released model has: extra\.weight"):
        plan_released(tmp_path, vision=small_tower())
    report = plan_released(tmp_path, ignore=["extra."], vision=small_tower()).report
    assert [fate.name for fate in report.fates] == sorted(state)
    assert all(bool(fate.part) != bool(fate.why) for fate in report.fates)
    counts = Counter(fate.part for fate in report.fates)
    assert counts["language model"] == len(qwen(tied=True).state_dict()) - 1
    assert counts["projector"] == 4
    assert counts["compressor"] == len(released_dts())
    left = {fate.name: fate.why for fate in report.fates if fate.why}
    post_norm = {f"{tower}post_layernorm.{name}" for name in ("weight", "bias")}
    assert set(left) == {
        *SELECTOR, *behind, *post_norm, "model.image_newline", "extra.weight"
    }  # fmt: skip
    assert left["extra.weight"] == "asked for"
    assert report.random_parts == ("selector",)
    assert "random: selector" in report.summary()


def small_tower() -> VisionConfig:
    """Two layers, however many the checkpoint has."""
    return VisionConfig(image_px=56, patch_px=14, width=WIDTH, mlp_width=96, num_heads=1, layer=2)


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.2.mlp.up_proj.weight",  # behind the last layer of config.json
        "model.layers.0.self_attn.beacon_q_proj.weight",
        "model.vision_tower.other.weight",
        "model.sae.decoder.0.weight",
        "model.mm_projector.4.weight",
        "lm_head.bias",
    ],
)
def test_a_tensor_of_a_known_part_that_is_read_by_nobody_is_refused(
    tmp_path: Path, name: str
) -> None:
    write_released(tmp_path, **{name: random(2)})
    with pytest.raises(UserError, match=f"no released model has: {name}"):
        plan_released(tmp_path)


def test_a_checkpoint_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    state = write_released(tmp_path)
    name = "model.layers.1.mlp.up_proj.weight"
    save_file({k: v for k, v in state.items() if k != name}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=f"lacks 1 tensors: {name}"):
        load(tmp_path)
    save_file({**state, name: random(3, 3)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=rf"{name} is \[3, 3\], wanted \[48, 24\]"):
        load(tmp_path)
    save_file({**state, "lm_head.weight": random(NUM_TOKENS, 24)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="says that head and embeddings are one"):
        load(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(UserError, match=r"no config\.json of a Qwen2 model"):
        load(tmp_path)


def test_a_tied_head_that_is_stored_all_the_same_is_taken(tmp_path: Path) -> None:
    embeddings = qwen(tied=True).state_dict()["model.embed_tokens.weight"].clone()
    write_released(tmp_path, **{"lm_head.weight": embeddings})
    _, report = load(tmp_path)
    assert {f.part for f in report.fates if f.name == "lm_head.weight"} == {"language model"}


@pytest.mark.parametrize("layout", ["shards", "bins"])
def test_files_that_the_index_does_not_tell_of_are_refused(tmp_path: Path, layout: Any) -> None:
    write_released(tmp_path, layout=layout)
    plan_released(tmp_path)
    (index,) = tmp_path.glob("*.index.json")
    content = json.loads(index.read_text())
    file = content["weight_map"].pop("model.image_newline")
    index.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"in no index \['model.image_newline'\]"):
        plan_released(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(UserError, match=f"{file}.* cannot be read"):
        plan_released(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [("mm_projector_type", "linear"), ("hidden_act", "gelu"), ("use_sliding_window", True)],
)
def test_another_architecture_in_its_config_is_refused(
    tmp_path: Path, field: str, value: Any
) -> None:
    write_released(tmp_path, config={field: value})
    with pytest.raises(UserError, match=rf"config\.json has {field} {value!r}"):
        plan_released(tmp_path)


def test_which_model_it_is_shows_in_its_tensors_or_has_to_be_said(tmp_path: Path) -> None:
    for kind in KINDS:
        write_released(tmp_path / kind, kind)
        assert plan_released(tmp_path / kind).kind == kind
    other = plan_released(tmp_path / "video-xl-2", kind="video-xl-pro")
    assert (other.kind, other.config.visual_rotary) == ("video-xl-pro", True)
    write_released(tmp_path / "odd", "video-xl-2", config={"hidden_size": 2048})
    with pytest.raises(UserError, match=r"no selector, as video-xl-2, .* 2048 wide.*--kind"):
        plan_released(tmp_path / "odd")


def test_stage_files_are_no_model(tmp_path: Path) -> None:
    torch.save(released_dts(), tmp_path / "dts.pth")
    with pytest.raises(UserError, match=r"stage files of Video-XL-2 \(dts\.pth\)"):
        plan_released(tmp_path)
