"""Which datasets a training is made of: rows and tokens of each, beside those of a mixture file.

Loads no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from vxp_data.settings.file import read_yaml
from vxp_data.shipped_files import MIXTURES
from vxp_model.errors import UserError

Counts = Mapping[str, Sequence[int]]
"""Dataset -> samples, tokens."""


class Counted(Protocol):
    """A micro-batch that knows what it is made of."""

    @property
    def by_dataset(self) -> Counts:
        """Samples that count, and their tokens, of each dataset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MixtureShare:
    """What a mixture file says of one dataset."""

    rows: int | None
    """None: it does not say."""
    share: float | None
    """Of the mixture: its weight's, else its rows'."""


def added(counts: Iterable[Counts]) -> dict[str, list[int]]:
    """Add up samples and tokens of each dataset; datasets in order of their names."""
    total: dict[str, list[int]] = {}
    for one in counts:
        for name, (samples, tokens) in one.items():
            sums = total.setdefault(name, [0, 0])
            sums[0] += samples
            sums[1] += tokens
    return dict(sorted(total.items()))


def as_record(counts: Counts) -> dict[str, dict[str, int]]:
    """Return samples and tokens of each dataset as logs and run.json have them."""
    return {name: {"samples": pair[0], "tokens": pair[1]} for name, pair in counts.items()}


def read_shares(mixture: str | None) -> dict[str, MixtureShare]:
    """Read what a mixture file says of its datasets, by name; nothing for None.

    Args:
        mixture: `data.mixture`: a path, or the name of one that comes with vxp.

    Raises:
        UserError: there is none, or it is no mixture.
    """
    if mixture is None:
        return {}
    path = MIXTURES.find(mixture)
    entries = read_yaml(path).get("datasets")
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) and isinstance(entry.get("name"), str) for entry in entries
    ):
        raise UserError(
            f"data.mixture {mixture!r}: {path} is no mixture, wanted 'datasets: [{{name, rows, "
            "weight}, ...]', as manifests/mixtures/ has them."
        )
    numbers = [
        entry.get("weight") if all("weight" in one for one in entries) else entry.get("rows")
        for entry in entries
    ]
    total = sum(number or 0 for number in numbers)
    return {
        entry["name"]: MixtureShare(
            rows=entry.get("rows"), share=number / total if number and total else None
        )
        for entry, number in zip(entries, numbers, strict=True)
    }


def with_shares(
    head: Sequence[str], body: Mapping[str, Sequence[str]], shares: Mapping[str, MixtureShare]
) -> tuple[list[str], list[list[str]]]:
    """Put a mixture's rows and shares beside what is said of each dataset.

    Args:
        head: of the columns after the first, the dataset's name.
        body: by dataset, as many cells. Datasets that only the mixture has are added.
        shares: of `read_shares`; none: no columns are added.

    Returns:
        head: of all columns.
        body: of all lines.
    """
    if not shares:
        return ["dataset", *head], [[name, *cells] for name, cells in body.items()]
    lines = []
    for name in [*body, *(name for name in shares if name not in body)]:
        entry = shares.get(name)
        rows = "" if entry is None or entry.rows is None else f"{entry.rows:,}"
        share = "" if entry is None or entry.share is None else f"{entry.share:.1%}"
        lines.append([name, *body.get(name, ["-"] * len(head)), rows or "-", share or "-"])
    return ["dataset", *head, "mixture: rows", "share"], lines


def trained_table(counts: Counts, mixture: str | None) -> str:
    """Return what went into a training, dataset by dataset, in Markdown.

    Args:
        counts: samples and tokens.
        mixture: `data.mixture`.
    """
    all_samples, all_tokens = (sum(pair[i] for pair in counts.values()) for i in (0, 1))
    body = {
        name: [
            f"{samples:,}",
            f"{samples / max(all_samples, 1):.1%}",
            f"{tokens:,}",
            f"{tokens / max(all_tokens, 1):.1%}",
        ]
        for name, (samples, tokens) in counts.items()
    }
    head, lines = with_shares(["samples", "share", "tokens", "share"], body, read_shares(mixture))
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, rule, *lines])
