"""Video-XL-Pro: frames and a conversation in, an answer out.

Shape suffixes: B samples, P positions, G groups of frames of a batch, N tokens of a group, D the
language model's width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    GenerationConfig,
    GenerationMixin,
    PreTrainedModel,
)
from transformers import initialization as init
from transformers.models.siglip.modeling_siglip import SiglipVisionEmbeddings

from vxp_model.errors import UserError
from vxp_model.models.frame_encoder import FrameEncoder
from vxp_model.models.generation import answer_config, check_decoder_arguments
from vxp_model.models.output import VideoXLProOutput, label_output
from vxp_model.models.sequence_builder import SequenceBuilder
from vxp_model.models.video_xl_pro_config import VideoXLProConfig
from vxp_model.models.visual_sequence import VisualSequence, run_packed
from vxp_model.modules.selector import QueryAwareSelector

PARTS = {
    "tower": "vision.tower",
    "dts": "vision.dts",
    "projector": "vision.projector",
    "selector": "selector",
    "language_model": "language_model",
}
"""The parts that a model may have, and where they are in it."""


def parts_of(config: VideoXLProConfig) -> dict[str, str]:
    """Return the parts that a model has: all of `PARTS`, but for a compressor of one frame."""
    return {part: index for part, index in PARTS.items() if part != "dts" or config.dts is not None}


class VideoXLProForConditionalGeneration(PreTrainedModel, GenerationMixin):  # type: ignore[no-untyped-call]
    """Vision tower, compressor, projector, pool, selector, language model.

    Every group of four frames becomes 144 tokens (36 a frame), put where the prompt has visual
    positions; with a temporal factor of 1, for comparison, there is no compressor, and every frame
    becomes 144. Which of them stay, the selector decides: in training a random share of videos'
    tokens goes, seeded by sample; otherwise nothing does unless the prompt and the room for the
    answer exceed `config.context_limit`.

    Source: the paper, sections 3.1 and 3.3; the 2 x 2 pool and the time text from the released
    code.
    """

    config_class = VideoXLProConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    input_modalities = ["video", "image", "text"]  # noqa: RUF012 - transformers' own type
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012

    def __init__(self, config: VideoXLProConfig) -> None:
        """Build it with new weights; the tower comes frozen."""
        super().__init__(config)
        config.check()
        self.vision = FrameEncoder(config)
        self.selector = QueryAwareSelector(config.text_width, config.selector)
        self.set_language_model(AutoModelForCausalLM.from_config(config.text_config))  # type: ignore[no-untyped-call]
        self.post_init()  # type: ignore[no-untyped-call]

    @classmethod
    def from_pretrained(cls, folder: str | Path, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Read a model that `save_pretrained` wrote; see transformers for further arguments.

        Raises:
            UserError: a tensor is missing, unknown or of another shape: nothing is made up.
        """
        wants_info = kwargs.pop("output_loading_info", False)
        loaded: Any = super().from_pretrained(
            str(folder), *args, output_loading_info=True, **kwargs
        )
        model, info = loaded
        wrong = {what: sorted(map(str, info[what])) for what in info if info[what]}
        if wrong:
            what = "; ".join(f"{key}: {', '.join(names[:5])}" for key, names in wrong.items())
            raise UserError(f"{str(folder)!r} is not a whole Video-XL-Pro model: {what}.")
        return (model, info) if wants_info else model

    def set_language_model(self, language_model: Any) -> None:
        """Take a language model; how answers are generated, this model's config alone says."""
        language_model.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
        self.language_model = language_model

    def get_input_embeddings(self) -> nn.Module:
        """Return the language model's token embeddings."""
        embeddings: nn.Module = self.language_model.get_input_embeddings()
        return embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Set the language model's token embeddings."""
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """Return the language model's head."""
        head: nn.Module = self.language_model.get_output_embeddings()
        return head

    def set_output_embeddings(self, value: nn.Module) -> None:
        """Set the language model's head."""
        self.language_model.set_output_embeddings(value)

    def sequence(self, input_ids: Tensor, **given: Any) -> VisualSequence:
        """Put visual tokens into the prompt and select among them; see `SequenceBuilder`."""
        config: Any = self.config
        builder = SequenceBuilder(
            config, self.selector, self.language_model, training=self.training
        )
        return builder(input_ids, **given)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_kinds: Tensor | None = None,
        frames: Tensor | None = None,
        clip_frames: Tensor | None = None,
        clip_is_image: Tensor | None = None,
        clip_index: Tensor | None = None,
        labels: Tensor | None = None,
        visual_tokens: Tensor | None = None,
        selector_seeds: Sequence[int] | None = None,
        logits_to_keep: int = 0,
        packed: bool = False,
        num_items_in_batch: int | Tensor | None = None,
        **kwargs: Any,
    ) -> VideoXLProOutput:
        """Run the whole model.

        Args:
            input_ids: see `SequenceBuilder`, as the next two, labels, selector_seeds.
            attention_mask: see there.
            token_kinds: see there.
            frames: see `FrameEncoder`, as clip_frames and clip_is_image; or
            clip_frames: see there.
            clip_is_image: see there.
            clip_index: which clips are shown, in the order of their places in the prompts: one may
                be shown in several, and is encoded once; None: all, once each.
            labels: see `SequenceBuilder`. With them, logits are computed at label tokens alone.
            visual_tokens: what `FrameEncoder` gave.
            selector_seeds: wanted in training mode, unless `selector_drop_max` is 0.
            logits_to_keep: without labels: logits of the last so many positions; 0: of all.
            packed: run the samples one behind the other, each seeing itself alone, instead of
                padded to the longest: the same but for the last bits. Without a cache.
            num_items_in_batch: label tokens of the whole step, of which this batch is a part:
                transformers' Trainer gives it. The loss is then the batch's sum divided by it, so
                that the losses of a step's parts add up to its mean.
            kwargs: for the language model's decoder.

        Returns:
            output: without `num_items_in_batch`, the loss is a mean over the batch's label tokens.

        Raises:
            TypeError: the decoder does not know an argument.
        """
        visual_tokens = self._visual_tokens(frames, clip_frames, clip_is_image, visual_tokens)
        if clip_index is not None and visual_tokens is not None:
            if clip_frames is None:
                raise ValueError("clip_index needs clip_frames")
            visual_tokens = self._shown(visual_tokens, clip_frames, clip_index)
        sequence = self.sequence(
            input_ids,
            attention_mask=attention_mask,
            token_kinds=token_kinds,
            labels=labels,
            visual_tokens=visual_tokens,
            selector_seeds=selector_seeds,
        )
        decoder = self.language_model.get_decoder()
        check_decoder_arguments(kwargs, decoder)
        if packed:
            inner = run_packed(decoder, sequence, **kwargs)
        else:
            mask_BP = sequence.attention_mask_BP
            if not mask_BP.all():
                kwargs.setdefault("position_ids", (mask_BP.cumsum(-1) - 1).clamp_min(0))
                kwargs["attention_mask"] = mask_BP
            kwargs.setdefault("use_cache", not self.training)
            inner = decoder(inputs_embeds=sequence.embeds_BPD, **kwargs)
        states_BPD, head = inner.last_hidden_state, self.get_output_embeddings()
        if sequence.labels_BP is None:
            output = VideoXLProOutput(logits=head(states_BPD[:, -logits_to_keep:]))
        else:
            output = label_output(states_BPD, sequence.labels_BP, head, num_items_in_batch)
        output.past_key_values = inner.past_key_values
        output.hidden_states, output.attentions = inner.hidden_states, inner.attentions
        output.selections = sequence.selections
        return output

    @torch.no_grad()
    def generate(  # type: ignore[override]
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_kinds: Tensor | None = None,
        frames: Tensor | None = None,
        clip_frames: Tensor | None = None,
        clip_is_image: Tensor | None = None,
        visual_tokens: Tensor | None = None,
        keep_ratio: float | None = None,
        **kwargs: Any,
    ) -> Any:
        """Answer: one token after another, several answers at once, or the best of several beams.

        Args:
            input_ids: see `forward`, as everything to `visual_tokens`.
            attention_mask: see there.
            token_kinds: see there.
            frames: see there.
            clip_frames: see there.
            clip_is_image: see there.
            visual_tokens: see there.
            keep_ratio: see `SequenceBuilder`.
            kwargs: see transformers' `generate`. Room for `max_new_tokens` is kept below
                `config.context_limit`; `max_length` counts the positions of `input_ids` too, with
                padding and what the selector leaves out.

        Returns:
            The answers' ids [B times num_return_sequences, new tokens], without the prompt; or what
            transformers' `generate` gives for `return_dict_in_generate`.

        Raises:
            TypeError: labels are given: prompts for training end with an answer.
            ValueError: there is no room for an answer, or an argument is unknown.
        """
        if "labels" in kwargs:
            raise TypeError("generate() takes prompts without answers, and so no labels")
        config, rest = answer_config(
            self.generation_config, kwargs, num_positions=input_ids.shape[1]
        )
        sequence = self.sequence(
            input_ids,
            attention_mask=attention_mask,
            token_kinds=token_kinds,
            visual_tokens=self._visual_tokens(frames, clip_frames, clip_is_image, visual_tokens),
            room=config.max_new_tokens,
            keep_ratio=keep_ratio,
            pad_left=True,
        )
        return self.language_model.generate(
            inputs_embeds=sequence.embeds_BPD,
            attention_mask=sequence.attention_mask_BP,
            generation_config=config,
            **rest,
        )

    def _init_weights(self, module: nn.Module) -> None:
        # The parts draw their weights when they are built; `from_pretrained` finds all in the file
        # but this buffer, which no file holds.
        if isinstance(module, SiglipVisionEmbeddings):
            init.copy_(module.position_ids, torch.arange(module.num_positions)[None])

    def _shown(self, tokens_GND: Tensor, clip_frames: Tensor, clip_index: Tensor) -> Tensor:
        """Return the groups of the clips at these places, one place after another."""
        factor = self.config.temporal_factor
        clips = torch.split(tokens_GND, [-(-int(count) // factor) for count in clip_frames])
        return torch.cat([tokens_GND[:0], *(clips[int(clip)] for clip in clip_index)])

    def _visual_tokens(
        self,
        frames: Tensor | None,
        clip_frames: Sequence[int] | Tensor | None,
        clip_is_image: Sequence[bool] | Tensor | None,
        visual_tokens: Tensor | None,
    ) -> Tensor | None:
        if frames is None:
            return visual_tokens
        if clip_frames is None or visual_tokens is not None:
            raise ValueError("give frames and clip_frames, or visual_tokens, or none of them")
        return self.vision(frames, clip_frames, clip_is_image) if len(frames) else None


AutoConfig.register(VideoXLProConfig.model_type, VideoXLProConfig)
AutoModel.register(VideoXLProConfig, VideoXLProForConditionalGeneration)
AutoModelForImageTextToText.register(VideoXLProConfig, VideoXLProForConditionalGeneration)
