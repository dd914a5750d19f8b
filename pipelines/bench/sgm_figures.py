"""From sgm.py's trainings to its figures: means, paired differences over seeds, intervals."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Final

from student_t import paired, quantile

MOTION: Final = "motion 2"
ERROR: Final = "clean moving"
PAIRS: Final = (("sgm 0.9", "random 0.9"), ("sgm 0.75", "random 0.75"))
"""Whose differences decide how many seeds there are."""
FORMER: Final = "sgm 0.5"
"""What was the default."""
WORDS: Final = {
    "sgm": "semantic-guided",
    " unmasked_share 0.25": ", a quarter whole",
    " unmasked_share 0.5": ", half whole",
    " ratio_start 0.9 ratio_ramp 1.0": ", falling from 0.9 to 0",
    " stratified": ", stratified",
}
FEWEST: Final = 3
"""Seeds of an arm that has a line in the table."""
HALF_POINTS: Final = 0.015
HALF_SHARE: Final = 0.05
"""Of the second arm's mean error, where that is more."""

Rows = Sequence[Mapping[str, Any]]


def values(rows: Rows, tower: str, scene: str, arm: str) -> dict[int, dict[str, float]]:
    """Return an arm's figures by seed."""
    return {
        row["seed"]: row["found"]
        for row in rows
        if (row["tower"], row["scene"], row["arm"]) == (tower, scene, arm)
    }


def done_enough(rows: Rows, tower: str, scene: str) -> bool:
    """Return whether the intervals of PAIRS are as small as was fixed beforehand."""
    for first, second in PAIRS:
        gaps = differences(rows, tower, scene, first, second)
        if not gaps:
            return False
        own = values(rows, tower, scene, second)
        error = statistics.fmean(found[ERROR] for found in own.values())
        if gaps[MOTION]["half"] > HALF_POINTS:
            return False
        if gaps[ERROR]["half"] > max(HALF_POINTS, HALF_SHARE * error):
            return False
    return True


def mean_of(numbers: Sequence[float]) -> dict[str, float]:
    """Return a mean, and half of its 95 % interval by Student's t."""
    if len(numbers) < 2:
        return {"mean": round(numbers[0], 4)}
    error = statistics.stdev(numbers) / len(numbers) ** 0.5
    half = quantile(0.975, len(numbers) - 1) * error
    return {"mean": round(statistics.fmean(numbers), 4), "half": round(half, 4)}


def differences(
    rows: Rows, tower: str, scene: str, first: str, second: str
) -> dict[str, dict[str, float]]:
    """Return the first arm's figures less the second's, paired over the seeds that both have."""
    one, other = (values(rows, tower, scene, arm) for arm in (first, second))
    seeds = sorted(one.keys() & other.keys())
    if len(seeds) < 2:
        return {}
    found = {}
    for name in one[seeds[0]]:
        gaps = [one[seed][name] - other[seed][name] for seed in seeds]
        result = paired(gaps)
        low, high = result.interval()
        found[name] = {
            "mean": round(result.mean, 4), "low": round(low, 4), "high": round(high, 4),
            "half": round((high - low) / 2, 4), "seeds": len(seeds),
        }  # fmt: skip
    return found


def against(arm: str, arms: Sequence[str]) -> list[str]:
    """Return what an arm is compared with: random masking alike, none, the former default."""
    words = arm.replace("sgm", "random", 1) if arm.startswith("sgm") else ""
    tail = f", {arm.partition(', ')[2]}" if ", " in arm else ""
    wanted = [words, f"none{tail}", FORMER, "from chance"]
    for guide in ("oracle", "anti"):
        if arm.startswith(guide):
            wanted.insert(0, arm.replace(guide, "random", 1))
    return [name for name in wanted if name in arms and name != arm]


def figures(rows: Rows) -> dict[str, Any]:
    """Compose the record's figures: by tower and scene, each arm's, and what it is ahead."""
    settings = list(dict.fromkeys((row["tower"], row["scene"]) for row in rows))
    found: dict[str, Any] = {}
    for tower, scene in settings:
        arms = list(dict.fromkeys(
            row["arm"] for row in rows if (row["tower"], row["scene"]) == (tower, scene)
        ))  # fmt: skip
        found[" ".join([tower, scene]).strip()] = {
            arm: _arm(rows, tower, scene, arm, arms) for arm in arms
        }
    return {"settings": found}


def _arm(rows: Rows, tower: str, scene: str, arm: str, arms: Sequence[str]) -> dict[str, Any]:
    own = values(rows, tower, scene, arm)
    names = list(next(iter(own.values())))
    result: dict[str, Any] = {
        "seeds": len(own),
        "figures": {name: mean_of([found[name] for found in own.values()]) for name in names},
    }
    for other in against(arm, arms):
        gaps = differences(rows, tower, scene, arm, other)
        result[f"minus {other}"] = {
            name: {key: gap[key] for key in ("mean", "low", "high")}
            for name, gap in gaps.items()
            if not name.startswith("tower")
        }
    return result


def describe(settings: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the two outcomes of every arm of FEWEST seeds as Markdown, with its comparisons."""
    lines = [
        (
            "| tower, clips | masking | seeds | clean error, moving region | less random's | "
            "motion 2 x 2 | less random's | less no masking's | content 2 x 2 |"
        ),
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for setting, arms in settings.items():
        for arm, row in arms.items():
            own = row["figures"]
            if ERROR not in own or row["seeds"] < FEWEST:
                continue
            random, none = other_of(row, "random"), other_of(row, "none")
            cells = [
                setting, words(arm), str(row["seeds"]),
                spoken(own[ERROR]), spoken(random.get(ERROR), sign="+"),
                spoken(own[MOTION]), spoken(random.get(MOTION), sign="+"),
                spoken(none.get(MOTION), sign="+"), spoken(own["content 2"]),
            ]  # fmt: skip
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def describe_end(arms: Mapping[str, Any]) -> list[str]:
    """Return the shares of questions answered right as Markdown."""
    lines = [
        (
            "| masking | seeds | compressor frozen, active clips | less no masking's | tuned, "
            "active clips | less no masking's |"
        ),
        "|---|---|---|---|---|---|",
    ]
    for arm, row in arms.items():
        if row["seeds"] < FEWEST:
            continue
        none = other_of(row, "none")
        cells = [words(arm), str(row["seeds"])]
        for name in ("frozen active", "tuned active"):
            cells += [spoken(row["figures"][name]), spoken(none.get(name), sign="+")]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def words(arm: str) -> str:
    """Write an arm as people say it: 'semantic-guided 0.9, a quarter whole'."""
    for name, said in WORDS.items():
        arm = arm.replace(name, said)
    return arm


def other_of(row: Mapping[str, Any], guide: str) -> Mapping[str, Any]:
    """Return the differences to the arm of this guide that a row is compared with, or none."""
    for name, gaps in row.items():
        if name.startswith(f"minus {guide}"):
            return gaps  # type: ignore[no-any-return]
    return {}


def spoken(figure: Mapping[str, float] | None, *, sign: str = "") -> str:
    """Write a figure in percent with its interval: '71.2 ± 3.1', or '+4.0 (+1.0 to +7.0)'."""
    if figure is None:
        return ""
    mean = f"{100 * figure['mean']:{sign}.1f}"
    if "low" in figure:
        return f"{mean} ({100 * figure['low']:+.1f} to {100 * figure['high']:+.1f})"
    return f"{mean} ± {100 * figure['half']:.1f}" if "half" in figure else mean
