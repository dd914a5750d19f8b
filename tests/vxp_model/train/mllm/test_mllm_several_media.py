"""Rows of several media in the training of Video-XL-Pro: each medium at its place."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import pytest

from support import recot_runs
from support.later import LATER
from support.mllm_runs import recipe
from support.several_media import MEDIA, SEVERAL, kind_of, records
from vxp_model.train.metrics_log import read_log

if LATER:
    from vxp_model.data.frames import FrameOptions
    from vxp_model.data.loader import ShardLoader
    from vxp_model.data.sources import Source
    from vxp_model.models.byte_tokenizer import byte_tokenizer
    from vxp_model.models.processor import VideoXLProProcessor
    from vxp_model.models.visual_sequence import Kind
    from vxp_model.train.distributed import DistributedContext
    from vxp_model.train.mllm.batches import collate
    from vxp_model.train.mllm.run import train_mllm
    from vxp_model.train.recot.run import train_recot

pytestmark = pytest.mark.usefixtures("one_thread", "engine")

FACTOR, GROUP = 4, 6


@pytest.mark.parametrize("several_shards", ["video"], indirect=True)
def test_each_medium_is_shown_at_its_place(several_shards: Path) -> None:
    processor = VideoXLProProcessor(
        byte_tokenizer(), image_px=28, temporal_factor=FACTOR, group_tokens=GROUP
    )
    loader = ShardLoader(
        [Source(uri=str(several_shards), kinds=("mixed",))], frames=FrameOptions(frame_px=28)
    )
    found = records(several_shards)
    for batch in loader:
        (sample,) = batch.samples
        row_id = sample.sample_id.partition("/")[2]
        plans = [own[0] for own in found[row_id][1]["plans"]]
        inputs = collate([sample], processor=processor, seed=0).inputs
        assert inputs["clip_frames"].tolist() == [len(plan["time_s"]) for plan in plans]
        is_image = [kind_of(name) == "image" for name in MEDIA[row_id]]
        assert inputs["clip_is_image"].tolist() == is_image
        assert sample.frames_THWC is not None
        assert inputs["frames"].equal(sample.frames_THWC)
        # The words around the media, as they follow each other; a video tells its times.
        told = []
        pairs = zip(inputs["input_ids"][0].tolist(), inputs["token_kinds"][0].tolist(), strict=True)
        for is_visual, run in groupby(pairs, key=lambda pair: pair[1] in (Kind.VISUAL, Kind.IMAGE)):
            ids = [token for token, _ in run]
            told.append(len(ids) if is_visual else processor.tokenizer.decode(ids))
        wanted = []
        for plan, is_still in zip(plans, is_image, strict=True):
            groups = plan["time_s"][::FACTOR]
            wanted += [("" if is_still else f"Time {time_s:06.1f}s:", GROUP) for time_s in groups]
        assert [part for part in told if isinstance(part, int)] == [size for _, size in wanted]
        words = [part for part in told if isinstance(part, str)]
        assert all(said.endswith(time) for said, (time, _) in zip(words, wanted, strict=False))
        shown = [kind_of(name) for name in MEDIA[row_id]]
        if row_id == "lecture":  # the second image comes after the first answer
            assert f"It is {row_id}." in words[-2]
            assert shown == ["video", "image", "image"]
        assert f"What is in {row_id}?" in words[-1 if row_id != "lecture" else -2]
    loader.close()


@pytest.mark.parametrize("several_shards", ["video", "frames"], indirect=True)
def test_a_training_of_two_steps_reads_them(
    several_shards: Path, tmp_path: Path, context: DistributedContext
) -> None:
    lines: list[str] = []
    source = [{"uri": str(several_shards), "kinds": ["mixed"]}]
    loaded = recipe(str(several_shards), tmp_path / "run", run__steps=2, data__sources=source)
    train_mllm(loaded, context, lines.append)
    log = read_log(tmp_path / "run" / "log.jsonl")
    assert len(log) == 2
    assert all(entry["loss"] > 0 for entry in log)
    assert f"({-(-len(SEVERAL) // 4)} are an epoch)" in "\n".join(lines)


@pytest.mark.parametrize("several_shards", ["frames"], indirect=True)
def test_recot_says_once_what_it_does_not_read(
    several_shards: Path, tmp_path: Path, context: DistributedContext
) -> None:
    lines: list[str] = []
    train_recot(
        recot_runs.recipe(str(several_shards), tmp_path / "run", run__steps=1), context,
        lines.append,
    )  # fmt: skip
    said = [line for line in lines if "several media" in line]
    assert said == [
        f"{len(SEVERAL)} rows have several media and are not read: ReCoT takes rows of one"
    ]
