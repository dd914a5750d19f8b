"""Which task an exchange of a conversation belongs to, told from its words.

The rules are for rows that do not name their task, and follow the prompts of LLaVA-Video-178K,
ShareGPT4Video, Video-ChatGPT, NExT-QA, CinePile and LLaVA-OneVision (English). In order:

1. Multiple choice: the question lists options A, B, ... or asks for the letter of one.
2. Open-ended: the question asks for an answer of one word or a phrase.
3. Caption: the question asks for the *whole* video ("describe the video", "a summary of what
   happens in this clip", "what is going on here?"), and for nothing in particular besides.
   "Describe what the man does after he sits" asks for a part, so it is open-ended. No question at
   all, only an answer, is a caption: the layout of captioning sets.
4. Open-ended: everything else.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from vxp_data.records import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskGuess:
    """The task of a conversation, as the rules see it."""

    task: Task
    mixed: bool
    """True when its exchanges are of more than one kind."""


PLACEHOLDER: Final = re.compile(r"<(?:image|video)s?>", re.IGNORECASE)
"""Where a prompt puts the media; LLaVA writes `<image>` for videos too."""

# 1. Multiple choice
_OPTION_LINE: Final = re.compile(
    r"^[ \t]*(?:[-*][ \t]*)?(?:option[ \t]+)?(\(?)([a-z])([.):])[ \t]*\S", re.I | re.M
)
_OPTION_INLINE: Final = re.compile(r"(?<![\w(])(\(?)([A-Z])(\))\s*\S")
_OPTION_LIST: Final = re.compile(
    r"\b(?:options|choices)\b[^:\n]{0,30}:.*?(?<!\w)A[.:]\s*\S.*?(?<!\w)B[.:]\s*\S", re.I | re.S
)
_ASKS_FOR_LETTER: Final = re.compile(
    r"\b(?:option|choice|answer)(?:'?s)?'?\s+letters?\b"
    r"|\bletters?\s+(?:of|for)\s+(?:the|your)\s+(?:\w+\s+){0,3}(?:option|answer|choice)\b"
    r"|\b(?:only|just)\s+(?:with\s+)?the\s+(?:\w+\s+)?letter\b"
    r"|\bcorresponding\s+letter\b",
    re.I,
)
_ASKS_TO_CHOOSE: Final = re.compile(
    r"\b(?:options?|choices|choose|select|which\s+of\s+the\s+following)\b", re.I
)
_LETTER: Final = re.compile(r"\(?[A-J][.):]*", re.I)

# 2. Open-ended
_ASKS_FOR_WORD: Final = re.compile(
    r"\b(?:single|one)[- ]word\b|\bword\s+or\s+(?:an?\s+)?(?:\w+\s+)?phrase\b"
    r"|\bphrase\s+or\s+(?:an?\s+)?(?:\w+\s+)?word\b|\bshort\s+answer\b",
    re.I,
)

# 3. Caption: "describe X", "write a summary of X", "what happens in X"
_SENTENCE_END: Final = re.compile(r"(?<=[.!?])\s+|\n+")
_POLITE: Final = re.compile(r"\b(?:can|could|would|will)\s+(?:you|we)\b|\bplease\b", re.I)
_START: Final = (
    r"(?:^\W*|[,;:]\s*|^\w+ly\s+"
    r"|\b(?:and|then|to|please|you|kindly|carefully|thoroughly|briefly|now|next)\s+)"
)
_DESCRIBE: Final = re.compile(
    _START
    + r"(?:describe|caption|narrate|summari[sz]e|recap|recount|depict|portray|outline|explain"
    r"|clarify|illustrate|characteri[sz]e|analy[sz]e|examine|elaborate|tell|walk|break|share|relay"
    r"|detail)\b([^,;:.!?]*)",
    re.I,
)
_WRITE: Final = re.compile(
    _START + r"(?:provide|give|write|generate|create|offer|share|present|compose|produce|craft|make"
    r"|render|relay|deliver|draft|prepare)\s+(?:[\w'-]+,?\s+){0,8}?"
    r"(?:(captions?|descriptions?|summary|summaries|synopsis|depiction|recap)"
    r"|account|analysis|breakdown|explanation|interpretation|narration|narrative|outline|overview"
    r"|portrayal|rundown)\b([^,;:.!?]*)",
    re.I,
)
_LINK: Final = re.compile(
    r"\s*(?:of|for|about|on|to|regarding|representing|covering|capturing|describing|detailing"
    r"|explaining|summari[sz]ing)\s+",
    re.I,
)
_LEAD: Final = re.compile(
    r"\s*(?:(?:me|us|about|on|upon|down|through|out|briefly|exactly|in\s+(?:\w+\s+){0,3}?"
    r"(?:details?|sentences?|words?|paragraphs?))\b,?\s*)+"
)
_HAPPENING: Final = re.compile(
    r"what(?:'s|\s+is|\s+was|\s+are|\s+has)?(?:\s+(?:being|been))?"
    r"\s+(?:happen(?:s|ed|ing)?|occur(?:s|red|ring)?|go(?:es|ing)\s+on|tak(?:es|ing)\s+place"
    r"|shown|depicted|displayed|presented|unfold(?:s|ed|ing)?)"
    r"(?=\s|$)"
    r"|what(?:\s+(?:do|did|can|could))?\s+you(?:\s+can)?\s+(?:see|observe|notice)"
    r"(?:\s+(?:happening|going\s+on))?(?=\s|$)"
    r"|what\s+do\s+you\s+think\s+is\s+(?:happening|going\s+on)(?=\s|$)"
    r"|what\s+can\s+be\s+(?:seen|observed)(?=\s|$)"
)
_IS_ABOUT: Final = re.compile(r"what(?:'s|\s+is|\s+was)\s+(.+?)\s+(?:all\s+)?about")
_SETTING: Final = re.compile(r"^(?:in|during)\s+(?:this|the)\s+(?:video|clip|image|scene)\b,?\s*")
_PART: Final = re.compile(
    r"\b(?:when|where|after|before(?!\s+you\b)|while|until|whose|who|why|how|whether|which"
    r"|during(?!\s+(?:the|this)\s+(?:video|clip|scene)\b)"
    r"|first|second|third|last|final|opening|closing|next|beginning|initial)\b"
)
_WHOLE: Final = re.compile(
    r"videos?|clips?|footage|film|movie|recording|scenes?|sequence|animation|gif|frames?|images?"
    r"|pictures?|photos?|photograph|snapshot|shot|segment|excerpt|episode|screen"
    r"|it|this|here|everything|detail"
)
_GENERAL: Final = re.compile(
    r"all|contents?|events?|visuals?|elements?|aspects?|details|features?|happenings|actions?"
    r"|activity|activities|story|storyline|plot|narrative|progression|moments|highlights"
    r"|information"
)
_NEXT_PHRASE: Final = re.compile(
    r"\b(of|in|from|on|by|at|within|through|throughout|across|that|for|with|using|as|to|into|you|we|based)\b"
)
_TRAILING: Final = re.compile(
    r"(?:\s+(?:given|provided|presented|shown|displayed|attached|below|above|before|\w+ly))+$"
)
_OWNER: Final = re.compile(r"([\w-]+)(?:'s|s')\s|\b(his|her|their)\s")


def classify_turn(question: str, answer: str) -> Task:
    """Return the task of one question and its answer; the rules are on this module's page.

    Args:
        question: the human's words; media placeholders (`<image>`, `<video>`) do not count.
        answer: the model's words; empty where there is none.
    """
    answer = answer.strip()
    return _classify(question, bool(answer), bool(_LETTER.fullmatch(answer)))


def classify_conversation(exchanges: Sequence[tuple[str, str]]) -> TaskGuess:
    """Return the task of a conversation: that of most of its turns.

    Args:
        exchanges: (question, answer) pairs in order. None at all is open-ended: nothing shows
            that the row is a caption or a choice.

    Returns:
        The most frequent task; of tied tasks, the one that comes first in the conversation.
    """
    counts = Counter(classify_turn(question, answer) for question, answer in exchanges)
    if not counts:
        return TaskGuess(task=Task.OPEN_ENDED, mixed=False)
    # most_common keeps the order of first appearance among equals
    return TaskGuess(task=counts.most_common(1)[0][0], mixed=len(counts) > 1)


@lru_cache(maxsize=4096)  # captioning sets ask the same few questions a million times
def _classify(question: str, is_answered: bool, is_letter: bool) -> Task:
    question = PLACEHOLDER.sub(" ", question).replace("\u2019", "'").strip()
    if _is_multiple_choice(question, is_letter):
        return Task.MULTIPLE_CHOICE
    if _ASKS_FOR_WORD.search(question):
        return Task.OPEN_ENDED
    if not question:
        return Task.CAPTION if is_answered else Task.OPEN_ENDED
    asked = [_asks_for_whole(sentence) for sentence in _SENTENCE_END.split(question)]
    return Task.CAPTION if True in asked and False not in asked else Task.OPEN_ENDED


def _is_multiple_choice(question: str, is_letter: bool) -> bool:
    return bool(
        _in_order(_OPTION_LINE.finditer(question))
        or _in_order(_OPTION_INLINE.finditer(question))
        or _OPTION_LIST.search(question)
        or _ASKS_FOR_LETTER.search(question)
        or (is_letter and _ASKS_TO_CHOOSE.search(question))
    )


def _in_order(options: Iterable[re.Match[str]]) -> bool:
    """Whether an option A is followed by a B that is written in the same way."""
    begun = set()
    for option in options:
        opening, letter, closing = option.groups()
        style = (opening, closing, letter.isupper())
        if letter in "Aa":
            begun.add(style)
        elif letter in "Bb" and style in begun:
            return True
    return False


def _asks_for_whole(sentence: str) -> bool | None:
    """Whether a sentence asks for the whole video (True), a part (False) or nothing (None).

    A request for a part that is no question ("Describe the background too.") gives None: it often
    stands beside one for the whole, and does not change what that is.
    """
    is_question = sentence.rstrip().endswith("?")
    if is_question and not _POLITE.search(sentence):
        return _is_whole(_SETTING.sub("", sentence.strip(" ?").lower()))
    objects = [match[1] for match in _DESCRIBE.finditer(sentence)]
    for match in _WRITE.finditer(sentence):
        link = _LINK.match(match[2])
        if link:
            objects.append(match[2][link.end() :])
        elif match[1]:  # "write a detailed caption": of what else
            return True
    if any(_is_whole(thing.lower()) for thing in objects):
        return True
    if not is_question:
        unmarked = _SETTING.sub("", sentence.strip(" .").lower())
        return True if unmarked.startswith("what") and _is_whole(unmarked) else None
    return False


def _is_whole(thing: str) -> bool:
    """Whether words such as 'the events in this clip' mean the video as a whole.

    Args:
        thing: the object of 'describe' or 'a summary of', in lower case; none is the whole.
    """
    lead = _LEAD.match(thing)
    thing = _TRAILING.sub("", " " + (thing[lead.end() :] if lead else thing).strip()).strip()
    if _PART.search(thing):
        return False
    if happening := _HAPPENING.match(thing):
        rest = thing[happening.end() :]
        return not rest or _is_whole(re.sub(r"^\s+(?:in|on|throughout|within|during)\b", "", rest))
    if about := _IS_ABOUT.fullmatch(thing):
        return _is_whole(about[1])
    head, link, rest = _split_phrase(thing)
    if not head:
        return not thing
    owner = _OWNER.search(head + " ")
    if owner and not (owner[1] and _WHOLE.fullmatch(owner[1])):
        return False
    last = {head.split(" and ")[0].split()[-1], head.split()[-1]}
    if any(map(_WHOLE.fullmatch, last)):
        return True
    is_linked = link in {
        "of",
        "in",
        "from",
        "on",
        "by",
        "at",
        "within",
        "through",
        "throughout",
        "across",
    }
    return any(map(_GENERAL.fullmatch, last)) and (not is_linked or _is_whole(rest))


def _split_phrase(thing: str) -> tuple[str, str, str]:
    """Split 'the events of the clip' into its head, the word that links, and what follows."""
    link = _NEXT_PHRASE.search(thing)
    if link is None:
        return thing, "", ""
    head = _TRAILING.sub("", " " + thing[: link.start()].strip()).strip()
    return head, link[1], thing[link.end() :].strip()
