"""A few invented questions in the layout of every benchmark: two videos, four to eight questions.

The layouts are the published ones; nothing in them is of a benchmark.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from support.grounding_files import (
    write_charades_sta,
    write_mlvu_generation,
    write_tempcompass,
    write_v_star,
)

Writer = Callable[[Path], None]
"""Writes annotation files into a folder; of media nothing."""

SHAPES = ("a circle", "a square", "a star", "a cross")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def write_jsonl(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a file of JSON lines, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a Parquet file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), path)


def mlvu_row(video: str, answer: str, kind: str, **others: Any) -> dict[str, Any]:
    """Return a row of MLVU's files."""
    return {
        "video": video,
        "duration": 246,
        "question": "What is shown?",
        "candidates": list(SHAPES),
        "answer": answer,
        "question_type": kind,
    } | others


def write_mlvu(root: Path) -> None:
    """Write the seven files of MLVU's development set, a question each, of needles two."""
    kinds = ("plotQA", "findNeedle", "ego", "count", "order", "anomaly_reco", "topic_reasoning")
    stems = ("plotQA", "needle", *kinds[2:])
    for number, (kind, stem) in enumerate(zip(kinds, stems, strict=True), start=1):
        rows = [mlvu_row(f"film_{number % 2}.mp4", SHAPES[number % 4], kind)]
        if kind == "findNeedle":
            rows.append(mlvu_row("film_0.mp4", "a house far away", kind, duration=24.5))
        write_json(root / f"MLVU/json/{number}_{stem}.json", rows)


def write_mlvu_test(root: Path) -> None:
    """Write MLVU's test file: six options."""
    six = [*SHAPES, "a line", "a dot"]
    rows = [
        mlvu_row("t_1.mp4", "a dot", "topic_reasoning", candidates=six, question_id="TR_0"),
        mlvu_row("t_1.mp4", "a star", "needleQA", candidates=six, question_id="NQA_0"),
        mlvu_row("t_2.mp4", "a line", "tutorialQA", candidates=six, question_id="TQA_0"),
        mlvu_row("t_2.mp4", "a circle", "sportsQA", candidates=six, question_id="SQA_0"),
    ]
    write_json(root / "test-ground-truth/test_mcq_gt.json", rows)


def video_mme_rows() -> list[dict[str, Any]]:
    """Return rows of Video-MME: three questions about each of two videos."""
    return [
        {
            "video_id": f"00{video}",
            "duration": ("short", "long")[video],
            "domain": ("Knowledge", "Life Record")[video],
            "sub_category": ("Geography", "Food")[video],
            "url": "https://example.org",
            "videoID": ("aBcD", "eFgH")[video],
            "question_id": f"00{video}-{number}",
            "task_type": ("OCR Problems", "Counting Problem", "Action Reasoning")[number],
            "question": "What is drawn on the wall?",
            "options": [
                f"{letter}. It is {shape}." for letter, shape in zip("ABCD", SHAPES, strict=True)
            ],
            "answer": "ABCD"[(video + number) % 4],
        }
        for video in range(2)
        for number in range(3)
    ]


def write_video_mme(root: Path) -> None:
    """Write Video-MME's Parquet, and the subtitles of one of its videos."""
    write_parquet(root / "videomme/test-00000-of-00001.parquet", video_mme_rows())
    path = root / "subtitle/aBcD.srt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        '1\n00:00:00,000 --> 00:00:01,500\n<font color="white">Good morning.</font>\n\n'
        "2\n00:00:01,500 --> 00:00:03,000\nThis is a wall.\n",
        encoding="utf-8",
    )


def long_video_row(number: int, **others: Any) -> dict[str, Any]:
    """Return a row of LongVideoBench."""
    name = ("aa", "bb")[number % 2]
    return {
        "video_id": name,
        "question": "When the words 'here it is' appear, what is shown?",
        "question_wo_referring_query": "What is shown?",
        "candidates": [*SHAPES, "a line"][: 5 - number % 2],
        "correct_choice": number % 4,
        "position": [8, 16],
        "topic_category": "NP-News-Programs",
        "question_category": ("TOS", "S2E")[number % 2],
        "level": ("L2-Relation", "L1-Perception")[number % 2],
        "id": f"{name}_{number}",
        "video_path": f"{name}.mp4",
        "subtitle_path": f"{name}_en.json",
        "duration_group": (15, 600)[number % 2],
        "starting_timestamp_for_subtitles": (0, 30)[number % 2],
        "duration": 4.0,
        "view_count": 1,
    } | others


def write_longvideobench(root: Path) -> None:
    """Write LongVideoBench's validation file and both forms of its subtitles."""
    write_json(root / "lvb_val.json", [long_video_row(number) for number in range(4)])
    _write_long_subtitles(root)


def write_longvideobench_test(root: Path) -> None:
    """Write LongVideoBench's test file, whose answers are not in it."""
    rows = [long_video_row(number) for number in range(4)]
    for row in rows:
        del row["correct_choice"], row["position"]
    write_json(root / "lvb_test_wo_gt.json", rows)
    _write_long_subtitles(root)


def _write_long_subtitles(root: Path) -> None:
    stamped = [{"start": "00:00:01.2", "end": "00:00:02.9", "line": "Here it is."}]
    write_json(root / "subtitles/aa_en.json", stamped)
    timed = [{"timestamp": [31.0, None], "text": "It stays to the end."}]
    write_json(root / "subtitles/bb_en.json", timed)


def vnbench_rows(*, video: str, kind: str, gold: str) -> list[dict[str, Any]]:
    """Return the four tries of a sample of VNBench."""
    orders = [
        ("3", "5", "4", "2"),
        ("5", "2", "3", "4"),
        ("2", "4", "5", "3"),
        ("4", "3", "2", "5"),
    ]
    return [
        {
            "video": f"./clips/{video}_{kind}.mp4",
            "question": "How many words appeared in the video?",
            "options": list(order),
            "gt": int(gold) if kind.startswith("cnt") else gold,
            "gt_option": "ABCD"[order.index(gold)],
            "needle_time": [3.0, 9.5],
            "length": 55,
            "type": kind,
            "try": number,
        }
        for number, order in enumerate(orders)
    ]


def write_vnbench(root: Path) -> None:
    """Write VNBench's file: two samples of four tries."""
    rows = vnbench_rows(video="video1", kind="cnt_edit1", gold="4")
    rows += vnbench_rows(video="video2", kind="ret_insert1", gold="5")
    write_json(root / "VNBench-main-4try.json", rows)


def write_lvbench(root: Path) -> None:
    """Write LVBench's own file: a line a video."""
    options = "\n".join(f"({letter}) {shape}" for letter, shape in zip("ABCD", SHAPES, strict=True))
    rows = [
        {
            "key": key,
            "type": kind,
            "video_info": {"duration_minutes": 61.0},
            "qa": [
                {
                    "uid": f"{place}{number}",
                    "question": f"What is shown last?\n{options}",
                    "answer": "ABCD"[number],
                    "question_type": ["reasoning", "entity recognition"][: number + 1],
                    "time_reference": "00:15-01:00:19",
                }
                for number in range(2)
            ],
        }
        for place, (key, kind) in enumerate([("AbC", "cartoon"), ("dEf", "sport")])
    ]
    write_jsonl(root / "video_info.meta.jsonl", rows)


WRITERS: dict[str, Writer] = {
    "mlvu": write_mlvu,
    "mlvu_test": write_mlvu_test,
    "video_mme": write_video_mme,
    "video_mme_subtitles": write_video_mme,
    "longvideobench": write_longvideobench,
    "longvideobench_subtitles": write_longvideobench,
    "longvideobench_test": write_longvideobench_test,
    "longvideobench_test_subtitles": write_longvideobench_test,
    "vnbench": write_vnbench,
    "lvbench": write_lvbench,
    "tempcompass": write_tempcompass,
    "charades_sta": write_charades_sta,
    "v_star": write_v_star,
    "mlvu_generation": write_mlvu_generation,
}
"""Benchmark -> what writes its files; a new one needs an entry."""
