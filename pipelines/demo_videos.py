"""Videos for the demo, drawn here: nothing is downloaded, and everybody gets the same pictures.

They are of the kinds that a redundancy score must tell apart: slides and fixed cameras at one end,
hard cuts at the other. One file is a copy of another at half size, one is cut off before its index.
The annotations are LLaVA rows, true to what is drawn: captions, multiple choice, open questions.

A scene gives the picture at a share of its video's length, 0 to 1.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
"""uint8 [HEIGHT_PX, WIDTH_PX, 3], RGB."""
Scene = Callable[[float], Picture]
Colour = tuple[int, int, int]

WIDTH_PX: Final = 320
HEIGHT_PX: Final = 240
FPS: Final = 15
KEY_EVERY: Final = 30
"""Frames from one key frame to the next."""

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


def _meadow() -> Picture:
    return texture(21, HEIGHT_PX, WIDTH_PX, (90, 190, 80), grain_px=20)


def _sea() -> Picture:
    picture = texture(22, HEIGHT_PX, WIDTH_PX, (50, 110, 200), grain_px=32)
    box(picture, 0, 0, WIDTH_PX, 100, (235, 225, 190))
    disc(picture, 250, 50, 24, ORANGE)
    return picture


def _pendulum(share: float) -> tuple[float, float]:
    angle = 0.9 * np.cos(6 * np.pi * share)
    return 160 + 150 * np.sin(angle), 20 + 150 * np.cos(angle)


def _bounce(share: float) -> tuple[float, float]:
    return 30 + 260 * share, 165 - 110 * abs(np.sin(4 * np.pi * share))


# The videos


@dataclass(frozen=True, slots=True)
class Clip:
    """One video, and what is asked about it.

    `choices`: right answer first; it is put at another letter in every row.
    """

    file: str
    duration_s: float
    scene: Scene
    caption: str
    question: str = ""
    choices: tuple[str, ...] = ()
    open_question: str = ""
    open_answer: str = ""


def clips() -> list[Clip]:
    """List the videos, but for those made from another one's file."""
    kinds = "What kind of recording is this?"
    talk = ("A presentation of slides", "A film with people", "A drive by car", "A cartoon")
    still = deck(slide(BLUE, lines=4))
    four = deck(_meadow(), street(), bricks(HEIGHT_PX, WIDTH_PX), _sea())
    wall, hills = bricks(HEIGHT_PX, 520), texture(5, HEIGHT_PX, 480, (120, 200, 90), grain_px=40)
    stone = texture(6, 400, WIDTH_PX, (200, 195, 185), grain_px=14)
    many = deck(plain(RED), _sea(), slide(GREEN, bars=[60, 90]), room(), plain(YELLOW), street())
    eight = deck(
        street(), plain(BLACK), _meadow(), room(), plain(ORANGE), _sea(), slide(RED), plain(WHITE)
    )
    return [
        Clip("slides_agenda.mp4", 6, deck(slide(BLUE, lines=3), slide(BLUE, lines=4)),
             "A presentation. A slide with a blue title bar and three lines of text stays for half "
             "of the time, then a slide of the same design with four lines follows.",
             kinds, talk, "What colour is the title bar of the slides?", "Blue."),
        Clip("slides_chart.mp4", 6,
             deck(slide(GREEN, bars=[40, 70, 110]), slide(GREEN, bars=[40, 70, 110, 150])),
             "A slide with a green title bar shows a bar chart with three rising bars; after half "
             "of the time a fourth, higher bar is added.",
             "How many bars does the chart have at the end?", ("Four", "Two", "Three", "Six")),
        Clip("slides_lecture.mp4", 8,
             deck(slide(PURPLE, lines=1), slide(PURPLE, lines=2), slide(PURPLE, lines=3)),
             "Slides with a purple title bar. The first has one line of text, the second two, the "
             "third three.",
             open_question="How many lines of text does the last slide have?",
             open_answer="Three."),
        Clip("slides_still.mp4", 4, still,
             "A single slide with a blue title bar and four lines of text; nothing changes.",
             "What changes in the course of the video?",
             ("Nothing", "The title", "The colours", "The number of lines")),
        Clip("slides_results.mp4", 5, deck(slide(ORANGE, lines=3), slide(ORANGE, bars=[150, 30])),
             "Two slides with an orange title bar: first three lines of text, then a chart with "
             "one high and one low bar.",
             open_question="Which of the two bars of the chart is higher, left or right?",
             open_answer="The left one."),
        Clip("pan_bricks.mp4", 6, pan(wall),
             "The camera moves slowly to the right along a wall of red bricks with grey joints.",
             "What does the camera show?", ("A brick wall", "A beach", "A meadow", "A crowd")),
        Clip("pan_grass.mp4", 5, pan(hills),
             "A slow pan to the right over a green, softly patterned surface like grass.",
             open_question="In which direction does the camera move?",
             open_answer="To the right, slowly."),
        Clip("pan_stone.mp4", 5, pan(stone, down=True),
             "The camera moves slowly down over a light grey surface that looks like stone."),
        Clip("fixed_ball.mp4", 5, moving(room(), lambda t: (20 + 280 * t, 200), RED, 16),
             "A room with a table. A red ball rolls over the floor from left to right; the camera "
             "does not move.",
             "What moves in the video?", ("A red ball", "The table", "The camera", "A person"),
             "Where does the ball come from?", "From the left side of the picture."),
        Clip("fixed_bounce.mp4", 4, moving(_meadow(), _bounce, WHITE, 14),
             "A white ball bounces four times from left to right in front of a green meadow.",
             "How often does the ball bounce up?", ("Four times", "Never", "Once", "Ten times")),
        Clip("fixed_pendulum.mp4", 6, moving(plain((70, 75, 95)), _pendulum, YELLOW, 18),
             "A yellow ball swings to and fro like a pendulum in front of a dark blue-grey wall.",
             open_question="What colour is the swinging ball?", open_answer="Yellow."),
        Clip("fixed_car.mp4", 5, car,
             "A street with four houses in different colours. A red car drives from left to "
             "right; the camera is fixed.",
             "What colour is the car?", ("Red", "Blue", "White", "Black"),
             "How many houses stand along the street?", "Four."),
        Clip("fixed_clock.mp4", 8, clock,
             "A white clock face with a single black hand, which turns once all the way round.",
             "How far does the hand turn?",
             ("All the way round", "A quarter", "Half way round", "Not at all")),
        Clip("fixed_street.mp4", 8, moving(street(), lambda t: (60 + 30 * t, 225), WHITE, 5),
             "A quiet street with four houses. Only a small white ball rolls a little way along "
             "the road in the foreground."),
        Clip("cuts_places.mp4", 6, four,
             "Four places with hard cuts between them: a meadow, a street with houses, a wall of "
             "red bricks, and the sea with an orange sun.",
             "Which place is shown last?", ("The sea", "A street", "A meadow", "A brick wall"),
             "What is shown before the brick wall?", "A street with coloured houses."),
        Clip("cuts_mixed.mp4", 6, many,
             "Six unrelated shots: a red picture, the sea, a slide with a chart of two bars, a "
             "room with a table, a yellow picture and a street.",
             open_question="What stands in the room?", open_answer="A table."),
        Clip("cuts_fast.mp4", 4, eight,
             "Eight short shots one after another, among them a street, a meadow, a room and the "
             "sea, with plain black, orange and white pictures in between.",
             "How are the shots joined?", ("By hard cuts", "By fades", "By a pan", "By a zoom")),
        Clip("flicker_strobe.mp4", 4, strobe,
             "The whole picture changes between white and black again and again.",
             open_question="Which two colours does the picture change between?",
             open_answer="White and black."),
        Clip("flicker_lamp.mp4", 5, lamp,
             "A lamp above the table of a room goes on and off several times.",
             "What is it that goes on and off?",
             ("A lamp", "A television", "A traffic light", "A fire")),
        Clip("noise_tv.mp4", 2, snow,
             "Grey noise, as on a television without a signal; every picture is another."),
        Clip("fade_dusk.mp4", 6, dusk,
             "A street with four houses gets slowly darker, as at nightfall.",
             open_question="How does the light change?",
             open_answer="It gets slowly darker, until the street is nearly black."),
        Clip("fade_colours.mp4", 5, rainbow,
             "The whole picture goes slowly from red to yellow, then to green and to blue.",
             "Which colour is the last one?", ("Blue", "Red", "Green", "Yellow")),
        Clip("rings.mp4", 3, rings,
             "Blue and yellow rings run outwards from the middle of the picture."),
        Clip("growing_disc.webm", 4, growing,
             "A green disc in the middle of a white picture grows until it nearly fills it.",
             open_question="What happens to the disc?", open_answer="It grows."),
    ]  # fmt: skip


COPY_OF: Final = ("cuts_places.mp4", "cuts_places_small.mp4")
"""A file, and its copy at half the width and height."""
CUT_FROM: Final = ("fixed_car.mp4", "cut_download.mp4")
"""A file, and its first half: an mp4 without its index, which stands at the end."""


def make_videos(out: Path) -> Path:
    """Write the videos and their annotations; a few seconds on two cores.

    Args:
        out: folder, made if it is not there; files of the same names are overwritten.

    Returns:
        Path of `annotations.json`, whose `video` paths are relative to `out`.
    """
    folder = out / "videos"
    folder.mkdir(parents=True, exist_ok=True)
    videos = [_playable(clip) for clip in clips()]
    for clip in videos:
        _encode(folder / clip.file, clip, step=1)
        if clip.file == COPY_OF[0]:
            _encode(folder / COPY_OF[1], clip, step=2)
    whole = (folder / CUT_FROM[0]).read_bytes()
    (folder / CUT_FROM[1]).write_bytes(whole[: len(whole) // 2])
    path = out / "annotations.json"
    text = json.dumps(list(_rows(videos)), indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def _playable(clip: Clip) -> Clip:
    """Put a clip into an mp4 where this FFmpeg has no VP9 encoder."""
    if not clip.file.endswith(".webm") or "libvpx-vp9" in av.codecs_available:
        return clip
    return Clip(clip.file.replace(".webm", ".mp4"), clip.duration_s, clip.scene, clip.caption)


def _encode(path: Path, clip: Clip, *, step: int) -> None:
    """Write a video, one thread, so that the same pictures give the same bytes."""
    webm = path.suffix == ".webm"
    # x264's macroblock tree is off: measured, six encodes of the same pictures gave six files.
    x264 = {"preset": "veryfast", "mbtree": "0"}
    speed = {"deadline": "realtime", "cpu-used": "8"} if webm else x264
    with av.open(str(path), "w", container_options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream(
            "libvpx-vp9" if webm else "libx264",
            rate=FPS,
            options={**speed, "crf": "30", "g": str(KEY_EVERY), "threads": "1"},
        )
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = WIDTH_PX // step, HEIGHT_PX // step
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, FPS)
        stream.thread_count = 1
        num_frames = round(clip.duration_s * FPS)
        for index in range(num_frames):
            picture = clip.scene(index / (num_frames - 1))[::step, ::step]
            frame = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


_CAPTION_PROMPTS: Final = (
    "Please describe this video in detail.",
    "Provide a detailed description of the video.",
    "What is happening in this video?",
)


def _rows(videos: Sequence[Clip]) -> Iterator[dict[str, Any]]:
    for place, clip in enumerate(videos):
        prompt = _CAPTION_PROMPTS[place % len(_CAPTION_PROMPTS)]
        yield _row(clip.file, "caption", prompt, clip.caption)
        if clip.choices:
            right = place % len(clip.choices)
            texts = list(clip.choices[1:])
            texts.insert(right, clip.choices[0])
            options = [f"{'ABCD'[i]}. {text}" for i, text in enumerate(texts)]
            ask = "Answer with the option's letter from the given choices directly."
            question = "\n".join([clip.question, *options, ask])
            yield _row(clip.file, "mc", question, "ABCD"[right])
        if clip.open_question:
            yield _row(clip.file, "oe", clip.open_question, clip.open_answer)
    first = {clip.file: clip for clip in videos}
    for original, derived in (COPY_OF, CUT_FROM):
        yield _row(derived, "caption", _CAPTION_PROMPTS[0], first[original].caption)
        yield _row(derived, "oe", first[original].open_question, first[original].open_answer)


def _row(file: str, task: str, question: str, answer: str) -> dict[str, Any]:
    return {
        "id": f"{file.replace('.', '_')}-{task}",
        "data_source": f"demo_{task}",
        "video": f"videos/{file}",
        "conversations": [
            {"from": "human", "value": f"<image>\n{question}"},
            {"from": "gpt", "value": answer},
        ],
    }
