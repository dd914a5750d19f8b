"""Tasks of files: none lost, and no task that holds up the end."""

from __future__ import annotations

import heapq
from itertools import pairwise

import numpy as np
import pytest

from vxp_data.core.task_packing import CHEAP_TASK_COST, FILE_COST, pack_files


def sizes(seed: int, num_files: int, spread: float = 1.5) -> np.ndarray:
    """File sizes as videos have them: many small ones, few large ones; dearest first."""
    rng = np.random.default_rng(seed)
    return np.sort(rng.lognormal(np.log(10e6), spread, num_files).astype(np.int64))[::-1]


def makespan(cost_N: np.ndarray, start: np.ndarray, workers: int) -> float:
    """When the last worker ends if each takes the next task as soon as it is free."""
    free = [0.0] * workers
    for first, stop in pairwise(start):
        heapq.heappush(free, heapq.heappop(free) + float(cost_N[first:stop].sum()))
    return max(free)


@pytest.mark.parametrize("workers", [1, 2, 16, 300])
@pytest.mark.parametrize("num_files", [0, 1, 7, 5000])
def test_every_file_is_in_one_task_and_tasks_are_small(num_files: int, workers: int) -> None:
    start = pack_files(sizes(0, num_files), workers=workers, files_per_task=16, tasks_per_worker=4)
    assert start[0] == 0
    assert start[-1] == num_files
    assert (np.diff(start) >= 1).all()
    assert (np.diff(start) <= 16).all()


@pytest.mark.parametrize("workers", [2, 16, 300])
@pytest.mark.parametrize("spread", [0.1, 1.5, 3.0])
def test_the_end_is_near_the_bound(workers: int, spread: float) -> None:
    num_bytes_N = sizes(1, 20_000, spread)
    cost_N = num_bytes_N + FILE_COST
    start = pack_files(num_bytes_N, workers=workers, files_per_task=16, tasks_per_worker=4)
    bound = max(cost_N.sum() / workers, cost_N[0])
    assert makespan(cost_N, start, workers) <= 1.02 * bound


def test_a_file_that_is_a_workers_whole_share_travels_alone() -> None:
    num_bytes_N = np.array([50 << 30, *sizes(2, 1000)])
    start = pack_files(num_bytes_N, workers=8, files_per_task=16, tasks_per_worker=4)
    assert start[1] == 1


@pytest.mark.parametrize("index", [0, 300, 900, 999])
def test_a_file_dearer_than_it_looks_costs_the_end_no_more_than_itself(index: int) -> None:
    num_bytes_N = sizes(3, 1000)
    cost_N = (num_bytes_N + FILE_COST).astype(np.float64)
    start = pack_files(num_bytes_N, workers=8, files_per_task=16, tasks_per_worker=4)
    usual = makespan(cost_N, start, 8)
    surprise = 3 * usual
    cost_N[index] += surprise
    assert makespan(cost_N, start, 8) <= 1.05 * (usual + surprise)


def test_the_last_tasks_are_single_files() -> None:
    start = pack_files(np.full(1000, 10**7), workers=4, files_per_task=16, tasks_per_worker=4)
    assert np.diff(start)[:10].tolist() == [16] * 10
    assert np.diff(start)[-16:].tolist() == [1] * 16


def test_cheap_files_come_in_greater_numbers_where_there_are_many() -> None:
    num_bytes_N = np.array([300 << 20] * 200 + [1 << 20] * 5000)
    limits = {"workers": 2, "files_per_task": 16, "tasks_per_worker": 4}
    start = pack_files(num_bytes_N, **limits, cheap_files_per_task=64)
    num_T = np.diff(start)
    assert num_T[0] == 16  # dear ones as before
    assert num_T[start[:-1] >= 200].max() == 64
    assert num_T[-1] == 1
    assert len(num_T) < len(pack_files(num_bytes_N, **limits)) - 1
    cost_T = np.add.reduceat(num_bytes_N + FILE_COST, start[:-1])
    assert (cost_T[num_T > 16] <= CHEAP_TASK_COST).all()
