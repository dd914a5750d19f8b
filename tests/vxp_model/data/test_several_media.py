"""Rows of several media out of the shards: their own frames, in order, or another row instead."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.later import LATER
from support.several_media import (
    MEDIA,
    SEVERAL,
    kind_of,
    messages,
    records,
    shown_frames,
    write_shards,
)
from vxp_model.data.frames import FrameOptions
from vxp_model.data.order import BatchRule, OrderRule
from vxp_model.errors import UserError

if LATER:
    from vxp_model.data.loader import ShardLoader
    from vxp_model.data.sample import TrainSample
    from vxp_model.data.seeded_draws import WindowRule
    from vxp_model.data.sources import Source

PX = 48

pytestmark = pytest.mark.usefixtures("engine")


def samples_of(shards: Path, epochs: int = 1, **more: Any) -> Iterator[TrainSample]:
    values = {"frames": FrameOptions(frame_px=PX), "order": OrderRule(shuffle=False)} | more
    loader = ShardLoader(str(shards), **values)
    for _ in range(epochs):
        for batch in loader:
            yield from batch.samples
    loader.close()
    assert loader.replaced == []


def row_id(sample: TrainSample) -> str:
    return sample.sample_id.partition("/")[2]


def parts(sample: TrainSample) -> list[Any]:
    assert sample.frames_THWC is not None
    sizes = [medium.num_frames for medium in sample.media]
    assert len(sample.frames_THWC) == len(sample.time_s_T) == sum(sizes)
    return list(zip(sample.frames_THWC.split(sizes), sample.time_s_T.split(sizes), strict=True))


def test_every_medium_gives_its_own_frames_in_order(
    several_run: Path, several_shards: Path
) -> None:
    """Two epochs are stored; the third is drawn, but for frames payloads, which repeat."""
    media, found = several_run.parent / "media", records(several_shards)
    further = several_shards.parent / "three"
    if not further.exists():
        write_shards(several_run, further, "none", shard__num_epochs=3)
    third = records(further)
    seen = []
    for sample in samples_of(several_shards, epochs=3):
        name = row_id(sample)
        seen.append((sample.epoch, name))
        assert sample.kind == ("mixed" if name in SEVERAL else
                               kind_of(MEDIA[name][0]) if MEDIA[name] else "text")  # fmt: skip
        assert [medium.kind for medium in sample.media] == [kind_of(n) for n in MEDIA[name]]
        assert [turn.message for turn in sample.conversation] == messages(name)
        if name not in SEVERAL:
            continue
        epoch = sample.epoch
        if epoch == 2 and several_shards.name == "frames":
            plans = [own[0] for own in found[name][1]["plans"]]
        else:
            plans = [own[epoch] for own in third[name][1]["plans"]]
        assert sample.fps == 0.0
        assert [medium.fps for medium in sample.media] == [plan["fps"] for plan in plans]
        for (frames, times), plan, file in zip(parts(sample), plans, MEDIA[name], strict=True):
            assert times.tolist() == plan["time_s"]
            assert shown_frames(frames.numpy(), media / file) == plan["frame_index"]
    assert sorted(seen) == sorted((epoch, name) for epoch in range(3) for name in MEDIA)


@pytest.mark.parametrize("several_shards", ["none"], indirect=True)
def test_batches_count_the_frames_of_all_media(several_shards: Path) -> None:
    source = Source(uri=str(several_shards), kinds=("mixed",))
    loader = ShardLoader([source], batch=BatchRule(max_samples=9, max_frames=40), frames=None)
    batches = list(loader)
    planned = [sum(len(own[0]["frame_index"]) for own in row["plans"])
               for _, row in records(several_shards).values()]  # fmt: skip
    assert sorted(len(s.time_s_T) for b in batches for s in b.samples) == sorted(planned)
    assert all(batch.num_frames <= 40 for batch in batches)
    assert max(len(batch.samples) for batch in batches) > 1


@pytest.mark.parametrize("several_shards", ["video"], indirect=True)
def test_a_window_is_cut_out_of_every_video(several_run: Path, several_shards: Path) -> None:
    source = [Source(uri=str(several_shards), kinds=("mixed",))]
    loader = ShardLoader(source, frames=FrameOptions(frame_px=PX), window=WindowRule(num_frames=2))
    for batch in loader:
        (sample,) = batch.samples
        wanted = [1 if kind_of(name) == "image" else 2 for name in MEDIA[row_id(sample)]]
        assert [medium.num_frames for medium in sample.media] == wanted
        for (frames, _), name in zip(parts(sample), MEDIA[row_id(sample)], strict=True):
            shown = shown_frames(frames.numpy(), several_run.parent / "media" / name)
            assert shown == sorted(shown)
    loader.close()


@pytest.mark.parametrize("several_shards", ["video"], indirect=True)
def test_frames_of_the_files_own_sizes_are_refused_where_media_are_together(
    several_shards: Path,
) -> None:
    own_size = FrameOptions(frame_px=None)
    with pytest.raises(UserError, match=rf"frame_px is None, and {len(SEVERAL)} rows have several"):
        ShardLoader(str(several_shards), frames=own_size)
    one_medium = Source(uri=str(several_shards), kinds=("video", "image", "text"))
    loader = ShardLoader([one_medium], frames=own_size)
    assert len(loader) == len(MEDIA) - len(SEVERAL)


@pytest.mark.parametrize("medium", [0, 1])
@pytest.mark.parametrize("payload", ["video", "frames", "none"])
def test_a_broken_medium_replaces_the_whole_sample(
    several_run: Path, tmp_path: Path, payload: str, medium: int
) -> None:
    out = tmp_path / "shards"
    write_shards(several_run, out, payload)
    record, _ = records(out)["two"]
    broken = {row_id for row_id, (other, _) in records(out).items()
              if other["key"] == record["key"]}  # fmt: skip
    assert broken == {"two", "two-again", "two-copied"}
    if payload == "none":
        uri = record["clips"][medium]["media"]["uri"].encode()
        (shard,) = [path for path in out.glob("mixed-*.tar") if record["key"].encode() in
                    path.read_bytes()]  # fmt: skip
        _overwrite(shard, record["key"], uri, uri[:-1] + b"_")
    else:
        _scramble(out, record, medium)
    loader = ShardLoader([Source(uri=str(out), kinds=("mixed",))], frames=FrameOptions(frame_px=PX))
    samples = [sample for batch in loader for sample in batch.samples]
    loader.close()
    gone = {entry.sample_id.partition("/")[2]: entry for entry in loader.replaced}
    assert gone.keys() == broken
    assert len(samples) == len(SEVERAL)
    for sample in samples:
        assert row_id(sample) not in broken
        assert [medium.kind for medium in sample.media] == [
            kind_of(name) for name in MEDIA[row_id(sample)]
        ]


def _scramble(out: Path, record: dict[str, Any], medium: int) -> None:
    """Overwrite one payload of a record with noise, and nothing around it."""
    suffix = record["clips"][medium]["payload"]["suffix"]
    for path in out.glob("mixed-*.tar"):
        with tarfile.open(path) as tar:
            found = {m.name: (m.offset_data, m.size) for m in tar}
        name = f"{record['key']}.{medium}.{suffix}"
        if name in found:
            start, size = found[name]
            with path.open("r+b") as file:
                file.seek(start)
                file.write(os.urandom(size))


def _overwrite(path: Path, key: str, old: bytes, new: bytes) -> None:
    """Change bytes of one record's JSON, in its place."""
    with tarfile.open(path) as tar:
        member = tar.getmember(f"{key}.json")
    with path.open("r+b") as file:
        file.seek(member.offset_data)
        data = file.read(member.size)
        file.seek(member.offset_data)
        file.write(data.replace(b'"uri":"' + old, b'"uri":"' + new))
