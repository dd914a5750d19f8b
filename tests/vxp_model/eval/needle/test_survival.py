"""What of needles a selector keeps, by scores that know and scores that do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.later import LATER
from support.needles import greys_of, needle_of, small_grid
from vxp_model.eval.adapters.base import FrameSource
from vxp_model.eval.benchmarks.base import Prompt

if LATER:
    import torch

    from vxp_model.eval.needle.survival import (
        SURVIVAL_NAME,
        SelectorScores,
        describe_survival,
        needle_tokens_kept,
        run_survival,
    )
    from vxp_model.inference.asked import Asked
    from vxp_model.inference.session import LongVideoModel
    from vxp_model.models.byte_tokenizer import byte_tokenizer
    from vxp_model.models.processor import VideoXLProProcessor
    from vxp_model.models.video_xl_pro import VideoXLProForConditionalGeneration
    from vxp_model.models.video_xl_pro_config import video_xl_pro_preset

GROUP_TOKENS = 6


class Scores:
    """Scores groups of four frames by what is in them, or at random."""

    def __init__(self, how: str) -> None:
        self.identity = {"how": how}
        self.how = how
        self.videos: list[str] = []

    def watch(self, source: FrameSource) -> list[int]:
        self.videos.append(source.plan.video)
        return greys_of(source)

    def scores(self, watched: Any, prompt: Prompt) -> Any:
        groups = [watched[start : start + 4] for start in range(0, len(watched), 4)]
        if self.how == "random":
            generator = torch.Generator().manual_seed(len(self.videos))
            return torch.rand(len(groups) * GROUP_TOKENS, generator=generator)
        sees = torch.tensor([float(max(group) >= 249) for group in groups])
        scores_M = sees.repeat_interleave(GROUP_TOKENS)
        if self.how == "listens":
            grey = 250 if "seen" in prompt.text else 249
            return scores_M if grey in watched else -scores_M
        return scores_M if self.how == "oracle" else -scores_M


def grid(**changes: Any) -> Any:
    return small_grid(lengths=(64,), depths=(0.0, 0.25, 0.5, 0.75, 1.0), **changes)


def test_scores_that_prefer_the_needle_keep_all_of_it(tmp_path: Path):
    found = run_survival(Scores("oracle"), grid(), [0.5, 0.1, 0.03], tmp_path, print)
    assert [one.survival for one in found[:2]] == [1.0, 1.0]
    assert [one.untouched for one in found] == [0.0, 0.0, 0.0]
    # 3 % of 102 tokens are 3 of the needle's 6.
    assert found[2].survival == 0.5
    assert found[0].kept == pytest.approx(0.5)
    assert found[0].num_trials == 20


def test_scores_that_know_nothing_keep_of_the_needle_what_they_keep_of_all(tmp_path: Path):
    many = grid(seeds=tuple(range(30)))
    found = run_survival(Scores("random"), many, [0.5, 0.1], tmp_path, lambda _line: None)
    for one, rate in zip(found, (0.5, 0.1), strict=True):
        assert one.survival == pytest.approx(rate, abs=0.03)
        low, high = one.interval_95
        assert low < rate < high
        assert high - low < 0.1


def test_scores_that_shun_the_needle_lose_it(tmp_path: Path):
    (half,) = run_survival(Scores("worst"), grid(), [0.5], tmp_path, print)
    assert half.survival == 0
    assert half.above_chance == pytest.approx(-0.5)
    assert half.untouched == 1
    line = describe_survival([half]).splitlines()[1]
    assert line.split() == ["50%", "0.500", "0.000", "0.000", "to", "0.000", "0.000", "1.000"]


def test_what_the_question_does_is_told_by_another_question(tmp_path: Path):
    (half,) = run_survival(Scores("listens"), grid(), [0.5], tmp_path / "a", print)
    assert (half.survival, half.other_question) == (1.0, 0.0)
    (half,) = run_survival(Scores("oracle"), grid(), [0.5], tmp_path / "b", print)
    assert (half.survival, half.other_question) == (1.0, 1.0)  # whatever is asked
    alone = grid(needles=lambda _seed: [needle_of("seen", 250)])
    (half,) = run_survival(Scores("oracle"), alone, [0.5], tmp_path / "c", print)
    assert half.other_question is None
    assert "-" in describe_survival([half])


def test_a_killed_measurement_goes_on_and_writes_the_same_bytes(tmp_path: Path):
    whole = run_survival(Scores("oracle"), grid(), [0.5], tmp_path / "whole", print)
    wanted = (tmp_path / "whole" / SURVIVAL_NAME).read_bytes()
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / SURVIVAL_NAME).write_bytes(wanted[: len(wanted) // 2])
    scores = Scores("oracle")
    assert run_survival(scores, grid(), [0.5], tmp_path / "cut", print) == whole
    assert (tmp_path / "cut" / SURVIVAL_NAME).read_bytes() == wanted
    assert 0 < len(scores.videos) < 20


def test_a_chain_counts_the_tokens_of_all_its_images(tmp_path: Path):
    chain = grid(needles=lambda _seed: [needle_of("chain", 250, 251, 252)])
    (one,) = run_survival(Scores("oracle"), chain, [0.5], tmp_path, print)
    assert one.survival == 1
    row = (tmp_path / SURVIVAL_NAME).read_text().splitlines()[0]
    assert f'"needle_tokens":{3 * GROUP_TOKENS}' in row


def test_ties_go_to_the_first_tokens_as_in_the_model():
    scores_M = torch.zeros(12)
    assert needle_tokens_kept(scores_M, [0], num_groups=3, rate=0.5) == (6, 4)
    assert needle_tokens_kept(scores_M, [2], num_groups=3, rate=0.5) == (6, 0)
    assert needle_tokens_kept(scores_M, [2], num_groups=3, rate=0.01) == (1, 0)


@pytest.fixture
def long_video() -> LongVideoModel:
    config = video_xl_pro_preset("tiny")
    torch.manual_seed(0)
    model = VideoXLProForConditionalGeneration(config)
    return LongVideoModel(model, VideoXLProProcessor.for_model(config, byte_tokenizer()))


@pytest.mark.usefixtures("one_thread")
def test_the_models_own_selection_is_what_is_counted(tmp_path: Path, long_video: LongVideoModel):
    scorer = SelectorScores(long_video, {"weights": "random"})
    own = grid(seeds=(0,), has_control=False)
    showing = next(iter(own.showings()))
    watched = scorer.watch(showing.source)
    (trial,) = showing.trials
    scores_M = scorer.scores(watched, trial.prompt)
    num_groups = 17
    of_group = long_video.model.config.group_tokens
    assert len(scores_M) == num_groups * of_group
    asked = Asked(
        text=trial.prompt.text,
        system=trial.prompt.system,
        prime=trial.prompt.reply_start,
        max_new_tokens=trial.prompt.max_new_tokens,
    )
    for rate in (0.5, 0.1):
        selection = long_video.select(watched, asked, keep_ratio=rate)
        kept, of_needle = needle_tokens_kept(
            scores_M, trial.groups, num_groups=num_groups, rate=rate
        )
        assert kept == selection.num_kept
        assert of_needle == int(selection.kept_G[list(trial.groups)].sum())
    (one,) = run_survival(scorer, own, [0.5], tmp_path, print)
    assert 0 <= one.survival <= 1
