"""What can be told of a row's words without a model: one number a conversation."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Final

Turns = Sequence[tuple[str, str]]
"""(question, answer) pairs of a row."""

_WORD: Final = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
_PLACEHOLDER: Final = re.compile(
    r"https?://|www\.[a-z]|</?[a-z][a-z0-9]*\b[^>\n]*>|\[(?:image|video|url|link|removed|deleted)\]"
    r"|\b\w+\.(?:jpe?g|png|gif|webp|mp4|html?)\b|\blorem ipsum\b|\bimage not (?:available|found)\b"
    r"|\bstock (?:photo|video|footage|image)s?\b|\bclick here\b|\buntitled\b|&(?:amp|nbsp|quot|lt);"
    r"|\b(?:n/a|todo|tbd|null|undefined)\b",
    re.IGNORECASE,
)
_OPTION: Final = re.compile(
    r"^[ \t]*(?:[-*][ \t]*)?(?:option[ \t]+)?\(?([A-Ja-j])[.):][ \t]*(\S[^\n]*)$", re.MULTILINE
)
_INLINE_OPTION: Final = re.compile(r"(?<!\w)\(([A-J])\)\s*([^()\n]+)")
_ANSWER: Final = re.compile(
    r"^\W*(?:the\s+)?(?:correct\s+|best\s+)?(?:answer|option)?\s*(?:is|:)?\s*"
    r"\(?([A-Ja-j])(?:[).:]\s*(.*)|\W*)$",
    re.IGNORECASE | re.DOTALL,
)
_LEAK: Final = re.compile(
    r"\b(?:correct|right|best)?\s*answer\s*(?:is|:|=)\s*\(?[A-J]\)?(?=[\s.)]|$)", re.IGNORECASE
)


def words(text: str) -> list[str]:
    """Return the words of a text, as they stand."""
    return _WORD.findall(text)


def plain(text: str) -> str:
    """Return a text as its lower-case words: the same for two ways to write one question."""
    return " ".join(words(unicodedata.normalize("NFKC", text).lower()))


def answer_words(said: Turns) -> float:
    """Count the words of the answers."""
    return float(sum(len(words(answer)) for _, answer in said))


def caption(said: Turns) -> str:
    """Return the answers as one text, '' where there are none."""
    return " ".join(" ".join(answer for _, answer in said).split())


def repetition(said: Turns) -> float:
    """Return the share of the answers' three-word sequences that came before, in [0, 1]."""
    told = words(" ".join(answer for _, answer in said).lower())
    triples = list(zip(told, told[1:], told[2:], strict=False))
    return 1.0 - len(set(triples)) / len(triples) if triples else 0.0


def placeholders(said: Turns) -> float:
    """Count URLs, markup, file names and fillers in the answers."""
    return float(sum(len(_PLACEHOLDER.findall(answer)) for _, answer in said))


def latin_letters(said: Turns) -> float:
    """Return the share of the answers' letters that are Latin; 1 without letters."""
    letters = [char for _, answer in said for char in answer if char.isalpha()]
    latin = sum(char.isascii() or "LATIN" in unicodedata.name(char, "") for char in letters)
    return latin / len(letters) if letters else 1.0


def empty_answers(said: Turns) -> float:
    """Count the answers that hold nothing."""
    return float(sum(not answer.strip() for _, answer in said))


def options_of(question: str) -> dict[str, str]:
    """Return the options that a question lists: letter -> its words, as lines or as '(A) ...'."""
    found = _OPTION.findall(question) or _INLINE_OPTION.findall(question)
    return {letter.upper(): text for letter, text in found}


def without_options(question: str) -> str:
    """Return a question without the options that it lists."""
    lines = _OPTION.sub("", question)
    return lines if lines != question else _INLINE_OPTION.sub("", question)


def fewest_options(said: Turns) -> float:
    """Count the options of each question; the least of these numbers."""
    return float(min(len(options_of(question)) for question, _ in said))


def wrong_letters(said: Turns) -> float:
    """Count the answers that name a letter without an option, or another option's words."""
    return float(sum(not agrees for agrees in _answers_agree(said)))


def leaked_answers(said: Turns) -> float:
    """Count the questions that tell the letter of their answer."""
    return float(sum(_LEAK.search(question) is not None for question, _ in said))


def _answers_agree(said: Turns) -> Iterator[bool]:
    for question, answer in said:
        options = options_of(question)
        named = _ANSWER.match(answer.strip())
        if not options or named is None:
            continue
        letter, text = named[1].upper(), plain(named[2] or "")
        others = {plain(words_) for other, words_ in options.items() if other != letter}
        yield letter in options and not (text in others and text != plain(options[letter]))
