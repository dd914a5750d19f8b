"""Watch a video once, then answer questions about it.

    model = LongVideoModel.load("runs/sft/model")
    video = model.watch("talk.mp4", FrameChoice(fps=1, max_frames=8192))
    print(model.ask(video, "What is on the last slide?").text)

Frames are decoded and encoded a few at a time and never all held; what is kept of a video are its
visual tokens. The selection depends on the question, so that each question reads the prompt anew.

Shape suffixes: F frames of a video, G groups, N tokens of a group, D the language model's width.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from transformers import AutoProcessor
from transformers.cache_utils import Cache
from transformers.utils.import_utils import is_flash_attn_2_available

from vxp_model.data.frames import FrameOptions
from vxp_model.data.video import VideoFile
from vxp_model.data.visuals import FrameChoice
from vxp_model.errors import UserError
from vxp_model.inference.prefill import CHUNK_POSITIONS, cached_positions, prefill
from vxp_model.models.processor import Clip, VideoXLProProcessor
from vxp_model.models.video_xl_pro import VideoXLProForConditionalGeneration
from vxp_model.models.visual_sequence import VisualSequence

Progress = Callable[[str, int, int], None]
"""(what is being done, how much of it is done, how much there is)."""

UNLIMITED = 1 << 60
"""A context limit that no prompt reaches."""

DEFAULT_CHOICE = FrameChoice()


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedVideo:
    """What is kept of a video."""

    uri: str
    tokens_GND: Tensor
    time_s_F: tuple[float, ...]
    """When the frames that were looked at are shown, seconds."""
    duration_s: float
    encode_s: float
    """Seconds it took."""
    peak_bytes: int
    """Greatest memory until then; see `Answer.peak_bytes`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer, and what it took."""

    text: str
    num_frames: int
    num_visual: int
    """Visual tokens of the video."""
    num_kept: int
    """Visual tokens that the language model got."""
    num_positions: int
    """Of the prompt, after selection."""
    num_cached: int
    """Positions of it whose keys and values were kept: one less, or fewer with a window."""
    first_kept_s: float
    """Time of the first group of which a token was kept."""
    last_kept_s: float
    num_new: int
    """Tokens of the answer."""
    select_s: float
    prefill_s: float
    decode_s: float
    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    peak_bytes: int
    """Greatest memory so far: of the device; on a CPU, of the process."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


class LongVideoModel:
    """A model and its processor, for one video at a time."""

    def __init__(
        self, model: VideoXLProForConditionalGeneration, processor: VideoXLProProcessor
    ) -> None:
        model.train(False)
        self.model = model
        self.processor = processor

    @classmethod
    def load(
        cls,
        folder: Path | str,
        *,
        device: str = "auto",
        dtype: str = "auto",
        attention: str = "auto",
        context_limit: int | None = None,
    ) -> Self:
        """Read a model that `save_pretrained` wrote, with its processor.

        Args:
            folder: of both.
            device: 'cuda', 'cpu', ...; 'auto': a GPU where there is one.
            dtype: 'bfloat16', 'float32'; 'auto': bfloat16 on a GPU, else float32.
            attention: 'sdpa', 'flash_attention_2'; 'auto': the latter where it is installed.
            context_limit: instead of the model's own; `UNLIMITED` for none.

        Raises:
            UserError: there is no such model, or it is not whole.
        """
        folder = Path(folder)
        if not (folder / "config.json").is_file():
            raise UserError(f"{str(folder)!r} holds no model: there is no config.json.")
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if dtype == "auto":
            dtype = "bfloat16" if device.startswith("cuda") else "float32"
        if attention == "auto":
            flash = device.startswith("cuda") and is_flash_attn_2_available()
            attention = "flash_attention_2" if flash else "sdpa"
        model = VideoXLProForConditionalGeneration.from_pretrained(
            folder, dtype=getattr(torch, dtype), attn_implementation=attention
        )
        if context_limit is not None:
            model.config.context_limit = context_limit
        processor = AutoProcessor.from_pretrained(folder)  # type: ignore[no-untyped-call]
        return cls(model.to(device), processor)

    @torch.no_grad()
    def watch(
        self,
        uri: Path | str,
        choice: FrameChoice = DEFAULT_CHOICE,
        *,
        progress: Progress | None = None,
    ) -> WatchedVideo:
        """Decode and encode a video's frames, a few at a time.

        Args:
            uri: a path, or a URI of an object store.
            choice: which frames.
            progress: told after every piece, in frames.

        Raises:
            UserError: it cannot be read.
        """
        config, began_s = self.model.config, time.monotonic()
        options = FrameOptions(frame_px=config.vision.image_px)
        with VideoFile(uri, options=options) as file:
            plan = file.plan(
                fps=choice.fps, num_frames=choice.num_frames, max_frames=choice.max_frames
            )
            # Whole groups, or frames of two pieces would have to be compressed together.
            piece = max(1, config.chunk_frames // config.temporal_factor) * config.temporal_factor
            pieces = file.pieces(plan.frame_index_F, piece_frames=piece)
            tokens_GND = self.encode(
                (torch.from_numpy(frames_THWC) for frames_THWC in pieces),
                num_frames=len(plan),
                progress=progress,
            )
            return WatchedVideo(
                uri=str(uri),
                tokens_GND=tokens_GND,
                time_s_F=tuple(plan.time_s_F.tolist()),
                duration_s=file.probe.media.duration_s,
                encode_s=time.monotonic() - began_s,
                peak_bytes=peak_bytes(self.model.device),
            )

    @torch.no_grad()
    def encode(
        self, pieces: Iterator[Tensor], *, num_frames: int, progress: Progress | None = None
    ) -> Tensor:
        """Encode the frames of one video.

        Args:
            pieces: uint8 [T, H, W, 3] each, T a multiple of the model's temporal factor in all but
                the last.
            num_frames: of all pieces.
            progress: told after every piece, in frames.

        Returns:
            tokens_GND: filled piece by piece, so that there is never a second copy of it.
        """
        model = self.model
        num_groups = -(-num_frames // model.config.temporal_factor)
        tokens_GND = torch.empty(
            (num_groups, model.config.group_tokens, model.config.text_width),
            dtype=model.dtype,
            device=model.device,
        )
        group = done = 0
        for frames_THWC in pieces:
            part_GND = model.vision(frames_THWC, [len(frames_THWC)])
            tokens_GND[group : group + len(part_GND)] = part_GND
            group, done = group + len(part_GND), done + len(frames_THWC)
            if progress is not None:
                progress("encoding frames", done, num_frames)
        return tokens_GND

    @torch.no_grad()
    def ask(
        self,
        video: WatchedVideo,
        question: str,
        *,
        history: Sequence[tuple[str, str]] = (),
        max_new_tokens: int = 256,
        keep_ratio: float | None = None,
        chunk_positions: int = CHUNK_POSITIONS,
        window: int | None = None,
        progress: Progress | None = None,
        **options: Any,
    ) -> Answer:
        """Answer a question.

        Args:
            video: what `watch` gave.
            question: alone decides which visual tokens stay.
            history: questions and answers before it.
            max_new_tokens: longest answer; room for it is kept below the context limit.
            keep_ratio: keep this share of the visual tokens; None: as many as the limit allows.
            chunk_positions: of the prompt read at once.
            window: while reading, keep so many of the last visual tokens in the cache and forget
                those before: memory and time stay bounded, and answers are about what came last,
                but for what the time texts have kept of the rest. None: all stay.
            progress: told after every piece, in positions.
            options: for transformers' `generate`; without, the likeliest token is taken each time.

        Raises:
            UserError: text alone exceeds the context limit.
        """
        model, began_s = self.model, time.monotonic()
        prompt = self.processor.prompt(
            conversation(question, history), [Clip(time_s_T=video.time_s_F)]
        )
        batch = self.processor.batch([prompt]).to(model.device)
        sequence = model.sequence(
            **batch,
            visual_tokens=video.tokens_GND,
            room=max_new_tokens,
            keep_ratio=keep_ratio,
        )
        selected_s, num_positions = time.monotonic(), sequence.embeds_BPD.shape[1]
        # All but the last position: `generate` reads that one, and takes the first token from it.
        cache = self._read(
            sequence, chunk_positions=chunk_positions, window=window, progress=progress
        )
        num_cached = cached_positions(cache)
        # A GPU works on by itself: without waiting, the clock would stop before the work does.
        _wait(model.device)
        read_s = time.monotonic()
        ids = model.language_model.generate(
            inputs_embeds=sequence.embeds_BPD,
            attention_mask=sequence.attention_mask_BP,
            past_key_values=cache,
            max_new_tokens=max_new_tokens,
            **({"do_sample": False} | self._ends() | options),
        )
        answered_s = time.monotonic()
        (selection,) = sequence.selections
        kept = torch.nonzero(selection.kept_G)[:, 0].tolist()
        # A group counts as shown when its first frame is.
        shown_s = video.time_s_F[:: model.config.temporal_factor]
        return Answer(
            text=self.processor.tokenizer.decode(ids[0], skip_special_tokens=True).strip(),
            num_frames=len(video.time_s_F),
            num_visual=selection.num_visual,
            num_kept=selection.num_kept,
            num_positions=num_positions,
            num_cached=num_cached,
            first_kept_s=shown_s[kept[0]] if kept else 0.0,
            last_kept_s=shown_s[kept[-1]] if kept else 0.0,
            num_new=ids.shape[1],
            select_s=selected_s - began_s,
            prefill_s=read_s - selected_s,
            decode_s=answered_s - read_s,
            prefill_tokens_per_s=num_positions / max(read_s - selected_s, 1e-9),
            decode_tokens_per_s=ids.shape[1] / max(answered_s - read_s, 1e-9),
            peak_bytes=peak_bytes(model.device),
        )

    def _read(
        self,
        sequence: VisualSequence,
        *,
        chunk_positions: int,
        window: int | None,
        progress: Progress | None,
    ) -> Cache:
        """Read all but the last position of a prompt into a cache; see `ask`."""
        num_positions = sequence.embeds_BPD.shape[1]

        def told(done: int) -> None:
            if progress is not None:
                progress("reading the prompt", done, num_positions)

        return prefill(
            self.model.language_model,
            sequence.embeds_BPD,
            chunk_positions=chunk_positions,
            is_visual_P=sequence.is_visual_BP[0],
            window=window,
            progress=told,
        )

    def _ends(self) -> dict[str, int]:
        """Return the tokens that end an answer and that fill up, where the model does not tell."""
        tokenizer, config = self.processor.tokenizer, self.model.generation_config
        ends = {"pad_token_id": tokenizer.pad_token_id or 0}
        if config.eos_token_id is None:
            ends["eos_token_id"] = tokenizer.convert_tokens_to_ids("<|im_end|>")
        else:
            ends["eos_token_id"] = config.eos_token_id
        return ends


def conversation(question: str, history: Sequence[tuple[str, str]] = ()) -> list[dict[str, Any]]:
    """Write questions and answers as turns, the video at the beginning of the first question."""
    turns: list[dict[str, Any]] = []
    for asked, answered in history:
        turns += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    turns.append({"role": "user", "content": question})
    video, text = {"type": "video", "video": None}, {"type": "text", "text": turns[0]["content"]}
    turns[0] = {"role": "user", "content": [video, text]}
    return turns


def peak_bytes(device: torch.device) -> int:
    """Return the greatest memory so far: allocated on a GPU, else resident in this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # KiB on Linux, bytes on macOS.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
