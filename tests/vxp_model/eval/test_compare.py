"""Two runs on the same questions: paired, refused where frames differ, with what differs listed."""

from __future__ import annotations

import pytest

from support.eval_runs import SPANS, Shapes, plan_of, shape_questions, write_run
from vxp_model.cli import app
from vxp_model.errors import UserError
from vxp_model.eval.benchmarks.base import Figure, Question, by_group, units_of
from vxp_model.eval.compare import compare, describe
from vxp_model.eval.statistics import mcnemar_exact

pytestmark = pytest.mark.usefixtures("invented")

QUESTIONS = shape_questions(20)


def wrong_in(*ids, missing=()):
    """Say the right letter but to some questions; have no video of others."""

    def reply(question):
        if question.question_id in missing:
            return None
        return "E" if question.question_id in ids else question.gold

    return reply


@pytest.fixture
def runs(tmp_path):
    a = write_run(tmp_path / "a", QUESTIONS, wrong_in(*(f"{at}-0" for at in range(9)), "9-1"))
    b = write_run(tmp_path / "b", QUESTIONS, wrong_in("0-0", "15-1", missing=["19-2"]))
    return a, b


def test_only_questions_answered_by_both_are_compared_in_pairs(runs):
    (found,) = compare(*runs)
    assert (found.num_questions, found.num_videos, found.num_left_out) == (59, 20, 1)
    accuracy = next(one for one in found.figures if one.name == "accuracy")
    assert (accuracy.a, accuracy.b) == (49 / 59, 57 / 59)
    assert accuracy.p_value == mcnemar_exact(9, 1)
    assert 0 < accuracy.interval.low < 8 / 59 < accuracy.interval.high
    macro = next(one for one in found.figures if one.name == "M-Avg")
    assert macro.p_value is None  # no mean of questions
    assert macro.b > macro.a
    assert [one.name for one in found.figures] == ["M-Avg", "accuracy"]


def test_what_differs_is_listed_by_who_was_right(runs):
    (found,) = compare(*runs)
    assert [one.question.question_id for one in found.better_in_a] == ["15-1"]
    better = [f"{at}-0" for at in range(1, 9)] + ["9-1"]
    assert [one.question.question_id for one in found.better_in_b] == better


def test_every_part_of_every_split_has_its_difference(runs):
    (found,) = compare(*runs)
    assert {split: [one.name for one in rows] for split, rows in found.by_split.items()} == {
        "length": ["long", "short"],
        "task": ["counting", "order"],
    }
    order = found.by_split["task"][1]
    assert (order.num_questions, order.a, order.b) == (20, 19 / 20, 19 / 20)
    assert order.p_value == 1


def test_a_figure_that_a_benchmark_is_known_by_is_compared_though_it_is_of_a_part(
    runs, monkeypatch
):
    def summarise(_, scored):
        figures = []
        for task, own in by_group(scored, "task").items():
            figures.append(Figure.of(f"IoU, task {task}", units_of(own)))
            for length, some in by_group(own, "length").items():
                figures.append(Figure.of(f"IoU, task {task}, length {length}", units_of(some)))
        return figures

    monkeypatch.setattr(Shapes, "summarise", summarise)
    (found,) = compare(*runs)
    assert [one.name for one in found.figures] == ["IoU, task counting", "IoU, task order"]


def test_the_other_way_round_is_the_other_sign(runs):
    (forth,), (back,) = compare(*runs), compare(*runs[::-1])
    assert back.overall.interval[:2] == pytest.approx(
        (-forth.overall.interval.high, -forth.overall.interval.low), abs=1e-9
    )
    assert back.overall.p_value == forth.overall.p_value


def test_other_frames_are_refused_unless_told(runs, tmp_path):
    videos = dict.fromkeys(one.video for one in QUESTIONS)
    plans = [plan_of(video, num_frames=16 if "_3." in video else 8) for video in videos]
    c = write_run(tmp_path / "c", QUESTIONS, wrong_in(), plans=plans)
    with pytest.raises(UserError, match=r"1 of 20 videos, as far .* 8 frames and 16 frames"):
        compare(runs[0], c)
    (found,) = compare(runs[0], c, across_plans=True)
    assert found.num_other_plans == 1
    assert "other frames" in describe(found)


def test_frames_of_videos_that_are_not_compared_do_not_matter(runs, tmp_path):
    videos = dict.fromkeys(one.video for one in QUESTIONS)
    plans = [plan_of(video, num_frames=16 if "_3." in video else 8) for video in videos]
    c = write_run(tmp_path / "c", QUESTIONS, wrong_in(missing=["3-0", "3-1", "3-2"]), plans=plans)
    assert compare(runs[0], c)[0].num_questions == 57


def test_another_question_of_the_same_name_is_refused(runs, tmp_path):
    changed = [Question.from_dict(one.to_dict() | {"gold": "A"}) for one in QUESTIONS]
    c = write_run(tmp_path / "c", changed, wrong_in())
    with pytest.raises(UserError, match=r"different questions of shapes .*: 45, for example '0-1'"):
        compare(runs[0], c)


def test_runs_that_share_nothing_are_refused(runs, tmp_path):
    spans = [Question(question_id="1", video="v.mp4", text="When?", gold="0-10")]
    c = write_run(tmp_path / "c", spans, lambda _: "0-5", benchmark=SPANS)
    with pytest.raises(
        UserError, match=r"no benchmark in common: the first has shapes, the second spans"
    ):
        compare(runs[0], c)
    with pytest.raises(UserError, match=r"no 'mlvu' in common"):
        compare(*runs, benchmark="mlvu")
    with pytest.raises(UserError, match="no evaluation lies there"):
        compare(runs[0], tmp_path / "nowhere")
    d = write_run(tmp_path / "d", QUESTIONS, lambda _: None)
    with pytest.raises(UserError, match="no question of shapes is answered"):
        compare(runs[0], d)


def test_runs_are_compared_by_another_convention_too(runs, capsys):
    app(["compare", *map(str, runs), "--compat", "official"], standalone_mode=False)
    assert "by convention 'official'" in capsys.readouterr().out


def test_scores_between_right_and_wrong_have_an_interval_and_no_p(tmp_path):
    spans = [
        Question(question_id=str(at), video=f"{at}.mp4", text="When?", gold="0-10")
        for at in range(30)
    ]
    a = write_run(tmp_path / "a", spans, lambda one: f"0-{5 + int(one.question_id) % 3}",
                  benchmark=SPANS)  # fmt: skip
    b = write_run(tmp_path / "b", spans, lambda one: f"0-{6 + int(one.question_id) % 3}",
                  benchmark=SPANS)  # fmt: skip
    (found,) = compare(a, b)
    assert found.overall.p_value is None
    assert (found.overall.interval.low, found.overall.interval.high) == pytest.approx((0.1, 0.1))
    assert len(found.better_in_b) == 30


def test_what_is_printed(runs):
    (found,) = compare(*runs)
    lines = describe(found).splitlines()
    assert max(map(len, lines)) <= 100
    text = "\n".join(lines)
    assert "59 questions about 20 videos, answered in both; 1 left out" in text
    row = next(line.split() for line in lines if line.startswith("accuracy"))
    assert row[1:] == ["59", "83.05", "%", "96.61", "%", "+13.56", *row[7:10], "0.0215"]
    assert "Better in A: 1" in text
    assert "  15-1: A says A, B says nothing, right is A" in text
