"""What V-STaR tells of its five requests: moments, boxes, answers, and all three as chains.

AM and LGM of a chain are over the means of accuracy, m_tIoU and m_vIoU; without judgments of
'what' they are left out, for there is nothing to take the mean of.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from vxp_model.eval.benchmarks.base import Figure, Scored, Unit, by_group, units_of
from vxp_model.eval.benchmarks.boxes import box_ious, boxes_of
from vxp_model.eval.benchmarks.intervals import interval_figures

WHAT: Final = "what"
CHAINS: Final = {"1": ("when", "where"), "2": ("when2", "where2")}
"""Number -> what it asks beside 'what', which both share."""
SPLITS: Final = ("domain", "duration")

_AP_THRESHOLDS: Final = (0.1, 0.3, 0.5, 0.7, 0.9)
_JOINT_T_IOU: Final = 0.3
_JOINT_V_IOU: Final = 0.1


def v_star_figures(scored: Sequence[Scored]) -> list[Figure]:
    """Return all figures: 'when' of chain 1 first, as the paper's Table 2 has it."""
    asked = _by_request(scored)
    figures: list[Figure] = []
    for chain, (when, where) in CHAINS.items():
        if asked[when] or chain == "1":
            suffix = f", chain {chain}"
            figures += interval_figures(asked[when], suffix=suffix, mean_name="m_tIoU")
        if asked[where]:
            figures += _box_figures(asked[where], f", chain {chain}")
    figures += _answer_figures(asked, "")
    figures += _joint_figures(scored)
    for split in SPLITS:
        for part, own in by_group(scored, split).items():
            figures += _part_figures(_by_request(own), f", {split} {part}")
    return figures


def _by_request(scored: Sequence[Scored]) -> dict[str, list[Scored]]:
    asked: dict[str, list[Scored]] = {WHAT: [], "when": [], "where": [], "when2": [], "where2": []}
    for one in sorted(scored, key=lambda one: one.question.question_id):
        asked[one.question.groups["request"]].append(one)
    return asked


def _box_figures(scored: Sequence[Scored], suffix: str) -> Iterator[Figure]:
    yield Figure.of(f"m_vIoU{suffix}", units_of(scored))
    ious = [box_ious(boxes_of(one.question.gold), boxes_of(one.parsed)) for one in scored]
    for threshold in _AP_THRESHOLDS:
        units = (
            Unit(
                value=sum(iou >= threshold for iou in own) / max(len(own), 1),
                video=one.question.video,
            )
            for one, own in zip(scored, ious, strict=True)
        )
        yield Figure.of(f"AP@{threshold}{suffix}", units)


def _answer_figures(asked: dict[str, list[Scored]], suffix: str) -> Iterator[Figure]:
    """Return the accuracy of 'what', then AM and LGM of the chains that are asked whole."""
    if not asked[WHAT]:
        return
    yield Figure.of(f"accuracy, what{suffix}", units_of(asked[WHAT]))
    chains = {
        chain: tuple(units_of(asked[name]) for name in (WHAT, *names))
        for chain, names in CHAINS.items()
        if all(asked[name] for name in names)
    }
    for name, combine in (("AM", "mean"), ("LGM", "log_gap")):
        for chain, parts in chains.items():
            yield Figure(name=f"{name}, chain {chain}{suffix}", parts=parts, combine=combine)
        if len(chains) == len(CHAINS):
            first, (what, *others) = chains.values()
            # The same questions as in the first chain, which has counted them.
            again = tuple(Unit(value=one.value, video=one.video, num_questions=0) for one in what)
            parts = (*first, again, *others)
            yield Figure(name=f"m{name}{suffix}", parts=parts, combine=combine)


def _part_figures(asked: dict[str, list[Scored]], suffix: str) -> Iterator[Figure]:
    for chain, (when, where) in CHAINS.items():
        for name, request in (("m_tIoU", when), ("m_vIoU", where)):
            if asked[request]:
                units = units_of(asked[request])
                yield Figure.of(f"{name}, chain {chain}{suffix}", units)
    yield from _answer_figures(asked, suffix)


def _joint_figures(scored: Sequence[Scored]) -> Iterator[Figure]:
    """Return the shares of rows of which several requests are right at once."""
    rows: dict[str, dict[str, Scored]] = {}
    for one in sorted(scored, key=lambda one: one.question.question_id):
        row = one.question.question_id.rpartition("/")[0]
        rows.setdefault(row, {})[one.question.groups["request"]] = one
    for chain, (when, where) in CHAINS.items():
        for names in ((WHAT, when), (WHAT, where), (when, where), (WHAT, when, where)):
            whole = [row for row in rows.values() if all(name in row for name in names)]
            units = [
                Unit(
                    value=float(all(_is_right(row[name]) for name in names)),
                    video=row[names[0]].question.video,
                    num_questions=len(names),
                )
                for row in whole
            ]
            if units:
                said = " and ".join(name.rstrip("2") for name in names)
                yield Figure.of(f"joint {said}, chain {chain}", units)


def _is_right(one: Scored) -> bool:
    request = one.question.groups["request"].rstrip("2")
    least = {WHAT: 1.0, "when": _JOINT_T_IOU, "where": _JOINT_V_IOU}[request]
    return one.score >= least
