"""Long videos: streamed encoding, chunked reading, the commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from support.later import LATER
from vxp_data.errors import UserError as DataUserError
from vxp_model.cli import app
from vxp_model.data.video import VideoFile
from vxp_model.errors import UserError

if LATER:
    import torch

    from vxp_model.data.visuals import FrameChoice
    from vxp_model.inference.prefill import prefill
    from vxp_model.inference.session import UNLIMITED, LongVideoModel, conversation

    CHOICE = FrameChoice(fps=2.0, max_frames=1000)

pytestmark = pytest.mark.usefixtures("one_thread")


def limited(long_video: LongVideoModel, limit: int) -> LongVideoModel:
    long_video.model.config.context_limit = limit
    return long_video


@pytest.mark.usefixtures("no_grad")
@pytest.mark.parametrize("chunk_positions", [1, 7, 50, 1000])
def test_reading_in_chunks_gives_what_reading_at_once_gives(
    long_video: LongVideoModel, chunk_positions: int
) -> None:
    language_model = long_video.model.language_model
    embeds_BPD = torch.randn(1, 101, 64, generator=torch.Generator().manual_seed(1)) * 0.02
    done: list[int] = []
    cache = prefill(
        language_model, embeds_BPD, chunk_positions=chunk_positions, progress=done.append
    )
    assert done[-1] == 100
    whole = language_model(inputs_embeds=embeds_BPD, use_cache=True)
    for layer, wanted in zip(cache.layers, whole.past_key_values.layers, strict=True):
        torch.testing.assert_close(layer.keys, wanted.keys[:, :, :-1], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(layer.values, wanted.values[:, :, :-1], rtol=1e-4, atol=1e-5)
    last = language_model(inputs_embeds=embeds_BPD[:, -1:], past_key_values=cache)
    torch.testing.assert_close(last.logits[:, 0], whole.logits[:, -1], rtol=1e-4, atol=1e-5)


def test_frames_come_in_pieces_and_are_those_that_come_at_once(clip: Path) -> None:
    with VideoFile(clip) as file:
        plan = file.plan(fps=1.0, max_frames=1000)
        assert plan.time_s_F.tolist() == [float(second) for second in range(45)]
        pieces = list(file.pieces(plan.frame_index_F, piece_frames=8))
        (whole,) = file.pieces(plan.frame_index_F, piece_frames=1000)
    assert [len(piece) for piece in pieces] == [8] * 5 + [5]
    assert (whole == torch.cat([torch.from_numpy(piece) for piece in pieces]).numpy()).all()
    grey_F = whole[:, 100, 100, 0].astype(int)
    assert (abs(grey_F - [2 * second * 37 % 256 for second in range(45)]) <= 3).all()


@pytest.mark.parametrize("limit", [None, 400])
def test_an_answer_in_pieces_is_the_answer_of_the_whole_model_at_once(
    long_video: LongVideoModel, clip: Path, limit: int | None
) -> None:
    long_video = limited(long_video, limit or UNLIMITED)
    told: list[tuple[str, int, int]] = []
    video = long_video.watch(clip, CHOICE, progress=lambda *what: told.append(what))
    assert told[-1] == ("encoding frames", 90, 90)
    assert len(told) == 12
    answer = long_video.ask(video, "Which?", max_new_tokens=12, chunk_positions=33)
    part = {"type": "video", "video": str(clip), "fps": 2.0, "max_frames": 1000}
    turn = {"role": "user", "content": [part, {"type": "text", "text": "Which?"}]}
    batch = long_video.processor([turn])
    ids = long_video.model.generate(
        **batch, max_new_tokens=12, do_sample=False, eos_token_id=2, pad_token_id=0
    )
    assert long_video.processor.decode(ids[0], skip_special_tokens=True).strip() == answer.text
    assert answer.num_frames == 90
    assert answer.num_visual == 23 * 4
    if limit is None:
        assert answer.num_kept == answer.num_visual
        assert answer.num_positions == batch["input_ids"].shape[1]
        assert (answer.first_kept_s, answer.last_kept_s) == (0.0, 44.0)
    else:
        assert 0 < answer.num_kept < answer.num_visual
        assert 400 - 12 - 14 < answer.num_positions <= 400 - 12


def test_each_question_selects_anew_from_what_was_kept(
    long_video: LongVideoModel, clip: Path
) -> None:
    long_video = limited(long_video, 300)
    video = long_video.watch(clip, CHOICE)
    kept = video.tokens_GND.clone()
    first = long_video.ask(video, "Which?", max_new_tokens=4)
    second = long_video.ask(video, "And what?", history=[("Which?", first.text)], max_new_tokens=4)
    assert second.num_positions <= 296
    again = long_video.ask(video, "Which?", max_new_tokens=4)
    assert (again.text, again.num_kept) == (first.text, first.num_kept)
    assert torch.equal(video.tokens_GND, kept)


def test_a_conversation_has_the_video_in_its_first_question() -> None:
    turns = conversation("Third?", [("First?", "1"), ("Second?", "2")])
    assert [turn["role"] for turn in turns] == ["user", "assistant"] * 2 + ["user"]
    assert [part["type"] for part in turns[0]["content"]] == ["video", "text"]
    assert turns[0]["content"][1]["text"] == "First?"
    assert turns[-1]["content"] == "Third?"


def test_memory_while_watching_does_not_grow_with_the_video(
    long_video: LongVideoModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counts the frames that live at the same time, over 4,000 of them."""
    alive, most = 0, 0

    def dies(number: int) -> Callable[[], None]:
        def at_end() -> None:
            nonlocal alive
            alive -= number

        return at_end

    def pieces() -> object:
        import weakref

        nonlocal alive, most
        for _ in range(125):
            frames_THWC = torch.zeros((32, 56, 56, 3), dtype=torch.uint8)
            alive += 32
            most = max(most, alive)
            weakref.finalize(frames_THWC, dies(32))
            yield frames_THWC

    tokens = torch.zeros(8, 4, 64)
    monkeypatch.setattr(long_video.model.vision, "forward", lambda *_: tokens)
    assert long_video.encode(pieces(), num_frames=4000).shape == (1000, 4, 64)
    assert most <= 96


def run(*words: str, stdin: str | None = None) -> tuple[str, str]:
    result = CliRunner().invoke(app, list(words), input=stdin, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


def test_generate_answers_and_tells_what_it_took(folder: Path, clip: Path) -> None:
    words = ["generate", str(folder), "--video", str(clip), "--prompt", "What?"]
    few = ["--max-new-tokens", "3", "--device", "cpu"]
    out, _ = run(*words, *few, "--frames", "24", "--json")
    took = json.loads(out)
    assert took["num_frames"] == 24
    assert took["num_visual"] == took["num_kept"] == 24
    assert took["num_new"] <= 3
    assert took["peak_bytes"] > 0
    text, about = run(*words, *few, "--frames", "24")
    assert text.strip() == took["text"]
    assert "24 frames of 45 s, 24 of 24 visual tokens" in about
    out, _ = run(*words, *few, "--json", "--context-limit", "290", "--keep-ratio", "0.5")
    assert json.loads(out)["num_frames"] == 45
    assert json.loads(out)["num_kept"] <= 24


def test_chat_answers_line_by_line(folder: Path, clip: Path) -> None:
    words = ["chat", str(folder), "--video", str(clip), "--max-new-tokens", "3", "--device", "cpu"]
    out, _ = run(*words, "--frames", "8", stdin="What?\nAnd then?\n")
    assert out.count("\n") >= 2


def test_what_cannot_be_answered_is_said(folder: Path, clip: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no model"):
        LongVideoModel.load(tmp_path)
    text = tmp_path / "no.mp4"
    text.write_text("no video")
    long_video = LongVideoModel.load(folder, device="cpu", context_limit=50)
    with pytest.raises(DataUserError, match="no video that can be read"):
        long_video.watch(text)
    video = long_video.watch(clip, FrameChoice(num_frames=4))
    with pytest.raises(UserError, match="more than context_limit 50"):
        long_video.ask(video, "What?")


def test_frames_says_how_many_fit(folder: Path) -> None:
    out, _ = run("frames", "--memory-gb", "80", "--frames", "8192")
    assert "3.59 B weights" in out
    assert "8,192    315,392   7.18 GB  11.63 GB   1.29 GB  20.10 GB" in out
    assert "every token of 848 frames fits 32,768 positions" in out
    out, _ = run("frames", "--model", str(folder), "--memory-gb", "9")
    assert "4 visual tokens and 13 of time text" in out
