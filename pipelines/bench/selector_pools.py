"""Pools of rows for selector_board.py, in each of which something else makes rows redundant.

All but `cutouts` are of table7_clips.py's drawn clips: a coloured patch over a textured ground;
asked is which way it moves, or which colour it has first. Their held-out clips are active ones, as
many of each answer:

    static      half of the rows are about clips in which what is asked does not happen
    duplicates  half of the rows are copies, darker and coarsely encoded, of one in six clips
    told        half of the questions tell their answer
    unbalanced  four in five clips have the same ground, and 55 % the same answer; held-out clips
                have each ground and answer equally often
    noise       three in ten answers are wrong
    lengths     half of the clips are half as long, and of the same use; held-out clips likewise
    cutouts     of real videos (selector_cutouts.py)

Five are the ones that the verdict is about (PLANTED); `lengths` and `cutouts` are told beside.
Clips without a fault are shared by the pools of a seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from table7_clips import (
    COARSE_CRF,
    DARKER,
    FINE_CRF,
    LETTERS,
    NUM_FRAMES,
    QUESTIONS,
    SCENES,
    draw_clip,
)

PLANTED: Final = ("static", "duplicates", "told", "unbalanced", "noise")
DRAWN: Final = (*PLANTED, "lengths")
TASKS: Final = tuple(QUESTIONS)
SHARE_FAULTY: Final = 0.5
SHARE_WRONG: Final = 0.3
COPIED_SHARE: Final = 1 / 6
"""Of the clips that are there once, those that all copies are of."""
SCENE_SHARES: Final = (0.8, 0.2 / 3, 0.2 / 3, 0.2 / 3)
ANSWER_SHARES: Final = (0.55, 0.15, 0.15, 0.15)
SHORT_FRAMES: Final = NUM_FRAMES // 2
TELLING: Final = {
    "direction": "It moves {answer}. Which way does it move?",
    "order": "It is {answer} first. Which colour is first?",
}
"""Questions that tell their answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchClip:
    """One clip, and how it is encoded."""

    name: str
    frames_THWC: NDArray[np.uint8]
    crf: int = FINE_CRF


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRow:
    """One question about a clip, with the answer that it is trained on or asked for."""

    clip: BenchClip
    task: str
    question: str
    """What a model is told of the question: the task, or the task and what it tells."""
    words: str
    options: tuple[str, ...]
    answer: str
    is_faulty: bool = False
    """It is what the pool has too many of."""

    def exchange(self) -> list[dict[str, str]]:
        """Return question and answer as a row of LLaVA's."""
        asked = " ".join(
            f"({letter}) {option}" for letter, option in zip(LETTERS, self.options, strict=True)
        )
        return [
            {"from": "human", "value": f"<video>\n{self.words} {asked}"},
            {"from": "gpt", "value": LETTERS[self.options.index(self.answer)]},
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """What is chosen from, and what is asked of those who were trained on it."""

    rows: tuple[BenchRow, ...]
    heldout: tuple[BenchRow, ...]


class ClipSource:
    """Draws clips of one seed, each by its own name and numbers: a clip does not depend on others.

    Args:
        seed: of the pools.
        part: 'pool' or 'heldout'.
    """

    def __init__(self, seed: int, part: str) -> None:
        self._seed: Final = seed
        self._part: Final = part
        self._drawn: dict[tuple[Any, ...], BenchRow] = {}

    def row(
        self, number: int, task: str, answer: str, *, active: bool = True, scene: str = "stone",
        num_frames: int = NUM_FRAMES,
    ) -> BenchRow:  # fmt: skip
        """Return the row about the clip of a number and kind; the same one when asked again."""
        key = (number, task, answer, active, scene, num_frames)
        if key not in self._drawn:
            own = [self._seed, self._part == "heldout", number, TASKS.index(task),
                   QUESTIONS[task][1].index(answer), active, list(SCENES).index(scene),
                   num_frames]  # fmt: skip
            rng = np.random.default_rng([int(value) for value in own])
            clip = draw_clip(task, answer, active, rng, scene=scene, num_frames=num_frames)
            name = f"{self._part}{self._seed}-{number:04d}-{task[0]}{answer}-{scene}-{num_frames}"
            words, options = QUESTIONS[task]
            self._drawn[key] = BenchRow(
                clip=BenchClip(name=name if active else f"{name}-still",
                               frames_THWC=clip.frames_THWC),
                task=task, question=task, words=words, options=options, answer=answer,
            )  # fmt: skip
        return self._drawn[key]


def draw_pools(size: int, heldout: int, *, seed: int) -> dict[str, Pool]:
    """Draw the pools of DRAWN.

    Args:
        size: rows of each.
        heldout: questions that are asked about each.
        seed: of all that is drawn.
    """
    source, asked = ClipSource(seed, "pool"), ClipSource(seed, "heldout")
    pools = {}
    for position, name in enumerate(DRAWN):
        rng = np.random.default_rng([seed, position])
        make = {"static": _static, "duplicates": _duplicates, "told": _told,
                "unbalanced": _unbalanced, "noise": _noise, "lengths": _lengths}[name]  # fmt: skip
        pools[name] = Pool(
            rows=tuple(make(size, source, rng)), heldout=tuple(_heldout(name, heldout, asked))
        )
    return pools


def kinds(count: int) -> list[tuple[int, str, str]]:
    """Return (number, task, answer): as many of each answer as can be."""
    every = [(task, answer) for task, (_, options) in QUESTIONS.items() for answer in options]
    return [(number, *every[number % len(every)]) for number in range(count)]


def _heldout(pool: str, count: int, source: ClipSource) -> list[BenchRow]:
    rows = []
    for number, task, answer in kinds(count):
        turn = number // 8  # once all answers were asked
        scene = list(SCENES)[turn % len(SCENES)] if pool == "unbalanced" else "stone"
        short = pool == "lengths" and turn % 2 == 0
        rows.append(source.row(number, task, answer, scene=scene,
                               num_frames=SHORT_FRAMES if short else NUM_FRAMES))  # fmt: skip
    return rows


def _static(size: int, source: ClipSource, rng: np.random.Generator) -> list[BenchRow]:
    still = _some(size, SHARE_FAULTY, rng)
    return [
        replace(source.row(*kind, active=kind[0] not in still), is_faulty=kind[0] in still)
        for kind in kinds(size)
    ]


def _duplicates(size: int, source: ClipSource, rng: np.random.Generator) -> list[BenchRow]:
    once = [source.row(*kind) for kind in kinds(size - round(size * SHARE_FAULTY))]
    copied = rng.permutation(len(once))[: round(len(once) * COPIED_SHARE)]
    rows = list(once)
    for number in range(size - len(once)):
        row = once[copied[number % len(copied)]]
        frames_THWC = (row.clip.frames_THWC * rng.uniform(*DARKER)).astype(np.uint8)
        clip = BenchClip(
            name=f"{row.clip.name}-copy{number}", frames_THWC=frames_THWC, crf=COARSE_CRF
        )
        rows.append(replace(row, clip=clip, is_faulty=True))
    return rows


def _told(size: int, source: ClipSource, rng: np.random.Generator) -> list[BenchRow]:
    telling = _some(size, SHARE_FAULTY, rng)
    rows = []
    for kind in kinds(size):
        row = source.row(*kind)
        if kind[0] in telling:
            words = TELLING[row.task].format(answer=row.answer)
            row = replace(row, words=words, question=words, is_faulty=True)
        rows.append(row)
    return rows


def _unbalanced(size: int, source: ClipSource, rng: np.random.Generator) -> list[BenchRow]:
    rows = []
    for number, task, _ in kinds(size):
        # Another answer is the frequent one with each seed's draw of the order.
        answer = str(rng.choice(list(QUESTIONS[task][1]), p=ANSWER_SHARES))
        scene = str(rng.choice(list(SCENES), p=SCENE_SHARES))
        is_faulty = scene == "stone" and answer == QUESTIONS[task][1][0]
        rows.append(replace(source.row(number, task, answer, scene=scene), is_faulty=is_faulty))
    return rows


def _noise(size: int, source: ClipSource, rng: np.random.Generator) -> list[BenchRow]:
    wrong = _some(size, SHARE_WRONG, rng)
    rows = []
    for kind in kinds(size):
        row = source.row(*kind)
        if kind[0] in wrong:
            others = [option for option in row.options if option != row.answer]
            row = replace(row, answer=str(rng.choice(others)), is_faulty=True)
        rows.append(row)
    return rows


def _lengths(size: int, source: ClipSource, rng: np.random.Generator) -> list[BenchRow]:
    short = _some(size, SHARE_FAULTY, rng)
    rows = []
    for kind in kinds(size):
        num_frames = SHORT_FRAMES if kind[0] in short else NUM_FRAMES
        row = source.row(*kind, num_frames=num_frames)
        rows.append(replace(row, is_faulty=kind[0] in short))
    return rows


def _some(size: int, share: float, rng: np.random.Generator) -> set[int]:
    """Draw a share of the numbers below `size`."""
    return set(rng.permutation(size)[: round(size * share)].tolist())


def questions_of(rows: Sequence[BenchRow]) -> tuple[str, ...]:
    """Return what models are told of questions, each once."""
    return tuple(sorted({row.question for row in rows}))
