"""From frames to visual tokens: tower, compressor, projector, pool.

Shape suffixes: V clips, F their frames (one clip after another), P groups of a chunk of T frames
each, H W grid or pixels, C channels of the tower, G groups of all clips, N tokens of a group, D the
language model's width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import SiglipVisionModel

from vxp_model.models.video_xl_pro_config import VideoXLProConfig, vision_to_transformers
from vxp_model.modules.dts import DynamicTokenSynthesizer
from vxp_model.modules.frame_groups import FrameGrouper
from vxp_model.modules.grid import GridResampler
from vxp_model.modules.projector import MlpProjector, SpatialPool2d
from vxp_model.modules.siglip import SiglipVisionTower, normalise_frames


class FrameEncoder(nn.Module):
    """Turn groups of frames into visual tokens, a few groups at a time.

    Groups never see one another, so a clip may be given in pieces of whole groups. With a temporal
    factor of 1 there is no compressor (`dts` is None): a group is one frame, and its features go
    into the projector as the tower gives them, for both have the tower's width.
    """

    def __init__(self, config: VideoXLProConfig) -> None:
        """Build it with new weights; the tower comes frozen."""
        super().__init__()
        siglip = SiglipVisionModel(vision_to_transformers(config.vision))
        self.tower = SiglipVisionTower(
            embeddings=siglip.embeddings,
            layers=siglip.encoder.layers,
            chunk_frames=config.chunk_frames,
        )
        self.dts = None if config.dts is None else DynamicTokenSynthesizer(config.dts)
        self.projector = MlpProjector(config.vision.width, config.text_width)
        self.resampler = GridResampler(config.grid)
        self.pool = SpatialPool2d(config.pool_stride)
        self.grouper = FrameGrouper(config.temporal_factor)
        self.image_px = config.vision.image_px
        self.set_chunk_frames(config.chunk_frames)

    def set_chunk_frames(self, count: int) -> None:
        """Encode so many frames at once, in whole groups, one at least."""
        self.chunk_groups = max(1, count // self.grouper.frames_per_group)
        self.tower.chunk_frames = count

    def forward(
        self,
        frames: Tensor,
        clip_frames: Sequence[int] | Tensor,
        clip_is_image: Sequence[bool] | Tensor | None = None,
    ) -> Tensor:
        """Encode.

        Args:
            frames: uint8 RGB [F, image_px, image_px, 3]; on any device, moved as they are needed.
            clip_frames: frames of each clip, [V].
            clip_is_image: which clips are still images, [V]; None: none.

        Returns:
            tokens_GND: ceil(frames / T) groups for each clip.

        Raises:
            ValueError: frames of another shape, or not as many as the clips have.
        """
        counts = [int(count) for count in clip_frames]
        images = None if clip_is_image is None else [bool(image) for image in clip_is_image]
        wanted = (sum(counts), self.image_px, self.image_px, 3)
        if tuple(frames.shape) != wanted:
            raise ValueError(f"frames must be {list(wanted)}, got {list(frames.shape)}")
        groups = self.grouper(counts, is_image=images)
        parts = [
            self._encode(frames, part) for part in torch.split(groups.frame_GT, self.chunk_groups)
        ]
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _encode(self, frames: Tensor, frame_PT: Tensor) -> Tensor:
        place = self.projector.up.weight
        used, index_PT = frame_PT.unique(return_inverse=True)  # type: ignore[no-untyped-call]
        pixels_FCHW = normalise_frames(frames[used.to(frames.device)].to(place.device))
        features_FCHW = self.resampler(self.tower(pixels_FCHW))
        features_FHWC = features_FCHW.permute(0, 2, 3, 1).to(place.dtype)
        x_PTHWC = features_FHWC[index_PT.to(place.device)]
        if self.dts is not None:
            x_PTHWC = self.dts(x_PTHWC.permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1)
        y_PNC = x_PTHWC.flatten(1, 3)
        tokens_PND: Tensor = self.pool(self.projector(y_PNC))
        return tokens_PND
