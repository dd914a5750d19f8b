"""Parameters counted from shapes, beside those of the models themselves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support.later import LATER
from vxp_model.models.presets import RECOT_PRESETS
from vxp_model.models.video_xl_pro_shape import SHAPES, preset_shape

if LATER:
    import torch
    from transformers import AutoModelForCausalLM, PreTrainedConfig, Qwen2Config, Qwen3Config

    from vxp_model.models.parameter_counts import (
        layer_matrices,
        part_parameters,
        recot_parameters,
        text_parameters,
    )
    from vxp_model.models.recot import ReCoTModel
    from vxp_model.models.video_xl_pro import PARTS, VideoXLProForConditionalGeneration
    from vxp_model.models.video_xl_pro_config import video_xl_pro_preset


def size_of(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", SHAPES)
def test_every_part_of_a_preset_has_the_parameters_of_the_model(name: str) -> None:
    config = video_xl_pro_preset(name)
    with torch.device("meta"):
        model = VideoXLProForConditionalGeneration(config)
    built = {part: size_of(model.get_submodule(where)) for part, where in PARTS.items()}
    assert part_parameters(preset_shape(name)) == built
    assert part_parameters(config) == built
    assert sum(built.values()) == size_of(model)


@pytest.mark.parametrize("name", RECOT_PRESETS)
@pytest.mark.parametrize("factor", [2, 8])
def test_recot_trains_the_parameters_of_its_model(name: str, factor: int) -> None:
    preset = RECOT_PRESETS[name]
    config = replace(preset, dts=replace(preset.dts, temporal_factor=factor, num_heads=2))
    with torch.device("meta"):
        assert recot_parameters(config) == size_of(ReCoTModel(config))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", ["qwen2", "qwen3"])
def test_language_models_of_both_families_are_counted(kind: str, tied: bool) -> None:
    shape = {
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_hidden_layers": 3,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "vocab_size": 70,
        "tie_word_embeddings": tied,
    }
    text: PreTrainedConfig
    text = Qwen3Config(**shape, head_dim=16) if kind == "qwen3" else Qwen2Config(**shape)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(text)
    assert text_parameters(text) == size_of(model)
    layer = model.model.layers[0]
    for name, (channels_in, channels_out) in layer_matrices(text).items():
        assert tuple(layer.get_submodule(name).weight.shape) == (channels_out, channels_in)
