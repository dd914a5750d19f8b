"""Which SigLIP is meant, told from files: as open_clip says it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from support.later import LATER
from support.tiny_models import Settings
from vxp_data.encoders import hub, siglip_model
from vxp_data.encoders.siglip import SiglipEncoder
from vxp_data.encoders.siglip_model import HUB_REPOS, find_model

if LATER:
    import open_clip


@pytest.fixture
def _empty_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "cached", lambda *_: None)


@pytest.mark.usefixtures("_empty_cache")
@pytest.mark.parametrize(
    ("model", "pretrained", "precision", "fingerprint"),
    [
        ("ViT-SO400M-14-SigLIP-384", "webli", "fp32", "397c4655ca5d55ed"),
        ("ViT-SO400M-14-SigLIP-384", "WebLI", "bf16", "742dbf90437e17ef"),
        ("ViT-SO400M-14-SigLIP-378", "webli", "bf16", "29ad86c5eefa8c96"),
        ("ViT-B-16-SigLIP2-256", "webli", "fp32", "adb6a18162e0008a"),
        ("nllb-clip-large-siglip", "mrl", "fp32", "c54a037111e1b273"),
    ],
)
def test_fingerprints_are_those_of_open_clips_own_tower(
    model: str, pretrained: str, precision: str, fingerprint: str
) -> None:
    """Computed when open_clip built and described the towers: runs of then go on."""
    settings = Settings(model=model, pretrained=pretrained, precision=precision)
    assert SiglipEncoder.describe(settings).fingerprint == fingerprint


def siglips() -> list[tuple[str, str]]:
    return [pair for pair in open_clip.list_pretrained() if "siglip" in pair[0].lower()]


def test_the_table_has_every_siglip_of_open_clip() -> None:
    wanted: dict[str, dict[str, str]] = {}
    for model, tag in siglips():
        repo = open_clip.get_pretrained_cfg(model, tag)["hf_hub"].removesuffix("/")
        wanted.setdefault(model, {})[tag] = repo
    assert {model: dict(tags) for model, tags in HUB_REPOS.items()} == wanted


def test_open_clip_says_the_same_of_every_model(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {pair: find_model(Settings(model=pair[0], pretrained=pair[1])) for pair in siglips()}
    none: Mapping[str, Mapping[str, str]] = {}
    monkeypatch.setattr(siglip_model, "HUB_REPOS", none)  # then open_clip is asked
    for (model, tag), found in told.items():
        assert find_model(Settings(model=model, pretrained=tag)) == found
