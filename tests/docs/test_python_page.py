"""docs/python.md tells the truth: its code runs as it stands, and all that is offered is on it."""

from __future__ import annotations

import contextlib
import inspect
import io
import operator
import re
from pathlib import Path
from typing import Any

import pytest

import vxp_data
import vxp_model
from support.mllm_videos import write_colours
from support.repo import ROOT
from support.runs import caption_row, write_rows
from support.shard_fixtures import make_video

PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
NAMED = set(re.findall(r"[A-Za-z_]+", " ".join(re.findall(r"`([^`\n]+)`", PAGE))))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand where the page's reader stands: videos, rows about them, a trained model."""
    import torch

    from vxp_model.models.byte_tokenizer import byte_tokenizer
    from vxp_model.models.processor import VideoXLProProcessor
    from vxp_model.models.video_xl_pro import VideoXLProForConditionalGeneration
    from vxp_model.models.video_xl_pro_config import video_xl_pro_preset

    (tmp_path / "videos").mkdir()
    rows = []
    for number in range(10):
        make_video(tmp_path / "videos" / f"{number}.mp4", 30 + number, seed=number)
        rows.append(caption_row(f"row-{number}", f"{number}.mp4"))
        if number % 2:
            rows[-1]["conversations"][0]["value"] = "<video>\nWhere does it end?"
    write_colours(tmp_path / "videos" / "talk.mp4", num_frames=30, fps=2)
    write_rows(tmp_path / "train.json", rows)
    (tmp_path / "evaluation.txt").write_text("row-3\n")
    config = video_xl_pro_preset("tiny")
    torch.manual_seed(0)
    model = tmp_path / "runs" / "sft" / "model"
    VideoXLProForConditionalGeneration(config).save_pretrained(model)
    VideoXLProProcessor.for_model(config, byte_tokenizer()).save_pretrained(model)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("engine", "one_thread")
def test_its_code_runs_from_the_first_line_to_the_last(folder: Path) -> None:
    names: dict[str, Any] = {"__name__": "page"}
    said = []
    for block in BLOCKS:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block, "docs/python.md", "exec"), names)
        said.append(printed.getvalue())
    first = said[0]
    assert first.startswith("6 of 10 rows kept\n")
    shapes = re.findall(r"torch\.Size\(\[\d+, 384, 384, 3\]\)", first)
    decided = vxp_data.open_run(folder / "runs" / "first")
    assert len(shapes) == vxp_data.Shards(folder / "shards" / "first").samples.num_rows == 5
    assert decided.record["config"]["budget_weights"] == {"caption": 2.0}
    by_task = vxp_data.open_run(folder / "runs" / "by_task")
    assert by_task.counts.reasons["in_evaluation"] == 1
    assert by_task.record["config"]["frames"]["num_frames"] == 8
    assert "100%, 0 failed" in "".join(said)
    assert "settings['frames.nun_frames']: unknown setting" in "".join(said)
    assert (folder / "first.html").is_file()
    assert re.search(r"15 frames \d+ visual tokens\n$", said[-1])


def test_the_first_block_is_short() -> None:
    assert len([line for line in BLOCKS[0].splitlines() if line]) <= 11


@pytest.mark.parametrize("package", [vxp_data, vxp_model])
def test_every_name_that_a_package_offers_is_on_the_page(package: Any) -> None:
    assert set(package.__all__) - NAMED == set()


@pytest.mark.parametrize(
    ("package", "call"),
    [
        (vxp_data, "prune"),
        (vxp_data, "open_run"),
        (vxp_data, "Run.decide"),
        (vxp_data, "Run.plan"),
        (vxp_data, "Run.report"),
        (vxp_data, "Run.shard"),
        (vxp_data, "Shards"),
        (vxp_model, "ShardLoader"),
        (vxp_model, "LongVideoModel.load"),
        (vxp_model, "LongVideoModel.watch"),
        (vxp_model, "LongVideoModel.ask"),
    ],
)
def test_every_argument_is_on_the_page(package: Any, call: str) -> None:
    signature = inspect.signature(operator.attrgetter(call)(package))
    arguments = set(signature.parameters) - {"self", "options"}
    assert arguments
    assert arguments - NAMED == set()


@pytest.mark.parametrize("name", ["Run", "Shards", "Observer", "ShardObserver"])
def test_every_property_and_method_is_on_the_page(name: str) -> None:
    public = {each for each in vars(getattr(vxp_data, name)) if not each.startswith("_")}
    assert public
    assert public - NAMED == set()


def test_its_links_lead_somewhere() -> None:
    titles = {
        line.lstrip("# ").lower().replace(" ", "-")
        for line in PAGE.splitlines()
        if line.startswith("## ")
    }
    targets = re.findall(r"\]\(#([^)]+)\)", PAGE)
    assert len(targets) > len(titles) - 1
    assert set(targets) <= titles
