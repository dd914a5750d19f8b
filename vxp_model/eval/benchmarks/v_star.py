"""V-STaR: what happens in a video, when, and where; asked in two orders.

Five requests a row, each a question of its own. They are given what is right of the others as the
benchmark gives it: the moment for 'where' of chain 1, the number of boxes for that of chain 2, the
boxes without their times for 'when' of chain 2.

Ours: `read_interval` and `read_boxes` read replies, and what cannot be read counts as 0. The
convention 'official': 'when' needs exactly two numbers; boxes count as they are, and seconds must
be spelled as in the annotations; a row without an answer to 'what' leaves the means of IoU.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from vxp_model.eval.benchmarks.base import (
    About,
    Benchmark,
    Convention,
    Figure,
    JudgePrompt,
    Prompt,
    Question,
    Scored,
    Shown,
)
from vxp_model.eval.benchmarks.boxes import (
    Box,
    BoxesByTime,
    box_ious,
    boxes_of,
    boxes_text,
    read_boxes,
)
from vxp_model.eval.benchmarks.files import Row, find_files, read_rows
from vxp_model.eval.benchmarks.intervals import (
    interval_iou,
    interval_of,
    interval_text,
    read_interval,
)
from vxp_model.eval.benchmarks.v_star_figures import CHAINS, WHAT, v_star_figures

FILE_NAME: Final = "V_STaR_test.json"
SOURCE: Final = "https://huggingface.co/datasets/V-STaR-Bench/V-STaR"
REQUESTS: Final = {WHAT: "question", "when": "temporal_question", "where": "spatial_question",
                   "where2": "spatial_question_2", "when2": "temporal_question"}  # fmt: skip
"""Name -> field of the row that asks it, in the order of the two chains."""

_RIGHT_RATING: Final = 2
"""Least rating of 'what' that is right: the makers' code has it, their README says 'above 2'."""
_CHAIN_OF: Final = {name: chain for chain, names in CHAINS.items() for name in names}

_JUDGE_SYSTEM: Final = (
    "You compare an answer with the right one. Rate how far they mean the same, whatever the "
    "words and the grammar: 0, not at all: the answer is wrong; 1, a little: it is mostly wrong; "
    "2, largely: it is mostly right; 3, wholly: it is right. Reply with the digit alone."
)
"""The scale of the makers' prompt (eval.py; no licence is given for it) in our words."""


class _VStarScores(Convention):
    """How answers are scored, however they are read."""

    def score(self, question: Question, parsed: str | None) -> float:
        """Return the IoU of moments, the mean IoU of the right boxes, or 1 for a rating >= 2."""
        if parsed is None:
            return 0.0
        request = question.groups["request"].rstrip("2")
        if request == WHAT:
            return float(parsed.isdecimal() and int(parsed[:9]) >= _RIGHT_RATING)
        if request == "when":
            found, right = interval_of(parsed), interval_of(question.gold)
            return 0.0 if found is None or right is None else interval_iou(found, right)
        ious = box_ious(boxes_of(question.gold), boxes_of(parsed))
        return sum(ious) / len(ious) if ious else 0.0

    def summarise(self, scored: Sequence[Scored]) -> list[Figure]:
        """Return `v_star_figures`."""
        return v_star_figures(scored)


class OfficialVStar(_VStarScores):
    """As the makers' inference_demo.py and eval.py."""

    def parse(self, question: Question, reply: str) -> str | None:
        """Return two numbers and no other; or the boxes whose keys are spelled as annotated."""
        request = question.groups["request"].rstrip("2")
        if request == "when":
            numbers = [float(n) for n in re.findall(r"\b\d+(?:\.\d+)?\b", reply)]
            if len(numbers) != 2 or not all(map(math.isfinite, numbers)):
                return None
            return interval_text((numbers[0], numbers[1]))
        if request == "where":
            given = _official_boxes(reply)
            keys = {str(key): float(key) for key in question.details["box_keys"]}
            found = {keys[key]: _four(given[key]) for key in keys if key in given}
            return boxes_text(found) if found else None
        return None

    def summarise(self, scored: Sequence[Scored]) -> list[Figure]:
        """Return the figures; rows whose 'what' has no answer are in those of 'what' alone."""
        silent = {
            _row_of(one.question)
            for one in scored
            if one.question.groups["request"] == WHAT and not one.is_answered
        }
        return v_star_figures(
            [
                one
                for one in scored
                if _row_of(one.question) not in silent or one.question.groups["request"] == WHAT
            ]
        )


def _official_boxes(reply: str) -> dict[str, Any]:
    """Return the JSON object of a reply, brackets added where some are missing."""
    fenced = re.search(r"```json\s*\n(\[.*?\]|\{.*?\})\s*\n```", reply, re.S)
    found = fenced or re.search(r"(\[.*\]|\{.*\})", reply, re.S)
    if found is None:
        return {}
    text = found[1].replace("'", '"')
    for is_mended in (False, True):
        if is_mended:
            for left, right in ("[]", "{}"):
                missing = text.count(left) - text.count(right)
                text = left * -missing + text + right * missing
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, list) and not is_mended:
            if all(isinstance(item, dict) for item in value):
                return {key: boxes for item in value for key, boxes in item.items()}
            pairs = [item for item in value if isinstance(item, list) and len(item) >= 2]
            return {str(item[0]): item[1] for item in pairs} if len(pairs) == len(value) else {}
        return value if isinstance(value, dict) else {}
    return {}


def _four(value: Any) -> list[Box]:
    """Return a box, or those of a list of boxes; what is none is left out."""
    if not isinstance(value, list):
        return []
    boxes = value if value and isinstance(value[0], list) else [value]
    return [
        (float(box[0]), float(box[1]), float(box[2]), float(box[3]))
        for box in boxes
        if isinstance(box, list)
        and len(box) == 4
        and all(isinstance(number, int | float) and abs(number) < 1e9 for number in box)
    ]


class VStar(_VStarScores, Benchmark):
    """2,094 rows of five requests; `given_size_px` for models that give boxes in another size."""

    name = "v_star"
    about: ClassVar[About] = About(
        title="V-STaR",
        licence="CC-BY-NC-SA 4.0 as far as is known; not verified",
        source=SOURCE,
        files=f"{FILE_NAME}; <vid>.mp4 in any folder below",
        metric="m_tIoU and R1 of 'when', chain 1; with a judge, mAM and mLGM",
        checked_against="replies scored by hand",
        mean_s=180,  # where its "long" videos begin: no mean is published
    )
    expected: ClassVar[Mapping[str, int]] = {
        "questions": 5 * 2094,
        **{f"request={name}": 2094 for name in REQUESTS},
    }
    styles: ClassVar[tuple[str, ...]] = ("official", "sized")
    conventions: ClassVar[Mapping[str, Convention]] = {"official": OfficialVStar()}

    def __init__(self, given_size_px: tuple[float, float] | None = None) -> None:
        """Build it.

        Args:
            given_size_px: width and height of the picture in which the model gives boxes; None:
                the video's own, unless a reply says otherwise: see `read_boxes`.
        """
        self._given_size_px = given_size_px

    def questions(self, root: Path) -> Iterator[Question]:
        """Return five questions a row; see the base class."""
        (path,) = find_files(root, (FILE_NAME,), get=SOURCE)
        videos = {found.stem: found for found in sorted(root.rglob("*.mp4"), reverse=True)}
        for row in read_rows(path, get=SOURCE):
            vid = row.text("vid")
            found = videos.get(vid, root / f"{vid}.mp4").relative_to(root).as_posix()
            yield from _questions_of(row, found)

    def prompt(self, question: Question, shown: Shown, style: str) -> Prompt:
        """Return the request, with what is right of the others as the benchmark tells it.

        The forms of 'what' and 'when' are the makers'; of 'where' and 'when2' what is told and the
        form of the answer are theirs, and the words are ours: no licence is given for theirs.

        Args:
            question: of this benchmark.
            shown: whose size is told in the style 'sized'.
            style: 'official'; or 'sized', which tells 'where' the size of the picture too.
        """
        request, told = question.groups["request"], question.details
        text = question.text
        if request == WHAT:
            note = "(If the answer is a person, you don't need to identify the person.)"
            return Prompt(text=f"Answer the question about the video: {text} \n {note}",
                          max_new_tokens=512)  # fmt: skip
        if request.startswith("when"):
            return Prompt(text=_when_prompt(request, text, told), max_new_tokens=256)
        size = f" The picture is {shown.width_px}x{shown.height_px} pixels."
        return Prompt(
            text=_where_prompt(request, text, told, size if style == "sized" else ""),
            max_new_tokens=2048,
        )

    def parse(self, question: Question, reply: str) -> str | None:
        """Return a moment as JSON [start, end], or boxes as a JSON object by second.

        Of 'what': None, for only a judge can tell.
        """
        request = question.groups["request"].rstrip("2")
        if request == "when":
            moment = read_interval(reply)
            return None if moment is None else interval_text(moment)
        if request == "where":
            width, height = question.details["size_px"]
            boxes = read_boxes(reply, size_px=(width, height), given_size_px=self._given_size_px)
            return None if boxes is None else boxes_text(boxes)
        return None

    def needs_judge(self, question: Question) -> bool:
        """Whether it is 'what'."""
        return question.groups["request"] == WHAT

    def judge_prompt(self, question: Question, reply: str) -> JudgePrompt:
        """Return what asks for a rating from 0 to 3."""
        return JudgePrompt(
            system=_JUDGE_SYSTEM,
            text=f"Question: {question.text}\nRight answer: {question.details['answer']}\n"
            f"Answer: {reply}\nRating:",
            max_new_tokens=16,
        )

    def judged(self, question: Question, judgment: str) -> str | None:
        """Return the rating, '0' to '3'; None where a judgment names none, or several."""
        del question
        found = set(re.findall(r"(?<![\w./])[0-3](?!\w|\.\d|/\d)", judgment))
        found |= set(re.findall(r"(?<![\w.])([0-3])/3\b", judgment))
        return found.pop() if len(found) == 1 else None


def _row_of(question: Question) -> str:
    return question.question_id.rpartition("/")[0]


def _questions_of(row: Row, video: str) -> Iterator[Question]:
    """Return the five requests of a row."""
    times = row.items("timestamps", least=2)
    if len(times) != 2 or not all(isinstance(time, int | float) for time in times):
        raise row.wrong("timestamps", times, "[start, end] in seconds")
    start_s, end_s = map(float, times)
    boxes, keys = _gold_boxes(row)
    if (fps := row.number_of("fps")) <= 0:
        raise row.wrong("fps", fps, "more than 0")
    length_s = round(row.number_of("frame_count") / fps, 2)
    seconds = list(range(math.ceil(start_s), math.floor(end_s) + 1)) or [math.floor(start_s)]
    kind = "Short" if length_s < 60 else "Medium" if length_s < 180 else "Long"
    size_px = [row.integer("width"), row.integer("height")]
    told = {"size_px": size_px, "length_s": length_s}
    listed = [list(box) for own in boxes.values() for box in own]
    details: dict[str, dict[str, Any]] = {
        WHAT: {"answer": row.word("answer")},
        "when": told,
        "where": {**told, "seconds": seconds, "box_keys": keys},
        "where2": {**told, "num_boxes": len(listed), "box_keys": keys},
        "when2": {**told, "boxes": [[round(n) if n == round(n) else n for n in b] for b in listed]},
    }
    gold = {WHAT: "3", "when": interval_text((start_s, end_s)), "where": boxes_text(boxes)}
    for request, field in REQUESTS.items():
        chain = {"chain": _CHAIN_OF[request]} if request in _CHAIN_OF else {}
        yield Question(
            question_id=f"{row.text('vid')}#{row.number}/{request}",
            video=video,
            text=row.text(field),
            gold=gold[request.rstrip("2")],
            groups={"request": request, **chain, "domain": row.text("domain"), "duration": kind},
            details=details[request],
        )


def _gold_boxes(row: Row) -> tuple[BoxesByTime, list[str]]:
    """Return boxes by second, and how the seconds are spelled; of both forms of the file."""
    found: BoxesByTime = {}
    keys: dict[str, None] = {}
    for value in row.items("bboxes", least=1):
        # An earlier form: {"<second>_<frame>": {"xmin", ..}}
        try:
            entries = [(value["timestamp"], value)] if "timestamp" in value else [
                (key.partition("_")[0], box) for key, box in value.items()
            ]  # fmt: skip
            for second, box in entries:
                a, b, c, d = (float(box[name]) for name in ("xmin", "ymin", "xmax", "ymax"))
                found.setdefault(float(second), []).append((a, b, c, d))
                keys[str(second)] = None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise row.wrong("bboxes", value, "timestamp, xmin, ymin, xmax, ymax") from error
    return found, list(keys)


def _when_prompt(request: str, text: str, told: Mapping[str, Any]) -> str:
    length = f"This video is {told['length_s']} seconds long"
    asked = f"Answer the question about the video: {text} \n"
    end = "Output the start and end moment timestamps."
    if request == "when":
        return f"{length}. {asked} {end}"
    width, height = told["size_px"]
    boxes = told["boxes"]
    return (
        f"{length} with a resolution of {width}x{height} (width x height). {asked} The object that "
        f"the question is about is in these {len(boxes)} boxes, whose times are not told: {boxes}. "
        f"{end}"
    )


def _where_prompt(request: str, text: str, told: Mapping[str, Any], size: str) -> str:
    form = (
        "Reply in JSON: the keys are whole seconds, as strings, and the values are boxes of the "
        "object, [x1, y1, x2, y2]."
    )
    if request == "where":
        seconds = told["seconds"]
        which = f"Give a box for each of these whole seconds: {seconds}."
        example = f'{{"{seconds[0]}": [x1, y1, x2, y2], ...}}'
    else:
        which = (
            f"Find out at which whole seconds the object is shown, and give {told['num_boxes']} "
            "boxes, one for each of these seconds and none for others."
        )
        example = '{"0": [x1, y1, x2, y2], "1": ...}'
    return (
        f"Answer the question about the video with boxes: {text}\n{which}{size} {form}\n{example}"
    )
