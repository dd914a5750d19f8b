"""Markers become places of media, or stay words."""

from __future__ import annotations

import pytest

from vxp_data.conversation import Part, Role, Turn
from vxp_data.media_markers import marked_text, num_markers, place_media

ROLES = {"S": Role.SYSTEM, "U": Role.USER, "A": Role.ASSISTANT, "T": Role.TOOL}


def said(*turns: str) -> list[Turn]:
    """Turns written as 'U what the user says'."""
    return [Turn.of_text(ROLES[turn[0]], turn[2:]) for turn in turns]


def places(turns: tuple[Turn, ...]) -> list[str | list[str]]:
    """Write each turn's text, or its parts: '@video' for a place."""
    return [
        [part.text or f"@{part.type}" for part in turn.parts] if turn.num_media else turn.text
        for turn in turns
    ]


ONE = [
    ("U <video>\nWhat?", ["@video", "What?"]),
    ("U <image>\nWhat?", ["@video", "What?"]),  # LLaVA's marker of everything
    ("U <video>What?", ["@video", "What?"]),
    ("U <video>\n\nWhat?", ["@video", "\nWhat?"]),
    ("U <video>", ["@video"]),
    ("U What?\n<video>", ["What?\n", "@video"]),
    ("U What?\n<video>\nSay.", ["What?\n", "@video", "\nSay."]),
    ("U What is in <video>, then?", ["What is in ", "@video", ", then?"]),
    ("U What?", ["@video", "What?"]),
    ("U <video>\nWhat is <video> in HTML?", ["@video", "What is <video> in HTML?"]),
    ("U What is <video> in HTML?\n<video>", ["What is <video> in HTML?\n", "@video"]),
    ("U <video>\nIs it <img> or <video>", ["@video", "Is it <img> or <video>"]),
    ("U <image>\n<video>\nWhat?", ["@video", "What?"]),  # its own kind's comes first
    ("U <video>\n<video>\nWhat?", ["@video", "What?"]),
    ("U What?\n<video>\nSay.\n<video>\nNow.", ["What?\n", "@video", "\nSay.\nNow."]),
    ("U <VIDEO> or <videos>?", ["@video", "<VIDEO> or <videos>?"]),
]  # fmt: skip


@pytest.mark.parametrize(("turn", "wanted"), ONE)
def test_one_video_has_one_place(turn: str, wanted: list[str]) -> None:
    placed = place_media(said(turn, "A An <image>."), ["video"])
    assert places(placed) == [wanted, "An <image>."]
    assert place_media([*placed], ["video"]) == placed  # there is nothing left to place


@pytest.mark.parametrize("turn", [turn for turn, _ in ONE])
@pytest.mark.parametrize("markers", [None, {"video": "<image>", "image": "<image>"}])
def test_a_written_marker_is_read_back(turn: str, markers: dict[str, str] | None) -> None:
    placed = place_media(said(turn, "A An <image>."), ["video"])
    texts = [marked_text(one, *([markers] if markers else [])) for one in placed]
    again = place_media(said(f"U {texts[0]}", f"A {texts[1]}"), ["video"])
    assert again == placed


def test_only_the_user_shows_media_and_only_where_the_row_has_them() -> None:
    words = ("S The tag <video>.", "U <image>\nWhat?", "A <video>\nOne.", "T <image>", "U <image>")
    assert places(place_media(said(*words), [])) == [word[2:] for word in words]
    assert places(place_media(said(*words), ["image"])) == [
        "The tag <video>.", ["@image", "What?"], "<video>\nOne.", "<image>", "",
    ]  # fmt: skip
    repeated = said("U <video>\nOne?", "A 1", "U <video>\nTwo?", "A 2")
    assert places(place_media(repeated, ["video"])) == [["@video", "One?"], "1", "Two?", "2"]
    later = said("U Hello.", "A Hi.", "U <video>\nWhat?", "A A cat.")
    assert places(place_media(later, ["video"]))[2] == ["@video", "What?"]


def test_a_medium_without_a_question_is_shown_before_the_answer() -> None:
    assert places(place_media(said("S Be brief.", "A A cat."), ["image"])) == [
        "Be brief.", ["@image"], "A cat.",
    ]  # fmt: skip
    assert place_media([], ["video"]) == ()


def test_several_media_go_to_their_markers_in_order() -> None:
    asked = said("U Compare <image> with <image>.", "A No.", "U <video>\nAnd?", "A Yes.")
    kinds = ["image", "image", "video"]
    assert places(place_media(asked, kinds)) == [
        ["Compare ", "@image", " with ", "@image", "."], "No.", ["@video", "And?"], "Yes.",
    ]  # fmt: skip
    few = place_media(said("U What?", "A No.", "U <video>\nAnd?", "A Yes."), ["image", "video"])
    assert places(few) == [["@image", "What?"], "No.", ["@video", "And?"], "Yes."]
    run = place_media(said("U <image>\n<image>\nWhich?", "A B"), ["image", "image"])
    assert places(run)[0] == ["@image", "@image", "Which?"]
    assert marked_text(run[0]) == "<image>\n<image>\nWhich?"


def test_parts_are_surer_than_words() -> None:
    asked = Turn(Role.USER, (Part("text", "<video>\nWhat?"), Part("video")))
    placed = place_media([asked], ["video"])
    assert places(placed) == [["What?", "@video"]]
    spare = Turn(Role.USER, (Part("video"), Part("video"), Part("text", "What?")))
    assert places(place_media([spare], ["video"])) == [["@video", "What?"]]
    with pytest.raises(ValueError, match="turn 1 shows a video, and the row names none"):
        place_media([asked], [])
    told = Turn(Role.ASSISTANT, (Part("image"),))
    with pytest.raises(
        ValueError, match="turn 2, the assistant's, shows media of type image, wanted text"
    ):
        place_media([asked, told], ["video"])


def test_markers_are_counted_where_users_write_them() -> None:
    turns = place_media(said("U <video>\nWhat is <image> here?", "A <image>", "U Why?"), ["video"])
    assert num_markers(turns) == 2
    assert num_markers(place_media(said("U <image> and <image>", "A <video>"), [])) == 2
