"""The autoencoder as a whole."""

from __future__ import annotations

import os
import resource
import time
from dataclasses import replace

import pytest

from support.later import LATER
from vxp_model.errors import UserError

if LATER:
    import torch
    from torch.nn import functional

    from support.tensors import random
    from vxp_model.models.presets import recot_preset
    from vxp_model.models.recot import ReCoTModel
    from vxp_model.models.siglip import random_tower
    from vxp_model.modules.masking import seeded_noise
    from vxp_model.modules.shapes import SGMConfig

    TINY = recot_preset("tiny")

pytestmark = pytest.mark.usefixtures("one_thread")


def clip(num_frames: int, *, seed: int, px: int = 56) -> torch.Tensor:
    """A still pattern and a patch that moves by its own size each frame: uint8 FHWC."""
    generator = torch.Generator().manual_seed(seed)
    cells = torch.randint(0, 256, (4, 4, 3), generator=generator)
    image = cells.repeat_interleave(px // 4, 0).repeat_interleave(px // 4, 1)
    frames_FHWC = image.expand(num_frames, -1, -1, -1).clone()
    colour, row = torch.randint(0, 256, (3,), generator=generator), 14 * (seed % 4)
    for t in range(num_frames):
        left = 14 * (t % 4)
        frames_FHWC[t, row : row + 14, left : left + 14] = colour
    return frames_FHWC.to(torch.uint8)


@pytest.fixture
def model() -> ReCoTModel:
    torch.manual_seed(0)
    config = replace(TINY, sgm=replace(TINY.sgm, ratio=0.5, unmasked_share=0))
    return ReCoTModel(config, tower=random_tower(TINY.vision, seed=0)).train()


# --- model --------------------------------------------------------------------


@pytest.mark.parametrize("num_frames", [1, 2, 3, 4, 5, 8, 61])
def test_clips_of_any_length_give_a_loss(model: ReCoTModel, num_frames: int) -> None:
    groups = model.grouper([num_frames, 1], is_image=[False, True])
    frames_FHWC = torch.cat([clip(num_frames, seed=0), clip(1, seed=1)])
    output = model(groups=groups, frames_FHWC=frames_FHWC)
    num_groups = -(-num_frames // 4) + 1
    assert output.reconstruction_GTNC.shape == (num_groups, 4, 16, 32)
    assert output.error_GTN.shape == output.masked.mask_BTN.shape == (num_groups, 4, 16)
    valid_GTN = groups.valid_GT[..., None]
    wanted = (output.error_GTN * valid_GTN).sum() / (16 * (num_frames + 4))
    torch.testing.assert_close(output.reconstruction_loss.detach(), wanted)


def test_cached_features_give_the_same_loss_as_frames(model: ReCoTModel) -> None:
    frames_FHWC, groups = clip(6, seed=0), model.grouper([6])
    noise_GTN = seeded_noise([1, 2], shape=(4, 16))
    features_FCHW = model.features(frames_FHWC)
    losses = [
        model(groups=groups, noise_GTN=noise_GTN, **kind).loss
        for kind in ({"frames_FHWC": frames_FHWC}, {"features_FCHW": features_FCHW})
    ]
    assert torch.equal(*losses)
    without = ReCoTModel(model.config)
    without.load_state_dict({k: v for k, v in model.state_dict().items() if "tower" not in k})
    again = without(groups=groups, noise_GTN=noise_GTN, features_FCHW=features_FCHW)
    assert torch.equal(again.loss, losses[0])
    with pytest.raises(ValueError, match="built without a vision tower"):
        without(groups=groups, frames_FHWC=frames_FHWC)
    with pytest.raises(ValueError, match="one of the two"):
        without(groups=groups)


def test_padding_counts_neither_in_the_loss_nor_by_what_it_shows(model: ReCoTModel) -> None:
    groups, features_FCHW = model.grouper([5]), random(5, 32, 4, 4)
    output = model(groups=groups, features_FCHW=features_FCHW, generator=torch.Generator())
    mask_BTN = output.masked.mask_BTN
    assert (mask_BTN[1] == mask_BTN[1, :1]).all()  # one mask for the frame and its copies
    valid_GTN = groups.valid_GT[..., None].expand_as(output.error_GTN)
    torch.testing.assert_close(
        output.reconstruction_loss.detach(), output.error_GTN[valid_GTN].mean()
    )


def test_the_previous_groups_last_frame_guides_the_first_of_the_next(model: ReCoTModel) -> None:
    with torch.no_grad():
        model.sgm.temp_query.copy_(random(2, 32))
    features_FCHW, groups = random(8, 32, 4, 4), model.grouper([8])
    before = model(groups=groups, features_FCHW=features_FCHW).masked.scores_BTN
    features_FCHW[3] += random(32, 4, 4, seed=2)
    after = model(groups=groups, features_FCHW=features_FCHW).masked.scores_BTN
    changed = (before != after).any(-1)
    assert changed.tolist() == [[False, False, False, True], [True, False, False, False]]


def test_targets_and_weights(model: ReCoTModel) -> None:
    features_FCHW, groups = random(4, 32, 4, 4) * 3, model.grouper([4])
    tokens_TNC = features_FCHW.flatten(2).transpose(1, 2)
    mask_GTN = torch.rand(1, 4, 16, generator=torch.Generator().manual_seed(0)) < 0.4
    mask_GTN[0, 3] = False  # a frame that is whole weighs as much as the others
    config = replace(TINY, target_norm="layernorm", masked_weight=3.0, visible_weight=0.5)
    other = ReCoTModel(config).eval()
    other.load_state_dict({k: v for k, v in model.state_dict().items() if "tower" not in k})
    output = other(groups=groups, features_FCHW=features_FCHW, mask_GTN=mask_GTN)
    target = functional.layer_norm(tokens_TNC, (32,))
    error = (output.reconstruction_GTNC[0] - target).square().mean(-1)
    frames = []
    for error_N, mask_N in zip(error, mask_GTN[0], strict=True):
        weight_N = torch.where(mask_N, 3.0, 0.5)
        frames.append((error_N * weight_N).sum() / weight_N.sum())
    torch.testing.assert_close(output.loss, torch.stack(frames).mean())
    assert torch.equal(output.masked.mask_BTN, mask_GTN)  # as given, also in eval mode
    assert (output.masked.x_BTNC[mask_GTN] == 0).all()


def test_in_eval_mode_nothing_is_masked_and_two_passes_agree(model: ReCoTModel) -> None:
    model.eval()
    features_FCHW, groups = random(5, 32, 4, 4), model.grouper([5])
    first, again = (model(groups=groups, features_FCHW=features_FCHW) for _ in range(2))
    assert not first.masked.mask_BTN.any()
    assert torch.equal(first.loss, again.loss)


@pytest.mark.parametrize("mode", ["ste", "rank"])
def test_gradients_reach_all_that_is_trained_and_not_the_tower(mode: str) -> None:
    torch.manual_seed(0)
    config = replace(TINY, sgm=SGMConfig(num_queries=2, grad_mode=mode))  # type: ignore[arg-type]
    model = ReCoTModel(config, tower=random_tower(TINY.vision, seed=0)).train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    frames_FHWC, groups = clip(8, seed=0), model.grouper([8])
    for _ in range(2):  # the attentions wake up in the first
        optimizer.zero_grad()
        output = model(groups=groups, frames_FHWC=frames_FHWC, generator=torch.Generator())
        output.loss.backward()
        optimizer.step()
    # A key's bias shifts all logits of a query alike; rows far from 0 are for longer groups.
    for name, parameter in model.named_parameters():
        if name.startswith("tower."):
            assert parameter.grad is None, name
        else:
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().sum() > 0, name
    for query in (model.sgm.temp_query, model.sgm.spatio_query):
        assert (query.grad.abs().sum(-1) > 0).all()


def test_diagnostics_leave_out_images_and_padding(model: ReCoTModel) -> None:
    groups = model.grouper([1], is_image=[True])
    output = model(groups=groups, features_FCHW=random(1, 32, 4, 4), with_diagnostics=True)
    assert output.diagnostics["score_change_corr"].isnan()
    assert output.diagnostics["pool_static_share"].isnan()
    groups = model.grouper([6])
    output = model(groups=groups, features_FCHW=random(6, 32, 4, 4), with_diagnostics=True)
    assert all(
        value.isfinite() and not value.requires_grad for value in output.diagnostics.values()
    )
    assert output.diagnostics["masked_share"] == 0.5


def test_eight_clips_are_learnt(model: ReCoTModel) -> None:
    """Masked at half, the error of the tokens falls to less than a tenth."""
    num_steps = 300
    features_FCHW = model.features(torch.cat([clip(4, seed=seed) for seed in range(8)]))
    groups = model.grouper([4] * 8)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=num_steps)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(num_steps):
        output = model(groups=groups, features_FCHW=features_FCHW, generator=generator)
        optimizer.zero_grad()
        output.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(output.reconstruction_loss.item())
    assert sum(losses[-5:]) / 5 < losses[0] / 10


# --- config -------------------------------------------------------------------


def test_settings_that_do_not_go_together_are_errors() -> None:
    with pytest.raises(UserError, match=r"vision\.width 32 and dts\.width 64"):
        replace(TINY, dts=replace(TINY.dts, width=64))
    with pytest.raises(UserError, match="target_norm must be one of none, layernorm"):
        replace(TINY, target_norm="batchnorm")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="one of them more"):
        replace(TINY, masked_weight=0, visible_weight=0)
    with pytest.raises(UserError, match=r"unknown preset '4b'\. Known: 3b, tiny"):
        recot_preset("4b")


# --- full size ----------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_papers_model_rebuilds_eight_frames_within_6_gb() -> None:
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(0)
    config = recot_preset("3b")
    start_s = time.monotonic()
    model = ReCoTModel(config, tower=random_tower(config.vision, seed=0, chunk_frames=4)).train()
    built_s = time.monotonic()
    frames_FHWC = torch.randint(0, 256, (8, 384, 384, 3), dtype=torch.uint8)
    with torch.no_grad():
        features_FCHW = model.features(frames_FHWC)
        seen_s = time.monotonic()
        output = model(groups=model.grouper([8]), features_FCHW=features_FCHW)
    done_s = time.monotonic()
    assert features_FCHW.shape == (8, 1152, 24, 24)
    assert output.reconstruction_GTNC.shape == (2, 4, 576, 1152)
    assert output.masked.mask_BTN.sum(-1).tolist() == [[288] * 4] * 2
    assert output.loss.isfinite()
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(  # noqa: T201 - pytest -s shows it
        f"built in {built_s - start_s:.1f} s, tower {seen_s - built_s:.1f} s, masking, compressor "
        f"and decoder {done_s - seen_s:.1f} s, peak {peak_kib / 2**20:.2f} GiB"
    )
    assert peak_kib < 6e6
