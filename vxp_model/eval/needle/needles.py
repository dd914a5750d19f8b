"""Needles: drawn signs with a question that no other frame answers, and chains of such signs.

All is drawn in a bitmap font, so that the same seed gives the same pixels wherever it runs.

Shape suffixes: H x W pixels, C = 3 (red, green, blue).
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from vxp_model.errors import UserError

LETTERS: Final = "ABCD"
LEAST_PX: Final = 96
"""Side of a frame in which the longest line of a sign can be read."""
CHAIN_IMAGES: Final = (5, 6, 7)
"""Signs of a chain; VideoChat-Flash's have as many."""
COLOURS: Final[Mapping[str, tuple[int, int, int]]] = {
    "red": (220, 30, 30),
    "green": (30, 160, 50),
    "blue": (40, 60, 220),
    "yellow": (245, 215, 30),
    "orange": (245, 130, 20),
    "purple": (130, 40, 160),
}
SHAPES: Final = ("disc", "square", "triangle", "star", "cross", "ring")
WORDS: Final = ("RIVER", "LEMON", "TIGER", "PIANO", "CLOUD", "BREAD", "HORSE", "CANDLE")
_BLACK: Final = (0, 0, 0)
_WHITE: Final = (255, 255, 255)


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedleQuestion:
    """What is asked about a needle."""

    name: str
    """Of the question among its needle's."""
    text: str
    options: tuple[str, ...]
    gold: str
    """The right option's letter."""

    @property
    def gold_text(self) -> str:
        """The right option itself."""
        return self.options[LETTERS.index(self.gold)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Needle:
    """An image, a short clip, or a chain of images that lead from one to the next."""

    name: str
    """Unique among the needles of a grid."""
    images: tuple[NDArray[np.uint8], ...]
    """HWC each, in the order in which the video shows them."""
    questions: tuple[NeedleQuestion, ...]
    reading: tuple[int, ...] = ()
    """Of a chain, whose images are spread over the whole video: which of them is to be read first,
    second, ...; not their order in the video. Empty: they are shown one right after the other."""

    @property
    def is_chain(self) -> bool:
        """Whether the images are spread over the whole video."""
        return bool(self.reading)

    @property
    def digest(self) -> str:
        """Of all pixels."""
        digest = hashlib.sha256()
        for image_HWC in self.images:
            digest.update(repr(image_HWC.shape).encode())
            digest.update(np.ascontiguousarray(image_HWC).tobytes())
        return digest.hexdigest()[:16]


def draw_needle(name: str, *, seed: int, side_px: int) -> Needle:
    """Draw one of `SINGLE`: what is written on it, and among which options, the seed decides.

    The right letter goes round with the seed and from needle to needle.

    Raises:
        UserError: the frame is too small to be read.
    """
    _require_room(side_px)
    place = list(SINGLE).index(name)
    rng = np.random.default_rng([seed, place])
    sign = _Sign(side_px)
    text, options, answer = SINGLE[name](rng, sign)
    question = _question("question", text, options, answer, rng, gold=(place + seed) % len(LETTERS))
    return Needle(name=name, images=(sign.pixels(),), questions=(question,))


def draw_chain(num_images: int, *, seed: int, side_px: int) -> Needle:
    """Draw signs each of which names the next, from one that the question tells to the needle.

    The needle's own line leads back into the chain: nothing but following tells which it is. The
    video shows the signs in another order than that in which they lead to each other.

    Args:
        num_images: signs, 3 or more.
        seed: of names, numbers and both orders.
        side_px: of the square frames.

    Raises:
        UserError: the frame is too small to be read.
    """
    _require_room(side_px)
    rng = np.random.default_rng([seed, len(SINGLE) + num_images])
    names = [f"{colour} {shape}" for colour, shape in itertools.product(COLOURS, SHAPES)]
    signs = [names[i] for i in rng.permutation(len(names))[:num_images]]
    numbers = [str(n) for n in rng.permutation(np.arange(10, 100))[:num_images]]
    following = [*signs[1:], signs[int(rng.integers(1, num_images - 1))]]
    images = [_chain_sign(*of, side_px) for of in zip(signs, numbers, following, strict=True)]
    shown = _another_order(rng, num_images)  # shown[i]: which sign the video shows as its i-th
    steps = num_images - 1
    lead = (
        f"Begin at the sign named {signs[0].upper()}. Each sign names the next one. Go on from "
        f"sign to sign {steps} times."
    )
    gold = (seed + num_images) % len(LETTERS)
    questions = (
        _question("sign", f"{lead} Which sign do you reach?", signs[1:], signs[-1], rng, gold=gold),
        _question(
            "number",
            f"{lead} Which number stands on the sign that you reach?",
            numbers[1:],
            numbers[-1],
            rng,
            gold=(gold + 1) % len(LETTERS),
        ),
    )
    return Needle(
        name=f"chain{num_images}",
        images=tuple(images[sign] for sign in shown),
        questions=questions,
        reading=tuple(shown.index(sign) for sign in range(num_images)),
    )


class _Sign:
    """A frame that is drawn on, in shares of its side."""

    def __init__(self, side_px: int) -> None:
        self.side_px = side_px
        self._image = Image.new("RGB", (side_px, side_px))
        self._pen = ImageDraw.Draw(self._image)

    def ground(self, colour: tuple[int, int, int], edge: tuple[int, int, int]) -> None:
        """Fill the frame, with an edge around it."""
        side_px = self.side_px
        width_px = max(1, side_px // 20)
        self._pen.rectangle((0, 0, side_px - 1, side_px - 1), colour, edge, width_px)

    def write(self, text: str, y: float, height: float, colour: tuple[int, int, int]) -> None:
        """Write a line in the middle, as high as it may be and no wider than the sign."""
        font = ImageFont.load_default_imagefont()
        left, top, right, bottom = font.getbbox(text)
        line = Image.new("L", (int(right - left), int(bottom - top)))
        ImageDraw.Draw(line).text((-left, -top), text, 255, font)
        zoom = min(self.side_px * height / line.height, self.side_px * 0.86 / line.width)
        zoom = math.floor(zoom) if zoom >= 1 else zoom
        size = (max(1, int(line.width * zoom)), max(1, int(line.height * zoom)))
        large = line.resize(size, Image.Resampling.NEAREST)
        corner = ((self.side_px - size[0]) // 2, round(self.side_px * y) - size[1] // 2)
        self._image.paste(Image.new("RGB", size, colour), corner, large)

    def shape(
        self, kind: str, x: float, y: float, radius: float, colour: tuple[int, int, int]
    ) -> None:
        """Draw a shape of SHAPES around a point."""
        x, y, radius = x * self.side_px, y * self.side_px, radius * self.side_px
        box = (x - radius, y - radius, x + radius, y + radius)
        if kind == "disc":
            self._pen.ellipse(box, colour)
        elif kind == "ring":
            self._pen.ellipse(box, outline=colour, width=max(1, round(radius / 3)))
        elif kind == "cross":
            arm = radius / 3
            self._pen.rectangle((x - arm, y - radius, x + arm, y + radius), colour)
            self._pen.rectangle((x - radius, y - arm, x + radius, y + arm), colour)
        else:
            corners = _CORNERS[kind]
            self._pen.polygon([(x + radius * dx, y + radius * dy) for dx, dy in corners], colour)

    def pixels(self) -> NDArray[np.uint8]:
        """Return what was drawn, HWC."""
        return np.asarray(self._image)


def _around(radii: Sequence[float], turn: float) -> list[tuple[float, float]]:
    angles = [turn + 2 * math.pi * k / len(radii) for k in range(len(radii))]
    return [(r * math.cos(a), r * math.sin(a)) for r, a in zip(radii, angles, strict=True)]


_CORNERS: Final = {
    "square": _around([1.0] * 4, math.pi / 4),
    "triangle": _around([1.0] * 3, -math.pi / 2),
    "star": _around([1.0, 0.4] * 5, -math.pi / 2),
}
_Drawn = tuple[str, list[str], str]
"""(question, what may be the answer, the answer)."""


def _number(rng: np.random.Generator, sign: _Sign) -> _Drawn:
    numbers = [str(n) for n in rng.permutation(np.arange(100, 1000))[: len(LETTERS)]]
    sign.ground(COLOURS["yellow"], _BLACK)
    sign.write(numbers[0], 0.5, 0.5, _BLACK)
    return "Find the frame with the large yellow sign. Which number is on it?", numbers, numbers[0]


def _word(rng: np.random.Generator, sign: _Sign) -> _Drawn:
    word = str(rng.choice(WORDS))
    sign.ground(_BLACK, _WHITE)
    sign.write(word, 0.5, 0.4, _WHITE)
    return "Find the frame with the black board. Which word is on it?", list(WORDS), word


def _one_shape(rng: np.random.Generator, sign: _Sign) -> _Drawn:
    shape = str(rng.choice(SHAPES))
    sign.ground(_WHITE, _BLACK)
    sign.shape(shape, 0.5, 0.5, 0.34, _BLACK)
    text = "Find the frame with a white sign and one black shape on it. Which shape is it?"
    return text, list(SHAPES), shape


def _colour(rng: np.random.Generator, sign: _Sign) -> _Drawn:
    colour = str(rng.choice(list(COLOURS)))
    sign.ground(COLOURS[colour], _WHITE)
    sign.write("EXIT", 0.5, 0.4, _WHITE)
    return "Find the frame with the word EXIT. Which colour is the sign?", list(COLOURS), colour


def _count(rng: np.random.Generator, sign: _Sign) -> _Drawn:
    count = int(rng.integers(1, 7))
    sign.ground(COLOURS["blue"], _WHITE)
    cells = [(x, y) for y in (0.25, 0.5, 0.75) for x in (0.25, 0.5, 0.75)]
    for cell in rng.permutation(len(cells))[:count]:
        x, y = cells[cell]
        sign.shape("disc", x, y, 0.09, _WHITE)
    text = "Find the frame with white dots on a blue sign. How many dots are there?"
    return text, [str(n) for n in range(1, 7)], str(count)


SINGLE: Final[Mapping[str, Callable[[np.random.Generator, _Sign], _Drawn]]] = {
    "number": _number,
    "word": _word,
    "shape": _one_shape,
    "colour": _colour,
    "count": _count,
}
"""Needles of one image."""


def _chain_sign(name: str, number: str, following: str, side_px: int) -> NDArray[np.uint8]:
    """Draw a sign of a chain: its name in letters and as a shape, its number, the next one."""
    sign = _Sign(side_px)
    sign.ground(_WHITE, _BLACK)
    colour, shape = name.split()
    sign.write(name.upper(), 0.15, 0.16, _BLACK)
    sign.shape(shape, 0.5, 0.37, 0.12, COLOURS[colour])
    sign.write(number, 0.6, 0.16, _BLACK)
    sign.write("NEXT:", 0.74, 0.1, _BLACK)
    sign.write(following.upper(), 0.86, 0.14, _BLACK)
    return sign.pixels()


def _question(
    name: str,
    text: str,
    may_be: Sequence[str],
    answer: str,
    rng: np.random.Generator,
    *,
    gold: int,
) -> NeedleQuestion:
    """Write a question with the answer in its place among others that are drawn."""
    others = [one for one in may_be if one != answer]
    options: list[Any] = [others[i] for i in rng.permutation(len(others))[: len(LETTERS) - 1]]
    options.insert(gold, answer)
    return NeedleQuestion(name=name, text=text, options=tuple(options), gold=LETTERS[gold])


def _another_order(rng: np.random.Generator, count: int) -> list[int]:
    """Draw an order that is not 0, 1, 2, ..."""
    while (order := rng.permutation(count).tolist()) == list(range(count)):
        pass
    return [int(one) for one in order]


def _require_room(side_px: int) -> None:
    if side_px < LEAST_PX:
        raise UserError(
            f"signs cannot be read in frames of {side_px} px: draw them with {LEAST_PX} or more "
            "(--set film_px=384). Models squash frames to their own size themselves."
        )
