"""Our models in lmms-eval.

    python -m lmms_eval --model video_xl_pro --model_args pretrained=FOLDER --tasks ...

lmms-eval imports this module by its entry point (group `lmms_eval.models`); nothing of ours does,
and nothing of ours needs lmms-eval. Questions are about videos in files, one in the first turn;
tasks that give frames or images are refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import torch
from lmms_eval.api.model import lmms
from lmms_eval.models.registry_v2 import ModelManifest

from vxp_model.data.visuals import FrameChoice
from vxp_model.errors import UserError
from vxp_model.inference.asked import Asked
from vxp_model.inference.session import LongVideoModel

MODEL_ID: Final = "video_xl_pro"
_NEW_TOKENS: Final = 128
"""Longest answer where a task does not say; what lmms-eval's own models take."""


def manifest() -> ModelManifest:
    """Return what lmms-eval's registry asks of a model: called by the entry point."""
    return ModelManifest(model_id=MODEL_ID, chat_class_path=f"{__name__}.VideoXLPro")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """One of lmms-eval's requests, read."""

    number: int
    video: str
    asked: Asked
    sampling: Mapping[str, Any]
    """For transformers' `generate`; empty: the likeliest token each time."""
    until: Sequence[str]
    """A reply ends before the first of these."""
    key: tuple[str, Mapping[str, Any]]
    """What lmms-eval's cache knows it by."""


class VideoXLPro(lmms):  # type: ignore[misc] # no types are published
    """A model of ours; a video is encoded once for all questions about it that come together.

    Args:
        pretrained: its folder.
        fps: frames looked at in a second.
        num_frames: so many at equal distances, instead of a rate.
        max_frames: cap on the frames that `fps` gives.
        keep_ratio: keep this share of visual tokens; None: as many as the context allows.
        context_limit: positions of prompt and answer; None: the model's own.
        window: see `LongVideoModel.ask`.
        device: see `Placement.of`, as the next two; 'auto' is this process's own GPU.
        dtype: see there.
        attention: see there.
        batch_size: questions about one video that are answered at once.
        max_batch_size: lmms-eval gives it; of no use here.
    """

    is_simple = False

    def __init__(
        self,
        pretrained: str,
        *,
        fps: float = 1.0,
        num_frames: int | None = None,
        max_frames: int = 8192,
        keep_ratio: float | None = None,
        context_limit: int | None = None,
        window: int | None = None,
        device: str = "auto",
        dtype: str = "auto",
        attention: str = "auto",
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        del max_batch_size
        if device in ("auto", "cuda") and torch.cuda.is_available():
            device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        self.session = LongVideoModel.load(
            pretrained,
            device=device,
            dtype=dtype,
            attention=attention,
            context_limit=context_limit,
        )
        self._choice = FrameChoice(fps=fps, num_frames=num_frames, max_frames=max_frames)
        self._reading: dict[str, Any] = {"keep_ratio": keep_ratio, "window": window}
        self._batch = int(batch_size)

    @property
    def device(self) -> torch.device:
        """Where the model runs: lmms-eval gathers there."""
        return self.session.model.device

    @property
    def model(self) -> Any:
        """The model itself, for lmms-eval's record of what ran."""
        return self.session.model

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Answer requests, videos one after another; see lmms-eval.

        Raises:
            UserError: a video cannot be read, or a request gives no video in a file.
        """
        read = [self._read(number, request.args) for number, request in enumerate(requests)]
        replies = [""] * len(read)
        # Sorted, so that questions about a video come together whatever their order.
        for uri, about in groupby(sorted(read, key=lambda one: one.video), lambda one: one.video):
            video = self.session.watch(uri, self._choice)
            for part in _greedy_together(list(about)):
                for request, text in zip(part, self._answers(video, part), strict=True):
                    replies[request.number] = _cut(text, request.until)
                    self.cache_hook.add_partial(
                        "generate_until", request.key, replies[request.number]
                    )
        return replies

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        """Refuse; see lmms-eval."""
        raise NotImplementedError(f"{MODEL_ID} answers no tasks of several rounds")

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Refuse: lmms-eval itself asks chat models for generation alone."""
        raise NotImplementedError(f"{MODEL_ID} answers by generation in lmms-eval")

    def _answers(self, video: Any, part: Sequence[_Request]) -> list[str]:
        if not part[0].sampling:
            asked = [request.asked for request in part]
            answers = self.session.ask_many(video, asked, batch=self._batch, **self._reading)
            return [answer.text for answer in answers]
        (request,) = part
        answer = self.session.ask(
            video,
            request.asked.text,
            history=request.asked.history,
            system=request.asked.system,
            max_new_tokens=request.asked.max_new_tokens,
            **self._reading,
            **request.sampling,
        )
        return [answer.text]

    def _read(self, number: int, args: Sequence[Any]) -> _Request:
        context, doc_to_messages, given, doc_id, task, split = args
        where = f"{task}, document {doc_id}"
        messages = doc_to_messages(self.task_dict[task][split][doc_id])
        video, asked = read_messages(messages, int(given.get("max_new_tokens", _NEW_TOKENS)), where)
        until = given.get("until") or []
        return _Request(
            number=number,
            video=video,
            asked=asked,
            sampling=_sampling(given),
            until=[until] if isinstance(until, str) else list(until),
            key=(context, given),
        )


def read_messages(
    messages: Sequence[Mapping[str, Any]], max_new_tokens: int, where: str
) -> tuple[str, Asked]:
    """Read a conversation in lmms-eval's form.

    Args:
        messages: turns whose content is a list of parts; the text of a turn is joined, and the
            video stands in front of the first turn's, wherever it was in it.
        max_new_tokens: longest answer.
        where: for messages.

    Returns:
        video: path or URI.
        asked: the last turn, and what came before it.

    Raises:
        UserError: there is not one video, or another medium, or it ends with an answer.
    """
    videos: list[tuple[str, int]] = []
    turns: list[tuple[str, str]] = []
    system = None
    for message in messages:
        texts = []
        for part in message["content"]:
            if part["type"] == "text":
                texts.append(part["text"])
            elif part["type"] == "video" and isinstance(part["url"], str | os.PathLike):
                _refuse_clip(part, where)
                videos.append((os.fspath(part["url"]), len(turns)))
            else:
                raise UserError(
                    f"{where}: {MODEL_ID} takes videos in files, got a part of type "
                    f"{part['type']!r} of {type(part.get('url')).__name__}."
                )
        text = "\n".join(texts)
        if message["role"] == "system":
            system = text
        else:
            turns.append((message["role"], text))
    roles = [role for role, _ in turns]
    if roles != ["user", "assistant"] * (len(roles) // 2) + ["user"]:
        raise UserError(f"{where}: turns of user and assistant must alternate, got {roles}.")
    if len(videos) != 1 or videos[0][1]:
        raise UserError(
            f"{where}: {MODEL_ID} wants one video, in the first turn; got {len(videos)}."
        )
    texts = [text for _, text in turns]
    history = tuple(zip(texts[:-1:2], texts[1::2], strict=True))
    asked = Asked(text=texts[-1], history=history, system=system, max_new_tokens=max_new_tokens)
    return videos[0][0], asked


def _refuse_clip(part: Mapping[str, Any], where: str) -> None:
    if part.get("start_time") is not None or part.get("end_time") is not None:
        raise UserError(f"{where}: {MODEL_ID} takes whole videos, got one with start or end time.")


def _sampling(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a task asks for beside the likeliest tokens; 'temperature: 0' is nothing."""
    chosen = {name: given.get(name) for name in ("temperature", "top_p", "top_k", "num_beams")}
    temperature = chosen["temperature"]
    sampled = {"do_sample": True} if temperature else {}
    if not sampled:
        chosen = {"num_beams": chosen["num_beams"]}
    if chosen["num_beams"] in (None, 1):
        del chosen["num_beams"]
    return sampled | {name: value for name, value in chosen.items() if value is not None}


def _greedy_together(requests: list[_Request]) -> Iterator[list[_Request]]:
    """Return requests without sampling as one part, and each other by itself."""
    greedy = [request for request in requests if not request.sampling]
    if greedy:
        yield greedy
    yield from ([request] for request in requests if request.sampling)


def _cut(text: str, until: Sequence[str]) -> str:
    ends = [at for stop in until if stop and (at := text.find(stop)) >= 0]
    return text[: min(ends)].strip() if ends else text
