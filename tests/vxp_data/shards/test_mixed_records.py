"""The record of several media: it comes back from its JSON, and nothing else does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support import shard_fixtures as fixtures
from vxp_data.shard_format import (
    ClipRecord,
    MixedRecord,
    MixedRowRecord,
    mixed_key,
    payload_offsets,
    read_record,
)


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> MixedRecord:
    folder = tmp_path_factory.mktemp("mixed")
    video = fixtures.media_clip(fixtures.make_video(folder / "v.mp4"), ["d/1"]).record
    image = fixtures.media_clip(
        fixtures.make_image(folder / "i.png"), ["d/1"], is_image=True
    ).record
    clips = [video, image]
    about = {name: getattr(video.rows[0], name) for name in MixedRowRecord.__dataclass_fields__}
    return MixedRecord(
        format_version=2,
        key=mixed_key([clip.key for clip in clips]),
        kind="mixed",
        clips=[replace(clip, rows=[]) for clip in clips],
        payload_offset=payload_offsets([clip.payload for clip in clips]),
        sampling=video.sampling,
        provenance=video.provenance,
        rows=[MixedRowRecord(**about | {"plans": [clip.rows[0].plans for clip in clips]})],
    )


def test_it_comes_back_and_no_other_record_is_taken_for_it(record: MixedRecord) -> None:
    data = record.to_json()
    assert MixedRecord.from_json(data) == read_record(data) == record
    with pytest.raises(ValueError, match="missing"):
        ClipRecord.from_json(data)
    clip = record.clips[0]
    assert read_record(clip.to_json()) == clip
    with pytest.raises(ValueError, match="missing"):
        MixedRecord.from_json(clip.to_json())


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            ("rows", 0, "plans", 1, 0, "fps"),
            1,
            r"rows\[0\].plans\[1\]\[0\].fps is int 1, not float",
        ),
        (("rows", 0, "plans", 0), {}, r"rows\[0\].plans\[0\] is dict {}, not list"),
        (("rows", 0, "plans"), [[]], r"rows\[0\].plans are of 1 media, wanted 2"),
        (("rows", 0, "task"), None, r"rows\[0\].task is NoneType None, not str"),
        (("clips", 1, "media", "num_frames"), True, r"clips\[1\].media.num_frames is bool True"),
        (("clips", 0, "payload"), [], r"clips\[0\].payload is list, not an object"),
        (("clips", 1, "kind"), "text", r"clips are of kinds \['video', 'text'\]"),
        (("clips",), [], r"clips are of kinds \[\], wanted two or more"),
        (("payload_offset", 1), 512, r"payload_offset is \[0, 512\], wanted \[0, "),
        (("payload_offset",), [0], r"payload_offset is \[0\], wanted \[0, "),
        (("payload_offset", 0), 0.0, r"payload_offset\[0\] is float 0.0, not int"),
        (("format_version",), 1, "which format 1 does not have"),
        (("format_version",), 99, "format_version is 99"),
        (("more",), 1, r"missing \[\], unknown \['more'\]"),
    ],
)
def test_every_value_has_its_type_and_place(
    record: MixedRecord, path: tuple[Any, ...], value: Any, message: str
) -> None:
    odd = json.loads(record.to_json())
    at = odd
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    with pytest.raises(ValueError, match=message):
        read_record(json.dumps(odd).encode())


def test_keys_name_the_media_in_their_order() -> None:
    one, two = "a" * 24, "b" * 24
    keys = [mixed_key(keys) for keys in ([one, two], [two, one], [one, one], [one, two, two])]
    assert len(set(keys)) == len(keys)
    assert all(len(key) == 24 for key in keys)
    assert keys[0] == mixed_key([one, two])


def test_payloads_follow_each_other_after_a_header_each(
    record: MixedRecord, tmp_path: Path
) -> None:
    import tarfile

    sizes = [1, 512, 513, 0]
    payloads = [replace(record.clips[0].payload, num_bytes=size) for size in sizes]
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        for number, size in enumerate(sizes):
            (tmp_path / "file").write_bytes(bytes(size))
            tar.add(tmp_path / "file", f"{'a' * 24}.{number}.video")
    with tarfile.open(tmp_path / "x.tar") as tar:
        offsets = [member.offset_data for member in tar]
    assert payload_offsets(payloads) == [offset - offsets[0] for offset in offsets]
    assert payload_offsets([fixtures.NO_PAYLOAD] * 3) == [0, 0, 0]
