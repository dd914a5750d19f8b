"""Rows as the field writes them, by hand: all about `a.mp4`, with its question and answer."""

import json

ASKED = [["What happens?", "A bar moves."]]


def unmarked(turns):
    """Pairs without the markers of media, which have places of their own."""
    return [[question.replace("<video>", "").strip(), answer] for question, answer in turns]


def messages(*contents):
    """Build OpenAI's messages: a user's content, and the answer."""
    return [
        *({"role": "user", "content": content} for content in contents),
        {"role": "assistant", "content": "A bar moves."},
    ]


WORDS = {"type": "text", "text": "What happens?"}
MARKED = [["<video>\nWhat happens?", "A bar moves."]]
LLAVA = [
    {"from": "human", "value": "<video>\nWhat happens?"},
    {"from": "gpt", "value": "A bar moves."},
]
PLAIN = [{"from": "human", "value": "What happens?"}, {"from": "gpt", "value": "A bar moves."}]
PAIR = {"question": "What happens?", "answer": "A bar moves."}

SHAPES = {
    "llava": ({"video": "a.mp4", "conversations": LLAVA}, MARKED),
    "llava in a list": ({"videos": ["a.mp4"], "conversations": LLAVA}, MARKED),
    "llava, media by its name": ({"video_name": "a.mp4", "conversations": PLAIN}, ASKED),
    "llava as JSON text": ({"video": "a.mp4", "conversations": json.dumps(LLAVA)}, MARKED),
    "openai, video_url": (
        {"messages": messages([{"type": "video_url", "video_url": {"url": "a.mp4"}}, WORDS])},
        MARKED,
    ),
    "openai, video_url as text": (
        {"messages": messages([{"type": "video_url", "video_url": "a.mp4"}, WORDS])},
        MARKED,
    ),
    "openai, input_video": (
        {
            "messages": messages(
                [
                    {"type": "input_video", "video_url": "a.mp4"},
                    {"type": "input_text", "text": "What happens?"},
                ]
            )
        },
        MARKED,
    ),
    "openai, as JSON text": (
        {
            "messages": json.dumps(
                messages([{"type": "video_url", "video_url": {"url": "a.mp4"}}, WORDS])
            )
        },
        MARKED,
    ),
    "qwen-vl": ({"messages": messages([{"type": "video", "video": "a.mp4"}, WORDS])}, MARKED),
    "qwen-vl, file URL": (
        {"messages": messages([{"type": "video", "video": "file://{root}/a.mp4"}, WORDS])},
        MARKED,
    ),
    "qwen-vl without types": (
        {"messages": messages([{"video": "a.mp4"}, {"text": "What happens?"}])},
        MARKED,
    ),
    "qwen-vl, arrow's nulls": (
        {
            "messages": messages(
                [
                    {"type": "video", "video": "a.mp4", "text": None, "image": None},
                    {"type": "text", "video": None, "text": "What happens?", "image": None},
                ]
            )
        },
        MARKED,
    ),
    "hf chat: a part and a column": (
        {"messages": messages([{"type": "video"}, WORDS]), "videos": ["a.mp4"]},
        MARKED,
    ),
    "a part and the same column": (
        {"messages": messages([{"type": "video", "path": "./a.mp4"}, WORDS]), "video": "a.mp4"},
        MARKED,
    ),
    "media in a turn": (
        {
            "messages": [
                {"role": "user", "content": "What happens?", "videos": ["a.mp4"]},
                {"role": "assistant", "content": "A bar moves."},
            ]
        },
        ASKED,
    ),
    "sharegpt, mixed keys": (
        {
            "video": "a.mp4",
            "conversations": [
                {"role": "user", "value": "What happens?"},
                {"from": "gpt", "content": "A bar moves."},
            ],
        },
        ASKED,
    ),
    "ms-swift messages": (
        {"messages": messages("<video>\nWhat happens?"), "videos": ["a.mp4"]},
        MARKED,
    ),
    "ms-swift query": (
        {"query": "What happens?", "response": "A bar moves.", "videos": ["a.mp4"]},
        ASKED,
    ),
    "ms-swift history": (
        {
            "query": "What happens?",
            "response": "A bar moves.",
            "history": [["Is it dark?", "No."]],
            "system": "You are short.",
            "videos": ["a.mp4"],
        },
        [["Is it dark?", "No."], *ASKED],
    ),
    "ms-swift pairs": (
        {
            "video": "a.mp4",
            "conversation": [{"human": "What happens?", "assistant": "A bar moves."}],
        },
        ASKED,
    ),
    "llama-factory sharegpt": (
        {
            "conversations": LLAVA,
            "system": "You are short.",
            "tools": "[]",
            "videos": ["a.mp4"],
        },
        MARKED,
    ),
    "llama-factory alpaca": (
        {
            "instruction": "What happens?",
            "input": "Be short.",
            "output": "A bar moves.",
            "system": "You are short.",
            "history": [["Is it dark?", "No."]],
            "videos": ["a.mp4"],
        },
        [["Is it dark?", "No."], ["What happens?\nBe short.", "A bar moves."]],
    ),
    "alpaca": (
        {"instruction": "What happens?", "input": "", "output": "A bar moves.", "video": "a.mp4"},
        ASKED,
    ),
    "prompt and response": (
        {"prompt": "What happens?", "response": "A bar moves.", "video_url": "a.mp4"},
        ASKED,
    ),
    "prompt and completion, conversational": (
        {
            "prompt": [{"role": "user", "content": "What happens?"}],
            "completion": [{"role": "assistant", "content": "A bar moves."}],
            "video": "a.mp4",
        },
        ASKED,
    ),
    "prompt and caption": (
        {"prompt": "What happens?", "caption": "A bar moves.", "video": "a.mp4"},
        ASKED,
    ),
    "question and response": (
        {"question": "What happens?", "response": "A bar moves.", "video": "a.mp4"},
        ASKED,
    ),
    "video-r1": (
        {
            "problem_id": 1,
            "problem": "What moves?",
            "data_type": "video",
            "options": ["A. A bar", "B. A dot"],
            "solution": "<answer>A</answer>",
            "path": "./a.mp4",
        },
        [["What moves?\nA. A bar\nB. A dot", "<answer>A</answer>"]],
    ),
    "video-chatgpt": ({"q": "What happens?", "a": "A bar moves.", "video_id": "a"}, ASKED),
    "hf metadata": ({"file_name": "a.mp4", "text": "A bar moves."}, [["", "A bar moves."]]),
    "hf metadata, video_file_name": (
        {"video_file_name": "a.mp4", "caption": "A bar moves."},
        [["", "A bar moves."]],
    ),
    "hf object": ({"video": {"bytes": None, "path": "a.mp4"}, **PAIR}, ASKED),
    "media, objects": ({"media": [{"type": "video", "url": "a.mp4"}], **PAIR}, ASKED),
    "media, as text": ({"media": "a.mp4", **PAIR}, ASKED),
    "video_file": ({"video_file": "a.mp4", **PAIR}, ASKED),
    "video_id beside an address": (
        {"video_id": "a", "video_url": "https://host/watch?v=a", **PAIR},
        ASKED,
    ),
    "a list as text": ({"videos": '["a.mp4"]', **PAIR}, ASKED),
    "one answer in a list": ({"video": "a.mp4", **PAIR, "answer": ["A bar moves."]}, ASKED),
    "one caption in a list": ({"video": "a.mp4", "captions": ["A bar."]}, [["", "A bar."]]),
    "sharegpt4video": (
        {
            "video_id": "x",
            "video_path": "a.mp4",
            "captions": [
                {"idx": "1", "content": "A bar."},
                {"idx": "-1", "content": "A bar moves."},
            ],
        },
        [["", "A bar moves."]],
    ),
}
