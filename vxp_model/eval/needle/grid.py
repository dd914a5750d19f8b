"""The trials: how long a haystack, where in it which needle, what is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from vxp_model.eval.adapters.base import FrameSource
from vxp_model.eval.benchmarks.base import Prompt
from vxp_model.eval.benchmarks.mlvu import SYSTEM
from vxp_model.eval.needle.haystack import DrawnFilm, FileFilm, Haystack
from vxp_model.eval.needle.needles import (
    LETTERS,
    Needle,
    NeedleQuestion,
    draw_chain,
    draw_needle,
)
from vxp_model.eval.needle.placement import HaystackVideo, Mode, Placement, at_depth, place, spread
from vxp_model.settings.needle import NeedleRecipe

REPLY_START: Final = "Best Option: ("
_LETTER_TOKENS: Final = 16
_WORD_TOKENS: Final = 32


def mlvu_prompt(question: NeedleQuestion) -> Prompt:
    """Return a question with lettered options, as MLVU has them; Video-XL's models are asked so."""
    options = "\n".join(f"({a}) {b}" for a, b in zip(LETTERS, question.options, strict=False))
    return Prompt(
        text=f"Question: {question.text}\nOptions:\n{options}\nOnly give the best option.",
        system=SYSTEM,
        reply_start=REPLY_START,
        max_new_tokens=_LETTER_TOKENS,
        choices=tuple(LETTERS[: len(question.options)]),
    )


def open_prompt(question: NeedleQuestion) -> Prompt:
    """Return a question without options, whose gold answer is forced on the model, as LongVA's."""
    return Prompt(
        text=f"{question.text}\nAnswer the question using a single word or phrase.",
        max_new_tokens=_WORD_TOKENS,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One question about one video."""

    length: int
    """Frames of the haystack."""
    depth: float | None
    """Of the needle, share of the haystack before it; None: a chain, spread over all of it."""
    needle: str
    question: NeedleQuestion
    seed: int
    offset: int | None
    """Place in its group to which it was moved."""
    is_control: bool
    """Whether the needle was left out."""
    is_chain: bool
    placement: Placement
    frames_per_group: int
    needle_digest: str
    haystack: Mapping[str, Any]
    """Its identity."""
    prompt: Prompt
    """With options."""
    open: Prompt
    """Without."""

    def describe(self) -> dict[str, Any]:
        """Return what tells this trial from others, beside its prompts; JSON."""
        return {
            "length": self.length,
            "depth": self.depth,
            "needle": self.needle,
            "question": self.question.name,
            "seed": self.seed,
            "offset": self.offset,
            "is_control": self.is_control,
            "is_chain": self.is_chain,
            "mode": self.placement.mode,
            "at": list(self.placement.at),
            "in_group": [index % self.frames_per_group for index in self.placement.at],
            "frames": self.placement.num_frames,
            "options": list(self.question.options),
            "gold": self.question.gold,
        }

    @property
    def groups(self) -> tuple[int, ...]:
        """Groups of frames with a needle."""
        return self.placement.groups(self.frames_per_group)


@dataclass(frozen=True, slots=True, kw_only=True)
class Showing:
    """One video, and all that is asked about it after it has been looked at once."""

    source: FrameSource
    trials: tuple[Trial, ...]
    other: Prompt | None = None
    """A question about something that is not there: of the next needle of the grid. None: there is
    no other needle, or it is asked for in the same words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Every length with every depth, needle, offset and seed; chains once a length."""

    lengths: Sequence[int]
    depths: Sequence[float]
    haystack: Callable[[int], Haystack]
    """Of a seed."""
    needles: Callable[[int], Sequence[Needle]]
    """Of a seed."""
    seeds: Sequence[int] = (0,)
    offsets: Sequence[int | None] = (None,)
    mode: Mode = "insert"
    has_control: bool = True
    """Ask everything about each haystack without a needle too."""
    frames_per_group: int = 4
    """That the model encodes together; offsets count in it."""
    prompt: Callable[[NeedleQuestion], Prompt] = mlvu_prompt
    open: Callable[[NeedleQuestion], Prompt] = open_prompt

    def showings(self) -> Iterator[Showing]:
        """Return the videos, shortest first, each with its questions: always in this order."""
        for seed in self.seeds:
            haystack, needles = self.haystack(seed), list(self.needles(seed))
            for length in self.lengths:
                if self.has_control:
                    yield self._control(haystack, needles, length, seed)
                for number, needle in enumerate(needles):
                    depths = (None,) if needle.is_chain else self.depths
                    for depth in depths:
                        for offset in self.offsets:
                            yield self._showing(
                                haystack, needles, number, length, depth, seed, offset
                            )

    def _control(
        self, haystack: Haystack, needles: Sequence[Needle], length: int, seed: int
    ) -> Showing:
        placement = Placement(length=length, mode=self.mode)
        source = HaystackVideo(haystack, placement, name=f"control-{length}-seed{seed}")
        trials = [
            trial
            for needle in needles
            for trial in self._trials(haystack, needle, placement, None, seed, None, control=True)
        ]
        return Showing(source=source, trials=tuple(trials))

    def _showing(
        self,
        haystack: Haystack,
        needles: Sequence[Needle],
        number: int,
        length: int,
        depth: float | None,
        seed: int,
        offset: int | None,
    ) -> Showing:
        needle, following = needles[number], needles[(number + 1) % len(needles)]
        num = len(needle.images)
        placement = place(
            length,
            spread(length, num) if depth is None else at_depth(length, depth),
            mode=self.mode,
            num_each=1 if depth is None else num,
            offset=offset,
            frames_per_group=self.frames_per_group,
        )
        where = "chain" if depth is None else f"depth{depth:g}"
        moved = "" if offset is None else f"-offset{offset}"
        name = f"{needle.name}-{length}-{where}{moved}-seed{seed}"
        source = HaystackVideo(haystack, placement, needle.images, name=name)
        trials = self._trials(haystack, needle, placement, depth, seed, offset, control=False)
        other = self.prompt(following.questions[0])
        is_same = other in [self.prompt(question) for question in needle.questions]
        return Showing(source=source, trials=tuple(trials), other=None if is_same else other)

    def _trials(
        self,
        haystack: Haystack,
        needle: Needle,
        placement: Placement,
        depth: float | None,
        seed: int,
        offset: int | None,
        *,
        control: bool,
    ) -> Iterator[Trial]:
        for question in needle.questions:
            yield Trial(
                length=placement.length,
                depth=depth,
                needle=needle.name,
                question=question,
                seed=seed,
                offset=offset,
                is_control=control,
                is_chain=needle.is_chain,
                placement=placement,
                frames_per_group=self.frames_per_group,
                needle_digest=needle.digest,
                haystack=haystack.identity,
                prompt=self.prompt(question),
                open=self.open(question),
            )


def grid_of(recipe: NeedleRecipe, *, frames_per_group: int) -> Grid:
    """Return the grid of a recipe.

    Args:
        recipe: the settings.
        frames_per_group: frames that the model encodes together.

    Raises:
        UserError: the film cannot be read.
    """
    film = None if recipe.film is None else FileFilm(recipe.film)

    def haystack(seed: int) -> Haystack:
        return film or DrawnFilm(seed=seed, side_px=recipe.film_px)

    def needles(seed: int) -> list[Needle]:
        side_px = recipe.film_px
        single = [draw_needle(name, seed=seed, side_px=side_px) for name in recipe.needles]
        chains = [draw_chain(count, seed=seed, side_px=side_px) for count in recipe.chains]
        return single + chains

    return Grid(
        lengths=recipe.resolved_lengths,
        depths=recipe.resolved_depths,
        haystack=haystack,
        needles=needles,
        seeds=recipe.seeds,
        offsets=recipe.offsets,
        mode=recipe.mode,
        has_control=recipe.control,
        frames_per_group=frames_per_group,
    )
