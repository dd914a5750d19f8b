"""How long the text of a row may be: what of it would end a training is found before it begins.

Of a prompt the model drops visual tokens, never text, nor images' tokens unless it is told to
(`SequenceBuilder`). So text, with its images, beyond `context_limit` cannot be trained on. Loads
torch only where a row has to be tokenised.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from vxp_data.conversation import Turn
from vxp_model.data.index import RowFacts
from vxp_model.errors import UserError
from vxp_model.models.prompt_bound import PromptBound
from vxp_model.models.video_xl_pro_shape import preset_shape
from vxp_model.settings.mllm import MllmRecipe, StartSettings

if TYPE_CHECKING:
    from vxp_model.models.processor import VideoXLProProcessor

SYSTEM: Final = "You are a helpful assistant."
"""Of a processor that nobody has given another."""
_TIME_BYTES: Final = 16
"""Of the text of a group's time, below a million seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextFacts:
    """What decides how long a row's text may be."""

    context_limit: int
    """Positions."""
    system: str = SYSTEM
    """Said before rows that have no system turn."""
    keeps_all_time: bool = False
    """Whether the time text of every group stays, whatever the selector leaves of it."""
    temporal_factor: int = 4
    """Frames of a group."""
    image_tokens: int = 0
    """Positions of an image, where none of them may be left out; else 0."""


class PromptLimit:
    """Says which rows are too long; see `data.row_check.TextLimit`.

    Args:
        context: of the model.
        open_processor: reads or makes the model's processor; called once, when a row's length has
            to be counted.
    """

    def __init__(
        self, context: ContextFacts, open_processor: Callable[[], VideoXLProProcessor]
    ) -> None:
        self.num_tokenised = 0
        """Rows that were counted so far."""
        self.context, self._open = context, open_processor
        self._bound = PromptBound(system=context.system)
        self._processor: VideoXLProProcessor | None = None

    def may_exceed(self, facts: RowFacts, num_frames_N: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Return which rows may be too long, by what the index says; no row too long is missed."""
        bound_N = self._bound.of_counts(
            text_bytes_N=facts.text_bytes_N,
            answer_bytes_N=facts.answer_bytes_N,
            num_answers_N=facts.num_answers_N,
            num_media_N=facts.num_media_N,
        )
        if self.context.keeps_all_time:
            groups_N = num_frames_N // self.context.temporal_factor + facts.num_media_N
            bound_N = bound_N + groups_N.astype(np.int64) * _TIME_BYTES
        # Which of the media are images, the index does not say.
        bound_N = bound_N + facts.num_media_N.astype(np.int64) * self.context.image_tokens
        return bound_N > self.context.context_limit

    def problem(self, turns: Sequence[Turn], media: Sequence[tuple[str, Sequence[float]]]) -> str:
        """Return what is wrong with a row's length; '' where it fits."""
        bound = self._bound.of_turns((turn.role.value, turn.text, turn.num_media) for turn in turns)
        if self.context.keeps_all_time:
            factor = self.context.temporal_factor
            bound += sum(math.ceil(len(times) / factor) * _TIME_BYTES for _, times in media)
        num_images = self.context.image_tokens * sum(kind == "image" for kind, _ in media)
        limit = self.context.context_limit
        if bound + num_images <= limit:
            return ""
        num_text = self._count(turns, media)
        if num_text + num_images <= limit:
            return ""
        images = f" and its images {num_images}" if num_images else ""
        return f"its text takes {num_text} positions{images}, more than context_limit {limit}"

    def _count(self, turns: Sequence[Turn], media: Sequence[tuple[str, Sequence[float]]]) -> int:
        from vxp_model.models.processor import Clip
        from vxp_model.models.visual_sequence import Kind
        from vxp_model.train.mllm.batches import messages

        if self._processor is None:
            self._processor = self._open()
        self.num_tokenised += 1
        clips = [Clip(time_s_T=times, is_image=kind == "image") for kind, times in media]
        conversation = messages(turns, shows_media=bool(media))
        prompt = self._processor.prompt(conversation, clips, add_generation_prompt=False)
        stays = {Kind.TEXT, Kind.QUERY} | ({Kind.TIME} if self.context.keeps_all_time else set())
        return sum(kind in stays for kind in prompt.kinds)


def context_of(recipe: MllmRecipe) -> ContextFacts | None:
    """Read what is known of a model before it is built; None where its folder is not there yet."""
    start = recipe.start
    shape = preset_shape(
        "3b" if start.model else start.preset, temporal_factor=start.temporal_factor
    )
    folder = start.model or start.llm
    if folder is not None and not (Path(folder) / "config.json").is_file():
        return None
    config = {} if folder is None else _read(Path(folder) / "config.json")
    limit = recipe.context_limit or config.get(
        "context_limit" if start.model else "max_position_embeddings", shape.context_limit
    )
    if start.model is None:
        image_tokens = 0 if recipe.selector.drops_images else shape.group_tokens
        return ContextFacts(
            context_limit=limit, temporal_factor=shape.temporal_factor, image_tokens=image_tokens
        )
    # A value that is the default is not written.
    side = config.get("grid", shape.grid) // config.get("pool_stride", shape.pool_stride)
    return ContextFacts(
        context_limit=limit,
        system=_read(Path(start.model) / "processor_config.json").get("system", SYSTEM),
        keeps_all_time=config.get("selector_keep_time") == "all",
        temporal_factor=config.get("temporal_factor", preset_shape("3b").temporal_factor),
        image_tokens=0 if recipe.selector.drops_images else side**2,
    )


def limit_before_start(recipe: MllmRecipe) -> PromptLimit | None:
    """Return the limit of a training that is not begun; None where its model is not there yet."""
    context = context_of(recipe)
    return None if context is None else PromptLimit(context, lambda: _processor(recipe.start))


def limit_of(config: Any, processor: VideoXLProProcessor) -> PromptLimit:
    """Return the limit of a model.

    Args:
        config: its VideoXLProConfig.
        processor: its own.
    """
    context = ContextFacts(
        context_limit=config.context_limit,
        system=processor.system,
        keeps_all_time=config.selector_keep_time == "all",
        temporal_factor=config.temporal_factor,
        image_tokens=0 if config.selector_drops_images else config.group_tokens,
    )
    return PromptLimit(context, lambda: processor)


def _read(path: Path) -> dict[str, Any]:
    """Read a JSON object; an empty one where there is no such file."""
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return values


def _processor(start: StartSettings) -> VideoXLProProcessor:
    """Read the processor with which a training would begin; its frames are not looked at.

    Raises:
        UserError: it is not there.
    """
    from transformers import AutoProcessor, AutoTokenizer

    from vxp_model.models.byte_tokenizer import byte_tokenizer
    from vxp_model.models.processor import VideoXLProProcessor

    folder = start.model or start.llm
    if folder is None and start.preset == "tiny":
        return VideoXLProProcessor(byte_tokenizer(), group_tokens=1)
    try:
        if start.model is not None:
            processor: VideoXLProProcessor = AutoProcessor.from_pretrained(start.model)  # type: ignore[no-untyped-call]
            return processor
        if folder is not None:
            return VideoXLProProcessor(AutoTokenizer.from_pretrained(folder), group_tokens=1)
    except (OSError, ValueError) as error:
        raise UserError(f"{folder!r} has no tokenizer that can be read: {error}") from error
    raise UserError(
        "rows are so long that they must be tokenised, and there is no tokenizer: name start.llm."
    )
