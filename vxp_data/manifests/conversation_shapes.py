"""In which columns a row has its words: the shapes that public sets and trainers use.

Whatever the shape, what comes out is a list of messages; whose they are and what they mean is
`conversation`'s.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from vxp_data.conversation import Part
from vxp_data.manifests.base import RowError, is_given, type_name

TURN_COLUMNS: Final = ("conversations", "messages", "conversation", "dialog", "dialogue")
"""Lists of turns: LLaVA's `{from, value}`, OpenAI's `{role, content}`, ms-swift's pairs."""
PAIRS: Final = (
    ("question", "answer"),
    ("query", "response"),  # ms-swift
    ("prompt", "response"),
    ("prompt", "completion"),
    ("instruction", "output"),  # Alpaca, LLaMA-Factory
    ("instruction", "response"),
    ("problem", "solution"),
    ("q", "a"),  # Video-ChatGPT
)
QUESTION_COLUMNS: Final = tuple(dict.fromkeys(question for question, _ in PAIRS))
ANSWER_COLUMNS: Final = tuple(dict.fromkeys(answer for _, answer in PAIRS))
CAPTION_COLUMNS: Final = ("caption", "captions", "text")
OPTION_COLUMNS: Final = ("options", "choices", "candidates")
NUMBERED_OPTION_COLUMNS: Final = ("a0", "a1", "a2", "a3", "a4")
"""How NExT-QA names the options of its multiple-choice half."""
SYSTEM_COLUMN: Final = "system"
HISTORY_COLUMN: Final = "history"
"""Earlier turns as [question, answer] pairs, beside `query` or `instruction`."""
INPUT_COLUMN: Final = "input"
"""What an `instruction` is about."""
WEBVID_CAPTION: Final = "name"
WEBVID_COLUMNS: Final = ("videoid", "contentUrl")
"""A row with both is WebVid's, and its `name` is a caption."""
PAIRED_COLUMNS: Final = (
    *QUESTION_COLUMNS,
    INPUT_COLUMN,
    HISTORY_COLUMN,
    *ANSWER_COLUMNS,
    *CAPTION_COLUMNS,
)
"""Every column with words that is no list of turns, but for options and the system prompt."""
COLUMNS: Final = (
    *TURN_COLUMNS,
    *PAIRED_COLUMNS,
    *OPTION_COLUMNS,
    *NUMBERED_OPTION_COLUMNS,
    SYSTEM_COLUMN,
)
"""Every column read here, but for WebVid's."""
WORD_KEYS: Final = frozenset({*COLUMNS, "value", "content", "human", "user", "gpt", "assistant"})
"""Keys under which text is what somebody says."""

HUMAN: Final = "user"
MODEL: Final = "assistant"
_PAIRED_TURNS: Final = (("human", "user"), ("assistant", "gpt", "model", "bot"))
_WHO: Final = ("from", "role")
_WORDS: Final = ("value", "content")
_TEXT_PARTS: Final = frozenset({"text", "input_text", "output_text"})
_MEDIA_PARTS: Final[Mapping[str, str]] = {
    "image": "image",
    "image_url": "image",
    "input_image": "image",
    "video": "video",
    "video_url": "video",
    "input_video": "video",
}
_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_WHOLE_VIDEO: Final = "-1"
"""The `idx` of ShareGPT4Video's caption of the whole video."""


class Message(NamedTuple):
    """One turn of a row, as it stands there."""

    role: str
    """Who speaks: the row's own word."""
    content: object
    """Text, or a list of parts; see `content_parts`."""
    where: str
    """The turn in words, for messages: 'messages: turn 2'."""
    key: str = ""
    """The key of the content in its turn; '' where it has a column of its own."""
    tool_calls: object = None
    """OpenAI's list of what the turn asks of tools."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """The messages of a row, and the columns that they were read from."""

    messages: tuple[Message, ...] = ()
    columns: tuple[str, ...] = ()
    has_answer: bool = True
    """False: there is a question, and no column that answers it."""


def read_messages(fields: Mapping[str, object]) -> Conversation:
    """Return a row's messages; none where no known column holds any.

    The first shape that the row has counts: lists of turns, a question with its answer (of
    `PAIRS`), a caption, an answer alone.

    Raises:
        RowError: a column is of the wrong type.
    """
    for column in TURN_COLUMNS:
        if _holds_some(fields.get(column)):
            return _with_system(fields, _turn_list(column, fields[column]), (column,))
    question, answer = _question_and_answer(fields)
    if question:
        return _asked(fields, question, answer)
    caption = next((name for name in CAPTION_COLUMNS if _holds_some(fields.get(name))), "")
    if not caption and all(is_given(fields.get(name)) for name in WEBVID_COLUMNS):
        caption = WEBVID_CAPTION if is_given(fields.get(WEBVID_CAPTION)) else ""
    if caption or answer:
        column = caption or answer
        words = _caption(column, fields[column]) if caption else _answer(column, fields[column])
        messages = [Message(role=MODEL, content=words, where=column)]
        return _with_system(fields, messages, (column,))
    return Conversation()


def turns_in(fields: Mapping[str, object]) -> Iterator[tuple[tuple[str | int, ...], object]]:
    """Return (place, turn) of each element of the list of turns that counts.

    Raises:
        RowError: the column holds no list.
    """
    for column in TURN_COLUMNS:
        if not _holds_some(fields.get(column)):
            continue
        place: tuple[str | int, ...] = (column,)
        if isinstance(fields[column], str):
            place = (column, IN_TEXT)
        for index, turn in enumerate(read_list(column, fields[column], "a list of turns")):
            yield (*place, index), turn
        return


IN_TEXT: Final = -1
"""In a place: what follows is a place in the JSON that the text there is."""


def content_parts(message: Message) -> tuple[Part, ...]:
    """Return a message's text and the places of media among it.

    Raises:
        RowError: it is neither text nor parts, or has a part of a kind that is not read.
    """
    content = message.content
    if isinstance(content, str):
        return (Part("text", content),)
    what = f"{message.where}: {message.key!r}" if message.key else message.where
    if isinstance(content, Mapping):
        content = [content]
    if not isinstance(content, list):
        return (Part("text", text_in(what, content)),)
    parts = []
    for part in content:
        kind = part_kind(what, part)
        if kind != "text":
            parts.append(Part(kind))
        elif isinstance(part, str):
            parts.append(Part("text", part))
        elif isinstance(part, Mapping) and is_given(part.get("text")):
            parts.append(Part("text", text_in(what, part["text"])))
    return tuple(parts)


def part_kind(what: str, part: object) -> str:
    """Return whether a part of a message is 'text', an 'image' or a 'video'.

    Raises:
        RowError: it is none of these, or says neither by its `type` nor by its keys what it is.
    """
    if isinstance(part, str):
        return "text"
    if not isinstance(part, Mapping):
        raise RowError(f"{what} has a part that is {type_name(part)}, wanted an object")
    kind = part.get("type")
    if not is_given(kind):  # Qwen-VL's: {'image': ...}, {'text': ...}
        kind = next((key for key in (*_MEDIA_PARTS, "text") if is_given(part.get(key))), None)
    if kind in _TEXT_PARTS:
        return "text"
    if isinstance(kind, str) and kind in _MEDIA_PARTS:
        return _MEDIA_PARTS[kind]
    keys = ", ".join(map(repr, list(part)[:8])) or "none"
    raise RowError(
        f"{what} has a part of the type {kind!r:.80} (keys: {keys}), wanted one of "
        f"{', '.join(sorted(_TEXT_PARTS))}, {', '.join(_MEDIA_PARTS)}"
    )


def text_in(what: str, value: object) -> str:
    """Return a value that must be text.

    Raises:
        RowError: it is not.
    """
    if not isinstance(value, str):
        raise RowError(f"{what} is {type_name(value)}, wanted text")
    return value


def read_list(column: str, value: object, wanted: str) -> list[object]:
    """Return a list that may be written as JSON, as CSV and Parquet columns have it.

    Raises:
        RowError: it is no list, nor text that is one.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise RowError(
                f"{column} is text that is not JSON ({error}), wanted {wanted}"
            ) from error
    if not isinstance(value, list):
        raise RowError(f"{column} is {type_name(value)}, wanted {wanted}")
    return value


def _holds_some(value: object) -> bool:
    return is_given(value) and value != [] and value != "[]"


def _turn_list(column: str, value: object) -> list[Message]:
    messages: list[Message] = []
    for number, turn in enumerate(read_list(column, value, "a list of turns"), start=1):
        where = f"{column}: turn {number}"
        if not isinstance(turn, dict):  # as all formats give objects; an ABC takes its time
            raise RowError(f"{where} is {type_name(turn)}, wanted an object")
        who = _first_key(turn, _WHO)
        if who is None and (pair := _paired(turn, where)):
            messages += pair
            continue
        words = _first_key(turn, _WORDS) or ("value" if who == "from" else "content")
        messages.append(
            Message(
                role=str(turn.get(who or "role")),
                content=turn.get(words),
                where=where,
                key=words,
                tool_calls=turn.get("tool_calls"),
            )
        )
    return messages


def _first_key(turn: Mapping[str, object], keys: tuple[str, ...]) -> str | None:
    """Return the first key that holds something, else the first there is: Arrow fills in nulls."""
    if turn.get(keys[0]):
        return keys[0]
    there = [key for key in keys if key in turn]
    return next((key for key in there if is_given(turn[key])), there[0] if there else None)


def _paired(turn: Mapping[str, object], where: str) -> list[Message]:
    """Read a turn that holds a question and its answer: {'human': ..., 'assistant': ...}."""
    messages = []
    for role, keys in zip((HUMAN, MODEL), _PAIRED_TURNS, strict=True):
        key = next((key for key in keys if is_given(turn.get(key))), None)
        if key is not None:
            messages.append(Message(role=role, content=turn[key], where=where, key=key))
    return messages


def _question_and_answer(fields: Mapping[str, object]) -> tuple[str, str]:
    """Return the columns that hold a question and its answer; '' for one that is not there."""
    for question, answer in PAIRS:
        if is_given(fields.get(question)) and is_given(fields.get(answer)):
            return question, answer
    question = next((name for name in QUESTION_COLUMNS if is_given(fields.get(name))), "")
    answers = tuple(name for name in ANSWER_COLUMNS if name != "a")  # of itself it says nothing
    if question in ("prompt", "instruction"):  # 'Describe the video.', and a caption beside it
        answers += CAPTION_COLUMNS
    return question, next((name for name in answers if _holds_some(fields.get(name))), "")


def _asked(fields: Mapping[str, object], question: str, answer: str) -> Conversation:
    """Read a question with all that may stand beside it: history, input, options, answer."""
    used = [question]
    messages = []
    if is_given(fields.get(HISTORY_COLUMN)) and question in ("query", "instruction", "prompt"):
        messages += _history(fields[HISTORY_COLUMN])
        used.append(HISTORY_COLUMN)
    if isinstance(fields[question], list):  # a prompt that is itself a list of messages
        messages += _turn_list(question, fields[question])
    else:
        lines = [text_in(question, fields[question])]
        if question == "instruction" and is_given(fields.get(INPUT_COLUMN)):
            lines.append(text_in(INPUT_COLUMN, fields[INPUT_COLUMN]))
            used.append(INPUT_COLUMN)
        words = "\n".join([*lines, *_option_lines(fields)])
        messages.append(Message(role=HUMAN, content=words, where=question))
    if answer:
        used.append(answer)
        value = fields[answer]
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            messages += _turn_list(answer, value)
        else:
            words = (_caption if answer in CAPTION_COLUMNS else _answer)(answer, value)
            messages.append(Message(role=MODEL, content=words, where=answer))
    return _with_system(fields, messages, tuple(used), has_answer=bool(answer))


def _with_system(
    fields: Mapping[str, object],
    messages: list[Message],
    columns: tuple[str, ...],
    *,
    has_answer: bool = True,
) -> Conversation:
    """Put a row's system prompt before its messages, unless they begin with one."""
    prompt = fields.get(SYSTEM_COLUMN)
    if is_given(prompt) and not any(message.role == "system" for message in messages):
        text = text_in(SYSTEM_COLUMN, prompt)
        messages = [Message(role="system", content=text, where=SYSTEM_COLUMN), *messages]
        columns = (*columns, SYSTEM_COLUMN)
    return Conversation(messages=tuple(messages), columns=columns, has_answer=has_answer)


def _history(value: object) -> list[Message]:
    messages = []
    for number, pair in enumerate(read_list(HISTORY_COLUMN, value, "a list of pairs"), start=1):
        where = f"{HISTORY_COLUMN}: pair {number}"
        if not isinstance(pair, list) or len(pair) != 2:
            got = f"{len(pair)} long" if isinstance(pair, list) else type_name(pair)
            raise RowError(f"{where} is {got}, wanted [question, answer]")
        for role, words in zip((HUMAN, MODEL), pair, strict=True):
            messages.append(Message(role=role, content=words, where=where))
    return messages


def _answer(column: str, value: object) -> str:
    """Return an answer as text: numbers and letters are ones, several are not one."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, list | Mapping):
        raise RowError(
            f"{column} is {type_name(value)}, wanted one answer as text. "
            "Cut the row in one for each answer, or choose one"
        )
    return str(value)


def _caption(column: str, value: object) -> str:
    """Return a caption as text; of ShareGPT4Video's list, the one of the whole video."""
    if isinstance(value, list):
        whole = [
            held
            for held in value
            if isinstance(held, Mapping) and str(held.get("idx")) == _WHOLE_VIDEO
        ]
        held = whole or value
        if len(held) != 1:
            raise RowError(
                f"{column} holds {len(held)} captions, wanted one a row. Cut the row in several, "
                "or keep one"
            )
        value = held[0].get("content") if isinstance(held[0], Mapping) else held[0]
    return text_in(column, value)


def _option_lines(fields: Mapping[str, object]) -> list[str]:
    options: list[object] = []
    for column in OPTION_COLUMNS:
        if is_given(fields.get(column)):
            value = fields[column]
            held = value.values() if isinstance(value, Mapping) else None
            options = list(held or read_list(column, value, "a list of options"))
            break
    else:
        numbered = (fields.get(column) for column in NUMBERED_OPTION_COLUMNS)
        options = [value for value in numbered if is_given(value)]
    return [
        _option_line(chr(ord("A") + index), option) for index, option in enumerate(options[:26])
    ]


def _option_line(letter: str, option: object) -> str:
    text = str(option)
    has_letter = text.lstrip("(").startswith((f"{letter}.", f"{letter})", f"{letter}:"))
    return text if has_letter else f"{letter}. {text}"
