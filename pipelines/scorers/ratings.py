"""The rating that a judge's reply gives."""

from __future__ import annotations

import re
from typing import Final

from vxp_model.eval.benchmarks.thoughts import without_thoughts

LOWEST: Final = 0.0
HIGHEST: Final = 10.0

_NUMBER: Final = r"(-?\d+(?:[.,]\d+)?)"
_OUT_OF: Final = r"(?:\s*(?:/|out\s+of)\s*(\d+))?"
_NAMED: Final = re.compile(
    rf"\b(?:rating|score|grade|mark)s?\b[\"'*_`\s]*(?:is|of|would be)?[\"'*_`\s]*[:=\-]?"
    rf"[\"'*_`\s\[(]*(?<![\d.]){_NUMBER}(?![\d.,]*\d){_OUT_OF}",
    re.IGNORECASE,
)
_OF_TEN: Final = re.compile(rf"(?<![\d.,/]){_NUMBER}\s*(?:/|out\s+of)\s*(10)(?!\d)", re.IGNORECASE)
_ALONE: Final = re.compile(rf"[\s*_`\"'\[(]*{_NUMBER}{_OUT_OF}[\s*_`\"'\])]*\.?\s*")


def read_rating(reply: str) -> float | None:
    """Return the number that a reply rates with, from LOWEST to HIGHEST; None: none can be read.

    The last 'rating: N' counts (also 'score', in JSON, bold, or 'N/10'); else the last 'N/10'; else
    a reply that is nothing but a number. What lies outside of the scale, or is told on another one
    ('4/5'), is none. What a model thinks aloud before it answers is left out.
    """
    text = without_thoughts(reply)
    for pattern in (_NAMED, _OF_TEN):
        found = list(pattern.finditer(text))
        if found:
            return _number(found[-1])
    alone = _ALONE.fullmatch(text)
    return None if alone is None else _number(alone)


def _number(found: re.Match[str]) -> float | None:
    if found[2] is not None and float(found[2]) != HIGHEST:
        return None
    value = float(found[1].replace(",", "."))
    return value if LOWEST <= value <= HIGHEST else None
