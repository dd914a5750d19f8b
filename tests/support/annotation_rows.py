"""Rows of every annotation layout, written by hand after its documentation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vxp_data.datasets.layouts.base import CHOOSE, AnnotationLayout, Reader
from vxp_data.registry import ANNOTATION_LAYOUTS

PROMPT = "Please describe this video in detail."
WORD = "Answer the question using a single word or phrase."

NEXT_QA_HEAD = "video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4"
NEXT_QA = "4010069381,369,640,480,how do the two man play,0,6,CH,roll,tap,strum,hit,pat"
VIDOR = {"4010069381": "1164/4010069381", "3606518674": "0000/3606518674"}

FINEVIDEO = {
    "json": {
        "original_video_filename": "aFOqwZAGuTo.mp4",
        "content_metadata": {
            "qAndA": [
                {"question": "Who speaks?", "answer": "A teacher."},
                {"question": "Where?", "answer": None},
                {"question": "Why?", "answer": "To explain."},
            ]
        },
    }
}
SHAREGPT4VIDEO = {
    "video_id": "6ad2ce21",
    "video_path": "panda/6ad2ce21.mp4",
    "timestamp": [0, 2, 4],
    "keyframe": [0, 2, 4],
    "captions": [
        {"idx": "1", "content": "A frame."},
        {"idx": "-1", "content": "A whole video."},
    ],
    "zip_folder": "panda_videos_1.zip",
}
SCIENCE_QA = {
    "question": "Which is a solid?",
    "choices": ["milk", "a rock"],
    "answer": 1,
    "hint": "Solids keep their shape.",
    "image": "image.png",
    "split": "train",
    "lecture": "",
}
OCR_VQA = {
    "imageURL": "http://ecx.images-amazon.com/images/I/61Y5cOdHJbL.jpg",
    "questions": ["Who wrote this book?", "Is this a games related book?"],
    "answers": ["Sandra Boynton", "No"],
    "title": "Mom's Family Wall Calendar 2016",
    "split": 1,
}
VDC = {
    "video_id": "TiQBTesZUJQ",
    "video_name": "TiQBTesZUJQ.mp4",
    "short_caption": "Short.",
    "background_caption": "Behind.",
    "main_object_caption": "Main.",
    "camera_caption": "Camera.",
    "detailed_caption": "All of it.",
}
EGO4D = {
    "narration_pass_1": {"narrations": [{"timestamp_sec": 1.5}], "summaries": []},
    "narration_pass_2": {
        "summaries": [
            {"start_sec": 0.0, "end_sec": 300.5, "summary_text": "#Summary C cooked a meal"},
            {"start_sec": 300.5, "end_sec": 411, "summary_text": "#unsure C spoke with #O man X"},
        ]
    },
}
LLAVA_TURNS = [
    {"from": "human", "value": "<image>\nDescribe this video."},
    {"from": "gpt", "value": "A dog runs."},
]


def layout(name: str) -> AnnotationLayout:
    loaded: AnnotationLayout = ANNOTATION_LAYOUTS.load(name)
    return loaded


def turns(*words: str) -> list[dict[str, str]]:
    return [
        {"from": "gpt" if index % 2 else "human", "value": said} for index, said in enumerate(words)
    ]


def csv_fields(head: str, row: str) -> dict[str, str]:
    return dict(zip(head.split(","), row.split(","), strict=True))


CASES: dict[str, tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]] = {
    "next_qa_mc": (
        csv_fields(NEXT_QA_HEAD, NEXT_QA),
        {"companion": VIDOR},
        [
            {
                "id": "4010069381_6",
                "video": "1164/4010069381",
                "conversations": turns(
                    "<video>\nhow do the two man play?\nA. roll\nB. tap\nC. strum\nD. hit\nE. pat\n"
                    + CHOOSE,
                    "A",
                ),
            }
        ],
    ),
    "next_qa_oe": (
        csv_fields(
            "video,frame_count,width,height,question,answer,qid,type",
            "3606518674,2622,640,480,is the man proficient,yes,1,DB",
        ),
        {"companion": VIDOR},
        [
            {
                "id": "3606518674_1",
                "video": "0000/3606518674",
                "conversations": turns("<video>\nis the man proficient?", "yes"),
            }
        ],
    ),
    "activitynet_qa": (
        {"video_name": "bZLjaCJeuF8", "question": "is he alone", "question_id": "v_bZLjaCJeuF8_1"},
        {"companion": {"v_bZLjaCJeuF8_1": {"answer": "no", "type": 3}}},
        [
            {
                "id": "v_bZLjaCJeuF8_1",
                "video": "v_bZLjaCJeuF8",
                "conversations": turns(f"<video>\nis he alone?\n{WORD}", "no"),
            }
        ],
    ),
    "charades": (
        {"id": "46GP8", "script": "Told to.", "descriptions": "He cooks.;A man cooks at home."},
        {},
        [
            {
                "id": "46GP8",
                "video": "46GP8",
                "conversations": turns(f"<video>\n{PROMPT}", "A man cooks at home."),
            }
        ],
    ),
    "charades_sta": (
        {"line": "3MSZA 24.3 30.4##person turn a light on.\n"},
        {},
        [
            {
                "id": "3MSZA_24.3_30.4",
                "video": "3MSZA",
                "conversations": turns(
                    "<video>\nDuring which part of the video does this happen: "
                    '"person turn a light on"? Give the start and the end in seconds.',
                    "From 24.3 to 30.4 seconds.",
                ),
            }
        ],
    ),
    "openvid": (
        {"video": "celebv_-2fx.mp4", "caption": "A woman talks.", "aesthetic score": "5.1"},
        {},
        [
            {
                "id": "celebv_-2fx.mp4",
                "video": "celebv_-2fx.mp4",
                "conversations": turns(f"<video>\n{PROMPT}", "A woman talks."),
            }
        ],
    ),
    "finevideo": (
        FINEVIDEO,
        {},
        [
            {
                "id": "aFOqwZAGuTo",
                "video": "aFOqwZAGuTo.mp4",
                "conversations": turns("<video>\nWho speaks?", "A teacher.", "Why?", "To explain."),
            }
        ],
    ),
    "science_qa": (
        SCIENCE_QA,
        {"key": "17"},
        [
            {
                "id": "17",
                "image": "train/17/image.png",
                "conversations": turns(
                    "<image>\nSolids keep their shape.\nWhich is a solid?\nA. milk\nB. a rock\n"
                    + CHOOSE,
                    "B",
                ),
            }
        ],
    ),
    "ocr_vqa": (
        OCR_VQA,
        {"key": "761183272"},
        [
            {
                "id": "761183272",
                "image": "761183272.jpg",
                "conversations": turns(
                    f"<image>\nWho wrote this book?\n{WORD}",
                    "Sandra Boynton",
                    "Is this a games related book?",
                    "No",
                ),
            }
        ],
    ),
    "sharegpt4video": (
        SHAREGPT4VIDEO,
        {},
        [
            {
                "id": "6ad2ce21",
                "video": "panda/6ad2ce21.mp4",
                "conversations": turns(f"<video>\n{PROMPT}", "A whole video."),
            }
        ],
    ),
    "vdc": (
        VDC,
        {},
        [
            {
                "id": "TiQBTesZUJQ",
                "video": "TiQBTesZUJQ.mp4",
                "conversations": turns(f"<video>\n{PROMPT}", "All of it."),
            }
        ],
    ),
    "ego4d_narrations": (
        EGO4D,
        {"key": "uid-1"},
        [
            {
                "id": "uid-1_0",
                "video": "uid-1",
                "conversations": turns(f"<video>\n{PROMPT}", "C cooked a meal"),
                "clip_start_s": 0.0,
                "clip_end_s": 300.5,
            },
            {
                "id": "uid-1_1",
                "video": "uid-1",
                "conversations": turns(f"<video>\n{PROMPT}", "C spoke with man X"),
                "clip_start_s": 300.5,
                "clip_end_s": 411.0,
            },
        ],
    ),
    "llava_json": (
        {"id": "a", "video": "x/a.mp4", "conversations": LLAVA_TURNS, "data_source": "x"},
        {},
        [{"id": "a", "video": "x/a.mp4", "conversations": LLAVA_TURNS, "data_source": "x"}],
    ),
    "llava_jsonl": (
        {"id": 7, "image": "b.jpg", "width": 640, "conversations": LLAVA_TURNS},
        {},
        [{"id": 7, "image": "b.jpg", "width": 640, "conversations": LLAVA_TURNS}],
    ),
    "llava_parquet": (
        {"id": "c.png", "image": {"path": None}, "conversations": LLAVA_TURNS},
        {},
        [
            {
                "id": "c.png",
                "image": "c.png",
                "conversations": turns("<image>\nDescribe this video.", "A dog runs."),
            }
        ],
    ),
    "cinepile": (
        {
            "yt_clip_link": "https://youtube.com/watch?v=abcdefghi_1",
            "question": "Who leaves?",
            "choices": ["Ann", "Bob", "Cy", "Di", "Ed"],
            "answer_key_position": 4,
        },
        {},
        [
            {
                "id": "d88d01aa9a7d2a4e",
                "video": "abcdefghi_1",
                "conversations": turns(
                    f"<video>\nWho leaves?\nA. Ann\nB. Bob\nC. Cy\nD. Di\nE. Ed\n{CHOOSE}", "E"
                ),
            }
        ],
    ),
    "video_chatgpt": (
        {"q": "What does he wear?", "a": "A hat.", "video_id": "v_k_ZXmr8pmrs"},
        {},
        [
            {
                "id": "",
                "video": "v_k_ZXmr8pmrs",
                "conversations": turns("<video>\nWhat does he wear?", "A hat."),
            }
        ],
    ),
    "vcg_plus": (
        {"id": "v_p1QGn0IzfW0", "conversations": LLAVA_TURNS},
        {},
        [
            {
                "id": "",
                "video": "v_p1QGn0IzfW0",
                "conversations": turns("<video>\nDescribe this video.", "A dog runs."),
            }
        ],
    ),
}


def written(path: Path, name: str, rows: list[Any]) -> Path:
    """Write rows as the layout's files are written."""
    reader = layout(name).reader
    if reader is Reader.CSV:
        head = list(rows[0])
        cells = [[f'"{row[column]}"' for column in head] for row in rows]
        path.write_text("\n".join(",".join(line) for line in [head, *cells]) + "\n")
    elif reader is Reader.JSON:
        path.write_text(json.dumps(rows, indent=2))
    elif reader is Reader.JSONL:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif reader is Reader.LINES:
        path.write_text("".join(row["line"] for row in rows))
    elif reader is Reader.PARQUET:
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        members: Any = {str(index): row for index, row in enumerate(rows)}
        inside = layout(name).inside
        path.write_text(json.dumps({"version": [1], inside: members} if inside else members))
    return path
