"""The loader on what `vxp-data shard` writes: every kept row once, its own frames and words."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from support.later import LATER
from support.repo import ROOT
from support.runs import run_prune
from support.shard_fixtures import make_image, make_video
from vxp_data.pipeline.run_dir.directory import open_run
from vxp_data.pipeline.shard.command import ShardObserver, shard_run
from vxp_data.settings.prune import load_config
from vxp_data.storage.folder import open_folder
from vxp_model.data.frames import FrameOptions
from vxp_model.data.order import BatchRule, OrderRule

if LATER:
    from vxp_model.data.loader import ShardLoader
    from vxp_model.data.sources import Source

PX = 48
PAGE = ROOT / "docs" / "shards-and-loader.md"


@pytest.fixture(scope="module")
def run(engine, tmp_path_factory):  # noqa: ARG001 - Ray is there
    """Eleven rows over three videos, an image and no media; JSON and CSV."""
    folder = tmp_path_factory.mktemp("pipeline")
    for seed, num_frames in enumerate((60, 33, 1)):
        make_video(folder / f"{seed}.mp4", num_frames, seed=seed)
    make_image(folder / "i.png")

    def row(row_id, **media):
        question = f"<image>\nWho is {row_id}?" if media else f"{row_id}?"
        words = [{"from": "human", "value": question}, {"from": "gpt", "value": f"{row_id}!"}]
        return {"id": row_id, "conversations": words, **media}

    rows = [row(f"{name}{i}", video=f"{i}.mp4") for i in range(3) for name in "ab"]
    rows.append(row("part", video="0.mp4", clip_start_s=1.5, clip_end_s=4.0))
    rows += [row("img", image="i.png"), row("text")]
    (folder / "a.json").write_text(json.dumps(rows))
    table = "id,video,question,answer\nc0,0.mp4,c0?,c0!\nc1,1.mp4,c1?,c1!\n"
    (folder / "b.csv").write_text(table)
    run_prune([folder / "a.json", folder / "b.csv"], folder / "run", thresholds__default="keep 1.0")
    return folder / "run"


def shards_of(run, out, payload, **settings):
    directory = open_run(run)
    record = directory.read_run()
    values = {"shard.payload": payload, "shard.world_size": 2, "shard.frame_px": PX} | settings
    overrides = [(key, value, "test") for key, value in values.items()]
    config = load_config(None, overrides, run_settings=record["config"]).config
    shard_run(directory, record, config, open_folder(out), ShardObserver())
    return str(out)


@pytest.fixture(scope="module")
def loaded(run, tmp_path_factory):
    """Two epochs of each payload kind, by sample and epoch; one epoch's plans are stored."""
    folder = tmp_path_factory.mktemp("shards")
    found = {}
    for payload in ("video", "frames", "none"):
        uri = shards_of(run, folder / payload, payload)
        loader = ShardLoader(
            uri, frames=FrameOptions(frame_px=PX), batch=BatchRule(max_samples=3, max_frames=40),
            order=OrderRule(length_window=8, length_run=4),
        )  # fmt: skip
        samples = [s for _ in range(2) for batch in loader for s in batch.samples]
        loader.close()
        assert loader.replaced == []
        found[payload] = samples
    return found


@pytest.mark.parametrize("payload", ["video", "frames", "none"])
def test_every_kept_row_comes_once_an_epoch_with_its_own_words(payload, loaded):
    names = ["a0", "b0", "a1", "b1", "a2", "b2", "part", "img", "text", "c0", "c1"]
    for epoch in range(2):
        samples = {s.sample_id: s for s in loaded[payload] if s.epoch == epoch}
        assert sorted(name.split("/")[1] for name in samples) == sorted(names)
        assert len([s for s in loaded[payload] if s.epoch == epoch]) == len(names)
        for sample_id, sample in samples.items():
            name = sample_id.split("/")[1]
            question, answer = (turn.text for turn in sample.conversation)
            assert name in question
            assert answer == f"{name}!"
            assert (sample.frames_THWC is None) == (name == "text")


def test_payloads_show_the_same_frames_of_the_same_times(loaded):
    by = {
        payload: {(s.sample_id, s.epoch): s for s in samples} for payload, samples in loaded.items()
    }
    for (sample_id, epoch), video in by["video"].items():
        none = by["none"][sample_id, epoch]
        assert none.time_s_T.tolist() == video.time_s_T.tolist()
        if video.frames_THWC is None:
            continue
        assert (none.frames_THWC == video.frames_THWC).all()
        images = by["frames"][sample_id, epoch]
        first = by["video"][sample_id, 0]  # a frames payload has the stored epochs' frames alone
        assert images.time_s_T.tolist() == first.time_s_T.tolist()
        away = np.abs(images.frames_THWC.numpy().astype(int) - first.frames_THWC.numpy())
        assert away.mean() < 6  # JPEG, of hard edges
    rates = {s.fps for s in loaded["video"] if s.kind == "video"}
    assert rates >= {2.0, 3.0, 4.0}


def test_a_mixture_over_two_directories_keeps_its_weights(run, tmp_path):
    one = shards_of(run, tmp_path / "one", "none")
    two = shards_of(run, tmp_path / "two", "video")
    sources = [
        Source(uri=one, kinds=("video",), weight=3),
        Source(uri=two, kinds=("image",), weight=1),
    ]
    loader = ShardLoader(sources, frames=None)
    kinds = [s.kind for batch in loader for s in batch.samples]
    assert (kinds.count("video"), kinds.count("image")) == (9, 3)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_the_pages_example_runs(run, tmp_path, monkeypatch, capsys):
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (example,) = [example for example in examples if "ShardLoader" in example]
    monkeypatch.chdir(tmp_path)
    shards_of(run, Path("shards/first"), "frames")
    names = {}
    exec(compile(example, PAGE.name, "exec"), names)
    assert names["state"]["position"] == 11
    assert "Part(type='text', text='a0!')" in capsys.readouterr().out
