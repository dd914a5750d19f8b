"""How others read option letters: kept as they are, so that their numbers can be had again.

None of them is how we read a reply; see `letters`. Each says where it is from.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from vxp_model.eval.benchmarks.base import Question
from vxp_model.eval.benchmarks.letters import letters_for

_VIDEO_MME_PHRASES: Final = (
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "The answer",
    "The best option isThe correct option is",  # two commas are missing in the script
    "Best answer:Best option:",
)
_LONGVIDEOBENCH_PHRASES: Final = (
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "The answer",
    "The best option is",
    "The correct option is",
    "Best answer:",
    "Best option:",
)
_RANKED_EDGES: Final = (",", ".", "!", "?", ";", ":", "'", '"')
_RANKED_FORMS: Final = ((6, "({})"), (5, "{}."), (4, "{}:"), (3, "{})"), (2, "{} "))
_RANKED_PHRASES: Final = (
    *(f"{the}{which}answer is" for the in ("", "the ") for which in ("", "correct ", "best ")),
    *(f"{the}{which} option is" for the in ("", "the ") for which in ("correct", "best")),
    *(f"{the}{which}choice is" for the in ("", "the ") for which in ("", "correct ")),
    *("i choose", "i select", "i pick", "my answer is", "my choice is"),
    *("옵션", "정답은", "답은", "답:", "答案是", "答案为", "选", "答えは"),
)
_START, _END, _PHRASE, _ANYWHERE = 10, 9, 7, 0


def first_capital(reply: str, letters: str, phrases: Sequence[str] = ()) -> str | None:
    """Return the first capital of those letters, wherever it stands, once phrases are cut out."""
    text = reply.strip()
    for phrase in phrases:
        text = text.replace(phrase, "")
    return next((character for character in text if character in letters), None)


def video_mme_letter(question: Question, reply: str) -> str | None:
    """Return what Video-MME's own script reads: the first of A to D after some phrases.

    Source:
        BradyFU/Video-MME @ 4e7566d `evaluation/eval_your_results.py`.
    """
    del question
    return first_capital(reply, "ABCD", _VIDEO_MME_PHRASES)


def longvideobench_letter(question: Question, reply: str) -> str:
    """Return what LongVideoBench's authors read: the first of A to E, else one by chance.

    Theirs draws from a generator without a seed; ours from one of the question's id.

    Source:
        EvolvingLMMs-Lab/lmms-eval 0.7.3 `tasks/longvideobench/utils.py`, by those authors.
    """
    found = first_capital(reply, "ABCDE", _LONGVIDEOBENCH_PHRASES)
    if found is not None:
        return found
    draw = random.Random(f"longvideobench {question.question_id}")
    return draw.choice(letters_for(len(question.options) or 5))


def vlmevalkit_letter(question: Question, reply: str) -> str | None:
    """Return what VLMEvalKit reads: the first of A to D (E) after some more phrases.

    Where there is none it asks a judge, which is left out here.

    Source:
        open-compass/VLMEvalKit @ 21a3ff0 `vlmeval/dataset/utils/videomme.py`, and
        @ 18c22ab `longvideobench.py` beside it.
    """
    letters = letters_for(max(len(question.options), 4))
    return first_capital(reply, letters, (*_VIDEO_MME_PHRASES, "Answer:", "Option:"))


def ranked_letter(reply: str, letters: str = "ABCD") -> str | None:
    """Return what lmms-eval reads: the letter in the form that it ranks highest, the last of it.

    It reads 'The answer is B. A dog runs' as A and 'Cannot determine' as C.

    Source:
        EvolvingLMMs-Lab/lmms-eval 0.7.3 `tasks/_task_utils/mcq_extract.py`.
    """
    bare = reply.strip()
    for mark in _RANKED_EDGES:
        bare = bare.strip(mark)
    text = f" {bare} "
    bare = text.strip()
    found: list[tuple[int, int, str]] = []
    for rank, form in _RANKED_FORMS:
        found += [(rank, text.rfind(form.format(letter)), letter) for letter in letters]
    for phrase in _RANKED_PHRASES:
        place = text.lower().find(phrase)
        if place >= 0:
            found += [(_PHRASE, text.find(a, place + len(phrase)), a) for a in letters]
    for letter in letters:
        if bare.startswith(letter) and not bare[1:2].isalpha():
            found.append((_START, 0, letter))
        if bare.endswith(letter) and not bare[-2:-1].isalpha():
            found.append((_END, len(text), letter))
    found = [one for one in found if one[1] >= 0]
    if not found:
        found = [(_ANYWHERE, text.rfind(a), a) for a in letters if a in text]
    return max(found, key=lambda one: one[:2])[2] if found else None


def lmms_eval_letter(question: Question, reply: str) -> str | None:
    """Return what `ranked_letter` reads of A to D, however many options there are."""
    del question
    return ranked_letter(reply)


def before_bracket(question: Question, reply: str) -> str | None:
    """Return what MLVU's own script reads: the character before the first ')', else all.

    Its reply was made to begin with '(', so that this is the letter; 'The answer is B' is wrong.
    VLMEvalKit reads the same and asks a judge where that is not the gold letter, which is left out
    here.

    Source:
        JUNJIE99/MLVU `evaluation/multiple_choice_evaluation/choice_bench.py`;
        open-compass/VLMEvalKit @ 51ba229 `vlmeval/dataset/utils/mlvu.py`.
    """
    del question
    before, bracket, _ = reply.partition(")")
    return (before[-1:] if bracket else reply) or None


def mlvu_test_letter(question: Question, reply: str) -> str | None:
    """Return what MLVU's script for the test set submits: all before the first ')', else all.

    Source:
        JUNJIE99/MLVU `evaluation_test/test_bench.py`.
    """
    del question
    return reply.partition(")")[0].strip() or None


def vnbench_letter(question: Question, reply: str) -> str | None:
    """Return what VNBench's own script reads: of the text before '.' A if it is in, else B, ...

    Source:
        joez17/VideoNIAH @ 8193a3b `evaluation/eval.py`.
    """
    del question
    text = reply.partition(".")[0]
    return next((letter for letter in "ABCD" if letter in text), text) or None


def lvbench_letter(question: Question, reply: str) -> str | None:
    """Return what LVBench's makers read: the first character before ')' and after '('.

    Source:
        THUDM/LVBench @ 1dd4612 `lvbench/utils/answer_util.py`.
    """
    del question
    text = reply.strip().split(")")[0].strip()
    if "(" in text:
        text = text.split("(")[1].strip()
    return text.split(" ")[0][:1] or None


def holds_letter(reply: str, gold: str) -> bool:
    """Whether the gold letter is in a reply before its first ')'.

    Source:
        VectorSpaceLab/Video-XL @ 6e3dc89 `Video-XL/NIAH`, its needles in a haystack.
    """
    return gold in reply.partition(")")[0]
