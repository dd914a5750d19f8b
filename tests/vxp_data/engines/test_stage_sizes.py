"""How much a stage takes at once."""

from __future__ import annotations

import pytest

from vxp_data.engines.stage_plan import EncoderNeeds, Machine, plan_stages


@pytest.mark.parametrize(
    ("device", "frame_px", "clips"),
    [("cuda", 384, 16), ("cuda", 224, 44), ("cuda", 32, 64), ("cpu", 32, 16)],
)
def test_a_gpu_is_given_more_small_clips_at_once(device: str, frame_px: int, clips: int) -> None:
    needs = EncoderNeeds(in_decode_task=False, device=device, clip_bytes=20 * frame_px**2 * 3)
    plan = plan_stages([Machine(num_cpus=8, num_gpus=2)], needs)
    assert plan.embed is not None
    assert plan.embed.rows == clips
    assert plan.waiting_bytes(needs) == plan.embed.workers * 4 * clips * needs.clip_bytes
