"""Every benchmark from files to figures with a tiny model; no kill and no split leaves a trace."""

import json
import signal
from dataclasses import asdict

import pytest

from support.asked_benchmarks import (
    evaluate,
    kept_bytes,
    recipe,
    started,
    wait_for_lines,
    write_benchmarks,
)
from support.benchmark_files import WRITERS
from support.tiny_video_xl_pro import write_tiny_video_xl_pro
from vxp_model.cli import app
from vxp_model.errors import UserError
from vxp_model.eval.store import BenchmarkFolder, read_lines
from vxp_model.registry import BENCHMARKS

SOME = ("mlvu", "video_mme_subtitles")


@pytest.fixture(scope="module", autouse=True)
def few_threads():
    """Threads of several tests on few cores wait for one another at every operation."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_video_xl_pro(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_benchmarks(tmp_path_factory.mktemp("data"), list(WRITERS))


@pytest.fixture(scope="module")
def whole(tmp_path_factory, model, data):
    """A run of every benchmark, in one go."""
    folder = tmp_path_factory.mktemp("whole")
    path = recipe(folder / "eval.yaml", model, data, list(WRITERS), folder / "run")
    evaluate(path)
    return folder / "run"


@pytest.fixture
def some(tmp_path, model, data):
    return recipe(tmp_path / "eval.yaml", model, data, SOME, tmp_path / "run")


def test_every_benchmark_is_asked_from_files_to_figures(whole):
    assert set(WRITERS) == set(BENCHMARKS.names())
    for name in WRITERS:
        scores = json.loads((whole / name / "scores.json").read_text())
        counts = scores["counts"]
        assert counts["answered"] == counts["questions"] > 0
        assert counts["missing"] == {}
        for row in BenchmarkFolder(whole, name).answers().values():
            assert row["reply"] is not None
            assert row["frames"] > 0
            assert row["kept_tokens"] == row["visual_tokens"] > 0


def test_asked_again_nothing_is_answered_and_nothing_changes(whole, capsys):
    before = kept_bytes(whole)
    evaluate(whole.parent / "eval.yaml")
    assert kept_bytes(whole) == before
    said = capsys.readouterr().err
    assert said.count("0 of them now") == len(WRITERS)


def test_scored_again_without_model_and_data_the_bytes_are_the_same(whole):
    before = kept_bytes(whole)
    app(["score", str(whole)], standalone_mode=False)
    assert kept_bytes(whole) == before


@pytest.mark.parametrize("kind", ["plain", "torn"])
def test_killed_anywhere_the_same_command_ends_with_the_same_bytes(
    kind, whole, some, tmp_path, data, model
):
    slow = recipe(some, model, data, SOME, tmp_path / "run")
    child = started(slow, environment={"OMP_NUM_THREADS": "1"})
    part = tmp_path / "run" / "mlvu" / "parts" / "answers-part-00000-of-00001.jsonl"
    wait_for_lines(part, 2)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert not (tmp_path / "run" / "video_mme_subtitles" / "scores.json").exists()
    if kind == "torn":  # as a crash of the machine leaves it
        part.write_bytes(part.read_bytes()[:-7])
    evaluate(slow)
    assert kept_bytes(tmp_path / "run") == some_of(kept_bytes(whole))


def test_parts_and_ranks_end_with_the_same_bytes(whole, some, tmp_path, monkeypatch, capsys):
    for shard in ("1/2", "0/2"):
        for rank in ("1", "0"):
            monkeypatch.setenv("RANK", rank)
            monkeypatch.setenv("WORLD_SIZE", "2")
            evaluate(some, "--shard", shard)
    assert kept_bytes(tmp_path / "run") == some_of(kept_bytes(whole))
    parts = sorted((tmp_path / "run" / "mlvu" / "parts").glob("answers-*"))
    assert len(parts) == 4
    assert sum(bool(path.read_bytes()) for path in parts) >= 2
    assert capsys.readouterr().err.count("other parts have questions left") == 3


@pytest.mark.slow
def test_two_processes_at_once_end_with_the_same_bytes(whole, some, tmp_path):
    words = {"WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    children = [started(some, environment=words | {"RANK": rank}) for rank in ("0", "1")]
    said = [child.communicate()[0] for child in children]
    assert [child.returncode for child in children] == [0, 0]
    assert kept_bytes(tmp_path / "run") == some_of(kept_bytes(whole))
    assert any("accuracy by task" in text for text in said)


def test_batches_answer_what_single_questions_do(whole, some, tmp_path):
    evaluate(some, "--set", "answer.batch=4")
    found, wanted = kept_bytes(tmp_path / "run"), some_of(kept_bytes(whole))
    assert found == wanted


def test_a_batch_of_which_some_are_answered_adds_the_others_alone(some, tmp_path, data):
    words = ("--benchmark", "v_star", "--data", str(data / "v_star"))
    evaluate(some, *words, "--limit", "2")
    evaluate(some, *words, "--set", "answer.batch=4")
    part = tmp_path / "run" / "v_star" / "parts" / "answers-part-00000-of-00001.jsonl"
    keys = [row["key"] for row in read_lines(part)]
    assert len(keys) == len(set(keys)) > 2


def test_a_stored_plan_is_not_made_anew(some, monkeypatch):
    evaluate(some, "--limit", "2")

    def planned(*_):
        raise AssertionError("planned again")

    with monkeypatch.context() as patched:
        patched.setattr("vxp_model.eval.run.plan_frames", planned)
        evaluate(some, "--limit", "2", "--set", "answer.by=likelihood", "--benchmark", "mlvu")


def test_a_plan_is_put_into_a_key_once_for_all_questions_about_a_video(some, tmp_path, monkeypatch):
    evaluate(some, "--limit", "6")
    made = []
    with monkeypatch.context() as patched:
        patched.setattr("vxp_model.eval.run.plan_row", lambda one: made.append(one) or asdict(one))
        evaluate(some, "--limit", "6", "--set", "prompt.system=Other.")
    videos = {
        (name, one.video)
        for name in SOME
        for one in BenchmarkFolder(tmp_path / "run", name).questions()
    }
    assert len(made) == len(videos)


def test_another_prompt_is_another_key_and_the_old_answers_stay(whole, some, tmp_path):
    run = tmp_path / "run"
    evaluate(some)
    evaluate(some, "--set", "prompt.template='{question} {options}'")
    assert kept_bytes(run) != some_of(kept_bytes(whole))
    evaluate(some)
    assert kept_bytes(run) == some_of(kept_bytes(whole))
    rows = list(read_lines(run / "mlvu" / "parts" / "answers-part-00000-of-00001.jsonl"))
    assert len({row["key"] for row in rows}) == len(rows) == 2 * 8


def test_missing_and_broken_videos_are_reasons_and_are_asked_once_they_are_there(
    whole, some, tmp_path, data
):
    folder = data / "mlvu" / "MLVU" / "video"
    videos = sorted(path for path in folder.rglob("*.mp4"))
    stored = [path.read_bytes() for path in videos]
    videos[0].unlink()
    videos[1].write_bytes(b"no video at all" * 100)
    try:
        evaluate(some)
        counts = json.loads((tmp_path / "run" / "mlvu" / "scores.json").read_text())["counts"]
        assert counts["missing"].keys() == {"missing", "not_video"}
        assert counts["answered"] < counts["questions"]
        evaluate(some)  # says it again, and keeps one line for each
        part = tmp_path / "run" / "mlvu" / "parts" / "answers-part-00000-of-00001.jsonl"
        assert len(list(read_lines(part))) == counts["questions"]
    finally:
        for path, content in zip(videos, stored, strict=True):
            path.write_bytes(content)
    evaluate(some)
    assert kept_bytes(tmp_path / "run") == some_of(kept_bytes(whole))


def test_the_likeliest_option_is_an_answer_with_a_number_for_each(some, tmp_path):
    evaluate(some, "--benchmark", "mlvu", "--score", "likelihood")
    for row in BenchmarkFolder(tmp_path / "run", "mlvu").answers().values():
        assert len(row["log_probs"]) == 4
        assert row["reply"] == "ABCD"[row["log_probs"].index(max(row["log_probs"]))]
    counts = json.loads((tmp_path / "run" / "mlvu" / "scores.json").read_text())["counts"]
    assert counts["unparsed"] == 0


def test_a_sweep_is_a_run_a_point_with_one_table_and_figure(some, tmp_path, capsys):
    axis = "sweep={answer.keep_ratio: [1.0, 0.5]}"
    evaluate(some, "--benchmark", "mlvu", "--set", axis)
    run = tmp_path / "run"
    swept = json.loads((run / "sweep.json").read_text())
    assert [row["point"] for row in swept["rows"]] == [
        {"answer.keep_ratio": 1.0},
        {"answer.keep_ratio": 0.5},
    ]
    assert (run / "sweep.png").stat().st_size > 5000
    half = BenchmarkFolder(run / "keep_ratio=0.5", "mlvu").answers()
    for row in half.values():
        assert row["kept_tokens"] == pytest.approx(row["visual_tokens"] / 2, abs=1)
        assert sum(row["kept_by_group"]) == row["kept_tokens"]
    # Both points ask about one encoding: the second has watched nothing.
    watched = [row["key"] for row in read_lines(run / "keep_ratio=0.5" / "mlvu" / "timings.jsonl")]
    assert not [key for key in watched if key.startswith("video/")]
    assert "keep_ratio" in capsys.readouterr().out


def test_a_sweep_over_models_takes_replies_made_elsewhere(tmp_path, model, data, capsys):
    path = tmp_path / "replies.jsonl"
    path.write_text('{"question_id": "1_plotQA-0", "reply": "B"}\n')
    given = recipe(tmp_path / "eval.yaml", model, data, SOME[:1], tmp_path / "run")
    axis = f"sweep={{model: ['answers:{path}', {model}]}}"
    evaluate(given, "--set", axis, "--compat", "lmms-eval")
    told = capsys.readouterr().out
    assert told.count("=== model ") == 2
    swept = json.loads((tmp_path / "run" / "sweep.json").read_text())
    assert [row["questions"] for row in swept["rows"]] == [1, 8]
    with pytest.raises(UserError, match="two points of it would lie in"):
        evaluate(given, "--set", "sweep={answer.keep_ratio: [0.5, 0.5]}")


def test_how_it_is_scored_is_checked_before_anything_is_asked(some, tmp_path):
    with pytest.raises(UserError, match=r"--compat lmms: no such convention of mlvu, video_mme"):
        evaluate(some, "--compat", "lmms")
    with pytest.raises(UserError, match="no model is named"):
        evaluate(some, "--judge", "http://127.0.0.1:1/v1")
    assert not (tmp_path / "run").exists()


def test_benchmarks_without_a_convention_are_left_out_and_the_rest_is_scored(
    tmp_path, model, data, capsys
):
    names = ("vnbench", "mlvu")
    given = recipe(tmp_path / "eval.yaml", model, data, names, tmp_path / "run")
    evaluate(given, "--limit", "2", "--compat", "lmms-eval")
    told = capsys.readouterr()
    assert "vnbench has no convention 'lmms-eval': left out." in told.err
    assert "mlvu, counted by convention 'lmms-eval'" in told.out


def test_a_prompt_style_that_nobody_has_is_refused_and_another_fallback_said(
    tmp_path, model, data, capsys
):
    names = ("vnbench", "mlvu")
    given = recipe(tmp_path / "eval.yaml", model, data, names, tmp_path / "run")
    with pytest.raises(UserError, match=r"prompt\.style 'offical'\. Did you mean 'official'"):
        evaluate(given, "--set", "prompt.style=offical")
    own = f"[{{name: vnbench, data: {data / 'vnbench'}, prompt: {{style: lmms-eval}}}}]"
    with pytest.raises(UserError, match=r"prompt\.style of vnbench 'lmms-eval'"):
        evaluate(given, "--set", f"benchmarks={own}")
    evaluate(given, "--limit", "1", "--set", "prompt.style=lmms-eval")
    said = capsys.readouterr().err
    assert said.count("vnbench has no prompt style 'lmms-eval': asked in its 'official'") == 1
    assert "mlvu has no" not in said


def test_why_there_are_no_answers_is_said_and_not_without_end(tmp_path, model, data, capsys):
    names = ("charades_sta", "v_star")
    given = recipe(tmp_path / "eval.yaml", model, data, names, tmp_path / "run")
    with pytest.raises(UserError, match="no question has an answer"):
        evaluate(given, "--score", "likelihood")
    said = capsys.readouterr().err
    assert "charades_sta: no answer to AB1CD/1: answer.by: likelihood needs questions" in said
    assert said.count("v_star: no answer to") == 5
    assert said.count("v_star: and more of these") == 1


def test_videos_without_subtitles_that_can_be_read_are_said(tmp_path, model, data, capsys):
    names = ("longvideobench_subtitles",)
    given = recipe(tmp_path / "eval.yaml", model, data, names, tmp_path / "run")
    evaluate(given)
    assert "without subtitles that can" not in capsys.readouterr().err
    path = data / names[0] / "subtitles" / "aa_en.json"
    stored = path.read_bytes()
    path.write_text("{")
    try:
        evaluate(given)
    finally:
        path.write_bytes(stored)
    assert "videos without subtitles that can be read: 1, for example of" in capsys.readouterr().err


def test_replies_made_elsewhere_are_scored_without_a_model(whole, tmp_path, data, capsys):
    rows = [
        {"question_id": one["question_id"], "reply": one["reply"]}
        for one in BenchmarkFolder(whole, "mlvu").answers().values()
    ]
    path = tmp_path / "replies.jsonl"
    lines = [json.dumps(row) for row in [*rows[1:], {"question_id": "none", "reply": "A"}]]
    path.write_text("\n".join(lines) + "\n")
    out = tmp_path / "elsewhere"
    words = ["eval", f"answers:{path}", "--benchmark", "mlvu", "--data", str(data / "mlvu")]
    app([*words, "--out", str(out), "--allow-partial"], standalone_mode=False)
    scores = json.loads((out / "mlvu" / "scores.json").read_text())
    assert scores["counts"]["missing"] == {"no_reply": 1}
    assert scores["counts"]["answered"] == len(rows) - 1
    assert "1 replies of" in capsys.readouterr().err
    with pytest.raises(UserError, match="--across-plans"):
        app(["compare", str(whole), str(out), "--benchmark", "mlvu"], standalone_mode=False)


def test_other_numbers_than_published_are_refused_with_both(some):
    with pytest.raises(UserError, match=r"questions \d+ \(published: 2175\).*--allow-partial"):
        evaluate(some, "--benchmark", "mlvu", "--set", "allow_partial=false")


def test_parts_of_a_benchmark_and_a_limit_are_asked_alone(some, tmp_path, data):
    one = f"[{{name: mlvu, data: {data / 'mlvu'}, only: {{task: [NQA, AC]}}}}]"
    evaluate(some, "--set", f"benchmarks={one}", "--limit", "2")
    rows = BenchmarkFolder(tmp_path / "run", "mlvu").questions()
    assert len(rows) == 2
    assert {row.groups["task"] for row in rows} <= {"NQA", "AC"}
    wrong = one.replace("NQA", "NGA")
    with pytest.raises(UserError, match=r"unknown task of mlvu 'NGA'\. Did you mean 'NQA'"):
        evaluate(some, "--set", f"benchmarks={wrong}")


def some_of(kept):
    """Return what is kept of the benchmarks in SOME."""
    return {name: data for name, data in kept.items() if name.split("/")[0] in SOME}


def test_a_setting_that_changes_no_answer_takes_the_old_ones_over(whole, some, tmp_path, capsys):
    evaluate(some)
    evaluate(some, "--set", "frames.max_frames=4000")  # no video is as long
    assert kept_bytes(tmp_path / "run") == some_of(kept_bytes(whole))
    assert capsys.readouterr().err.count("0 of them now") == len(SOME)


def test_too_little_memory_costs_a_video_or_a_question_and_is_tried_again(
    whole, some, tmp_path, monkeypatch
):
    import torch

    from vxp_model.inference.session import LongVideoModel

    run, words = tmp_path / "run", ("--benchmark", "mlvu", "--set", "answer.batch=4")
    own_watch, own_ask = LongVideoModel.watch_frames, LongVideoModel.ask_many

    def watch(self, pieces, **given):
        if "ego" in given["uri"]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.")
        return own_watch(self, pieces, **given)

    def ask(self, video, questions, **given):
        if "order" in video.uri or len(questions) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.")
        return own_ask(self, video, questions, **given)

    with monkeypatch.context() as patched:
        patched.setattr(LongVideoModel, "watch_frames", watch)
        patched.setattr(LongVideoModel, "ask_many", ask)
        evaluate(some, *words)
    scores = json.loads((run / "mlvu" / "scores.json").read_text())
    assert scores["missing"].keys() == {"out_of_memory"}
    assert {name.split("-")[0] for name in scores["missing"]["out_of_memory"]} == {
        "3_ego",
        "5_order",
    }
    evaluate(some, *words)
    wanted = some_of(kept_bytes(whole))
    found = kept_bytes(run)
    assert found
    assert found == {name: wanted[name] for name in found}


def test_where_nothing_can_be_answered_the_command_fails_and_says_where_to_look(
    tmp_path, model, data
):
    nowhere = f"[{{name: mlvu, data: {data / 'mlvu'}, media: {tmp_path}}}]"
    path = recipe(tmp_path / "eval.yaml", model, data, SOME, tmp_path / "run")
    with pytest.raises(UserError, match="no question has an answer"):
        evaluate(path, "--set", f"benchmarks={nowhere}")
    scores = json.loads((tmp_path / "run" / "mlvu" / "scores.json").read_text())
    assert scores["counts"]["missing"] == {"missing": 8}
