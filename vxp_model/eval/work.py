"""One benchmark as a model is asked it: its prompts, and what its answers depend on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from string import ascii_uppercase
from typing import Any

from vxp_model.eval.benchmarks.base import Benchmark, Prompt, Question, Shown
from vxp_model.eval.store import digest
from vxp_model.settings.eval import AnswerSettings, BenchmarkSettings, Resolved


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One benchmark that a model is asked."""

    benchmark: Benchmark
    questions: Sequence[Question]
    own: BenchmarkSettings
    resolved: Resolved
    answer: AnswerSettings
    identity: Mapping[str, Any]
    """Of the model."""

    @property
    def style(self) -> str:
        """How questions are put: the settings', where the benchmark has it, else its first."""
        style = self.resolved.prompt.style
        return style if style in self.benchmark.styles else self.benchmark.styles[0]

    @property
    def how(self) -> dict[str, Any]:
        """What all keys share: the model, and how its answers are made."""
        return {
            "model": dict(self.identity),
            "by": self.answer.by,
            "frame_px": self.resolved.frames.frame_px,
        }

    @property
    def framed(self) -> str:
        """Digest of the settings that plans depend on."""
        return digest(self.resolved.frames.model_dump())

    @property
    def asked(self) -> str:
        """Digest of the settings that may change an answer."""
        frames = self.resolved.frames.model_dump()
        prompt = self.resolved.prompt.model_dump() | {"style": self.style}
        tokens = self.answer.max_new_tokens
        return digest(self.how | {"frames": frames, "prompt": prompt, "tokens": tokens})

    def prompt(self, question: Question, shown: Shown) -> Prompt:
        """Return what the model is asked."""
        prompt, said = self.benchmark.prompt(question, shown, self.style), self.resolved.prompt
        if said.template is not None:
            text = fill_template(said.template, question)
            prompt = replace(prompt, text=text, system=None, reply_start="")
        changes: dict[str, Any] = {
            "system": said.system,
            "reply_start": said.reply_start,
            "max_new_tokens": self.answer.max_new_tokens,
        }
        return replace(prompt, **{key: one for key, one in changes.items() if one is not None})

    def key(self, question: Question, prompt: Prompt | None, plan: str | None) -> str:
        """Return the digest of all that an answer depends on.

        Args:
            question: one of the benchmark's.
            prompt: what the model is asked; None: it is not asked.
            plan: digest of the frames, made once for all questions about a video: a plan of
                thousands of frames is hundreds of kilobytes. None: there are none.
        """
        told = {"id": question.question_id, "text": question.text, "options": question.options}
        return digest(
            self.how
            | {
                "question": told,
                "prompt": None if prompt is None else asdict(prompt),
                "plan": plan,
            }
        )


def fill_template(template: str, question: Question) -> str:
    """Return a user's own prompt; see `PromptSettings.template`."""
    lettered = list(zip(ascii_uppercase, question.options, strict=False))
    return template.format(
        question=question.text,
        options="\n".join(f"{letter}. {option}" for letter, option in lettered),
        inline_options=" ".join(f"({letter}) {option}" for letter, option in lettered),
    )
