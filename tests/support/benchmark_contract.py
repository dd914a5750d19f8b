"""What every benchmark must stand, whoever wrote it."""

import math
from pathlib import Path

from vxp_model.eval.benchmarks.base import Benchmark, Question, Scored

REPLIES = ("", " ", "I cannot tell.", "\x00\ud800", "(", "9" * 5000, "A man walks.", "…答案")
"""What models say; none of it may raise."""


def check_benchmark(benchmark: Benchmark, root: Path) -> None:
    """Check a benchmark on its annotation files.

    Args:
        benchmark: built.
        root: folder with one or more questions in its own layout.

    Raises:
        AssertionError: it does not keep what the protocol says.
    """
    assert benchmark.version >= 1
    questions = list(benchmark.questions(root))
    assert questions, "it has no questions"
    assert list(benchmark.questions(root)) == questions, "it reads something else the second time"
    ids = [question.question_id for question in questions]
    assert all(ids)
    assert len(set(ids)) == len(ids), "two questions have one id"
    for question in questions:
        _check_question(benchmark, question)
    _check_summary(benchmark, questions)


def _check_question(benchmark: Benchmark, question: Question) -> None:
    assert question.video
    assert not Path(question.video).is_absolute()
    assert ".." not in Path(question.video).parts
    prompt = benchmark.prompt(question)
    assert prompt == benchmark.prompt(question), "the same question is put in two ways"
    assert prompt.max_new_tokens >= 1
    for text in (question.text, *question.options):
        assert text in prompt.text
    assert benchmark.score(question, question.gold) == 1
    assert benchmark.score(question, None) == 0
    assert benchmark.parse(question, question.gold) == question.gold
    assert benchmark.parse(question, "") is None
    for reply in REPLIES:
        parsed = benchmark.parse(question, reply)
        assert parsed is None or isinstance(parsed, str)
        assert 0 <= benchmark.score(question, parsed) <= 1


def _check_summary(benchmark: Benchmark, questions: list[Question]) -> None:
    right = [Scored(question=one, parsed=one.gold, score=1.0) for one in questions]
    wrong = [Scored(question=one, parsed=None, score=0.0) for one in questions]
    best, worst = (benchmark.summarise(scored) for scored in (right, wrong))
    assert best[0].value > worst[0].value
    assert benchmark.summarise(right[::-1]) == best, "the order of the questions matters"
    assert len({figure.name for figure in best}) == len(best), "two figures have one name"
    assert best[0].num_questions == len(questions)
    absent = [Scored(question=one, parsed=None, score=0.0, is_answered=False) for one in questions]
    for scored in ([], absent):
        figure = benchmark.summarise(scored)[0]
        assert figure.num_questions or math.isnan(figure.value)
