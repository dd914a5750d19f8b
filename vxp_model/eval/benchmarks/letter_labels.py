"""A letter in a reply, and what stands around it: whether it is meant as an option at all."""

from __future__ import annotations

import re
import string
import unicodedata
from dataclasses import dataclass
from typing import Final

MARKUP: Final = re.compile(r"[*`$#]+|\\[()\[\]]|(?<!\w)__|__(?!\w)")
TYPED: Final = str.maketrans(
    "\u2018\u2019\u201c\u201d\u2013\u2014\u300c\u300d\u3010\u3011", '\'\'""--""[]'
)
EDGES: Final = " \t\r\n.,;:!?'\"()[]{}"
_ARTICLE: Final = re.compile(r"^(?:a|an|the)\s+")

_LABEL: Final = re.compile(
    r"""\s*(?P<word>(?:the\s+)?(?:(?:correct|right|best|final)\s+)?(?:option|choice|letter|answer)
        (?:\s+(?:option|choice|letter))?\s*[:\#]?\s*|选项)?
    (?P<open>[(\[{<"']*)\s*(?P<letter>[A-Za-z])(?P<close>\s?[)\]}>"']+)?(?P<mark>[.:,;!?]*)""",
    re.IGNORECASE | re.VERBOSE,
)
_SAYS_WHY: Final = re.compile(
    r"\s+(?:because|since|as|is|which|for|due|based|rather|instead|(?:and\s+)?not|-+)(?=\W|$)",
    re.IGNORECASE,
)
_OTHER: Final = re.compile(
    r"""[.)\]]*\s*(?:[,;/&+|]|and\b|or\b|和|或)\s*(?:and\b|or\b)?\s*(?:maybe\b|perhaps\b)?
    |\s*(?=[(\[][A-Z][)\]])""",
    re.IGNORECASE | re.VERBOSE,
)
_NEXT: Final = re.compile(r":?\s+(?=[A-Z](?:[\s,.;]|$))")
"""Between two bare letters."""
_REFUSED_AFTER: Final = re.compile(
    r"""\s*(?:选?项)?(?:是|为)?\s*[错不未没]
    |\s*(?:\([^()]{0,80}\)\s*)?(?:
        (?:is|are|was|were|do|does|did|has|had|can|could|would|should|will)n't\b
        |cannot\b|can't\b|won't\b
        |(?:is|are|was|were|do|does|did|has|had|can|could|would|should|will|may|might|seems|appears
           |looks)(?:\s+(?:to\s+be|be|the|an?|also|then|therefore|\w+ly))*
         \s+(?:not|never|no|wrong|incorrect|false|impossible|unlikely|less|inaccurate|excluded
             |eliminated|irrelevant|out|ruled\s+out)\b)""",
    re.IGNORECASE | re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Asked:
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


@dataclass(frozen=True, slots=True)
class Label:
    """A letter in a reply, and what stands around it."""

    letter: str
    is_capital: bool
    is_named: bool
    """'Option B'; not 'Answer: A' or 'The letter A', behind which a sentence may follow."""
    is_wrapped: bool
    """With a bracket behind it."""
    mark: str
    after: str
    """From the letter's closing bracket on, mark included."""

    @property
    def tail(self) -> str:
        """What follows the mark."""
        return self.after[len(self.mark) :]

    @property
    def is_refused(self) -> bool:
        """Whether it is said not to be the answer: 'A is wrong', '(A) does not happen'.

        Behind a mark stands an option's own text: 'C. Cannot be determined', 'B: False'.
        """
        return not self.mark and refuses(self.tail)

    @property
    def is_set_off(self) -> bool:
        """Whether it stands by itself, whatever it is: 'B.', '(b) a dog', 'B because'."""
        if self.is_wrapped or not self.tail.strip(EDGES) or self.tail.startswith("\n"):
            return self.is_capital or self.is_wrapped
        return self.is_capital and bool(self.mark or _SAYS_WHY.match(self.tail))


def letters_for(num_options: int) -> str:
    """Return the letters of so many options, 'ABCD' for 4."""
    return string.ascii_uppercase[:num_options]


def refuses(tail: str) -> bool:
    """Whether what follows a name says that it is not the answer: ' is wrong', ' cannot be'."""
    return _REFUSED_AFTER.match(tail) is not None


def label_at(text: str, start: int = 0) -> Label | None:
    """Return the letter that stands at a place by itself."""
    found = _LABEL.match(text, start)
    if found is None:
        return None
    word = (found["word"] or "").casefold()
    close = (found["close"] or "").strip()
    after = text[found.end("close") if close else found.end("letter") :]
    mark = found["mark"] if close or after.startswith(found["mark"]) else ""
    label = Label(
        letter=found["letter"].upper(),
        is_capital=found["letter"].isupper(),
        is_named=bool(word) and "letter" not in word and not word.rstrip().endswith((":", "#")),
        is_wrapped=bool(set(")]}>") & set(close)),
        mark=mark,
        after=after,
    )
    return None if _is_in_word(label, quoted=bool(close) and not label.is_wrapped) else label


def _is_in_word(label: Label, *, quoted: bool) -> bool:
    """Whether the letter begins a word or an abbreviation: 'Blue', "B's", 'D-day', 'B.C.'."""
    tail = label.tail
    if label.mark:
        return label.mark == "." and re.match(r"[A-Za-z](?:\.|$)", tail) is not None
    if not tail or (label.is_wrapped and not quoted):
        return False
    if tail[0] in "-'_" and tail[1:2].isalnum():
        return True
    if tail[0] in "+#&@":  # C++
        return True
    return tail[0].isalnum() and ord(tail[0]) < 0x2E80  # a Chinese word may follow at once


def is_clear(label: Label, asked: Asked) -> bool:
    """Whether a letter is meant as an option, and is not the article 'a'."""
    tail = label.tail
    if label.is_wrapped or not tail.strip(EDGES) or tail.startswith("\n"):
        return True
    if label.mark[:1] in (".", ":"):
        return True
    if label.mark:
        return label.is_capital and "?" not in label.mark
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


def has_rival(label: Label, asked: Asked) -> bool:
    """Whether another letter is named in the same breath: 'A or B', 'B, C', '(A)(B)'."""
    joined = _OTHER.match(label.after) or (None if label.is_wrapped else _NEXT.match(label.after))
    other = label_at(label.after, joined.end()) if joined else None
    return (
        other is not None
        and other.letter != label.letter
        and other.letter in asked.letters
        and (other.is_capital or other.is_wrapped)
        and not other.is_refused
        and is_clear(other, asked)
    )


def _same(text: str) -> str:
    """Return a text as it is compared: without case, articles, markup, and marks at its ends."""
    plain = _plain(text)
    return _ARTICLE.sub("", plain.strip(EDGES)) or plain


def _plain(text: str) -> str:
    typed = unicodedata.normalize("NFKC", text).translate(TYPED)
    return " ".join(MARKUP.sub("", typed).casefold().split())
