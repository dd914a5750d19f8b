"""The judge of captions: ratings, replies that hold none, and frames that are the run's own."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import caption_judge
import numpy as np
import pyarrow.parquet as pq
import pytest
from asks import Frames
from command import run
from pictures import Pictures, RunFrames
from PIL import Image
from template_rows import read_template

from support.chat_server import chat_server
from support.commands import vxp_data_here
from support.score_rows import template_row, write_template
from support.tiny_causal_lm import write_tiny_causal_lm
from support.tiny_qwen2_5_vl import write_tiny_qwen2_5_vl
from vxp_model.eval.media import VideoReader


def caption(name: str, text: str, **more: Any) -> dict[str, Any]:
    return template_row(name, "Describe this video.", text, task="caption", **more)


def scored(path: Path) -> dict[str, dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return {row["sample_id"]: row for row in rows}


def judge(*words: str | Path) -> int:
    return run(lambda: caption_judge.main([str(word) for word in words]))


def test_captions_are_rated_and_an_unreadable_reply_is_no_zero(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    rows = [
        caption("good", "A man opens a door, then he sits down."),
        caption("poor", "Stuff happens."),
        caption("odd", "A cat."),
        caption("empty", ""),
        template_row("question", "Who?", "Ann", task="open_ended"),
    ]
    replies = {"A man": "It has order.\nRating: 8", "Stuff": "Rating: 0", "A cat": "No idea."}
    path = write_template(tmp_path / "rows.jsonl", rows)
    out = tmp_path / "judge.jsonl"

    def reply(body: dict[str, Any]) -> str:
        text = body["messages"][-1]["content"]
        return next(said for words, said in replies.items() if words in text)

    with chat_server(["j"], reply) as server:
        assert judge(path, "--out", out, "--server", f"{server.url}#j") == 0
        assert len(server.requests) == 3
        assert isinstance(server.requests[0][2]["messages"][-1]["content"], str)
    found = scored(out)
    assert {name: (row["score"], row["reason"]) for name, row in found.items()} == {
        "good": (8.0, ""), "poor": (0.0, ""), "odd": (None, "unreadable"),
        "empty": (None, "no_caption"), "question": (None, "other_task"),
    }  # fmt: skip
    assert json.loads(found["odd"]["details"])["replies"] == ["No idea."]
    assert found["good"]["scorer"] == "caption_text"
    told = capsys.readouterr().out
    assert "without a score: no_caption 1, other_task 1, unreadable 1" in told
    assert "only words were judged" in told


def test_the_mean_of_several_tries_counts_if_all_can_be_read(tmp_path: Path):
    path = write_template(tmp_path / "rows.jsonl", [caption("a", "A man."), caption("b", "A cat.")])
    out = tmp_path / "judge.jsonl"

    def reply(body: dict[str, Any]) -> str:
        if body["temperature"] == 0:
            return "Rating: 4"
        return "Rating: 9" if "A man." in body["messages"][-1]["content"] else "?"

    with chat_server(["j"], reply) as server:
        judge(path, "--out", out, "--server", f"{server.url}#j", "--tries", "2")
    assert [(row["score"], row["reason"]) for row in scored(out).values()] == [
        (6.5, ""), (None, "unreadable"),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def template(mixed_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "rows.jsonl"
    assert vxp_data_here("score-template", mixed_run, "--out", path).returncode == 0
    return path


def test_a_judge_sees_the_frames_that_the_run_has_scored(
    mixed_run: Path, template: Path, tmp_path: Path
):
    seen: dict[str, list[Image.Image]] = {}

    def reply(body: dict[str, Any]) -> str:
        *parts, words = body["messages"][-1]["content"]
        assert words["type"] == "text"
        images = []
        for part in parts:
            kind, _, data = part["image_url"]["url"].partition(",")
            assert kind == "data:image/jpeg;base64"
            images.append(Image.open(io.BytesIO(base64.b64decode(data))))
        seen[str(len(seen))] = images
        return "Rating: 5"

    out = tmp_path / "judge.jsonl"
    with chat_server(["j"], reply) as server:
        code = judge(
            template, "--out", out, "--server", f"{server.url}#j", "--frames", "4",
            "--run", mixed_run, "--frame-px", "64", "--parallel", "1",
        )  # fmt: skip
    assert code == 0
    found = scored(out)
    assert {row["scorer"] for row in found.values()} == {"caption_frames"}
    judged = [name for name, row in found.items() if row["score"] == 5.0]
    assert len(judged) == len(seen) > 5
    (first,) = [
        row for row in map(json.loads, template.read_text().splitlines())
        if row["sample_id"] == judged[0]
    ]  # fmt: skip
    media = pq.read_table(mixed_run / "media.parquet").to_pylist()
    (facts,) = [
        one for one in media
        if (one["uri"], one["clip_start_s"]) == (first["media_uri"], 0.0)
        and one["clip_end_s"] == float("inf")
    ]  # fmt: skip
    index, num = facts["frame_index"], len(facts["frame_index"])
    wanted = [index[int((n + 0.5) * num / 4)] for n in range(4)]
    reader = VideoReader()
    with reader.open(first["media_uri"]) as file:
        frames_FHWC = np.concatenate(list(file.pieces(np.array(wanted), piece_frames=4)))
    reader.close()
    assert len(seen["0"]) == 4
    for image, frame_HWC in zip(seen["0"], frames_FHWC, strict=True):
        assert max(image.size) <= 64
        own = np.asarray(Image.fromarray(frame_HWC).resize(image.size), dtype=np.float64)
        assert np.abs(np.asarray(image, dtype=np.float64) - own).mean() < 12


def test_rows_whose_clip_the_run_does_not_have_are_counted(mixed_run: Path, tmp_path: Path):
    path = write_template(tmp_path / "rows.jsonl", [caption("a", "A man.")])
    out = tmp_path / "judge.jsonl"
    with chat_server(["j"]) as server:
        words = (path, "--out", out, "--server", f"{server.url}#j", "--frames", "4")
        assert judge(*words, "--run", mixed_run) == 2
        assert judge(*words) == 2
        assert server.requests == []
    assert scored(out)["a"]["reason"] == "no_frames"


@pytest.mark.usefixtures("one_thread")
def test_models_in_folders_judge_words_and_frames(
    mixed_run: Path, template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    text = write_tiny_causal_lm(tmp_path / "text")
    out = tmp_path / "text.jsonl"
    words = ("--device", "cpu", "--max-tokens", "4")
    # Random models rate nothing: what is asked and kept is looked at.
    assert judge(template, "--out", out, "--model", text, *words) == 2
    assert "unreadable" in capsys.readouterr().err
    assert all(len(json.loads(row["details"])["replies"]) == 1
               for row in scored(out).values() if row["reason"] == "unreadable")  # fmt: skip
    seeing = write_tiny_qwen2_5_vl(tmp_path / "seeing", seed=5)
    own = caption("short", "A man.")
    rows = [json.loads(line) for line in template.read_text().splitlines()]
    two = [row for row in rows if row["task"] == "caption"][:2]
    path = write_template(tmp_path / "rows.jsonl", [own, *two])
    out = tmp_path / "seen.jsonl"
    short = tmp_path / "short.txt"
    short.write_text("[system]\n.\n[rating]\n.\n")
    frames = ("--frames", "2", "--run", mixed_run, "--frame-px", "28", "--prompts", short)
    assert judge(path, "--out", out, "--model", seeing, *words, *frames) == 2
    found = list(scored(out).values())
    assert [row["reason"] for row in found] == ["no_frames", "unreadable", "unreadable"]
    replies = [json.loads(row["details"])["replies"][0] for row in found[1:]]
    assert all(len(reply) == 4 for reply in replies)
    assert len(set(replies)) == 2  # the same words, other frames
    shown = [RunFrames(str(mixed_run)).of(row, most=2, side_px=28) for row in read_template(path)]
    assert shown[0] is None
    assert replies == [reply_of_transformers(seeing, frames) for frames in shown[1:] if frames]


def reply_of_transformers(folder: Path, frames: Frames) -> str:
    """What a model says to '.' and frames, by its processor alone."""
    from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

    pictures = Pictures()
    found = pictures.jpegs(frames)
    pictures.close()
    assert isinstance(found, list)
    images = [Image.open(io.BytesIO(one)) for one in found]
    processor = Qwen2_5_VLProcessor.from_pretrained(folder)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder)
    turns = ("<|im_start|>system\n.<|im_end|>\n<|im_start|>user\n", ".<|im_end|>\n")
    image = "<|vision_start|><|image_pad|><|vision_end|>"
    text = turns[0] + image * len(images) + turns[1] + "<|im_start|>assistant\n"
    inputs = processor(text=[text], images=images, return_tensors="pt")
    made = model.generate(**inputs, max_new_tokens=4, do_sample=False)
    reply: str = processor.decode(made[0, inputs["input_ids"].shape[1] :])
    return reply


def test_frames_for_a_model_that_takes_none_are_refused(
    mixed_run: Path, template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    text = write_tiny_causal_lm(tmp_path / "text")
    words = (template, "--out", tmp_path / "x.jsonl", "--frames", "2", "--run", mixed_run)
    assert judge(*words, "--model", text, "--device", "cpu") == 2
    assert "no model of transformers that takes images" in capsys.readouterr().err
    assert judge(*words, "--model", text, "--ray") == 2
    assert "Serve the model" in capsys.readouterr().err
