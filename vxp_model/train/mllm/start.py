"""The model that a training of Video-XL-Pro starts from, and what of it is trained."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoProcessor, AutoTokenizer

from vxp_model.errors import UserError, require
from vxp_model.models.artefacts import load_dts
from vxp_model.models.byte_tokenizer import byte_tokenizer
from vxp_model.models.processor import VideoXLProProcessor
from vxp_model.models.siglip import load_tower, random_tower
from vxp_model.models.special_tokens import check_fits, set_answer_ends, with_visual_token
from vxp_model.models.video_xl_pro import VideoXLProForConditionalGeneration, parts_of
from vxp_model.models.video_xl_pro_config import VideoXLProConfig, video_xl_pro_preset
from vxp_model.settings.mllm import MllmRecipe, Part
from vxp_model.train.mllm.lora import add_lora


def start_model(
    recipe: MllmRecipe,
) -> tuple[VideoXLProForConditionalGeneration, VideoXLProProcessor]:
    """Read or build the model, in fp32 on the CPU, with its processor.

    Its answers end at `<|im_end|>`, whatever ends those of the language model that it has.

    Same settings and files, same weights; torch's own random state is left as it was.

    Raises:
        UserError: a part is neither named nor allowed to start from chance; a file is missing or
            does not fit; the tokenizer lacks a token that cannot be added.
    """
    start = recipe.start
    if start.model is not None:
        require(
            (Path(start.model) / "config.json").is_file(),
            f"start.model {start.model!r} holds no model: there is no config.json. Train the stage "
            "before this one first.",
        )
        model = VideoXLProForConditionalGeneration.from_pretrained(start.model, dtype=torch.float32)
        processor = AutoProcessor.from_pretrained(start.model)  # type: ignore[no-untyped-call]
        _require_factor(recipe, model.config.temporal_factor, f"the model in {start.model!r}")
    else:
        model, processor = _from_parts(recipe)
    check_fits(model.config, processor)
    set_answer_ends(model, processor.tokenizer)
    prepare_model(model, recipe)
    return model, processor


def prepare_model(model: VideoXLProForConditionalGeneration, recipe: MllmRecipe) -> None:
    """Set a model up as a recipe says: what is trained, what is left out, what is run again.

    Args:
        model: changed in place.
        recipe: of the training.
    """
    config: Any = model.config
    trained = set(trained_parts(recipe, config))
    require(
        bool(trained),
        "the model has no compressor, and nothing else is trained: take 'dts' out of the parts "
        "that alone are left by optim.freeze.",
    )
    _set_selector(config, recipe, is_trained="selector" in trained)
    model.selector.config = config.selector
    if recipe.context_limit is not None:
        config.context_limit = recipe.context_limit
    whole = trained - {"language_model"} if recipe.lora.rank else trained
    model.config.random_parts = [p for p in model.config.random_parts if p not in whole]
    for name, index in parts_of(config).items():
        model.get_submodule(index).requires_grad_(name in trained)
    if recipe.chunk_frames is not None:
        model.config.chunk_frames = recipe.chunk_frames
        model.vision.set_chunk_frames(recipe.chunk_frames)
    if recipe.lora.rank:
        add_lora(model.language_model, recipe.lora, seed=recipe.run.seed)
    if recipe.checkpoint_layers:
        model.language_model.activation_checkpointing_enable()
        if model.vision.dts is not None:
            model.vision.dts.checkpoint_stages = True


def _set_selector(config: Any, recipe: MllmRecipe, *, is_trained: bool) -> None:
    rule = recipe.selector
    is_known = is_trained or "selector" not in config.random_parts
    drops = is_known or rule.drops_untrained
    config.selector_drop_min = rule.drop_min if drops else 0.0
    config.selector_drop_max = rule.drop_max if drops else 0.0
    config.selector_full_share = rule.full_share
    config.selector_drops_images = rule.drops_images


def trained_parts(recipe: MllmRecipe, config: VideoXLProConfig) -> tuple[Part, ...]:
    """Return the parts that are trained of a model of this configuration."""
    there = parts_of(config)
    return tuple(part for part in recipe.trained_parts() if part in there)


def start_digest(model: VideoXLProForConditionalGeneration) -> str:
    """Name the weights that are not trained: 64 hex digits."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        if not parameter.requires_grad:
            digest.update(f"{name} {list(parameter.shape)}".encode())
            digest.update(parameter.detach().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _from_parts(
    recipe: MllmRecipe,
) -> tuple[VideoXLProForConditionalGeneration, VideoXLProProcessor]:
    start = recipe.start
    named = {"language_model": start.llm, "tower": start.tower}
    if start.temporal_factor != 1:
        named["dts"] = start.recot
    unnamed = [part for part, source in named.items() if source is None]
    if unnamed and start.init != "random":
        fields = {"language_model": "start.llm", "tower": "start.tower", "dts": "start.recot"}
        raise UserError(
            f"the stage {recipe.stage!r} has no weights for: {', '.join(unnamed)}. Name "
            f"{', '.join(fields[part] for part in unnamed)}, or a whole model as start.model, or "
            "set start.init=random to start from chance."
        )
    config = video_xl_pro_preset(start.preset, temporal_factor=start.temporal_factor)
    tokenizer: Any = byte_tokenizer()
    if start.llm is not None:
        text_config = AutoConfig.from_pretrained(start.llm)
        tokenizer = AutoTokenizer.from_pretrained(start.llm)
        limit = int(text_config.max_position_embeddings)
        config = _with(config, text_config=text_config, context_limit=limit)
    elif start.preset != "tiny":
        raise UserError(
            f"a language model of the preset {start.preset!r} needs a tokenizer: name start.llm, "
            "or take start.preset=tiny."
        )
    dts = None
    if start.recot is not None:
        dts = load_dts(start.recot)
        require(
            dts.config.width == config.vision.width,
            f"the compressor in {start.recot!r} is {dts.config.width} wide, the tower "
            f"{config.vision.width}: take another start.preset.",
        )
        _require_factor(recipe, dts.config.temporal_factor, f"the compressor in {start.recot!r}")
        config.temporal_factor = dts.config.temporal_factor
        config.dts_num_heads, config.dts_norm_groups = dts.config.num_heads, dts.config.norm_groups
    config.visual_token_id = with_visual_token(
        tokenizer,
        num_embeddings=config.text_config.vocab_size,  # type: ignore[union-attr]
    )
    config.random_parts = [*unnamed, "projector", "selector"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.run.seed)
        model = VideoXLProForConditionalGeneration(config)
    if start.llm is not None:
        language_model = AutoModelForCausalLM.from_pretrained(start.llm, dtype=torch.float32)
        model.set_language_model(language_model)
    model.vision.tower = (
        random_tower(config.vision, seed=recipe.run.seed, chunk_frames=config.chunk_frames)
        if start.tower is None  # the same that ReCoT draws from the same seed
        else load_tower(
            config.vision,
            source=start.tower,
            revision=start.tower_revision,
            chunk_frames=config.chunk_frames,
        )
    )
    if dts is not None:
        model.vision.dts = dts.float()
    return model, VideoXLProProcessor.for_model(config, tokenizer)


def _require_factor(recipe: MllmRecipe, factor: int, what: str) -> None:
    wanted = recipe.start.temporal_factor
    require(
        wanted in (None, factor),
        f"start.temporal_factor is {wanted}, and {what} has {factor}: leave the setting out, or "
        "name another.",
    )


def _with(config: VideoXLProConfig, **changes: Any) -> VideoXLProConfig:
    values = {k: v for k, v in config.to_dict().items() if k not in changes}
    return VideoXLProConfig(**values, **changes)
