"""Video-XL-Pro: frames and a conversation in, an answer out.

Shape suffixes: B samples, P positions, G groups of frames of a batch, N tokens of a group, M visual
tokens of a sample, L tokens of its question, D the language model's width.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    GenerationMixin,
    PreTrainedModel,
)
from transformers import initialization as init
from transformers.models.siglip.modeling_siglip import SiglipVisionEmbeddings

from vxp_model.errors import UserError
from vxp_model.models.frame_encoder import FrameEncoder
from vxp_model.models.output import VideoXLProOutput, label_output
from vxp_model.models.video_xl_pro_config import VideoXLProConfig
from vxp_model.models.visual_sequence import (
    Choice,
    Kind,
    Selection,
    VisualSequence,
    assemble,
    kept_positions,
    layout_of,
)
from vxp_model.modules.selector import QueryAwareSelector, keep_within

PARTS = {
    "tower": "vision.tower",
    "dts": "vision.dts",
    "projector": "vision.projector",
    "selector": "selector",
    "language_model": "language_model",
}
"""The model's parts, and where they are in it."""

DEFAULT_NEW_TOKENS = 256
"""Of an answer, where neither the caller nor the generation config says."""


class VideoXLProForConditionalGeneration(PreTrainedModel, GenerationMixin):  # type: ignore[no-untyped-call]
    """Vision tower, compressor, projector, pool, selector, language model.

    Every group of four frames becomes 144 tokens (36 a frame), put where the prompt has visual
    positions. Which of them stay, the selector decides: in training a random share goes, seeded by
    sample; otherwise nothing does unless the prompt and the room for the answer exceed
    `config.context_limit`.

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
        self.language_model = AutoModelForCausalLM.from_config(config.text_config)  # type: ignore[no-untyped-call]
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

    def get_input_embeddings(self) -> nn.Module:
        """Give the language model's token embeddings."""
        embeddings: nn.Module = self.language_model.get_input_embeddings()
        return embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Set the language model's token embeddings."""
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """Give the language model's head."""
        head: nn.Module = self.language_model.get_output_embeddings()
        return head

    def set_output_embeddings(self, value: nn.Module) -> None:
        """Set the language model's head."""
        self.language_model.set_output_embeddings(value)

    def sequence(
        self,
        input_ids: Tensor,
        *,
        attention_mask: Tensor | None = None,
        token_kinds: Tensor | None = None,
        labels: Tensor | None = None,
        visual_tokens: Tensor | None = None,
        selector_seeds: Sequence[int] | None = None,
        room: int = 0,
        keep_ratio: float | None = None,
        pad_left: bool = False,
    ) -> VisualSequence:
        """Put visual tokens into the prompt and select among them.

        Args:
            input_ids: int64 [B, P], with `config.visual_token_id` where visual tokens go.
            attention_mask: [B, P], 0 at padding; None: no padding.
            token_kinds: [B, P] of `Kind`; None: visual where `input_ids` say so, all else text, so
                that there is no question.
            labels: int64 [B, P], as transformers'.
            visual_tokens: [G, N, D], all samples' groups in the order of their positions.
            selector_seeds: one for each sample, decides how many tokens training leaves out.
            room: positions to leave for the answer.
            keep_ratio: keep this share of each sample's visual tokens, in (0, 1], whatever the
                limit allows; None: as many as it allows.
            pad_left: put padding at the beginning, where samples have to be padded anew.

        Returns:
            sequence: the same tensors, unselected, where every token stays.

        Raises:
            UserError: text alone exceeds the limit.
            ValueError: arguments do not fit each other.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        is_visual_BP = input_ids == self.config.visual_token_id
        if token_kinds is None:
            token_kinds = is_visual_BP.long() * int(Kind.VISUAL)
        elif not torch.equal(token_kinds == Kind.VISUAL, is_visual_BP):
            raise ValueError("token_kinds and input_ids differ about where visual tokens go")
        embeds_BPD = self.get_input_embeddings()(input_ids)
        tokens_MD = embeds_BPD[0, :0] if visual_tokens is None else visual_tokens.flatten(0, 1)
        counts = is_visual_BP.sum(-1).tolist()
        if len(tokens_MD) != sum(counts):
            raise ValueError(
                f"the prompts have {sum(counts)} visual positions, and {len(tokens_MD)} visual "
                "tokens are given"
            )
        choices = [
            self._choose(
                input_ids[b],
                token_kinds[b],
                attention_mask[b].bool(),
                visual_MD,
                seed=None if selector_seeds is None else selector_seeds[b],
                room=room,
                keep_ratio=keep_ratio,
            )
            for b, visual_MD in enumerate(tokens_MD.to(embeds_BPD.dtype).split(counts))
        ]
        return assemble(
            embeds_BPD, attention_mask, labels, is_visual_BP, choices, pad_left=pad_left
        )

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_kinds: Tensor | None = None,
        frames: Tensor | None = None,
        clip_frames: Tensor | None = None,
        clip_is_image: Tensor | None = None,
        labels: Tensor | None = None,
        visual_tokens: Tensor | None = None,
        selector_seeds: Sequence[int] | None = None,
        logits_to_keep: int = 0,
        **kwargs: Any,
    ) -> VideoXLProOutput:
        """Run the whole model.

        Args:
            input_ids: see `sequence`, as attention_mask, token_kinds, labels, selector_seeds.
            attention_mask: see there.
            token_kinds: see there.
            frames: see `FrameEncoder`, as clip_frames and clip_is_image; or
            clip_frames: see there.
            clip_is_image: see there.
            labels: see `sequence`. With them, logits are computed at label tokens alone.
            visual_tokens: what `FrameEncoder` gave.
            selector_seeds: wanted in training mode, unless `selector_drop_max` is 0.
            logits_to_keep: without labels: logits of the last so many positions; 0: of all.
            kwargs: for the language model.

        Returns:
            output: the loss is a mean over the batch's label tokens.
        """
        visual_tokens = self._visual_tokens(frames, clip_frames, clip_is_image, visual_tokens)
        sequence = self.sequence(
            input_ids,
            attention_mask=attention_mask,
            token_kinds=token_kinds,
            labels=labels,
            visual_tokens=visual_tokens,
            selector_seeds=selector_seeds,
        )
        mask_BP = sequence.attention_mask_BP
        if not mask_BP.all():
            kwargs.setdefault("position_ids", (mask_BP.cumsum(-1) - 1).clamp_min(0))
            kwargs["attention_mask"] = mask_BP
        decoder = self.language_model.get_decoder()
        inner = decoder(inputs_embeds=sequence.embeds_BPD, **kwargs)
        states_BPD = inner.last_hidden_state
        if sequence.labels_BP is None:
            logits = self.get_output_embeddings()(states_BPD[:, -logits_to_keep:])
            return VideoXLProOutput(
                logits=logits,
                past_key_values=inner.past_key_values,
                selections=sequence.selections,
            )
        output = label_output(states_BPD, sequence.labels_BP, self.get_output_embeddings())
        output.past_key_values = inner.past_key_values
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
        max_new_tokens: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Answer.

        Args:
            input_ids: see `forward`, as everything to `visual_tokens`.
            attention_mask: see there.
            token_kinds: see there.
            frames: see there.
            clip_frames: see there.
            clip_is_image: see there.
            visual_tokens: see there.
            keep_ratio: see `sequence`.
            max_new_tokens: longest answer; room for it is kept below `config.context_limit`.
            kwargs: see transformers' `generate`.

        Returns:
            The answers' ids [B, new tokens], without the prompt; or what transformers' `generate`
            gives for `return_dict_in_generate`.
        """
        config = deepcopy(kwargs.pop("generation_config", None) or self.generation_config)
        kwargs = config.update(**kwargs)
        room = max_new_tokens or config.max_new_tokens or DEFAULT_NEW_TOKENS
        config.max_new_tokens = room
        sequence = self.sequence(
            input_ids,
            attention_mask=attention_mask,
            token_kinds=token_kinds,
            visual_tokens=self._visual_tokens(frames, clip_frames, clip_is_image, visual_tokens),
            room=room,
            keep_ratio=keep_ratio,
            pad_left=True,
        )
        return self.language_model.generate(
            inputs_embeds=sequence.embeds_BPD,
            attention_mask=sequence.attention_mask_BP,
            generation_config=config,
            **kwargs,
        )

    def _init_weights(self, module: nn.Module) -> None:
        # The parts draw their weights when they are built; `from_pretrained` finds all in the file
        # but this buffer, which no file holds.
        if isinstance(module, SiglipVisionEmbeddings):
            init.copy_(module.position_ids, torch.arange(module.num_positions)[None])

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

    def _choose(
        self,
        ids_P: Tensor,
        kinds_P: Tensor,
        real_P: Tensor,
        visual_MD: Tensor,
        *,
        seed: int | None,
        room: int,
        keep_ratio: float | None,
    ) -> Choice:
        """Select among one sample's visual tokens."""
        group_tokens, num_visual = self.config.group_tokens, len(visual_MD)
        layout = layout_of(torch.where(real_P, kinds_P, Kind.TEXT), group_tokens=group_tokens)
        num_text = int(real_P.sum()) - layout.num_tokens
        budget = self.config.context_limit - room - num_text
        if budget < 0:
            raise UserError(
                f"the text of a prompt takes {num_text} positions and its answer may take {room}: "
                f"more than context_limit {self.config.context_limit}. Shorten the text, ask for a "
                "shorter answer, or raise context_limit."
            )
        most = self._most(num_visual, seed, keep_ratio)
        if most == num_visual and layout.num_tokens <= budget:
            kept_G = torch.full_like(layout.time_tokens_G, group_tokens)
            return Choice(
                keep_P=None, visual_KD=visual_MD, selection=Selection.of_all(num_visual, kept_G)
            )
        selector = self.selector
        scores_M = selector(self._query_states(ids_P[kinds_P == Kind.QUERY]), visual_MD)
        keep_time = selector.config.keep_time
        keep_M = keep_within(scores_M, layout, budget=budget, keep_time=keep_time, most=most)
        keep_P = kept_positions(
            kinds_P, keep_M, group_tokens=group_tokens, all_time=keep_time == "all"
        )
        uses_gate = self.training and torch.is_grad_enabled() and bool(keep_M.any())
        return Choice(
            keep_P=keep_P,
            visual_KD=selector.gate(visual_MD, scores_M, keep_M)
            if uses_gate
            else visual_MD[keep_M],
            selection=Selection(
                num_visual=num_visual,
                num_kept=int(keep_M.sum()),
                num_dropped_time=int(((kinds_P == Kind.TIME) & ~keep_P).sum()),
                scores_M=scores_M.detach(),
                kept_G=keep_M.view(-1, group_tokens).sum(-1),
            ),
        )

    def _most(self, num_visual: int, seed: int | None, keep_ratio: float | None) -> int:
        """Give how many visual tokens of a sample may stay, whatever the limit allows."""
        if keep_ratio is not None:
            if not 0 < keep_ratio <= 1:
                raise ValueError(f"keep_ratio must be in (0, 1], got {keep_ratio}")
            return min(num_visual, max(1, round(keep_ratio * num_visual)))
        if not self.training or not num_visual or self.selector.config.drop_max == 0:
            return num_visual
        if seed is None:
            raise ValueError(
                "in training mode the selector leaves out a share of the tokens: give "
                "selector_seeds, one for each sample, or set selector_drop_max to 0"
            )
        return self.selector.config.num_kept(num_visual, seed)

    @torch.no_grad()
    def _query_states(self, ids_L: Tensor) -> Tensor:
        """Encode a question by itself: no picture, no answer, no other text."""
        ids_L = ids_L[-self.config.query_max_tokens :]
        if self.config.query_encoder == "embed" or not len(ids_L):
            states_LD: Tensor = self.get_input_embeddings()(ids_L)
            return states_LD
        inner = self.language_model.get_decoder()(input_ids=ids_L[None], use_cache=False)
        encoded_LD: Tensor = inner.last_hidden_state[0]
        return encoded_LD


AutoConfig.register(VideoXLProConfig.model_type, VideoXLProConfig)
AutoModel.register(VideoXLProConfig, VideoXLProForConditionalGeneration)
AutoModelForImageTextToText.register(VideoXLProConfig, VideoXLProForConditionalGeneration)
