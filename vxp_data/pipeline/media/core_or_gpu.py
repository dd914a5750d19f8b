"""Whether a clip is for a core or for the GPU, by what the probe found: on every machine alike."""

from __future__ import annotations

from vxp_data.core.decode_costs import ClipWork, cores_replaced
from vxp_data.decoders.base import FramePlan
from vxp_data.decoders.runs import runs_of
from vxp_data.records import Media


def why_on_core(media: Media, plan: FramePlan, least_gain: float) -> str:
    """Return why a clip is decoded on a core though there is a GPU; '' where the GPU is to do it.

    Args:
        media: as probed.
        plan: the frames that are wanted of it.
        least_gain: `decode.nvdec_gain`.
    """
    gain = cores_replaced(work_of(media, plan))
    if gain == 0:
        return f"NVDEC has no {media.codec}"
    if gain < least_gain:
        return f"NVDEC would do the work of {gain:.2g} cores, decode.nvdec_gain is {least_gain:g}"
    return ""


def work_of(media: Media, plan: FramePlan) -> ClipWork:
    """Return what is to be decoded for a plan."""
    num_decoded = sum(run.end - run.start + 1 for run in runs_of(plan))
    return ClipWork(
        codec=media.codec,
        is_ten_bit="10" in media.pixel_format,
        megapixels=media.width_px * media.height_px / 1e6,
        num_decoded=num_decoded if plan.timed else media.num_frames,
        num_drawn=len(plan),
        kb_per_image=media.num_bytes / max(1, media.num_frames) / 1e3,
    )
