"""Encoders whose model is the user's: of timm, open_clip and transformers, with random weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from support.later import LATER
from support.tiny_encoders import (
    CLIP,
    CLIP_PREPROCESS,
    TIMM,
    write_tiny_clip,
    write_tiny_timm,
    write_tiny_vision,
)
from support.tiny_models import Settings, images
from vxp_data.encoders.base import Encoder
from vxp_data.errors import UserError
from vxp_data.registry import ENCODERS
from vxp_data.settings.prune import EncoderConfig

if LATER:
    import open_clip
    import timm
    import torch
    import transformers
    from safetensors.torch import load_file, save_file


def load(name: str, checkpoint: Path) -> Encoder:
    loaded: Encoder = ENCODERS.load(name).load(Settings(name=name, checkpoint=str(checkpoint)))
    return loaded


def describe(name: str, checkpoint: Path | str, **more: str) -> int:
    given = Settings(name=name, checkpoint=str(checkpoint), **more)
    dim: int = ENCODERS.load(name).describe(given).dim
    return dim


def pixels(frames: NDArray[np.uint8], mean: list[float], std: list[float]) -> torch.Tensor:
    rgb_BCHW = torch.from_numpy(frames).permute(0, 3, 1, 2) / 255
    return (rgb_BCHW - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def cosines(emb_FD: NDArray[np.float32], wanted_FD: torch.Tensor) -> NDArray[np.float32]:
    unit_FD = torch.nn.functional.normalize(wanted_FD, dim=-1).numpy()
    found: NDArray[np.float32] = (emb_FD * unit_FD).sum(axis=1)
    return found


# --- names --------------------------------------------------------------------


def test_a_name_of_a_family_needs_a_model_and_other_names_take_none() -> None:
    assert EncoderConfig(name="timm:anything").name == "timm:anything"
    assert ENCODERS.load("timm:a") is ENCODERS.load("timm:b") is ENCODERS.load("timm:")
    for wrong in ("timm", "tim:resnet18", "thumbnail:x", ":x"):
        with pytest.raises(ValueError, match=f"unknown encoder '{wrong}'"):
            EncoderConfig(name=wrong)
    with pytest.raises(ValueError, match="encoder 'timm:' needs a name behind it: timm:NAME"):
        EncoderConfig(name="timm:")


# --- timm ---------------------------------------------------------------------


@pytest.mark.parametrize("name", [TIMM, "test_resnet"])
def test_a_timm_model_gives_its_pooled_features(tmp_path: Path, name: str) -> None:
    file = write_tiny_timm(tmp_path, name)
    encoder = load(f"timm:{name}", file)
    model = timm.create_model(name, pretrained=False)
    model.load_state_dict(load_file(file))
    cfg = model.eval().pretrained_cfg
    frames = images(4, encoder.spec.frame_px)
    assert encoder.spec.frame_px == cfg["input_size"][1]
    with torch.inference_mode():
        x_BCHW = pixels(frames, list(cfg["mean"]), list(cfg["std"]))
        wanted_FD = model.forward_head(model.forward_features(x_BCHW), pre_logits=True)
    assert encoder.spec.dim == wanted_FD.shape[1] == model.num_features
    assert cosines(encoder.embed(frames), wanted_FD).min() > 1 - 1e-6


def test_timm_weights_of_a_training_script_are_read(tmp_path: Path) -> None:
    file = write_tiny_timm(tmp_path)
    state = {f"module.{name}": tensor for name, tensor in load_file(file).items()}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "last.pth")
    frames = images(2, 160)
    np.testing.assert_array_equal(
        load(f"timm:{TIMM}", tmp_path / "last.pth").embed(frames),
        load(f"timm:{TIMM}", file).embed(frames),
    )


def test_a_timm_model_says_what_is_wrong(tmp_path: Path) -> None:
    file = write_tiny_timm(tmp_path)
    with pytest.raises(UserError, match=r"unknown timm model 'resnet1x'.*Did you mean 'resnet1"):
        describe("timm:resnet1x", file)
    with pytest.raises(UserError, match=r"and none is named. Add: --set encoder.checkpoint=FILE"):
        describe(f"timm:{TIMM}", "")
    with pytest.raises(UserError, match=r"local weights file .*gone.pth' is none"):
        describe(f"timm:{TIMM}", tmp_path / "gone.pth")
    with pytest.raises(UserError, match="do not fit timm model 'test_resnet'"):
        load("timm:test_resnet", file)
    state = load_file(file)
    del state["blocks.0.norm1.weight"]
    save_file(state, tmp_path / "part.safetensors")
    with pytest.raises(UserError, match=r"do not fit timm model 'test_vit': (?s:.*)blocks.0.norm1"):
        load(f"timm:{TIMM}", tmp_path / "part.safetensors")


# --- open_clip ----------------------------------------------------------------


def test_an_open_clip_model_gives_its_own_image_vectors(tmp_path: Path) -> None:
    encoder = load("open_clip:tiny", write_tiny_clip(tmp_path))
    model = open_clip.CLIP(**CLIP)
    model.load_state_dict(load_file(tmp_path / "open_clip_model.safetensors"), strict=False)
    frames = images(4, 64)
    with torch.inference_mode():
        x_BCHW = pixels(frames, CLIP_PREPROCESS["mean"], CLIP_PREPROCESS["std"])  # type: ignore[arg-type]
        wanted_FD = model.eval().encode_image(x_BCHW)
    assert (encoder.spec.frame_px, encoder.spec.dim) == (64, 48)
    assert cosines(encoder.embed(frames), wanted_FD).min() > 1 - 1e-6
    with pytest.raises(UserError, match=r"resize_mode 'shortest'.*--encoder open_clip:NAME"):
        describe("siglip", tmp_path)  # what it is for, and where the others are


def test_a_weights_file_of_an_open_clip_model_has_the_tags_preprocessing(tmp_path: Path) -> None:
    file = write_tiny_clip(tmp_path) / "open_clip_model.safetensors"  # described only: any file
    assert describe("open_clip:RN50", file) == 1024  # all its tags agree
    assert describe("open_clip:ViT-B-32", file, pretrained="openai") == 512
    with pytest.raises(UserError, match=r"of ViT-B-32 'webli'.*encoder.pretrained=TAG"):
        describe("open_clip:ViT-B-32", file)  # some of its tags are of QuickGELU, some are not
    with pytest.raises(UserError, match="do not fit the image tower of RN50"):
        load("open_clip:RN50", file)
    with pytest.raises(UserError, match=r"unknown model of open_clip 'ViT-B-33'.*'ViT-B-32'"):
        describe("open_clip:ViT-B-33", file)


def test_a_tower_whose_positions_are_in_no_file_keeps_them(tmp_path: Path) -> None:
    # of PE-Core as of EVA: rotations are computed when the model is built
    vision = {
        "image_size": 224,
        "timm_model_name": "eva02_tiny_patch14_224",
        "timm_model_pretrained": False,
        "timm_pool": "token",
        "timm_proj": None,
    }
    config = {**CLIP, "embed_dim": 192, "vision_cfg": vision}
    model = open_clip.CustomTextCLIP(**config).eval()
    assert {name for name, _ in model.visual.named_buffers()} - set(model.visual.state_dict())
    save_file(model.state_dict(), tmp_path / "open_clip_model.safetensors")
    text = json.dumps({"model_cfg": config, "preprocess_cfg": CLIP_PREPROCESS})
    (tmp_path / "open_clip_config.json").write_text(text)
    frames = images(2, 224)
    with torch.inference_mode():
        wanted_FD = model.encode_image(
            pixels(frames, CLIP_PREPROCESS["mean"], CLIP_PREPROCESS["std"])  # type: ignore[arg-type]
        )
    assert cosines(load("open_clip:eva", tmp_path).embed(frames), wanted_FD).min() > 1 - 1e-6


# --- transformers -------------------------------------------------------------


@pytest.mark.parametrize("kind", ["siglip_vision_model", "siglip", "clip", "ijepa"])
def test_a_model_of_transformers_gives_its_pooled_output(
    tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = write_tiny_vision(tmp_path, kind)
    capfd.readouterr()
    encoder = load("transformers", folder)
    assert "".join(capfd.readouterr()) == ""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    frames = images(4, 64)
    with torch.inference_mode():
        output = getattr(model, "vision_model", model)(
            pixel_values=pixels(frames, [0.5] * 3, [0.25] * 3)
        )
    pooled = getattr(output, "pooler_output", None)
    wanted_FD = output.last_hidden_state.mean(1) if pooled is None else pooled
    assert (pooled is None) == (kind == "ijepa")
    assert (encoder.spec.frame_px, encoder.spec.dim) == (64, 64)
    assert cosines(encoder.embed(frames), wanted_FD).min() > 1 - 1e-6


def test_a_folder_for_transformers_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none is named. Add: --set encoder.checkpoint=FOLDER"):
        describe("transformers", "")
    with pytest.raises(UserError, match=r"has no config.json"):
        describe("transformers", tmp_path)
    folder = write_tiny_vision(tmp_path / "tower")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(UserError, match=r"do not fit .*: 16 tensors are missing"):
        load("transformers", folder)
    (folder / "config.json").write_text(json.dumps({**config, "image_size": [64, 32]}))
    with pytest.raises(UserError, match=r"no square input: got \[64, 32\]"):
        describe("transformers", folder)
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "no_such"}))
    with pytest.raises(UserError, match="transformers cannot read"):
        describe("transformers", folder)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"has no weights: wanted \*.safetensors"):
        describe("transformers", folder)


def test_a_model_that_needs_more_than_an_image_is_refused(tmp_path: Path) -> None:
    folder = write_tiny_vision(tmp_path, "siglip2_vision_model")  # patches and their places
    with pytest.raises(UserError, match=r"does not make a vector of an image alone: .*missing"):
        describe("transformers", folder)


def test_weights_of_no_trained_model_are_not_taken_for_vectors(tmp_path: Path) -> None:
    file = write_tiny_timm(tmp_path, "test_resnet")
    save_file({n: t * 0 for n, t in load_file(file).items()}, tmp_path / "zeros.safetensors")
    with pytest.raises(UserError, match="vectors that are zero"):
        load("timm:test_resnet", tmp_path / "zeros.safetensors").embed(images(1, 160))
