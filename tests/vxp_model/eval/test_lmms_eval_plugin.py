"""Our models in lmms-eval: against a stand-in of its two classes, and by its own program."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from support.later import LATER
from support.mllm_videos import write_colours
from support.repo import ROOT
from support.tiny_video_xl_pro import write_tiny_video_xl_pro
from vxp_model.errors import UserError

if LATER:
    from vxp_model.data.visuals import FrameChoice
    from vxp_model.inference.session import LongVideoModel

pytestmark = pytest.mark.usefixtures("one_thread")

PLUGIN = "vxp_model.eval.lmms_eval_plugin"


@dataclass
class Manifest:
    """What `ModelManifest` is."""

    model_id: str
    chat_class_path: str


class Base:
    """What `lmms` is to us."""

    is_simple = True

    def __init__(self) -> None:
        self.cache_hook = SimpleNamespace(add_partial=lambda *given: self.cached.append(given))
        self.cached: list[Any] = []
        self.task_dict: dict[str, Any] = {}


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    stand_in = {
        "lmms_eval": {},
        "lmms_eval.api": {},
        "lmms_eval.api.model": {"lmms": Base},
        "lmms_eval.models": {},
        "lmms_eval.models.registry_v2": {"ModelManifest": Manifest},
    }
    for name, contents in stand_in.items():
        module = ModuleType(name)
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, PLUGIN, raising=False)
    yield importlib.import_module(PLUGIN)
    sys.modules.pop(PLUGIN, None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_video_xl_pro(tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    root = tmp_path_factory.mktemp("clips")
    return [
        str(write_colours(root / f"{number}.mp4", num_frames=18 + 4 * number, fps=2))
        for number in range(2)
    ]


def turn(role: str, *parts: str | dict[str, Any]) -> dict[str, Any]:
    content = [{"type": "text", "text": p} if isinstance(p, str) else p for p in parts]
    return {"role": role, "content": content}


def video(url: Any, **more: Any) -> dict[str, Any]:
    return {"type": "video", "url": url, **more}


def ask(model: Any, *asked: tuple[list[dict[str, Any]], dict[str, Any]]) -> list[str]:
    """Ask as lmms-eval does: six arguments a request, the document looked up in the task."""
    model.task_dict = {"colours": {"test": [messages for messages, _ in asked]}}
    requests = [
        SimpleNamespace(args=(f"context {number}", list, given, number, "colours", "test"))
        for number, (_, given) in enumerate(asked)
    ]
    replies: list[str] = model.generate_until(requests)
    return replies


def test_the_entry_point_names_the_model(plugin: Any) -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    target = settings["project"]["entry-points"]["lmms_eval.models"]["vxp"]
    module, _, name = target.partition(":")
    assert (module, getattr(plugin, name)) == (PLUGIN, plugin.manifest)
    manifest = plugin.manifest()
    assert manifest.model_id == "video_xl_pro"
    path, _, name = manifest.chat_class_path.rpartition(".")
    assert (path, getattr(plugin, name)) == (PLUGIN, plugin.VideoXLPro)
    assert plugin.VideoXLPro.is_simple is False


@pytest.mark.parametrize("batch_size", ["1", 3])
def test_replies_are_the_sessions_in_the_order_of_the_requests(
    plugin: Any, folder: Path, clips: list[str], batch_size: int | str
) -> None:
    model = plugin.VideoXLPro(
        str(folder), fps=1.0, keep_ratio=0.5, batch_size=batch_size, device="cpu"
    )
    watched: list[str] = []
    watch = model.session.watch
    model.session.watch = lambda uri, choice: watched.append(uri) or watch(uri, choice)
    few = {"max_new_tokens": 4, "temperature": 0, "until": ["\n\n"]}
    history = [turn("user", video(clips[1]), "First?"), turn("assistant", "Red.")]
    replies = ask(
        model,
        ([turn("user", video(clips[1]), "Which?")], few),
        ([turn("system", "Look."), turn("user", video(clips[0]), "Who?")], few),
        ([*history, turn("user", "And then?")], few),
        ([turn("user", video(clips[1]), "How", "many?")], {"max_new_tokens": 6}),
    )
    assert sorted(watched) == sorted(clips)
    session = LongVideoModel.load(folder, device="cpu")
    seen = [session.watch(clip, FrameChoice(fps=1.0)) for clip in clips]
    given: dict[str, Any] = {"keep_ratio": 0.5, "max_new_tokens": 4}
    assert replies == [
        session.ask(seen[1], "Which?", **given).text,
        session.ask(seen[0], "Who?", system="Look.", **given).text,
        session.ask(seen[1], "And then?", history=[("First?", "Red.")], **given).text,
        session.ask(seen[1], "How\nmany?", **(given | {"max_new_tokens": 6})).text,
    ]
    assert ("generate_until", ("context 0", few), replies[0]) in model.cached
    assert len(model.cached) == 4


def test_sampling_is_handed_on_and_replies_end_at_stop_strings(
    plugin: Any, folder: Path, clips: list[str]
) -> None:
    model = plugin.VideoXLPro(str(folder), device="cpu")
    given: list[dict[str, Any]] = []
    answer = SimpleNamespace(text="A cat.\n\nOr not")
    model.session.ask = lambda *_, **options: given.append(options) or answer
    model.session.ask_many = lambda _, asked, **__: [answer] * len(asked)
    messages = [turn("user", video(clips[0]), "Which?")]
    replies = ask(
        model,
        (messages, {"temperature": 0.7, "top_p": 0.9, "num_beams": 1, "until": "\n\n"}),
        (messages, {"num_beams": 2, "temperature": 0, "top_p": 1.0}),
        (messages, {"temperature": 0, "num_beams": 1, "do_sample": False, "until": ["cat", "A"]}),
    )
    assert replies == ["A cat.", answer.text, ""]
    names = ("do_sample", "temperature", "top_p", "num_beams")
    told = [{name: one[name] for name in names if name in one} for one in given]
    assert told == [{"do_sample": True, "temperature": 0.7, "top_p": 0.9}, {"num_beams": 2}]
    assert given[0]["max_new_tokens"] == 128


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([turn("user", "Which?")], "wants one video, in the first turn; got 0"),
        ([turn("user", video("a"), video("b"), "Which?")], "got 2"),
        ([turn("user", {"type": "image", "url": "a.png"})], "a part of type 'image' of str"),
        ([turn("user", video([1, 2]))], "a part of type 'video' of list"),
        ([turn("user", video("a", start_time=1.0))], "start or end time"),
        ([turn("user", video("a")), turn("assistant", "b")], "must alternate"),
        (
            [turn("user", "a"), turn("assistant", "b"), turn("user", video("c"))],
            "wants one video, in the first turn; got 1",
        ),
    ],
)
def test_other_conversations_are_refused(
    plugin: Any, messages: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(UserError, match=f"colours, document 3: .*{message}"):
        plugin.read_messages(messages, 8, "colours, document 3")


TASK = """\
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
task: tiny_colours
test_split: test
output_type: generate_until
doc_to_visual: !function utils.visual
doc_to_text: !function utils.text
doc_to_messages: !function utils.messages
doc_to_target: answer
generation_kwargs: {{max_new_tokens: 5, temperature: 0, do_sample: false}}
process_results: !function utils.score
metric_list: [{{metric: right, aggregation: mean, higher_is_better: true}}]
"""

UTILS = """\
def visual(doc):
    return [doc["video"]]

def text(doc, lmms_eval_specific_kwargs=None):
    return doc["question"]

def messages(doc, lmms_eval_specific_kwargs=None):
    video, text = {"type": "video", "url": doc["video"]}, {"type": "text", "text": doc["question"]}
    return [{"role": "user", "content": [video, text]}]

def score(doc, results):
    return {"right": float(results[0] == doc["answer"])}
"""


@pytest.mark.skipif(find_spec("lmms_eval") is None, reason="lmms-eval is not installed")
def test_lmms_eval_itself_runs_a_task_of_its_own(
    folder: Path, clips: list[str], tmp_path: Path
) -> None:
    session = LongVideoModel.load(folder, device="cpu")
    rows = [
        {"video": clips[number % 2], "question": f"Which {number}?", "answer": "B"}
        for number in range(3)
    ]
    wanted = [
        session.ask(session.watch(row["video"]), row["question"], max_new_tokens=5).text
        for row in rows
    ]
    rows[1]["answer"] = wanted[1]
    task = tmp_path / "task"
    task.mkdir()
    (task / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (task / "tiny_colours.yaml").write_text(TASK.format(rows=task / "rows.jsonl"))
    (task / "utils.py").write_text(UTILS)
    words = ["--model", "video_xl_pro", "--model_args", f"pretrained={folder}"]
    words += ["--tasks", "tiny_colours", "--include_path", str(task), "--batch_size", "2"]
    words += ["--device", "cpu", "--log_samples", "--output_path", str(tmp_path / "out")]
    home = {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-m", "lmms_eval", *words],
        cwd=tmp_path,  # beside a checkout's own metadata, an installed entry point is not seen
        env=os.environ | home,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    samples = next((tmp_path / "out").rglob("*_samples_tiny_colours.jsonl"), None)
    assert samples is not None, ran.stderr[-3000:]  # it ends with 0 after any error
    found = [json.loads(line)["filtered_resps"] for line in samples.read_text().splitlines()]
    assert [one.strip() for one in found] == wanted
    (results,) = (tmp_path / "out").rglob("*_results.json")
    figure = json.loads(results.read_text())["results"]["tiny_colours"]["right,none"]
    assert figure == pytest.approx(sum(w == r["answer"] for w, r in zip(wanted, rows)) / 3)  # noqa: B905
