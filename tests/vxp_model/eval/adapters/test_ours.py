"""Our models as they are evaluated."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.drawn_source import DrawnSource
from support.later import LATER
from support.tiny_video_xl_pro import say_letters, write_tiny_video_xl_pro
from vxp_model.errors import UserError
from vxp_model.eval.benchmarks.base import Prompt

if LATER:
    from vxp_model.eval.adapters.ours import OurModel, OurSettings
    from vxp_model.inference.asked import Asked
    from vxp_model.inference.session import LongVideoModel

pytestmark = pytest.mark.usefixtures("one_thread")

TIMES = tuple(float(number) for number in range(70))
PROMPT = Prompt(
    text="Which?",
    system="Look.",
    reply_start="Best Option: (",
    max_new_tokens=6,
    timed_texts=((3.0, "Hello."), (40.0, "Bye.")),
)
MORE = [PROMPT, replace(PROMPT, text="Who is it?", system=None), replace(PROMPT, timed_texts=())]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_video_xl_pro(tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def long_video(folder: Path) -> LongVideoModel:
    long_video = LongVideoModel.load(folder, device="cpu")
    say_letters(long_video.model.language_model, long_video.processor.tokenizer)
    return long_video


def ours(long_video: LongVideoModel, **settings: Any) -> OurModel:
    return OurModel(long_video, OurSettings(**settings), weights={})


def test_a_video_is_read_once_in_whole_groups(long_video: LongVideoModel) -> None:
    source, model = DrawnSource(TIMES), ours(long_video)
    watched = model.watch(source)
    model.answer(watched, MORE)
    model.continued(watched, PROMPT, ["A", "B"])
    assert source.num_reads == 1
    assert source.sizes[:-1] == [long_video.piece_frames] * (len(source.sizes) - 1)
    assert watched.time_s_F == TIMES
    assert watched.uri == "drawn-0.mp4"
    assert model.frames_per_group == 4


def test_a_prompt_is_asked_as_it_stands(long_video: LongVideoModel) -> None:
    model = ours(long_video)
    watched = model.watch(DrawnSource(TIMES))
    (reply,) = model.answer(watched, [PROMPT])
    answer = long_video.ask(
        watched,
        "Which?",
        system="Look.",
        prime="Best Option: (",
        texts=PROMPT.timed_texts,
        max_new_tokens=6,
    )
    assert (reply.text, reply.finish) == (answer.text, answer.finish)
    assert (reply.num_visual, reply.num_kept, reply.kept_by_group) == (72, 72, None)
    assert set(reply.seconds) == {"select", "prefill", "decode"}
    assert reply.peak_bytes > 0


@pytest.mark.parametrize("settings", [{}, {"keep_ratio": 0.5}, {"context_limit": 330}])
def test_batches_reply_as_single_prompts(
    long_video: LongVideoModel, settings: dict[str, Any]
) -> None:
    watched = ours(long_video).watch(DrawnSource(TIMES))
    single, three = ours(long_video, batch=1, **settings), ours(long_video, batch=3, **settings)
    alone, together = single.answer(watched, MORE), three.answer(watched, MORE)
    for one, other in zip(alone, together, strict=True):
        assert (one.text, one.finish) == (other.text, other.finish)
        assert one.kept_by_group == other.kept_by_group
    assert (alone[0].kept_by_group is None) == (not settings)
    if settings:
        assert sum(alone[0].kept_by_group or ()) == alone[0].num_kept < 72


def test_models_that_share_weights_keep_their_own_limits(long_video: LongVideoModel) -> None:
    whole, tight = ours(long_video), ours(long_video, context_limit=330)
    watched = whole.watch(DrawnSource(TIMES))
    kept = [model.answer(watched, [PROMPT])[0].num_kept for model in (whole, tight, whole)]
    assert kept[0] == kept[2] == 72 > kept[1]
    tight.continued(watched, PROMPT, ["A"])
    assert whole.answer(watched, [PROMPT])[0].num_kept == 72
    with pytest.raises(UserError, match="more than context_limit 20"):
        ours(long_video, context_limit=20).answer(watched, [PROMPT])


def test_likelihoods_are_those_of_the_session(long_video: LongVideoModel) -> None:
    model = ours(long_video, keep_ratio=0.5)
    watched = model.watch(DrawnSource(TIMES))
    found = model.continued(watched, PROMPT, ["A", "Bees"])
    asked = Asked(text="Which?", system="Look.", prime="Best Option: (", texts=PROMPT.timed_texts)
    wanted = long_video.continued(watched, asked, ["A", "Bees"], keep_ratio=0.5)
    assert [(one.log_prob, one.num_tokens, one.is_greedy) for one in found] == [
        (one.log_prob, one.num_tokens, one.is_greedy) for one in wanted
    ]
    assert [one.num_tokens for one in found] == [1, 4]
    assert found != ours(long_video).continued(watched, PROMPT, ["A", "Bees"])


def test_identity_tells_what_answers_depend_on(folder: Path, tmp_path: Path) -> None:
    model = OurModel.load(folder, device="cpu")
    assert model.identity == OurModel.load(folder, device="cpu", dtype="float32").identity
    json.dumps(dict(model.identity))
    assert model.identity["dtype"] == "float32"
    assert model.identity["attention"] == "sdpa"
    long_video = LongVideoModel.load(folder, device="cpu")
    same = [ours(long_video), ours(long_video, batch=2, chunk_positions=7)]
    others = [{"keep_ratio": 0.5}, {"context_limit": 100}, {"window": 4}]
    others += [{"window": 4, "chunk_positions": 7}]
    assert same[0].identity == same[1].identity
    identities = [str(ours(long_video, **one).identity) for one in others]
    assert len({*identities, str(same[0].identity)}) == 5
    other = write_tiny_video_xl_pro(tmp_path / "other", seed=1)
    assert OurModel.load(other, device="cpu").identity != model.identity
    with pytest.raises(UserError, match="holds no model"):
        OurModel.load(tmp_path)
