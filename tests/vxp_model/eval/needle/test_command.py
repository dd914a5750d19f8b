"""The command, with a tiny model of random weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from support.later import LATER
from support.mllm_videos import write_colours
from vxp_model.cli_needle import needle
from vxp_model.errors import UserError

if LATER:
    import torch

    from vxp_model.models.byte_tokenizer import byte_tokenizer
    from vxp_model.models.processor import VideoXLProProcessor
    from vxp_model.models.video_xl_pro import VideoXLProForConditionalGeneration
    from vxp_model.models.video_xl_pro_config import video_xl_pro_preset

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = video_xl_pro_preset("tiny")
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    VideoXLProForConditionalGeneration(config).save_pretrained(folder)
    VideoXLProProcessor.for_model(config, byte_tokenizer()).save_pretrained(folder)
    return folder


def run(*words: str) -> str:
    app = typer.Typer()
    app.command()(needle)
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_drawn_haystack_gives_tables_heat_maps_and_survival(folder: Path, tmp_path: Path):
    out = tmp_path / "out"
    words = [str(folder), "--out", str(out), "--set", "lengths=[12,24]", "--set", "film_px=96",
             "--set", "chains=[5]", "--set", "depths=[0,1]"]  # fmt: skip
    said = run(*words)
    assert "single: the letter that the reply names" in said
    assert "both questions right" in said
    assert said.count("; without needle 0.") == 8
    assert "needle tokens that the selector keeps" in said
    names = {f"heat-{kind}-{score}.png" for kind in ("single", "chains")
             for score in ("generation", "video-xl", "options", "forced")}  # fmt: skip
    assert names <= {path.name for path in out.iterdir()}
    found = json.loads((out / "needle.json").read_text())
    assert found["trials"] == 2 * (5 + 2 + 5 * 2 + 2)
    assert found["single"]["generation"]["lengths"] == [12, 24]
    assert [one["rate"] for one in found["survival"]] == [0.5, 0.3, 0.1]
    assert all(one["num_trials"] == 2 * (5 * 2 + 2) for one in found["survival"])
    trials = (out / "trials.jsonl").read_bytes()
    (out / "trials.jsonl").write_bytes(trials[: len(trials) // 2])
    assert run(*words) == said
    assert (out / "trials.jsonl").read_bytes() == trials
    # Inserted before frame 24 of 24, the needle is alone in the seventh group of frames.
    rows = [json.loads(line) for line in trials.splitlines()]
    last = next(row for row in rows if row["depth"] == 1 and row["length"] == 24)
    assert (last["frames"], last["at"]) == (25, [24])
    assert last["needle_tokens"] * 7 == last["visual_tokens"]


def test_the_users_film_is_the_haystack(folder: Path, tmp_path: Path):
    film = write_colours(tmp_path / "film.mp4", num_frames=40, fps=2)
    out = tmp_path / "out"
    words = (str(folder), "--out", str(out), "--film", str(film), "--set", "needles=[word]",
             "--set", "forced=false", "--set", "survival=[]")  # fmt: skip
    said = run(*words, "--set", "lengths=[16]", "--set", "control=false")
    assert "without needle" not in said
    rows = [json.loads(line) for line in (out / "trials.jsonl").read_text().splitlines()]
    assert [row["frames"] for row in rows] == [17, 17, 17, 17, 17]
    assert not (out / "survival.jsonl").exists()
    with pytest.raises(UserError, match="the film has 40"):
        run(*words, "--set", "lengths=[64]")


def test_a_misspelt_setting_is_named(folder: Path):
    with pytest.raises(UserError, match=r"--set dephts=\[0\].*depths"):
        run(str(folder), "--set", "dephts=[0]")
