"""Pictures and scenes of the demo's videos, drawn with NumPy.

A scene gives the picture at a share of its video's length, 0 to 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
"""uint8 [HEIGHT_PX, WIDTH_PX, 3], RGB."""
Scene = Callable[[float], Picture]
Colour = tuple[int, int, int]

WIDTH_PX: Final = 320
HEIGHT_PX: Final = 240

WHITE, BLACK, GREY = (245, 245, 245), (12, 12, 12), (150, 150, 150)
RED, GREEN, BLUE = (205, 45, 40), (45, 150, 70), (40, 80, 190)
YELLOW, ORANGE, PURPLE = (240, 205, 50), (235, 130, 40), (130, 60, 160)

_DOWN, _RIGHT = np.mgrid[:HEIGHT_PX, :WIDTH_PX]


# Shapes


def plain(colour: Colour) -> Picture:
    """Give a picture of one colour."""
    return np.full((HEIGHT_PX, WIDTH_PX, 3), colour, dtype=np.uint8)


def box(picture: Picture, x: int, y: int, width: int, height: int, colour: Colour) -> None:
    """Draw a filled rectangle; parts outside the picture are left out."""
    picture[max(y, 0) : max(y + height, 0), max(x, 0) : max(x + width, 0)] = colour


def disc(picture: Picture, x: float, y: float, radius: float, colour: Colour) -> None:
    """Draw a filled circle."""
    picture[(_RIGHT - x) ** 2 + (_DOWN - y) ** 2 <= radius**2] = colour


def slide(bar: Colour, *, lines: int = 0, bars: Sequence[int] = ()) -> Picture:
    """Draw a slide: a title bar, then lines of text as stripes, or a bar chart."""
    picture = plain(WHITE)
    box(picture, 0, 0, WIDTH_PX, 44, bar)
    box(picture, 20, 16, 170, 12, WHITE)
    for line in range(lines):
        disc(picture, 30, 78 + 32 * line, 5, bar)
        box(picture, 46, 73 + 32 * line, 220 - 31 * (line % 3), 10, GREY)
    for place, height in enumerate(bars):
        box(picture, 36 + 44 * place, 218 - height, 30, height, bar)
    return picture


def texture(seed: int, height_px: int, width_px: int, tint: Colour, *, grain_px: int) -> Picture:
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
    tinted: Picture = (level[:, :, None] * np.array(tint)).astype(np.uint8)
    return tinted


def bricks(height_px: int, width_px: int) -> Picture:
    """Draw a wall of red bricks with grey joints."""
    wall = texture(11, height_px, width_px, (225, 95, 70), grain_px=24)
    y, x = np.mgrid[:height_px, :width_px]
    wall[(y % 24 < 3) | ((x + 24 * (y // 24 % 2)) % 48 < 3)] = GREY
    return wall


def room() -> Picture:
    """Draw a room: wall, floor, a table."""
    picture = plain((190, 175, 150))
    box(picture, 0, 180, WIDTH_PX, 60, (110, 75, 45))
    box(picture, 180, 140, 110, 12, (80, 50, 30))
    box(picture, 190, 152, 10, 60, (80, 50, 30))
    box(picture, 270, 152, 10, 60, (80, 50, 30))
    return picture


def street() -> Picture:
    """Draw a street: sky, houses, road."""
    picture = plain((150, 195, 235))
    for place, colour in enumerate([ORANGE, GREY, GREEN, PURPLE]):
        box(picture, 80 * place, 60 + 14 * (place % 2), 74, 120, colour)
        box(picture, 80 * place + 26, 90, 22, 26, YELLOW)
    box(picture, 0, 170, WIDTH_PX, 70, (70, 70, 75))
    return picture


# Scenes


def deck(*slides: Picture) -> Scene:
    """Show still pictures one after another, each for the same time: hard cuts."""
    return lambda share: slides[min(int(share * len(slides)), len(slides) - 1)]


def pan(wide: Picture, *, down: bool = False) -> Scene:
    """Move slowly over a picture that is larger than the frame."""
    room_px = (wide.shape[0] - HEIGHT_PX) if down else (wide.shape[1] - WIDTH_PX)

    def at(share: float) -> Picture:
        start = int(share * room_px)
        window = wide[start:, :] if down else wide[:, start:]
        return window[:HEIGHT_PX, :WIDTH_PX]

    return at


def moving(
    background: Picture, place: Callable[[float], tuple[float, float]], colour: Colour, radius: int
) -> Scene:
    """Move one ball in front of a fixed background."""

    def at(share: float) -> Picture:
        picture = background.copy()
        disc(picture, *place(share), radius, colour)
        return picture

    return at


def car(share: float) -> Picture:
    """Drive a red car from left to right along the street."""
    picture = street()
    x = int(-70 + 390 * share)
    box(picture, x, 185, 66, 20, RED)
    box(picture, x + 14, 171, 36, 16, RED)
    disc(picture, x + 16, 206, 8, BLACK)
    disc(picture, x + 50, 206, 8, BLACK)
    return picture


def clock(share: float) -> Picture:
    """Turn the hand of a clock once around."""
    picture = plain((60, 90, 110))
    disc(picture, 160, 120, 92, WHITE)
    for step in np.linspace(0, 80, 60):
        angle = 2 * np.pi * share
        disc(picture, 160 + step * np.sin(angle), 120 - step * np.cos(angle), 3, BLACK)
    return picture


def strobe(share: float) -> Picture:
    """Change between white and black, twelve times."""
    return plain(WHITE if int(share * 12) % 2 == 0 else BLACK)


def lamp(share: float) -> Picture:
    """Switch the lamp of a room on and off, ten times."""
    picture = room()
    disc(picture, 235, 120, 18, YELLOW)
    return picture if int(share * 10) % 2 == 0 else (picture // 5).astype(np.uint8)


def snow(share: float) -> Picture:
    """Show the noise of a television without a signal, coarse, another for every picture."""
    rng = np.random.default_rng(int(share * 10_000))
    grey = rng.integers(0, 256, (HEIGHT_PX // 8, WIDTH_PX // 8, 1), dtype=np.uint8)
    return np.repeat(np.repeat(np.repeat(grey, 8, axis=0), 8, axis=1), 3, axis=2)


def dusk(share: float) -> Picture:
    """Let night fall over the street."""
    return (street() * (1 - 0.85 * share)).astype(np.uint8)


def rings(share: float) -> Picture:
    """Let rings run outwards from the middle."""
    far = np.hypot(_RIGHT - WIDTH_PX / 2, _DOWN - HEIGHT_PX / 2)
    wave = (np.sin(far / 11 - 12 * np.pi * share) > 0)[:, :, None]
    return np.where(wave, np.array(BLUE), np.array(YELLOW)).astype(np.uint8)


def growing(share: float) -> Picture:
    """Let a green disc grow on white."""
    picture = plain(WHITE)
    disc(picture, 160, 120, 15 + 95 * share, GREEN)
    return picture


def rainbow(share: float) -> Picture:
    """Go through red, yellow, green and blue, without a hard change."""
    stops = np.array([RED, YELLOW, GREEN, BLUE])
    place = share * (len(stops) - 1)
    step = min(int(place), len(stops) - 2)
    mixed = stops[step] + (place - step) * (stops[step + 1] - stops[step])
    return plain((int(mixed[0]), int(mixed[1]), int(mixed[2])))


def meadow() -> Picture:
    """Make a meadow: soft green noise."""
    return texture(21, HEIGHT_PX, WIDTH_PX, (90, 190, 80), grain_px=20)


def sea() -> Picture:
    """Draw the sea, a sky and an orange sun."""
    picture = texture(22, HEIGHT_PX, WIDTH_PX, (50, 110, 200), grain_px=32)
    box(picture, 0, 0, WIDTH_PX, 100, (235, 225, 190))
    disc(picture, 250, 50, 24, ORANGE)
    return picture


def pendulum(share: float) -> tuple[float, float]:
    """Place a ball that swings to and fro."""
    angle = 0.9 * np.cos(6 * np.pi * share)
    return 160 + 150 * np.sin(angle), 20 + 150 * np.cos(angle)


def bounce(share: float) -> tuple[float, float]:
    """Place a ball that bounces four times from left to right."""
    return 30 + 260 * share, 165 - 110 * abs(np.sin(4 * np.pi * share))
