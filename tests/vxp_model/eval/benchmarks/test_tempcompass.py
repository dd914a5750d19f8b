"""TempCompass: rules as its makers have them, other replies, judges, files, published scores."""

import pytest

from support.grounding_files import TEMPCOMPASS, write_tempcompass
from support.published_answers import published
from vxp_data.errors import UserError
from vxp_model.eval.benchmarks.base import Scored, Shown
from vxp_model.eval.benchmarks.tempcompass import TempCompass
from vxp_model.eval.benchmarks.tempcompass_rules import (
    CAPTIONING,
    CHOICE,
    MATCHING,
    YES_NO,
    caption_verdict,
    judged_correct,
    row_verdict,
    rule_verdict,
    tables_of,
)

SHOWN = Shown(time_s=(0.0,), duration_s=30.0, width_px=640, height_px=360)
BENCHMARK = TempCompass()
OFFICIAL = BENCHMARK.conventions["official"]
LINES = ("Option 1: It goes left.", "Option 2: It goes right.")


@pytest.mark.parametrize(
    ("task", "gold", "reply", "verdict"),
    [
        (CHOICE, "B. right", "B. right", True),
        (CHOICE, "B. right", "B", True),
        (CHOICE, "B. right", " B</s>", True),
        (CHOICE, "B. right", "A", False),
        (CHOICE, "B. right", "B. something else", True),
        (CHOICE, "B. right", "B) right", True),
        (CHOICE, "B. right", "A. right", False),
        (CHOICE, "B. right", "A) right", False),
        (CHOICE, "B. right", "Blue", None),
        (CHOICE, "B. right", "b", None),
        (CHOICE, "B. right", "**B. right**", None),
        (CHOICE, "B. right", "right", None),
        (CHOICE, "B. right", "", None),
        (YES_NO, "yes", "Yes.", True),
        (YES_NO, "yes", "yes, it does", True),
        (YES_NO, "yes", "No", False),
        (YES_NO, "no", "Nothing moves", True),  # as theirs: it begins with 'no'
        (YES_NO, "no", "It does not", None),
        (MATCHING, LINES[1], "Option 2: It goes right.", True),
        (MATCHING, LINES[1], "Option 1: It goes left.", False),
        (MATCHING, LINES[1], "It goes right.", True),
        (MATCHING, LINES[1], "It goes left.", False),
        (MATCHING, LINES[1], "(2) It goes right.", True),
        (MATCHING, LINES[1], "Option 2", True),
        (MATCHING, LINES[1], "Option 2.", True),
        (MATCHING, LINES[1], "2", True),
        (MATCHING, LINES[1], "1.", False),
        (MATCHING, LINES[1], "Option 1", False),
        (MATCHING, LINES[1], "The best is Option 2", None),
        (MATCHING, LINES[1], "Option 2: It goes up.", None),
    ],
)
def test_rules_as_the_makers_have_them(task, gold, reply, verdict):
    options = LINES if task == MATCHING else ()
    assert rule_verdict(task, gold, reply, options) is verdict


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [("Option 2", True), (LINES[1], True), ("Option 1", False), ("1", False), (LINES[0], False),
     ("It goes left.", None)],
)  # fmt: skip
def test_without_options_labels_are_read(reply, verdict):
    assert rule_verdict(MATCHING, LINES[1], reply) is verdict


@pytest.mark.parametrize(
    ("judgment", "is_right"),
    [("B. right", True), ("A. left", False), ("B. right, C. up", False), ("B", False),
     ("None of the choices are correct", False), (None, False)],
)  # fmt: skip
def test_a_caption_is_right_where_the_judge_takes_it_for_that_choice_alone(judgment, is_right):
    assert caption_verdict("B. right", judgment) is is_right


@pytest.mark.parametrize(
    ("judgment", "is_right"),
    [("Correct", True), ("Incorrect", False), ("It is Correct.", True), ("It is Incorrect", False),
     ("Correct, not Incorrect", True), ("yes", None)],
)  # fmt: skip
def test_a_judge_says_correct_or_incorrect(judgment, is_right):
    assert judged_correct(judgment) is is_right


def test_a_row_that_no_rule_read_has_its_judges_rating():
    row = {"task": CHOICE, "gold": "B. x", "reply": None, "by_rule": False, "rating": 1}
    assert row_verdict(row)
    assert not row_verdict(row | {"rating": 0})
    assert row_verdict(row | {"by_rule": True, "reply": "B", "rating": 0})
    assert not row_verdict({"task": CAPTIONING, "gold": "B. x", "judge": None})


@pytest.fixture
def questions(tmp_path):
    write_tempcompass(tmp_path)
    return {one.question_id: one for one in BENCHMARK.questions(tmp_path)}


def test_questions_of_the_four_tasks(questions):
    assert {name: one.gold for name, one in questions.items()} == {
        "multi-choice/7/direction/0": "B",
        "multi-choice/7/direction/1": "A",
        "multi-choice/7_reverse/direction/0": "A",
        "yes_no/7/direction/0": "yes",
        "caption_matching/7/direction/0": "Option 2",
        "caption_matching/7_reverse/order/0": "Caption A",
        "captioning/7/direction/0": "B",  # of the first choice question, not of its own list
    }
    one = questions["multi-choice/7/direction/0"]
    assert (one.text, one.options) == ("Which way?", ("left", "right", "up"))
    assert one.video == "videos/7.mp4"
    kinds = {name: one.groups["kind"] for name, one in questions.items()}
    assert kinds["yes_no/7/direction/0"] == "object motion"
    assert kinds["caption_matching/7_reverse/order/0"] == "order"


def test_prompts_end_as_the_makers_do(questions):
    def prompt(name):
        return BENCHMARK.prompt(questions[name], SHOWN, "official")

    choice = prompt("multi-choice/7/direction/1")
    assert choice.text == "Where to?\nA. right\nB. left\nPlease directly give the best option:"
    assert choice.choices == ("A", "B")
    assert prompt("yes_no/7/direction/0").text.endswith("right?\nPlease answer yes or no:")
    assert prompt("captioning/7/direction/0").text.endswith("\nGenerated Caption:")
    assert prompt("caption_matching/7/direction/0").choices == ("Option 1", "Option 2")


@pytest.mark.parametrize(
    ("name", "reply", "ours", "theirs"),
    [
        ("multi-choice/7/direction/0", "B. right", "B", "B"),
        ("multi-choice/7/direction/0", "**B.**", "B", None),
        ("multi-choice/7/direction/0", "The answer is B. A dog runs", "B", None),
        ("multi-choice/7/direction/0", "right", "B", None),
        ("multi-choice/7/direction/0", "Cannot determine", None, None),
        ("multi-choice/7/direction/0", "A man walks", None, None),
        ("yes_no/7/direction/0", "Yes, it does.", "yes", "yes"),
        ("yes_no/7/direction/0", "**No**", "no", None),
        ("yes_no/7/direction/0", "The answer is: yes", "yes", None),
        ("yes_no/7/direction/0", "There is no car.", None, None),
        ("caption_matching/7/direction/0", "Option 2", "Option 2", "Option 2"),
        ("caption_matching/7/direction/0", "The best is Option 2: it goes", "Option 2", None),
        ("caption_matching/7/direction/0", "Option 2 and not option 1", "Option 2", None),
        ("caption_matching/7/direction/0", "Not Option 1 but option 2", None, None),
        ("caption_matching/7/direction/0", "I see that it goes right", "Option 2", None),
        ("caption_matching/7/direction/0", "Option 1 or Option 2", None, None),
        ("caption_matching/7/direction/0", "Option 1 is wrong, so Option 2", "Option 2", None),
        ("caption_matching/7/direction/0", "Between option 1 and option 2", None, None),
        ("caption_matching/7_reverse/order/0", "(b)", "Caption B", None),
        ("caption_matching/7_reverse/order/0", "The best caption is B", "Caption B", None),
        ("caption_matching/7_reverse/order/0", "Caption A is wrong: caption B", "Caption B", None),
        ("caption_matching/7/direction/0", "Neither", None, None),
        ("captioning/7/direction/0", "B. It goes right", None, None),
    ],
)
def test_replies_that_the_rules_do_not_read(questions, name, reply, ours, theirs):
    assert BENCHMARK.parse(questions[name], reply) == ours
    assert OFFICIAL.parse(questions[name], reply) == theirs


@pytest.mark.parametrize(
    ("judgment", "parsed"),
    [
        ("Reasoning: it says so\nAnswer: B. right", "B"),
        ("B. right", "B"),
        ("Answer: **A. left**", "A"),
        ("Answer: None of the choices are correct", "none"),
        ("Answer: A. left or B. right", None),
        ("I do not know", None),
    ],
)
def test_a_judgment_of_a_caption(questions, judgment, parsed):
    one = questions["captioning/7/direction/0"]
    assert BENCHMARK.needs_judge(one)
    assert BENCHMARK.judged(one, judgment) == parsed
    asked = BENCHMARK.judge_prompt(one, "It goes right.").text
    assert "Video description: It goes right.\nQuestion:\nWhich way?\nA. left\nB. right" in asked


def test_other_tasks_can_be_judged_as_the_makers_do(questions):
    one = questions["multi-choice/7/direction/0"]
    assert OFFICIAL.judges_unparsed
    assert BENCHMARK.judge_prompt(one, "**B**").text.endswith(
        "Right answer: B. right\nReply: **B**"
    )
    assert BENCHMARK.judged(one, "Correct") == one.gold
    assert BENCHMARK.score(one, BENCHMARK.judged(one, "Incorrect")) == 0
    assert BENCHMARK.judged(one, "Perhaps") is None


def test_one_number_over_all_needs_judged_captions(questions):
    scored = [
        Scored(question=one, parsed=one.gold, score=float(one.groups["task"] != YES_NO))
        for one in questions.values()
    ]
    figures = BENCHMARK.summarise(scored)
    found = {figure.name: figure.value for figure in figures}
    assert figures[0].name == "accuracy, all four tasks"
    assert figures[0].value == 6 / 7
    assert found["mean of the tasks scored by rule"] == 2 / 3
    assert found["accuracy, all four tasks, aspect direction"] == 5 / 6
    assert found["accuracy, all four tasks, kind order"] == 1
    assert found["accuracy, task yes_no, aspect direction"] == 0
    ruled = [one for one in scored if one.question.groups["task"] != CAPTIONING]
    figures = BENCHMARK.summarise(ruled)
    assert figures[0].name == "mean of the tasks scored by rule"
    assert "all four tasks" not in " ".join(figure.name for figure in figures)


def test_the_form_of_parquet_gives_the_same_questions(tmp_path, questions):
    import pyarrow as pa
    import pyarrow.parquet as pq

    root = tmp_path / "parquet"
    first = TEMPCOMPASS[CHOICE]["7"]["direction"][0]
    for task, videos in TEMPCOMPASS.items():
        rows = [
            {"video_id": video, "dim": aspect, **row}
            | ({"mc_question": first["question"], "mc_answer": first["answer"]}
               if task == CAPTIONING else {})
            for video, aspects in videos.items()
            for aspect, own in aspects.items()
            for row in own
        ]  # fmt: skip
        (root / task).mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows), root / task / "test-00000-of-00001.parquet")
    (tmp_path / "meta_info.json").rename(root / "meta_info.json")
    assert {one.question_id: one for one in BENCHMARK.questions(root)} == questions


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("questions/yes_no.json", "[]", r"yes_no.json, row 0: 'file' is \[\], wanted"),
        ("questions/yes_no.json", '{"7": []}', "row 0: '7' is"),
        ("questions/yes_no.json", '{"7": {"speed": [1]}}', "row 0: '7/speed' is 1, wanted"),
        ("questions/yes_no.json", '{"7": {"direction": [{"question": "a?"}]}}', "'answer' is no"),
        ("questions/yes_no.json", "{", "not JSON"),
        ("questions/multi-choice.json", "{}", "wanted a question of multi-choice.json about"),
        ("meta_info.json", '{"7": {}}', "meta_info.json: not as published"),
    ],
)
def test_wrong_files_are_told_with_their_place(tmp_path, file, text, message):
    write_tempcompass(tmp_path)
    (tmp_path / file).write_text(text)
    with pytest.raises(UserError, match=message):
        list(BENCHMARK.questions(tmp_path))


def test_published_answers_have_their_published_scores():
    for entry, rows in published("tempcompass"):
        tables = tables_of(rows)
        ruled = [row for row in rows if row["by_rule"] and row["task"] != CAPTIONING]
        for row in ruled:
            options = row.get("options") or ()
            verdict = rule_verdict(row["task"], row["gold"], row["reply"] or "", options)
            assert verdict is bool(row["rating"]), row
        for task, stored in entry["stored"].items():
            assert tables.by_task[task] == (stored["right"], stored["questions"])
        board = dict(entry["published_leaderboard"])
        assert round(100 * tables.all[0] / tables.all[1], 2) == board.pop("all")
        shares = {name: round(100 * a / b, 2) for name, (a, b) in tables.by_aspect.items()}
        assert shares == board
