"""Option letters in replies of more than a letter: none is guessed, whatever stands around it."""

import pytest

from vxp_model.eval.benchmarks.letters import read_letter

OPTIONS = ("A red car", "A dog", "Two cats", "The man leaves")


@pytest.mark.parametrize(
    ("letter", "reply"),
    [
        ("A", "Definitely A"),
        ("A", "A rather than B"),
        ("A", "A instead of B"),
        ("B", "I think it is B because A is wrong."),
        ("B", "Not A but B"),
        (
            "B",
            "Each option:\nA. A red car - no.\nB. A dog - yes.\nC. Two cats - no.\nD. Not so.\n\nB",
        ),
        (
            "B",
            "Each option:\n(A) A red car.\n(B) A dog - so.\n(C) Two cats - no.\n(D) - no.\nThus, B",
        ),
        ("B", "A is incorrect. C is incorrect. D is incorrect. Therefore B."),
        ("B", "### Final Answer\n**B. A dog**"),
        ("B", "\\(B\\)"),
        ("B", "根据视频内容\uff0c正确的选项是B。"),
        ("B", '{"answer": "B"}'),
        ("B", "{'answer': 'B'}"),
        ("B", '```json\n{"answer": "B"}\n```'),
        ("B", '{"choice": "B. A dog"}'),
        ("B", "The answer cannot be A, so it is B."),
        ("B", "The correct answer is not A but B."),
        ("B", "None of the options is correct, but B is closest."),
        ("B", "Comparing A and B, B is better."),
        ("B", "It looks like B."),
        ("B", "Probably B"),
        ("B", "Likely B."),
        ("B", "Maybe B"),
        ("B", "Obviously B."),
        ("B", "The video is about dogs. B."),
        ("B", "The dog runs. B"),
        ("B", "Answer choice B"),
        ("B", "Correct answer B"),
        ("B", "Choose B"),
        ("B", "Select B"),
        ("B", "Pick B."),
        ("B", "Go with B"),
        ("B", "I'll go for B"),
        ("B", "Let's go with B."),
        ("B", "I guess B"),
        ("B", "The answer is definitely B"),
        ("B", "The answer is obviously B."),
        ("B", "The answer is simply B"),
        ("B", "The answer is actually B."),
        ("B", "The answer is given by B"),
        ("B", "The answer is option letter B"),
        ("B", "<option>B</option>"),
        ("B", "<choice>B</choice>"),
        ("B", "◁think▷A or C◁/think▷B"),
        ("B", "(A) is not shown, so B."),
        ("B", "B. A dog\n\nA. A red car - wrong\nC. Two cats - wrong\nD. The man leaves - wrong"),
        ("B", "it is (b)"),
        ("B", "The answer is 「B」"),
        ("B", "【答案】B"),
        ("B", "The answer is B, C is wrong"),
        ("B", "Answer: B; A is wrong"),
        ("B", "B; A is wrong"),
        ("B", "B, A is wrong"),
        ("C", '{"option": "C", "reason": "A is not shown"}'),
        ("C", '{"reason": "A is shown then B", "answer": "C"}'),
        (
            "C",
            "He picks up a phone. Among the choices, C best describes this.",
        ),
        ("C", "I'm going with C."),
        ("C", "Ans. C"),
        ("C", "✅ C"),
        ("C", "- C"),
        ("C", "> C"),
        ("C", "1. C"),
        ("C", "two cats - C"),
        ("C", "答案应该是C"),
        ("C", "正确选项是C"),
        ("C", "正确选项为\uff1aC. Two cats"),
        ("C", "It matches with C."),
        ("C", "My answer\n\nC. Two cats"),
        ("C", "答案为\uff1a**C**"),
        ("C", "OK. C"),
        ("C", "Then C"),
        ("C", "Option A is not shown, option B is not either: C."),
        ("D", "Answer - D"),
        ("D", '{"final_answer": "D"}'),
        ("D", '{"correct_option":"D"}'),
        ("A", "A. no, it is not moving"),
        ("C", "**C. Cannot be determined from this**"),
        ("B", "B. False"),
        ("B", "=> B"),
        ("B", "A? No, B."),
        ("B", "B is partially correct, but C is not shown. The answer is B."),
        ("B", "While A is wrong, the best answer is B"),
        ("A", "A. A red car\n\nB is wrong since no dog is seen."),
    ],
)
@pytest.mark.parametrize("options", [OPTIONS, ()])
def test_one_letter_is_found_among_many_words(letter, reply, options):
    assert read_letter(reply, options, "ABCD") == letter


@pytest.mark.parametrize(
    "reply",
    [
        "A is wrong.",
        "Option A is not correct.",
        "A is not the answer",
        "Answer: A man",
        "A: B",
        "B. A dog\nC. Two cats",
        "B\nC",
        "The letter A appears on the wall.",
        "(Answer is unclear)",
        "(A man walks in)",
        "(Because it is red)",
        "[Dog] runs",
        "I don't think the answer is B.",
        "I don't think B is correct.",
        "Neither A nor B is correct.",
        "Either A or B is correct.",
        "It is not clear whether A or B is correct.",
        "If B is correct, then A is wrong.",
        "The incorrect answer is A.",
        "The wrong option is A",
        "选项A\uff1a没有出现。选项B\uff1a出现了。选项C\uff1a没有。选项D\uff1a没有。",
        "I can choose from A, B, C, D",
        "Possible answers: A, C",
        "Correct answers: A, C",
        "The answer can't be A.",
        "The answer will never be A",
        "Answer: A B",
        "(A)(B)",
        "A... or maybe B",
        "All but C",
        "Everything but C",
        "A is out, B is out, C is in.",
        "D is not shown.",
        "B does not happen",
        "B isn't right",
        "B can be ruled out.",
        "B is ruled out",
    ],
)
@pytest.mark.parametrize("options", [OPTIONS, ()])
def test_what_is_refused_or_doubted_or_a_word_is_no_answer(reply, options):
    assert read_letter(reply, options, "ABCD") is None


@pytest.mark.parametrize("reply", ["Answer: A dog.", "The best answer is A dog, because"])
def test_a_sentence_behind_the_answer_is_an_option_where_one_reads_so(reply):
    assert read_letter(reply, OPTIONS, "ABCD") == "B"
    assert read_letter(reply, (), "ABCD") is None
