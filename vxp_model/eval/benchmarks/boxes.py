"""Boxes in a video's pictures: read from replies, and compared.

`read_boxes` is our reading of a reply: broken JSON is mended, seconds are compared as numbers, and
boxes that the model gives in another size are brought to the video's own.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from vxp_model.eval.benchmarks.intervals import seconds_of
from vxp_model.eval.benchmarks.thoughts import without_thoughts

Box = tuple[float, float, float, float]
"""x and y of one corner, x and y of the opposite one, pixels of the video itself."""
BoxesByTime = dict[float, list[Box]]
"""Second -> boxes given for it."""

_BOX_NAMES: Final = ("bbox_2d", "bbox", "box", "bounding_box", "boxes", "bboxes")
_TIME_NAMES: Final = ("timestamp", "time", "second", "seconds", "t")
_CORNER_NAMES: Final = (("xmin", "ymin", "xmax", "ymax"), ("x1", "y1", "x2", "y2"))
_SIZE_NAMES: Final = (("width", "height"), ("image_width", "image_height"))

_FENCED = re.compile(r"```(?:json)?\s*(.*?)(?:```|$)", re.S | re.I)
_BARE_KEY = re.compile(r"([{,]\s*)([A-Za-z_]\w*|\d+(?:\.\d+)?)(\s*:)")
_TRAILING_COMMA = re.compile(r",\s*(?=[}\]])")
_NUMBER = r"-?\d{1,9}(?:\.\d{1,20})?"
_ENTRY = re.compile(
    rf"[\"']?(?<![\d:.-])(?P<key>\d[\d:.]{{0,15}})\s?(?:s|sec|seconds?)?[\"']?\s*:\s*"
    rf"(?P<boxes>\[+\s*{_NUMBER}(?:\s*,\s*{_NUMBER}){{3}}\s*\]"
    rf"(?:\s*,\s*\[\s*{_NUMBER}(?:\s*,\s*{_NUMBER}){{3}}\s*\])*)"
)
"""A second and its boxes, wherever it stands."""
_CLOSING: Final = {"[": "]", "{": "}"}


def box_iou(one: Sequence[float], other: Sequence[float]) -> float:
    """Return shared area over united area, in [0, 1]; 0 for boxes without area."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    united = areas - shared
    return shared / united if united > 0 and math.isfinite(united) else 0.0


def read_boxes(
    reply: str, *, size_px: tuple[float, float], given_size_px: tuple[float, float] | None = None
) -> BoxesByTime | None:
    """Return the boxes that a reply gives, by second.

    Read are an object `{"12": [x1, y1, x2, y2]}`, with several boxes a second too, a list of such
    objects, of pairs `["12", [..]]`, or of `{"time": 12, "bbox_2d": [..]}`; fenced or bare, in
    single quotes, with bare keys, cut off at the end. Never raises.

    Args:
        reply: what the model says.
        size_px: width and height of the video.
        given_size_px: those of the picture in which the model gives boxes; None: the video's own,
            unless the reply says otherwise: by `"width"` and `"height"` beside the boxes, or by
            numbers that are all between 0 and 1, which are shares of the sides.

    Returns:
        None where no box can be read.
    """
    text = without_thoughts(reply)
    found, told = _from_json(text)
    if not found:
        found = _from_entries(text)
    if not found:
        return None
    every = [number for boxes in found.values() for box in boxes for number in box]
    if given_size_px is None:
        given_size_px = told or ((1.0, 1.0) if max(every) <= 1 else None)
    if given_size_px is not None:
        x, y = (size / given for size, given in zip(size_px, given_size_px, strict=True))
        found = {
            second: [(a * x, b * y, c * x, d * y) for a, b, c, d in boxes]
            for second, boxes in found.items()
        }
    return {
        second: [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in boxes]
        for second, boxes in sorted(found.items())
    }


def box_ious(
    gold: Mapping[float, Sequence[Box]], given: Mapping[float, Sequence[Box]]
) -> list[float]:
    """Return the IoU of every right box with the best one given for its second; 0: none is."""
    return [
        max((box_iou(right, box) for box in given.get(second, ())), default=0.0)
        for second, boxes in gold.items()
        for right in boxes
    ]


def boxes_text(boxes: Mapping[float, Sequence[Box]]) -> str:
    """Return boxes as parsed answers hold them: a JSON object, seconds in order."""
    return json.dumps({str(second): list(map(list, boxes[second])) for second in sorted(boxes)})


def boxes_of(text: str | None) -> BoxesByTime:
    """Return what `boxes_text` wrote; nothing for anything else."""
    if text is None:
        return {}
    try:
        found = json.loads(text)
        return {
            float(second): [(float(a), float(b), float(c), float(d)) for a, b, c, d in boxes]
            for second, boxes in found.items()
        }
    except (ValueError, TypeError, AttributeError):
        return {}


def _from_json(text: str) -> tuple[BoxesByTime, tuple[float, float] | None]:
    """Return boxes of the JSON in a text, and the size that it names beside them.

    Of several fenced parts all count; of what two say of a second, the later.
    """
    found: BoxesByTime = {}
    size = None
    for fenced in _FENCED.finditer(text):
        boxes, told = _of_json(fenced[1])
        found, size = found | boxes, told or size
    if found:
        return found, size
    starts = [at for at in (text.find("{"), text.find("[")) if at >= 0]
    if starts:
        start, end = min(starts), max(text.rfind("}"), text.rfind("]"))
        for bare in (text[start : end + 1], text[start:]):
            found, size = _of_json(bare)
            if found:
                break
    return found, size


def _of_json(text: str) -> tuple[BoxesByTime, tuple[float, float] | None]:
    """Return the boxes of one JSON value, mended if need be, and the size that it names."""
    for mended in (text, _mended(text)):
        try:
            value = json.loads(mended)
        except (ValueError, RecursionError):
            continue
        found: BoxesByTime = {}
        for second, box in _entries(value):
            found.setdefault(second, []).append(box)
        if found:
            return found, _told_size(value)
    return {}, None


def _mended(text: str) -> str:
    """Return JSON with its quotes, keys, commas and brackets put right, as far as can be told."""
    text = _BARE_KEY.sub(r'\1"\2"\3', text.replace("'", '"').replace("(", "[").replace(")", "]"))
    whole: list[str] = []
    open_brackets: list[str] = []
    is_quoted = False
    for sign in text:
        if sign == '"':
            is_quoted = not is_quoted
        elif not is_quoted and sign in _CLOSING:
            open_brackets.append(_CLOSING[sign])
        elif not is_quoted and sign in "]}":
            if not open_brackets:
                continue
            while open_brackets[-1] != sign and sign in open_brackets:
                whole.append(open_brackets.pop())
            if open_brackets[-1] != sign:
                continue
            open_brackets.pop()
        whole.append(sign)
    closed = "".join(whole).rstrip().rstrip(",") + "".join(reversed(open_brackets))
    return _TRAILING_COMMA.sub("", closed)


def _entries(value: Any) -> Iterator[tuple[float, Box]]:
    """Return every second and box of a JSON value of one of the known forms."""
    if isinstance(value, dict):
        second = next((value[name] for name in _TIME_NAMES if name in value), None)
        if second is not None and (time_s := _second(second)) is not None:
            named = next((value[name] for name in _BOX_NAMES if name in value), value)
            yield from ((time_s, box) for box in _boxes(named))
            return
        for key, boxes in value.items():
            if (time_s := _second(key)) is not None:
                yield from ((time_s, box) for box in _boxes(boxes))
            elif key in _BOX_NAMES:
                yield from _entries(boxes)
    elif isinstance(value, list):
        for item in value:
            if (
                isinstance(item, list)
                and len(item) == 2
                and (time_s := _second(item[0])) is not None
            ):
                yield from ((time_s, box) for box in _boxes(item[1]))
            else:
                yield from _entries(item) if isinstance(item, dict) else ()


def _second(value: Any) -> float | None:
    if isinstance(value, str):
        return seconds_of(value)
    return float(value) if _is_number(value) and value >= 0 else None


def _boxes(value: Any) -> Iterator[Box]:
    """Return the boxes of four numbers, of names of corners, or of a list of either."""
    if isinstance(value, dict):
        for names in _CORNER_NAMES:
            if all(_is_number(value.get(name)) for name in names):
                a, b, c, d = (float(value[name]) for name in names)
                yield a, b, c, d
                return
        yield from _boxes(next((value[name] for name in _BOX_NAMES if name in value), None))
    elif isinstance(value, list):
        if len(value) == 4 and all(_is_number(item) for item in value):
            a, b, c, d = map(float, value)
            yield a, b, c, d
        else:
            for item in value:
                yield from _boxes(item) if isinstance(item, list | dict) else ()


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(value) < 1e9


def _told_size(value: Any) -> tuple[float, float] | None:
    if isinstance(value, dict):
        for names in _SIZE_NAMES:
            sides = [float(value[name]) for name in names if _is_number(value.get(name))]
            if len(sides) == 2 and min(sides) >= 1:
                return sides[0], sides[1]
    return None


def _from_entries(text: str) -> BoxesByTime:
    """Return boxes after seconds, in a text that is no JSON at all."""
    found: BoxesByTime = {}
    for entry in _ENTRY.finditer(text):
        second = seconds_of(entry["key"])
        numbers = [float(number) for number in re.findall(_NUMBER, entry["boxes"])]
        if second is not None:
            for at in range(0, len(numbers), 4):
                a, b, c, d = numbers[at : at + 4]
                found.setdefault(second, []).append((a, b, c, d))
    return found
