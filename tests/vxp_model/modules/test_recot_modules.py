"""Compressor, decoder, grouping, resampling, projector."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support.later import LATER
from vxp_model.errors import UserError

if LATER:
    import torch
    from torch import nn
    from torch.nn import functional

    from support.tensors import random
    from vxp_model.modules.attention import SpatialAttention, TemporalAttention
    from vxp_model.modules.conv import FrontPaddedConv3d
    from vxp_model.modules.decoder import ReconstructionDecoder
    from vxp_model.modules.dts import DynamicTokenSynthesizer
    from vxp_model.modules.frame_groups import FrameGrouper
    from vxp_model.modules.grid import GridResampler
    from vxp_model.modules.projector import MlpProjector, SpatialPool2d
    from vxp_model.modules.shapes import MAX_DISTANCE, DTSConfig

    TINY = DTSConfig(width=16, norm_groups=4)

pytestmark = pytest.mark.usefixtures("one_thread")


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def on_meta(config: DTSConfig) -> tuple[DynamicTokenSynthesizer, ReconstructionDecoder]:
    with torch.device("meta"):
        return DynamicTokenSynthesizer(config), ReconstructionDecoder(config)


def awake(module: nn.Module, *, seed: int = 0) -> nn.Module:
    """Set every parameter to random values: the blocks begin as the identity."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 4
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / fan_in**0.5)
    return module


# --- sizes --------------------------------------------------------------------


def test_the_papers_sizes() -> None:
    dts, decoder = on_meta(DTSConfig())
    assert count(dts) == 93_526_272
    assert count(decoder) == 46_765_440
    assert count(dts.stages[0].spatial) == 5_315_328
    assert count(dts.stages[0].temporal) == 5_612_544
    assert count(dts.stages[0].conv) == 35_832_960
    with torch.device("meta"):
        assert count(MlpProjector(1152, 2048)) == 6_557_696


@pytest.mark.parametrize("width", [16, 32, 64, 288, 1152])
@pytest.mark.parametrize("factor", [2, 4, 8])
def test_the_decoder_has_half_of_the_encoders_parameters(width: int, factor: int) -> None:
    dts, decoder = on_meta(DTSConfig(width=width, norm_groups=4, temporal_factor=factor))
    assert count(dts) == 2 * (35 * width**2 + 271 * width) + factor * width
    assert count(decoder) / count(dts) == pytest.approx(0.5, abs=0.005)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"temporal_factor": 3}, "must be 2, 4 or 8, got 3"),
        ({"num_heads": 5}, "num_heads must divide dts.width 16, got 5"),
        ({"norm_groups": 32}, "norm_groups must divide dts.width 16, got 32"),
    ],
)
def test_a_config_out_of_range_is_an_error(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        replace(TINY, **wrong)


# --- convolution --------------------------------------------------------------


@pytest.mark.parametrize(("stride", "pad_behind"), [(1, 1), (2, 0)])
def test_the_convolution_is_the_plain_one_on_repeated_edges(stride: int, pad_behind: int) -> None:
    conv = FrontPaddedConv3d(6, stride=stride)
    x_GCTHW = random(2, 6, 4, 3, 5)
    padded = functional.pad(x_GCTHW, (1, 1, 1, 1, 1, pad_behind), mode="replicate")
    wanted = functional.conv3d(padded, conv.weight, conv.bias, stride=(stride, 1, 1))
    got = conv(x_GCTHW.permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3)
    torch.testing.assert_close(got, wanted)
    assert got.shape == (2, 6, 4 // stride, 3, 5)


@pytest.mark.parametrize(
    ("stride", "num_frames", "reached"),
    [
        (2, 4, [{0}, {0, 1}, {1}, {1}]),
        (2, 6, [{0}, {0, 1}, {1}, {1, 2}, {2}, {2}]),
        (4, 8, [{0}, {0}, {0, 1}, {0, 1}, {1}, {1}, {1}, {1}]),
    ],
)
def test_no_output_sees_a_later_frame_than_its_own(
    stride: int, num_frames: int, reached: list[set[int]]
) -> None:
    conv = FrontPaddedConv3d(3, stride=stride)
    x_GTHWC = random(1, num_frames, 2, 2, 3)
    before = conv(x_GTHWC)
    found = []
    for frame in range(num_frames):
        changed = x_GTHWC.clone()
        changed[:, frame] += 1
        moved = (conv(changed) != before).flatten(2).any(-1)[0]
        found.append(set(moved.nonzero().flatten().tolist()))
    assert found == reached


def test_on_the_cpu_bf16_is_convolved_in_fp32() -> None:
    conv = FrontPaddedConv3d(8, stride=2).bfloat16()
    x_GTHWC = random(1, 4, 6, 6, 8).bfloat16()
    wanted = FrontPaddedConv3d(8, stride=2)
    wanted.load_state_dict({name: t.float() for name, t in conv.state_dict().items()})
    got = conv(x_GTHWC)
    assert got.dtype == torch.bfloat16
    assert torch.equal(got, wanted(x_GTHWC.float()).bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(wanted(x_GTHWC.float()), wanted(x_GTHWC.float()).float())


# --- attention ----------------------------------------------------------------


@pytest.mark.parametrize("num_heads", [1, 2])
def test_spatial_attention_is_softmax_attention_within_each_frame(num_heads: int) -> None:
    block = awake(SpatialAttention(8, num_heads=num_heads, norm_groups=4))
    x_GTNC = random(2, 3, 5, 8)
    normed = block.norm(x_GTNC.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    query, key, value = block.qkv(normed).split(8, dim=-1)
    wanted = x_GTNC.clone()
    for group in range(2):
        for frame in range(3):
            heads = []
            for part in torch.arange(8).chunk(num_heads):
                q, k, v = (t[group, frame][:, part] for t in (query, key, value))
                heads.append((q @ k.T / len(part) ** 0.5).softmax(-1) @ v)
            wanted[group, frame] += block.out(torch.cat(heads, -1))
    torch.testing.assert_close(block(x_GTNC), wanted)


@pytest.mark.parametrize("num_heads", [1, 2])
def test_temporal_attention_adds_its_tables_by_key_minus_query(num_heads: int) -> None:
    block = awake(TemporalAttention(8, num_heads=num_heads, norm_groups=4))
    x_GTNC = random(2, 4, 3, 8)
    width = 8 // num_heads
    wanted = x_GTNC.clone()
    for group in range(2):
        for index in range(3):
            normed = block.norm(x_GTNC[group, :, index].T[None])[0].T
            query, key, value = block.qkv(normed).split(8, dim=-1)
            mixed = torch.zeros(4, 8)
            for head in range(num_heads):
                part = slice(head * width, (head + 1) * width)
                for t in range(4):
                    rows = torch.arange(4) - t + MAX_DISTANCE
                    logits = torch.stack(
                        [
                            query[t, part] @ key[s, part] / width**0.5
                            + query[t, part] @ block.key_table[rows[s]] / width**0.25
                            for s in range(4)
                        ]
                    )
                    weights = logits.softmax(-1)
                    mixed[t, part] = weights @ (value[:, part] + block.value_table[rows])
            wanted[group, :, index] += block.out(mixed)
    torch.testing.assert_close(block(x_GTNC), wanted)


# --- compressor and decoder ---------------------------------------------------


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_a_group_becomes_one_frame_and_back(factor: int) -> None:
    config = replace(TINY, temporal_factor=factor)
    dts, decoder = awake(DynamicTokenSynthesizer(config)), awake(ReconstructionDecoder(config))
    y_GCTHW = dts(random(3, 16, factor, 5, 4))
    assert y_GCTHW.shape == (3, 16, 1, 5, 4)
    assert decoder(y_GCTHW).shape == (3, 16, factor, 5, 4)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_every_frame_and_the_order_of_frames_count(factor: int) -> None:
    dts = awake(DynamicTokenSynthesizer(replace(TINY, temporal_factor=factor)))
    x_GCTHW = random(1, 16, factor, 3, 3)
    before = dts(x_GCTHW)
    for frame in range(factor):
        changed = x_GCTHW.clone()
        changed[:, :, frame] += random(16, 3, 3, seed=2)
        assert (dts(changed) - before).abs().max() > 1e-3
    assert (dts(x_GCTHW.flip(2)) - before).abs().max() > 1e-2
    dts = DynamicTokenSynthesizer(TINY)  # also as it begins, when the attentions do nothing
    x_GCTHW = random(1, 16, 4, 3, 3)
    assert (dts(x_GCTHW[:, :, [1, 0, 2, 3]]) - dts(x_GCTHW)).abs().max() > 1e-2


def test_groups_do_not_see_one_another() -> None:
    dts = awake(DynamicTokenSynthesizer(TINY))
    features_FCHW = random(16, 16, 3, 3)
    groups = FrameGrouper(4)([16])
    before = dts(groups.gather(features_FCHW).transpose(1, 2))
    for frame in range(16):
        changed = features_FCHW.clone()
        changed[frame] += 1 + random(16, 3, 3, seed=2)
        after = dts(groups.gather(changed).transpose(1, 2))
        moved = (after - before).flatten(1).abs().amax(1) > 1e-4
        assert moved.nonzero().flatten().tolist() == [frame // 4]


@pytest.mark.parametrize("num_frames", [1, 3, 5])
def test_another_number_of_frames_is_refused(num_frames: int) -> None:
    dts = DynamicTokenSynthesizer(TINY)
    with pytest.raises(ValueError, match=r"wanted \[G, 16, 4, H, W\]"):
        dts(random(1, 16, num_frames, 3, 3))


def test_bf16_stays_close_to_fp32() -> None:
    dts, decoder = awake(DynamicTokenSynthesizer(TINY)), awake(ReconstructionDecoder(TINY))
    x_GCTHW = random(2, 16, 4, 4, 4)
    wanted = decoder(dts(x_GCTHW))
    got = decoder.bfloat16()(dts.bfloat16()(x_GCTHW.bfloat16()))
    assert got.dtype == torch.bfloat16
    assert (got.float() - wanted).norm() / wanted.norm() < 0.03


def test_checkpointing_changes_neither_result_nor_gradient() -> None:
    dts, decoder = awake(DynamicTokenSynthesizer(TINY)), awake(ReconstructionDecoder(TINY))
    x_GCTHW = random(2, 16, 4, 3, 3)
    found = []
    for checkpoint_stages in (False, True):
        dts.checkpoint_stages = decoder.checkpoint_stages = checkpoint_stages
        decoder(dts(x_GCTHW)).square().mean().backward()
        parameters = [*dts.parameters(), *decoder.parameters()]
        found.append([parameter.grad.clone() for parameter in parameters])
        for parameter in parameters:
            parameter.grad = None
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_new_blocks_are_the_identity_and_learn_from_the_second_step() -> None:
    block = TemporalAttention(8, num_heads=1, norm_groups=4)
    x_GTNC = random(1, 4, 3, 8)
    assert torch.equal(block(x_GTNC), x_GTNC)
    optimizer = torch.optim.SGD(block.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        block(x_GTNC).square().mean().backward()
        optimizer.step()
    still = [n for n, p in block.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


# --- grouping -----------------------------------------------------------------


@pytest.mark.parametrize("num_frames", [1, 2, 3, 4, 5, 8, 61])
def test_a_clip_is_cut_in_order_and_padded_with_its_last_frame(num_frames: int) -> None:
    groups = FrameGrouper(4)([num_frames])
    shown = groups.frame_GT.flatten().tolist()
    assert len(shown) % 4 == 0
    assert len(shown) - num_frames < 4
    assert shown == [min(t, num_frames - 1) for t in range(len(shown))]
    valid = groups.valid_GT.flatten()
    assert valid.tolist() == [t < num_frames for t in range(len(shown))]
    assert groups.gather(random(num_frames, 2))[-1, -1].equal(random(num_frames, 2)[-1])


def test_clips_and_images_are_grouped_side_by_side() -> None:
    groups = FrameGrouper(4)([6, 1, 1], is_image=[False, True, False])
    assert groups.frame_GT.tolist() == [[0, 1, 2, 3], [4, 5, 5, 5], [6] * 4, [7] * 4]
    assert groups.valid_GT.tolist() == [
        [True] * 4,
        [True, True, False, False],
        [True] * 4,  # an image's copies count
        [True, False, False, False],  # a video of one frame is padded
    ]
    assert groups.copy_of_GT.tolist() == [[0, 1, 2, 3], [0, 1, 1, 1], [0] * 4, [0] * 4]
    assert groups.previous_G.tolist() == [0, 3, 6, 7]
    assert groups.clip_G.tolist() == [0, 0, 1, 2]


@pytest.mark.parametrize(
    ("num_frames", "is_image", "message"),
    [
        ([0], None, "clip 0 is a video of 0 frames"),
        ([1, 2], [False, True], "clip 1 is an image of 2 frames"),
        ([], None, "0 clips"),
        ([1], [True, False], "1 clips, 2 marks"),
    ],
)
def test_impossible_clips_are_refused(
    num_frames: list[int], is_image: list[bool] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        FrameGrouper(4)(num_frames, is_image=is_image)


# --- resampling, projector, pool ----------------------------------------------


def test_the_grid_is_resampled_bilinearly_in_fp32() -> None:
    features_FNC = random(2, 729, 3)
    got = GridResampler(24)(features_FNC)
    # By hand: output pixel i lies at (i + 0.5) * 27 / 24 - 0.5 of the input.
    at = (torch.arange(24) + 0.5) * 27 / 24 - 0.5
    low = at.floor().long()
    weight = at - low
    matrix = torch.zeros(24, 27)
    matrix[torch.arange(24), low] += 1 - weight
    matrix[torch.arange(24), (low + 1).clamp_max(26)] += weight
    wanted = torch.einsum("yi,xj,fijc->fcyx", matrix, matrix, features_FNC.view(2, 27, 27, 3))
    torch.testing.assert_close(got, wanted)
    half = GridResampler(24)(features_FNC.bfloat16())
    assert torch.equal(half, GridResampler(24)(features_FNC.bfloat16().float()).bfloat16())
    assert got.is_contiguous(memory_format=torch.channels_last)


def test_a_grid_of_the_right_size_stays_and_one_that_is_no_square_is_refused() -> None:
    features_FNC = random(2, 16, 3)
    same_FCHW = GridResampler(4)(features_FNC)
    assert torch.equal(same_FCHW, features_FNC.view(2, 4, 4, 3).permute(0, 3, 1, 2))
    with pytest.raises(ValueError, match="15 tokens"):
        GridResampler(4)(random(2, 15, 3))


def test_pooling_averages_square_blocks() -> None:
    x_GNC = torch.arange(16.0).view(1, 16, 1)
    assert SpatialPool2d(2)(x_GNC).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert torch.equal(SpatialPool2d(1)(x_GNC), x_GNC)
    with pytest.raises(ValueError, match="cannot pool 9 tokens by 2"):
        SpatialPool2d(2)(random(1, 9, 1))


def test_the_projector_is_two_linear_layers_around_a_gelu() -> None:
    projector = MlpProjector(3, 5)
    x_GNC = random(2, 4, 3)
    hidden = x_GNC @ projector.up.weight.T + projector.up.bias
    gelu = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
    wanted = gelu @ projector.out.weight.T + projector.out.bias
    torch.testing.assert_close(projector(x_GNC), wanted)
