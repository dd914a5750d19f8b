"""The comparison of maskings: its clips, regions, outcomes and intervals."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.usefixtures("one_thread")

SCENES = ("bright", "decoy")


# --- clips and regions --------------------------------------------------------


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize(("scale", "grid"), [(1, 4), (4, 14)])
def test_the_regions_are_those_of_the_pixels(scene: Any, scale: int, grid: int) -> None:
    """Tokens whose pixels change are those that `changes` names; nothing of them is `still`."""
    from sgm_clips import MOTIONS, TINTS, draw_clips
    from sgm_regions import changes, regions

    clips = draw_clips(20, seed=3, scene=scene, scale=scale, grid=grid)
    assert {(clip.motion, clip.tint) for clip in clips} == {(m, t) for m in MOTIONS for t in TINTS}
    for clip in clips:
        moved_THW = np.abs(np.diff(clip.frames_THWC.astype(int), axis=0)).sum(-1) > 0
        token_px = 56 * scale // grid
        moved_TK = moved_THW.reshape(7, grid, token_px, grid, token_px).any((2, 4)).reshape(7, -1)
        own = regions(clip)
        assert not (moved_TK & ~changes(clip)[1:]).any()
        assert not (moved_TK & own["still"][1:]).any()
        assert moved_TK.any() == (clip.motion != "still") == own["moving"].any()
        assert own["standing"].any() == (scene == "decoy" or clip.motion == "still")
        assert not (own["still"] & (own["moving"] | own["standing"])).any()
        assert own["all"].all()


def test_the_patch_moves_as_its_class_says_and_never_over_the_decoy() -> None:
    from sgm_clips import MOTIONS, draw_clips

    for clip in draw_clips(40, seed=5, scene="decoy"):
        share_TK = clip.cover_TN / clip.cover_TN.sum(-1, keepdims=True)
        column, row = np.arange(16) % 4, np.arange(16) // 4
        moved = [float((share_TK[-1] - share_TK[0]) @ axis) for axis in (column, row)]
        assert tuple(np.sign(round(m, 3)) for m in moved) == MOTIONS[clip.motion]
        np.testing.assert_allclose(clip.cover_TN.sum(-1), 16**2 / 14**2, rtol=1e-5)
        assert (clip.cover_TN + clip.decoy_TN).max() <= 1 + 1e-6


def test_the_decoy_stands_out_more_than_the_patch_that_moves() -> None:
    from sgm_clips import draw_clips

    for clip in draw_clips(20, seed=7, scene="decoy"):
        bright_TN = clip.frames_THWC.mean(-1).reshape(8, 4, 14, 4, 14).mean((2, 4)).reshape(8, 16)
        ground = bright_TN[(clip.cover_TN == 0) & (clip.decoy_TN == 0)].mean()
        seen = {}
        for name, cover_TN in (("patch", clip.cover_TN), ("decoy", clip.decoy_TN)):
            weight_TN = cover_TN**4  # of tokens that it covers nearly whole
            seen[name] = (bright_TN * weight_TN).sum() / weight_TN.sum() - ground
        assert seen["decoy"] > seen["patch"] > 0


def test_the_auc_is_that_of_all_pairs() -> None:
    from sgm_regions import auc

    rng = np.random.default_rng(0)
    scores_FK = rng.integers(0, 4, (6, 9)).astype(np.float32)  # with ties
    over_FK, under_FK = rng.random((6, 9)) < 0.3, rng.random((6, 9)) < 0.4
    over_FK[5] = False  # a frame that cannot tell
    shares = []
    for score_K, over_K, under_K in zip(scores_FK, over_FK, under_FK, strict=True):
        pairs = [(a, b) for a in score_K[over_K] for b in score_K[under_K]]
        if pairs:
            shares.append(sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs))
    assert len(shares) == 4  # of another frame no token is under
    assert auc(scores_FK, over_FK, under_FK) == pytest.approx(sum(shares) / 4)


# --- training and outcomes ----------------------------------------------------


def test_the_oracle_hides_what_does_not_change_first_and_its_opposite_last() -> None:
    from sgm_clips import NUM_FRAMES, draw_clips
    from sgm_regions import changes
    from sgm_train import truth_mask, truth_scores

    from vxp_model.modules.frame_groups import FrameGrouper

    clips = [clip for clip in draw_clips(20, seed=1, scene="bright") if clip.motion != "still"]
    groups = FrameGrouper(4)([NUM_FRAMES] * len(clips))
    changes_FK = np.concatenate([changes(clip) for clip in clips])
    for guide, hides_changing in (("oracle", False), ("anti", True)):
        truth_NTK = truth_scores(clips, guide)  # type: ignore[arg-type]
        assert truth_NTK is not None
        mask_GTK = truth_mask(
            truth_NTK, groups, ratio=0.5, generator=torch.Generator().manual_seed(0)
        )
        mask_FK = mask_GTK.flatten(0, 1).numpy()
        assert (mask_FK.sum(1) == 8).all()
        for mask_K, changes_K in zip(mask_FK, changes_FK, strict=True):
            first_K = changes_K == hides_changing
            assert mask_K[first_K].sum() == min(8, first_K.sum())
    assert truth_scores(clips, "random") is None


def test_a_training_is_repeatable_and_another_seed_is_another() -> None:
    from sgm_train import Arm, train

    features_NTCHW = torch.randn(12, 8, 32, 4, 4, generator=torch.Generator().manual_seed(0))
    before = torch.get_rng_state()
    arm = Arm(guide="sgm", ratio=0.5, steps=2, more=(("unmasked_share", 0.25),))
    assert arm.name == "sgm 0.5 unmasked_share 0.25, 2 steps"
    assert arm.config().unmasked_share == 0.25
    assert Arm(guide="random", ratio=0.9).config().unmasked_share == 0  # unless it is said
    first, again, other = (
        train(features_NTCHW, arm, seed=seed, batch=4).state_dict() for seed in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["sgm.temp_query"], other["sgm.temp_query"])


def test_stratified_noise_spreads_a_place_over_its_group_and_is_uniform_in_a_frame() -> None:
    from sgm_train import stratify

    noise_GTK = torch.rand(200, 4, 100, generator=torch.Generator().manual_seed(0))
    spread_GTK = stratify(noise_GTK)
    for noise_T, spread_T in zip(
        noise_GTK[:5].transpose(1, 2).flatten(0, 1).tolist(),
        spread_GTK[:5].transpose(1, 2).flatten(0, 1).tolist(),
        strict=True,
    ):
        assert [int(4 * value) for value in spread_T] == [sorted(noise_T).index(v) for v in noise_T]
    for frame in range(4):
        counts = torch.histc(spread_GTK[:, frame], bins=20, min=0, max=1)
        chi2 = ((counts - 1000) ** 2 / 1000).sum()
        assert 5.4 < chi2 < 43.9  # 0.1 % on either side, at 19 degrees of freedom


def test_errors_are_shares_of_what_guessing_the_mean_costs() -> None:
    from sgm_clips import draw_clips
    from sgm_outcomes import errors
    from sgm_regions import regions
    from sgm_train import Arm, train

    clips = draw_clips(5, seed=2, scene="decoy")
    x_NTCHW = torch.randn(5, 8, 32, 4, 4, generator=torch.Generator().manual_seed(0))
    model = train(x_NTCHW, Arm(guide="none", steps=1), seed=0, batch=5)
    found = errors(model, clips, x_NTCHW)
    mean_CHW = x_NTCHW.mean((0, 1))
    squared, guessed = 0.0, 0.0
    for clip, x_TCHW in zip(clips, x_NTCHW, strict=True):
        with torch.no_grad():
            made = model(groups=model.grouper([8]), features_FCHW=x_TCHW).reconstruction_GTNC
        made_TKC = made.flatten(0, 1)
        for t, k in np.argwhere(regions(clip)["moving"]):
            y, x = divmod(int(k), 4)
            squared += float((made_TKC[t, k] - x_TCHW[t, :, y, x]).square().mean())
            guessed += float((mean_CHW[:, y, x] - x_TCHW[t, :, y, x]).square().mean())
    assert found["clean moving"] == pytest.approx(squared / guessed, rel=1e-4)
    assert {"clean all", "clean still", "clean standing", "hidden 0.5", "hidden 0.9"} <= set(found)


# --- figures ------------------------------------------------------------------


def row(arm: str, seed: int, **found: float) -> dict[str, Any]:
    return {"tower": "random", "scene": "bright", "arm": arm, "seed": seed, "cpu_s": 1.0,
            "found": {name.replace("_", " "): value for name, value in found.items()}}  # fmt: skip


def test_differences_are_paired_over_the_seeds_that_both_have() -> None:
    from sgm_figures import differences, mean_of

    ours, theirs = [0.9, 0.8, 0.95, 0.7, 0.85], [0.85, 0.8, 0.9, 0.72, 0.8]
    rows = [row("sgm 0.9", s, motion_2=v) for s, v in enumerate(ours)]
    rows += [row("random 0.9", s, motion_2=v) for s, v in reversed(list(enumerate(theirs)))]
    rows.append(row("sgm 0.9", 5, motion_2=0.0))
    gaps = np.array(ours) - np.array(theirs)
    half = 2.776 * gaps.std(ddof=1) / math.sqrt(5)  # Student's t of 4 degrees, from a table
    found = differences(rows, "random", "bright", "sgm 0.9", "random 0.9")["motion 2"]
    assert found["seeds"] == 5
    assert found["mean"] == pytest.approx(gaps.mean(), abs=1e-4)
    assert (found["low"], found["high"]) == pytest.approx(
        (gaps.mean() - half, gaps.mean() + half), abs=2e-4
    )
    assert mean_of(ours)["half"] == pytest.approx(2.776 * np.std(ours, ddof=1) / 5**0.5, abs=2e-4)


@pytest.mark.parametrize(
    ("motion", "error", "enough"),
    [(0.0, 0.0, True), (0.03, 0.0, False), (0.0, 0.05, True), (0.0, 0.2, False)],
)
def test_seeds_are_enough_once_both_intervals_are_small(
    motion: float, error: float, enough: bool
) -> None:
    """Half of an interval: 1.5 points of motion; of the error 5 % of random's mean, 2.0 here."""
    from sgm_figures import done_enough

    rows = []
    for ratio in (0.9, 0.75):
        for seed in range(5):
            jump = (-1) ** seed
            rows.append(row(f"random {ratio}", seed, motion_2=0.8, clean_moving=2.0))
            rows.append(
                row(f"sgm {ratio}", seed, motion_2=0.8 + motion * jump,
                    clean_moving=1.0 + error * jump)
            )  # fmt: skip
    assert done_enough(rows, "random", "bright") == enough


@pytest.mark.parametrize(
    ("arm", "others"),
    [
        ("sgm 0.9", ["random 0.9", "none"]),
        ("sgm 0.9 unmasked_share 0.25, 800 steps",
         ["random 0.9 unmasked_share 0.25, 800 steps", "none, 800 steps"]),
        ("random 0.9", ["none"]),
        ("oracle 0.9", ["random 0.9", "none"]),
        ("none", []),
    ],
)  # fmt: skip
def test_an_arm_is_compared_with_random_masking_alike_and_with_none(
    arm: str, others: list[str]
) -> None:
    from sgm_figures import against

    arms = ["none", "sgm 0.9", "random 0.9", "oracle 0.9", "none, 800 steps",
            "sgm 0.9 unmasked_share 0.25, 800 steps",
            "random 0.9 unmasked_share 0.25, 800 steps"]  # fmt: skip
    assert against(arm, arms) == others


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    import sgm

    path = tmp_path / "out" / "done.jsonl"
    first = sgm.Book(path)
    wanted = list(sgm.jobs(first))
    assert wanted[0] == (("random", "bright"), sgm.NONE, 0)
    assert len({(s, sgm.name_of(a), n) for s, a, n in wanted}) >= 200
    rows = [
        {"tower": s[0], "scene": s[1], "arm": sgm.name_of(a), "seed": n, "cpu_s": 2.0, "found": {}}
        for s, a, n in wanted[:40]
    ]
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    again = sgm.Book(path)
    assert again.cpu_s == 80
    assert next(iter(sgm.jobs(again))) == wanted[40]


def test_an_arms_row_says_its_figures_and_its_differences() -> None:
    from sgm_figures import describe, figures

    rows = []
    for seed, (ours, theirs) in enumerate([(0.8, 0.7), (0.9, 0.82), (0.85, 0.74)]):
        common = {"clean_moving": 0.5, "content_2": 0.6}
        rows += [
            row("none", seed, motion_2=0.75, **common),
            row("sgm 0.9", seed, motion_2=ours, **common),
            row("random 0.9", seed, motion_2=theirs, **common),
        ]
    found = figures(rows)["settings"]["random bright"]["sgm 0.9"]
    assert found["seeds"] == 3
    # Gaps 0.10, 0.08, 0.11; Student's t of two degrees is 4.303.
    assert found["minus random 0.9"]["motion 2"]["mean"] == pytest.approx(0.0967, abs=1e-4)
    half = 4.303 * np.std([0.10, 0.08, 0.11], ddof=1) / 3**0.5
    low = found["minus random 0.9"]["motion 2"]["low"]
    assert low == pytest.approx(0.0967 - half, abs=2e-4)
    line = next(line for line in describe({"random bright": {"sgm 0.9": found}})[2:])
    assert line.startswith(
        "| random bright | semantic-guided 0.9 | 3 | 50.0 ± 0.0 | +0.0 (+0.0 to +0.0) | 85.0"
    )
    assert f"+9.7 ({100 * low:+.1f} to" in line
