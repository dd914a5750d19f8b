"""Which rows are left out before a training, by the index, and by the records of format 1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from support.bad_rows import (
    IMAGE,
    LEFT_OUT,
    VIDEO,
    answered,
    asked,
    forty_rows,
    said,
    without_plans,
)
from support.format_1 import PAYLOADS, stored_shards
from support.later import LATER
from support.shard_fixtures import (
    Shards,
    damage,
    make_image,
    media_clip,
    rewrite_samples,
    text_clip,
    told,
    write_shards,
)
from vxp_data.conversation import Role, Turn, conversation_from_json
from vxp_model.data.index import RowFacts, load_index
from vxp_model.data.row_check import RowCheck, check_rows, conversation_problem
from vxp_model.data.row_facts import facts_of
from vxp_model.data.sources import Rows, Source, read_rows
from vxp_model.errors import UserError

if LATER:
    from vxp_model.data.frames import FrameOptions
    from vxp_model.data.loader import ShardLoader
    from vxp_model.data.order import OrderRule

if TYPE_CHECKING:
    from numpy.typing import NDArray


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    return forty_rows(tmp_path_factory.mktemp("forty"))


class Words:
    """Takes at most so many words; says which rows it was asked of."""

    def __init__(self, most: int, *, over_bytes: int = 0) -> None:
        self.most, self.over_bytes, self.asked = most, over_bytes, list[str]()

    def may_exceed(self, facts: RowFacts, num_frames_N: NDArray[np.int32]) -> NDArray[np.bool_]:
        assert len(num_frames_N) == len(facts.text_bytes_N)
        return facts.text_bytes_N > self.over_bytes

    def problem(self, turns: Sequence[Turn], media: Sequence[tuple[str, Sequence[float]]]) -> str:
        assert len(media) == sum(turn.num_media for turn in turns)
        text = " ".join(turn.text for turn in turns)
        self.asked.append(text[:6])
        return "too many words" if len(text.split()) > self.most else ""


def check(uri: str, limit: Words | None = None, **source: Any) -> RowCheck:
    return check_rows(read_rows([Source(uri=uri, **source)]), reads_words=True, limit=limit)


def reasons(found: RowCheck) -> dict[str, str]:
    return {row.sample_id: row.reason.value for row in found.left_out}


def test_every_kind_is_found_and_counted(rows: Shards) -> None:
    limit = Words(1000, over_bytes=2000)
    found = check(rows.uri, limit)
    assert reasons(found) == LEFT_OUT
    assert found.by_reason() == Counter(LEFT_OUT.values())
    assert len(limit.asked) == 2  # no other is read for its length
    assert (found.num_all, found.share) == (40, 0.2)
    assert found.num_rows == {
        (0, "d"): 6, (0, "d0"): 7, (0, "d1"): 7, (0, "films"): 11, (0, "pictures"): 9,
    }  # fmt: skip
    (part,) = found.parts
    assert len(part.row_N) == 32
    given = {part.table.sample_id(row) for row in part.row_N}
    assert given == set(rows.sample_ids) - LEFT_OUT.keys()
    assert reasons(check(rows.uri)) == {k: v for k, v in LEFT_OUT.items() if v != "too_long"}


def test_a_training_without_words_needs_frames_alone(tmp_path: Path) -> None:
    image = make_image(tmp_path / "a.png")
    clips = [media_clip(image, ["seen"], is_image=True)]
    other = make_image(tmp_path / "b.png", seed=1)
    clips.append(without_plans(media_clip(other, ["empty"], is_image=True)))
    clips = [told(clip, [asked("Who?")]) for clip in clips]
    shards = write_shards(tmp_path / "s", [clips])
    found = check_rows(read_rows([Source(uri=shards.uri)]), reads_words=False)
    assert reasons(found) == {"empty": "no_frames"}
    with pytest.raises(UserError, match=r"not one of its 2 rows .*empty: no_frames: its plan has"):
        check(shards.uri)


@pytest.mark.parametrize(
    ("conversation", "num_media", "reason"),
    [
        ([asked("Who?"), answered("He.")], 0, None),
        ([asked("How do I close a <video> tag?"), answered("So.")], 0, None),
        ([asked("Look.\n<image>"), answered("So.")], 0, "marker_without_medium"),
        ([asked([IMAGE, said("a\n<image>\nb")]), answered("So.")], 1, "marker_without_medium"),
        ([asked([IMAGE, said("a <image> tag?")]), answered("<image>\nSo.")], 1, None),
        ([asked([VIDEO]), answered("So.")], 2, "media_misplaced"),
        ([asked([VIDEO, VIDEO]), answered("So.")], 1, "media_misplaced"),
        ([asked([VIDEO]), answered([VIDEO])], 2, "no_answer"),
        ([], 0, "no_answer"),
        ([{"role": "tool", "content": [VIDEO]}, answered("So.")], 1, "media_misplaced"),
    ],
)  # fmt: skip
def test_what_keeps_a_conversation_from_being_learned(
    conversation: list[Any], num_media: int, reason: str | None
) -> None:
    import json

    turns = conversation_from_json(json.dumps(conversation))
    found = conversation_problem(turns, num_media)
    assert (found and found[0]) == reason


def test_a_conversation_that_is_none_is_found_where_it_is_looked_at(tmp_path: Path) -> None:
    clips = [told(text_clip("none"), "not JSON"), text_clip("good"), text_clip("odd")]
    shards = write_shards(tmp_path / "s", [clips], payload="none")
    assert reasons(check(shards.uri)) == {}
    rewrite_samples(shards, "none", num_markers=1)
    rewrite_samples(shards, "odd", num_markers=1)  # looked at, and nothing is wrong with it
    assert reasons(check(shards.uri)) == {"none": "bad_record"}


def test_a_mixture_counts_each_source_and_names_the_rows_of_each(rows: Shards) -> None:
    sources = [Source(uri=rows.uri, datasets=("d", "d0")), Source(uri=rows.uri, kinds=("image",))]
    found = check_rows(read_rows(sources), reads_words=True)
    assert [(row.source, row.sample_id) for row in found.left_out] == [
        (0, "asked"), (0, "blank"), (0, "system"), (0, "marked"), (1, "unplaced"),
    ]  # fmt: skip
    assert found.num_rows == {(0, "d"): 6, (0, "d0"): 7, (1, "pictures"): 9}
    assert found.parts[0].left_out_digest() != found.parts[1].left_out_digest() != ""


def test_rows_of_a_dataset_alone_are_given_by_their_weight(rows: Shards) -> None:
    mixture = [
        Source(uri=rows.uri, datasets=("d0",), weight=3),
        Source(uri=rows.uri, datasets=("d1",), weight=1),
    ]
    loader = ShardLoader(mixture)
    given = Counter(sample.dataset for batch in loader for sample in batch.samples)
    assert given == {"d0": 21, "d1": 7}
    state = loader.state_dict()
    loader.close()
    other = ShardLoader([Source(uri=rows.uri, weight=3), mixture[1]])
    with pytest.raises(UserError, match=r"datasets None, the state has \['d0'\]"):
        other.load_state_dict(state)
    other.close()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"datasets": ("dO",)}, r"unknown dataset 'dO'.* Known: d, d0, d1, films, pictures\."),
        ({"datasets": ("films",), "kinds": ("text",)}, "no samples of kind text of films"),
        ({"datasets": ()}, "datasets names none"),
    ],
)  # fmt: skip
def test_datasets_that_are_not_there_are_refused(
    rows: Shards, source: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        Rows.of(Source(uri=rows.uri, **source))


def test_a_state_of_other_rows_left_out_is_refused(rows: Shards) -> None:
    loaders = [ShardLoader(list(check(rows.uri, limit).parts)) for limit in (None, Words(1000))]
    loaders[0].load_state_dict(loaders[0].state_dict())
    with pytest.raises(UserError, match="8 rows are left out, the state was saved with 6"):
        loaders[1].load_state_dict(loaders[0].state_dict())
    old = loaders[0].state_dict()
    for name in ("datasets", "num_left_out", "left_out"):  # as it was before there were any
        del old["sources"][0][name]
    with pytest.raises(UserError, match="6 rows are left out, the state was saved with 0"):
        loaders[0].load_state_dict(old)
    for loader in loaders:
        loader.close()


def test_where_no_clip_of_a_kind_is_left_another_kind_takes_its_place(tmp_path: Path) -> None:
    clip = media_clip(make_image(tmp_path / "a.png"), ["image"], is_image=True)
    shards = write_shards(tmp_path / "s", [[clip], [text_clip("t")]])
    damage(shards, clip.record.key)
    loader = ShardLoader(shards.uri, frames=FrameOptions(frame_px=16))
    given = [sample.sample_id for batch in loader for sample in batch.samples]
    loader.close()
    assert given == ["t", "t"]
    assert [entry.sample_id for entry in loader.replaced] == ["image"]


def test_a_row_that_cannot_be_used_costs_no_other_of_its_clip(tmp_path: Path) -> None:
    clip = media_clip(make_image(tmp_path / "a.png"), ["a", "b"], is_image=True)
    bad, good = clip.record.rows
    record = replace(clip.record, rows=[replace(bad, conversation="not JSON"), good])
    other = media_clip(make_image(tmp_path / "c.png", seed=1), ["c"], is_image=True)
    shards = write_shards(tmp_path / "s", [[replace(clip, record=record), other]])
    rule = OrderRule(shuffle=False)
    loader = ShardLoader(shards.uri, frames=FrameOptions(frame_px=16), order=rule, num_workers=1)
    given = [sample.sample_id for batch in loader for sample in batch.samples]
    loader.close()
    assert given == ["c", "b", "c"]
    assert [(entry.sample_id, entry.reason) for entry in loader.replaced] == [("a", "bad_row")]


# --- format 1 ------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", PAYLOADS)
def test_format_1_is_read_by_its_records(payload: str, tmp_path: Path) -> None:
    uri = str(stored_shards(tmp_path) / payload)
    table = load_index(uri)
    facts = facts_of(table)
    loader = ShardLoader(uri, frames=None)
    samples = {sample.sample_id: sample for batch in loader for sample in batch.samples}
    loader.close()
    for row in range(len(table)):
        sample = samples[table.sample_id(row)]
        texts = [turn.text for turn in sample.conversation]
        answers = [turn.text for turn in sample.conversation if turn.role is Role.ASSISTANT]
        counts = facts.counts(row)
        assert str(facts.dataset_N[row]) == sample.dataset
        assert counts["num_answers"] == len([text for text in answers if text.strip()])
        assert counts["text_bytes"] == len("".join(texts).encode())
        assert counts["answer_bytes"] == len("".join(answers).encode())
        assert counts["num_media"] == len(sample.media)
    datasets = {sample.dataset for sample in samples.values()}
    for name in datasets:
        part = Rows.of(Source(uri=uri, datasets=(name,)))
        wanted = {key for key, sample in samples.items() if sample.dataset == name}
        assert {table.sample_id(row) for row in part.row_N} == wanted
    with pytest.raises(UserError, match="unknown dataset 'none'"):
        Rows.of(Source(uri=uri, datasets=("none",)))
    found = check(uri)
    assert found.num_all == len(samples)
    assert reasons(found) == {
        name: "no_answer" for name, sample in samples.items() if not answered_by(sample)
    }


def answered_by(sample: Any) -> bool:
    return any(turn.role is Role.ASSISTANT and turn.text.strip() for turn in sample.conversation)


def test_a_record_of_format_1_that_is_none_is_left_out(tmp_path: Path) -> None:
    folder = stored_shards(tmp_path) / "frames"
    table = load_index(str(folder))
    path = folder / table.index.shards[0].name
    data = bytearray(path.read_bytes())
    data[int(table.json_offset_N[0])] = ord("[")
    path.write_bytes(data)
    own = [row for row in range(len(table)) if table.key_N[row] == table.key_N[0]]
    found = check(str(folder))
    assert {row.row for row in found.left_out if row.reason == "bad_record"} == set(own)
