"""Which option a reply names: by its letter or by its own text, ranked by how clearly it says so.

Strict: a capital that begins a sentence is no letter, 'A man walks' names no option unless one
reads so, and two letters without a choice between them are none. What is not clear is None, which
counts as wrong: an evaluation that guesses measures its guesses. Others' rules are in `published`.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

_THOUGHT: Final = re.compile(r"<think(?:ing)?>", re.IGNORECASE)
_AFTER_THOUGHT: Final = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
_TOKEN: Final = re.compile(r"<\|[^<>|]{1,40}\|>|</?s>")
"""What decoders leave of a chat template."""
_LATEX: Final = re.compile(r"\\(?:text|textbf|mathrm|mathbf)\s*\{([^{}]*)\}")
_CONTAINER: Final = re.compile(
    r"<answer>(.*?)(?:</answer>|$)|\\boxed\s*\{([^{}]*)\}", re.IGNORECASE | re.DOTALL
)
_MARKUP: Final = re.compile(r"[*`$#]+|(?<!\w)__|__(?!\w)")
_TYPED: Final = str.maketrans("\u2018\u2019\u201c\u201d\u2013\u2014", "''\"\"--")
_ARTICLE: Final = re.compile(r"^(?:a|an|the)\s+")
_EDGES: Final = " \t\r\n.,;:!?'\"()[]{}"

_LABEL: Final = re.compile(
    r"""\s*(?P<word>(?:the\s+)?(?:option|choice|letter|answer)\s*[:\#]?\s*)?
    (?P<open>[(\[{<"']*)\s*(?P<letter>[A-Za-z])(?P<close>\s?[)\]}>"']+)?(?P<mark>[.:,;!?]*)""",
    re.IGNORECASE | re.VERBOSE,
)
_SAYS_WHY: Final = re.compile(
    r"\s+(?:because|since|as|is|which|for|due|based|-+)(?=\W|$)", re.IGNORECASE
)
_OTHER: Final = re.compile(
    r"[.)\]]?\s*(?:[,;/&+|]|and\b|or\b|和|或)\s*(?:and\b|or\b)?", re.IGNORECASE
)
_LIST_ITEM: Final = re.compile(r"(?<!\w)\(?([A-Z])[.):]")
_DECLARED: Final = re.compile(
    r"""\b(?:answer|ans|option|choice|prediction)\b
        (?:(?:\s+[\w'-]+,?){0,8}?
           \s+(?:is|be|would\s+be|should\s+be|must\s+be|will\s+be|could\s+be|may\s+be|might\s+be
               |seems\s+to\s+be|appears\s+to\s+be)\b
           (?:\s+(?:most\s+likely|likely|probably|clearly|indeed|therefore))?\s*[:\-]?
         |\s*(?:[:=]|->|→))
    |\bI(?:\s+would|\s+will|'d|'ll)?\s+(?:choose|select|pick|go\s+with|answer(?:\s+with)?)\b
    |答案(?:是|为|:)|选(?:择|项)?:?""",
    re.IGNORECASE | re.VERBOSE,
)
_IS_RIGHT: Final = re.compile(
    r"""(?<![\w'])\(?(?:[Oo]ption\s+\(?(?P<named>[A-Za-z])|(?P<bare>[A-Z]))\)?\s+
        (?:is|seems|looks|appears)\s+(?:to\s+be\s+)?(?:the\s+)?(?:most\s+)?
        (?:correct|right|best|answer|likely|accurate|appropriate)\b""",
    re.VERBOSE,
)
_BRACKETED: Final = re.compile(
    r"(?<!\w)(?:\(\s?([A-Z])\s?\)|\[([A-Z])\]|([A-Z])\)|[Oo]ption\s+([A-Z])(?!\w))"
)
_REFUSED: Final = re.compile(
    r"\b(?:not|neither|nor|than|instead|incorrect|wrong|except|without)\b|n't\b", re.IGNORECASE
)
_SENTENCE_END: Final = re.compile(r"[.!?\n]")
_CLAUSE_END: Final = re.compile(r"[.!?;\n]|\bbut\b")
_CONCLUDED: Final = re.compile(
    r"(?:[,:;\n]|\b(?:[Ss]o|[Tt]herefore|[Tt]hus|[Hh]ence|[Ii]t\s+is|[Ii]t's|is|be|think|say|believe))"
    r"\s+([A-Z])[.!]?\s*$"
)
_IT_IS: Final = re.compile(r"^(?:it\s+is|it's|this\s+is|they\s+are|he\s+is|she\s+is)\s+", re.I)

UNUSABLE: Final = ""
"""A reply says something, and it cannot be used: an option that is not there, or two of them."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """What may be said."""

    letters: str
    options: tuple[str, ...]
    """Their texts; none where they are not known."""

    def named(self, text: str) -> str | None:
        """Return the letter of the option whose text this is; of equal ones the first."""
        if len(text) > 2 * max(map(len, self.options), default=0) + 100:
            return None
        said = _same(text)
        found = [i for i, option in enumerate(self.options) if said and _same(option) == said]
        if len({_plain(self.options[i]) for i in found}) > 1:  # 'the cat' and 'a cat'
            found = [i for i in found if _plain(self.options[i]) == _plain(text)]
        return self.letters[found[0]] if found else None

    def usable(self, letter: str) -> str:
        return letter if letter in self.letters else UNUSABLE


@dataclass(frozen=True, slots=True)
class _Label:
    """A letter in a reply, and what stands around it."""

    letter: str
    is_capital: bool
    is_named: bool
    """'Option B'."""
    is_wrapped: bool
    """In brackets or quotes, or with a bracket behind it."""
    mark: str
    after: str
    """From the letter's closing bracket on, mark included."""

    @property
    def tail(self) -> str:
        return self.after[len(self.mark) :]


def letters_for(num_options: int) -> str:
    """Return the letters of so many options, 'ABCD' for 4."""
    return string.ascii_uppercase[:num_options]


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
    asked = _Asked(letters, tuple(options[: len(letters)]))
    containers = list(_CONTAINER.finditer(text))
    if containers:  # what is put into one is the answer, or there is none
        text = next(group for group in containers[-1].groups() if group is not None)
    text = _MARKUP.sub("", text).strip()
    for rule in _RULES:
        found = rule(text, asked)
        if found is not None:
            return found or None
    return None


def _spoken(reply: str) -> str:
    """Return a reply without its thoughts; nothing where it was cut while thinking."""
    text = unicodedata.normalize("NFKC", reply).translate(_TYPED)
    ends = list(_AFTER_THOUGHT.finditer(text))
    if ends:
        text = text[ends[-1].end() :]
    elif _THOUGHT.search(text):
        return ""
    return _LATEX.sub(r"\1", _TOKEN.sub(" ", text)).strip()


def _same(text: str) -> str:
    """Return a text as it is compared: without case, articles, markup, and marks at its ends."""
    plain = _plain(text)
    return _ARTICLE.sub("", plain.strip(_EDGES)) or plain


def _plain(text: str) -> str:
    typed = unicodedata.normalize("NFKC", text).translate(_TYPED)
    return " ".join(_MARKUP.sub("", typed).casefold().split())


def _label_at(text: str, start: int = 0) -> _Label | None:
    """Return the letter that stands at a place by itself."""
    found = _LABEL.match(text, start)
    if found is None:
        return None
    close = (found["close"] or "").strip()
    after = text[found.end("close") if close else found.end("letter") :]
    mark = found["mark"] if close or after.startswith(found["mark"]) else ""
    label = _Label(
        letter=found["letter"].upper(),
        is_capital=found["letter"].isupper(),
        is_named=found["word"] is not None,
        is_wrapped=bool(set("([{<") & set(found["open"])) or bool(set(")]}>") & set(close)),
        mark=mark,
        after=after,
    )
    return None if _is_in_word(label, quoted=bool(close) and not label.is_wrapped) else label


def _is_in_word(label: _Label, *, quoted: bool) -> bool:
    """Whether the letter begins a word or an abbreviation: 'Blue', "B's", 'D-day', 'B.C.'."""
    tail = label.tail
    if label.mark:
        return label.mark == "." and re.match(r"[A-Za-z](?:\.|$)", tail) is not None
    if not tail or (label.is_wrapped and not quoted):
        return False
    if tail[0] in "-'_" and tail[1:2].isalnum():
        return True
    return tail[0].isalnum() and ord(tail[0]) < 0x2E80  # a Chinese word may follow at once


def _is_clear(label: _Label, asked: _Asked) -> bool:
    """Whether a letter is meant as an option, and is not the article 'a'."""
    tail = label.tail
    if label.is_wrapped or not tail.strip(_EDGES) or tail.startswith("\n"):
        return True
    if label.mark[:1] in (".", ":"):
        return True
    if label.mark:
        return label.is_capital
    if label.letter not in asked.letters:
        return False
    if _SAYS_WHY.match(tail):
        return label.is_capital or label.letter != "A"
    if not label.is_capital:
        return False
    if label.is_named or label.letter != "A" or not tail.lstrip()[:1].isalnum():
        return True
    place = asked.letters.index("A")
    return len(asked.options) > place and _same(asked.options[place]) == _same(tail)


def _has_rival(label: _Label, asked: _Asked) -> bool:
    """Whether another letter is named in the same breath: 'A or B', 'B, C'."""
    joined = _OTHER.match(label.after)
    other = _label_at(label.after, joined.end()) if joined else None
    return (
        other is not None
        and other.letter != label.letter
        and other.letter in asked.letters
        and (other.is_capital or other.is_wrapped)
        and _is_clear(other, asked)
    )


def _by_letter_alone(text: str, asked: _Asked) -> str | None:
    label = _label_at(text)
    if label is None or label.after.strip(_EDGES) or label.letter not in asked.letters:
        return None
    return label.letter


def _by_text_alone(text: str, asked: _Asked) -> str | None:
    return asked.named(text)


def _by_declaration(text: str, asked: _Asked) -> str | None:
    """Return what follows the last 'the answer is', or stands before the last 'is correct'."""
    found: list[tuple[int, str]] = []
    for said in _DECLARED.finditer(text):
        label = _label_at(text, said.end())
        if label is not None and _is_clear(label, asked):
            bad = _has_rival(label, asked)
            found.append((said.start(), UNUSABLE if bad else asked.usable(label.letter)))
            continue
        rest = text[said.end() :].lstrip()
        named = asked.named(rest) or asked.named(_SENTENCE_END.split(rest)[0])
        if named:
            found.append((said.start(), named))
    for said in _IS_RIGHT.finditer(text):
        letter = (said["named"] or said["bare"]).upper()
        if letter in asked.letters:
            found.append((said.start(), letter))
    return max(found)[1] if found else None


def _by_first_word(text: str, asked: _Asked) -> str | None:
    label = _label_at(text)
    if label is None or not _is_clear(label, asked):
        return None
    listed = {item for item in _LIST_ITEM.findall(text) if item in asked.letters}
    if len(listed) == len(asked.letters) >= 3:
        return UNUSABLE  # it says all options once more
    return UNUSABLE if _has_rival(label, asked) else asked.usable(label.letter)


def _by_line_alone(text: str, asked: _Asked) -> str | None:
    labels = [_label_at(line) for line in text.splitlines()]
    return _only(
        label.letter
        for label in labels
        if label is not None and label.is_capital and not label.after.strip(_EDGES)
        if label.letter in asked.letters
    )


def _by_letter_and_text(text: str, asked: _Asked) -> str | None:
    """Return the letter that is followed by the text of its own option."""
    found = []
    for item in _LIST_ITEM.finditer(text):
        rest = text[item.end() :]
        named = asked.named(rest) or asked.named(_SENTENCE_END.split(rest)[0])
        if named is not None and named == item[1]:
            found.append(named)
    return _only(found)


def _by_bracket(text: str, asked: _Asked) -> str | None:
    found = []
    for item in _BRACKETED.finditer(text):
        letter = next(group for group in item.groups() if group)
        before = _CLAUSE_END.split(text[: item.start()])[-1]
        if letter in asked.letters and not _REFUSED.search(before):
            found.append(letter)
    return _only(found)


def _by_conclusion(text: str, asked: _Asked) -> str | None:
    found = _CONCLUDED.search(text)
    return found[1] if found and found[1] in asked.letters else None


def _by_first_sentence(text: str, asked: _Asked) -> str | None:
    plain = _IT_IS.sub("", text)
    return asked.named(plain) or asked.named(_SENTENCE_END.split(plain)[0])


def _only(letters: Iterable[str]) -> str | None:
    different = set(letters)
    return different.pop() if len(different) == 1 else None


_RULES: Final[tuple[Callable[[str, _Asked], str | None], ...]] = (
    _by_letter_alone,
    _by_text_alone,
    _by_declaration,
    _by_first_word,
    _by_line_alone,
    _by_letter_and_text,
    _by_bracket,
    _by_conclusion,
    _by_first_sentence,
)
"""The clearest first; None: it says nothing, and the next one is asked."""
