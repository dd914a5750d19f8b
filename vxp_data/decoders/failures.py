"""What a library raises about a file is that file's reason, and never the end of a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import av

from vxp_data.errors import MediaError
from vxp_data.records import Reason

_OF_LIBRARIES: Final = (
    av.FFmpegError,
    IndexError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)
"""Raised by PyAV and numpy over what a file says; other types are errors in our own code."""

_MOST_WORDS: Final = 300
"""Of a message, characters."""


@contextmanager
def failures_as_reasons(reason: Reason) -> Iterator[None]:
    """Raise whatever a library raises in the block as a `MediaError` with its own words.

    A lack of memory stays what it is: the sandbox has a reason of its own for it.

    Args:
        reason: for a failure that is no `MediaError` yet.

    Raises:
        MediaError: something failed.
    """
    try:
        yield
    except MemoryError:  # PyAV's is an FFmpegError too
        raise
    except _OF_LIBRARIES as error:
        words = f"{type(error).__name__}: {error}"
        raise MediaError(reason, " ".join(words.split())[:_MOST_WORDS]) from error
