"""Prompts about a watched video, and what the language model says to them.

Shape suffixes: B prompts, P positions, G groups of frames, D the language model's width.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from vxp_model.errors import UserError
from vxp_model.inference.answers import Answer, WatchedVideo, peak_bytes, wait_for
from vxp_model.inference.asked import Asked
from vxp_model.inference.prefill import cached_positions, prefill
from vxp_model.inference.reading import Selected, num_new, padded_left
from vxp_model.models.generation import answer_config
from vxp_model.models.processor import Clip, VideoXLProProcessor
from vxp_model.models.special_tokens import end_ids
from vxp_model.models.video_xl_pro import VideoXLProForConditionalGeneration

Progress = Callable[[str, int, int], None]
"""(what is being done, how much of it is done, how much there is)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a prompt is read; see `LongVideoModel.ask`."""

    chunk_positions: int
    window: int | None
    progress: Progress | None = None


class Replier:
    """A model and its processor, for prompts about videos that are watched."""

    def __init__(
        self, model: VideoXLProForConditionalGeneration, processor: VideoXLProProcessor
    ) -> None:
        self._model = model
        self._processor = processor

    @torch.no_grad()
    def prompt(
        self,
        video: WatchedVideo,
        asked: Asked,
        *,
        keep_ratio: float | None,
        context_limit: int | None,
    ) -> Selected:
        """Tokenise a question and select among the visual tokens."""
        began_s, model = time.monotonic(), self._model
        clip = Clip(time_s_T=video.time_s_F, texts=asked.texts)
        prompt = self._processor.prompt(asked.conversation(), [clip], reply_start=asked.prime)
        sequence = model.sequence(
            **self._processor.batch([prompt]).to(model.device),
            visual_tokens=video.tokens_GND,
            room=asked.max_new_tokens,
            keep_ratio=keep_ratio,
            context_limit=context_limit,
        )
        return Selected(asked=asked, sequence=sequence, select_s=time.monotonic() - began_s)

    @torch.no_grad()
    def answers(
        self, video: WatchedVideo, prompts: Sequence[Selected], reading: Reading, **options: Any
    ) -> list[Answer]:
        """Answer prompts as one batch."""
        model, began_s = self._model, time.monotonic()
        embeds_BPD, mask_BP = padded_left(prompts)
        # All but the last position: `generate` reads that one, and takes the first token from it.
        cache = self.read(prompts, reading, embeds_BPD, mask_BP)
        num_cached = cached_positions(cache)
        # A GPU works on by itself: without waiting, the clock would stop before the work does.
        wait_for(model.device)
        read_s = time.monotonic()
        most = max(prompt.asked.max_new_tokens for prompt in prompts)
        given = {"do_sample": False, "max_new_tokens": most, **self._ends(), **options}
        config, rest = answer_config(model.generation_config, given, num_positions=0)
        if (config.num_return_sequences or 1) > 1:
            raise UserError("ask gives one answer to a question: leave out num_return_sequences.")
        if (config.num_beams or 1) > 1:  # transformers does so with all but the cache
            cache.batch_repeat_interleave(config.num_beams)
        ids = model.language_model.generate(
            inputs_embeds=embeds_BPD,
            attention_mask=mask_BP,
            past_key_values=cache,
            generation_config=config,
            **rest,
        ).tolist()
        answered_s = time.monotonic()
        count = len(prompts)
        return [
            self._answer(
                video,
                prompt,
                row,
                config.eos_token_id,
                num_cached=num_cached - (embeds_BPD.shape[1] - prompt.num_positions),
                prefill_s=(read_s - began_s) / count,
                decode_s=(answered_s - read_s) / count,
            )
            for prompt, row in zip(prompts, ids, strict=True)
        ]

    def _answer(
        self,
        video: WatchedVideo,
        prompt: Selected,
        ids: list[int],
        ends: int | list[int],
        *,
        num_cached: int,
        prefill_s: float,
        decode_s: float,
    ) -> Answer:
        """Describe one row of what was generated."""
        count, has_ended = num_new(ids, ends, most=prompt.asked.max_new_tokens)
        (selection,) = prompt.sequence.selections
        kept_G = tuple(selection.kept_G.tolist())
        # A group counts as shown when its first frame is.
        shown_s = video.time_s_F[:: self._model.config.temporal_factor]
        kept_s = [time_s for time_s, kept in zip(shown_s, kept_G, strict=True) if kept]
        return Answer(
            text=self._processor.tokenizer.decode(ids[:count], skip_special_tokens=True).strip(),
            finish="stop" if has_ended else "length",
            num_frames=len(video.time_s_F),
            num_visual=selection.num_visual,
            num_kept=selection.num_kept,
            kept_G=kept_G,
            num_positions=prompt.num_positions,
            num_cached=num_cached,
            first_kept_s=kept_s[0] if kept_s else 0.0,
            last_kept_s=kept_s[-1] if kept_s else 0.0,
            num_new=count,
            select_s=prompt.select_s,
            prefill_s=prefill_s,
            decode_s=decode_s,
            prefill_tokens_per_s=prompt.num_positions / max(prefill_s, 1e-9),
            decode_tokens_per_s=count / max(decode_s, 1e-9),
            peak_bytes=peak_bytes(self._model.device),
        )

    @torch.no_grad()
    def read(
        self, prompts: Sequence[Selected], reading: Reading, embeds_BPD: Tensor, mask_BP: Tensor
    ) -> Cache:
        """Read all but the last position of prompts into a cache; see `ask`."""
        num_positions = embeds_BPD.shape[1]

        def told(done: int) -> None:
            if reading.progress is not None:
                reading.progress("reading the prompt", done, num_positions)

        return prefill(
            self._model.language_model,
            embeds_BPD,
            attention_mask_BP=None if len(prompts) == 1 else mask_BP,
            chunk_positions=reading.chunk_positions,
            is_visual_P=prompts[0].sequence.is_visual_BP[0],
            window=reading.window,
            progress=told,
        )

    def _ends(self) -> dict[str, Any]:
        """Return the tokens that end an answer and that fill up: also those of older models.

        A model that was made from a base checkpoint may name that one's `<|endoftext|>` alone.
        """
        own, tokenizer = self._model.generation_config.eos_token_id, self._processor.tokenizer
        ends = end_ids(tokenizer)
        ends += [one for one in ([own] if isinstance(own, int) else own or []) if one not in ends]
        return {"eos_token_id": ends, "pad_token_id": tokenizer.pad_token_id}
