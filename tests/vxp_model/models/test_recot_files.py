"""Artefacts of the training, and the released weights of others."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from support.later import LATER
from vxp_model.errors import UserError

if LATER:
    import torch
    from safetensors.torch import save_file
    from torch.nn import functional

    from support.released_dts import WIDTH, released_dts, run_released
    from support.tensors import random
    from vxp_model.models.artefacts import config_from_dict, load_dts, load_recot, save_recot
    from vxp_model.models.presets import recot_preset
    from vxp_model.models.recot import ReCoTModel
    from vxp_model.models.recot_config import ReCoTConfig
    from vxp_model.models.released import load_released_dts, load_released_projector

    TINY = recot_preset("tiny")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def model() -> ReCoTModel:
    torch.manual_seed(0)
    return ReCoTModel(TINY).train()


# --- artefacts ----------------------------------------------------------------


def test_artefacts_come_back_as_they_were(model: ReCoTModel, tmp_path: Path) -> None:
    save_recot(model, tmp_path / "new" / "folder")
    folder = tmp_path / "new" / "folder"
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "dts.safetensors",
        "decoder.safetensors",
        "sgm.safetensors",
    }
    again = load_recot(folder)
    assert again.config == TINY
    wanted = model.state_dict()
    assert again.state_dict().keys() == wanted.keys()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in again.state_dict().items())
    assert all(p.requires_grad for p in again.dts.parameters())
    x_GCTHW = random(1, 32, 4, 4, 4)
    assert torch.equal(load_dts(folder)(x_GCTHW), model.dts(x_GCTHW))


def test_artefacts_that_are_not_whole_are_errors(model: ReCoTModel, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no ReCoT model"):
        load_recot(tmp_path)
    folder = save_recot(model, tmp_path / "a")
    other = save_recot(ReCoTModel(TINY), tmp_path / "b")
    (folder / "sgm.safetensors").unlink()
    load_dts(folder)  # needs no more than its own file
    with pytest.raises(UserError, match=r"lacks sgm\.safetensors"):
        load_recot(folder)
    shutil.copy(other / "dts.safetensors", folder)
    with pytest.raises(UserError, match="damaged, or of another training"):
        load_dts(folder)
    content = json.loads((other / "config.json").read_text())
    content["config"]["sgm"]["num_queries"] = 3
    (other / "config.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"sgm\.safetensors' does not fit config\.json"):
        load_recot(other)
    content["version"] = 3
    (other / "config.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="is vxp-recot 3, this reads vxp-recot 2"):
        load_recot(other)


def test_a_model_from_before_samples_could_stay_whole_is_read(
    model: ReCoTModel, tmp_path: Path
) -> None:
    path = save_recot(model, tmp_path) / "config.json"
    content = json.loads(path.read_text())
    content["version"] = 1
    del content["config"]["sgm"]["unmasked_share"]
    path.write_text(json.dumps(content))
    assert load_recot(tmp_path).config.sgm.unmasked_share == 0


def test_a_config_survives_json(model: ReCoTModel, tmp_path: Path) -> None:
    save_recot(model, tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())["config"]
    assert config_from_dict(ReCoTConfig, values, where="config") == TINY
    values["dts"]["depth"] = values["dts"].pop("width")
    with pytest.raises(UserError, match=r"config\.dts: unknown fields \['depth'\].*\['width'\]"):
        config_from_dict(ReCoTConfig, values, where="config")


# --- released weights ---------------------------------------------------------


def test_released_weights_compute_what_the_released_code_computes(tmp_path: Path) -> None:
    state = released_dts()
    torch.save(state, tmp_path / "dts.pth")
    dts, accounts = load_released_dts(tmp_path / "dts.pth")
    assert (accounts.read, accounts.left) == (41, {})
    features_FCHW = random(8, WIDTH, 3, 2)
    wanted = run_released(state, features_FCHW)
    in_order = features_FCHW.view(2, 4, WIDTH, 3, 2).transpose(1, 2)
    torch.testing.assert_close(dts(in_order), wanted, atol=2e-5, rtol=1e-4)
    for flag in ("legacy_frame_layout", "legacy_relpos_transpose"):  # each is needed
        other = type(dts)(replace(dts.config, **{flag: False}))
        other.load_state_dict(dts.state_dict())
        assert (other(in_order) - wanted).abs().max() > 1e-2


def write_whole_model(folder: Path) -> dict[str, torch.Tensor]:
    """Two shards with an index, in bf16, as a released language model comes."""
    state = {f"model.sae.{name}": tensor for name, tensor in released_dts().items()}
    state |= {
        "model.mm_projector.0.weight": random(24, WIDTH),
        "model.mm_projector.0.bias": random(24),
        "model.mm_projector.2.weight": random(24, 24),
        "model.mm_projector.2.bias": random(24),
        "model.embed_tokens.weight": random(8, 24),
        "model.layers.0.mlp.up_proj.weight": random(8, 24),
        "model.text_mlp.0.weight": random(24, 24),
    }
    state = {name: tensor.bfloat16() for name, tensor in state.items()}
    shards: dict[str, dict[str, torch.Tensor]] = {"1.safetensors": {}, "2.safetensors": {}}
    for i, name in enumerate(sorted(state)):
        shards[f"{i % 2 + 1}.safetensors"][name] = state[name]
    for file, part in shards.items():
        save_file(part, folder / file)
    weight_map = {name: file for file, part in shards.items() for name in part}
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return state


def test_compressor_and_projector_are_found_in_a_whole_model(tmp_path: Path) -> None:
    state = write_whole_model(tmp_path)
    dts, accounts = load_released_dts(tmp_path)
    assert accounts.read + sum(accounts.left.values()) == len(state)
    assert accounts.left["model.mm_projector."] == 4
    wanted = torch.cat([state[f"model.sae.encoder.3.{part}.bias"] for part in "qkv"]).float()
    assert torch.equal(dts.stages[1].spatial.qkv.bias, wanted)
    projector, accounts = load_released_projector(tmp_path)
    assert accounts.read + sum(accounts.left.values()) == len(state)
    x_GNC = random(1, 2, WIDTH)
    up = functional.linear(
        x_GNC, *(state[f"model.mm_projector.0.{k}"].float() for k in ("weight", "bias"))
    )
    out = functional.linear(
        functional.gelu(up),
        *(state[f"model.mm_projector.2.{k}"].float() for k in ("weight", "bias")),
    )
    torch.testing.assert_close(projector(x_GNC), out)


def test_every_released_tensor_must_be_accounted_for(tmp_path: Path) -> None:
    path = tmp_path / "dts.safetensors"
    state = released_dts()
    save_file({**state, "decoder.0.weight": random(2)}, path)
    with pytest.raises(
        UserError, match=r"1 tensors that no released model has: decoder\.0\.weight"
    ):
        load_released_dts(path)
    assert load_released_dts(path, ignore=["decoder."])[1].left == {"decoder.": 1}
    save_file({k: v for k, v in state.items() if k != "encoder.4.qkv.bias"}, path)
    with pytest.raises(UserError, match=r"lacks 1 tensors: encoder\.4\.qkv\.bias"):
        load_released_dts(path)
    save_file({**state, "encoder.2.conv.bias": random(WIDTH + 1)}, path)
    with pytest.raises(UserError, match=r"for stages\.0\.conv\.bias is \[65\], wanted \[64\]"):
        load_released_dts(path)
    save_file({"projector.weight": random(2)}, path)
    with pytest.raises(UserError, match=r"must hold one compressor.*begin with: projector"):
        load_released_dts(path)


class Unsafe:
    """Pickles to a call."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("this must not run",)


def test_files_that_are_no_weights_are_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"a": Unsafe()}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="cannot be read as weights: UnpicklingError"):
        load_released_dts(tmp_path / "evil.pth")
    assert "this must not run" not in capsys.readouterr().out
    (tmp_path / "torn.safetensors").write_bytes(b"\x08\0\0\0")
    with pytest.raises(UserError, match="cannot be read as weights"):
        load_released_dts(tmp_path / "torn.safetensors")
    with pytest.raises(UserError, match="there is no checkpoint"):
        load_released_dts(tmp_path / "none.pth")
    with pytest.raises(UserError, match="holds no checkpoint"):
        load_released_dts(tmp_path)
