"""Videos for the demo, drawn here: nothing is downloaded, and everybody gets the same images.

They are of the kinds that a redundancy score must tell apart: slides and fixed cameras at one end,
hard cuts at the other. One file is a copy of another at half size, one is cut off before its index.
The annotations are LLaVA rows, true to what is drawn: captions, multiple choice, open questions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from demo_scenes import (
    BLACK,
    BLUE,
    GREEN,
    HEIGHT_PX,
    ORANGE,
    PURPLE,
    RED,
    WHITE,
    WIDTH_PX,
    YELLOW,
    Scene,
    bounce,
    bricks,
    car,
    clock,
    deck,
    dusk,
    growing,
    lamp,
    meadow,
    moving,
    pan,
    pendulum,
    plain,
    rainbow,
    rings,
    room,
    sea,
    slide,
    snow,
    street,
    strobe,
    texture,
)

FPS: Final = 15
KEY_EVERY: Final = 30
"""Frames from one key frame to the next."""


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
    return [*_slides(), *_cameras(), *_cuts_and_light()]


def _slides() -> list[Clip]:
    """Presentations: little changes."""
    kinds = "What kind of recording is this?"
    talk = ("A presentation of slides", "A film with people", "A drive by car", "A cartoon")
    still = deck(slide(BLUE, lines=4))
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
    ]  # fmt: skip


def _cameras() -> list[Clip]:
    """Slow pans, and movement before a fixed camera."""
    wall, hills = bricks(HEIGHT_PX, 520), texture(5, HEIGHT_PX, 480, (120, 200, 90), grain_px=40)
    stone = texture(6, 400, WIDTH_PX, (200, 195, 185), grain_px=14)
    return [
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
        Clip("fixed_bounce.mp4", 4, moving(meadow(), bounce, WHITE, 14),
             "A white ball bounces four times from left to right in front of a green meadow.",
             "How often does the ball bounce up?", ("Four times", "Never", "Once", "Ten times")),
        Clip("fixed_pendulum.mp4", 6, moving(plain((70, 75, 95)), pendulum, YELLOW, 18),
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
    ]  # fmt: skip


def _cuts_and_light() -> list[Clip]:
    """Hard cuts, flicker, noise, fades and patterns."""
    four = deck(meadow(), street(), bricks(HEIGHT_PX, WIDTH_PX), sea())
    many = deck(plain(RED), sea(), slide(GREEN, bars=[60, 90]), room(), plain(YELLOW), street())
    eight = deck(
        street(), plain(BLACK), meadow(), room(), plain(ORANGE), sea(), slide(RED), plain(WHITE)
    )
    return [
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
    """Write a video, one thread, so that the same images give the same bytes."""
    webm = path.suffix == ".webm"
    # x264's macroblock tree is off: measured, six encodes of the same images gave six files.
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
            image = clip.scene(index / (num_frames - 1))[::step, ::step]
            frame = VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


_CAPTION_PROMPTS: Final = (
    "Please describe this video in detail.",
    "Provide a detailed description of the video.",
    "What is happening in this video?",
)


def _rows(videos: Sequence[Clip]) -> Iterator[dict[str, Any]]:
    for index, clip in enumerate(videos):
        prompt = _CAPTION_PROMPTS[index % len(_CAPTION_PROMPTS)]
        yield _row(clip.file, "caption", prompt, clip.caption)
        if clip.choices:
            right = index % len(clip.choices)
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
