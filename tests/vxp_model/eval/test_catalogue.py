"""What people are told of benchmarks, and what an evaluation is said to take."""

from pathlib import Path

import pytest

from support.benchmark_files import WRITERS
from vxp_model.cli import app
from vxp_model.errors import UserError
from vxp_model.eval.catalogue import describe_all, describe_one, load_benchmark
from vxp_model.eval.estimate import describe_eval, estimate_eval
from vxp_model.models.video_xl_pro_shape import preset_shape
from vxp_model.registry import BENCHMARKS
from vxp_model.settings.eval import EvalRecipe

SHAPE = preset_shape("3b")


def test_every_benchmark_has_a_line_that_fits_a_terminal():
    lines = describe_all().splitlines()
    assert [line.split()[0] for line in lines[1:-2]] == BENCHMARKS.names()
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("name", BENCHMARKS.names())
def test_a_benchmark_in_detail_says_files_licence_styles_and_conventions(name):
    text, one = describe_one(name), load_benchmark(name)
    assert max(map(len, text.splitlines())) <= 100
    flat = " ".join(text.split())
    for part in (one.about.licence, one.about.files, one.about.source, *one.styles):
        assert " ".join(part.split()) in flat


def test_media_are_listed_for_those_who_keep_them_out_of_training(tmp_path, capsys):
    WRITERS["mlvu"](tmp_path)
    given = ["benchmarks", "--media", "mlvu", "--data", str(tmp_path)]
    app(given, standalone_mode=False)
    names = set(capsys.readouterr().out.split())
    videos = {Path(one.video).stem for one in load_benchmark("mlvu").questions(tmp_path)}
    assert videos <= names
    out = tmp_path / "media.jsonl"
    app([*given, "--out", str(out)], standalone_mode=False)
    assert out.read_text().count('"video"') == len(out.read_text().splitlines())
    with pytest.raises(UserError, match="cannot write"):
        app([*given, "--out", str(out / "media.txt")], standalone_mode=False)
    with pytest.raises(UserError, match="--data DIR"):
        app(["benchmarks", "--media", "mlvu"], standalone_mode=False)


def recipe(**more):
    own = [{"name": "video_mme", "data": "nowhere"}]
    return EvalRecipe.model_validate({"model": "m", "benchmarks": own} | more)


def test_an_estimate_prices_every_video_once_and_every_question():
    (cost,) = estimate_eval(recipe(), SHAPE, num_frames=None)
    assert (cost.num_videos, cost.num_questions, cost.num_frames) == (900, 2700, 1018)
    # 641 GFLOP a frame in the tower, and a little for the compressor: 900 videos.
    assert cost.encode_flop == pytest.approx(900 * 1018 * 0.70e12, rel=0.1)
    (twice,) = estimate_eval(recipe(), SHAPE, num_frames=2036)
    assert twice.encode_flop == pytest.approx(2 * cost.encode_flop, rel=0.01)
    (few,) = estimate_eval(recipe(limit=27), SHAPE, num_frames=None)
    assert few.answer_flop == pytest.approx(cost.answer_flop / 100, rel=1e-6)


def test_an_estimate_counts_what_the_selector_leaves():
    (all_kept,) = estimate_eval(recipe(), SHAPE, num_frames=400)
    (half,) = estimate_eval(recipe(answer={"keep_ratio": 0.5}), SHAPE, num_frames=400)
    assert 0.4 < half.answer_flop / all_kept.answer_flop < 0.6
    (long, longer) = (
        estimate_eval(recipe(), SHAPE, num_frames=number)[0].answer_flop for number in (2000, 8000)
    )
    assert long == longer  # both are brought to the context


def test_an_estimate_is_a_table_with_a_sum():
    text = describe_eval(estimate_eval(recipe(), SHAPE, num_frames=64), gpu="a100", utilisation=0.4)
    assert "video_mme" in text
    assert "GPU hours in all" in text
    with pytest.raises(UserError, match="unknown GPU"):
        describe_eval([], gpu="z9", utilisation=0.4)
