"""Models of transformers: what they say is what transformers' own direct use says."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.drawn_source import DrawnSource
from support.later import LATER
from support.tiny_qwen2_5_vl import write_tiny_qwen2_5_vl
from vxp_model.errors import UserError
from vxp_model.eval.benchmarks.base import Prompt

if LATER:
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from vxp_model.eval.adapters.transformers_model import TransformersModel

pytestmark = pytest.mark.usefixtures("one_thread")

TIMES = tuple(number / 2 for number in range(9))
PROMPT = Prompt(text="Which?", max_new_tokens=12)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_qwen2_5_vl(tmp_path_factory.mktemp("qwen2_5_vl"))


@pytest.fixture
def model(folder: Path) -> TransformersModel:
    return TransformersModel.load(folder, device="cpu", frame_px=56)


class Direct:
    """Their own classes, used as their own pages do."""

    def __init__(self, folder: Path) -> None:
        self.processor = AutoProcessor.from_pretrained(folder)
        self.model = AutoModelForImageTextToText.from_pretrained(folder).eval()

    def inputs(self, messages: list[dict[str, Any]], begin: str = "") -> Any:
        (frames,) = DrawnSource(TIMES).pieces(frame_px=56, piece_frames=100)
        text = self.processor.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        metadata = {"total_num_frames": 9, "fps": 2.0, "frames_indices": list(range(9))}
        return self.processor(
            text=[text + begin],
            videos=[frames.copy()],
            video_metadata=[metadata],
            do_sample_frames=False,
            return_tensors="pt",
        )

    def reply(self, messages: list[dict[str, Any]], begin: str = "") -> str:
        inputs = self.inputs(messages, begin)
        ids = self.model.generate(**inputs, max_new_tokens=12, do_sample=False)
        new = ids[0, inputs["input_ids"].shape[1] :]
        return str(self.processor.decode(new, skip_special_tokens=True)).strip()


@pytest.fixture(scope="module")
def direct(folder: Path) -> Direct:
    return Direct(folder)


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": text}]}


def test_a_reply_is_that_of_their_own_classes(model: TransformersModel, direct: Direct) -> None:
    watched = model.watch(DrawnSource(TIMES))
    (reply,) = model.answer(watched, [PROMPT])
    assert reply.text == direct.reply([user("Which?")])
    assert (reply.num_visual, reply.num_kept, reply.kept_by_group) == (20, 20, None)
    assert model.frames_per_group == 2
    (other,) = model.answer(model.watch(DrawnSource(TIMES, seed=1)), [PROMPT])
    assert other.text != reply.text
    assert model.answer(watched, [PROMPT])[0].text == reply.text


def test_times_of_frames_are_those_of_the_plan(model: TransformersModel, direct: Direct) -> None:
    """Qwen2.5-VL's positions follow from the seconds between frames."""
    inputs = direct.inputs([user("Which?")])
    assert inputs["second_per_grid_ts"].tolist() == [1.0]
    seen: list[Any] = []
    generate = model.model.generate
    model.model.generate = lambda **given: seen.append(given) or generate(**given)
    model.answer(model.watch(DrawnSource(TIMES)), [PROMPT])
    model.answer(model.watch(DrawnSource([0.0, 3.0, 7.0])), [PROMPT])
    model.answer(model.watch(DrawnSource([5.0])), [PROMPT])
    assert [given["second_per_grid_ts"].tolist() for given in seen] == [[1.0], [7.0], [2.0]]


def test_system_timed_texts_and_the_beginning_of_the_reply(
    model: TransformersModel, direct: Direct
) -> None:
    prompt = replace(
        PROMPT, system="Look.", timed_texts=((0.5, "Hello."), (61.0, "Bye.")), reply_start="Best: ("
    )
    (reply,) = model.answer(model.watch(DrawnSource(TIMES)), [prompt])
    system = {"role": "system", "content": [{"type": "text", "text": "Look."}]}
    asked = user("[0.5 s] Hello.\n[61.0 s] Bye.\nWhich?")
    assert reply.text == direct.reply([system, asked], "Best: (")
    assert reply.text != direct.reply([system, asked])


def test_a_batch_replies_as_each_prompt_alone(model: TransformersModel) -> None:
    watched = model.watch(DrawnSource(TIMES))
    prompts = [
        PROMPT,
        replace(PROMPT, text="And what is it that is seen at the end of it?", max_new_tokens=4),
        replace(PROMPT, text="Who?", reply_start="It is", max_new_tokens=9),
    ]
    alone = [model.answer(watched, [prompt])[0] for prompt in prompts]
    together = model.answer(watched, prompts)
    assert [(one.text, one.finish) for one in together] == [(one.text, one.finish) for one in alone]
    assert len({one.text for one in alone}) == 3


@pytest.mark.parametrize("takes_features", [True, False])
def test_a_video_is_processed_and_encoded_once(
    folder: Path, takes_features: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = AutoModelForImageTextToText.from_pretrained(folder)
    if not takes_features:
        forget_features(loaded)
    processor = AutoProcessor.from_pretrained(folder)
    model, calls = TransformersModel(loaded, processor, identity={}), [0, 0]
    tower, video_processor = model.model.base_model.visual, model.processor.video_processor
    forward, process = tower.forward, video_processor.inner

    def encoded(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        return forward(*args, **kwargs)

    def processed(*args: Any, **kwargs: Any) -> Any:
        calls[1] += 1
        return process(*args, **kwargs)

    monkeypatch.setattr(tower, "forward", encoded)
    monkeypatch.setattr(video_processor, "inner", Passing(process, processed))
    for seed in (0, 1):
        watched = model.watch(DrawnSource(TIMES, seed=seed))
        model.answer(watched, [PROMPT])
        model.answer(watched, [PROMPT, replace(PROMPT, text="Who?")])
        model.continued(watched, PROMPT, ["A", "B", "No."])
    assert calls == ([2, 2] if takes_features else [8, 2])


def forget_features(model: Any) -> None:
    """Have a model as those are whose forward knows no `mm_encoder_outputs`."""
    forward = model.forward
    known = inspect.signature(forward)
    left = [one for name, one in known.parameters.items() if name != "mm_encoder_outputs"]

    def plain(*args: Any, **kwargs: Any) -> Any:
        return forward(*args, **kwargs)

    plain.__signature__ = known.replace(parameters=left)  # type: ignore[attr-defined]
    model.forward = plain


class Passing:
    """Another callable in front of an object."""

    def __init__(self, inner: Any, call: Any) -> None:
        self.inner, self.call = inner, call

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.call(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def test_given_replies_are_as_likely_as_in_a_plain_forward(
    model: TransformersModel, direct: Direct
) -> None:
    prompt = replace(PROMPT, reply_start="Best: (")
    replies = ["A", "Blue cars", "b"]
    found = model.continued(model.watch(DrawnSource(TIMES)), prompt, replies)
    for reply, one in zip(replies, found, strict=True):
        inputs = direct.inputs([user("Which?")], "Best: (" + reply)  # bytes: one token each
        with torch.no_grad():
            logits = direct.model(**inputs).logits[0, -len(reply) - 1 : -1]
        ids = inputs["input_ids"][0, -len(reply) :]
        log = logits.log_softmax(-1)
        assert one.log_prob == pytest.approx(float(log[range(len(reply)), ids].sum()), abs=1e-3)
        assert one.num_tokens == len(reply)
        assert one.is_greedy == bool((log.argmax(-1) == ids).all())


def test_a_reply_tells_whether_it_ended(model: TransformersModel) -> None:
    watched = model.watch(DrawnSource(TIMES))
    (cut,) = model.answer(watched, [PROMPT])
    assert cut.finish == "length"
    model.model.generation_config.eos_token_id = list(range(1, 270))
    (ended,) = model.answer(watched, [PROMPT])
    assert ended.finish == "stop"


def test_what_cannot_be_loaded_is_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no model: there is no config.json"):
        TransformersModel.load(tmp_path)
    for path in folder.iterdir():
        if path.name != "chat_template.jinja":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(UserError, match="has no chat template"):
        TransformersModel.load(tmp_path, device="cpu")
    (tmp_path / "config.json").write_text('{"model_type": "no_such_model"}')
    with pytest.raises(UserError, match="transformers cannot load it"):
        TransformersModel.load(tmp_path, device="cpu")


def test_frames_keep_their_size_unless_told(folder: Path) -> None:
    assert TransformersModel.load(folder, device="cpu").watch(
        DrawnSource(TIMES, px=72)
    ).frames_THWC.shape == (9, 72, 72, 3)
    model = TransformersModel.load(folder, device="cpu", frame_px=28)
    frames = model.watch(DrawnSource(TIMES, px=72)).frames_THWC
    assert frames.shape == (9, 28, 28, 3)
    assert frames.dtype == np.uint8
    assert model.identity["frame_px"] == 28


def test_a_prompt_beyond_the_models_positions_is_refused(model: TransformersModel) -> None:
    watched = model.watch(DrawnSource(TIMES))
    with pytest.raises(UserError, match=r"positions, the model has [\d,]+\. Show fewer frames"):
        model.answer(watched, [replace(PROMPT, text="word " * 20_000)])
