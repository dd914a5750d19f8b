"""pipelines/bench/eval_truth.py: published answers where they are, and invented ones always."""

import gzip
import json

import eval_truth
import pytest

from support.published_answers import published_folder

VNBENCH = [
    {"video": f"{video}_cnt_edit1.mp4", "type": "cnt_edit1", "attempt": n, "gold": g, "reply": r}
    for video, replies in (
        ("a", "ABCD"),
        ("b", ["A", "B", "C.", "B"]),
        ("c", ["A", "B", "C", None]),
    )
    for n, (g, r) in enumerate(zip("ABCD", replies, strict=True))
]
VIDEO_MME = [
    {"question_id": f"00{n}-1", "duration": d, "task_type": t, "gold": g, "reply": r}
    for n, (d, t, g, r) in enumerate(
        [
            ("short", "OCR Problems", "B", "The answer is B. A dog runs"),
            ("short", "OCR Problems", "D", "(D), not A"),
            ("long", "OCR Problems", "D", "d"),
            ("long", "Counting Problem", "C", "Cannot determine"),
            ("long", "Counting Problem", "A", "A man walks"),
        ]
    )
]
LVBENCH = [
    {"id": "tv-0", "video": "x", "kinds": ["reasoning"], "gold": "A", "reply": "A"},
    {
        "id": "tv-1",
        "video": "x",
        "kinds": ["reasoning", "summarization"],
        "gold": "B",
        "reply": "C",
    },
]
TEMPCOMPASS = [
    {"task": "multi-choice", "video": "1", "aspect": "action", "index": 0, "gold": "A. up",
     "rating": 1, "by_rule": True, "reply": "A"},
    {"task": "yes_no", "video": "1", "aspect": "action", "index": 0, "gold": "no",
     "rating": 1, "by_rule": False, "reply": "It is not"},
    {"task": "captioning", "video": "1", "aspect": "order", "index": 0, "gold": "A. up",
     "rating": 0, "by_rule": None, "judge": None},
]  # fmt: skip
MOMENTS = [
    {"qid": 1, "gold": [[0, 10], [20, 30]], "predicted": [20.0, 25.0]},
    {"qid": 2, "gold": [[0, 10]], "predicted": None},
]
NEEDLES = [
    {"log": "a", "frames": 10, "depth": 0, "gold": ["B", "A"], "replies": ["B) x", "C) A"],
     "score": 0.5}
]  # fmt: skip
GRID = [{"frames": 200, "depth": 0.0, "score": 0.4}, {"frames": 200, "depth": 20.0, "score": 0.2}]

EXPECTED = {
    "vnbench-x": (
        VNBENCH,
        {"right_of_3": {"cnt_edit1": 1}, "overall": 33.3, "right_tries": 10, "unparsed": 1},
    ),
    "video-mme-x": (
        VIDEO_MME,
        {
            "published": 60.0,
            "right": 3,
            "unparsed": 2,
            "right_by_duration": {"short": 2, "long": 1},
            "right_by_task": {"OCR Problems": 3, "Counting Problem": 0},
            "questions_by_task": {"OCR Problems": 3},
        },
    ),
    "video-mme-theirs": (
        VIDEO_MME,
        # it reads 'Cannot' as C and 'A man' as A, which are right here, and leaves out 'd'
        {"compat": "official", "published": 100.0, "right": 4, "questions": 4, "unparsed": 1},
    ),
    "lvbench-x": (
        LVBENCH,
        {
            "published": None,
            "right": 1,
            "right_by_kind": {"reasoning": 1, "summarization": 0},
            "right_by_type": {"tv": 1},
        },
    ),
    "tempcompass-x": (
        TEMPCOMPASS,
        {
            "stored": {"multi-choice": {"questions": 1, "right": 1, "average": 100.0}},
            "published_leaderboard": {"all": 66.67, "action": 100.0, "order": 0.0},
        },
    ),
    "qvhighlights-x": (MOMENTS, {"published_r1": {"0.5": 50.0, "0.55": 0.0}}),
    "niah-x": (NEEDLES, {}),
    "v-niah-x": (GRID, {"published_mean": 0.30000000000000004}),
}


def write_folder(folder, expected=EXPECTED, **changed):
    """Write a folder of answers; `changed` are keys of the first entry."""
    entries = []
    for name, (rows, figures) in expected.items():
        with gzip.open(folder / f"{name}.jsonl.gz", "wt", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        entries.append(
            {"file": f"{name}.jsonl.gz", "rows": len(rows), "note": "invented"} | figures
        )
    entries[0] |= changed
    (folder / "expected.json").write_text(json.dumps(entries))
    return str(folder)


def only(name, **changed):
    rows, figures = EXPECTED[name]
    return {name: (rows, figures | changed)}


def different(capsys):
    """Lines of figures that differ."""
    out = capsys.readouterr().out
    return [line.removeprefix("  DIFFER ") for line in out.splitlines() if "DIFFER" in line]


def test_published_answers_give_the_published_figures(capsys):
    assert eval_truth.main([str(published_folder())]) == 0, different(capsys)


def test_invented_answers_of_every_kind_give_their_figures(tmp_path, capsys):
    code = eval_truth.main([write_folder(tmp_path)])
    out = capsys.readouterr().out
    assert "DIFFER" not in out
    assert code == 0
    for text in (
        "right_of_3: cnt_edit1",
        "right_by_kind: summarization",
        "R1: 0.55",
        "(expected 3)",
    ):
        assert text in out


@pytest.mark.parametrize(
    ("name", "changed", "told"),
    [
        ("video-mme-x", {"right": 4}, "right "),
        ("video-mme-x", {"right_by_task": {"OCR Problems": 2}}, "right_by_task: OCR Problems"),
        ("video-mme-x", {"right_by_task": {"Swimming": 0}}, "right_by_task: Swimming"),
        ("video-mme-x", {"published": 60.01}, "published"),
        ("video-mme-x", {"righht": 3}, "righht"),
        ("video-mme-x", {"right_by_colour": {"red": 3}}, "right_by_colour: red"),
        ("video-mme-x", {"compat": "official"}, "published"),
        ("video-mme-x", {"compat": "theirs"}, "the file"),
        ("video-mme-x", {"rows": 4}, "rows"),
        ("video-mme-x", {"file": "video-mme-none.jsonl.gz"}, "the file"),
        ("video-mme-x", {"file": "mmbench-x.jsonl.gz"}, "the file"),
        ("video-mme-x", {"file": 3}, "the file"),
        ("video-mme-x", {"right": "3"}, "right "),
        ("vnbench-x", {"right_of_3": {"cnt_edit1": 2}}, "right_of_3: cnt_edit1"),
        ("vnbench-x", {"right_of_150": {"cnt_edit1": 1}}, "samples: cnt_edit1"),
        ("vnbench-x", {"overall": 33.4}, "overall"),
        ("lvbench-x", {"right_by_kind": {"reasoning": 2}}, "right_by_kind: reasoning"),
        ("tempcompass-x", {"stored": {"yes_no": {"right": 0}}}, "yes_no: right"),
        ("tempcompass-x", {"stored": {"yes_no": {"wrong": 0}}}, "yes_no: wrong"),
        (
            "tempcompass-x",
            {"published_leaderboard": {"speed": 1.0}},
            "published_leaderboard: speed",
        ),
        ("qvhighlights-x", {"published_r1": {"0.5": 50.01}}, "R1: 0.5"),
        ("v-niah-x", {"published_mean": 0.300000002}, "published_mean"),
        ("niah-x", {"score": 1}, "score"),
    ],
)
def test_one_wrong_figure_ends_with_1(tmp_path, capsys, name, changed, told):
    assert eval_truth.main([write_folder(tmp_path, only(name), **changed)]) == 1
    assert any(line.startswith(told) for line in different(capsys))


def test_a_rating_that_is_not_the_rules_ends_with_1(tmp_path, capsys):
    rows = [TEMPCOMPASS[0] | {"rating": 0}]
    folder = write_folder(tmp_path, {"tempcompass-x": (rows, {"published": 100.0})})
    assert eval_truth.main([folder]) == 1
    assert different(capsys)[0].startswith("rules agree with ratings")


def test_a_needles_score_that_is_not_its_letters_ends_with_1(tmp_path, capsys):
    folder = write_folder(tmp_path, {"niah-x": ([NEEDLES[0] | {"score": 0.75}], {})})
    assert eval_truth.main([folder]) == 1
    assert different(capsys)[0].startswith("rows whose score is ours")


def test_the_other_figures_of_an_entry_are_compared_after_a_wrong_key(tmp_path, capsys):
    folder = write_folder(tmp_path, only("video-mme-x", nobody=1))
    assert eval_truth.main([folder]) == 1
    out = capsys.readouterr().out
    assert "right_by_task: OCR Problems" in out
    assert "nobody checks the key 'nobody'" in out


def test_entries_without_figures_or_files_end_with_1(tmp_path, capsys):
    assert eval_truth.main([str(tmp_path)]) == 1
    assert "expected.json" in capsys.readouterr().out
    (tmp_path / "expected.json").write_text("[]")
    assert eval_truth.main([str(tmp_path)]) == 1
    assert eval_truth.main([write_folder(tmp_path, {"lvbench-x": (LVBENCH, {})})]) == 1
    (tmp_path / "lvbench-x.jsonl.gz").write_bytes(b"no gzip")
    assert eval_truth.main([str(tmp_path)]) == 1
    assert "lvbench-x.jsonl.gz" in different(capsys)[-1]


def test_options_may_be_there_and_files_need_not_be_compressed(tmp_path, capsys):
    row = VIDEO_MME[4] | {"options": ["A. A dog runs", "B. A man walks"], "gold": "B"}
    (tmp_path / "video-mme-x.jsonl").write_text(json.dumps(row) + "\n")
    entry = {"file": "video-mme-x.jsonl", "right": 1}
    (tmp_path / "expected.json").write_text(json.dumps([entry]))
    assert eval_truth.main([str(tmp_path)]) == 0, different(capsys)


def test_words_about_an_entry_are_no_figures_and_unknown_figures_differ():
    assert not eval_truth.holds_number({"words": ["a", "b"], "truth": True, "nothing": None})
    assert eval_truth.holds_number({"deep": [{"x": 1.5}]})
