"""Selectors: the contract of each, and each against a slower way to the same order."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from support.repo import ROOT
from support.selector_contract import (
    SCALE,
    candidates_of,
    check_selector,
    kept,
    kinds,
    shuffled,
    unit_means,
)
from vxp_data.core.selectors import coverage as coverage_module
from vxp_data.core.selectors.base import Candidates, Selector, digest, load_selector, select
from vxp_data.core.selectors.cells import MAX_CELL, find_cells, split
from vxp_data.core.selectors.coverage import greedy_gains
from vxp_data.core.selectors.grid import grid_scale, on_grid, unit_rows
from vxp_data.core.selectors.own import MIN_IN_STRATUM, duration_strata
from vxp_data.core.selectors.ranks import quantiles, quantiles_in, rank_correlation
from vxp_data.core.selectors.vectors import cell_quotas
from vxp_data.core.thresholds import keep_order
from vxp_data.errors import UserError
from vxp_data.registry import SELECTORS


@pytest.mark.parametrize("name", SELECTORS.names())
def test_every_selector_keeps_the_contract(name: str) -> None:
    check_selector(load_selector(name))


@pytest.mark.parametrize("name", SELECTORS.names())
def test_every_selector_says_who_it_is(name: str) -> None:
    selector = load_selector(name)
    assert selector.name == name
    assert selector.measure == f"select:{name}@{selector.version}"


def order_of(name: str, candidates: Candidates) -> list[int]:
    score_N = select(load_selector(name), candidates)
    return keep_order(-score_N, candidates.sample_id_N.tolist()).tolist()


def of_one_row_each(num: int, **facts: Any) -> Candidates:
    return candidates_of(num, 1, **facts)


# ---- intra, intra_by_duration, random


def test_intra_takes_the_least_redundant_first() -> None:
    candidates = of_one_row_each(4, redundancy_C=np.array([0.3, 0.1, 0.9, 0.1]))
    assert order_of("intra", candidates) == [1, 3, 0, 2]  # the tie goes by sample_id


def test_by_duration_takes_the_same_share_of_short_and_long_clips() -> None:
    num = 2 * MIN_IN_STRATUM
    duration_s = np.repeat([3.0, 60.0], MIN_IN_STRATUM)
    redundancy = np.linspace(0.9, 0.1, num)  # every long clip is less redundant than any short one
    candidates = of_one_row_each(num, duration_s_C=duration_s, redundancy_C=redundancy)
    first = order_of("intra_by_duration", candidates)[: num // 2]
    assert sum(duration_s[first] > 30) == MIN_IN_STRATUM // 2
    assert set(order_of("intra", candidates)[: num // 2]) == set(range(num // 2, num))
    assert max(redundancy[[n for n in first if n < MIN_IN_STRATUM]]) < min(
        redundancy[[n for n in range(MIN_IN_STRATUM) if n not in first]]
    )


@pytest.mark.parametrize("num", [1, 19, 40, 399, 1000])
def test_strata_are_as_large_as_each_other_and_never_part_clips_of_one_length(num: int) -> None:
    rng = np.random.default_rng(num)
    duration_s = rng.uniform(0, 100, num)
    sizes = np.bincount(duration_strata(duration_s))
    assert len(sizes) == max(1, min(10, num // MIN_IN_STRATUM))
    assert sizes.max() - sizes.min() <= 1
    rounded = duration_s.round(-1)
    strata = duration_strata(rounded)
    assert all(len(set(strata[rounded == length])) == 1 for length in set(rounded))
    assert (np.diff(strata[np.argsort(rounded, kind="stable")]) >= 0).all()


def test_random_draws_by_content_and_seed_alone() -> None:
    candidates = of_one_row_each(300)
    first = order_of("random", candidates)
    assert first != sorted(first)
    assert order_of("random", replace(candidates, seed=1)) != first
    fewer = of_one_row_each(100)
    assert order_of("random", fewer) == [row for row in first if row < 100]
    score_N = np.sort(select(load_selector("random"), candidates))
    assert abs(score_N - (np.arange(300) + 0.5) / 300).max() < 1.63 / math.sqrt(300)  # Kolmogorov


# ---- decorrelate


def test_decorrelate_is_minus_the_mean_cosine_with_every_other_centred_clip() -> None:
    candidates = of_one_row_each(60, mean_CD=unit_means(60))
    mean_CD = candidates.mean_CD.astype(np.float64)
    centred_CD = mean_CD - mean_CD.mean(axis=0)
    centred_CD /= np.linalg.norm(centred_CD, axis=1, keepdims=True)
    for row, got in enumerate(select(load_selector("decorrelate"), candidates)):
        others = [centred_CD[row] @ centred_CD[n] for n in range(60) if n != row]
        assert got == pytest.approx(-np.mean(others), abs=2e-4)


def test_decorrelate_puts_the_one_that_is_unlike_a_crowd_first() -> None:
    angle = np.deg2rad([0.0, 1.0, 2.0, 120.0])
    mean_CD = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float16)
    assert order_of("decorrelate", of_one_row_each(4, mean_CD=mean_CD))[0] == 3


# ---- cells and cluster_quota


def test_cells_find_clusters_that_are_there() -> None:
    rng = np.random.default_rng(0)
    centre_KD = np.eye(9, 32)
    of_C = rng.integers(0, 9, 81)
    mean_CD = centre_KD[of_C] + 0.05 * rng.standard_normal((81, 32))
    mean_CD /= np.linalg.norm(mean_CD, axis=1, keepdims=True)
    cells = find_cells(of_one_row_each(81, mean_CD=mean_CD.astype(np.float16)), 27)
    for cell in set(cells.cell_C.tolist()):
        assert len(set(of_C[cells.cell_C == cell])) == 1  # none mixes two clusters
    everywhere = find_cells(of_one_row_each(50, mean_CD=unit_means(50)))
    unit_KD = unit_rows(everywhere.centre_KD / grid_scale(24))
    cosine_CK = unit_means(50).astype(np.float64) @ unit_KD.T
    chosen_C = cosine_CK[np.arange(50), everywhere.cell_C]
    assert (chosen_C > cosine_CK.max(axis=1) - 1e-3).all()
    assert everywhere.cosine_C == pytest.approx(chosen_C, abs=1e-3)


def test_cells_that_are_too_large_are_split_and_lose_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vxp_data.core.selectors.cells.MAX_CELL", 16)
    assert MAX_CELL == 4096
    for kind in ("many", "all alike"):
        candidates = kinds()[kind]
        parts = split(find_cells(candidates, 2), candidates)
        assert max(map(len, parts)) <= 16
        assert sorted(np.concatenate(parts).tolist()) == list(range(candidates.num_clips))


def test_cluster_quota_is_rank_over_quota_furthest_from_the_centre_first() -> None:
    candidates = of_one_row_each(100, mean_CD=unit_means(100))
    cells = find_cells(candidates)
    quota_K = cell_quotas(cells)
    assert quota_K.sum() == pytest.approx(100)
    assert (quota_K[np.bincount(cells.cell_C, minlength=len(quota_K)) == 0] == 0).all()
    score_N = select(load_selector("cluster_quota"), candidates)
    for cell in set(cells.cell_C.tolist()):
        members = np.flatnonzero(cells.cell_C == cell)
        furthest = sorted(members.tolist(), key=lambda n: (cells.cosine_C[n], n))
        for rank, row in enumerate(furthest, start=1):
            assert score_N[row] == -rank / quota_K[cell]


def test_wide_cells_far_from_others_have_the_larger_quotas() -> None:
    rng = np.random.default_rng(0)
    spread = np.repeat([0.02, 0.3], 40)[:, None]
    mean_CD = np.repeat(np.eye(2, 16), 40, axis=0) + spread * rng.standard_normal((80, 16))
    mean_CD /= np.linalg.norm(mean_CD, axis=1, keepdims=True)
    candidates = of_one_row_each(80, mean_CD=mean_CD.astype(np.float16))
    cells = find_cells(candidates, 2)
    quota_K = cell_quotas(cells)
    assert quota_K[cells.cell_C[79]] > 2 * quota_K[cells.cell_C[0]]


# ---- coverage


def value_of(product_MM: np.ndarray, chosen: list[int]) -> float:
    return float(np.maximum(product_MM[chosen], 0).max(axis=0).sum()) if chosen else 0.0


def test_coverage_is_exact_greedy() -> None:
    for seed in range(5):
        vector_MD = on_grid(unit_means(40, seed=seed)).astype(np.float64)
        product_MM = vector_MD @ vector_MD.T
        gain_M = greedy_gains(product_MM.astype(np.float32))
        chosen: list[int] = []
        for _ in range(40):
            before = value_of(product_MM, chosen)
            adds = {
                n: value_of(product_MM, [*chosen, n]) - before for n in range(40) if n not in chosen
            }
            best = max(adds, key=lambda n: (adds[n], -n))
            assert gain_M[best] == adds[best]  # to the bit
            chosen.append(best)
        assert np.argsort(-gain_M, kind="stable").tolist() == chosen


def test_the_first_two_of_coverage_are_nearly_the_best_two() -> None:
    vector_MD = on_grid(unit_means(25)).astype(np.float64)
    product_MM = vector_MD @ vector_MD.T
    first = np.argsort(-greedy_gains(product_MM.astype(np.float32)), kind="stable")[:2].tolist()
    best = max(value_of(product_MM, list(two)) for two in itertools.combinations(range(25), 2))
    assert value_of(product_MM, first) >= (1 - 1 / math.e) * best


def test_coverage_within_cells_merges_the_orders_of_the_cells(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    candidates = of_one_row_each(90, mean_CD=unit_means(90))
    exact = order_of("coverage", candidates)
    monkeypatch.setattr(coverage_module, "EXACT_CLIPS", 50)
    cells = find_cells(candidates)
    order = order_of("coverage", candidates)
    assert order != exact
    vector_CD = on_grid(candidates.mean_CD).astype(np.float64)
    apart_CC = cells.cell_C[:, None] != cells.cell_C
    product_CC = np.where(apart_CC, 0.0, vector_CD @ vector_CD.T)
    for number in (1, 5, 20, 60):
        chosen: list[int] = []
        for _ in range(number):  # greedy over all, where only clips of one cell are alike
            before = value_of(product_CC, chosen)
            rest = [n for n in range(90) if n not in chosen]
            chosen.append(max(rest, key=lambda n: value_of(product_CC, [*chosen, n]) - before))
        assert value_of(product_CC, order[:number]) == value_of(product_CC, chosen)


# ---- gdo_lite, text_blind


def test_quantiles_are_shares_below_and_ties_lie_in_the_middle() -> None:
    assert quantiles(np.array([5.0, 1.0, 1.0, np.nan])).tolist() == [5 / 6, 1 / 3, 1 / 3, 0.5]
    value = np.array([3.0, 1.0, 2.0, 9.0])
    got = quantiles_in(value, np.array([7, 7, 7, 0]))
    assert got.tolist() == pytest.approx([5 / 6, 1 / 6, 3 / 6, 0.5])


def test_rank_correlation_is_that_of_the_ranks() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.random(50), rng.random(50)
    ranks = [np.argsort(np.argsort(values)) for values in (first, second)]
    wanted = np.corrcoef(ranks)[0, 1]
    assert rank_correlation(np.exp(first), second**3) == pytest.approx(wanted)
    assert rank_correlation(first, -first) == pytest.approx(-1)
    assert math.isnan(rank_correlation(first, np.ones(50)))


def test_gdo_lite_takes_the_same_share_of_each_dataset() -> None:
    num = 60
    datasets = np.array(["still"] * 40 + ["moving"] * 20, object)
    change = np.where(datasets == "moving", 30.0, 1.0) + np.arange(num) / 100
    candidates = of_one_row_each(
        num, dataset_N=datasets, change_C=change, needs_time_N=np.zeros(num),
        effective_frames_C=np.ones(num),
    )  # fmt: skip
    first = order_of("gdo_lite", candidates)[: num // 2]
    assert sum(datasets[first] == "moving") == 10
    assert min(first) >= 20  # of each, those that change most


def test_gdo_lite_prefers_questions_that_need_time() -> None:
    flat = np.ones(2)
    candidates = candidates_of(
        2, 1, change_C=flat, effective_frames_C=flat, needs_time_N=np.array([0.0, 1.0]),
        dataset_N=np.array(["a", "a"], object),
    )  # fmt: skip
    assert order_of("gdo_lite", candidates) == [1, 0]


def test_text_blind_goes_by_the_file_then_by_redundancy() -> None:
    candidates = of_one_row_each(
        4,
        outside_N=np.array([0.0, 1.0, 1.0, 0.0]),
        redundancy_C=np.array([0.1, 0.9, 0.2, 0.3]),
    )
    assert order_of("text_blind", candidates) == [2, 1, 0, 3]


def test_text_blind_without_scores_says_what_to_give() -> None:
    candidates = of_one_row_each(3, outside_N=np.array([0.5, np.nan, np.nan]))
    with pytest.raises(UserError, match=r"2 of 3 rows have none.*--scores FILE"):
        select(load_selector("text_blind"), candidates)


# ---- the way in


def selector_of(score: Any, **more: Any) -> Selector:
    given: dict[str, Any] = {"name": "odd", "version": 1, "needs": frozenset(), "of": "clips"}
    return Selector(**{**given, "score": score, **more})


@pytest.mark.parametrize(
    "score",
    [
        lambda candidates: np.full(candidates.num_clips, np.nan),
        lambda candidates: np.full(candidates.num_clips, np.inf),
        lambda candidates: np.zeros(len(candidates)),
        lambda candidates: np.zeros(candidates.num_clips, np.float32),
        lambda candidates: [0.0] * candidates.num_clips,
    ],
)
def test_a_selector_that_gives_no_finite_number_a_clip_is_named(score: Any) -> None:
    with pytest.raises(UserError, match=r"selector 'odd': gave .* wanted 40 finite numbers"):
        select(selector_of(score), candidates_of())


def test_a_selector_that_looks_at_the_order_cannot_see_it() -> None:
    by_place = selector_of(lambda candidates: np.arange(candidates.num_clips, dtype=np.float64))
    candidates = candidates_of()
    row_N, other = shuffled(candidates)
    assert (select(by_place, other) == select(by_place, candidates)[row_N]).all()


def test_rows_and_clips_that_are_there_twice_are_refused() -> None:
    twice = np.array(["a", "a"], object)
    with pytest.raises(ValueError, match="sample ids must be unique; 'a'"):
        select(load_selector("intra"), of_one_row_each(2, sample_id_N=twice))
    with pytest.raises(ValueError, match="names of clips must be unique; 'a'"):
        select(load_selector("intra"), of_one_row_each(2, clip_name_C=twice))


def test_means_that_are_no_unit_vectors_are_refused() -> None:
    mean_CD = unit_means(3)
    mean_CD[1] *= np.float16(2)
    with pytest.raises(ValueError, match="mean 1 has norm 2, not 1"):
        select(load_selector("coverage"), of_one_row_each(3, mean_CD=mean_CD))


def test_the_digest_is_of_what_the_selector_sees() -> None:
    candidates, intra = candidates_of(), load_selector("intra")
    other = {"redundancy_C": candidates.redundancy_C + 1, "seed": 1,
             "sample_id_N": candidates.sample_id_N + "x"}  # fmt: skip
    for name, value in other.items():
        assert digest(intra, replace(candidates, **{name: value})) != digest(intra, candidates)
    unseen = {"mean_CD": -candidates.mean_CD, "change_C": candidates.change_C + 1}
    for name, value in unseen.items():
        assert digest(intra, replace(candidates, **{name: value})) == digest(intra, candidates)
    coverage = load_selector("coverage")
    turned = replace(candidates, mean_CD=-candidates.mean_CD)
    assert digest(coverage, turned) != digest(coverage, candidates)


def test_products_on_the_grid_are_exact_whatever_multiplies_them() -> None:
    """The widest, longest rows there are: no partial sum may leave what float32 holds exactly."""
    for dim in (1, 3, 1280, 4096):
        unit_BD = unit_means(64, dim=dim)
        unit_BD[0] = np.float16(1 / math.sqrt(dim))
        grid_BD = on_grid(unit_BD)
        exact_BB = grid_BD.astype(np.int64) @ grid_BD.astype(np.int64).T
        assert abs(exact_BB).max() <= 2**24
        assert ((grid_BD @ grid_BD.T) == exact_BB).all()
        cosine_BB = unit_BD.astype(np.float64) @ unit_BD.astype(np.float64).T
        off_BB = abs(exact_BB / grid_scale(dim) ** 2 - cosine_BB)
        assert off_BB[1:, 1:].max() < 2e-3  # the first row's are all rounded the same way


_SCRIPT = """
import hashlib
from support.selector_contract import kinds
from vxp_data.core.selectors import coverage
from vxp_data.core.selectors.base import load_selector, select
coverage.EXACT_CLIPS = 100
found = hashlib.sha256()
for name in ("decorrelate", "cluster_quota", "coverage"):
    found.update(select(load_selector(name), kinds()["many"]).tobytes())
print(found.hexdigest())
"""


def test_a_selection_is_the_same_bits_on_other_cpus_and_with_other_threads() -> None:
    older = {"OPENBLAS_CORETYPE": "Nehalem", "OMP_NUM_THREADS": "2"}
    told = [
        subprocess.run(
            [sys.executable, "-c", _SCRIPT],
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", **env},
            capture_output=True, text=True, check=True,
        ).stdout
        for env in ({"OMP_NUM_THREADS": "1"}, older)
    ]  # fmt: skip
    assert len(told[0]) == 65
    assert told[0] == told[1]


def test_a_count_is_met_exactly_and_more_never_drops_what_less_keeps() -> None:
    candidates = candidates_of(15, 3)
    selector = load_selector("coverage")
    sizes = [kept(selector, candidates, n) for n in range(46)]
    assert [len(rows) for rows in sizes] == list(range(46))
    assert all(a < b for a, b in itertools.pairwise(sizes))
    assert SCALE.redundant_when == "low"
