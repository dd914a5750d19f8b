"""Which SigLIP is meant, told from files: as open_clip says it."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import pytest
from huggingface_hub.errors import EntryNotFoundError

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


def test_a_hub_that_does_not_answer_is_not_waited_for(monkeypatch):
    """As where packets are dropped, or a name server is silent, which no client's limit covers."""
    answered = threading.Event()
    monkeypatch.setattr(hub, "get_hf_file_metadata", lambda *_, **__: answered.wait())
    monkeypatch.setattr(hub, "TIMEOUT_S", 0.05)
    with pytest.raises(hub.NotFetchedError, match=r"TimeoutError: the hub does not answer within"):
        hub.fetch("some/model", ("weights.safetensors",))
    assert not hub.offers("some/model", "tokenizer.json")
    answered.set()


def test_a_hub_that_answers_is_believed(monkeypatch, tmp_path):
    def metadata(url, **_):
        if url.endswith("a.safetensors"):
            raise EntryNotFoundError("404")

    monkeypatch.setattr(hub, "get_hf_file_metadata", metadata)
    monkeypatch.setattr(hub, "hf_hub_download", lambda _, name: str(tmp_path / name))
    assert hub.fetch("some/model", ("a.safetensors", "b.bin")) == tmp_path / "b.bin"
    assert hub.offers("some/model", "tokenizer.json")
    with pytest.raises(hub.NotFetchedError, match="no such file"):
        hub.fetch("some/model", ("a.safetensors",))
