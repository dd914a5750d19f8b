"""`vxp-model eval`: ask a model the questions of benchmarks, each video encoded once.

What an answer depends on is its key: question, prompt, frames, model, how it was made. Killed at
any moment, the same command goes on; a changed prompt or plan is another key.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vxp_model.data.video import UnreadableVideoError
from vxp_model.errors import UserError
from vxp_model.eval.adapters.base import DoesNotFitError, FramePlan, Reply
from vxp_model.eval.adapters.prepare import Prepared
from vxp_model.eval.benchmarks.base import Prompt, Question, Shown, Subtitles
from vxp_model.eval.benchmarks.subtitles import read_subtitles
from vxp_model.eval.likelihood import likeliest
from vxp_model.eval.media import MediaFolder, VideoReader, VideoSource, file_bytes, plan_frames
from vxp_model.eval.split import Part
from vxp_model.eval.store import Appended, BenchmarkFolder, digest, plan_row
from vxp_model.eval.work import Work

Say = Callable[[str], None]
_QUIET_S = 10.0
"""Between two lines about how far it is."""
_MOST_TOLD = 5
"""Reasons of missing answers that are printed, of a benchmark; records have all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How far a benchmark is, over all processes."""

    num_questions: int
    num_answered: int
    num_new: int
    """Answered by this process just now."""
    num_failed: int
    """Without an answer, over all processes: of videos that are missing, say."""
    num_left: int
    """Of which nothing is known yet: other processes have them."""
    seconds: float


@dataclass(slots=True)
class Held:
    """The video that was encoded last, and what opens the next."""

    reader: VideoReader = field(default_factory=VideoReader)
    key: Any = None
    watched: Any = None


class Answering:
    """Answers one benchmark's questions, as far as they are this process's."""

    def __init__(
        self,
        work: Work,
        folder: BenchmarkFolder,
        prepared: Prepared,
        part: Part,
        say: Say,
        held: Held,
    ) -> None:
        """Name all that is needed; nothing is read yet.

        Args:
            work: what is asked.
            folder: where answers go.
            prepared: the model; it is loaded when the first answer is needed.
            part: this process's share.
            say: prints a line.
            held: the video that was encoded last, shared by runs that differ in the asking alone.
        """
        self._work = work
        self._folder = folder
        self._prepared = prepared
        self._part = part
        self._held = held
        self._say = say
        self._media = MediaFolder(work.own.media or work.own.data)
        self._asked = work.asked
        self._num_new = self._total = self._num_told = 0
        self._unsubtitled: dict[str, Path] = {}
        self._began_s = self._told_s = time.monotonic()

    def videos(self) -> Iterator[str]:
        """Answer what is not yet answered, video by video, and merge when all are done.

        Yields:
            Each video of this process's share, once its questions are answered.

        Raises:
            UserError: the model cannot be read, or does not go with the settings.
        """
        folder, work, name = self._folder, self._work, self._part.name
        folder.write_questions(work.questions)
        told = self._told_before()
        plans = folder.stored_plans(work.framed)
        with (
            Appended(folder.part_file("answers", name)) as answers,
            Appended(folder.part_file("plans", name)) as new_plans,
            Appended(folder.part_file("timings", name)) as timings,
        ):
            self._answers, self._plans, self._timings = answers, new_plans, timings
            for video, questions, uri in self._own_videos():
                try:
                    if isinstance(uri, UnreadableVideoError):
                        raise uri
                    self._video(questions, uri, self._plan(video, uri, plans), told)
                except (UnreadableVideoError, DoesNotFitError) as error:
                    self._failed(questions, error, told)
                yield video
        if self._unsubtitled:
            number, path = len(self._unsubtitled), next(iter(self._unsubtitled.values()))
            self._say(
                f"{work.benchmark.name}: videos without subtitles that can be read: {number:,}, "
                f"for example of {path}"
            )
        folder.merge(self._asked)

    def _told_before(self) -> dict[str, dict[str, Any]]:
        """Return what is known by key; a video that was missing has other keys once it is there.

        Of one key the rows with these settings count, so that an answer given under others, which
        did not change it, is taken over once.
        """
        told: dict[str, dict[str, Any]] = {}
        for row in self._folder.parts("answers"):
            if row["asked"] == self._asked or row["key"] not in told:
                told[row["key"]] = row
        return told

    def outcome(self) -> Outcome:
        """Return how far the benchmark is."""
        rows = self._folder.answers().values()
        num_failed = sum(row["error"] is not None for row in rows)
        return Outcome(
            num_questions=len(self._work.questions),
            num_answered=len(rows) - num_failed,
            num_new=self._num_new,
            num_failed=num_failed,
            num_left=len(self._work.questions) - len(rows),
            seconds=time.monotonic() - self._began_s,
        )

    def _own_videos(self) -> Iterator[tuple[str, list[Question], str | UnreadableVideoError]]:
        """Return this process's videos in the order of the questions, each with its file."""
        by_video: dict[str, list[Question]] = {}
        for question in self._work.questions:
            by_video.setdefault(question.video, []).append(question)
        found: dict[str, str | UnreadableVideoError] = {}
        costs = {}
        for video in by_video:
            try:
                found[video] = uri = self._media.find(video)
                costs[video] = float(file_bytes(uri))  # decoding takes what there is to read
            except UnreadableVideoError as error:
                found[video], costs[video] = error, 0.0
        own = self._part.share(costs)
        self._total = sum(len(questions) for video, questions in by_video.items() if video in own)
        for video, questions in by_video.items():
            if video in own:
                yield video, questions, found[video]

    def _plan(self, video: str, uri: str, plans: Mapping[str, list[FramePlan]]) -> FramePlan:
        num_bytes = file_bytes(uri)
        for plan in plans.get(video, []):
            if plan.num_bytes == num_bytes:
                return plan
        plan = plan_frames(self._held.reader, uri, video, self._work.resolved.frames)
        self._plans.add({"framed": self._work.framed, "plan": plan_row(plan)})
        return plan

    def _video(
        self,
        questions: Sequence[Question],
        uri: str,
        plan: FramePlan,
        told: Mapping[str, dict[str, Any]],
    ) -> None:
        """Answer the questions about one video, in batches that do not depend on what is done."""
        work = self._work
        # Questions about a video have one file of subtitles: it is read once.
        shown = {lines: self._shown(lines, plan) for lines in {one.subtitles for one in questions}}
        prompts = {one.question_id: work.prompt(one, shown[one.subtitles]) for one in questions}
        framed = digest(plan_row(plan))
        keys = {q.question_id: work.key(q, prompts[q.question_id], framed) for q in questions}
        size, watched = work.answer.batch, None
        for start in range(0, len(questions), size):
            batch = questions[start : start + size]
            left = []
            for question in batch:
                row = told.get(keys[question.question_id])
                if row is None or (row["error"] or {}).get("reason") == DoesNotFitError.reason:
                    left.append(question)  # memory may be larger now
                elif row["asked"] != self._asked:
                    self._answers.add(row | {"asked": self._asked})
            if not left:
                continue
            if watched is None:
                watched = self._watch(uri, plan)
            replies = self._replies(watched, [prompts[one.question_id] for one in batch])
            for question, reply in zip(batch, replies, strict=True):
                if question in left:
                    row = self._row(question, keys[question.question_id]) | {"plan": framed}
                    self._add(row, len(plan.frame_index), reply)

    def _watch(self, uri: str, plan: FramePlan) -> Any:
        key = (self._prepared.encoder, self._work.resolved.frames.frame_px, uri, plan)
        if self._held.key != key:
            began_s = time.monotonic()
            self._held.key, self._held.watched = None, None  # before the next one takes its place
            self._held.watched = self._prepared.model().watch(
                VideoSource(self._held.reader, uri, plan)
            )
            self._held.key = key
            took_s = time.monotonic() - began_s
            self._timings.add({"key": f"video/{plan.video}", "seconds": {"watch": took_s}})
        return self._held.watched

    def _replies(self, watched: Any, prompts: Sequence[Prompt]) -> list[Reply | UserError]:
        """Return what the model says; where a prompt does not fit it, why."""
        model = self._prepared.model()
        if self._work.answer.by == "likelihood":
            return [likeliest(model, watched, prompt) for prompt in prompts]
        try:
            return list(model.answer(watched, prompts))
        except UnreadableVideoError:
            raise
        except UserError as error:
            if len(prompts) == 1:
                return [error]
            return [reply for prompt in prompts for reply in self._replies(watched, [prompt])]

    def _shown(self, subtitles: Subtitles | None, plan: FramePlan) -> Shown:
        lines = None
        if subtitles is not None:
            path = Path(self._work.own.data) / subtitles.path
            lines = read_subtitles(path, subtitles.offset_s, plan.duration_s)
            if not lines:
                self._unsubtitled[plan.video] = path
        return Shown(
            time_s=plan.time_s,
            duration_s=plan.duration_s,
            width_px=plan.width_px,
            height_px=plan.height_px,
            subtitles=lines,
        )

    def _add(self, row: dict[str, Any], num_frames: int, reply: Reply | UserError) -> None:
        if isinstance(reply, UserError):
            self._tell_why(f"no answer to {row['question_id']}: {reply}")
            reason = reply.reason if isinstance(reply, DoesNotFitError) else "refused"
            self._answers.add(row | {"error": {"reason": reason, "message": str(reply)}})
            return
        row |= {
            "reply": reply.text,
            "finish": reply.finish,
            "frames": num_frames,
            "visual_tokens": reply.num_visual,
            "kept_tokens": reply.num_kept,
            "kept_by_group": reply.kept_by_group,
            "log_probs": reply.log_probs,
        }
        self._answers.add(row)
        self._timings.add(
            {"key": row["key"], "seconds": dict(reply.seconds), "peak_bytes": reply.peak_bytes}
        )
        self._num_new += 1
        self._tell()

    def _failed(
        self,
        questions: Sequence[Question],
        error: UnreadableVideoError | DoesNotFitError,
        told: Mapping[str, dict[str, Any]],
    ) -> None:
        """Keep why a video has no answers: a line for each question, unless it is there already."""
        why = {"reason": str(error.reason), "message": str(error)}
        self._tell_why(f"no answer about a video: {error}")
        for question in questions:
            key = self._work.key(question, None, None)
            row = self._row(question, key) | {"error": why}
            if told.get(key) != row:
                self._answers.add(row)

    def _row(self, question: Question, key: str) -> dict[str, Any]:
        return answer_row(question, key) | {"asked": self._asked, "plan": None}

    def _tell_why(self, why: str) -> None:
        self._num_told += 1
        if self._num_told <= _MOST_TOLD:
            self._say(f"{self._work.benchmark.name}: {why}")
        elif self._num_told == _MOST_TOLD + 1:
            self._say(f"{self._work.benchmark.name}: and more of these: all are in answers.jsonl")

    def _tell(self) -> None:
        now_s = time.monotonic()
        if now_s - self._told_s < _QUIET_S:
            return
        self._told_s = now_s
        rate = self._num_new / (now_s - self._began_s)
        self._say(
            f"{self._work.benchmark.name}: {self._num_new} new answers of {self._total} in this "
            f"process, {rate:.2f} a second"
        )


def answer_row(question: Question, key: str) -> dict[str, Any]:
    """Return the record of an answer, with nothing in it yet."""
    return {
        "key": key,
        "question_id": question.question_id,
        "video": question.video,
        "reply": None,
        "finish": None,
        "frames": 0,
        "visual_tokens": 0,
        "kept_tokens": 0,
        "kept_by_group": None,
        "log_probs": None,
        "error": None,
    }
