"""Any video-text model of transformers, by its processor and chat template.

Frames are given as arrays with their times, so that no decoder but ours has a say. Its own
`generation_config` holds but for sampling: the likeliest token is taken each time.

Shapes: B prompts, P positions, T frames, H x W pixels, C = 3, V vocabulary.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor

from vxp_model.errors import UserError
from vxp_model.eval.adapters.base import Continued, FramePlan, FrameSource, Reply
from vxp_model.eval.adapters.encode_once import EncodeOnce, ProcessOnce
from vxp_model.eval.adapters.fingerprint import folder_fingerprint
from vxp_model.eval.benchmarks.base import Prompt
from vxp_model.inference.answers import peak_bytes, wait_for
from vxp_model.inference.placement import Placement
from vxp_model.inference.reading import num_new

_PIECE_FRAMES: Final = 32
_TICKS: Final = 1000
"""Of a second. Frames are told to processors as if they were numbered at this rate: times that do
not lie on a grid stay what they are, to the millisecond."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenVideo:
    """A video's frames, all of them: models of transformers encode what a prompt asks about."""

    frames_THWC: NDArray[np.uint8]
    plan: FramePlan


def transformers_identity(
    folder: Path | str, place: Placement, *, frame_px: int | None
) -> dict[str, Any]:
    """Return what answers depend on.

    Raises:
        UserError: the folder holds no model.
    """
    return {
        "adapter": "transformers",
        "weights": folder_fingerprint(folder),
        "dtype": place.dtype,
        "attention": place.attention,
        "frame_px": frame_px,
    }


class TransformersModel:
    """An `EvalModel` over a model and its processor.

    A video is one item in front of the prompt's text. Texts between frames cannot stand inside of
    it: they go as lines '[12.5 s] text' between the video and the prompt, in their order, since
    splitting a video into several would begin its times anew with most models. `reply_start` is
    appended to what the chat template renders and tokenised with it; a reply whose likelihood is
    asked is tokenised by itself.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        *,
        identity: Mapping[str, Any],
        frame_px: int | None = None,
    ) -> None:
        """Take a model that is loaded.

        Args:
            model: with `generate`.
            processor: with a tokenizer, a video processor and a chat template; its video processor
                is put into one that keeps what it made of the last video.
            identity: see `EvalModel`.
            frame_px: side of the square to which frames are squashed before the processor sees
                them; None: the video's own size.

        Raises:
            UserError: the processor takes no video, or has no chat template.
        """
        name = type(processor).__name__
        if getattr(processor, "video_processor", None) is None:
            raise UserError(f"{name} takes no video: it has no video_processor.")
        if getattr(processor, "chat_template", None) is None:
            raise UserError(f"{name} has no chat template: put one beside the model.")
        self.identity = identity
        self.frames_per_group = int(
            getattr(processor.video_processor, "temporal_patch_size", None) or 1
        )
        self.model, self.processor, self._frame_px = model.eval(), processor, frame_px
        processor.video_processor = ProcessOnce(processor.video_processor)
        self._encoder = EncodeOnce(model)
        self._can_skip_logits = "logits_to_keep" in inspect.signature(model.forward).parameters

    @classmethod
    def load(
        cls,
        folder: Path | str,
        *,
        device: str = "auto",
        dtype: str = "auto",
        attention: str = "auto",
        frame_px: int | None = None,
    ) -> Self:
        """Load a model from its folder; nothing is fetched.

        Args:
            folder: with weights, configuration, tokenizer, processor and chat template.
            device: see `Placement.of`, as the next two.
            dtype: see there.
            attention: see there.
            frame_px: see the class.

        Raises:
            UserError: there is no such model, or transformers has no video-text model of its kind.
        """
        place = Placement.of(device=device, dtype=dtype, attention=attention)
        identity = transformers_identity(folder, place, frame_px=frame_px)
        try:
            processor = AutoProcessor.from_pretrained(  # type: ignore[no-untyped-call]
                str(folder), local_files_only=True
            )
            model: Any = AutoModelForImageTextToText.from_pretrained(
                str(folder),
                dtype=getattr(torch, place.dtype),
                attn_implementation=place.attention,
                local_files_only=True,
            )
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{str(folder)!r}: transformers cannot load it: {error}") from error
        return cls(model.to(place.device), processor, identity=identity, frame_px=frame_px)

    def watch(self, source: FrameSource) -> SeenVideo:
        """Read all frames; see `EvalModel`."""
        pieces = source.pieces(frame_px=self._frame_px, piece_frames=_PIECE_FRAMES)
        return SeenVideo(frames_THWC=np.concatenate(list(pieces)), plan=source.plan)

    @torch.no_grad()
    def answer(self, watched: SeenVideo, prompts: Sequence[Prompt]) -> list[Reply]:
        """Reply to prompts as one batch, padded at the beginning; see `EvalModel`."""
        began_s, device = time.monotonic(), self.model.device
        rows = [self._inputs(watched, prompt) for prompt in prompts]
        for row, prompt in zip(rows, prompts, strict=True):
            self._check_room(row["input_ids"].shape[1] + prompt.max_new_tokens)
        ends, pad_id = self._ends()
        inputs = self._encoder.batch(watched, rows, pad_id=pad_id)
        wait_for(device)
        prepared_s = time.monotonic()
        ids_BP = self.model.generate(
            **inputs,
            max_new_tokens=max(prompt.max_new_tokens for prompt in prompts),
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            pad_token_id=pad_id,
        )
        new_ids = ids_BP[:, inputs["input_ids"].shape[1] :].tolist()
        seconds = {
            "prepare": (prepared_s - began_s) / len(rows),
            "generate": (time.monotonic() - prepared_s) / len(rows),
        }
        replies = []
        for prompt, row, ids in zip(prompts, rows, new_ids, strict=True):
            count, has_ended = num_new(ids, ends, most=prompt.max_new_tokens)
            num_visual = self._num_visual(row)
            replies.append(
                Reply(
                    text=self.processor.tokenizer.decode(
                        ids[:count], skip_special_tokens=True
                    ).strip(),
                    finish="stop" if has_ended else "length",
                    num_visual=num_visual,
                    num_kept=num_visual,
                    seconds=seconds,
                    peak_bytes=peak_bytes(device),
                )
            )
        return replies

    @torch.no_grad()
    def continued(
        self, watched: SeenVideo, prompt: Prompt, replies: Sequence[str]
    ) -> list[Continued]:
        """Return how likely replies are; see `EvalModel`.

        The prompt is read once for the first tokens of all, and once more for each reply of
        several tokens: how a cache is continued is each model's own business.

        Raises:
            UserError: a reply is empty.
        """
        tokenizer = self.processor.tokenizer
        ids = [tokenizer(reply, add_special_tokens=False)["input_ids"] for reply in replies]
        if not all(ids):
            raise UserError("a reply of no tokens has no likelihood: give one character at least.")
        _, pad_id = self._ends()
        inputs = self._encoder.batch(watched, [self._inputs(watched, prompt)], pad_id=pad_id)
        first_1V = self._log_probs(inputs, [])
        found = []
        for reply in ids:
            log_TV = self._log_probs(inputs, reply[:-1]) if len(reply) > 1 else first_1V
            ids_T = torch.tensor(reply, device=log_TV.device)
            found.append(
                Continued(
                    log_prob=float(log_TV.gather(1, ids_T[:, None]).double().sum()),
                    num_tokens=len(reply),
                    is_greedy=bool((log_TV.argmax(-1) == ids_T).all()),
                )
            )
        return found

    def _inputs(self, watched: SeenVideo, prompt: Prompt) -> dict[str, Any]:
        """Return what the processor makes of one prompt."""
        batch = self.processor(
            text=[self._text(prompt)],
            videos=[watched.frames_THWC],
            video_metadata=[_metadata(watched)],
            do_sample_frames=False,
            return_tensors="pt",
        )
        return dict(batch)

    def _check_room(self, num_positions: int) -> None:
        most = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        if most is not None and num_positions > most:
            raise UserError(
                f"prompt and answer take {num_positions:,} positions, the model has {most:,}. Show "
                "fewer frames (frames.max_frames), or smaller ones (frames.frame_px)."
            )

    def _text(self, prompt: Prompt) -> str:
        lines = "".join(f"[{time_s:.1f} s] {text}\n" for time_s, text in prompt.timed_texts)
        turns: list[dict[str, Any]] = [
            {
                "role": "user",
                "content": [{"type": "video"}, {"type": "text", "text": lines + prompt.text}],
            }
        ]
        if prompt.system is not None:
            part = {"type": "text", "text": prompt.system}
            turns.insert(0, {"role": "system", "content": [part]})
        text: str = self.processor.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True
        )
        return text + prompt.reply_start

    def _log_probs(self, inputs: Mapping[str, Any], more: Sequence[int]) -> Tensor:
        """Return log-probabilities after the prompt, and after each token that follows it."""
        given = dict(inputs)
        shape = given["input_ids"].shape
        added = torch.tensor([list(more)], dtype=torch.int64, device=self.model.device)
        for name, value in inputs.items():
            if more and isinstance(value, Tensor) and value.shape == shape:
                is_ids, is_mask = name == "input_ids", name == "attention_mask"
                tail = added if is_ids else torch.full_like(added, int(is_mask))
                given[name] = torch.cat([value, tail.to(value.dtype)], dim=1)
        count = len(more) + 1
        if self._can_skip_logits:  # all positions' are gigabytes
            given["logits_to_keep"] = count
        logits_TV = self.model(**given, use_cache=False).logits[0, -count:]
        log_TV: Tensor = logits_TV.float().log_softmax(-1)
        return log_TV

    def _ends(self) -> tuple[int | list[int], int]:
        """Return the tokens that end an answer, and what fills up."""
        config, tokenizer = self.model.generation_config, self.processor.tokenizer
        ends = config.eos_token_id if config.eos_token_id is not None else tokenizer.eos_token_id
        pad_id = config.pad_token_id if config.pad_token_id is not None else tokenizer.pad_token_id
        first = ends[0] if isinstance(ends, list) else ends
        return ends, first if pad_id is None else pad_id

    def _num_visual(self, inputs: Mapping[str, Any]) -> int:
        if "mm_token_type_ids" in inputs:
            return int((inputs["mm_token_type_ids"] != 0).sum())
        ids = [getattr(self.model.config, f"{kind}_token_id", -1) for kind in ("video", "image")]
        return int(torch.isin(inputs["input_ids"], torch.tensor(ids)).sum())


def _metadata(watched: SeenVideo) -> dict[str, Any]:
    """Return what a processor may ask of the video, such that frames have their own times.

    Frames are numbered in ticks. The number of all frames is such that the rate at which they were
    taken, which processors derive from it, is what their distances say.
    """
    time_s = watched.plan.time_s
    count = len(time_s)
    distance_s = (time_s[-1] - time_s[0]) / (count - 1) if count > 1 else 1.0
    return {
        "total_num_frames": max(round(count * distance_s * _TICKS), 1),
        "fps": float(_TICKS),
        "width": watched.plan.width_px,
        "height": watched.plan.height_px,
        "duration": watched.plan.duration_s,
        "frames_indices": [round(one * _TICKS) for one in time_s],
    }
