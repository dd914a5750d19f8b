"""ReCoT: learn to compress tokens by rebuilding those of a frozen vision tower.

Shape suffixes: F frames of a batch of clips, H W grid (or pixels), C channels; G groups, T frames
of a group, N = H W tokens of a frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from vxp_model.models.recot_config import ReCoTConfig
from vxp_model.modules.decoder import ReconstructionDecoder
from vxp_model.modules.dts import DynamicTokenSynthesizer
from vxp_model.modules.frame_groups import FrameGrouper, FrameGroups
from vxp_model.modules.grid import GridResampler
from vxp_model.modules.mask_diagnostics import mask_diagnostics
from vxp_model.modules.masking import Masked, SemanticGuidedMasking
from vxp_model.modules.siglip import SiglipVisionTower, normalise_frames


@dataclass(frozen=True, slots=True, kw_only=True)
class ReCoTOutput:
    """One forward pass."""

    loss: Tensor
    """Scalar float32, what to minimise: `reconstruction_loss`, and the ranking loss if chosen."""

    reconstruction_loss: Tensor
    """Scalar float32: mean over the frames that count of the weighted mean over a frame's tokens of
    the mean squared error over channels. Every frame weighs the same, whether it is masked or not:
    by the number of frames, the means of several batches or processes are put together."""

    error_GTN: Tensor
    """float32, detached: each token's mean squared error, padding included."""

    reconstruction_GTNC: Tensor
    """What the decoder made."""

    masked: Masked
    """Mask and scores; its tokens are what entered the compressor."""

    diagnostics: dict[str, Tensor]
    """See `mask_diagnostics`; empty when not asked for."""


class ReCoTModel(nn.Module):
    """Tower (frozen), masking, compressor and decoder.

    Source: the paper, section 3.2.
    """

    def __init__(self, config: ReCoTConfig, *, tower: SiglipVisionTower | None = None) -> None:
        """Build compressor, decoder and masking with new weights.

        Args:
            config: their shapes.
            tower: with weights, of the config's shape; None when only cached features come in.
        """
        super().__init__()
        self.config = config
        self.tower = tower
        self.resampler = GridResampler(config.grid)
        self.grouper = FrameGrouper(config.dts.temporal_factor)
        self.sgm = SemanticGuidedMasking(config.sgm, width=config.dts.width)
        self.dts = DynamicTokenSynthesizer(config.dts)
        self.decoder = ReconstructionDecoder(config.dts)

    @property
    def checkpoint_stages(self) -> bool:
        """Run the stages of compressor and decoder again in the backward pass, to save memory."""
        return self.dts.checkpoint_stages

    @checkpoint_stages.setter
    def checkpoint_stages(self, value: bool) -> None:
        self.dts.checkpoint_stages = self.decoder.checkpoint_stages = value

    def features(self, frames_FHWC: Tensor) -> Tensor:
        """Return the tower's features on the token grid: what a feature cache holds.

        Args:
            frames_FHWC: uint8 RGB [F, image_px, image_px, 3].

        Returns:
            features_FCHW: [F, C, grid, grid] in the tower's dtype, channels_last.

        Raises:
            ValueError: no tower; frames of another shape or dtype.
        """
        if self.tower is None:
            raise ValueError("this model was built without a vision tower: give it features_FCHW")
        side = self.config.vision.image_px
        if tuple(frames_FHWC.shape[1:3]) != (side, side):
            raise ValueError(f"frames must be {side} x {side} px, got {list(frames_FHWC.shape)}")
        features_FCHW: Tensor = self.resampler(self.tower(normalise_frames(frames_FHWC)))
        return features_FCHW

    def forward(
        self,
        *,
        groups: FrameGroups,
        frames_FHWC: Tensor | None = None,
        features_FCHW: Tensor | None = None,
        mask_ratio: float | None = None,
        noise_GTN: Tensor | None = None,
        whole_G: Tensor | None = None,
        generator: torch.Generator | None = None,
        mask_GTN: Tensor | None = None,
        with_diagnostics: bool = False,
    ) -> ReCoTOutput:
        """Mask, compress, rebuild, compare.

        Args:
            groups: how the frames are grouped (`self.grouper`), on the features' device.
            frames_FHWC: uint8 RGB frames of all clips, one clip after another; or
            features_FCHW: what `features` gave for them. One of the two.
            mask_ratio: share to mask; None: the config's.
            noise_GTN: see `SemanticGuidedMasking.forward`.
            whole_G: see there, `whole_B`.
            generator: see there.
            mask_GTN: bool; hide these tokens, also in eval mode, instead of choosing by score: how
                models trained with different maskings are compared.
            with_diagnostics: compute them.

        Returns:
            output: loss in fp32. Padding counts neither in the loss nor in the diagnostics.
        """
        if (frames_FHWC is None) == (features_FCHW is None):
            raise ValueError("give frames_FHWC or features_FCHW, one of the two")
        if features_FCHW is None:
            assert frames_FHWC is not None
            features_FCHW = self.features(frames_FHWC)
        features_FNC = features_FCHW.flatten(2).transpose(1, 2).to(self.dts.time_code.dtype)
        x_GTNC = groups.gather(features_FNC)
        prev_GNC = features_FNC[groups.previous_G]
        if mask_GTN is not None:
            masked = self._hide(x_GTNC, prev_GNC, groups, mask_GTN)
        else:
            masked = self.sgm(
                x_GTNC,
                prev_BNC=prev_GNC,
                copy_of_BT=groups.copy_of_GT,
                ratio=mask_ratio,
                noise_BTN=noise_GTN,
                whole_B=whole_G,
                generator=generator,
            )
        reconstruction_GTNC = self._rebuild(masked.x_BTNC)
        squared_GTNC = (reconstruction_GTNC.float() - self.target(x_GTNC)).square()
        error_GTN = squared_GTNC.mean(-1)
        weight_GTN = torch.where(
            masked.mask_BTN, self.config.masked_weight, self.config.visible_weight
        )
        # A frame in which no token has a weight has no loss.
        frame_GT = (error_GTN * weight_GTN).sum(-1) / weight_GTN.sum(-1).clamp_min(1e-12)
        loss = reconstruction_loss = (frame_GT * groups.valid_GT).sum() / groups.valid_GT.sum()
        if self.config.sgm.ranks and self.training:
            rank = self.sgm.rank_loss(masked, error_GTN, groups.valid_GT)
            loss = loss + self.config.sgm.rank_weight * rank
        error_GTN = error_GTN.detach()
        return ReCoTOutput(
            loss=loss,
            reconstruction_loss=reconstruction_loss,
            error_GTN=error_GTN,
            reconstruction_GTNC=reconstruction_GTNC,
            masked=masked,
            diagnostics=self._diagnostics(x_GTNC, prev_GNC, masked, error_GTN, groups)
            if with_diagnostics
            else {},
        )

    def _hide(
        self, x_GTNC: Tensor, prev_GNC: Tensor, groups: FrameGroups, mask_GTN: Tensor
    ) -> Masked:
        scores_GTN = self.sgm.scores(x_GTNC, prev_BNC=prev_GNC, copy_of_BT=groups.copy_of_GT)
        hidden_GTNC = self.sgm.hide(x_GTNC, mask_GTN)
        return Masked(x_BTNC=hidden_GTNC, mask_BTN=mask_GTN, scores_BTN=scores_GTN)

    def _rebuild(self, x_GTNC: Tensor) -> Tensor:
        side = self.config.grid
        x_GTHWC = x_GTNC.reshape(*x_GTNC.shape[:2], side, side, x_GTNC.shape[-1])
        x_GCTHW = x_GTHWC.permute(0, 4, 1, 2, 3)
        rebuilt_GCTHW: Tensor = self.decoder(self.dts(x_GCTHW))
        return rebuilt_GCTHW.permute(0, 2, 3, 4, 1).flatten(2, 3)

    def target(self, x_GTNC: Tensor) -> Tensor:
        """Return what is rebuilt of such tokens, float32: see the config's `target_norm`."""
        target_GTNC = x_GTNC.detach().float()
        if self.config.target_norm == "layernorm":
            return functional.layer_norm(target_GTNC, target_GTNC.shape[-1:])
        return target_GTNC

    @torch.no_grad()
    def _diagnostics(
        self,
        x_GTNC: Tensor,
        prev_GNC: Tensor,
        masked: Masked,
        error_GTN: Tensor,
        groups: FrameGroups,
    ) -> dict[str, Tensor]:
        before_GTNC = torch.cat([prev_GNC[:, None], x_GTNC[:, :-1]], 1)
        first_G = groups.previous_G == groups.frame_GT[:, 0]
        is_copy_GT = groups.copy_of_GT != torch.arange(
            groups.copy_of_GT.shape[1], device=groups.copy_of_GT.device
        )
        moves_GT = ~is_copy_GT
        moves_GT[:, 0] &= ~first_G
        return mask_diagnostics(
            masked,
            change_BTN=(x_GTNC - before_GTNC).float().norm(dim=-1),
            error_BTN=error_GTN,
            moves_BT=moves_GT,
            valid_BT=groups.valid_GT,
            pool=self.config.sgm.pool,
        )
