"""Score rows by how good a judging model finds their captions: 0 to 10, larger = better.

    vxp-data score-template runs/a --out rows.jsonl
    python pipelines/scorers/caption_judge.py rows.jsonl --out judge.parquet --server URL#MODEL
    vxp-data decide runs/a --scores judge.parquet --missing keep --keep 0.5

Without `--frames` the judge sees words alone, and says nothing of whether they are true. With
`--frames N --run RUN` a model that takes images sees up to N of the frames that the run has scored.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ask_all import ask_all, journal_of
from asks import PROMPTS, Answer, Ask, Backend, Failure, Frames, Prompts
from command import answers_of, base_parser, finish, open_backend, run, version_of
from pictures import RunFrames
from ratings import read_rating
from template_rows import ScoredRow, TemplateRow, check_out, read_template

from vxp_data.conversation import question_answer_pairs
from vxp_data.records import Task
from vxp_model.errors import UserError, require
from vxp_model.eval.store import digest

TEXT_SCORER: Final = "caption_text"
FRAMES_SCORER: Final = "caption_frames"
TRIES: Final = 1
MAX_TOKENS: Final = 256
SIDE_PX: Final = 448
UNREADABLE: Final = "unreadable"
"""Reason of rows of which a reply holds no rating."""
_SEEDS: Final = 2**31


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How captions are judged."""

    prompts: Prompts
    tries: int
    seed: int
    temperature: float
    max_tokens: int
    tasks: frozenset[str]
    frames: int
    """Most frames shown; 0: none."""
    side_px: int

    def settings(self) -> dict[str, Any]:
        """Return what scores depend on beside prompts and model."""
        return {
            "tries": self.tries,
            "seed": self.seed,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "tasks": sorted(self.tasks),
            "frames": self.frames,
            "side_px": self.side_px if self.frames else 0,
        }

    def asks_of(self, row: TemplateRow, shown: RunFrames | None) -> list[Ask] | str:
        """Return the requests about a row, or the reason why there are none."""
        if row.task not in self.tasks:
            return "other_task"
        pairs = [(q.strip(), a.strip()) for q, a in question_answer_pairs(row.turns) if a.strip()]
        if not pairs:
            return "no_caption"
        frames: Frames | None = None
        if shown is not None:
            frames = shown.of(row, most=self.frames, side_px=self.side_px)
            if frames is None:
                return "no_frames"
        text = self.prompts.fill(
            "rating",
            question="\n".join([q for q, _ in pairs if q]) or "Describe this video.",
            caption="\n\n".join([a for _, a in pairs]),
        )
        return [self._ask(row, turn, text, frames) for turn in range(self.tries)]

    def _ask(self, row: TemplateRow, turn: int, text: str, frames: Frames | None) -> Ask:
        is_drawn = turn > 0 and self.temperature > 0
        name = f"{self.seed}/{row.sample_id}/{turn}"
        return Ask(
            chat=(("system", self.prompts.fill("system")), ("user", text)),
            max_tokens=self.max_tokens,
            temperature=self.temperature if is_drawn else 0.0,
            seed=int(digest(name), 16) % _SEEDS if is_drawn else 0,
            frames=frames,
        )


def scored(row: TemplateRow, answers: Sequence[Answer] | Failure | str) -> ScoredRow:
    """Return a row's score: the mean rating of its tries; none where one cannot be read."""
    if isinstance(answers, str):
        return ScoredRow.without(row, answers, "")
    if isinstance(answers, Failure):
        return ScoredRow.without(row, answers.reason, answers.message)
    replies = [answer["text"] for answer in answers]
    ratings = [read_rating(reply) for reply in replies]
    known = [rating for rating in ratings if rating is not None]
    details = {"ratings": ratings, "replies": replies}
    if len(known) < len(ratings):
        return ScoredRow.without(row, UNREADABLE, details)
    return ScoredRow.of(row, known, details)


def main(argv: Sequence[str] | None = None) -> int:
    """Score the captions, write the file, print what it is."""
    options = build_parser().parse_args(argv)
    check_out(options.out)
    rows = read_template(options.rows)
    backend = open_backend(options)
    plan = _plan(options, backend)
    shown = RunFrames(options.run) if plan.frames else None
    asks = (plan.asks_of(row, shown) for row in rows)
    if not all(isinstance(own, str) for own in asks):
        backend.check()
    # Made anew rather than kept: of a million rows they are gigabytes.
    asks = (plan.asks_of(row, shown) for row in rows)
    wanted = (ask for own in asks if not isinstance(own, str) for ask in own)
    found = ask_all(backend, wanted, journal_of(options.out))
    made = [scored(row, _answers(plan.asks_of(row, shown), backend, found)) for row in rows]
    scorer = FRAMES_SCORER if plan.frames else TEXT_SCORER
    version = version_of(backend, plan.prompts.digest, plan.settings())
    return finish(options, made, scorer=scorer, version=version, notes=[_note(plan)])


def _answers(
    asks: Sequence[Ask] | str, backend: Backend, found: Mapping[str, Answer | Failure]
) -> Sequence[Answer] | Failure | str:
    if isinstance(asks, str):
        return asks
    return answers_of([ask.key(backend.identity) for ask in asks], found)


def _note(plan: Plan) -> str:
    if not plan.frames:
        return "only words were judged: whether they are true of the videos is not in the scores"
    return f"judged beside {plan.frames} frames of each video at most"


def _plan(options: argparse.Namespace, backend: Backend) -> Plan:
    frames: int = options.frames
    require(
        not frames or options.run is not None,
        "--frames: say of which run, --run RUN: its frames are shown.",
    )
    if frames and not backend.takes_images:
        raise UserError(
            "--frames: Ray's own engine is asked for words alone here. Serve the model (vllm serve "
            "MODEL) and name it with --server, with --ray if you like."
        )
    name = "caption_frames.txt" if frames else "caption_text.txt"
    return Plan(
        prompts=Prompts(options.prompts or PROMPTS / name, ("system", "rating")),
        tries=options.tries or TRIES,
        seed=options.seed,
        temperature=options.temperature,
        max_tokens=options.max_tokens or MAX_TOKENS,
        tasks=frozenset(options.task),
        frames=frames,
        side_px=options.frame_px,
    )


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = base_parser((__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--task",
        nargs="+",
        default=[Task.CAPTION.value],
        metavar="TASK",
        help="rows of these tasks are judged [caption]",
    )
    parser.add_argument("--frames", type=int, default=0, metavar="N", help="most shown [0: none]")
    parser.add_argument("--run", help="the run that the rows are of, for its frames")
    parser.add_argument("--frame-px", type=int, default=SIDE_PX, help=f"longer side [{SIDE_PX}]")
    return parser


if __name__ == "__main__":
    sys.exit(run(main))
