"""What the tests of long video share: a tiny model on disk and a clip to watch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.mllm_videos import write_colours

if TYPE_CHECKING:
    from vxp_model.inference.session import LongVideoModel


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    from vxp_model.models.byte_tokenizer import byte_tokenizer
    from vxp_model.models.processor import VideoXLProProcessor
    from vxp_model.models.video_xl_pro import VideoXLProForConditionalGeneration
    from vxp_model.models.video_xl_pro_config import video_xl_pro_preset

    config = video_xl_pro_preset("tiny")
    torch.manual_seed(0)
    model = VideoXLProForConditionalGeneration(config)
    folder = tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    VideoXLProProcessor.for_model(config, byte_tokenizer()).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colours(tmp_path_factory.mktemp("clip") / "clip.mp4", num_frames=90, fps=2)


@pytest.fixture(scope="module")
def long_video(folder: Path) -> LongVideoModel:
    from vxp_model.inference.session import LongVideoModel

    return LongVideoModel.load(folder, device="cpu")
