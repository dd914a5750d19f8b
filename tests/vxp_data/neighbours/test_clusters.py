"""Neighbours by clusters: those of brute force, whoever compares, and in bounded memory."""

import subprocess
import sys

import numpy as np
import pytest

from support.later import LATER
from vxp_data.engines.choose import open_engine
from vxp_data.neighbours import clusters, list_tasks
from vxp_data.neighbours.base import HERE, Workers
from vxp_data.neighbours.clusters import build_clusters
from vxp_data.neighbours.row_file import RowFile
from vxp_data.settings.cluster import ClusterConfig

if LATER:
    import faiss

LEAST = 0.93
MANY = 64


def unit(rows):
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


def vectors(seed=0, num_vectors=6000, dim=96, num_copies=600):
    """Vectors around centres, and copies of them from nearly equal to a little too far off."""
    rng = np.random.default_rng(seed)
    centres = unit(rng.normal(size=(40, dim)))
    around = centres[rng.integers(0, 40, num_vectors)]
    rows = unit(around + 0.7 * unit(rng.normal(size=(num_vectors, dim))))
    off = unit(rng.normal(size=(num_copies, dim)))
    # At an angle with cosines of 0.9 to 1, every tenth within a hundred thousandth of the bound.
    cosine = rng.uniform(0.9, 1.0, size=(num_copies, 1))
    cosine[::10] = LEAST + rng.uniform(-1e-5, 1e-5, size=(len(cosine[::10]), 1))
    own = rows[:num_copies]
    off = unit(off - (off * own).sum(axis=1, keepdims=True) * own)
    rows[-num_copies:] = cosine * own + np.sqrt(1 - cosine**2) * off
    return rows.astype(np.float16)


def brute(emb_ND, least=LEAST):
    """Pairs of float16 vectors: their products add up exactly in float64."""
    wide = emb_ND.astype(np.float64)
    first, second = np.nonzero(wide @ wide.T >= least)
    return set(zip(first.tolist(), second.tolist(), strict=True))


def pairs(emb_ND, workers=HERE, least=LEAST, number=MANY):
    with build_clusters(emb_ND, least, workers) as index:
        _, row_BK = index.search_rows(np.arange(len(emb_ND)), number, least)
    query, rank = np.nonzero(row_BK >= 0)
    return set(zip(query.tolist(), row_BK[query, rank].tolist(), strict=True))


def both_ways(found):
    return found | {(second, first) for first, second in found}


def test_pairs_are_those_of_brute_force_also_at_the_bound():
    emb_ND = vectors()
    wanted, found = brute(emb_ND), pairs(emb_ND)
    assert len(wanted) > len(emb_ND) + 700
    assert found <= wanted
    assert len(both_ways(found)) >= 0.999 * len(wanted)


def test_other_vectors_find_what_rows_find():
    emb_ND = vectors(1)
    with build_clusters(emb_ND, LEAST, HERE) as index:
        _, by_row = index.search_rows(np.arange(500), MANY, LEAST)
        _, by_vector = index.search(emb_ND[:500].astype(np.float32), MANY, LEAST)
    np.testing.assert_array_equal(by_row, by_vector)


def test_any_order_of_the_vectors_gives_the_same_pairs(monkeypatch):
    for module in (clusters, list_tasks):  # so few that pairs are missed: the same ones
        monkeypatch.setattr(module, "MOST_LISTS", 1)
    emb_ND = vectors(2)
    assert len(pairs(emb_ND)) < len(brute(emb_ND))
    order = np.random.default_rng(3).permutation(len(emb_ND))
    shuffled = {(int(order[i]), int(order[j])) for i, j in pairs(emb_ND[order])}
    assert shuffled == pairs(emb_ND)


def test_two_processes_find_what_one_finds_by_files_and_by_what_travels():
    emb_ND = vectors(4)
    wanted = pairs(emb_ND)
    with (
        RowFile(*emb_ND.shape, np.float16) as file,
        open_engine(ClusterConfig(num_cpus=2)) as engine,
    ):
        file.rows[:] = emb_ND
        for share_files in (True, False):
            workers = Workers(run_tasks=engine.run_tasks, share_files=share_files)
            assert pairs(file.rows, workers) == wanted


def test_pieces_of_tasks_change_nothing(monkeypatch):
    emb_ND = vectors(5)
    wanted = pairs(emb_ND)
    monkeypatch.setattr(clusters, "TASK_ROWS", 50)
    assert pairs(emb_ND) == wanted


def test_lists_of_very_unequal_size_find_what_brute_force_finds():
    emb_ND = vectors(6, num_vectors=3000, num_copies=300)
    rng = np.random.default_rng(7)
    crowd = unit(emb_ND[:1] + 0.5 * unit(rng.normal(size=(5000, 96)))).astype(np.float16)
    emb_ND = np.concatenate([emb_ND, crowd])
    wanted = brute(emb_ND)
    assert len(both_ways(pairs(emb_ND)) & wanted) >= 0.99 * len(wanted)


def test_equal_vectors_find_those_of_the_lowest_rows():
    emb_ND = np.tile(vectors(8)[:1], (3000, 1))
    with build_clusters(emb_ND, LEAST, HERE) as index:
        _, row_BK = index.search_rows(np.arange(len(emb_ND)), 5, LEAST)
    assert (row_BK == np.arange(5)).all()


@pytest.mark.parametrize("num_vectors", [1, 2, 3])
def test_a_few_vectors_are_fewer_than_there_would_be_lists(num_vectors):
    emb_ND = vectors(9)[:num_vectors]
    assert pairs(emb_ND) == brute(emb_ND)


def test_zero_vectors_are_near_nothing_and_disturb_nobody():
    emb_ND = vectors(10, num_vectors=2000, num_copies=200)
    emb_ND[::5] = 0
    wanted = brute(emb_ND)
    found = both_ways(pairs(emb_ND))
    assert found <= wanted
    assert len(found) >= 0.999 * len(wanted)


def test_among_some_rows_only_these_are_found():
    emb_ND = vectors(11)
    row_A = np.arange(0, len(emb_ND), 3)
    with build_clusters(emb_ND, LEAST, HERE) as index:
        _, row_BK = index.search_rows(np.arange(len(emb_ND)), MANY, LEAST)
        _, some_BK = index.among(row_A).search_rows(np.arange(len(emb_ND)), MANY, LEAST)
    for all_K, some_K in zip(row_BK, some_BK, strict=True):
        assert [row for row in all_K if row % 3 == 0 and row >= 0] == some_K[some_K >= 0].tolist()


def test_a_search_as_on_a_gpu_finds_the_same(monkeypatch):
    """FAISS ranks, in an order of its own among equal ones: on a CPU here, in the same way."""
    emb_ND = np.concatenate([vectors(12, num_vectors=3000), np.tile(vectors(12)[:1], (100, 1))])
    wanted = pairs(emb_ND, number=7)
    asked = []

    def knn(query_BD, member_MD, most):
        asked.append(most)
        return faiss.knn(query_BD, member_MD, most, metric=faiss.METRIC_INNER_PRODUCT)

    for module in (clusters, list_tasks):
        monkeypatch.setattr(module, "gpu_knn", lambda: knn)
    assert pairs(emb_ND, number=7) == wanted
    assert max(asked) == 8


LIMITED = """
import resource, sys
import numpy as np
from vxp_data.neighbours.base import HERE
from vxp_data.neighbours.clusters import build_clusters
from vxp_data.neighbours.products import gpu_knn
gpu_knn()  # loads FAISS
num_vectors, dim = 60_000, 1024
file = np.memmap(sys.argv[1], dtype=np.float16, mode="w+", shape=(num_vectors, dim))
rng = np.random.default_rng(0)
kinds = rng.normal(size=(500, dim)).astype(np.float32)
for start in range(0, num_vectors, 5000):
    rows = kinds[rng.integers(0, 500, 5000)] + rng.normal(size=(5000, dim)).astype(np.float32)
    file[start:start + 5000] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
def held():
    lines = open("/proc/self/status").read().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmData")) << 10
# Private memory alone counts: files are mapped shared.
resource.setrlimit(resource.RLIMIT_DATA, (held() + (110 << 20),) * 2)
with build_clusters(file, 0.93, HERE) as index:
    _, row_BK = index.search_rows(np.arange(num_vectors), 5, 0.93)
assert (row_BK[:, 0] == np.arange(num_vectors)).all()
"""


def test_memory_holds_no_copy_of_the_vectors(tmp_path):
    """60,000 vectors of 1024 numbers: 123 MB as they are stored, 246 as matrix products take them.

    110 MB may be held: of these 40 are the sample, 40 vectors a list, which grows with the root.
    """
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "vectors")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
