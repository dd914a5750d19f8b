"""Trials, what they are worth, and going on after a kill."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from support.needles import LookingModel, greys_of, needle_of, small_grid
from vxp_model.eval.needle.grid import Grid, grid_of, mlvu_prompt
from vxp_model.eval.needle.results import NeedleResult, outcome_of
from vxp_model.eval.needle.run import TIMINGS_NAME, TRIALS_NAME, run_needle
from vxp_model.settings.needle import NEEDLE_RECIPES, NeedleRecipe


def rows_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / TRIALS_NAME).read_text().splitlines()]


def ran(folder: Path, grid: Grid, model: LookingModel | None = None, **options) -> NeedleResult:
    return run_needle(model or LookingModel(), grid, folder, lambda _line: None, **options)


def test_every_needle_is_asked_at_every_length_and_depth_and_once_without_it(tmp_path):
    model = LookingModel()
    result = ran(tmp_path, small_grid(seeds=(0,)), model)
    assert len(result.outcomes) == 2 * (2 + 2 * 3)
    assert len(model.watched) == len(set(model.watched)) == 2 * (1 + 2 * 3)
    row = rows_of(tmp_path)[2]
    assert (row["length"], row["depth"], row["needle"]) == (8, 0.0, "seen")
    assert (row["frames"], row["at"], row["in_group"]) == (9, [0], [0])
    assert (row["visual_tokens"], row["needle_tokens"], row["needle_tokens_kept"]) == (6, 2, 1)
    assert json.loads((tmp_path / TIMINGS_NAME).read_text().splitlines()[2])["key"] == row["key"]


def test_what_is_right_is_told_apart_from_what_is_guessed(tmp_path):
    result = ran(tmp_path, small_grid(seeds=(0,)))
    for score in ("generation", "options", "forced"):
        cells = result.cells(score)
        assert cells.lengths == (8, 16)
        assert cells.depths == (0.0, 0.5, 1.0)
        assert (cells.mean_DL == 0.5).all()  # one needle of two is seen
        summary = result.summary(score)
        assert (summary.accuracy, summary.control, summary.above_control) == (0.5, 0.0, 0.5)
        assert result.by("needle", score) == {"seen": 1.0, "hidden": 0.0}
        assert summary.interval_95 == (0.0, 1.0)  # two drawings of needles
    # Video-XL's rule looks for the letter in the whole of a reply without a bracket: 'Cannot' has
    # a C, with needle and without.
    assert result.summary("video-xl").accuracy == 1
    assert result.summary("video-xl").above_control == 0
    assert result.num_unparsed == 2 * 2 + 6


def test_a_killed_run_goes_on_and_writes_the_same_bytes(tmp_path):
    grid = small_grid()
    whole = ran(tmp_path / "whole", grid)
    wanted = (tmp_path / "whole" / TRIALS_NAME).read_bytes()
    for kept in (0, 1, len(wanted) // 3, len(wanted) - 5):
        folder = tmp_path / f"cut{kept}"
        folder.mkdir()
        (folder / TRIALS_NAME).write_bytes(wanted[:kept])
        again = ran(folder, grid)
        assert (folder / TRIALS_NAME).read_bytes() == wanted
        assert again.to_dict() == whole.to_dict()


def test_a_stopped_run_asks_only_what_is_left(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        ran(tmp_path, small_grid(), LookingModel(fails_after=5))
    model = LookingModel()
    ran(tmp_path, small_grid(), model)
    assert len(model.watched) == 2 * 14 - 5
    ran(tmp_path, small_grid(), idle := LookingModel())
    assert idle.watched == []


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": lambda question: mlvu_prompt(question.__class__(
            name=question.name, text="Well?", options=question.options, gold=question.gold))},
        {"needles": lambda _seed: [needle_of("seen", 251), needle_of("hidden", 248)]},
        {"mode": "replace"},
        {"offsets": (2,), "has_control": False},
    ],
)  # fmt: skip
def test_what_changes_an_answer_makes_it_another_trial(tmp_path, change):
    grid = small_grid(seeds=(0,))
    ran(tmp_path, grid)
    num = len(rows_of(tmp_path))
    model = LookingModel()
    result = ran(tmp_path, small_grid(seeds=(0,), **change), model)
    assert model.watched
    keys = [row["key"] for row in rows_of(tmp_path)]
    assert len(keys) == len(set(keys)) == num + len(result.outcomes)


def test_another_model_or_way_of_asking_is_another_trial(tmp_path):
    ran(tmp_path, small_grid(seeds=(0,)))
    other = LookingModel(identity={"weights": "others"})
    ran(tmp_path, small_grid(seeds=(0,)), other)
    assert len(other.watched) == 14
    result = ran(tmp_path, small_grid(seeds=(0,)), forced=False, options_likelihood=False)
    assert result.scores == ["generation", "video-xl"]


def test_a_chain_is_asked_once_a_length_and_both_its_questions_count(tmp_path):
    first = needle_of("chain", 250, 251, 252)
    questions = (first.questions[0], first.questions[0].__class__(
        name="other", text="And?", options=("w", "x", "y", "z"), gold="D"))  # fmt: skip
    chain = first.__class__(
        name="chain", images=first.images, questions=questions, reading=(1, 0, 2)
    )
    model = LookingModel()
    grid = small_grid(seeds=(0,), needles=lambda _seed: [chain])
    showings = [showing for showing in grid.showings() if not showing.trials[0].is_control]
    assert greys_of(showings[0].source) == [250, 0, 1, 2, 3, 251, 4, 5, 6, 7, 252]
    result = ran(tmp_path, grid, model)
    assert len(model.watched) == 4
    assert result.summary("generation", chains=True).accuracy == 0.5
    assert result.both_right("generation") == 0
    cells = result.cells("generation", chains=True)
    assert cells.depths == ()
    assert np.array_equal(cells.mean_DL, [[0.5, 0.5]])
    assert set(result.to_dict()) == {"trials", "unparsed", "chains"}


def test_each_offset_is_a_trial_and_a_figure_of_its_own(tmp_path):
    result = ran(tmp_path, small_grid(seeds=(0,), offsets=(0, 1, 2, 3), lengths=(16,)))
    assert set(result.by("in_group", "generation")) == {"[0]", "[1]", "[2]", "[3]"}
    assert len(result.trials(chains=False)) == 2 * 3 * 4


def test_the_grid_mean_is_over_cells_not_over_trials():
    rows = [
        {"is_chain": False, "is_control": False, "length": length, "depth": 0.0, "options": "wxyz",
         "gold": "C", "reply": reply, "log_probs": None, "forced": None, "needle": "n", "seed": 0,
         "question": "question"}
        for length, reply in [(8, "C"), (8, "C"), (8, "C"), (16, "B")]
    ]  # fmt: skip
    result = NeedleResult(outcomes=tuple(outcome_of(row) for row in rows))
    assert result.cells("generation").grid_mean == 0.5
    assert result.summary("generation").accuracy == 0.75


def test_a_question_is_put_as_mlvu_puts_it():
    question = needle_of("it", 250).questions[0]
    prompt = mlvu_prompt(question)
    assert prompt.text == (
        "Question: Where is it?\nOptions:\n(A) w\n(B) x\n(C) y\n(D) z\nOnly give the best option."
    )
    assert prompt.reply_start == "Best Option: ("
    assert prompt.choices == ("A", "B", "C", "D")


def test_the_papers_grid_is_eight_lengths_by_five_depths():
    recipe = NeedleRecipe()
    grid = grid_of(recipe, frames_per_group=4)
    assert grid.lengths == (64, 128, 256, 512, 1024, 2048, 4096, 8192)
    assert grid.depths == (0.0, 0.25, 0.5, 0.75, 1.0)
    assert len(grid.needles(0)) == 5


def test_the_shipped_recipe_is_read_and_has_chains():
    from vxp_data.settings.file import read_recipe

    loaded = NEEDLE_RECIPES.read(read_recipe("video_xl_pro/needle"), "recipe")
    assert loaded.config.chains == (5, 6, 7)
    grid = grid_of(loaded.config.model_copy(update={"lengths": (64,)}), frames_per_group=4)
    showings = list(grid.showings())
    assert len(showings) == 1 + 25 + 3
    assert len(showings[0].trials) == 5 + 6
