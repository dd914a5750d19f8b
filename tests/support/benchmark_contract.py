"""What every benchmark must stand, whoever wrote it."""

import json
import math
from pathlib import Path

from vxp_model.eval.benchmarks.base import (
    COMBINE,
    Benchmark,
    Convention,
    Question,
    Scored,
    Shown,
    SubtitleLine,
)

REPLIES = (
    *("", " ", "I cannot tell.", "\x00\ud800", "(", ")", "9" * 5000, "A man walks.", "…答案"),
    *("**", "<answer>", "\\boxed{", "<think>B", "- to -", "1e999", "{" * 500, "[[1, 2], [3"),
)
"""What models say; none of it may raise."""

SHOWN = (
    Shown(time_s=(0.0, 1.0, 2.0, 3.0), duration_s=4.0, width_px=64, height_px=48),
    Shown(
        time_s=(0.0, 2.0),
        duration_s=4.0,
        width_px=64,
        height_px=48,
        subtitles=(SubtitleLine(start_s=0.5, end_s=3.0, text="Look, a bird."),),
    ),
    Shown(time_s=(), duration_s=0.0, width_px=1, height_px=1, subtitles=()),
)
"""What a prompt may be about."""


def check_benchmark(benchmark: Benchmark, root: Path) -> None:
    """Check a benchmark on its annotation files.

    Args:
        benchmark: built.
        root: folder with one or more questions in its own layout.

    Raises:
        AssertionError: it does not keep what the base class says.
    """
    _check_about(benchmark)
    questions = list(benchmark.questions(root))
    assert questions, "it has no questions"
    assert list(benchmark.questions(root)) == questions, "it reads something else the second time"
    ids = [question.question_id for question in questions]
    assert all(ids)
    assert len(set(ids)) == len(ids), "two questions have one id"
    for question in questions:
        _check_question(benchmark, question)
        _check_prompts(benchmark, question)
        for convention in (benchmark, *benchmark.conventions.values()):
            _check_replies(convention, question)
    for convention in (benchmark, *benchmark.conventions.values()):
        _check_summary(convention, questions)


def _check_about(benchmark: Benchmark) -> None:
    assert benchmark.version >= 1
    assert benchmark.styles
    assert len(set(benchmark.styles)) == len(benchmark.styles)
    about = benchmark.about
    for text in (about.title, about.licence, about.source, about.files, about.metric):
        assert text
    assert about.checked_against
    assert all(number > 0 for number in benchmark.expected.values())
    for name in benchmark.expected:
        assert name in ("questions", "videos") or name.count("=") == 1, name


def _check_question(benchmark: Benchmark, question: Question) -> None:
    assert question.video
    assert not Path(question.video).is_absolute()
    assert ".." not in Path(question.video).parts
    assert Question.from_dict(json.loads(json.dumps(question.to_dict()))) == question
    assert benchmark.score(question, None) == 0
    if question.gold:
        assert benchmark.score(question, question.gold) == 1
    if benchmark.needs_judge(question):
        judged = benchmark.judge_prompt(question, "A reply.")
        assert judged == benchmark.judge_prompt(question, "A reply.")
        assert "A reply." in judged.text
        for judgment in REPLIES:
            parsed = benchmark.judged(question, judgment)
            assert 0 <= benchmark.score(question, parsed) <= 1
    elif question.gold and not _is_beyond_options(question):
        assert benchmark.parse(question, question.gold) == question.gold


def _is_beyond_options(question: Question) -> bool:
    """Whether the published answer is a text that is none of the options: nobody can give it."""
    return len(question.gold) > 1 and bool(question.options) and " " in question.gold


def _check_prompts(benchmark: Benchmark, question: Question) -> None:
    for style in benchmark.styles:
        for shown in SHOWN:
            prompt = benchmark.prompt(question, shown, style)
            assert prompt == benchmark.prompt(question, shown, style), "asked in two ways"
            assert prompt.max_new_tokens >= 1
            for text in (question.text, *question.options):
                assert text in prompt.text
            times = [time_s for time_s, _ in prompt.timed_texts]
            assert times == sorted(times)
            assert len(set(prompt.choices)) == len(prompt.choices)
            read = [benchmark.parse(question, choice) for choice in prompt.choices]
            assert None not in read, "a choice cannot be read"
            assert len(set(read)) == len(read), "two choices are read as one"


def _check_replies(convention: Convention, question: Question) -> None:
    assert convention.score(question, None) == 0
    for reply in REPLIES:
        parsed = convention.parse(question, reply)
        assert parsed is None or (isinstance(parsed, str) and parsed)
        assert convention.parse(question, reply) == parsed, "read in two ways"
        assert 0 <= convention.score(question, parsed) <= 1


def _check_summary(convention: Convention, questions: list[Question]) -> None:
    right = [Scored(question=one, parsed=one.gold or "A", score=1.0) for one in questions]
    wrong = [Scored(question=one, parsed=None, score=0.0) for one in questions]
    best, worst = (convention.summarise(scored) for scored in (right, wrong))
    known = [one for one in questions if one.gold]
    if known:
        assert not worst[0].value >= best[0].value  # NaN where what cannot be read does not count
        assert 0 < best[0].num_questions <= len(known)
    for figure in best:
        assert figure.combine in COMBINE
    other = convention.summarise(right[::-1])
    assert [(f.name, repr(f.value)) for f in other] == [(f.name, repr(f.value)) for f in best], (
        "the order of the questions matters"
    )
    assert len({figure.name for figure in best}) == len(best), "two figures have one name"
    absent = [Scored(question=one, parsed=None, score=0.0, is_answered=False) for one in questions]
    for scored in ([], absent, right[:1]):
        figure = convention.summarise(scored)[0]
        assert figure.num_questions or math.isnan(figure.value)
