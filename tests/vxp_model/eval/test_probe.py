"""`vxp-model probe`: what it reads, what it measures, what it says."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from support.later import LATER
from support.shard_fixtures import make_video
from vxp_model.cli import app
from vxp_model.errors import UserError
from vxp_model.eval.labelled_media import draw_per_class, find_media, split_media
from vxp_model.settings.probe import PROBE_RECIPES, ProbeRecipe

if LATER:
    import datasets
    import torch

    from vxp_model.eval.mlp_probe import probe_accuracy
    from vxp_model.eval.probe import run_probe
    from vxp_model.eval.probe_features import Rebuilt, add_rebuilt, average, compressed
    from vxp_model.models.artefacts import save_recot
    from vxp_model.models.presets import recot_preset
    from vxp_model.models.recot import ReCoTModel
    from vxp_model.models.recot_config import ReCoTConfig
    from vxp_model.modules.shapes import DTSConfig

    TINY = recot_preset("tiny")

pytestmark = pytest.mark.usefixtures("one_thread")


def image(colour: tuple[int, int, int], seed: int) -> bytes:
    """An image of about one colour."""
    rng = np.random.default_rng(seed)
    pixels = np.clip(np.array(colour) + rng.integers(-20, 20, (20, 30, 3)), 0, 255)
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, format="png")
    return file.getvalue()


COLOURS = {"red": (200, 40, 40), "blue": (40, 40, 200)}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Ten red and ten blue images, and files that are none."""
    root = tmp_path / "set"
    for label, colour in COLOURS.items():
        (root / label).mkdir(parents=True)
        for i in range(10):
            (root / label / f"{i}.png").write_bytes(image(colour, i))
    (root / "red" / "notes.txt").write_text("no image")
    (root / "red" / ".hidden.png").write_bytes(b"")
    (root / "without.png").write_bytes(image((0, 0, 0), 0))
    return root


def tiny_recipe(media: Path, tmp_path: Path, **changes: Any) -> ProbeRecipe:
    settings: dict[str, Any] = {
        "preset": "tiny",
        "tower": {"init": "random"},
        "data": {"train": str(media), "num_frames": 5, **changes.pop("data", {})},
        "mlp": {"hidden": 16, "epochs": 30, "batch": 8, "lr": 0.01},
        "seeds": [0, 1],
        "device": "cpu",
        "out": str(tmp_path / "out"),
    }
    return PROBE_RECIPES.read(settings | changes, "test").config


def saved(folder: Path, *, factor: int = 4, seed: int = 0, **config: Any) -> str:
    torch.manual_seed(seed)
    dts = DTSConfig(width=32, norm_groups=4, temporal_factor=factor)
    values: dict[str, Any] = {"vision": TINY.vision, "grid": 4, "dts": dts, "sgm": TINY.sgm}
    model = ReCoTModel(ReCoTConfig(**values | config))
    return str(save_recot(model, folder))


# --- media ---


def test_a_folder_a_tar_and_a_set_of_datasets_give_the_same_media(
    images: Path, tmp_path: Path
) -> None:
    with tarfile.open(tmp_path / "folders.tar", "w") as tar:
        tar.add(images, arcname="root")
    with tarfile.open(tmp_path / "keys.tar", "w") as tar:
        for path in sorted(images.glob("*/*[0-9].png")):
            key = f"{path.parent.name}-{path.stem}"
            for suffix, data in (("png", path.read_bytes()), ("cls", path.parent.name.encode())):
                info = tarfile.TarInfo(f"{key}.{suffix}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["blue", "red"])}
    )
    rows = [(path.read_bytes(), path.parent.name) for path in sorted(images.glob("*/*.png"))]
    rows = [(data, label) for data, label in rows if data]
    datasets.Dataset.from_dict(
        {"image": [{"bytes": data, "path": None} for data, _ in rows],
         "label": [label for _, label in rows]},
        features=features,
    ).save_to_disk(str(tmp_path / "arrow"))  # fmt: skip

    def content(source: str) -> list[tuple[str, bytes]]:
        media = find_media(source)
        assert all(one.is_image for one in media)
        return sorted((one.label, one.read()) for one in media)

    wanted = sorted((label, data) for data, label in rows)
    assert len(wanted) == 20
    assert content(str(images)) == wanted
    assert content(str(tmp_path / "keys.tar")) == wanted
    assert content(f"datasets:{tmp_path / 'arrow'}") == wanted
    in_root = ("root", (images / "without.png").read_bytes())  # its folder in the tar
    assert content(str(tmp_path / "folders.tar")) == sorted([*wanted, in_root])


def test_what_is_no_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither a folder nor a tar"):
        find_media(str(tmp_path / "none"))
    with pytest.raises(UserError, match="holds no image or video with a class"):
        find_media(str(tmp_path))
    (tmp_path / "a.tar").write_bytes(b"x" * 2000)
    with pytest.raises(UserError, match="cannot be read as an uncompressed tar"):
        find_media(str(tmp_path / "a.tar"))
    with pytest.raises(UserError, match="of the datasets library cannot be had"):
        find_media(f"datasets:{tmp_path / 'none'}")


def test_each_class_is_split_by_the_seed_alone(images: Path) -> None:
    media = find_media(str(images))
    train, test = split_media(media, test_share=0.2, seed=1)
    assert {one.name for one in train} | {one.name for one in test} == {m.name for m in media}
    assert [one.label for one in test] == ["blue"] * 2 + ["red"] * 2
    assert split_media(media[::-1], test_share=0.2, seed=1) == (train, test)
    assert split_media(media, test_share=0.2, seed=2) != (train, test)
    assert len(split_media(media, test_share=0.01, seed=1)[1]) == 2  # one of each, at least
    assert [m.label for m in draw_per_class(media, most=1, seed=1)] == ["blue", "red"]
    with pytest.raises(UserError, match="class 'blue' has one media"):
        split_media(media[:1], test_share=0.2, seed=1)


# --- the classifier ---


def test_the_classifier_learns_what_is_there_and_nothing_where_there_is_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    label_N = torch.arange(400) % 2
    noise_ND = torch.randn(400, 8, generator=generator)
    settings: dict[str, Any] = {
        "num_classes": 2, "hidden": 32, "epochs": 40, "batch": 50, "lr": 0.01, "weight_decay": 0.0,
    }  # fmt: skip

    def accuracy(features_ND: torch.Tensor, seed: int = 0) -> float:
        parts = (features_ND[:200], label_N[:200], features_ND[200:], label_N[200:])
        return probe_accuracy(*parts, seed=seed, **settings)

    # The class is in a product of two features: one layer alone would not find it.
    signs_N = (label_N * 2 - 1).float()
    together_ND = noise_ND.clone()
    together_ND[:, 1] = together_ND[:, 0].sign() * signs_N
    together_ND[:, 2] = 5.0  # constant
    before = torch.get_rng_state()
    assert accuracy(together_ND) > 0.9
    assert accuracy(noise_ND) == pytest.approx(0.5, abs=0.12)
    assert accuracy(noise_ND, seed=1) != accuracy(noise_ND, seed=2)
    assert torch.equal(torch.get_rng_state(), before)


# --- features ---


def test_averages_are_over_cells_and_time() -> None:
    tokens_BTCHW = torch.randn(2, 3, 5, 4, 4)
    mean_BD = average(tokens_BTCHW, cells=1, over_time="mean")
    torch.testing.assert_close(mean_BD, tokens_BTCHW.mean((1, 3, 4)))
    parts_BD = average(tokens_BTCHW, cells=2, over_time="all").reshape(2, 3, 5, 2, 2)
    torch.testing.assert_close(parts_BD[1, 2, :, 0, 1], tokens_BTCHW[1, 2, :, :2, 2:].mean((1, 2)))


def test_compressed_tokens_are_those_of_the_compressor_on_each_clip_alone() -> None:
    torch.manual_seed(0)
    model = ReCoTModel(TINY).eval()
    frames_BTCHW = torch.randn(3, 6, 32, 4, 4)
    got = compressed(model, frames_BTCHW, is_image=False)
    assert got.shape == (3, 2, 32, 4, 4)
    second = frames_BTCHW[1][[4, 5, 5, 5]].transpose(0, 1)[None]
    with torch.no_grad():
        torch.testing.assert_close(got[1, 1], model.dts(second)[0, :, 0])


def test_rebuilding_is_measured_on_hidden_tokens_alone_under_a_mask_that_stays() -> None:
    torch.manual_seed(0)
    model = ReCoTModel(TINY).eval()
    frames_BTCHW = torch.randn(2, 4, 32, 4, 4)
    sums = Rebuilt()
    settings: dict[str, Any] = {"is_image": False, "mask_ratio": 0.25, "seed": 3}
    add_rebuilt(sums, model, frames_BTCHW, ["a", "b"], **settings)
    assert sums.tokens == 2 * 4 * 4
    alone, other = Rebuilt(), Rebuilt()
    for number, name in enumerate("ab"):
        add_rebuilt(alone, model, frames_BTCHW[[number]], [name], **settings)
        add_rebuilt(other, model, frames_BTCHW[[number]], ["c"], **settings)
    assert alone.mse == pytest.approx(sums.mse, rel=1e-5)
    assert alone.mean_cosine == pytest.approx(sums.mean_cosine, rel=1e-4)
    assert other.mse != pytest.approx(sums.mse, rel=1e-5)
    # A decoder that gives zeros: the error of a hidden token is its own mean square.
    for parameter in model.decoder.parameters():
        torch.nn.init.zeros_(parameter)
    zero = Rebuilt()
    add_rebuilt(zero, model, frames_BTCHW * 0 + 2.0, ["a", "b"], **settings)
    assert zero.mse == pytest.approx(4.0)


# --- the whole ---


def test_a_probe_has_a_row_for_the_tower_and_each_model(images: Path, tmp_path: Path) -> None:
    models = [saved(tmp_path / f"x{factor}", factor=factor) for factor in (2, 4)]
    (images / "blue" / "broken.png").write_bytes(b"no image")
    said: list[str] = []
    result = run_probe(tiny_recipe(images, tmp_path, models=models), said.append)
    assert [row.temporal_factor for row in result.rows] == [1, 2, 4]
    assert [row.tokens for row in result.rows] == [16, 16, 16]
    assert result.rows[0].accuracy == [1.0, 1.0]
    assert result.rows[0].mse is None
    assert result.rows[1].mse is not None
    assert (result.num_train + result.num_test, len(result.broken)) == (20, 1)
    assert any("blue/broken.png" in line for line in said)
    content = json.loads((tmp_path / "out" / "probe.json").read_text())
    assert [row["features"] for row in content["rows"]] == ["SigLIP", *models]


def test_videos_are_probed_from_the_command_line(tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / "set" / label).mkdir(parents=True)
        for i in range(2):
            make_video(tmp_path / "set" / label / f"{i}.mp4", 3 + 4 * i, seed=i)
    recipe = {
        "preset": "tiny", "tower": {"init": "random"}, "device": "cpu", "seeds": [0],
        "data": {"train": str(tmp_path / "set"), "num_frames": 5}, "over_time": "all",
        "models": [saved(tmp_path / "model")], "mlp": {"epochs": 2},
    }  # fmt: skip
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe))
    command = ["probe", str(tmp_path / "r.yaml"), "--set", f"out={tmp_path / 'out'}"]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    lines = done.stdout.splitlines()
    assert lines[1].split()[:3] == ["SigLIP", "1:1", "80"]
    assert lines[2].split()[1:3] == ["4:1", "32"]
    assert lines[3] == "2 media to train on, 2 to test, 2 classes: 50.00% by chance"


def test_what_does_not_go_together_is_refused(images: Path, tmp_path: Path) -> None:
    other = saved(tmp_path / "other", grid=3)
    with pytest.raises(UserError, match="was trained for another tower"):
        run_probe(tiny_recipe(images, tmp_path, models=[other]), print)
    with pytest.raises(UserError, match="holds no ReCoT model"):
        run_probe(tiny_recipe(images, tmp_path, models=[str(tmp_path)]), print)
    (tmp_path / "more" / "green").mkdir(parents=True)
    (tmp_path / "more" / "green" / "1.png").write_bytes(image((0, 200, 0), 1))
    with pytest.raises(UserError, match="classes green of the test media have none"):
        run_probe(tiny_recipe(images, tmp_path, data={"test": str(tmp_path / "more")}), print)
    make_video(images / "red" / "v.mp4", 3)
    with pytest.raises(UserError, match="images and videos: probe them one after the other"):
        run_probe(tiny_recipe(images, tmp_path), print)
