"""Images and scenes of the demo's videos, drawn with NumPy.

A scene gives the image at a share of its video's length, 0 to 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
"""uint8 [HEIGHT_PX, WIDTH_PX, 3], RGB."""
Scene = Callable[[float], Image]
Colour = tuple[int, int, int]

WIDTH_PX: Final = 320
HEIGHT_PX: Final = 240

WHITE, BLACK, GREY = (245, 245, 245), (12, 12, 12), (150, 150, 150)
RED, GREEN, BLUE = (205, 45, 40), (45, 150, 70), (40, 80, 190)
YELLOW, ORANGE, PURPLE = (240, 205, 50), (235, 130, 40), (130, 60, 160)

_DOWN, _RIGHT = np.mgrid[:HEIGHT_PX, :WIDTH_PX]


# Shapes


def plain(colour: Colour) -> Image:
    """Return an image of one colour."""
    return np.full((HEIGHT_PX, WIDTH_PX, 3), colour, dtype=np.uint8)


def box(image: Image, x: int, y: int, width: int, height: int, colour: Colour) -> None:
    """Draw a filled rectangle; parts outside the image are left out."""
    image[max(y, 0) : max(y + height, 0), max(x, 0) : max(x + width, 0)] = colour


def disc(image: Image, x: float, y: float, radius: float, colour: Colour) -> None:
    """Draw a filled circle."""
    image[(_RIGHT - x) ** 2 + (_DOWN - y) ** 2 <= radius**2] = colour


def slide(bar: Colour, *, lines: int = 0, bars: Sequence[int] = ()) -> Image:
    """Draw a slide: a title bar, then lines of text as stripes, or a bar chart."""
    image = plain(WHITE)
    box(image, 0, 0, WIDTH_PX, 44, bar)
    box(image, 20, 16, 170, 12, WHITE)
    for line in range(lines):
        disc(image, 30, 78 + 32 * line, 5, bar)
        box(image, 46, 73 + 32 * line, 220 - 31 * (line % 3), 10, GREY)
    for index, height in enumerate(bars):
        box(image, 36 + 44 * index, 218 - height, 30, height, bar)
    return image


def texture(seed: int, height_px: int, width_px: int, tint: Colour, *, grain_px: int) -> Image:
    """Make smooth noise of a tint; `grain_px` is the size of its blobs."""
    rng = np.random.default_rng(seed)
    small = rng.random((height_px // grain_px + 2, width_px // grain_px + 2))
    y, x = np.arange(height_px) / grain_px, np.arange(width_px) / grain_px
    row, column = y.astype(np.int64), x.astype(np.int64)
    down, right = (y - row)[:, None], (x - column)[None, :]
    corner = [small[np.ix_(row + i, column + j)] for i in (0, 1) for j in (0, 1)]
    top = corner[0] * (1 - right) + corner[1] * right
    bottom = corner[2] * (1 - right) + corner[3] * right
    level = 0.35 + 0.65 * (top * (1 - down) + bottom * down)
    tinted: Image = (level[:, :, None] * np.array(tint)).astype(np.uint8)
    return tinted


def bricks(height_px: int, width_px: int) -> Image:
    """Draw a wall of red bricks with grey joints."""
    wall = texture(11, height_px, width_px, (225, 95, 70), grain_px=24)
    y, x = np.mgrid[:height_px, :width_px]
    wall[(y % 24 < 3) | ((x + 24 * (y // 24 % 2)) % 48 < 3)] = GREY
    return wall


def room() -> Image:
    """Draw a room: wall, floor, a table."""
    image = plain((190, 175, 150))
    box(image, 0, 180, WIDTH_PX, 60, (110, 75, 45))
    box(image, 180, 140, 110, 12, (80, 50, 30))
    box(image, 190, 152, 10, 60, (80, 50, 30))
    box(image, 270, 152, 10, 60, (80, 50, 30))
    return image


def street() -> Image:
    """Draw a street: sky, houses, road."""
    image = plain((150, 195, 235))
    for index, colour in enumerate([ORANGE, GREY, GREEN, PURPLE]):
        box(image, 80 * index, 60 + 14 * (index % 2), 74, 120, colour)
        box(image, 80 * index + 26, 90, 22, 26, YELLOW)
    box(image, 0, 170, WIDTH_PX, 70, (70, 70, 75))
    return image


# Scenes


def deck(*slides: Image) -> Scene:
    """Show still images one after another, each for the same time: hard cuts."""
    return lambda share: slides[min(int(share * len(slides)), len(slides) - 1)]


def pan(wide: Image, *, down: bool = False) -> Scene:
    """Move slowly over an image that is larger than the frame."""
    room_px = (wide.shape[0] - HEIGHT_PX) if down else (wide.shape[1] - WIDTH_PX)

    def at(share: float) -> Image:
        start = int(share * room_px)
        window = wide[start:, :] if down else wide[:, start:]
        return window[:HEIGHT_PX, :WIDTH_PX]

    return at


def moving(
    background: Image, position: Callable[[float], tuple[float, float]], colour: Colour, radius: int
) -> Scene:
    """Move one ball in front of a fixed background."""

    def at(share: float) -> Image:
        image = background.copy()
        disc(image, *position(share), radius, colour)
        return image

    return at


def car(share: float) -> Image:
    """Drive a red car from left to right along the street."""
    image = street()
    x = int(-70 + 390 * share)
    box(image, x, 185, 66, 20, RED)
    box(image, x + 14, 171, 36, 16, RED)
    disc(image, x + 16, 206, 8, BLACK)
    disc(image, x + 50, 206, 8, BLACK)
    return image


def clock(share: float) -> Image:
    """Turn the hand of a clock once around."""
    image = plain((60, 90, 110))
    disc(image, 160, 120, 92, WHITE)
    for step in np.linspace(0, 80, 60):
        angle = 2 * np.pi * share
        disc(image, 160 + step * np.sin(angle), 120 - step * np.cos(angle), 3, BLACK)
    return image


def strobe(share: float) -> Image:
    """Change between white and black, twelve times."""
    return plain(WHITE if int(share * 12) % 2 == 0 else BLACK)


def lamp(share: float) -> Image:
    """Switch the lamp of a room on and off, ten times."""
    image = room()
    disc(image, 235, 120, 18, YELLOW)
    return image if int(share * 10) % 2 == 0 else (image // 5).astype(np.uint8)


def snow(share: float) -> Image:
    """Show the noise of a television without a signal, coarse, another for every image."""
    rng = np.random.default_rng(int(share * 10_000))
    grey = rng.integers(0, 256, (HEIGHT_PX // 8, WIDTH_PX // 8, 1), dtype=np.uint8)
    return np.repeat(np.repeat(np.repeat(grey, 8, axis=0), 8, axis=1), 3, axis=2)


def dusk(share: float) -> Image:
    """Let night fall over the street."""
    return (street() * (1 - 0.85 * share)).astype(np.uint8)


def rings(share: float) -> Image:
    """Let rings run outwards from the middle."""
    far = np.hypot(_RIGHT - WIDTH_PX / 2, _DOWN - HEIGHT_PX / 2)
    wave = (np.sin(far / 11 - 12 * np.pi * share) > 0)[:, :, None]
    return np.where(wave, np.array(BLUE), np.array(YELLOW)).astype(np.uint8)


def growing(share: float) -> Image:
    """Let a green disc grow on white."""
    image = plain(WHITE)
    disc(image, 160, 120, 15 + 95 * share, GREEN)
    return image


def rainbow(share: float) -> Image:
    """Go through red, yellow, green and blue, without a hard change."""
    stops = np.array([RED, YELLOW, GREEN, BLUE])
    index = share * (len(stops) - 1)
    step = min(int(index), len(stops) - 2)
    mixed = stops[step] + (index - step) * (stops[step + 1] - stops[step])
    return plain((int(mixed[0]), int(mixed[1]), int(mixed[2])))


def meadow() -> Image:
    """Make a meadow: soft green noise."""
    return texture(21, HEIGHT_PX, WIDTH_PX, (90, 190, 80), grain_px=20)


def sea() -> Image:
    """Draw the sea, a sky and an orange sun."""
    image = texture(22, HEIGHT_PX, WIDTH_PX, (50, 110, 200), grain_px=32)
    box(image, 0, 0, WIDTH_PX, 100, (235, 225, 190))
    disc(image, 250, 50, 24, ORANGE)
    return image


def pendulum(share: float) -> tuple[float, float]:
    """Place a ball that swings to and fro."""
    angle = 0.9 * np.cos(6 * np.pi * share)
    return 160 + 150 * np.sin(angle), 20 + 150 * np.cos(angle)


def bounce(share: float) -> tuple[float, float]:
    """Place a ball that bounces four times from left to right."""
    return 30 + 260 * share, 165 - 110 * abs(np.sin(4 * np.pi * share))
