"""Neighbours without FAISS: those that FAISS finds, and those that plain arithmetic gives."""

import sys
import tracemalloc

import numpy as np
import pytest

from vxp_data.neighbours import base
from vxp_data.neighbours.choose import build_index
from vxp_data.neighbours.faiss_index import FlatIndex
from vxp_data.neighbours.numpy_index import NumpyIndex


def unit(rng, num_rows, dim=64):
    rows = rng.normal(size=(num_rows, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def tied(rng, num_rows):
    """Vectors of few kinds, whose inner products float32 holds exactly: many are equally near."""
    kinds = rng.choice([-0.5, 0.0, 0.5], size=(12, 8))
    return kinds[rng.integers(0, len(kinds), num_rows)].astype(np.float16)


def pairs(index, emb_BD, num_neighbours, min_cosine):
    cosine_BK, row_BK = index.search(emb_BD, num_neighbours, min_cosine)
    query, rank = np.nonzero((cosine_BK >= min_cosine) & (row_BK >= 0))
    return set(zip(query.tolist(), row_BK[query, rank].tolist(), strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_random_vectors_have_the_pairs_that_faiss_finds(seed):
    rng = np.random.default_rng(seed)
    base = unit(rng, 3000)
    near = (base[:900] + 0.05 * unit(rng, 900)).astype(np.float32)
    near = (near / np.linalg.norm(near, axis=1, keepdims=True)).astype(np.float16)
    emb_ND = np.concatenate([base, near])
    found = pairs(NumpyIndex(emb_ND), emb_ND, 33, 0.9)
    assert found == pairs(FlatIndex(emb_ND), emb_ND, 33, 0.9)
    assert len(found) > len(emb_ND) + 1500  # each itself, and the near ones both ways


def test_tied_vectors_have_the_pairs_that_faiss_finds():
    emb_ND = tied(np.random.default_rng(3), 400)
    found = pairs(NumpyIndex(emb_ND), emb_ND, 400, 0.5)
    assert found == pairs(FlatIndex(emb_ND), emb_ND, 400, 0.5)
    assert len(found) > 10_000


@pytest.mark.parametrize("num_neighbours", [1, 7, 33, 400])
def test_neighbours_are_in_the_order_of_plain_arithmetic_and_ties_in_that_of_rows(num_neighbours):
    rng = np.random.default_rng(4)
    emb_ND = tied(rng, 400)
    queries = tied(rng, 50)
    cosine_BK, row_BK = NumpyIndex(emb_ND).search(queries, num_neighbours, -1.0)
    exact = queries.astype(np.float64) @ emb_ND.astype(np.float64).T
    order = np.argsort(-exact, axis=1, kind="stable")[:, :num_neighbours]
    np.testing.assert_array_equal(row_BK, order)
    np.testing.assert_array_equal(cosine_BK, np.take_along_axis(exact, order, axis=1))
    assert (exact < 0).any()


def test_blocks_change_nothing(monkeypatch):
    emb_ND = unit(np.random.default_rng(5), 500)
    index = NumpyIndex(emb_ND)
    whole = index.search(emb_ND, 9, 0.0)
    monkeypatch.setattr("vxp_data.neighbours.numpy_index.BLOCK_COSINES", 500 * 7)
    np.testing.assert_array_equal(index.search(emb_ND, 9, 0.0)[1], whole[1])


def test_where_there_are_fewer_than_wanted_the_rest_is_marked():
    emb_ND = unit(np.random.default_rng(6), 3)
    cosine_BK, row_BK = NumpyIndex(emb_ND).search(emb_ND, 5, 0.0)
    assert row_BK[:, 0].tolist() == [0, 1, 2]
    assert (row_BK[:, 3:] == -1).all()
    assert np.isneginf(cosine_BK[:, 3:]).all()
    assert (NumpyIndex(emb_ND[:0]).search(emb_ND, 2, 0.0)[1] == -1).all()


def test_the_biggest_index_takes_bounded_memory():
    rng = np.random.default_rng(7)
    index = NumpyIndex(unit(rng, base.FLAT_VECTORS, dim=16))
    queries = unit(rng, 2000, dim=16)
    tracemalloc.start()
    index.search(queries, 33, 0.9)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150 << 20  # all cosines at once: 160 MB, and five times as much to rank them


def test_numpy_is_taken_without_faiss_and_clusters_beyond_a_number(monkeypatch):
    emb_ND = unit(np.random.default_rng(8), 101)
    assert isinstance(build_index(emb_ND, 0.9), FlatIndex)
    monkeypatch.setitem(sys.modules, "faiss", None)  # as where it is not installed
    monkeypatch.setattr(base, "FLAT_VECTORS", 100)
    assert isinstance(build_index(emb_ND[:100], 0.9), NumpyIndex)
    with build_index(emb_ND, 0.9) as index:
        assert index.kind == "clusters"


@pytest.mark.parametrize("kind", [FlatIndex, NumpyIndex])
def test_among_some_rows_only_these_are_found_by_their_own_numbers(kind):
    emb_ND = unit(np.random.default_rng(9), 60)
    row_A = np.array([3, 7, 20, 41])
    with kind(emb_ND).among(row_A) as index:
        cosine_BK, row_BK = index.search_rows(np.array([7, 8]), 5, -1.0)
    exact = emb_ND[[7, 8]].astype(np.float64) @ emb_ND[row_A].astype(np.float64).T
    np.testing.assert_array_equal(row_BK[:, :4], row_A[np.argsort(-exact, axis=1)])
    assert (row_BK[:, 4] == -1).all()
    np.testing.assert_allclose(cosine_BK[:, :4], -np.sort(-exact, axis=1), atol=1e-5)
