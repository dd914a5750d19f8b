"""The importer of the public Video-XL-Pro checkpoint, on a random one of its layout."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from support.later import LATER
from vxp_model.errors import UserError

if LATER:
    import torch
    from safetensors.torch import save_file
    from torch.nn import functional
    from transformers import Qwen2Config, Qwen2ForCausalLM, SiglipVisionConfig, SiglipVisionModel

    from support.released_dts import WIDTH, released_dts, run_released
    from support.tensors import random
    from vxp_model.models.byte_tokenizer import NUM_TOKENS, VISUAL_ID
    from vxp_model.models.presets import recot_preset
    from vxp_model.models.released_model import load_released_model
    from vxp_model.models.visual_sequence import Kind

    VISION = replace(recot_preset("tiny").vision, width=WIDTH, num_heads=4)
    TEXT = {
        "hidden_size": 24,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": NUM_TOKENS,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
    }

pytestmark = pytest.mark.usefixtures("one_thread")


def siglip() -> SiglipVisionModel:
    torch.manual_seed(1)
    return SiglipVisionModel(
        SiglipVisionConfig(
            hidden_size=WIDTH,
            intermediate_size=VISION.mlp_width,
            num_hidden_layers=VISION.layer,
            num_attention_heads=4,
            image_size=56,
            patch_size=14,
            vision_use_head=False,
        )
    ).eval()


def qwen() -> Qwen2ForCausalLM:
    torch.manual_seed(2)
    return Qwen2ForCausalLM(
        Qwen2Config(**TEXT, rope_parameters={"rope_type": "default", "rope_theta": 1e6})
    ).eval()


def checkpoint(folder: Path, **more: torch.Tensor) -> dict[str, torch.Tensor]:
    folder.mkdir(exist_ok=True)
    tower = "model.vision_tower.vision_tower.vision_model."
    state = {f"model.sae.{name}": tensor for name, tensor in released_dts().items()}
    state |= {tower + name: tensor for name, tensor in siglip().state_dict().items()}
    state |= {k: v for k, v in qwen().state_dict().items() if k != "lm_head.weight"}
    state |= {
        "model.mm_projector.0.weight": random(24, WIDTH),
        "model.mm_projector.0.bias": random(24),
        "model.mm_projector.2.weight": random(24, 24),
        "model.mm_projector.2.bias": random(24),
        "model.image_newline": random(24),
        "model.text_mlp.0.weight": random(24, 24),
        "model.text_mlp.0.bias": random(24),
        "model.WindowTimeToTokenAttention.q_proj.weight": random(24, 24),
    }
    state |= more
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "llava_qwen", **TEXT}))
    return state


def load(folder: Path, **more: object) -> object:
    return load_released_model(folder, vision=VISION, grid=4, visual_token_id=VISUAL_ID, **more)


@pytest.mark.usefixtures("no_grad")
def test_the_imported_model_computes_what_the_released_code_does_with_all_tokens(
    tmp_path: Path,
) -> None:
    state = checkpoint(tmp_path)
    model, _ = load(tmp_path)
    frames = torch.randint(0, 256, (8, 56, 56, 3), dtype=torch.uint8)
    time_ids = [30, 31, 32]
    ids = torch.tensor([[20, *time_ids, *[VISUAL_ID] * 4, *time_ids, *[VISUAL_ID] * 4, 40, 41]])
    time = [Kind.TEXT, *([Kind.TIME] * 3 + [Kind.VISUAL] * 4) * 2, Kind.QUERY, Kind.QUERY]
    got = model(ids, token_kinds=torch.tensor([time]), frames=frames, clip_frames=[8]).logits

    pixels = frames.permute(0, 3, 1, 2) / 127.5 - 1
    features = siglip()(pixels, output_hidden_states=True).hidden_states[-1]
    grid = features.transpose(1, 2).reshape(8, WIDTH, 4, 4)
    mixed = run_released(released_dts(), grid).flatten(2).transpose(1, 2)
    up = functional.linear(
        mixed, state["model.mm_projector.0.weight"], state["model.mm_projector.0.bias"]
    )
    out = functional.linear(
        functional.gelu(up),
        state["model.mm_projector.2.weight"],
        state["model.mm_projector.2.bias"],
    )
    pooled = functional.avg_pool2d(out.transpose(1, 2).reshape(2, 24, 4, 4), 2).flatten(2)
    language = qwen()
    embeds = language.model.embed_tokens(ids)
    embeds[0, ids[0] == VISUAL_ID] = pooled.transpose(1, 2).flatten(0, 1)
    pairs = torch.view_as_complex(embeds[0, 1:15].reshape(14, 12, 2).contiguous())
    angle = torch.arange(14)[:, None] * 1e6 ** (-torch.arange(0, 24, 2) / 24)
    turned = torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle))
    embeds[0, 1:15] = turned.reshape(14, 24)
    wanted = language(inputs_embeds=embeds).logits
    torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-4)


def test_every_tensor_is_accounted_for(tmp_path: Path) -> None:
    state = checkpoint(tmp_path, **{"extra.weight": random(2)})
    with pytest.raises(UserError, match=r"no released model has: extra\.weight"):
        load(tmp_path)
    model, report = load(tmp_path, ignore=["extra."])
    assert [fate.name for fate in report.fates] == sorted(state)
    assert all(bool(fate.part) != bool(fate.why) for fate in report.fates)
    counts = Counter(fate.part for fate in report.fates)
    assert counts["language model"] == len(qwen().state_dict()) - 1
    assert counts["projector"] == 4
    assert counts["compressor"] == len(released_dts())
    left = {fate.name: fate.why for fate in report.fates if fate.why}
    assert len(left) == 7
    assert left["extra.weight"] == "asked for"
    assert report.random_parts == ("selector",)
    assert model.config.random_parts == ["selector"]
    assert "random: selector" in report.summary()


def test_a_checkpoint_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    state = checkpoint(tmp_path)
    name = "model.layers.1.mlp.up_proj.weight"
    save_file({k: v for k, v in state.items() if k != name}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=f"lacks 1 tensors: {name}"):
        load(tmp_path)
    save_file({**state, name: random(3, 3)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"is \[3, 3\], wanted \[48, 24\]"):
        load(tmp_path)
    save_file({**state, "lm_head.weight": random(NUM_TOKENS, 24)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="says that head and embeddings are one"):
        load(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(UserError, match=r"no config\.json of a Qwen2 model"):
        load(tmp_path)
