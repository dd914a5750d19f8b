"""What the tests of long video share: a tiny model on disk and a clip to watch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.mllm_videos import write_colours
from support.tiny_video_xl_pro import say_letters, write_tiny_video_xl_pro

if TYPE_CHECKING:
    from vxp_model.inference.session import LongVideoModel


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_video_xl_pro(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colours(tmp_path_factory.mktemp("clip") / "clip.mp4", num_frames=90, fps=2)


@pytest.fixture(scope="module")
def long_video(folder: Path) -> LongVideoModel:
    from vxp_model.inference.session import LongVideoModel

    long_video = LongVideoModel.load(folder, device="cpu")
    for model in (long_video.model, long_video.model.language_model):
        say_letters(model, long_video.processor.tokenizer)
    return long_video
