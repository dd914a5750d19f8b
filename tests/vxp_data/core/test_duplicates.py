"""The same video twice: what matches, what does not, who stays; found by brute force too."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.duplicate_clips import DIM, clip, film
from vxp_data.core.duplicate_groups import (
    ClipRank,
    SamePairs,
    choose_representatives,
    representative_order,
)
from vxp_data.core.duplicates import (
    MIN_COVERED,
    NO_MATCH,
    ClipTimes,
    clip_mean,
    match_clips,
    own_likeness,
    window_means,
)
from vxp_data.core.similarity import cross_cosines
from vxp_data.neighbours import base
from vxp_data.neighbours.choose import build_index


def fit(first, second):
    return match_clips(cross_cosines(first[0], second[0]), first[1], second[1])


def own(*clips):
    """Mean cosine among the frames of the more static of some clips."""
    cosines = [cross_cosines(emb, emb) for emb, _ in clips]
    return max((c.sum() - len(c)) / (len(c) * (len(c) - 1)) for c in cosines)


def is_same(match, own_likeness, threshold=0.9):
    return match.is_same(own=own_likeness, threshold=threshold, contrast=0.4)


def test_a_clip_matches_itself_whole():
    a = clip(film(0, 10))
    match = fit(a, a)
    assert match.agreement == pytest.approx(1)
    assert (match.offset_s, match.num_matched) == (0, 20)
    assert (match.first_covered, match.second_covered) == (1, 1)


def test_a_clip_inside_a_longer_one_is_found_where_it_begins():
    path = film(1, 40, speed=0.25)
    match = fit(clip(path), clip(path, 12, 24))
    assert match.agreement > 0.98
    assert match.offset_s == pytest.approx(12, abs=1)
    assert match.second_covered >= MIN_COVERED
    assert match.first_covered == pytest.approx(0.3, abs=0.02)
    assert is_same(match, own(clip(path), clip(path, 12, 24)))


def test_of_the_longer_clip_only_the_frames_within_the_shorter_one_judge():
    """Against a plain loop, in both orders of the two clips."""
    path = film(1, 40, speed=0.25)
    longer, shorter = clip(path), clip(path, 12, 24)
    match = fit(longer, shorter)
    within = [
        emb_D
        for emb_D, time_s in zip(longer[0], longer[1].time_s_F, strict=True)
        if 0 <= time_s - match.offset_s < shorter[1].duration_s
    ]
    assert len(within) == match.num_matched
    wanted = max(own((np.array(within), None)), own(shorter))
    found = own_likeness(match, longer[0], shorter[0], longer[1], shorter[1])
    assert found == pytest.approx(wanted, abs=1e-6)
    turned = own_likeness(match.turned(), shorter[0], longer[0], shorter[1], longer[1])
    assert turned == found


def test_what_is_alike_in_darkness_alone_is_not_the_same():
    """A film that is dark for as long as a strobe lasts: each of its frames is near a dark one."""
    black, white = np.eye(DIM)[:2]
    rng = np.random.default_rng(0)
    frames = [black + rng.normal(size=DIM) * 0.01 for _ in range(20)]
    strobe = [white if number % 2 else frame for number, frame in enumerate(frames)]
    scenes = rng.normal(size=(10, DIM))
    dark = [*frames[:10], *scenes]
    times = np.arange(20.0)
    longer = (_unit_rows(dark), ClipTimes(time_s_F=times * 2, duration_s=40.0))
    shorter = (_unit_rows(strobe), ClipTimes(time_s_F=times, duration_s=20.0))
    match = fit(longer, shorter)
    assert match.agreement > 0.98
    judged = own_likeness(match, longer[0], shorter[0], longer[1], shorter[1])
    assert is_same(match, own(longer, shorter))  # were all frames to judge
    assert not is_same(match, judged)


def _unit_rows(rows):
    return np.array(rows) / np.linalg.norm(rows, axis=1, keepdims=True)


def test_the_order_of_arguments_only_turns_the_fit():
    path = film(1, 40, speed=0.25)
    there, back = fit(clip(path), clip(path, 12, 24)), fit(clip(path, 12, 24), clip(path))
    assert back == there.turned()


def test_the_same_frames_in_another_order_are_another_video():
    path = film(2, 20)
    forwards, backwards = clip(path), (clip(path)[0][::-1], clip(path)[1])
    assert not is_same(fit(forwards, backwards), own(forwards), 0.5)


def test_a_re_timed_copy_is_whole():
    emb, times = clip(film(3, 10))
    faster = ClipTimes(time_s_F=times.time_s_F / 1.04, duration_s=times.duration_s / 1.04)
    match = match_clips(cross_cosines(emb, emb), times, faster)
    assert match.agreement == pytest.approx(1)
    assert min(match.first_covered, match.second_covered) >= MIN_COVERED


def test_two_recordings_of_one_place_are_as_unlike_as_each_is_over_time():
    wall = np.zeros(DIM)
    wall[0] = 4.0
    shown = []
    for seed in (4, 5):
        path = wall + film(seed, 10)  # a person moves before the same wall
        shown.append(clip(path / np.linalg.norm(path, axis=1, keepdims=True)))
    match = fit(*shown)
    assert match.agreement > 0.9  # which alone would call them the same
    assert not is_same(match, own(*shown))
    assert is_same(fit(shown[0], shown[0]), own(*shown))


def test_two_frames_are_no_evidence():
    path = film(6, 60, speed=0.2)
    assert fit(clip(path), clip(path, 30, 35)) == NO_MATCH  # of 20 frames in 60 s, 2 lie within 5 s
    assert fit(clip(path, num_frames=1), clip(path, num_frames=1)) == NO_MATCH


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.3, 1), st.floats(0, 1))
def test_a_part_of_a_slow_film_always_matches(seed, share, where):
    path = film(seed, 20, speed=0.25)
    start_s = where * (1 - share) * 20
    whole, part = clip(path), clip(path, start_s, start_s + share * 20)
    match = fit(whole, part)
    assert is_same(match, own(whole, part))
    assert match.second_covered >= MIN_COVERED


def test_means_of_parts_are_near_a_clip_inside_that_the_mean_is_far_from():
    path = film(7, 60, speed=0.1)
    whole, part = clip(path)[0], clip_mean(clip(path, 15, 30)[0])
    assert clip_mean(whole) @ part < 0.9
    assert (window_means(whole) @ part).max() > 0.93
    assert window_means(whole).shape == (3 + 8, DIM)
    assert window_means(whole[:5]).shape == (0, DIM)


def facts(num_pixels=100, duration_s=5.0, num_rows=1, media_id="a", start_s=0.0):
    return ClipRank(
        num_pixels=num_pixels,
        duration_s=duration_s,
        num_rows=num_rows,
        media_id=media_id,
        clip_start_s=start_s,
        clip_end_s=9.0,
    )


def test_more_pixels_then_longer_then_more_rows_then_the_id_are_kept():
    clips = [
        facts(media_id="b"),
        facts(media_id="a"),
        facts(num_rows=2, media_id="z"),
        facts(duration_s=6.0, media_id="z"),
        facts(num_pixels=101, duration_s=1.0, media_id="z"),
    ]
    assert representative_order(clips) == [4, 3, 2, 1, 0]


def same(*pairs):
    """Pairs of (first, second, agreement, 'mutual' or who covers)."""
    first, second, agreement, covers = zip(*pairs, strict=True) if pairs else ((), (), (), ())
    return SamePairs(
        first_P=np.array(first, dtype=np.int64),
        second_P=np.array(second, dtype=np.int64),
        preference_P=np.array(agreement, dtype=np.float64),
        first_covers_P=np.array([c in ("mutual", "first") for c in covers], dtype=np.bool_),
        second_covers_P=np.array([c in ("mutual", "second") for c in covers], dtype=np.bool_),
    )


def representatives(pairs, num_clips, *, duration_s=None, num_rows=None):
    return choose_representatives(
        pairs,
        np.array(duration_s or [5.0] * num_clips),
        np.array(num_rows or [1] * num_clips, dtype=np.int64),
    ).tolist()


def test_a_chain_is_no_group():
    chain = same((0, 1, 0.99, "mutual"), (1, 2, 0.99, "mutual"))
    assert representatives(chain, 3) == [0, 0, 2]


def test_of_several_representatives_the_one_that_agrees_most_is_taken():
    assert representatives(same((0, 2, 0.95, "mutual"), (1, 2, 0.99, "mutual")), 3) == [0, 1, 1]


def test_what_contains_more_stays_whatever_its_resolution():
    inside = same((0, 1, 0.99, "second"))  # 0 has more pixels and lies inside 1
    assert representatives(inside, 2, duration_s=[5.0, 30.0]) == [1, 1]


def test_a_clip_without_rows_is_nobodys_representative():
    assert representatives(same((0, 1, 0.99, "mutual")), 2, num_rows=[0, 1]) == [-1, 1]


@st.composite
def pair_lists(draw):
    num_clips = draw(st.integers(2, 9))
    kinds = st.sampled_from(["none", "none", "mutual", "first", "second"])
    pairs = [
        (i, j, draw(st.sampled_from([0.91, 0.95, 0.99])), draw(kinds))
        for i in range(num_clips)
        for j in range(i + 1, num_clips)
    ]
    duration_s = [draw(st.sampled_from([5.0, 10.0, 20.0])) for _ in range(num_clips)]
    return num_clips, [p for p in pairs if p[3] != "none"], duration_s


@settings(max_examples=100, deadline=None)
@given(pair_lists(), st.randoms(use_true_random=False))
def test_groups_have_no_chains_and_do_not_depend_on_the_order_of_pairs(case, random):
    num_clips, pairs, duration_s = case
    representative_C = representatives(same(*pairs), num_clips, duration_s=duration_s)
    shuffled = random.sample(pairs, len(pairs))
    assert representatives(same(*shuffled), num_clips, duration_s=duration_s) == representative_C
    covers = {(i, j) for i, j, _, c in pairs if c != "second"}
    covers |= {(j, i) for i, j, _, c in pairs if c != "first"}
    for clip_, representative in enumerate(representative_C):
        assert representative_C[representative] == representative
        assert clip_ == representative or (representative, clip_) in covers
    stays = [c for c in range(num_clips) if representative_C[c] == c]
    both = {(i, j) for i, j in covers if (j, i) in covers}
    assert not any((i, j) in both for i in stays for j in stays)


def unit(rng, num_rows, dim=DIM):
    rows = rng.normal(size=(num_rows, dim))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_the_flat_index_is_brute_force():
    emb_ND = unit(np.random.default_rng(8), 3000).astype(np.float16)
    cosine_BK, row_BK = build_index(emb_ND, -1.0).search(emb_ND[:500], 20, -1.0)
    wide = emb_ND.astype(np.float64)
    wanted = wide[:500] @ wide.T
    order = np.argsort(-wanted, axis=1, kind="stable")[:, :20]
    np.testing.assert_allclose(cosine_BK, np.take_along_axis(wanted, order, 1), atol=1e-5)
    assert (row_BK == order).mean() > 0.999  # float32 may swap neighbours that are a hair apart


def test_inverted_lists_find_what_is_near(monkeypatch):
    monkeypatch.setattr(base, "FLAT_VECTORS", 100)
    rng = np.random.default_rng(9)
    vectors = unit(rng, 4000)
    near = vectors[:1000] + 0.25 * unit(rng, 1000)
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    with build_index(np.concatenate([vectors, near]).astype(np.float16), 0.93) as index:
        assert index.kind == "clusters"
        cosine_BK, row_BK = index.search(near, 3, 0.93)
    assert (np.diff(cosine_BK, axis=1)[row_BK[:, 1:] >= 0] <= 0).all()
    assert (row_BK == np.arange(1000)[:, None]).any(axis=1).mean() >= 0.99
