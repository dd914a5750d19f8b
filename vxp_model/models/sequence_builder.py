"""From prompts and visual tokens to what goes into the language model.

Shape suffixes: B samples, P positions, G groups of frames of a batch, N tokens of a group, M visual
tokens of a sample, C those of them that may be left out, K those that stay, L tokens of its
question, D the language model's width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vxp_model.errors import UserError
from vxp_model.models.video_xl_pro_config import VideoXLProConfig
from vxp_model.models.visual_sequence import (
    Choice,
    Kind,
    Selection,
    VisualSequence,
    assemble,
    is_visual,
    kept_positions,
    layout_of,
    rotate_block,
)
from vxp_model.modules.selector import QueryAwareSelector, TokenLayout, keep_within


class SequenceBuilder:
    """Puts visual tokens where prompts have room for them, and selects among them."""

    def __init__(
        self,
        config: VideoXLProConfig,
        selector: QueryAwareSelector,
        language_model: Any,
        *,
        training: bool,
    ) -> None:
        """Hold the parts of a model that are needed.

        Args:
            config: of the model.
            selector: of the model.
            language_model: gives embeddings, and the states of questions.
            training: leave out the share that training does.
        """
        self._config = config
        self._selector = selector
        self._language_model = language_model
        self._embed = language_model.get_input_embeddings()
        self._training = training

    def __call__(
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
        context_limit: int | None = None,
        pad_left: bool = False,
    ) -> VisualSequence:
        """Put visual tokens into the prompt and select among them.

        Args:
            input_ids: int64 [B, P], with `config.visual_token_id` where visual tokens go.
            attention_mask: [B, P], 0 at padding; None: no padding.
            token_kinds: [B, P] of `Kind`; None: a video's where `input_ids` say visual, all else
                text, so that there is no question.
            labels: int64 [B, P], as transformers'.
            visual_tokens: [G, N, D], all samples' groups in the order of their positions.
            selector_seeds: one for each sample, decides how many tokens training leaves out.
            room: positions to leave for the answer.
            keep_ratio: keep this share of each sample's visual tokens that may be left out, in
                (0, 1], whatever the limit allows; None: as many as it allows.
            context_limit: positions of a prompt and its answer; None: the model's own limit.
            pad_left: put padding at the beginning, where samples have to be padded anew.

        Returns:
            sequence: the same tensors, unselected, where every token stays.

        Raises:
            UserError: text alone, or with images that must stay, exceeds the limit.
            ValueError: arguments do not fit each other.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        is_visual_BP = input_ids == self._config.visual_token_id
        if token_kinds is None:
            token_kinds = is_visual_BP.long() * int(Kind.VISUAL)
        elif not torch.equal(is_visual(token_kinds), is_visual_BP):
            raise ValueError("token_kinds and input_ids differ about where visual tokens go")
        embeds_BPD = self._embed(input_ids)
        tokens_MD = embeds_BPD[0, :0] if visual_tokens is None else visual_tokens.flatten(0, 1)
        counts = is_visual_BP.sum(-1).tolist()
        if len(tokens_MD) != sum(counts):
            raise ValueError(
                f"the prompts have {sum(counts)} visual positions, and {len(tokens_MD)} visual "
                "tokens are given"
            )
        if self._config.visual_rotary:
            embeds_BPD, tokens_MD = rotate_block(embeds_BPD, tokens_MD, token_kinds)
        choices = [
            self._choose(
                input_ids[b],
                token_kinds[b],
                attention_mask[b].bool(),
                visual_MD,
                seed=None if selector_seeds is None else selector_seeds[b],
                room=room,
                keep_ratio=keep_ratio,
                limit=context_limit or self._config.context_limit,
            )
            for b, visual_MD in enumerate(tokens_MD.to(embeds_BPD.dtype).split(counts))
        ]
        return assemble(
            embeds_BPD, attention_mask, labels, is_visual_BP, choices, pad_left=pad_left
        )

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
        limit: int,
    ) -> Choice:
        """Choose what of one sample stays."""
        group_tokens, num_visual = self._config.group_tokens, len(visual_MD)
        layout = layout_of(torch.where(real_P, kinds_P, Kind.TEXT), group_tokens=group_tokens)
        num_text = int(real_P.sum()) - layout.num_tokens
        may_go_M = self._may_go(kinds_P)
        num_going = int(may_go_M.sum())
        num_images = num_visual - num_going
        _require_room(limit, num_text=num_text, num_images=num_images, room=room)
        budget = limit - room - num_text
        most = self._most(num_going, seed, keep_ratio)
        if most == num_going and layout.num_tokens <= budget:
            kept_G = torch.full_like(layout.time_tokens_G, group_tokens)
            return Choice(
                keep_P=None, visual_KD=visual_MD, selection=Selection.of_all(num_visual, kept_G)
            )
        query_LD = self._query_states(ids_P[kinds_P == Kind.QUERY])
        keep_M, visual_KD, scores_M = self._select(
            query_LD, visual_MD, layout, may_go_M, budget=budget - num_images, most=most
        )
        all_time = self._selector.config.keep_time == "all"
        keep_P = kept_positions(kinds_P, keep_M, group_tokens=group_tokens, all_time=all_time)
        return Choice(
            keep_P=keep_P,
            visual_KD=visual_KD,
            selection=Selection(
                num_visual=num_visual,
                num_kept=int(keep_M.sum()),
                num_dropped_time=int(((kinds_P == Kind.TIME) & ~keep_P).sum()),
                scores_M=scores_M,
                kept_G=keep_M.view(-1, group_tokens).sum(-1),
                keep_M=keep_M,
            ),
        )

    def _select(
        self,
        query_LD: Tensor,
        visual_MD: Tensor,
        layout: TokenLayout,
        may_go_M: Tensor,
        *,
        budget: int,
        most: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Select among the tokens that may go.

        Args:
            query_LD: states of the question.
            visual_MD: all visual tokens of the sample.
            layout: of all.
            may_go_M: bool.
            budget: positions for those that may go, with their time text.
            most: of them that may stay, whatever the budget.

        Returns:
            keep_M: bool, of all.
            visual_KD: those that stay; in training with a gradient for their scores.
            scores_M: without a gradient; infinite where a token stays in any case.
        """
        selector = self._selector
        goes_CD = visual_MD if bool(may_go_M.all()) else visual_MD[may_go_M]  # no needless copy
        scores_C = selector(query_LD, goes_CD)
        keep_C = keep_within(
            scores_C,
            layout.of(may_go_M),
            budget=budget,
            keep_time=selector.config.keep_time,
            most=most,
        )
        keep_M = ~may_go_M
        keep_M[may_go_M] = keep_C
        scores_M = scores_C.new_full((len(visual_MD),), torch.inf)
        scores_M[may_go_M] = scores_C.detach()
        visual_KD = visual_MD[keep_M]
        if self._training and torch.is_grad_enabled() and bool(keep_C.any()):
            gated_KD = selector.gate(goes_CD, scores_C, keep_C)
            visual_KD = visual_KD.masked_scatter(may_go_M[keep_M][:, None], gated_KD)
        return keep_M, visual_KD, scores_M

    def _may_go(self, kinds_P: Tensor) -> Tensor:
        """Return which of a sample's visual tokens may be left out: bool [M]."""
        kinds_M = kinds_P[is_visual(kinds_P)]
        if self._selector.config.drops_images:
            return torch.ones_like(kinds_M, dtype=torch.bool)
        return kinds_M == Kind.VISUAL

    def _most(self, num_tokens: int, seed: int | None, keep_ratio: float | None) -> int:
        """Return how many of the tokens that may go also may stay, whatever the limit allows."""
        if keep_ratio is not None:
            if not 0 < keep_ratio <= 1:
                raise ValueError(f"keep_ratio must be in (0, 1], got {keep_ratio}")
            return min(num_tokens, max(1, round(keep_ratio * num_tokens)))
        if not self._training or not num_tokens or self._selector.config.drop_max == 0:
            return num_tokens
        if seed is None:
            raise ValueError(
                "in training mode the selector leaves out a share of the tokens: give "
                "selector_seeds, one for each sample, or set selector_drop_max to 0"
            )
        return self._selector.config.num_kept(num_tokens, seed)

    @torch.no_grad()
    def _query_states(self, ids_L: Tensor) -> Tensor:
        """Encode a question by itself: no image, no answer, no other text."""
        ids_L = ids_L[-self._config.query_max_tokens :]
        if self._config.query_encoder == "embed" or not len(ids_L):
            states_LD: Tensor = self._embed(ids_L)
            return states_LD
        inner = self._language_model.get_decoder()(input_ids=ids_L[None], use_cache=False)
        encoded_LD: Tensor = inner.last_hidden_state[0]
        return encoded_LD


def _require_room(limit: int, *, num_text: int, num_images: int, room: int) -> None:
    """Check that what cannot be left out fits.

    Raises:
        UserError: it does not.
    """
    if num_text + room > limit:
        raise UserError(
            f"the text of a prompt takes {num_text} positions and its answer may take {room}: "
            f"more than context_limit {limit}. Shorten the text, ask for "
            "a shorter answer, or raise context_limit."
        )
    if num_text + room + num_images > limit:
        raise UserError(
            f"the images of a prompt take {num_images} positions, its text {num_text}, and its "
            f"answer may take {room}: more than context_limit {limit}. Show fewer images, raise "
            "context_limit, or set selector_drops_images, so that tokens of images may go too."
        )
