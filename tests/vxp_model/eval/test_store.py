"""What a run directory keeps, and that nothing written is lost."""

import json

import pytest

from vxp_model.errors import UserError
from vxp_model.eval.adapters.base import FramePlan
from vxp_model.eval.benchmarks.base import Question, Subtitles
from vxp_model.eval.store import Appended, BenchmarkFolder, digest, plan_row, read_lines, read_run


def question(name, video="a.mp4"):
    return Question(
        question_id=name,
        video=video,
        text="What?",
        options=("x", "y"),
        gold="A",
        groups={"task": "t"},
        subtitles=Subtitles(path="a.srt", offset_s=2.5),
        details={"boxes": [1, 2]},
    )


def plan(video="a.mp4", num_bytes=10):
    return FramePlan(
        video=video,
        frame_index=(0, 5),
        time_s=(0.0, 0.2),
        duration_s=1.0,
        width_px=4,
        height_px=2,
        num_bytes=num_bytes,
    )


def answer(name, key, *, error=None, asked="s", plan_name=None, reply="A"):
    return {
        "key": key,
        "asked": asked,
        "plan": plan_name,
        "question_id": name,
        "reply": None if error else reply,
        "error": error,
    }


def test_a_question_comes_back_as_it_was(tmp_path):
    folder = BenchmarkFolder(tmp_path, "b")
    given = [question("1"), question("ü 2")]
    folder.write_questions(given)
    assert folder.questions() == given


def test_a_line_that_a_crash_cut_off_is_dropped_and_the_rest_stays(tmp_path):
    path = tmp_path / "rows.jsonl"
    with Appended(path) as rows:
        rows.add({"n": 1})
        rows.add({"n": 2})
    path.write_bytes(path.read_bytes()[:-3])
    assert list(read_lines(path)) == [{"n": 1}]
    with Appended(path) as rows:
        rows.add({"n": 3})
    assert list(read_lines(path)) == [{"n": 1}, {"n": 3}]


def test_replies_that_are_no_text_are_kept(tmp_path):
    with Appended(tmp_path / "rows.jsonl") as rows:
        rows.add({"reply": "\ud800 \x00\u2028\n"})
    assert next(read_lines(tmp_path / "rows.jsonl")) == {"reply": "\ud800 \x00\u2028\n"}
    assert digest("\ud800") != digest("\ud801")


def written(folder, parts):
    """Write questions 1 to 3, and the answers of each part to a file of its own."""
    folder.write_questions([question("1"), question("2", "b.mp4"), question("3")])
    for name, rows in parts.items():
        with (
            Appended(folder.part_file("answers", name)) as answers,
            Appended(folder.part_file("plans", name)) as plans,
            Appended(folder.part_file("timings", name)) as timings,
        ):
            for row in rows:
                answers.add(row)
                timings.add({"key": row["key"], "seconds": {"total": 1.0}})
            for video in ("a.mp4", "b.mp4"):
                plans.add({"framed": "s", "plan": plan_row(plan(video))})
    folder.merge("s")


def test_any_split_is_merged_into_the_same_bytes(tmp_path):
    a, b = (digest(plan_row(plan(video))) for video in ("a.mp4", "b.mp4"))
    rows = [
        answer("1", "k1", plan_name=a),
        answer("2", "k2", plan_name=b),
        answer("3", "k3", plan_name=a),
    ]
    one, two = BenchmarkFolder(tmp_path / "one", "b"), BenchmarkFolder(tmp_path / "two", "b")
    written(one, {"part-00000-of-00001": rows})
    written(two, {"part-00000-of-00002": [rows[1]], "part-00001-of-00002": [rows[2], rows[0]]})
    for name in ("answers.jsonl", "plans.jsonl", "timings.jsonl", "questions.jsonl"):
        assert (one.path / name).read_bytes() == (two.path / name).read_bytes()
    assert list(one.answers()) == ["1", "2", "3"]
    assert set(one.answers()["1"]) == {"key", "question_id", "reply", "error"}
    assert one.plans() == {"a.mp4": plan(), "b.mp4": plan("b.mp4")}


def test_an_answer_takes_the_place_of_why_there_was_none(tmp_path):
    folder = BenchmarkFolder(tmp_path, "b")
    missing = {"reason": "missing", "message": "gone"}
    written(
        folder,
        {
            "part-00000-of-00001": [
                answer("1", "e", error=missing),
                answer("1", "k1"),
                answer("2", "k2"),
                answer("2", "e2", error=missing),
                answer("3", "other", asked="other settings"),
            ]
        },
    )
    found = folder.answers()
    assert {name: row["error"] for name, row in found.items()} == {"1": None, "2": None}


def test_plans_of_other_settings_are_not_taken(tmp_path):
    folder = BenchmarkFolder(tmp_path, "b")
    with Appended(folder.part_file("plans", "p")) as plans:
        plans.add({"framed": "s", "plan": json.loads(json.dumps(plan_row(plan())))})
        plans.add({"framed": "t", "plan": plan_row(plan(num_bytes=11))})
    assert folder.stored_plans("s") == {"a.mp4": [plan()]}


def test_of_two_reasons_why_there_is_no_answer_the_later_counts(tmp_path):
    folder = BenchmarkFolder(tmp_path, "b")
    first, later = ({"reason": reason, "message": ""} for reason in ("missing", "not_video"))
    rows = [answer("1", "a", error=first), answer("1", "b", error=later)]
    written(folder, {"part-00000-of-00001": rows})
    assert folder.answers()["1"]["error"] == later


def test_what_comes_while_a_process_merges_is_merged_too(tmp_path, monkeypatch):
    folder = BenchmarkFolder(tmp_path, "b")
    written(folder, {"part-00000-of-00002": [answer("1", "k1")]})
    late = [answer("2", "k2")]

    def write(self, rows):
        own(self, rows)
        if late:  # another process ends between our reading and our writing
            with Appended(folder.part_file("answers", "part-00001-of-00002")) as answers:
                answers.add(late.pop())

    own = BenchmarkFolder.write_answers
    monkeypatch.setattr(BenchmarkFolder, "write_answers", write)
    folder.merge("s")
    assert list(folder.answers()) == ["1", "2"]


def test_what_somebody_else_has_written_is_named_with_its_line(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text('{"a": 1}\n{oops\n{"a": 2}\n')
    with pytest.raises(UserError, match=r"answers\.jsonl, line 2: not JSON"):
        list(read_lines(path))
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(UserError, match=r"run\.json: no JSON object"):
        read_run(tmp_path)


def test_a_folder_of_runs_is_told_from_none(tmp_path):
    with pytest.raises(UserError, match=r"no run\.json\. Make one"):
        read_run(tmp_path)
    (tmp_path / "keep_ratio=0.5").mkdir()
    (tmp_path / "keep_ratio=0.5" / "run.json").write_text("{}")
    with pytest.raises(UserError, match=r"It holds runs.*keep_ratio=0\.5"):
        read_run(tmp_path)
