"""The toy's clips: the image holds every answer, and the words of a question hold none."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from support.repo import BENCH


def coloured(frame_HWC: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where a frame is not grey."""
    pixels_HWC = frame_HWC.astype(int)
    mask_HW: NDArray[np.bool_] = pixels_HWC.max(-1) - pixels_HWC.min(-1) > 100
    return mask_HW


def colour_of(frame_HWC: NDArray[np.uint8]) -> str:
    """Name the colour by which channels are bright in what is not grey."""
    red, green, blue = np.median(frame_HWC[coloured(frame_HWC)], axis=0) > 128
    return {
        (True, False, False): "red",
        (False, True, False): "green",
        (False, False, True): "blue",
        (True, True, False): "yellow",
    }[bool(red), bool(green), bool(blue)]


def centre(frame_HWC: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return where the mean coloured pixel is: right, down."""
    down_K, right_K = np.nonzero(coloured(frame_HWC))
    return np.array([right_K.mean(), down_K.mean()])


def seen(frames_THWC: NDArray[np.uint8], keys: set[str]) -> dict[str, str]:
    """Answer the questions by looking at pixels."""
    first_HWC, last_HWC = frames_THWC[0], frames_THWC[-1]
    if "order_first" in keys:
        return {"order_first": colour_of(first_HWC), "order_last": colour_of(last_HWC)}
    right, down = centre(last_HWC) - centre(first_HWC)
    sideways = abs(right) > abs(down)
    ways = ("left", "right") if sideways else ("up", "down")
    lanes = coloured(first_HWC).any(1 if sideways else 0)  # discs lie in lanes along the motion
    starts = np.diff(np.concatenate([[False], lanes]).astype(int)) == 1
    return {
        "colour": colour_of(first_HWC),
        "direction": ways[int((right if sideways else down) > 0)],
        "count": str(int(starts.sum())),
    }


def test_every_answer_can_be_told_from_the_pixels() -> None:
    from toy_clips import draw_clips

    for clip in draw_clips(120, seed=7):
        assert seen(clip.frames_THWC, set(clip.answers)) == clip.answers


def test_a_clip_played_backwards_has_the_opposite_answers() -> None:
    """So that direction and order cannot be told from the frames without their order."""
    from toy_clips import draw_clips

    opposite = {"left": "right", "right": "left", "up": "down", "down": "up"}
    for clip in draw_clips(60, seed=10):
        told, own = seen(clip.frames_THWC[::-1], set(clip.answers)), clip.answers
        if "direction" in own:
            assert told == {**own, "direction": opposite[own["direction"]]}
        else:
            assert told == {"order_first": own["order_last"], "order_last": own["order_first"]}


def test_the_answer_is_still_there_in_the_video_file(tmp_path: Path) -> None:
    from toy_clips import NUM_FRAMES, draw_clips, write_clip

    for number, clip in enumerate(draw_clips(20, seed=8)):
        path = tmp_path / f"{number}.mp4"
        write_clip(clip.frames_THWC, path)
        with av.open(str(path)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert len(frames) == NUM_FRAMES
        told = seen(np.stack(frames), set(clip.answers))
        told.pop("count", None)  # in the file, colour runs over the gaps between lanes
        assert told.items() <= clip.answers.items()


def test_the_words_of_a_question_tell_nothing_of_its_answer(tmp_path: Path) -> None:
    """Whoever knows how often each letter follows each text is right for one in four."""
    from toy_clips import TASKS, draw_clips, write_rows

    clips = draw_clips(60, seed=9)
    letters: dict[str, Counter[str]] = defaultdict(Counter)
    for arm in ("video", "text"):
        write_rows(clips, tmp_path / arm, with_video=arm == "video")
    for task in TASKS:
        rows, bare = (
            json.loads((tmp_path / arm / f"{task}.json").read_text()) for arm in ("video", "text")
        )
        for row, own in zip(rows, bare, strict=True):
            question, answer = (turn["value"] for turn in own["conversations"])
            assert row["conversations"][0]["value"] == f"<video>\n{question}"
            assert row["conversations"][1]["value"] == answer
            assert "video" not in own
            letters[question][answer] += 1
    assert len(letters) == 5
    for counts in letters.values():
        assert sorted(counts) == ["A", "B", "C", "D"]
        assert max(counts.values()) - min(counts.values()) <= 1


def test_shares_come_with_wilson_intervals() -> None:
    """81 of 263 is the example of Newcombe, Statistics in Medicine 17 (1998)."""
    from wilson import share

    assert share(5, 10)["wilson_95"] == pytest.approx([0.2366, 0.7634], abs=1e-4)
    assert share(81, 263)["wilson_95"] == pytest.approx([0.2553, 0.3662], abs=1e-4)
    assert share(10, 10)["wilson_95"][1] == 1.0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_short_toy_leaves_a_whole_record(tmp_path: Path) -> None:
    script = (
        "import sys, records, toy; from pathlib import Path; "
        "write = records.write_record; "
        "records.write_record = lambda *a, **k: write(*a, folder=Path(sys.argv[1]), **k); "
        "toy.main(['--clips', '20', '--heldout', '10', '--steps', '3', '--out', sys.argv[2]])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "runs"), str(tmp_path / "out")],
        cwd=BENCH, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "runs" / "mllm-toy.json").read_text())["figures"]
    for arm in ("video", "text"):
        asked = {kind: own["questions"] for kind, own in figures["arms"][arm]["heldout"].items()}
        assert asked == {"colour": 6, "direction": 6, "count": 6, "order": 8, "all": 26}
