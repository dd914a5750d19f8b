"""What an evaluation is told: recipes, presets, the command line."""

import pytest

from vxp_model.cli import app
from vxp_model.errors import UserError
from vxp_model.eval.recipe import read_eval
from vxp_model.settings.eval import EvalRecipe, points_of


def recipe(**more):
    return EvalRecipe.model_validate(
        {
            "model": "m",
            "benchmarks": [{"name": "mlvu", "data": "d"}, {"name": "vnbench", "data": "e"}],
        }
        | more
    )


def resolved(given, name="mlvu"):
    own = next(one for one in given.benchmarks if one.name == name)
    return given.resolved(own)


def test_a_preset_says_frames_and_prompts_by_benchmark():
    given = recipe(preset="video_xl_2")
    assert resolved(given).frames.max_frames == 256
    assert resolved(given, "vnbench").frames.max_frames == 400
    assert resolved(given).frames.multiple_of == 4
    assert resolved(given).prompt.style == "lmms-eval"


def test_own_settings_win_over_the_recipes_and_those_over_the_presets():
    given = recipe(
        preset="video_xl_2",
        frames={"max_frames": 64},
        benchmarks=[
            {
                "name": "mlvu",
                "data": "d",
                "frames": {"max_frames": 32},
                "prompt": {"style": "official"},
            },
            {"name": "vnbench", "data": "e"},
        ],
    )
    assert resolved(given).frames.max_frames == 32
    assert resolved(given).prompt.style == "official"
    assert resolved(given, "vnbench").frames.max_frames == 64


def test_a_rate_takes_the_place_of_a_presets_number_of_frames():
    assert resolved(recipe(preset="lmms_eval")).frames.num_frames == 32
    told = recipe(preset="lmms_eval", frames={"fps": 0.5})
    assert resolved(told).frames.num_frames is None
    assert resolved(told).frames.fps == 0.5


def test_every_combination_of_a_sweep_is_a_point_the_last_axis_fastest():
    points = list(points_of({"answer.keep_ratio": (1.0, 0.5), "frames.num_frames": (8, 16)}))
    assert [list(point.values()) for point in points] == [[1.0, 8], [1.0, 16], [0.5, 8], [0.5, 16]]
    assert list(points_of({})) == [{}]


def refused(match, **changes):
    with pytest.raises(UserError, match=match):
        read_eval(changes.pop("what"), changes.pop("settings", []), **changes)


def test_what_is_missing_is_said(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    model, nothing = str(tmp_path), {"benchmark": None, "data": None, "told": {}}
    refused("give --benchmark NAME --data DIR", what=model, **nothing)
    refused("say where its files lie", what=model, **nothing | {"benchmark": "mlvu"})
    refused("say which with --benchmark", what=model, **nothing | {"data": "d"})
    (tmp_path / "config.json").unlink()
    refused("there is no config.json", what=model, **nothing)
    refused("unknown setting 'answers.keep'", what="transformers:x", settings=["answers.keep=1"],
            benchmark="mlvu", data="d", told={})  # fmt: skip
    refused("preset 'papr' is none of", what="answers:x", settings=["preset=papr"],
            benchmark="mlvu", data="d", told={})  # fmt: skip
    refused("'nix' is neither a folder with a model nor a recipe", what="nix", **nothing)
    refused("answer.keep_ratio has no value to try", what="answers:x", benchmark="mlvu", data="d",
            settings=["sweep={answer.keep_ratio: []}"], told={})  # fmt: skip
    refused("may have {question}", what="answers:x", settings=["prompt.template='{quest}'"],
            benchmark="mlvu", data="d", told={})  # fmt: skip


def test_a_recipes_own_benchmark_is_asked_alone_with_another_folder():
    loaded = read_eval(
        "video_xl_pro/eval",
        [],
        benchmark="mlvu",
        data="elsewhere",
        told={"limit": 3, "out": None, "answer.by": "likelihood"},
    )
    (own,) = loaded.config.benchmarks
    assert (own.name, own.data, loaded.config.limit) == ("mlvu", "elsewhere", 3)
    assert loaded.config.answer.by == "likelihood"
    assert loaded.config.out == "runs/video_xl_pro/eval"


def test_show_config_has_a_line_for_each_benchmark_with_what_is_set(capsys):
    app(["show-config", "video_xl_pro/eval"], standalone_mode=False)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 120
    told = {line.split()[0]: line for line in lines}
    assert "{'name': 'mlvu', 'data': 'data/MLVU'}" in told["benchmarks[0]"]
    assert "benchmarks[10]" in told
