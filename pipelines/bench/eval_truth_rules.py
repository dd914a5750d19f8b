"""Answers without letters, and of needles, for eval_truth.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from eval_truth_checks import (
    MEAN_TOLERANCE,
    Answers,
    Check,
    Entry,
    Row,
    Scorer,
    UnfitError,
    field_of,
    mean_check,
    no_convention,
    number_check,
    parts_of,
    percent_check,
    table_of,
    unknown,
)

from vxp_model.eval.benchmarks.intervals import best_iou, recall_at
from vxp_model.eval.benchmarks.published import holds_letter
from vxp_model.eval.benchmarks.tempcompass_rules import (
    CAPTIONING,
    RULED,
    TASKS,
    Tables,
    row_verdict,
    rule_verdict,
    tables_of,
)

_NUMBER: Final = (int, float)


def tempcompass(rows: Sequence[Row], compat: str | None) -> Answers:
    """Score TempCompass by the makers' rules, and by what their judge said where rules end.

    A reply that a rule read must be rated as the rule does.
    """
    no_convention(compat, "official")
    for row in rows:
        if field_of(row, "task", str) not in TASKS:
            raise UnfitError(f"an unknown task, {row['task']!r}")
        field_of(row, "gold", str)
    ruled = [row for row in rows if row["task"] in RULED and row.get("by_rule")]
    captions = [row for row in rows if row["task"] == CAPTIONING and "rating" in row]
    agreed = sum(row_verdict(row) == bool(row["rating"]) for row in captions)
    tables = tables_of(rows)
    return Answers(
        own=[
            number_check("rules agree with ratings", sum(map(_rule_agrees, ruled)), len(ruled)),
            Check(name="judges' letters agree with ratings", ours=f"{agreed} of {len(captions)}"),
        ],
        checks=lambda key, value: _tempcompass_checks(tables, key, value),
    )


def _rule_agrees(row: Row) -> bool:
    verdict = rule_verdict(row["task"], row["gold"], row["reply"] or "", row.get("options") or ())
    return verdict is not None and verdict == bool(row["rating"])


def _tempcompass_checks(tables: Tables, key: str, value: Any) -> Iterator[Check]:
    if key == "stored":
        for task, table in table_of(key, value).items():
            yield from _task_checks(task, tables.by_task.get(task, (0, 0)), table_of(task, table))
    elif key == "published_leaderboard":
        yield from parts_of(key, value, {"all": tables.all} | tables.by_aspect, _share_check)
    elif key in ("right_by_task", "right_by_aspect"):
        ours = tables.by_task if key == "right_by_task" else tables.by_aspect
        yield from parts_of(key, value, ours, _right_check)
    elif key == "right":
        yield number_check(key, tables.all[0], value)
    elif key == "published":
        yield _share_check(key, tables.all, value)
    else:
        raise unknown(key)


def _task_checks(task: str, ours: tuple[int, int], expected: Entry) -> Iterator[Check]:
    right, num = ours
    for key, value in expected.items():
        name = f"{task}: {key}"
        if key == "average":
            yield _share_check(name, ours, value)
        elif key in ("questions", "right"):
            yield number_check(name, num if key == "questions" else right, value)
        else:
            yield Check(name=name, ours="nobody checks this", expected=str(value), is_same=False)


def _right_check(name: str, ours: tuple[int, int], expected: Any) -> Check:
    return number_check(name, ours[0], expected)


def _share_check(name: str, ours: tuple[int, int], expected: Any) -> Check:
    right, num = ours
    return percent_check(name, right / num if num else float("nan"), expected)


def qvhighlights(rows: Sequence[Row], compat: str | None) -> Answers:
    """Score moments by IoU with the gold window that they fit best."""
    no_convention(compat)
    ious = [best_iou(_window(row), field_of(row, "gold", list)) for row in rows]

    def checks(key: str, value: Any) -> Iterator[Check]:
        if key == "published_r1":
            ours = {part: recall_at(ious, float(part)) for part in table_of(key, value)}
            yield from parts_of("R1", value, ours, percent_check)
        elif key == "published_miou":
            yield percent_check(key, _mean(ious), value)
        else:
            raise unknown(key)

    return Answers(own=[], checks=checks)


def _window(row: Row) -> tuple[float, float] | None:
    """Return the predicted window of a row; of several the first."""
    found = row.get("predicted")
    if found and isinstance(found[0], list):
        found = found[0]
    return (float(found[0]), float(found[1])) if found else None


def niah(rows: Sequence[Row], compat: str | None) -> Answers:
    """Score needles by letters: each row's own score must be what its replies give."""
    no_convention(compat)
    scores = [_letters_score(row) for row in rows]
    stored = [float(field_of(row, "score", _NUMBER)) for row in rows]
    pairs = zip(scores, stored, strict=True)
    agreed = sum(abs(ours - theirs) <= MEAN_TOLERANCE for ours, theirs in pairs)
    return Answers(
        own=[number_check("rows whose score is ours", agreed, len(rows))],
        checks=lambda key, value: _mean_checks(rows, scores, key, value),
        needs_figures=False,
    )


def _letters_score(row: Row) -> float:
    golds, replies = field_of(row, "gold", list), field_of(row, "replies", list)
    if len(golds) != len(replies) or not golds:
        raise UnfitError(f"a row has {len(golds)} golds and {len(replies)} replies")
    pairs = zip(golds, replies, strict=True)
    return sum(holds_letter(reply or "", gold) for gold, reply in pairs) / len(golds)


def v_niah(rows: Sequence[Row], compat: str | None) -> Answers:
    """Take means over the cells of a grid."""
    no_convention(compat)
    scores = [float(field_of(row, "score", _NUMBER)) for row in rows]
    return Answers(own=[], checks=lambda key, value: _mean_checks(rows, scores, key, value))


def _mean_checks(
    rows: Sequence[Row], scores: Sequence[float], key: str, value: Any
) -> Iterator[Check]:
    name, _, field = key.partition("_by_")
    if name != "published_mean":
        raise unknown(key)
    if not field:
        yield mean_check(key, _mean(scores), value)
        return
    cells: dict[str, list[float]] = {}
    for row, score in zip(rows, scores, strict=True):
        place = field_of(row, field, (int, float, str))
        cells.setdefault(place if isinstance(place, str) else f"{place:g}", []).append(score)
    ours = {part: _mean(own) for part, own in cells.items()}
    yield from parts_of(key, value, ours, mean_check)


def _mean(scores: Sequence[float]) -> float:
    return sum(scores) / len(scores) if scores else float("nan")


RULE_SCORERS: Final[Mapping[str, Scorer]] = {
    "tempcompass": tempcompass,
    "qvhighlights": qvhighlights,
    "niah": niah,
    "v-niah": v_niah,
}
"""By what the names of files begin with."""
