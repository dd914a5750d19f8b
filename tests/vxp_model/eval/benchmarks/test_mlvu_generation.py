"""MLVU's two tasks in sentences: what a judge is asked, and its ratings."""

import json

import pytest

from support.grounding_files import write_mlvu_generation
from vxp_data.errors import UserError
from vxp_model.eval.benchmarks.base import Scored, Shown
from vxp_model.eval.benchmarks.mlvu_generation import MlvuGeneration

SHOWN = Shown(time_s=(0.0,), duration_s=30.0, width_px=640, height_px=360)
BENCHMARK = MlvuGeneration()


@pytest.fixture
def questions(tmp_path):
    write_mlvu_generation(tmp_path)
    return {one.question_id: one for one in BENCHMARK.questions(tmp_path)}


def test_questions_know_their_task_and_the_folder_of_their_video(questions):
    assert {name: (one.groups["task"], one.video) for name, one in questions.items()} == {
        "8_sub_scene_0": ("SSC", "MLVU/video/8_sub_scene/film_1.mp4"),
        "8_sub_scene_1": ("SSC", "MLVU/video/8_sub_scene/film_2.mp4"),
        "9_summary_0": ("VS", "MLVU/video/9_summary/film_1.mp4"),
        "9_summary_1": ("VS", "MLVU/video/9_summary/film_2.mp4"),
    }


def test_a_model_is_asked_the_question_alone(questions):
    prompt = BENCHMARK.prompt(questions["9_summary_0"], SHOWN, "official")
    assert prompt.text == "Please summarize the main content of this video."
    assert prompt.system.startswith("Carefully watch this video")
    assert prompt.max_new_tokens == 1000


def test_a_judge_is_given_points_for_captions_and_the_reference_for_summaries(questions):
    caption = BENCHMARK.judge_prompt(questions["8_sub_scene_0"], "He waves.")
    assert '["The man waves.", "He goes home."]\nAnswer: He waves.' in caption.text
    assert "score_relevance" in caption.system
    summary = BENCHMARK.judge_prompt(questions["9_summary_0"], "They move.")
    assert summary.text == "Reference summary: A family moves to the sea.\nSummary: They move."
    assert "score_reliability" in summary.system
    assert all(BENCHMARK.needs_judge(one) for one in questions.values())
    assert BENCHMARK.parse(questions["9_summary_0"], "They move.") is None


@pytest.mark.parametrize(
    ("judgment", "parsed"),
    [
        ("{'score_accuracy': 3.5, 'score_relevance': 4, 'total_score': 7.5}", "3.5 + 4"),
        ('It is good.\n```json\n{"score_accuracy": 5, "score_relevance": 5}\n```', "5 + 5"),
        ("score_accuracy is 1 first; {'score_accuracy': 2, 'score_relevance': 4}", "2 + 4"),
        ("{'score_accuracy': 3.6666666667, 'score_relevance': 4}", "3.6666666667 + 4"),
        ("{'score_accuracy': 3}", None),
        ("{'score_accuracy': 0, 'score_relevance': 4}", None),
        ("{'score_accuracy': 9, 'score_relevance': 4}", None),
        ("{'score_accuracy': 'good', 'score_relevance': 4}", None),
        ("", None),
    ],
)
def test_ratings_are_read_from_the_end_of_a_judgment(questions, judgment, parsed):
    assert BENCHMARK.judged(questions["8_sub_scene_0"], judgment) == parsed


def test_g_avg_is_the_mean_of_the_tasks_and_an_unread_judgment_adds_0(questions):
    said = {
        "8_sub_scene_0": "5 + 4",
        "8_sub_scene_1": None,
        "9_summary_0": "2 + 3",
        "9_summary_1": "1 + 1",
    }
    scored = [
        Scored(question=one, parsed=said[name], score=BENCHMARK.score(one, said[name]))
        for name, one in questions.items()
    ]
    figures = BENCHMARK.summarise(scored)
    found = {figure.name: figure.value for figure in figures}
    assert figures[0].name == "G-Avg (of 10)"
    assert found == pytest.approx(
        {
            "G-Avg (of 10)": 4.0,
            "score (of 10), task SSC": 4.5,
            "accuracy (of 5), task SSC": 2.5,
            "relevance (of 5), task SSC": 2.0,
            "score (of 10), task VS": 3.5,
            "completeness (of 5), task VS": 1.5,
            "reliability (of 5), task VS": 2.0,
        }
    )
    assert not any(figure.is_share for figure in BENCHMARK.summarise(scored[1:2]))  # of 10, not 0 %
    three = BENCHMARK.summarise(scored[:3])  # two captions and one summary: tasks weigh the same
    assert three[0].value == (4.5 + 5.0) / 2


def test_a_caption_without_points_is_told(tmp_path):
    write_mlvu_generation(tmp_path)
    path = tmp_path / "MLVU" / "json" / "8_sub_scene.json"
    rows = json.loads(path.read_text())
    del rows[1]["scoring_points"]
    path.write_text(json.dumps(rows))
    with pytest.raises(UserError, match="row 1: 'scoring_points' is nothing"):
        list(BENCHMARK.questions(tmp_path))
