"""A missing file stays missing; its message names the one that is there under nearly that name."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from support.big_videos import read_one
from support.s3 import Bucket
from vxp_data.pipeline.media.clips import ClipReader
from vxp_data.pipeline.media.near_names import near_file, other_spellings
from vxp_data.records import Reason
from vxp_data.settings.prune import DecodeConfig, FetchConfig, FramesConfig

COMPOSED = unicodedata.normalize("NFC", "café.mp4")
DECOMPOSED = unicodedata.normalize("NFD", "café.mp4")
NAMES = {
    "composed": (COMPOSED, DECOMPOSED),
    "decomposed": (DECOMPOSED, COMPOSED),
    "quoted": ("my%20clip.mp4", "my clip.mp4"),
    "unquoted": ("my clip.mp4", "my%20clip.mp4"),
    "backslash": ("sub\\clip.mp4", "sub/clip.mp4"),
    "backslash_in_name": ("sub/clip.mp4", "sub\\clip.mp4"),
    "capitals": ("Clip.MP4", "clip.mp4"),
    "folder_in_capitals": ("Videos/clip.mp4", "videos/clip.mp4"),
    "all_at_once": ("Sub\\CAF%C3%89.mp4", f"sub/{DECOMPOSED}"),
}
"""What a row says, and what is there."""


@pytest.mark.parametrize("kind", NAMES)
def test_the_file_that_is_there_is_named(kind: str, tmp_path: Path) -> None:
    said, there = NAMES[kind]
    path = tmp_path / there
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    (tmp_path / "another.mp4").touch()
    assert near_file(f"{tmp_path}/{said}") == str(path)


def test_relative_paths_stay_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a").mkdir()
    Path("a/b.mp4").touch()
    assert near_file("a/B.mp4") == near_file("./A/b.MP4") == "a/b.mp4"


@pytest.mark.parametrize("said", ["other.mp4", "clip.mp4/x", "clip", "no/clip.mp4", "a\0b", ""])
def test_a_name_like_no_other_has_none(said: str, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").touch()
    (tmp_path / "folder").mkdir()
    assert near_file(f"{tmp_path}/{said}") == ""
    assert near_file(f"{tmp_path}/Folder") == ""


def test_a_missing_file_stays_missing_and_its_message_names_the_other(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").touch()
    with ClipReader(FramesConfig(), DecodeConfig(), 96) as reader:
        near = read_one(reader, f"{tmp_path}/Clip.mp4")
        none = read_one(reader, f"{tmp_path}/other.mp4")
    assert (near.reason, none.reason) == (Reason.MISSING, Reason.MISSING)
    assert f"there is '{tmp_path}/clip.mp4'" in near.message
    assert none.message == f"no file {tmp_path}/other.mp4"


@pytest.mark.parametrize("kind", ["composed", "decomposed", "quoted", "unquoted", "backslash"])
def test_an_object_of_a_store_is_named_too(kind: str, s3: Bucket, tmp_path: Path) -> None:
    said, there = NAMES[kind]
    s3.put(f"v/{there}", b"x")
    fetch = FetchConfig(scratch_dir=str(tmp_path), attempts=2, timeout_s=10)
    with ClipReader(FramesConfig(), DecodeConfig(), 96, fetch) as reader:
        near = read_one(reader, f"{s3.uri}/v/{said}")
        none = read_one(reader, f"{s3.uri}/v/other.mp4")
    assert (near.reason, none.reason) == (Reason.MISSING, Reason.MISSING)
    assert f"v/{there}"[2:].replace("\\", "\\\\") in near.message.partition("there is")[2]
    assert "there is" not in none.message


def test_spellings_of_an_object_are_few_and_never_its_own() -> None:
    spellings = list(other_spellings("s3://bucket/A b/Clip.MP4"))
    assert "s3://bucket/A b/Clip.mp4" in spellings
    assert "s3://bucket/A%20b/Clip.MP4" in spellings
    assert "s3://bucket/A b/Clip.MP4" not in spellings
    assert len(spellings) == len(set(spellings)) < 8
    assert list(other_spellings("s3://bucket/clip")) == ["s3://bucket/CLIP"]
