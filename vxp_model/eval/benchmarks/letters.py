"""Which option a reply names: by its letter or by its own text, ranked by how clearly it says so.

Strict: a capital that begins a sentence is no letter, 'A man walks' names no option unless one
reads so, what is refused ('A is wrong', 'I don't think it is B') is not named, and two letters
without a choice between them are none. What is not clear is None, which counts as wrong: an
evaluation that guesses measures its guesses. Others' rules are in `published`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from vxp_model.eval.benchmarks.letter_labels import (
    EDGES,
    MARKUP,
    TYPED,
    Asked,
    has_rival,
    is_clear,
    label_at,
    letters_for,
)
from vxp_model.eval.benchmarks.thoughts import without_thoughts

__all__ = ["letters_for", "read_letter"]

_TOKEN: Final = re.compile(r"<\|[^<>|]{1,40}\|>|</?s>")
"""What decoders leave of a chat template."""
_LATEX: Final = re.compile(r"\\(?:text|textbf|mathrm|mathbf)\s*\{([^{}]*)\}")
_CONTAINER: Final = re.compile(
    r"""<(?:answer|option|choice)>(.*?)(?:</(?:answer|option|choice)>|$)
    |\\boxed\s*\{([^{}]*)\}
    |["'](?:[\w\ ]*[ _])?(?:answer|option|choice|prediction|letter)["']\s*:\s*\[?\s*
     (?:"([^"]*)"|'([^']*)'|([A-Za-z])\b)""",
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
"""Tags, LaTeX's box, and fields of JSON."""
_BULLET: Final = re.compile(
    r"^(?:(?:[-=]*>|→|[-•✓✔✅☑]\ufe0f?|\d[.)])\s+)+(?=\(?[A-Za-z]\b)", re.MULTILINE
)

_LIST_ITEM: Final = re.compile(r"(?:(?<!\w)|(?<=项))\(?([A-Z])[.):]")
_DECLARED: Final = re.compile(
    r"""\b(?:answer|ans\.?|option|choice|prediction)(?!\w)
        (?:(?:\s+(?!(?:not|never|cannot)\b|\w+n't\b)[\w'-]+,?){0,8}?
           \s+(?:is|be|would\s+be|should\s+be|must\s+be|will\s+be|could\s+be|may\s+be|might\s+be
               |seems\s+to\s+be|appears\s+to\s+be)\b
           (?:\s+(?:most\s+likely|indeed|therefore|thus|given\s+by|\w+ly)\b)*\s*[:\-]?
         |\s*(?:[:=]|-+>|=>|→|\s-\s|\n)|(?<=ans\.))
    |(?:\b(?:I|we)(?:\s+would|\s+will|'d|'ll|\s+am|'m|\s+have\s+to)?\s+|\blet's\s+|^)
     (?:going\s+to\s+)?
     (?:choose|select|pick|go(?:ing)?\s+(?:with|for)|guess|say|vote(?:\s+for)?
       |answer(?:\s+with)?)\b
    |答案[】\]]?\s*(?:应该|应当|应)?(?:是|为|选)?\s*:?|选项(?:应该|应)?(?:是|为|:)+
    |正确的是|(?<![可])选择?(?!项):?""",
    re.IGNORECASE | re.VERBOSE,
)
_OPTION_LIST: Final = re.compile(r"^(?:option|choice)", re.IGNORECASE)
_IS_RIGHT: Final = re.compile(
    r"""(?<![\w'])\(?(?:[Oo]ption\s+\(?(?P<named>[A-Za-z])|(?P<bare>[A-Z]))\)?\s+(?:
        (?:is|seems|looks|appears|fits|would\s+be|must\s+be)\s+(?:to\s+be\s+)?(?:the\s+)?
        (?:more\s+|most\s+)?(?:correct|right|best|better|closest|answer|likely|accurate|appropriate
           |plausible|suitable)
        |(?:best|correctly|accurately|most\s+\w+ly)\s+\w+s)\b
    |选项(?P<chinese>[A-Z])是?(?:正确|对)""",
    re.VERBOSE,
)
_OR_BEFORE: Final = re.compile(r"(?<![\w'])\(?([A-Z])\)?\s*(?:,|/|and|or)\s*(?:[Oo]ption\s*)?$")
_BRACKETED: Final = re.compile(
    r"(?<!\w)(?:\(\s?([A-Z])\s?\)|\[([A-Z])\]|([A-Z])\)|[Oo]ption\s+([A-Z])(?!\w))"
)
_POINTED: Final = re.compile(
    r"""\b(?:(?:it|this|that)(?:'s|\s+is|\s+(?:must|should|would|has\s+to|seems\s+to|appears\s+to)
        \s+be|\s+looks\s+like)|I\s+(?:think|believe)|match(?:es)?(?:\s+with)?
        |corresponds?\s+to)\b""",
    re.IGNORECASE | re.VERBOSE,
)
_REFUSED: Final = re.compile(
    r"\b(?:not|neither|nor|than|instead|incorrect|wrong|except|without)\b|n't\b", re.IGNORECASE
)
_DOUBTED: Final = re.compile(
    r"""\b(?:whether|if|unless|neither|nor)\s+
        (?:(?:it\s+is|the|option|answer|correct|\(?[A-Z]\)?\s*(?:,|/|or|nor|and))\s*)*$
    |(?:n't|\bnot)\s+(?:think|believe|say|sure|certain|clear|possible)\b[^.!?;,]*$
    |\bdoubt\b[^.!?;,]*$
    |\b(?:wrong|incorrect|false)\s+(?:(?:answer|option|choice)\s+is\s+)?$
    |(?:\b(?:not|never|cannot)|n't)\s+be\s+$""",
    re.IGNORECASE | re.VERBOSE,
)
"""What is said in such a clause is not said to be so."""
_SENTENCE_END: Final = re.compile(r"[.!?\n]")
_CLAUSE_END: Final = re.compile(r"[.!?;\n]|\bbut\b")
_BECAUSE: Final = re.compile(r",?\s+(?:because|since)\b", re.IGNORECASE)
_CONCLUDED: Final = re.compile(
    r"""(?:(?<!\b[A-Z])(?<![A-Z]\))[.!?,:;\n]|\s-
        |\b(?:[Ss]o|[Tt]herefore|[Tt]hus|[Hh]ence|Then|[Ii]t\s+is|[Ii]t's|is|be|think|say|believe
           |(?<![Aa]ll\s)(?<!ing\s)but|[Mm]aybe|[Pp]erhaps|\w+ly))
    \s+([A-Z])[.!]?\s*$""",
    re.VERBOSE,
)
_IT_IS: Final = re.compile(r"^(?:it\s+is|it's|this\s+is|they\s+are|he\s+is|she\s+is)\s+", re.I)

UNUSABLE: Final = ""
"""A reply says something, and it cannot be used: an option that is not there, or two of them."""
_MOST_BEFORE: Final = 160
"""Characters before a letter in which its clause is looked for."""


def read_letter(reply: str, options: Sequence[str], letters: str) -> str | None:
    """Return the letter of the option that a reply names.

    Args:
        reply: without what it was made to begin with.
        options: their texts without letters; empty where they are not known.
        letters: what there is to choose of, such as 'ABCD'.

    Returns:
        letter: None where it is not clear, or there is no such option.
    """
    text = _spoken(reply)
    asked = Asked(letters, tuple(options[: len(letters)]))
    containers = list(_CONTAINER.finditer(text))
    if containers:  # what is put into one is the answer, or there is none
        text = next(group for group in containers[-1].groups() if group is not None)
    text = _BULLET.sub("", MARKUP.sub("", text).strip())
    for rule in _RULES:
        found = rule(text, asked)
        if found is not None:
            return found or None
    return None


def _spoken(reply: str) -> str:
    """Return a reply without its thoughts; nothing where it was cut while thinking."""
    text = unicodedata.normalize("NFKC", without_thoughts(reply)).translate(TYPED)
    return _LATEX.sub(r"\1", _TOKEN.sub(" ", text)).strip()


def _by_letter_alone(text: str, asked: Asked) -> str | None:
    label = label_at(text)
    if label is None or label.after.strip(EDGES) or label.letter not in asked.letters:
        return None
    return label.letter


def _by_text_alone(text: str, asked: Asked) -> str | None:
    return asked.named(text)


def _by_lines(text: str, asked: Asked) -> str | None:
    """Return that it is unusable where each line names an option, and they differ."""
    items = [_LIST_ITEM.match(line) for line in text.splitlines() if line.strip()]
    letters = {item[1] for item in items if item} & set(asked.letters)
    bare = {line.strip() for line in text.splitlines() if line.strip()}
    if len(bare) > 1 and bare <= set(asked.letters):
        return UNUSABLE
    return UNUSABLE if all(items) and len(letters) > 1 and not _REFUSED.search(text) else None


def _by_declaration(text: str, asked: Asked) -> str | None:
    """Return what follows the last 'the answer is', or stands before the last 'is correct'."""
    found: list[tuple[int, str]] = []
    for said in _DECLARED.finditer(text):
        if _DOUBTED.search(_clause_before(text, said.start())):
            continue
        label = label_at(text, said.end())
        if label is not None and is_clear(label, asked):
            if label.is_refused or (_OPTION_LIST.match(said[0]) and _lists_all(label.after, asked)):
                continue
            bad = has_rival(label, asked)
            found.append((said.start(), UNUSABLE if bad else _usable(label.letter, asked)))
            continue
        rest = text[said.end() :].lstrip()
        named = _first_named(rest, asked)
        if named:
            found.append((said.start(), named))
    for said in _IS_RIGHT.finditer(text):
        before = _clause_before(text, said.start())
        letter = next(group for group in said.groups() if group).upper()
        if letter in asked.letters and not _DOUBTED.search(before):
            other = _OR_BEFORE.search(before)
            found.append((said.start(), UNUSABLE if other and other[1] != letter else letter))
    return max(found)[1] if found else None


def _by_first_word(text: str, asked: Asked) -> str | None:
    label = label_at(text)
    if label is None or not is_clear(label, asked) or label.is_refused:
        return None
    if label.letter == asked.letters[:1] and _lists_all(label.after, asked):
        return None  # it says all options once more
    return UNUSABLE if has_rival(label, asked) else _usable(label.letter, asked)


def _by_pointing(text: str, asked: Asked) -> str | None:
    """Return what 'it is' or 'I think' is followed by, if that can be nothing but a letter."""
    found = []
    for said in _POINTED.finditer(text):
        label = label_at(text, said.end())
        if label is None or not label.is_set_off or label.is_refused:
            continue
        is_doubted = _DOUBTED.search(_clause_before(text, said.start()))
        if label.letter in asked.letters and not is_doubted:
            found.append(UNUSABLE if has_rival(label, asked) else label.letter)
    return _only(found)


def _by_line_alone(text: str, asked: Asked) -> str | None:
    labels = [label_at(line) for line in text.splitlines()]
    return _only(
        label.letter
        for label in labels
        if label is not None and label.is_capital and not label.after.strip(EDGES)
        if label.letter in asked.letters
    )


def _by_letter_and_text(text: str, asked: Asked) -> str | None:
    """Return the letter that is followed by the text of its own option."""
    if _lists_all(text, asked, least=1):
        return None
    found = []
    for item in _LIST_ITEM.finditer(text):
        if _first_named(text[item.end() :], asked) == item[1]:
            found.append(item[1])
    return _only(found)


def _by_conclusion(text: str, asked: Asked) -> str | None:
    found = _CONCLUDED.search(text)
    if found is None or found[1] not in asked.letters:
        return None
    return None if _DOUBTED.search(_clause_before(text, found.start(1))) else found[1]


def _by_bracket(text: str, asked: Asked) -> str | None:
    found = []
    for item in _BRACKETED.finditer(text):
        letter = next(group for group in item.groups() if group)
        label = label_at(text, item.start())
        if letter not in asked.letters or (label is not None and label.is_refused):
            continue
        if not _REFUSED.search(_clause_before(text, item.start())):
            found.append(letter)
    return _only(found)


def _by_first_sentence(text: str, asked: Asked) -> str | None:
    return _first_named(_IT_IS.sub("", text), asked)


def _usable(letter: str, asked: Asked) -> str:
    return letter if letter in asked.letters else UNUSABLE


def _clause_before(text: str, end: int) -> str:
    return _CLAUSE_END.split(text[max(end - _MOST_BEFORE, 0) : end])[-1]


def _lists_all(text: str, asked: Asked, *, least: int = 2) -> bool:
    """Whether all letters, from the second on (`least` 1: the first), stand there as a list."""
    wanted = asked.letters[least - 1 :]
    listed = [item for item in _LIST_ITEM.findall(text) if item in wanted]
    return len(asked.letters) >= 3 and set(listed) == set(wanted)


def _first_named(text: str, asked: Asked) -> str | None:
    """Return the option that a text begins with, up to the end of a sentence."""
    near = text[:1000]  # no option is longer
    return (
        asked.named(text)
        or asked.named(_SENTENCE_END.split(near)[0])
        or asked.named(_BECAUSE.split(near)[0])
    )


def _only(letters: Iterable[str]) -> str | None:
    different = set(letters)
    return different.pop() if len(different) == 1 else None


_RULES: Final[tuple[Callable[[str, Asked], str | None], ...]] = (
    _by_letter_alone,
    _by_text_alone,
    _by_lines,
    _by_declaration,
    _by_first_word,
    _by_pointing,
    _by_line_alone,
    _by_letter_and_text,
    _by_conclusion,
    _by_bracket,
    _by_first_sentence,
)
"""The clearest first; None: it says nothing, and the next one is asked."""
