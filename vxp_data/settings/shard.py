"""Settings of shards."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vxp_data.settings.file import Settings


class ShardConfig(Settings):
    """What `vxp-data shard` writes."""

    payload: Literal["video", "frames", "none"] = "video"
    """'video': each file's own bytes. 'frames': the planned frames as images, so that training
    decodes no video. 'none': plans and URIs only."""
    shard_bytes: int = Field(1 << 30, ge=1 << 10)
    """What a shard should hold, bytes."""
    max_samples: int = Field(10_000, ge=1)
    """Most clips in a shard."""
    world_size: int = Field(1, ge=1)
    """Processes that will train; the number of shards is a multiple of this times `workers`."""
    workers: int = Field(1, ge=1)
    """Loader workers of each."""
    num_epochs: int = Field(1, ge=1, le=1000)
    """Epochs whose plans are stored; for 'frames', also whose frames are. A loader draws later
    epochs' plans itself ('frames': begins with the first again)."""
    frame_px: int = Field(384, ge=16, le=4096)
    """Side of the square to which frames are squashed, as SigLIP sees them; for 'frames'."""
    image_format: Literal["jpeg", "webp"] = "jpeg"
    """Of the frames."""
    quality: int = Field(90, ge=1, le=100)
    """Of the frames, on the image format's own scale."""
