"""Does pruning help: the pool, the sets of rows, the intervals of pipelines/bench/table7.py."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.later import LATER
from support.repo import BENCH

if LATER:
    import torch

POOL = 48
PER_TASK = POOL // 4


@pytest.fixture(scope="module")
def truth() -> dict[str, Any]:
    from table7 import truth_of
    from table7_clips import draw_pool

    return truth_of({f"pool{seed}": draw_pool(POOL, seed=seed) for seed in range(2)})


def decided(truth: dict[str, Any], kept: set[str]) -> list[dict[str, Any]]:
    return [
        {
            "sample_id": name,
            "decision": "keep" if name in kept else "prune",
            "duplicate_of": "",
        }
        for name in truth
    ]


def file_of(name: str) -> str:
    return f"/somewhere/pool/videos/{name.rpartition('/')[2]}.mp4"


def some(truth: dict[str, Any], first: int) -> set[str]:
    """Name PER_TASK rows of each pool and question, from the given place on."""
    by_task: dict[str, list[str]] = {}
    for name in truth:
        by_task.setdefault(name.partition("/")[0], []).append(name)
    return {name for own in by_task.values() for name in own[first : first + PER_TASK]}


def decisions(truth: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    return {
        "mean_pairwise": decided(truth, some(truth, 0)),
        "effective_frames": decided(truth, some(truth, 5)),
        "no-duplicates": decided(truth, some(truth, 0) | some(truth, 5)),
        "no-duplicates+mean_pairwise": decided(truth, some(truth, 3)),
    }


def test_a_pool_has_as_many_active_still_and_copied_clips_of_each_question(
    truth: dict[str, Any],
) -> None:
    clips = [clip for name, clip in truth.items() if name.startswith("pool0-")]
    kinds = Counter(
        (clip.task, "copy" if clip.copy_of is not None else clip.active) for clip in clips
    )
    assert set(kinds.values()) == {POOL // 6}
    assert len(kinds) == 6
    answers = Counter((clip.task, clip.answer) for clip in clips if clip.copy_of is None)
    assert set(answers.values()) == {POOL // 12}
    for clip in clips:
        if clip.copy_of is not None:
            source = clips[clip.copy_of]
            assert (source.task, source.answer, source.active) == (
                clip.task, clip.answer, clip.active,
            )  # fmt: skip
            assert source.copy_of is None
            assert 0.8 < clip.frames_THWC.mean() / source.frames_THWC.mean() < 0.96


def test_what_is_asked_happens_in_active_clips_alone() -> None:
    from table7_clips import DIRECTIONS, OBJECT_PX, draw_clip

    rng = np.random.default_rng(0)
    for direction, way in DIRECTIONS.items():
        for active, least, most in ((True, 15, 33), (False, 0, 3)):
            clip = draw_clip("direction", direction, active, rng)
            while clip.drifts:
                clip = draw_clip("direction", direction, active, rng)
            changed_HW = np.abs(np.diff(clip.frames_THWC[[0, -1]].astype(int), axis=0))[0].any(-1)
            span = [np.ptp(np.flatnonzero(changed_HW.any(axis))) + 1 if changed_HW.any() else 0
                    for axis in (0, 1)]  # fmt: skip
            moved = span[0 if way[0] else 1] - OBJECT_PX * bool(changed_HW.any())
            assert least <= moved <= most
    for active in (True, False):
        clip = draw_clip("order", "red", active, rng)
        while clip.drifts:
            clip = draw_clip("order", "red", active, rng)
        changes_T = np.diff(clip.frames_THWC.astype(int), axis=0).any((1, 2, 3))
        assert changes_T.sum() == active
        if active:
            assert 6 <= np.flatnonzero(changes_T)[0] + 1 <= 18


def test_every_set_but_the_whole_pool_has_n_rows_half_of_each_question(
    truth: dict[str, Any],
) -> None:
    from table7 import sets_of

    chosen = decisions(truth)
    for seed in range(2):
        sets = sets_of(chosen, truth, seed, per_task=PER_TASK)
        assert list(sets) == ["random-N", "mean_pairwise", "effective_frames", "no-duplicates",
                              "no-duplicates+mean_pairwise", "random-2N"]  # fmt: skip
        assert sets == sets_of(chosen, truth, seed, per_task=PER_TASK)
        for arm, names in sets.items():
            assert len(set(names)) == len(names) == (POOL if arm == "random-2N" else POOL // 2)
            tasks = Counter(name.partition("/")[0] for name in names)
            assert set(tasks) == {f"pool{seed}-direction", f"pool{seed}-order"}
            assert len(set(tasks.values())) == 1
        mine = {name for name in truth if name.startswith(f"pool{seed}-")}
        assert set(sets["random-2N"]) == mine
        assert set(sets["mean_pairwise"]) == some(truth, 0) & mine
        assert set(sets["no-duplicates"]) <= some(truth, 0) | some(truth, 5)
        assert set(sets["random-N"]) != set(sets["no-duplicates"])


def test_every_set_is_trained_for_the_same_steps_each_row_once_before_any_again() -> None:
    from table7_train import BATCH, batches

    for num_rows in (48, 96):
        order = batches(num_rows, steps=9, seed=3)
        assert order.shape == (9, BATCH)
        drawn = order.flatten()
        for start in range(0, len(drawn), num_rows):
            part = drawn[start : start + num_rows]
            assert len(part.unique()) == len(part)
    assert not torch.equal(batches(48, steps=9, seed=3), batches(48, steps=9, seed=4))


def test_sets_of_one_seed_start_from_the_same_weights_and_leave_the_tower_as_it_is() -> None:
    from table7_train import Answerer, Examples, right_answers, train

    before = torch.get_rng_state()
    frames_NTHWC = torch.randint(0, 256, (40, 8, 56, 56, 3), dtype=torch.uint8,
                                 generator=torch.Generator().manual_seed(0))  # fmt: skip
    rows = Examples(
        sample_ids=tuple(map(str, range(40))),
        seen_N=frames_NTHWC,
        question_N=torch.arange(40) % 2,
        answer_N=torch.arange(40) % 4,
    )
    start = Answerer(num_frames=8, seed=1)
    seen = start.features(rows)
    assert seen.seen_N.shape == (40, 8, 32, 4, 4)
    first, _ = train(seen.take([str(i) for i in range(32)]), steps=1, seed=1)
    again, _ = train(seen.take([str(i) for i in range(32)]), steps=1, seed=1)
    other, _ = train(seen.take([str(i) for i in range(8, 40)]), steps=1, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    for name, value in start.encoder.tower.state_dict().items():
        for model in (first, other):
            assert torch.equal(model.encoder.tower.state_dict()[name], value)
    weights = [model.head[1].weight for model in (start, first, again, other)]
    assert torch.equal(weights[1], weights[2])
    assert not torch.equal(weights[1], weights[0])
    assert not torch.equal(weights[1], weights[3])
    assert right_answers(first, seen).shape == (40,)
    with pytest.raises(KeyError):
        seen.take(["unknown"])


def test_a_trained_tower_gives_the_principal_components_of_its_map_on_the_grid() -> None:
    from table7_tower import TrainedTower
    from table7_train import Examples

    rng = np.random.default_rng(0)
    drawn = 255 * rng.random((6, 2, 4, 1, 3)).repeat(14, 2).repeat(56, 3)
    rows = Examples(
        sample_ids=tuple("abcdef"),
        seen_N=torch.from_numpy(drawn.astype(np.uint8)),
        question_N=torch.zeros(6, dtype=torch.long),
        answer_N=torch.zeros(6, dtype=torch.long),
    )
    tower = TrainedTower()
    with pytest.raises(RuntimeError, match="fit"):
        tower.features(rows)
    tower.fit(rows)
    seen_N = tower.features(rows).seen_N
    assert seen_N.shape == (6, 2, 32, 4, 4)
    x_MD = seen_N.movedim(2, -1).flatten(0, -2).double()
    assert x_MD.mean(0).abs().max() < 1e-4
    assert tower.grid_maps(rows).shape == (6, 2, 80, 4, 4)
    map_MC = tower.grid_maps(rows).movedim(2, -1).flatten(0, -2).double()
    # No other 32 directions of the 80 have more variance; and none of ours has next to none.
    values = torch.linalg.svdvals(map_MC - map_MC.mean(0))
    assert x_MD.square().sum() == pytest.approx(float(values[:32].square().sum()), rel=1e-4)
    spread_D = x_MD.std(0)
    assert 2 * spread_D.max() / spread_D.min() < values[0] / values[31]
    only = tower.features(rows.take(["c"])).seen_N
    assert torch.allclose(only[0], seen_N[2], atol=1e-4)


def test_intervals_are_those_of_students_t() -> None:
    from table7 import T_975, mean_interval

    found = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])  # 3 +- 2.776 * 1.5811 / sqrt(5)
    assert found == {"mean": 3.0, "low": 1.0371, "high": 4.9629}
    assert mean_interval([0.5] * 3) == {"mean": 0.5, "low": 0.5, "high": 0.5}
    for freedom, bound in T_975.items():
        # t = sqrt(freedom) tan(angle): the density in the angle is proportional to cos^(freedom-1)
        angle_N = np.linspace(-np.pi / 2, np.pi / 2, 2_000_001)
        density_N = np.cos(angle_N) ** (freedom - 1)
        below = density_N[np.sqrt(freedom) * np.tan(angle_N) < bound].sum() / density_N.sum()
        assert below == pytest.approx(0.975, abs=2e-5)


def test_the_table_pairs_seeds_and_says_what_each_set_is_made_of(truth: dict[str, Any]) -> None:
    from table7 import describe, sets_of, table

    sets = [sets_of(decisions(truth), truth, seed, per_task=PER_TASK) for seed in range(2)]
    runs = {
        arm: [{"active": 0.5 + index / 100 + seed / 10, "mixed": 0.4, "order_still": 0.3}
              for seed in range(2)]
        for index, arm in enumerate(sets[0])
    }  # fmt: skip
    arms = table(runs, sets, truth)
    assert arms["mean_pairwise"]["active"]["minus_random-N"] == {
        "mean": 0.01, "low": 0.01, "high": 0.01,
    }  # fmt: skip
    assert arms["random-N"]["active"]["low"] == pytest.approx(0.55 - 12.706 * 0.05, abs=1e-4)
    assert "minus_random-N" not in arms["random-N"]["active"]
    whole = arms["random-2N"]["rows_are"]
    assert whole["different_clips"] == 2 * POOL // 3
    assert whole["different_active_clips"] == POOL // 3
    assert describe(arms)[3] == (
        "| mean_pairwise: 24 | 56.0 (-7.5 to 119.5) | +1.0 (+1.0 to +1.0) | 40.0 (40.0 to 40.0) "
        "| +0.0 (+0.0 to +0.0) |"
    )


def test_a_duplicate_of_another_clip_counts_as_wrong(truth: dict[str, Any]) -> None:
    from table7 import duplicates_found, source_of

    rows = decided(truth, set(truth))
    named = {row["sample_id"]: row for row in rows}
    copies = [name for name, clip in truth.items() if clip.copy_of is not None]
    right, wrong = copies[:2]
    named[right] |= {
        "decision": "duplicate", "duplicate_of": file_of(source_of(right, truth)),
    }  # fmt: skip
    stranger = next(name for name in truth if source_of(wrong, truth) != name not in copies)
    named[wrong] |= {"decision": "duplicate", "duplicate_of": file_of(stranger)}
    assert duplicates_found(rows, truth) == {
        "rows": 2 * POOL, "copies": 2 * POOL // 3, "dropped": 2, "dropped_wrongly": 1,
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_comparison_runs_on_a_small_pool(tmp_path: Path) -> None:
    script = (
        "import sys, records, table7; from pathlib import Path; "
        "write = records.write_record; "
        "records.write_record = lambda *a, **k: write(*a, folder=Path(sys.argv[1]), **k); "
        "table7.main(['--pool', '48', '--heldout', '32', '--steps', '4', '--seeds', '2', "
        "'--encoder', 'efficientnet_lite0', '--tower', 'efficientnet_lite0', "
        "'--record', 'table7-lite', '--out', sys.argv[2]])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "runs"), str(tmp_path / "out")],
        cwd=BENCH, capture_output=True, text=True, timeout=850, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "runs" / "table7-lite.json").read_text())["figures"]
    assert {arm: row["rows"] for arm, row in figures["arms"].items()} == {
        "random-N": 24, "mean_pairwise": 24, "effective_frames": 24, "no-duplicates": 24,
        "no-duplicates+mean_pairwise": 24, "random-2N": 48,
    }  # fmt: skip
    found = figures["duplicates"]
    assert 0 < found["dropped"] <= found["copies"]
    assert found["dropped_wrongly"] == 0
