"""Every encoder's promises, run over the registry; the thumbnail encoder; content digests."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from support.tiny_encoders import settings_for
from support.tiny_models import SQUASH, Settings, images
from vxp_data.encoders.base import Encoder
from vxp_data.encoders.thumbnail import ThumbnailEncoder
from vxp_data.registry import ENCODERS
from vxp_data.storage import digest
from vxp_data.storage.digest import content_digest, sampled_digest


@pytest.fixture(scope="session", params=ENCODERS.names())  # a new registry line needs no new test
def settings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return settings_for(request.param, tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def encoder(settings: Settings) -> Encoder:
    loaded: Encoder = ENCODERS.load(settings.name).load(settings)
    return loaded


# --- every encoder ------------------------------------------------------------


def test_rows_are_float32_of_unit_norm(encoder: Encoder) -> None:
    emb_FD = encoder.embed(images(5, encoder.spec.frame_px))
    assert emb_FD.dtype == np.float32
    assert emb_FD.shape == (5, encoder.spec.dim)
    np.testing.assert_allclose(np.linalg.norm(emb_FD, axis=1), 1, atol=1e-5)


def test_an_image_alone_has_the_vector_it_has_among_others_bit_for_bit(encoder: Encoder) -> None:
    frames = images(40, encoder.spec.frame_px)
    together = encoder.embed(frames)
    alone = np.concatenate([encoder.embed(frames[i : i + 1]) for i in range(40)])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(together[::-1], encoder.embed(frames[::-1]))


def test_the_same_image_twice_gives_the_same_vector(encoder: Encoder) -> None:
    frames = images(2, encoder.spec.frame_px)[[0, 1, 0]]
    emb_FD = encoder.embed(frames)
    np.testing.assert_array_equal(emb_FD[0], emb_FD[2])
    np.testing.assert_array_equal(emb_FD, encoder.embed(frames))


def test_different_images_differ(encoder: Encoder) -> None:
    emb_FD = encoder.embed(images(8, encoder.spec.frame_px))
    # a trained network calls all noise much the same: 0.976 between two of these
    assert (emb_FD @ emb_FD.T)[~np.eye(8, dtype=bool)].max() < 0.99


def test_flat_images_are_defined(encoder: Encoder) -> None:
    levels = np.array([0, 128, 255], np.uint8)[:, None, None, None]
    emb_FD = encoder.embed(np.broadcast_to(levels, (3, *[encoder.spec.frame_px] * 2, 3)).copy())
    np.testing.assert_allclose(np.linalg.norm(emb_FD, axis=1), 1, atol=1e-5)
    assert emb_FD[0] @ emb_FD[2] < 0.99  # black is not white


def test_no_images_give_no_rows(encoder: Encoder) -> None:
    assert encoder.embed(images(0, encoder.spec.frame_px)).shape == (0, encoder.spec.dim)


def test_frames_of_another_size_or_type_are_refused(encoder: Encoder) -> None:
    frames = images(2, encoder.spec.frame_px)
    with pytest.raises(ValueError, match="must be uint8"):
        encoder.embed(frames[:, :-1])
    with pytest.raises(ValueError, match="float32"):
        encoder.embed(frames.astype(np.float32))  # type: ignore[arg-type]


def test_describe_tells_what_load_then_has(encoder: Encoder, settings: Settings) -> None:
    described = ENCODERS.load(settings.name).describe(settings)
    assert described == encoder.spec
    assert described.name == settings.name
    assert len(described.fingerprint) == 16


# --- thumbnail ----------------------------------------------------------------


def test_thumbnail_loads_no_torch() -> None:
    code = (
        "import sys, numpy as np\n"
        "from vxp_data.encoders.thumbnail import ThumbnailEncoder as T\n"
        "T.describe(None); T.load(None).embed(np.zeros((1, 64, 64, 3), np.uint8))\n"
        "print([name for name in ('torch', 'open_clip', 'PIL') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_thumbnail_ranks_still_above_moving_above_cut() -> None:
    base = images(20, 64)
    still = np.repeat(base[:1], 20, axis=0)
    still[::2, 20:28, 20:28] = 255  # something small comes and goes
    moving = np.stack([np.roll(base[0], shift, axis=1) for shift in range(20)])
    scores = []
    for frames in (still, moving, base):
        emb_FD = ThumbnailEncoder().embed(frames)
        scores.append((emb_FD @ emb_FD.T)[~np.eye(20, dtype=bool)].mean())
    assert scores[0] > 0.97
    assert scores[0] > scores[1] + 0.1
    assert scores[1] > scores[2]


def test_thumbnail_sees_what_moves_between_images_of_the_same_levels() -> None:
    stripes = np.zeros((1, 64, 64, 3), np.uint8)
    stripes[:, :, np.arange(64) % 8 < 4] = 200
    emb_FD = ThumbnailEncoder().embed(np.concatenate([stripes, stripes.transpose(0, 2, 1, 3)]))
    assert emb_FD[0] @ emb_FD[1] < 0.9  # all luma cells are alike: only the gradient tells


def test_thumbnail_of_one_colour_is_what_its_description_says() -> None:
    red, green, blue = 200, 30, 90
    luma = (0.299 * red + 0.587 * green + 0.114 * blue) / 255
    cb, cr = (blue / 255 - luma) / 1.772, (red / 255 - luma) / 1.402
    turn = 0.75 * luma / 2  # half the median level is taken off
    luma_grid = [math.cos(math.tau * turn)] * 64 + [math.sin(math.tau * turn)] * 64
    chroma = [
        trig(math.tau * c) for trig in (math.cos, math.sin) for c in (cb, cr) for _ in range(16)
    ]
    flat = [0.0] * 512 + [1.0] * 256
    wanted_D = np.concatenate(
        [np.array(luma_grid) / 8, 0.5 * np.array(chroma) / 32**0.5, 1.5 * np.array(flat) / 16]
    )
    wanted_D /= (1 + 0.5**2 + 1.5**2) ** 0.5
    image = np.full((1, 64, 64, 3), [red, green, blue], np.uint8)
    np.testing.assert_allclose(ThumbnailEncoder().embed(image)[0], wanted_D, atol=1e-4)


def test_thumbnail_sums_do_not_wrap_around_in_uint8() -> None:
    darker, brighter = images(2, 64)
    darker[:], brighter[:] = 100, 100
    darker[:, 32:], brighter[:, 32:] = 90, 110  # differences of -10 and 10; wrapped: 246 and 10
    plain = np.full_like(darker, 100)
    emb_FD = ThumbnailEncoder().embed(np.stack([darker, brighter, plain]))
    assert emb_FD[0] @ emb_FD[2] == pytest.approx(emb_FD[1] @ emb_FD[2], abs=0.01)
    assert emb_FD[0] @ emb_FD[2] > 0.9


@pytest.mark.skipif("VXP_CORPUS" not in os.environ, reason="VXP_CORPUS is not set")
def test_thumbnail_finds_the_near_static_clips_of_the_corpus() -> None:
    scores = {}
    for name in ("classroom.gif", "bottle-detection.mp4", "bear-vp9.webm", "videocli.gif"):
        path = next((Path(os.environ["VXP_CORPUS"]) / "real").glob(f"*__{name}"))
        with av.open(str(path), metadata_errors="replace") as container:
            frames = [
                frame.to_ndarray(format="rgb24", width=64, height=64, interpolation=SQUASH)
                for frame in container.decode(video=0)
            ]
        pick_F = np.round(np.linspace(0, len(frames) - 1, 20)).astype(int)
        emb_FD = ThumbnailEncoder().embed(np.stack([frames[i] for i in pick_F]))
        scores[name] = (emb_FD @ emb_FD.T)[~np.eye(20, dtype=bool)].mean()
    assert scores["classroom.gif"] > 0.99
    assert scores["bottle-detection.mp4"] > 0.9 > 0.7 > scores["bear-vp9.webm"]


# --- digests ------------------------------------------------------------------


def test_content_digest_is_sha256_up_to_its_limit_and_sampled_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "abc"
    file.write_bytes(b"abc")
    sha = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1
    assert content_digest(file) == f"sha256:{sha}"
    monkeypatch.setattr(digest, "FULL_BYTES", 2)
    assert content_digest(file) == sampled_digest(file)


def test_sampled_digest_sees_size_head_middle_and_tail(tmp_path: Path) -> None:
    file = tmp_path / "big"
    seen = set()
    size = 40 << 20
    for change in (None, 0, size // 2, size - 1):
        with file.open("wb") as out:
            out.truncate(size)
            if change is not None:
                out.seek(change)
                out.write(b"x")
        seen.add(sampled_digest(file))
    with file.open("wb") as out:
        out.truncate(size + 1)
    seen.add(sampled_digest(file))
    assert len(seen) == 5
    assert all(name.startswith("sampled:") for name in seen)
