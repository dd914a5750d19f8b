"""The arguments of the Python API, read as the commands' options are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vxp_data.errors import UserError
from vxp_data.pipeline.curate.outside_scores import ScoreFile
from vxp_data.settings.words import KEY_OF, Override, TargetText, read_selectors, read_weights

Amount = float | str | Mapping[str, float | str]
"""How much: one value for all tasks, or values by task, 'default' for those that are not named."""
Where = str | Path
"""A path, or a URI of an object store: 's3://bucket/runs/a'."""


def as_list(given: Where | Sequence[Where]) -> list[Where]:
    """Return what may be one or several as a list."""
    return [given] if isinstance(given, str | Path) else list(given)


def overrides(settings: Mapping[str, Any] | None, **words: Any) -> list[Override]:
    """Turn `settings`, and the arguments that stand for one, into what is laid over a recipe.

    Args:
        settings: by dotted key.
        words: by argument; None where it was not given.
    """
    found = [(key, value, f"settings[{key!r}]") for key, value in (settings or {}).items()]
    given = {word: value for word, value in words.items() if value is not None}
    return found + [(KEY_OF[word], value, f"{word}={value!r}") for word, value in given.items()]


def column_overrides(columns: Mapping[str, str] | None) -> list[Override]:
    """Turn what is said of the rows' columns into settings."""
    given = (columns or {}).items()
    return [(f"manifest.columns.{kind}", name, f"columns={columns!r}") for kind, name in given]


def exclusions(exclude: Where | Sequence[Where] | None) -> list[str] | None:
    """Return what to exclude as the settings have it."""
    return None if exclude is None else [str(each) for each in as_list(exclude)]


def target_texts(
    threshold: Amount | None, keep: Amount | None, budget: Amount | None
) -> list[TargetText]:
    """Write how much to keep as recipes do, with what messages call each."""
    found = []
    for name, prefix, given in (
        ("threshold", "", threshold),
        ("keep", "keep ", keep),
        ("budget", "budget ", budget),
    ):
        if given is None:
            continue
        if not isinstance(given, Mapping):
            origin = f"{name}={given!r}"
            found.append(TargetText(task="default", text=f"{prefix}{given}", origin=origin))
            continue
        for task, value in given.items():
            origin = f"{name}={{{task!r}: {value!r}}}"
            found.append(TargetText(task=task, text=f"{prefix}{value}", origin=origin))
    return found


def weights(weight: Mapping[str, float] | None) -> list[tuple[str, float, str]]:
    """List tasks' weights with what messages call each."""
    return [(task, w, f"weight={{{task!r}: {w!r}}}") for task, w in (weight or {}).items()]


def weight_overrides(weight: Mapping[str, float] | None) -> list[Override]:
    """Turn tasks' weights into settings."""
    read = read_weights(weights(weight)).items()
    return [(f"budget_weights.{task}", value, f"weight={weight!r}") for task, value in read]


def selectors(select: str | Mapping[str, str] | None) -> dict[str, str]:
    """Return the selectors of tasks, 'default' among them; none for None.

    Raises:
        UserError: one is not known.
    """
    given = {"default": select} if isinstance(select, str) else select or {}
    return read_selectors((task, name, f"select={select!r}") for task, name in given.items())


def selector_overrides(select: str | Mapping[str, str] | None) -> list[Override]:
    """Turn the selectors of tasks into settings."""
    read = selectors(select).items()
    return [(f"select.{task}", name, f"select={select!r}") for task, name in read]


def score_file(scores: Where | Mapping[str, str] | None) -> ScoreFile | None:
    """Return the user's file of scores; None for None.

    Raises:
        UserError: something else is said of it than there is to say, or not where it is.
    """
    if scores is None:
        return None
    given = {"path": str(scores)} if isinstance(scores, str | Path) else dict(scores)
    unknown = set(given) - {"path", "column", "scorer", "missing"}
    if unknown or "path" not in given or given.get("missing", "keep") not in ("keep", "drop"):
        raise UserError(
            f"scores={scores!r}: wanted a path, or 'path' and any of 'column', 'scorer' and "
            "'missing', which is 'keep' or 'drop'."
        )
    return ScoreFile(**given)
