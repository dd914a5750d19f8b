"""From a conversation with videos and images to the tensors that the model takes.

Shape suffixes: P positions of a prompt, T frames of a clip.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import torch
from torch import Tensor
from transformers import AutoProcessor, BatchFeature, ProcessorMixin

from vxp_model.data.visuals import FrameChoice, Visual, read_image, read_video
from vxp_model.errors import UserError
from vxp_model.models.special_tokens import END, START, VISUAL_TOKEN, check_tokens
from vxp_model.models.turns import (
    Message,
    batch_of,
    checked,
    parts_of,
    question_of,
    visual_parts,
    with_tools_joined,
)
from vxp_model.models.video_xl_pro_config import VideoXLProConfig
from vxp_model.models.visual_sequence import IGNORED_LABEL, Kind

Learns = Literal["all", "last"]

CHAT_TEMPLATE: Final = (
    "{%- if messages[0].role != 'system' %}"
    "{{- '<|im_start|>system\\n' + system + '<|im_end|>\\n' }}{%- endif %}"
    "{%- for message in messages %}"
    "{%- set is_tool = message.role == 'tool' %}"
    "{%- if not is_tool %}{{- '<|im_start|>' + message.role + '\\n' }}"
    "{%- elif loop.first or loop.previtem.role != 'tool' %}{{- '<|im_start|>user\\n' }}{%- endif %}"
    "{%- if is_tool %}{{- '<tool_response>\\n' }}{%- endif %}"
    "{%- if message.content is string %}{{- message.content }}"
    "{%- else %}{%- for part in message.content %}"
    "{%- if part.type == 'text' %}{{- part.text }}"
    "{%- else %}{{- visual_token }}{%- if not loop.last %}{{- '\\n' }}{%- endif %}{%- endif %}"
    "{%- endfor %}{%- endif %}"
    "{%- if is_tool %}{{- '\\n</tool_response>' }}{%- endif %}"
    "{%- if is_tool and not loop.last and loop.nextitem.role == 'tool' %}{{- '\\n' }}"
    "{%- else %}{{- '<|im_end|>\\n' }}{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
"""ChatML as Qwen2.5 was trained on, with one visual token where a video or image goes. What tools
gave is one turn of the user, however many there are in a row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """What the text has to know of a video or image."""

    time_s_T: Sequence[float]
    """Seconds, of every frame."""
    is_image: bool = False
    texts: Sequence[tuple[float, str]] = ()
    """Between a video's groups, in time order: (seconds, text) is a line of its own right before
    the first group that begins later, or after the last. No question drops it."""


_MOST_KEPT = 10_000
"""Texts whose tokens are kept: the times of 11 hours at a group in 4 s."""


@dataclass(slots=True)
class Prompt:
    """One conversation as tokens."""

    ids: list[int] = field(default_factory=list)
    kinds: list[int] = field(default_factory=list)
    """Of `Kind`."""
    labels: list[int] = field(default_factory=list)
    """The token in answers, `IGNORED_LABEL` elsewhere."""

    def add(self, ids: Iterable[int], kind: Kind, *, is_label: bool = False) -> None:
        """Append tokens of one kind."""
        own = list(ids)
        self.ids += own
        self.kinds += [int(kind)] * len(own)
        self.labels += own if is_label else [IGNORED_LABEL] * len(own)


class VideoXLProProcessor(ProcessorMixin):
    """Tokenises conversations, reads their media, and marks what every position is.

    A video goes as groups of `temporal_factor` frames: for each, the text of its first frame's time
    and `group_tokens` visual positions, with texts such as subtitles between them. An image is one
    group without time. After a video or image comes a line break. Text is tokenised turn by turn,
    and nothing in it is taken for a special token, so that no question can end its own turn.

    Args:
        tokenizer: a fast tokenizer with Qwen's ChatML tokens; see `check_tokens` for what may be
            changed of it.
        image_px: side of the square frames.
        temporal_factor: frames of a group.
        group_tokens: visual tokens of a group.
        visual_token: the tokenizer's token for visual positions, special and of no other use.
        time_format: text of a time in seconds; its width in tokens is the tokenizer's business.
        system: the system turn of conversations without one.
        fps: default frames per second of video files.
        max_frames: default cap; longer videos are shown by so many frames at equal distances.
        chat_template: None: `CHAT_TEMPLATE`.

    Raises:
        UserError: the tokenizer lacks a token, or the visual one has another meaning.
    """

    def __init__(
        self,
        tokenizer: Any,
        image_px: int = 384,
        temporal_factor: int = 4,
        group_tokens: int = 144,
        visual_token: str = VISUAL_TOKEN,
        time_format: str = "Time {:06.1f}s:",
        system: str = "You are a helpful assistant.",
        fps: float = 1.0,
        max_frames: int = 360,
        chat_template: str | None = None,
    ) -> None:
        check_tokens(tokenizer, visual_token)
        template = chat_template or CHAT_TEMPLATE
        super().__init__(tokenizer, chat_template=template)  # type: ignore[no-untyped-call]
        self.image_px = image_px
        self.temporal_factor = temporal_factor
        self.group_tokens = group_tokens
        self.visual_token = visual_token
        self.time_format = time_format
        self.system = system
        self.fps = fps
        self.max_frames = max_frames
        self._ids_of: dict[str, list[int]] = {}

    @classmethod
    def for_model(
        cls, config: VideoXLProConfig, tokenizer: Any, **settings: Any
    ) -> VideoXLProProcessor:
        """Build the processor that fits a model.

        Raises:
            UserError: the model's visual token is not one of the tokenizer's, or has another
                meaning.
        """
        token = tokenizer.convert_ids_to_tokens(config.visual_token_id)
        if token is None:
            raise UserError(
                f"the model has token {config.visual_token_id} at visual positions, and the "
                f"tokenizer has no such token. `with_visual_token` adds {VISUAL_TOKEN!r} to a "
                "tokenizer without it, as Qwen2's, and returns the id to be config.visual_token_id."
            )
        return cls(
            tokenizer,
            image_px=config.vision.image_px,
            temporal_factor=config.temporal_factor,
            group_tokens=config.group_tokens,
            visual_token=token,
            **settings,
        )

    @property
    def visual_token_id(self) -> int:
        """The id at visual positions."""
        return int(self.tokenizer.convert_tokens_to_ids(self.visual_token))

    @property
    def time_tokens(self) -> int:
        """Positions of a time text below 10,000 seconds: 10 with Qwen's tokenizer."""
        return len(self.text_ids(self.time_format.format(0.0)))

    def __call__(
        self,
        conversations: Sequence[Message] | Sequence[Sequence[Message]],
        *,
        choice: FrameChoice | None = None,
        add_generation_prompt: bool | None = None,
        max_length: int | None = None,
    ) -> BatchFeature:
        """Prepare a batch.

        Args:
            conversations: one, or several of them.
            choice: which frames of video files are shown; None: the processor's defaults. A video
                part may have its own 'fps', 'num_frames' and 'max_frames', and 'time_s' of frames
                given as an array.
            add_generation_prompt: end with the beginning of an answer; None: where the last turn is
                the user's or a tool's.
            max_length: positions that a prompt may have; None: any number.

        Returns:
            batch: input_ids, attention_mask, token_kinds [B, P]; labels [B, P] where every
                conversation has an answer; frames, clip_frames, clip_is_image where there is a
                video or image. Padded at the end with labels, else at the beginning.

        Raises:
            UserError: a medium cannot be read, a turn is malformed, or a prompt exceeds
                `max_length`: nothing is ever cut off.
        """
        batch = batch_of(conversations)
        choice = choice or FrameChoice(fps=self.fps, max_frames=self.max_frames)
        visuals = [[self._read(p, choice) for p in visual_parts(c)] for c in batch]
        prompts = [
            self.prompt(
                conversation,
                [Clip(time_s_T=v.time_s_T.tolist(), is_image=v.is_image) for v in row],
                add_generation_prompt=add_generation_prompt,
                max_length=max_length,
            )
            for conversation, row in zip(batch, visuals, strict=True)
        ]
        return self.batch(prompts, [visual for row in visuals for visual in row])

    def prompt(
        self,
        conversation: Sequence[Message],
        clips: Sequence[Clip],
        *,
        add_generation_prompt: bool | None = None,
        reply_start: str = "",
        max_length: int | None = None,
        learns: Learns = "all",
    ) -> Prompt:
        """Tokenise one conversation, without its frames.

        Visual tokens are judged by one question: where an answer is asked for, by what it answers,
        which is the last question; else by the first, so that no later question decides what an
        earlier answer is learned from.

        Args:
            conversation: see the class.
            clips: of its videos and images, in their order.
            add_generation_prompt: see `__call__`.
            reply_start: what the answer is made to begin with, after a generation prompt.
            max_length: see `__call__`.
            learns: which answers are labels: 'all', or the 'last' one alone, by whose question
                visual tokens are then judged.

        Raises:
            UserError: see `__call__`.
        """
        turns = checked(conversation)
        if turns[0]["role"] != "system":
            turns = [{"role": "system", "content": self.system}, *turns]
        turns = with_tools_joined(turns)
        if add_generation_prompt is None:
            add_generation_prompt = turns[-1]["role"] in ("user", "tool")
        answers = [number for number, turn in enumerate(turns) if turn["role"] == "assistant"]
        labels = answers if learns == "all" else answers[-1:]
        judged_for = len(turns) if add_generation_prompt or not labels else labels[0]
        query = question_of(turns, judged_for)
        prompt, left = Prompt(), list(clips)
        start = self.tokenizer.convert_tokens_to_ids(START)
        for number, turn in enumerate(turns):
            kind = Kind.QUERY if number == query else Kind.TEXT
            self._add_turn(prompt, turn, left, kind, is_label=number in labels)
        if add_generation_prompt:
            prompt.add([start, *self.text_ids("assistant\n")], Kind.TEXT)
            prompt.add(self.text_ids(reply_start), Kind.TEXT)
        if max_length is not None and len(prompt.ids) > max_length:
            text = sum(kind in (Kind.TEXT, Kind.QUERY) for kind in prompt.kinds)
            raise UserError(
                f"a prompt takes {len(prompt.ids)} positions, {text} of them text; max_length is "
                f"{max_length}. Nothing is cut off: show fewer frames, or raise max_length."
            )
        return prompt

    def batch(self, prompts: Sequence[Prompt], visuals: Sequence[Visual] = ()) -> BatchFeature:
        """Stack prompts, and the frames of all their videos and images."""
        has_labels = all(any(x != IGNORED_LABEL for x in prompt.labels) for prompt in prompts)
        longest = max(len(prompt.ids) for prompt in prompts)
        pad_id = self.tokenizer.pad_token_id

        def stack(rows: Iterable[Sequence[int]], fill: int) -> Tensor:
            numbers = array("q")  # torch takes thrice as long over so many Python numbers
            for row in rows:
                missing = [fill] * (longest - len(row))
                numbers.extend([*row, *missing] if has_labels else [*missing, *row])
            return torch.frombuffer(numbers, dtype=torch.int64).view(-1, longest)

        data: dict[str, Any] = {
            "input_ids": stack((prompt.ids for prompt in prompts), pad_id),
            "attention_mask": stack(([1] * len(prompt.ids) for prompt in prompts), 0),
            "token_kinds": stack((prompt.kinds for prompt in prompts), int(Kind.TEXT)),
        }
        if has_labels:
            data["labels"] = stack((prompt.labels for prompt in prompts), IGNORED_LABEL)
        if visuals:
            data["frames"] = torch.cat([visual.frames_THWC for visual in visuals])
            data["clip_frames"] = torch.tensor([len(visual.time_s_T) for visual in visuals])
            data["clip_is_image"] = torch.tensor([visual.is_image for visual in visuals])
        return BatchFeature(data)

    def apply_chat_template(  # type: ignore[override]
        self,
        conversation: Sequence[Message],
        *,
        tokenize: bool = False,
        add_generation_prompt: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Write a conversation as text, or prepare it as a batch of one.

        Returns:
            The text, with one visual token for each video and image; with `tokenize`, what
            `__call__` gives.
        """
        if tokenize:
            return self(conversation, add_generation_prompt=add_generation_prompt)
        turns: Any = [dict(turn) for turn in conversation]
        return super().apply_chat_template(
            turns,
            add_generation_prompt=add_generation_prompt,
            system=self.system,
            visual_token=self.visual_token,
            **kwargs,
        )

    def _add_turn(
        self, prompt: Prompt, turn: Message, left: list[Clip], kind: Kind, *, is_label: bool
    ) -> None:
        """Add a turn; `left` are the clips from here on, of which its own are taken."""
        start, end = self.tokenizer.convert_tokens_to_ids([START, END])
        speaker = "user" if turn["role"] == "tool" else turn["role"]
        prompt.add([start, *self._often_ids(f"{speaker}\n")], Kind.TEXT)
        parts = parts_of(turn)
        for index, part in enumerate(parts):
            if part["type"] == "text":
                ids_of = self._often_ids if turn["role"] == "system" else self.text_ids
                prompt.add(ids_of(part["text"]), kind, is_label=is_label)
                continue
            self._add_clip(prompt, left.pop(0))
            if index + 1 < len(parts):
                prompt.add(self._often_ids("\n"), Kind.TEXT)
        prompt.add([end], Kind.TEXT, is_label=is_label)
        prompt.add(self._often_ids("\n"), Kind.TEXT)

    def _add_clip(self, prompt: Prompt, clip: Clip) -> None:
        num_told = 0
        for time_s in clip.time_s_T[:: self.temporal_factor]:
            num_before = bisect_left(clip.texts, time_s, key=lambda timed: timed[0])
            self._add_lines(prompt, clip.texts[num_told:num_before])
            num_told = num_before
            if not clip.is_image:
                prompt.add(self._often_ids(self.time_format.format(time_s)), Kind.TIME)
            kind = Kind.IMAGE if clip.is_image else Kind.VISUAL
            prompt.add([self.visual_token_id] * self.group_tokens, kind)
        self._add_lines(prompt, clip.texts[num_told:])

    def _add_lines(self, prompt: Prompt, texts: Iterable[tuple[float, str]]) -> None:
        for _, text in texts:
            prompt.add(self.text_ids(f"{text}\n"), Kind.TEXT)

    def _read(self, part: Message, choice: FrameChoice) -> Visual:
        if part["type"] == "image":
            return read_image(part["image"], frame_px=self.image_px)
        own = {k: part[k] for k in ("fps", "num_frames", "max_frames") if k in part}
        return read_video(
            part["video"],
            frame_px=self.image_px,
            choice=replace(choice, **own),
            time_s=part.get("time_s"),
        )

    def _often_ids(self, text: str) -> list[int]:
        """Tokenise what prompts are full of: who speaks, line breaks, times, the system turn."""
        if text not in self._ids_of:
            if len(self._ids_of) >= _MOST_KEPT:
                self._ids_of.clear()
            self._ids_of[text] = self.text_ids(text)
        return self._ids_of[text]

    def text_ids(self, text: str) -> list[int]:
        """Tokenise text by itself: nothing in it is taken for a special token."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)[
            "input_ids"
        ]
        return ids


AutoProcessor.register(VideoXLProConfig, VideoXLProProcessor)  # type: ignore[no-untyped-call]
