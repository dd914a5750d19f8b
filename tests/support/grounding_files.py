"""Invented annotation files of the benchmarks of moments, boxes and sentences."""

import json
from pathlib import Path

from vxp_model.eval.benchmarks.tempcompass_rules import CAPTIONING, CHOICE, MATCHING, YES_NO

V_STAR_ROWS = [
    {
        "vid": vid,
        "domain": domain,
        "fps": 30.0,
        "width": 640,
        "height": 360,
        "frame_count": frames,
        "question": f"What does the {person} throw?",
        "chain": "<think>..<think>",
        "object": "ball",
        "answer": "a red ball",
        "temporal_question": f"When does the {person} throw the ball?",
        "timestamps": [start, end],
        "spatial_question": f"Where is the ball between {start:g} and {end:g} s?",
        "spatial_question_2": "Where is the ball when it is thrown?",
        "bboxes": [
            {"timestamp": second, "frame_index": 30 * second, **box}
            for second in range(int(start), int(end) + 1, 2)
        ],
    }
    for vid, domain, person, frames, start, end, box in [
        ("x1", "Sports", "girl", 900, 4.0, 8.5, dict(xmin=10, ymin=20, xmax=110, ymax=120)),
        ("x2", "Daily", "man", 9000, 12.0, 17.5, dict(xmin=200, ymin=100, xmax=240, ymax=180)),
    ]
]


def write_charades_sta(root: Path) -> None:
    (root / "charades_sta_test.txt").write_text(
        "AB1CD 24.3 30.4##person opens a door.\n"
        "AB1CD 0.0 6.9##a person turns off the light.\n"
        "EF2GH 3.5 12.0##person holds a picture to the wall.\n"
        "EF2GH 20.0 33.1##the person starts to laugh.\n"
    )


def write_v_star(root: Path) -> None:
    (root / "V_STaR_test.json").write_text(json.dumps(V_STAR_ROWS))


TEMPCOMPASS = {
    CHOICE: {
        "7": {
            "direction": [
                {"question": "Which way?\nA. left\nB. right\nC. up", "answer": "B. right"},
                {"question": "Where to?\nA. right\nB. left", "answer": "A. right"},
            ]
        },
        "7_reverse": {
            "direction": [{"question": "Which way?\nA. left\nB. right", "answer": "A. left"}]
        },
    },
    YES_NO: {"7": {"direction": [{"question": "Does it go right?", "answer": "yes"}]}},
    MATCHING: {
        "7": {
            "direction": [
                {
                    "question": "Which fits better?\nOption 1: It goes left.\n"
                    "Option 2: It goes right.",
                    "answer": "Option 2: It goes right.",
                }
            ]
        },
        "7_reverse": {
            "order": [
                {
                    "question": "Which caption?\nCaption A: First red, then blue.\n"
                    "Caption B: First blue, then red.",
                    "answer": "Caption A: First red, then blue.",
                }
            ]
        },
    },
    CAPTIONING: {
        "7": {
            "direction": [
                {
                    "question": "Write a caption that fits.\nInformation A: {'direction': 'right'}"
                    "\nInformation B: {'direction': 'left'}\nGenerated Caption:",
                    "answer": "A. right",
                }
            ]
        }
    },
}


def write_tempcompass(root: Path) -> None:
    (root / "questions").mkdir()
    for task, rows in TEMPCOMPASS.items():
        (root / "questions" / f"{task}.json").write_text(json.dumps(rows))
    kinds = {
        "7": {"eval_dim": {"direction": {"type": "object motion"}, "order": None}},
        "7_reverse": {"eval_dim": {"direction": {"type": "camera motion"}, "order": {"e": 1}}},
    }
    (root / "meta_info.json").write_text(json.dumps(kinds))


def write_mlvu_generation(root: Path) -> None:
    folder = root / "MLVU" / "json"
    folder.mkdir(parents=True)
    captions = [
        {
            "video": f"film_{number}.mp4",
            "duration": 240 + number,
            "question": f"What happens after the train leaves, part {number}?",
            "answer": "The man waves and goes home.",
            "scoring_points": ["The man waves.", "He goes home."],
            "question_type": "subPlot",
        }
        for number in (1, 2)
    ]
    summaries = [
        {
            "video": f"film_{number}.mp4",
            "duration": 300.5,
            "question": "Please summarize the main content of this video.",
            "answer": "A family moves to the sea.",
            "question_type": "summary",
        }
        for number in (1, 2)
    ]
    (folder / "8_sub_scene.json").write_text(json.dumps(captions))
    (folder / "9_summary.json").write_text(json.dumps(summaries))
