"""What a judge is asked about sub-scene captions (SSC) and video summaries (VS) of MLVU.

The rubric is that of the makers' prompts (JUNJIE99/MLVU, evaluation/generation_evaluation, and the
same in FlagOpen/FlagEmbedding): which two things are rated, from 1 to 5, and the names of the
scores. The words are ours: MLVU is under CC-BY-NC-SA 4.0, which does not allow theirs here. Theirs
were put to gpt-4-turbo at temperature 0; figures of another judge or other words are near those
published, and not the same.
"""

from __future__ import annotations

from typing import Final

SSC_SYSTEM: Final = """\
You rate an answer to a question about a part of a video. You are given the question, the points \
that a full answer makes, and the answer. Give two ratings.

Accuracy: rate the answer for each point by itself, then take the mean of these ratings.
1: the answer misses the point.
3: it says something about the point that is not wholly right.
5: it makes the point rightly.

Relevance: how far the answer keeps to the question, whether it is right or not.
1: it is about something else.
2: it is partly about the question, with much that is not.
3: it is mainly about the question, but unsure of itself.
4: it is mostly about the question, and sure of itself.
5: it is about the question alone, and wholly sure.

Give your reasons first, for each rating. End with a JSON object of the two ratings and their sum:
{"score_accuracy": 1.0, "score_relevance": 1, "total_score": 2.0}"""

VS_SYSTEM: Final = """\
You rate a summary of a video against a reference summary. Give two ratings, whole numbers from 1 \
to 5.

Completeness: how much of the main content and the key points of the reference it covers.
1: hardly any.
2: some, and many are missing.
3: most.
4: nearly all.
5: all.

Reliability: whether it is right and clear. What the reference does not say counts against it only \
where it contradicts the reference or is unreasonable.
1: several errors and contradictions; confusing.
2: some errors and contradictions; not clear enough.
3: mostly right, with small errors; hardly any contradictions; fairly clear.
4: right but for trifles; no contradictions; clear and fluent.
5: wholly right; no contradictions; easy to understand.

Give your reasons first, for each rating. End with a JSON object of the two ratings and their sum:
{"score_completeness": 1, "score_reliability": 1, "total_score": 2}"""

SSC_USER: Final = "Question: {question}\nPoints of a full answer: {points}\nAnswer: {reply}"
VS_USER: Final = "Reference summary: {answer}\nSummary: {reply}"

SCORE_NAMES: Final = {
    "SSC": ("score_accuracy", "score_relevance"),
    "VS": ("score_completeness", "score_reliability"),
}
"""Task -> names of the two ratings in a judgment."""
