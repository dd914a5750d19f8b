"""Conversations from a row to the loss: every turn, by its role, and no marker but a medium's."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path

import pytest

from support.later import LATER
from support.mllm_runs import recipe
from support.runs import run_prune, run_shard, table, write_rows
from support.talks import TALKS, UNANSWERED, talks_run
from vxp_model.errors import UserError
from vxp_model.train.metrics_log import read_log

if LATER:
    from vxp_model.data.frames import FrameOptions
    from vxp_model.data.index import load_index
    from vxp_model.data.loader import ShardLoader
    from vxp_model.data.sample import TrainSample
    from vxp_model.models.byte_tokenizer import byte_tokenizer
    from vxp_model.models.processor import VideoXLProProcessor
    from vxp_model.models.visual_sequence import IGNORED_LABEL, Kind
    from vxp_model.train.distributed import DistributedContext
    from vxp_model.train.mllm.batches import collate
    from vxp_model.train.mllm.run import train_mllm

pytestmark = pytest.mark.usefixtures("one_thread", "engine")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, engine: None) -> Path:  # noqa: ARG001
    return talks_run(tmp_path_factory.mktemp("talks"))


@pytest.fixture(scope="module")
def shards(run: Path) -> str:
    out = run.parent / "shards"
    assert run_shard(run, out, shard__payload="frames", shard__frame_px=56).num_kept_rows == 10
    return str(out)


@pytest.fixture(scope="module")
def samples(shards: str) -> dict[str, TrainSample]:
    loader = ShardLoader(shards, frames=FrameOptions(frame_px=56))
    found = {s.sample_id.partition("/")[2]: s for batch in loader for s in batch.samples}
    loader.close()
    assert found.keys() == TALKS.keys() | UNANSWERED.keys()
    return found


def test_the_run_and_the_loader_have_every_turn(run: Path, samples: dict[str, TrainSample]) -> None:
    stored = {row["sample_id"].partition("/")[2]: row["turns"] for row in table(run, "samples")}
    for name, talk in TALKS.items():
        assert json.loads(stored[name]) == talk.messages(), name
        assert [turn.message for turn in samples[name].conversation] == talk.messages(), name
        assert samples[name].kind == talk.kind


@pytest.mark.parametrize("name", TALKS)
def test_training_sees_every_turn_and_learns_the_answers(
    name: str, samples: dict[str, TrainSample]
) -> None:
    tokenizer = byte_tokenizer()
    processor = VideoXLProProcessor(tokenizer, image_px=56, group_tokens=4)
    inputs = collate([samples[name]], processor=processor, seed=1).inputs
    text, frames = "", (int(Kind.VISUAL), int(Kind.IMAGE), int(Kind.TIME))
    pairs = zip(inputs["input_ids"][0].tolist(), inputs["token_kinds"][0].tolist(), strict=True)
    for is_shown, own in groupby(pairs, key=lambda pair: pair[1] in frames):
        text += "@" if is_shown else tokenizer.decode([token for token, _ in own])
    wanted = TALKS[name].prompt
    assert text == "".join(f"<|im_start|>{who}\n{said}<|im_end|>\n" for who, said in wanted)
    labels_P = inputs["labels"][0]
    learnt = tokenizer.decode(labels_P[labels_P != IGNORED_LABEL])
    assert learnt == "".join(f"{said}<|im_end|>" for who, said in wanted if who == "assistant")


def test_a_row_without_an_answer_is_named(samples: dict[str, TrainSample]) -> None:
    processor = VideoXLProProcessor(byte_tokenizer(), image_px=56, group_tokens=4)
    with pytest.raises(UserError, match="'rows/asked' has no answer to learn from"):
        collate([samples["asked"]], processor=processor, seed=1)


def test_the_index_tells_of_each_rows_words(shards: str) -> None:
    table = load_index(shards)
    facts = table.facts
    assert facts is not None
    columns = zip(
        facts.dataset_N.to_pylist(),
        *(getattr(facts, f"{name}_N").tolist() for name in (
            "num_answers", "text_bytes", "answer_bytes", "num_media", "num_markers")),
        strict=True,
    )  # fmt: skip
    by_id = {table.sample_id(n).partition("/")[2]: row for n, row in enumerate(columns)}
    french = b"Answer in French.What is it?", "Un carré vert.".encode()
    assert by_id["system"] == ("rows", 1, len(b"".join(french)), len(french[1]), 1, 1)
    assert by_id["tool"][1] == 2
    assert by_id["no last answer"][1:4] == (1, len("Look:\nWho?He. And?"), len("He. "))
    assert by_id["words"][-2:] == (1, 1)
    assert by_id["html"][-2:] == (0, 2)
    assert by_id["asked"][1] == 0


def test_a_training_takes_them(run: Path, context: DistributedContext, tmp_path: Path) -> None:
    rows = [{"id": name, **talk.row} for name, talk in TALKS.items()]
    manifest = write_rows(tmp_path / "rows.json", rows)
    run_prune(manifest, tmp_path / "run", run.parent / "media", thresholds__default="keep 1.0")
    run_shard(tmp_path / "run", tmp_path / "shards", shard__payload="frames", shard__frame_px=56)
    loaded = recipe(str(tmp_path / "shards"), tmp_path / "out", run__steps=2)
    result = train_mllm(loaded, context, lambda _: None)
    log = read_log(result.out / "log.jsonl")
    seen = {name.partition("/")[2] for entry in log for name in entry["sample_ids"]}
    assert seen == TALKS.keys()
    assert all(entry["loss"] > 0 for entry in log)
