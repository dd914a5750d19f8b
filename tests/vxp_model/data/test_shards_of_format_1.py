"""Shards that earlier versions wrote give the samples that they gave."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support.format_1 import PAYLOADS, stored_shards
from support.later import LATER
from vxp_data.pipeline.verify.shards import verify_shards
from vxp_data.shard_format import INDEX_NAME
from vxp_data.storage.folder import open_folder

if LATER:
    from vxp_model.data.frames import FrameOptions
    from vxp_model.data.index import load_index
    from vxp_model.data.loader import ShardLoader
    from vxp_model.models.byte_tokenizer import byte_tokenizer
    from vxp_model.models.processor import VideoXLProProcessor
    from vxp_model.train.mllm.batches import collate

if TYPE_CHECKING:
    from torch import Tensor

    from vxp_model.data.sample import TrainSample


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stored_shards(tmp_path_factory.mktemp("format-1"))


def samples(uri: str) -> Iterator[TrainSample]:
    """Three epochs: two are stored, the third is drawn."""
    loader = ShardLoader(uri, frames=FrameOptions(frame_px=28))
    for _ in range(3):
        for batch in loader:
            yield from batch.samples
    loader.close()


def digest(values: Tensor) -> str:
    return hashlib.sha256(values.numpy().tobytes()).hexdigest()


def told(sample: TrainSample, processor: VideoXLProProcessor, with_pixels: bool) -> dict[str, Any]:
    names = ("sample_id", "dataset", "task", "kind", "key", "epoch", "position", "fps")
    frames, tokens = sample.frames_THWC, collate([sample], processor=processor, seed=1).inputs
    return {
        **{name: getattr(sample, name) for name in (*names, "num_inexact", "annotation")},
        "time_s": sample.time_s_T.tolist(),
        "frames_shape": None if frames is None else list(frames.shape),
        "frames_sha256": digest(frames) if frames is not None and with_pixels else "",
        "input_ids_sha256": digest(tokens["input_ids"]),
        "labels_sha256": digest(tokens["labels"]),
    }


@pytest.mark.parametrize("payload", PAYLOADS)
def test_they_give_the_samples_that_they_gave(stored: Path, payload: str) -> None:
    processor = VideoXLProProcessor(byte_tokenizer(), image_px=28, group_tokens=4)
    wanted = json.loads((stored / "samples.json").read_text(encoding="utf-8"))[payload]
    with_pixels = payload == "frames"  # of a video, they are the FFmpeg's at hand
    if not with_pixels:
        wanted = [sample | {"frames_sha256": ""} for sample in wanted]
    found = [told(one, processor, with_pixels) for one in samples(str(stored / payload))]
    assert len(found) == 21
    assert found == wanted


@pytest.mark.parametrize("payload", PAYLOADS)
def test_they_are_whole_and_have_no_facts_of_their_words(stored: Path, payload: str) -> None:
    assert json.loads((stored / payload / INDEX_NAME).read_bytes())["format_version"] == 1
    verified = verify_shards(open_folder(str(stored / payload)))
    assert (verified.problems, verified.num_samples) == ([], 7)
    table = load_index(str(stored / payload))
    assert len(table) == 7
    assert table.facts is None
