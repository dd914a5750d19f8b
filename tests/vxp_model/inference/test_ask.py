"""Asking about a watched video: given frames, prompts, batches, given replies, selection alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from support.later import LATER
from support.tiny_video_xl_pro import drawn_frames
from vxp_model.data.video import VideoFile
from vxp_model.errors import UserError

if LATER:
    import torch
    from torch import Tensor

    from vxp_model.data.visuals import FrameChoice
    from vxp_model.inference.answers import WatchedVideo
    from vxp_model.inference.asked import Asked
    from vxp_model.inference.prefill import prefill
    from vxp_model.inference.reading import continuations, num_new
    from vxp_model.inference.session import UNLIMITED, LongVideoModel
    from vxp_model.models.processor import Clip

pytestmark = pytest.mark.usefixtures("one_thread")

NUM_FRAMES = 40
TIMES = tuple(float(number) for number in range(NUM_FRAMES))
TEXTS = ((-1.0, "at first"), (3.9, "a b"), (4.0, "c"), (38.0, "at last"))


@pytest.fixture
def model(long_video: LongVideoModel) -> Iterator[LongVideoModel]:
    limit = long_video.model.config.context_limit
    long_video.model.config.context_limit = UNLIMITED
    yield long_video
    long_video.model.config.context_limit = limit


@pytest.fixture
def video(model: LongVideoModel) -> WatchedVideo:
    frames = drawn_frames(NUM_FRAMES, px=model.model.config.vision.image_px)
    pieces = (frames[start : start + 12] for start in range(0, NUM_FRAMES, 12))
    return model.watch_frames(pieces, time_s_F=TIMES, duration_s=40.0, uri="drawn")


def test_given_frames_are_watched_as_those_of_a_file(model: LongVideoModel, clip: Path) -> None:
    with VideoFile(clip) as file:
        plan = file.plan(num_frames=21, max_frames=100)
    watched = model.watch(clip, plan=plan)
    assert watched.time_s_F == tuple(plan.time_s_F.tolist())
    chosen = model.watch(clip, FrameChoice(num_frames=21))
    assert torch.equal(watched.tokens_GND, chosen.tokens_GND)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [((8, 8), "20 frames were to come, and 16 did"), ((6, 14), "in groups of 4"), ((24,), "20")],
)
def test_frames_that_are_not_those_told_are_refused(
    model: LongVideoModel, lengths: Sequence[int], message: str
) -> None:
    px = model.model.config.vision.image_px
    pieces = [drawn_frames(length, px=px) for length in lengths]
    with pytest.raises(ValueError, match=message):
        model.watch_frames(pieces, time_s_F=TIMES[:20], duration_s=20.0)


def test_a_prompt_has_system_texts_and_the_beginning_of_its_answer(model: LongVideoModel) -> None:
    processor = model.processor
    asked = Asked(text="What?", system="Look.", prime="Best: (", texts=TEXTS)
    clip = Clip(time_s_T=TIMES[:9], texts=asked.texts)
    prompt = processor.prompt(asked.conversation(), [clip], reply_start=asked.prime)
    pads = "<|vision_pad|>" * processor.group_tokens
    assert processor.tokenizer.decode(prompt.ids) == (
        "<|im_start|>system\nLook.<|im_end|>\n<|im_start|>user\n"
        f"at first\nTime 0000.0s:{pads}a b\nTime 0004.0s:{pads}c\nTime 0008.0s:{pads}at last\n"
        "\nWhat?<|im_end|>\n<|im_start|>assistant\nBest: ("
    )
    query = [token for token, kind in zip(prompt.ids, prompt.kinds, strict=True) if kind == 3]
    assert processor.tokenizer.decode(query) == "What?"


def by_hand(model: LongVideoModel, video: WatchedVideo, asked: Asked) -> dict[str, Tensor]:
    """Return what the whole model takes, without any of the session's own ways."""
    clip = Clip(time_s_T=video.time_s_F, texts=asked.texts)
    prompt = model.processor.prompt(asked.conversation(), [clip], reply_start=asked.prime)
    return dict(model.processor.batch([prompt])) | {"visual_tokens": video.tokens_GND}


def test_an_answer_is_the_whole_models_without_what_it_began_with(
    model: LongVideoModel, video: WatchedVideo
) -> None:
    asked = Asked(text="Which?", system="Look.", prime="Best: (", texts=TEXTS, max_new_tokens=10)
    ids = model.model.generate(
        **by_hand(model, video, asked),
        max_new_tokens=10,
        do_sample=False,
        eos_token_id=2,
        pad_token_id=0,
    )
    given = {"system": "Look.", "prime": "Best: (", "texts": TEXTS}
    answer = model.ask(video, "Which?", max_new_tokens=10, chunk_positions=37, **given)
    assert answer.text == model.processor.decode(ids[0], skip_special_tokens=True).strip()
    texts = {answer.text}
    for name in given:
        rest = {key: value for key, value in given.items() if key != name}
        texts.add(model.ask(video, "Which?", max_new_tokens=10, **rest).text)
    assert len(texts) > 1


def test_an_answer_says_whether_it_ended_by_itself(
    model: LongVideoModel, video: WatchedVideo
) -> None:
    cut = model.ask(video, "Which?", max_new_tokens=5)
    assert (cut.finish, cut.num_new) == ("length", 5)
    (end, *_) = model.processor.text_ids(cut.text)
    with_end = model.ask(video, "Which?", max_new_tokens=5, eos_token_id=end)
    assert (with_end.finish, with_end.num_new) == ("stop", 1)


def test_no_text_goes_where_tokens_do(model: LongVideoModel, video: WatchedVideo) -> None:
    every = model.ask(video, "Which?", max_new_tokens=2, texts=TEXTS)
    assert every.kept_G == (4,) * 10
    few = model.ask(video, "Which?", max_new_tokens=2, texts=TEXTS, keep_ratio=0.1)
    assert sum(few.kept_G) == few.num_kept == 4
    dropped = sum(not kept for kept in few.kept_G)
    assert few.num_positions == every.num_positions - 36 - dropped * model.processor.time_tokens
    assert "kept_G" not in few.to_dict()


def questions() -> list[Asked]:
    return [
        Asked(text="Which?", max_new_tokens=9),
        Asked(text="And what is it that is seen at the end?", prime="It is", max_new_tokens=3),
        Asked(text="Who?", system="Look well.", texts=TEXTS, max_new_tokens=12),
        Asked(text="When?", history=[("Who?", "She.")], max_new_tokens=6),
        Asked(text="How often?", max_new_tokens=12),
    ]


@pytest.mark.parametrize("limit", [None, 250])
@pytest.mark.parametrize("batch", [2, 5])
def test_a_batch_answers_what_each_question_alone_is_answered(
    model: LongVideoModel, video: WatchedVideo, limit: int | None, batch: int
) -> None:
    model.model.config.context_limit = limit or UNLIMITED
    alone = [
        model.ask(
            video,
            one.text,
            history=one.history,
            system=one.system,
            prime=one.prime,
            texts=one.texts,
            max_new_tokens=one.max_new_tokens,
        )
        for one in questions()
    ]
    together = model.ask_many(video, questions(), batch=batch)
    names = ("text", "finish", "kept_G", "num_positions", "num_cached", "num_new", "first_kept_s")
    for name in names:
        assert [getattr(one, name) for one in together] == [getattr(one, name) for one in alone]
    assert any(one.num_kept < one.num_visual for one in alone) == (limit is not None)


def test_long_prompts_and_windows_are_no_batch(
    model: LongVideoModel, video: WatchedVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    generate = model.model.language_model.generate

    def counted(*, inputs_embeds: Tensor, **given: object) -> Tensor:
        sizes.append(len(inputs_embeds))
        answer: Tensor = generate(inputs_embeds=inputs_embeds, **given)
        return answer

    monkeypatch.setattr(model.model.language_model, "generate", counted)
    model.ask_many(video, questions(), batch=4)
    assert sizes == [4, 1]
    sizes.clear()
    model.ask_many(video, questions(), batch=4, batch_positions=600)
    assert sizes == [2, 2, 1]
    sizes.clear()
    model.ask_many(video, questions(), batch=4, batch_positions=400)
    assert sizes == [1] * 5
    sizes.clear()
    windowed = model.ask_many(video, questions(), batch=4, window=8)
    assert sizes == [1] * 5
    assert windowed[0].text == model.ask(video, "Which?", max_new_tokens=9, window=8).text


REPLIES = ("A", "Blue cars", "a", "Because it is so.")


def plain_forward(
    model: LongVideoModel, video: WatchedVideo, asked: Asked, reply: str
) -> tuple[float, bool]:
    """Return log-probability and greediness by one forward over prompt and reply together."""
    given = by_hand(model, video, asked)
    reply_L = torch.tensor(model.processor.text_ids(reply))
    zeros_L = torch.zeros_like(reply_L)
    given["input_ids"] = torch.cat([given["input_ids"][0], reply_L])[None]
    given["attention_mask"] = torch.cat([given["attention_mask"][0], zeros_L + 1])[None]
    given["token_kinds"] = torch.cat([given["token_kinds"][0], zeros_L])[None]
    with torch.no_grad():
        logits_PV = model.model(**given).logits[0, -len(reply_L) - 1 : -1]
    log_LV = logits_PV.log_softmax(-1)
    return float(log_LV[range(len(reply_L)), reply_L].sum()), bool(
        (log_LV.argmax(-1) == reply_L).all()
    )


def test_given_replies_are_as_likely_as_in_a_plain_forward(
    model: LongVideoModel, video: WatchedVideo
) -> None:
    asked = Asked(text="Which?", prime="Best: (", texts=TEXTS)
    found = model.continued(video, asked, REPLIES, chunk_positions=50)
    for reply, one in zip(REPLIES, found, strict=True):
        log_prob, is_greedy = plain_forward(model, video, asked, reply)
        assert one.log_prob == pytest.approx(log_prob, abs=1e-4)
        assert (one.num_tokens, one.is_greedy) == (len(reply), is_greedy)
    assert found[::-1] == model.continued(video, asked, REPLIES[::-1], chunk_positions=50)


@pytest.mark.usefixtures("no_grad")
def test_greedy_is_what_is_generated_and_nothing_else(long_video: LongVideoModel) -> None:
    language_model = long_video.model.language_model
    embeds_BPD = torch.randn(1, 30, 64, generator=torch.Generator().manual_seed(1))
    said = language_model.generate(
        inputs_embeds=embeds_BPD,
        attention_mask=torch.ones(1, 30),
        max_new_tokens=4,
        do_sample=False,
        eos_token_id=2,
        pad_token_id=0,
        suppress_tokens=None,
    )[0].tolist()
    assert len(said) == 4
    replies = [said, said[:1], [*said[:3], said[3] ^ 1], [said[0] ^ 1, *said[1:]], [said[0] ^ 1]]
    cache = prefill(language_model, embeds_BPD)
    found = continuations(language_model, embeds_BPD[0, -1:], 29, cache, replies)
    assert [one.is_greedy for one in found] == [True, True, False, False, False]
    assert found[0].log_prob < found[1].log_prob < 0


def test_a_prompt_is_read_once_for_all_replies(
    model: LongVideoModel, video: WatchedVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, read = Asked(text="Which?"), 0
    decoder = model.model.language_model.get_decoder()
    forward = decoder.forward

    def counted(**given: object) -> object:
        nonlocal read
        tokens = given.get("inputs_embeds")
        tokens = given["input_ids"] if tokens is None else tokens
        assert isinstance(tokens, Tensor)
        read += tokens.shape[1]
        return forward(**given)

    monkeypatch.setattr(decoder, "forward", counted)
    found = model.continued(video, asked, REPLIES)
    positions = by_hand(model, video, asked)["input_ids"].shape[1]
    assert read == positions + sum(one.num_tokens - 1 for one in found)


def test_replies_after_a_window_are_those_of_the_window(
    model: LongVideoModel, video: WatchedVideo
) -> None:
    asked = Asked(text="Which?")
    found = model.continued(video, asked, REPLIES, window=8, chunk_positions=50)
    again = model.continued(video, asked, REPLIES[1:2], window=8, chunk_positions=50)
    assert found[1] == again[0]
    wide = model.continued(video, asked, REPLIES, window=40, chunk_positions=50)
    whole = model.continued(video, asked, REPLIES, chunk_positions=50)
    assert wide == whole
    assert found[1].log_prob != whole[1].log_prob


def test_given_replies_follow_the_selection_of_an_answer_unless_they_are_longer(
    model: LongVideoModel, video: WatchedVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms: list[int] = []
    sequence = model.model.sequence

    def seen(*given: object, room: int, **more: object) -> object:
        rooms.append(room)
        return sequence(*given, room=room, **more)

    monkeypatch.setattr(model.model, "sequence", seen)
    asked = Asked(text="Which?", max_new_tokens=6)
    for replies in (["A", "B"], ["A", "Because it is so."]):
        model.continued(video, asked, replies)
    assert rooms == [6, 17]


def test_an_end_behind_the_longest_answer_does_not_count() -> None:
    assert num_new([5, 2, 0], 2, most=3) == (2, True)
    assert num_new([5, 6, 2], [2, 9], most=2) == (2, False)
    assert num_new([5, 6, 9], [2, 9], most=3) == (3, True)


def test_a_reply_of_nothing_is_refused(model: LongVideoModel, video: WatchedVideo) -> None:
    with pytest.raises(UserError, match="a reply of no tokens"):
        model.continued(video, Asked(text="Which?"), ["A", ""])
    assert model.continued(video, Asked(text="Which?"), []) == []


@pytest.mark.parametrize("keep_ratio", [1.0, 0.5, 0.1])
def test_what_is_selected_is_what_an_answer_keeps(
    model: LongVideoModel,
    video: WatchedVideo,
    keep_ratio: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = model.ask(video, "Which?", max_new_tokens=2, keep_ratio=keep_ratio, texts=TEXTS)
    monkeypatch.setattr(model.model.language_model, "generate", None)
    asked = Asked(text="Which?", max_new_tokens=2, texts=TEXTS)
    selection = model.select(video, asked, keep_ratio=keep_ratio)
    assert tuple(selection.kept_G.tolist()) == answer.kept_G
    if keep_ratio == 1.0:
        assert selection.keep_M is None
        assert selection.scores_M is None
        return
    assert selection.keep_M is not None
    assert selection.scores_M is not None
    kept = selection.scores_M[selection.keep_M]
    assert kept.min() >= selection.scores_M[~selection.keep_M].max()
    assert selection.keep_M.view(10, 4).sum(-1).tolist() == list(answer.kept_G)
