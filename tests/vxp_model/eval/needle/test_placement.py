"""Where needles stand, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from support.needles import NumberedFilm, grey_frame, greys_of
from vxp_model.errors import UserError
from vxp_model.eval.needle.placement import HaystackVideo, Placement, at_depth, place, spread


def shown(length: int, befores: list[int], greys: list[int], **options: object) -> list[int]:
    placement = place(length, befores, **options)  # type: ignore[arg-type]
    images = [grey_frame(grey) for grey in greys]
    return greys_of(HaystackVideo(NumberedFilm(), placement, images, name="film"))


@pytest.mark.parametrize(
    ("depth", "greys"),
    [
        (0.0, [250, 0, 1, 2, 3, 4, 5, 6, 7]),
        (0.25, [0, 1, 250, 2, 3, 4, 5, 6, 7]),
        (0.5, [0, 1, 2, 3, 250, 4, 5, 6, 7]),
        (1.0, [0, 1, 2, 3, 4, 5, 6, 7, 250]),
    ],
)
def test_a_needle_is_inserted_before_the_frame_at_its_depth(depth, greys):
    assert shown(8, at_depth(8, depth), [250], mode="insert") == greys


@pytest.mark.parametrize(
    ("depth", "greys"),
    [
        (0.0, [250, 1, 2, 3, 4, 5, 6, 7]),
        (0.5, [0, 1, 2, 3, 250, 5, 6, 7]),
        (1.0, [0, 1, 2, 3, 4, 5, 6, 250]),
    ],
)
def test_a_needle_stands_in_place_of_a_frame(depth, greys):
    assert shown(8, at_depth(8, depth), [250], mode="replace") == greys


def test_a_depth_within_a_frame_is_cut_off():
    assert at_depth(187, 0.25) == [46]  # 46.75
    assert at_depth(3000, 0.2) == [600]


def test_without_a_needle_the_film_is_shown_as_it_is():
    video = HaystackVideo(NumberedFilm(), Placement(length=5, mode="insert"), name="control")
    assert greys_of(video) == [0, 1, 2, 3, 4]
    assert video.plan.time_s == (0, 1, 2, 3, 4)
    assert video.plan.duration_s == 5


@pytest.mark.parametrize(
    ("before", "offset", "at"),
    [
        (4, 0, 4),
        (4, 1, 5),
        (4, 2, 2),  # 2 and 6 are as near: the earlier
        (4, 3, 3),
        (0, 3, 3),
        (0, 0, 0),
        (8, 0, 8),
        (8, 1, 5),  # 9 would be the nearest, and there are 9 frames
        (8, 3, 7),
    ],
)
def test_a_needle_is_moved_to_its_place_in_a_group(before, offset, at):
    placement = place(8, [before], mode="insert", offset=offset)
    assert placement.at == (at,)
    assert placement.groups(4) == (at // 4,)


@pytest.mark.parametrize("offset", [None, 0, 1, 2, 3])
@pytest.mark.parametrize("mode", ["insert", "replace"])
def test_every_needle_of_a_chain_is_at_its_offset_and_all_frames_are_shown(mode, offset):
    placement = place(64, spread(64, 5), mode=mode, offset=offset)
    images = [grey_frame(grey) for grey in (250, 251, 252, 253, 254)]
    video = HaystackVideo(NumberedFilm(), placement, images, name="film")
    greys = greys_of(video)
    assert [greys[index] for index in placement.at] == [250, 251, 252, 253, 254]
    film = [grey for grey in greys if grey < 250]
    if mode == "insert":
        assert film == list(range(64))
        assert len(greys) == 69
    else:
        assert len(greys) == 64
        assert all(greys[i] == i for i in range(64) if i not in placement.at)
    if offset is not None:
        assert {index % 4 for index in placement.at} == {offset}


def test_a_chain_is_spread_from_before_the_first_frame_to_behind_the_last():
    assert spread(8, 5) == [0, 2, 4, 6, 8]
    assert shown(8, spread(8, 5), [250, 251, 252, 253, 254], mode="insert") == [
        250, 0, 1, 251, 2, 3, 252, 4, 5, 253, 6, 7, 254
    ]  # fmt: skip
    assert shown(8, spread(8, 3), [250, 251, 252], mode="replace") == [
        250, 1, 2, 3, 251, 5, 6, 252
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "depth", "offset", "greys"),
    [
        ("insert", 0.5, None, [0, 1, 2, 250, 251, 252, 3, 4, 5]),
        ("insert", 0.5, 2, [0, 1, 250, 251, 252, 2, 3, 4, 5]),
        ("insert", 1.0, None, [0, 1, 2, 3, 4, 5, 250, 251, 252]),
        ("insert", 1.0, 3, [0, 1, 2, 250, 251, 252, 3, 4, 5]),  # 7 to 9 would be one too many
        ("replace", 0.5, None, [0, 1, 2, 250, 251, 252]),
        ("replace", 1.0, None, [0, 1, 2, 250, 251, 252]),
        ("replace", 0.0, None, [250, 251, 252, 3, 4, 5]),
    ],
)
def test_a_short_clip_stays_together(mode, depth, offset, greys):
    befores = at_depth(6, depth)
    images = [250, 251, 252]
    assert shown(6, befores, images, mode=mode, num_each=3, offset=offset) == greys


def test_times_move_by_a_step_behind_each_inserted_frame():
    film = NumberedFilm()
    times_s = [0.0, 2.5, 5.0, 7.5]
    film.time_s = lambda length: tuple(times_s[:length])  # type: ignore[method-assign]
    images = [grey_frame(250), grey_frame(251)]

    def times_of(befores: list[int], mode: str) -> tuple[float, ...]:
        placement = place(4, befores, mode=mode)  # type: ignore[arg-type]
        return HaystackVideo(film, placement, images[: len(befores)], name="film").plan.time_s

    assert times_of([2], "insert") == (0, 2.5, 5.0, 7.5, 10.0)
    assert times_of([0, 4], "insert") == (0, 2.5, 5.0, 7.5, 10.0, 12.5)
    assert times_of([2], "replace") == (0, 2.5, 5.0, 7.5)


def test_frames_come_in_pieces_of_the_wanted_size_and_again():
    placement = place(8, [4], mode="insert")
    video = HaystackVideo(NumberedFilm(), placement, [grey_frame(250)], name="film")
    for _ in range(2):
        pieces = list(video.pieces(frame_px=6, piece_frames=4))
        assert [piece.shape for piece in pieces] == [(4, 6, 6, 3), (4, 6, 6, 3), (1, 6, 6, 3)]
    assert all(piece.dtype == np.uint8 for piece in pieces)
    assert video.plan.frame_index == tuple(range(9))


def test_only_what_is_asked_for_is_read():
    film = NumberedFilm()
    video = HaystackVideo(film, place(8192, [0], mode="insert"), [grey_frame(250)], name="film")
    assert film.num_read == 0
    pieces = video.pieces(frame_px=None, piece_frames=4)
    next(pieces)
    assert film.num_read == 3


def test_too_short_a_haystack_for_a_chain_is_refused():
    with pytest.raises(UserError, match="5 images have no room of their own in a haystack of 4"):
        place(4, spread(4, 5), mode="replace")
    with pytest.raises(UserError, match="3 images have no room"):
        place(2, [0], mode="replace", num_each=3)
    with pytest.raises(UserError, match="number 3 of its group of 4"):
        place(2, [0], mode="insert", offset=3)
