"""The image tower in plain torch beside timm's and open_clip's: names, shapes, bits."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.later import LATER
from support.repo import ROOT
from support.tiny_models import Settings, images, write_tiny_siglip
from vxp_data.errors import UserError

if LATER:
    import open_clip
    import timm
    import torch

    from vxp_data.encoders.siglip import SiglipEncoder
    from vxp_data.encoders.siglip_tower import SHAPES, SiglipTower, ViTShape, shape_of


def timms_tower(name: str, **changes: Any) -> torch.nn.Module:
    """timm's model, as open_clip asks for it."""
    return timm.create_model(name, num_classes=0, global_pool="map", **changes).eval()


def test_every_shape_is_timms() -> None:
    for name, shape in SHAPES.items():
        with torch.device("meta"):
            theirs, ours = timms_tower(name), SiglipTower(shape).trunk
        wanted = {key: tensor.shape for key, tensor in theirs.state_dict().items()}
        assert {key: tensor.shape for key, tensor in ours.state_dict().items()} == wanted, name
        assert theirs.patch_embed.img_size == (shape.image_px,) * 2, name
        assert theirs.dynamic_img_size == shape.class_token, name


def test_every_siglip_of_open_clip_has_a_plain_tower() -> None:
    names = [name for name in open_clip.list_models() if "siglip" in name.lower()]
    assert len(names) >= 28
    for name in names:
        config = open_clip.get_model_config(name)
        shape = shape_of(config["vision_cfg"])
        assert shape is not None, name
        assert (shape.image_px, shape.width) == (
            config["vision_cfg"]["image_size"],
            config["embed_dim"],
        )


@pytest.mark.parametrize(
    ("name", "px", "depth"),
    [
        ("test_vit", 64, 6),  # positions are pressed together
        ("test_vit", 160, 6),
        ("test_vit", 384, 6),
        ("vit_base_patch16_siglip_224", 224, 2),
        ("vit_base_patch32_siglip_256", 256, 1),  # tanh
        ("vit_so400m_patch14_siglip_384", 384, 1),  # 6 px at the edge are not seen
    ],
)
def test_the_bits_are_those_of_timm(name: str, px: int, depth: int) -> None:
    generator = torch.Generator().manual_seed(0)
    theirs = timms_tower(name, depth=depth)
    for parameter in theirs.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data += noise / max(8, parameter.shape[-1]) ** 0.5
    ours = SiglipTower(replace(SHAPES[name], depth=depth)).eval()
    ours.trunk.load_state_dict(theirs.state_dict(), strict=True)
    for num_images in (1, 2):
        pixels_BHWC = torch.randn(num_images, px, px, 3, generator=generator)
        for bf16 in (False, True):
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                wanted_BD = theirs(pixels_BHWC.permute(0, 3, 1, 2))
                got_BD = ours(pixels_BHWC.permute(0, 3, 1, 2))
            assert got_BD.dtype == wanted_BD.dtype
            assert torch.equal(got_BD, wanted_BD), (num_images, bf16)
            assert float(wanted_BD.float().std()) > 1e-3


def test_an_encoder_has_the_names_and_the_bits_of_open_clip(tmp_path: Path) -> None:
    folder = write_tiny_siglip(tmp_path)
    theirs = open_clip.create_model_from_pretrained(f"local-dir:{folder}")[0].visual.eval()
    ours = SiglipEncoder.load(Settings(checkpoint=str(folder))).visual
    assert isinstance(ours, SiglipTower)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    pixels_BCHW = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(ours(pixels_BCHW), theirs(pixels_BCHW))


def test_a_tower_of_another_kind_is_open_clips_own(tmp_path: Path) -> None:
    folder = write_tiny_siglip(tmp_path, timm_model_name="test_vit2", pool="avg", image_px=160)
    theirs = open_clip.create_model_from_pretrained(f"local-dir:{folder}")[0].visual.eval()
    encoder = SiglipEncoder.load(Settings(checkpoint=str(folder)))
    assert not isinstance(encoder.visual, SiglipTower)
    frames_FHWC = images(2, 160)
    pixels_FCHW = torch.from_numpy(frames_FHWC).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.inference_mode():
        wanted_FD = torch.nn.functional.normalize(theirs(pixels_FCHW), dim=-1).numpy()
    np.testing.assert_allclose(encoder.embed(frames_FHWC), wanted_FD, atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"timm_model_name": "vit_base_patch16_224"},
        {"timm_pool": "avg"},
        {"timm_proj": "linear"},
        {"timm_drop_path": 0.1},
    ],
)
def test_what_is_not_told_by_a_shape_is_no_plain_tower(change: dict[str, Any]) -> None:
    plain = open_clip.get_model_config("ViT-B-16-SigLIP")["vision_cfg"]
    assert isinstance(shape_of(plain), ViTShape)
    assert shape_of({**plain, **change}) is None


def test_a_size_that_a_tower_does_not_take_is_said(tmp_path: Path) -> None:
    folder = write_tiny_siglip(tmp_path)
    config = folder / "open_clip_config.json"
    config.write_text(config.read_text().replace('"test_vit"', '"vit_base_patch16_siglip_224"'))
    wanted = "cannot build the image tower of .*: image_size is 64, and vit_base.* takes 224"
    with pytest.raises(UserError, match=wanted):
        SiglipEncoder.load(Settings(checkpoint=str(folder)))


HEAVY = "('torch', 'open_clip', 'timm', 'transformers', 'torchvision', 'torch._dynamo')"


def test_planning_loads_no_torch_and_embedding_nothing_else_that_is_heavy(tmp_path: Path) -> None:
    folder = write_tiny_siglip(tmp_path)
    code = (
        "import sys\n"
        f"sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]\n"
        "from support.tiny_models import Settings, images\n"
        "from vxp_data.encoders.siglip import SiglipEncoder\n"
        "def loaded():\n"
        f"    return [name for name in {HEAVY} if name in sys.modules]\n"
        f"settings = Settings(checkpoint={str(folder)!r}, device='auto')\n"
        "SiglipEncoder.prepare(settings)\n"
        "SiglipEncoder.describe(settings)\n"
        "SiglipEncoder.describe(Settings())\n"
        "print(loaded())\n"
        "SiglipEncoder.load(settings).embed(images(2, 64))\n"
        "print(loaded())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "['torch']"]
