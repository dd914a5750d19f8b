"""What a reply says once a model has thought."""

from __future__ import annotations

import re
from typing import Final

_BEGIN: Final = re.compile(r"[<◁]think(?:ing)?[>▷]", re.IGNORECASE)
_END: Final = re.compile(r"[<◁]/think(?:ing)?[>▷]", re.IGNORECASE)


def without_thoughts(reply: str) -> str:
    """Return what a reply says after thinking; nothing where it was cut while at it."""
    *_, said = _END.split(reply)
    return "" if _BEGIN.search(said) else said
