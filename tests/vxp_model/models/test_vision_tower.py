"""The SigLIP tower: what it computes, and where its weights come from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.later import LATER
from support.repo import ROOT
from vxp_model.errors import UserError

if LATER:
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import SiglipConfig, SiglipModel, SiglipVisionConfig, SiglipVisionModel

    from support.tensors import random
    from vxp_model.models.presets import recot_preset
    from vxp_model.models.siglip import SO400M, load_tower, random_tower
    from vxp_model.modules.shapes import VisionConfig
    from vxp_model.modules.siglip import SiglipVisionTower, normalise_frames
    from vxp_model.modules.siglip_layers import build_tower

    TINY = recot_preset("tiny")

pytestmark = pytest.mark.usefixtures("one_thread")


def full_siglip(vision: VisionConfig, *, num_layers: int) -> SiglipModel:
    torch.manual_seed(0)
    sizes = {"num_attention_heads": vision.num_heads, "hidden_size": vision.width}
    config = SiglipConfig(
        vision_config={
            **sizes,
            "intermediate_size": vision.mlp_width,
            "num_hidden_layers": num_layers,
            "image_size": vision.image_px,
            "patch_size": vision.patch_px,
        },
        text_config={
            **sizes,
            "intermediate_size": 8,
            "num_hidden_layers": 1,
            "vocab_size": 50_000,
        },
    )
    return SiglipModel(config).eval()


@pytest.mark.parametrize("part", ["whole", "vision"])
def test_the_tower_gives_hidden_state_26_of_transformers_27_layers(
    part: str, tmp_path: Path
) -> None:
    vision = replace(TINY.vision, width=16, mlp_width=24, layer=26)
    full = full_siglip(vision, num_layers=27)
    (full if part == "whole" else full.vision_model).save_pretrained(tmp_path)
    pixels_FCHW = random(5, 3, 56, 56)
    with torch.no_grad():
        states = full.vision_model(pixels_FCHW, output_hidden_states=True).hidden_states
    assert len(states) == 28
    tower = load_tower(vision, source=tmp_path)
    assert torch.equal(tower(pixels_FCHW), states[26])
    assert not torch.equal(states[25], states[26])
    assert len(tower.layers) == 26
    assert not [name for name in tower.state_dict() if "head" in name or "post" in name]
    chunked = load_tower(vision, source=tmp_path, chunk_frames=2)
    torch.testing.assert_close(chunked(pixels_FCHW), states[26])


def test_the_tower_sees_so400m_shapes() -> None:
    with torch.device("meta"):
        tower = build_tower(VisionConfig())
    assert VisionConfig().grid == 27
    assert sum(p.numel() for p in tower.parameters()) == 397_745_440


def transformers_tower(vision: VisionConfig, **more: Any) -> SiglipVisionTower:
    config = SiglipVisionConfig(
        hidden_size=vision.width, intermediate_size=vision.mlp_width,
        num_hidden_layers=vision.layer, num_attention_heads=vision.num_heads,
        image_size=vision.image_px, patch_size=vision.patch_px, vision_use_head=False, **more,
    )  # fmt: skip
    parts = SiglipVisionModel(config).eval()
    return SiglipVisionTower(embeddings=parts.embeddings, layers=parts.encoder.layers)


def test_a_seed_gives_the_weights_that_transformers_draws() -> None:
    torch.manual_seed(7)
    theirs = transformers_tower(TINY.vision).state_dict()
    ours = random_tower(TINY.vision, seed=7).state_dict()
    assert list(ours) == list(theirs)
    assert [name for name, drawn in ours.items() if not torch.equal(drawn, theirs[name])] == []


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("activation", ["gelu", "gelu_pytorch_tanh"])
def test_the_bits_are_those_of_transformers(activation: str, dtype: str) -> None:
    vision = VisionConfig(
        image_px=60, patch_px=14, width=96, mlp_width=200, num_heads=3, layer=3
    )  # 4 px at the edge are not seen
    theirs = transformers_tower(vision, hidden_act=activation, layer_norm_eps=1e-5)
    ours = build_tower(vision, activation=activation, norm_eps=1e-5)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    pixels_FCHW = random(3, 3, 60, 60)
    kind = getattr(torch, dtype)
    wanted_FNC = theirs.to(kind)(pixels_FCHW)
    assert torch.equal(ours.to(kind)(pixels_FCHW), wanted_FNC)
    assert float(wanted_FNC.float().std()) > 0.1


def test_a_frozen_tower_has_no_graph_and_a_trained_one_is_checkpointed() -> None:
    tower = random_tower(TINY.vision, seed=0, chunk_frames=2)
    pixels_FCHW = random(3, 3, 56, 56)
    frozen_FNC = tower(pixels_FCHW)
    assert not frozen_FNC.requires_grad
    calls = []
    tower.layers[0].register_forward_hook(lambda *_: calls.append(1))
    tower.requires_grad_(True)
    trained_FNC = tower(pixels_FCHW)
    assert torch.equal(trained_FNC, frozen_FNC)
    trained_FNC.square().mean().backward()
    assert len(calls) == 4  # two chunks, forward and again backward
    assert all(p.grad is not None and p.grad.any() for p in tower.layers.parameters())


def test_random_towers_are_the_same_by_seed_and_leave_the_random_state() -> None:
    torch.manual_seed(5)
    wanted = torch.rand(1)
    torch.manual_seed(5)
    first, again, other = (random_tower(TINY.vision, seed=s).state_dict() for s in (0, 0, 1))
    assert torch.equal(torch.rand(1), wanted)
    name = "layers.0.mlp.fc1.weight"
    assert torch.equal(first[name], again[name])
    assert not torch.equal(first[name], other[name])


def test_frames_become_pixels_between_minus_one_and_one() -> None:
    frames_FHWC = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 1, 1, 3)
    assert normalise_frames(frames_FHWC).flatten().tolist() == pytest.approx([-1, -0.6, 1])
    with pytest.raises(ValueError, match="must be uint8"):
        normalise_frames(frames_FHWC.float())


def test_a_tower_that_does_not_fit_is_an_error_that_says_why(tmp_path: Path) -> None:
    full_siglip(TINY.vision, num_layers=3).vision_model.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"width 32 \(wanted 64\).*3 layers \(wanted 4 or more\)"):
        load_tower(replace(TINY.vision, width=64, layer=4), source=tmp_path)
    weights = tmp_path / "model.safetensors"
    state = load_file(weights)
    gone = state.pop("encoder.layers.1.mlp.fc1.bias")
    save_file(state, weights, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lacks 1 tensors.*layers\.1\.mlp\.fc1\.bias"):
        load_tower(TINY.vision, source=tmp_path)
    state["encoder.layers.1.mlp.fc1.bias"] = gone[1:]
    save_file(state, weights, metadata={"format": "pt"})
    with pytest.raises(UserError, match="do not fit"):
        load_tower(TINY.vision, source=tmp_path)


@pytest.mark.parametrize(
    ("source", "revision", "message"),
    [
        ("someone/siglip", None, "40 hexadecimal digits"),
        ("someone/siglip", "main", "revision is 'main'"),
        ("no such folder", None, "neither a folder nor a hub repository"),
        (".", "0" * 40, "is a folder: it has no revision"),
        ("vxp_model", None, "has no config.json of a model"),
    ],
)
def test_a_source_of_weights_is_a_folder_or_a_fixed_revision(
    source: str, revision: str | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError, match=message):
        load_tower(TINY.vision, source=source, revision=revision)


def test_weights_that_cannot_be_fetched_say_how_to_bring_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=f"hf download {SO400M} --revision [0-9a-f]{{40}} "):
        load_tower(VisionConfig(), source=SO400M)
