"""Rules of texts: captions, and what answers hold.

Shapes: N rows of a run, in order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vxp_data.core import text_rules
from vxp_data.core.filters import FilterRule, RowFacts, Turns
from vxp_data.records import Modality, Reason, Task


def is_pair(facts: RowFacts) -> NDArray[np.bool_]:
    """Return which rows are image-text pairs: captions of one image, with words."""
    has_words_N = np.array([bool(text_rules.caption(said)) for said in facts.exchanges], np.bool_)
    is_caption_N = np.array([task == Task.CAPTION for task in facts.task], np.bool_)
    is_pair_N: NDArray[np.bool_] = (
        facts.is_modality(Modality.IMAGE) & is_caption_N & has_words_N & (facts.index_N >= 0)
    )
    return is_pair_N


def by_text(
    measure: Callable[[Turns], float], task: Task | None = None
) -> Callable[[RowFacts], NDArray[np.float64]]:
    """Build a rule's function from one that measures a conversation; of one task, or of any."""

    def of_rows(facts: RowFacts) -> NDArray[np.float64]:
        return np.array(
            [
                measure(said) if said and task in (None, own) else np.nan
                for said, own in zip(facts.exchanges, facts.task, strict=True)
            ],
            dtype=np.float64,
        ).reshape(len(facts.sample_id))

    return of_rows


CAPTION_WORDS: Final = FilterRule(
    name="caption_words", version=1, unit="words", low=0.0, high=np.inf,
    below=Reason.CAPTION_TOO_SHORT, above=Reason.CAPTION_TOO_LONG, needs="text",
    of_rows=by_text(text_rules.answer_words, Task.CAPTION),
)  # fmt: skip
"""Words of a caption row's answers."""

REPETITION: Final = FilterRule(
    name="caption_repetition", version=1, unit="share", low=0.0, high=1.0,
    below=None, above=Reason.CAPTION_REPETITIVE, needs="text",
    of_rows=by_text(text_rules.repetition, Task.CAPTION),
)  # fmt: skip
"""Share of a caption's three-word sequences that came before in it."""

IMAGE_TEXT_SIMILARITY: Final = FilterRule(
    name="image_text_similarity", version=1, unit="cosine", low=-1.0, high=1.0,
    below=Reason.CAPTION_UNLIKE_IMAGE, above=None, needs="similarity",
    of_rows=lambda facts: np.where(is_pair(facts), facts.similarity_N, np.nan),
)  # fmt: skip
"""Cosine of an image and its caption, or the caption's beginning, by the encoder's text side. It
is measured by `prune` where this filter is set; a pair without one stays."""

PLACEHOLDERS: Final = FilterRule(
    name="placeholders", version=1, unit="findings", low=0.0, high=np.inf,
    below=None, above=Reason.PLACEHOLDER_TEXT, needs="text",
    of_rows=by_text(text_rules.placeholders),
)  # fmt: skip
"""URLs, markup, file names and fillers in a row's answers."""

LATIN_LETTERS: Final = FilterRule(
    name="latin_letters", version=1, unit="share", low=0.0, high=1.0,
    below=Reason.WRONG_LANGUAGE, above=None, needs="text",
    of_rows=by_text(text_rules.latin_letters),
)  # fmt: skip
"""Share of the letters of a row's answers that are Latin: tells scripts, not languages."""

EMPTY_ANSWERS: Final = FilterRule(
    name="empty_answers", version=1, unit="answers", low=0.0, high=np.inf,
    below=None, above=Reason.EMPTY_ANSWER, needs="text",
    of_rows=by_text(text_rules.empty_answers),
)  # fmt: skip
"""Questions of a row without an answer."""

ANSWER_WORDS: Final = FilterRule(
    name="answer_words", version=1, unit="words", low=0.0, high=np.inf,
    below=Reason.ANSWER_TOO_SHORT, above=Reason.ANSWER_TOO_LONG, needs="text",
    of_rows=by_text(text_rules.answer_words),
)  # fmt: skip
"""Words of all answers of a row together, of any task; a letter is a word, and so is a run of
script without spaces."""
