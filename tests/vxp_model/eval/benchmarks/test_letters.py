"""Option letters: what our parser reads, and the replies of two benchmarks scored by hand."""

import pytest

from vxp_model.eval.benchmarks.base import Question, Scored
from vxp_model.eval.benchmarks.letters import letters_for, read_letter
from vxp_model.eval.benchmarks.longvideobench import LongVideoBench
from vxp_model.eval.benchmarks.mlvu import Mlvu, MlvuTest

OPTIONS = ("red", "A man walks", "a cat", "blue car")


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        # what must be read
        ("The answer is B. A dog runs", "B"),
        ("The answer is (D), not A", "D"),
        ("d", "D"),
        ("(c) cat", "C"),
        ("B. (b)(c)(a).", "B"),
        ("B. ②①③.", "B"),
        # a letter alone
        *((text, "B") for text in ("B", "b.", "(B", "B)", "[B]", "'B'", "**B**", "B:", " B\n")),
        *(
            (text, "B")
            for text in ("Option B", "option b", "Answer B", "\uff08B\uff09", "\uff22", "B</s>")
        ),
        ("B<|im_end|>", "B"),
        # a letter first
        *((text, "B") for text in ("B) red", "B. red", "B.red", "B)red", "B: red", "B - red")),
        *((text, "B") for text in ("B because it is so", "B\n\nExplanation: A is wrong.")),
        *((text, "C") for text in ("C The man", "C, since the cat sleeps", "C (a cat)")),
        ("A because it is red", "A"),
        ("A (red)", "A"),
        ("A red", "A"),
        # declared
        *((text, "B") for text in ("Answer: B", "Answer:\nB", "Best Option: (B")),
        *((text, "C") for text in ("The correct answer is option (C) a cat", "I would choose C")),
        *((text, "C") for text in ("答案是C", "选C", "答案:C", "The best option is: **C**")),
        ("A and B are wrong. The answer is C.", "C"),
        ("Answer: B. On reflection, final answer: C", "C"),
        ("So the answer would be: (a)", "A"),
        ("The answer to the multiple-choice question is B.", "B"),
        ("The correct option among A, B, C and D is C, a cat.", "C"),
        ("I think B", "B"),
        ("The answer is A man walks", "B"),
        ("The answer is a red", "A"),
        ("Looking at the end, B is correct.", "B"),
        ("Considering the scene, the correct option is D: blue car.", "D"),
        ("Let me see.\nD\nThat is all.", "D"),
        # in a container
        *((text, "C") for text in (r"\boxed{C}", r"$\boxed{\text{C}}$", "<answer>C</answer>")),
        *((text, "C") for text in ("<think>A? B?</think>C", "<answer>a cat</answer>")),
        ("The answer is A, or \\boxed{C}", "C"),
        # inside a sentence
        ("As one sees, it is (C).", "C"),
        ("It is not (A); the video shows (B)", "B"),
        ("It is not (A) but (B)", "B"),
        ("It shows D. blue car", "D"),
        ("He is seen twice, therefore D", "D"),
        # the text of an option
        *((text, "A") for text in ("red", "Red.", "It is red.", "The red", "red\nIt hangs.")),
        ("A man walks.", "B"),
        ("a man walks", "B"),
        ("Blue car", "D"),
    ],
)
def test_a_reply_that_names_an_option_is_read(reply, letter):
    assert read_letter(reply, OPTIONS, "ABCD") == letter


@pytest.mark.parametrize(
    "reply",
    [
        *("Cannot determine", "A man runs", "A dog and a cat", "I", "None of the above", "All"),
        *("", " ", "...", "Sorry, I can't help with that.", "Dogs", "As you see", "D.C. is a city"),
        *("A or B", "A, B", "A/B", "Both A and C", "A, C and D", "B and C", "Answer: A or B"),
        *("E", "E. A dog", "(E)", "Answer: E", "The answer is F", "\\boxed{E}"),
        *("The answer is not A", "It is not (A).", "A dog is the answer to everything"),
        *("(A) red (B) man (C) cat (D) car", "A. red\nB. man\nC. cat\nD. car"),
        *("I think it is (B) or (C)", "<think>The answer is B", "B's hat", "D-day", "A 5-year-old"),
        *("The answer is unclear", "<answer></answer>", "The answer is a dog", "\ud800", "( )"),
    ],
)
def test_a_reply_that_names_none_or_two_is_not_read(reply):
    assert read_letter(reply, OPTIONS, "ABCD") is None


def test_letters_reach_as_far_as_the_options():
    assert letters_for(6) == "ABCDEF"
    assert read_letter("F", [*OPTIONS, "x", "y"], "ABCDEF") == "F"
    assert read_letter("F", [*OPTIONS, "x"], "ABCDE") is None
    assert read_letter("D", (), "ABC") is None
    assert read_letter("D", (), "ABCD") == "D"


def test_options_that_are_numbers_or_alike_are_read_by_their_own_text():
    assert read_letter("3", ("1", "2", "3", "4"), "ABCD") == "C"
    assert read_letter("The answer is 3.", ("1", "2", "3", "4"), "ABCD") == "C"
    assert read_letter("the dog", ("a dog", "the dog", "a cat"), "ABC") == "B"
    assert read_letter("dog", ("a dog", "the dog", "a cat"), "ABC") is None
    assert read_letter("Yes", ("Yes", "No", "Yes"), "ABC") == "A"  # the same text twice


MLVU_ROWS = [  # reply after 'Best Option: (', gold, right by ours, right by MLVU's own rule
    ("A) a circle", "A", 1, 1),
    ("B)", "B", 1, 1),
    ("C) a star", "D", 0, 0),
    ("D", "D", 1, 1),
    ("d)", "D", 1, 0),
    ("b) a square", "B", 1, 0),
    ("A", "B", 0, 0),
    ("B.", "B", 1, 0),
    ("B. a square", "B", 1, 0),
    ("(C) a star", "C", 1, 1),
    ("C) a star (not D)", "C", 1, 1),
    ("C) D", "C", 1, 1),
    ("The answer is C", "C", 1, 0),
    ("The answer is C)", "C", 1, 1),
    ("a star", "C", 1, 0),
    ("A circle", "A", 1, 0),
    ("A dog", "A", 0, 0),
    ("E) a line", "A", 0, 0),
    ("", "A", 0, 0),
    ("None", "B", 0, 0),
    ("A) or B)", "A", 0, 1),
    ("A, B", "A", 0, 0),
    ("C)a star", "C", 1, 1),
    ("C )", "C", 1, 0),
    ("D)\n", "D", 1, 1),
    ("D) a cross\nbecause", "D", 1, 1),
    ("**D**", "D", 1, 0),
    ("B) a square.", "A", 0, 0),
    ("I cannot tell", "C", 0, 0),
    ("A cross is seen", "D", 0, 0),
    ("Option D", "D", 1, 0),
    ("C", "C", 1, 1),
]
LONG_ROWS = [  # reply, gold, right by ours, by the authors' rule (None: they draw)
    ("A", "A", 1, 1),
    ("B. b", "B", 1, 1),
    ("E", "E", 1, 1),
    ("(D)", "D", 1, 1),
    ("c", "C", 1, None),
    ("C", "A", 0, 0),
    ("The answer is B", "B", 1, 1),
    ("The best option is D", "D", 1, 1),
    ("A bird is seen: C", "C", 1, 0),
    ("The answer is D. A bird", "D", 1, 1),
    ("Cannot tell", "C", 0, 1),
    ("A bird", "A", 0, 1),
    ("a line", "E", 1, None),
    ("E. a line", "E", 1, 1),
    ("F", "A", 0, None),
    ("", "B", 0, None),
    ("B or C", "B", 0, 1),
    ("Best option: E", "E", 1, 1),
    ("Answer: D", "D", 1, 0),
    ("it is (E)", "E", 1, 1),
    ("**B**", "B", 1, 1),
    ("A, C", "C", 0, 0),
    ("the star", "C", 1, None),
    ("A circle", "A", 1, 1),
    ("A square", "B", 1, 0),
    ("D) a cross", "D", 1, 1),
    ("D because", "B", 0, 0),
    ("B\n", "B", 1, 1),
    ("Every one", "E", 0, 1),
    ("Because it is E", "E", 1, 0),
    ("\\boxed{E}", "E", 1, 1),
]
SHAPES = ("a circle", "a square", "a star", "a cross")


def question(gold, options, number=0):
    return Question(
        question_id=f"q{number}",
        video="v.mp4",
        text="What?",
        options=options,
        gold=gold,
        groups={"task": "PQA"},
    )


@pytest.mark.parametrize(("reply", "gold", "ours", "theirs"), MLVU_ROWS)
def test_mlvu_replies_are_scored_as_by_hand(reply, gold, ours, theirs):
    asked = question(gold, SHAPES)
    official = Mlvu.conventions["official"]
    assert Mlvu().score(asked, Mlvu().parse(asked, reply)) == ours
    assert official.score(asked, official.parse(asked, reply)) == theirs


def test_mlvu_tables_of_rows_scored_by_hand():
    scored = []
    for number, (reply, gold, _, _) in enumerate(MLVU_ROWS):
        asked = question(gold, SHAPES, number)
        parsed = Mlvu().parse(asked, reply)
        score = Mlvu().score(asked, parsed)
        scored.append(Scored(question=asked, parsed=parsed, score=score))
    figures = {figure.name: figure.value for figure in Mlvu().summarise(scored)}
    assert figures["accuracy"] == sum(ours for _, _, ours, _ in MLVU_ROWS) / 32 == 21 / 32


def test_a_fifth_and_a_sixth_option_can_be_right():
    asked = question("F", [*SHAPES, "a line", "a dot"])
    assert MlvuTest().parse(asked, "F) a dot") == "F"
    assert MlvuTest.conventions["official"].parse(asked, "F) a dot") == "F"
    assert MlvuTest.conventions["lmms-eval"].parse(asked, "F) a dot") != "F"


@pytest.mark.parametrize(("reply", "gold", "ours", "theirs"), LONG_ROWS)
def test_longvideobench_replies_are_scored_as_by_hand(reply, gold, ours, theirs):
    asked = question(gold, (*SHAPES, "a line"))
    official = LongVideoBench.conventions["official"]
    assert LongVideoBench().score(asked, LongVideoBench().parse(asked, reply)) == ours
    drawn = official.parse(asked, reply)
    assert drawn in tuple("ABCDE")
    if theirs is not None:
        assert official.score(asked, drawn) == theirs
