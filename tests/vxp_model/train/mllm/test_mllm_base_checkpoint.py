"""From a base checkpoint with Qwen's real vocabulary: answers end where they were taught to."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from support.drawn_source import DrawnSource
from support.later import LATER
from support.mllm_runs import recipe
from support.mllm_videos import write_colours
from support.qwen_vocabulary import write_qwen_base
from support.shard_fixtures import make_image, media_clip, write_shards
from support.tiny_video_xl_pro import drawn_frames

if LATER:
    import torch
    from transformers import GenerationConfig

    from vxp_model.cli import app
    from vxp_model.eval.adapters.ours import OurModel
    from vxp_model.eval.benchmarks.base import Prompt
    from vxp_model.inference.session import LongVideoModel
    from vxp_model.models.video_xl_pro import VideoXLProForConditionalGeneration
    from vxp_model.train.distributed import DistributedContext
    from vxp_model.train.mllm.run import train_mllm
    from vxp_model.train.mllm.start import start_model

pytestmark = pytest.mark.usefixtures("one_thread")

END, END_OF_TEXT = 151_645, 151_643
QUESTION = "What is red?"


@pytest.fixture(scope="module", params=["qwen2", "qwen2.5"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_qwen_base(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def trained(
    base: Path, context: DistributedContext, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    path = make_image(folder / "red.png")
    shown = np.asarray(Image.open(path).convert("RGB"))[None]
    clip = media_clip(path, ["red"], payload="frames", frames_NHWC=shown, is_image=True)
    loaded = recipe(
        write_shards(folder / "shards", [[clip]], payload="frames").uri,
        folder / "out",
        start={"init": "random", "preset": "tiny", "llm": str(base)},
        batch={"global_samples": 1, "micro_samples": 1},
        optim={"lr": 6e-2},
        run__steps=20,
        run__checkpoint_steps=100,
    )
    return train_mllm(loaded, context, lambda _: None).model


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colours(tmp_path_factory.mktemp("clip") / "clip.mp4", num_frames=12, fps=2)


def test_the_base_says_another_end_and_the_trained_model_both(base: Path, trained: Path) -> None:
    assert json.loads((base / "generation_config.json").read_text())["eos_token_id"] == END_OF_TEXT
    stored = json.loads((trained / "generation_config.json").read_text())
    assert stored["eos_token_id"] == [END, END_OF_TEXT]
    assert stored["pad_token_id"] == END_OF_TEXT
    assert "max_new_tokens" not in stored  # the base's 2,048 are no business of answers


def test_it_is_so_from_the_start(base: Path, tmp_path: Path) -> None:
    start = {"init": "random", "preset": "tiny", "llm": str(base)}
    model, processor = start_model(recipe("none", tmp_path, start=start).config)
    assert model.generation_config.eos_token_id == [END, END_OF_TEXT]
    assert model.language_model.generation_config == GenerationConfig()
    assert processor.visual_token_id == model.config.visual_token_id < 151_936
    assert processor.visual_token_id not in (END, END_OF_TEXT)


def test_the_read_model_stops_after_the_answer_it_learned(trained: Path) -> None:
    model = VideoXLProForConditionalGeneration.from_pretrained(trained)
    long_video = LongVideoModel(model, LongVideoModel.load(trained, device="cpu").processor)
    frames = torch.from_numpy(drawn_frames(4, px=56))
    asked = [{"type": "video", "video": frames}, {"type": "text", "text": QUESTION}]
    batch = long_video.processor([{"role": "user", "content": asked}])
    (ids,) = model.generate(**batch, max_new_tokens=64, do_sample=False)
    assert ids.tolist().index(END) == len(ids) - 1 < 63
    watched = long_video.watch_frames(
        [frames.numpy()], time_s_F=(0.0, 1.0, 2.0, 3.0), duration_s=4.0
    )
    answer = long_video.ask(watched, QUESTION, max_new_tokens=64)
    assert (answer.finish, answer.num_new) == ("stop", len(ids))
    assert answer.text == long_video.processor.decode(ids, skip_special_tokens=True).strip() != ""
    # A model of an older version says what its base said, and stops all the same.
    model.generation_config.eos_token_id = END_OF_TEXT
    assert long_video.ask(watched, QUESTION, max_new_tokens=64).num_new == len(ids)


@pytest.mark.parametrize("base", ["qwen2.5"], indirect=True, scope="module")
def test_the_commands_stop_there(trained: Path, clip: Path) -> None:
    given = [str(trained), "--video", str(clip), "--max-new-tokens", "64"]
    asked = CliRunner().invoke(app, ["generate", *given, "--prompt", QUESTION, "--json"])
    assert asked.exit_code == 0, asked.output
    told = json.loads(asked.stdout)
    assert told["finish"] == "stop"
    assert told["num_new"] < 64
    chat = CliRunner().invoke(app, ["chat", *given], input=f"{QUESTION}\n")
    assert chat.exit_code == 0, chat.output
    assert chat.stdout == f"{told['text']}\n"


@pytest.mark.parametrize("base", ["qwen2.5"], indirect=True, scope="module")
def test_the_evaluation_stops_there(trained: Path) -> None:
    model = OurModel.load(trained, device="cpu")
    prompts = [Prompt(text=text, max_new_tokens=64) for text in (QUESTION, f"{QUESTION} Really?")]
    replies = model.answer(model.watch(DrawnSource([0.0, 1.0, 2.0, 3.0])), prompts)
    assert [reply.finish for reply in replies] == ["stop", "stop"]
