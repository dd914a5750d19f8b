"""The README beside trained weights: what they are, and what they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vxp_model import __version__
from vxp_model.data.state import SourceState


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFacts:
    """What a card says."""

    settings: Sequence[tuple[str, object]]
    """Every setting of the recipe: dotted key, value."""
    sources: Sequence[SourceState]
    tower: str
    """Where its weights came from, in words."""
    tower_digest: str
    tower_is_random: bool
    steps: int
    samples: int
    tokens: int
    first_loss: float
    final_loss: float
    """Mean of the last steps."""
    final_loss_steps: int
    mask_ratio: float
    unmasked_share: float
    """Of the samples."""
    num_replaced: int
    """Samples whose media were broken."""
    rows: Sequence[str]
    """What is said of the rows that could not be learned from, in lines."""
    datasets: str
    """What went in of each dataset: a table in Markdown."""
    num_bad_batches: int
    num_parameters: dict[str, int]
    """By part."""
    versions: dict[str, Any]


def write_card(facts: CardFacts, path: Path) -> None:
    """Write the card, whole or not at all."""
    beside = path.with_suffix(".part")
    beside.write_text(card_text(facts), encoding="utf-8")
    beside.replace(path)


def card_text(facts: CardFacts) -> str:
    """Compose the card, in Markdown."""
    warning = [
        "",
        (
            "**The vision tower had random weights.** What was learned is of no use with any "
            "other tower: this is a trial run."
        ),
    ]
    parts = [f"| {name} | {count:,} |" for name, count in facts.num_parameters.items()]
    sources = [
        f"| `{source.uri}` | {', '.join(source.kinds or ['all'])} | "
        f"{'by size' if source.weight is None else source.weight} | `{source.digest}` |"
        for source in facts.sources
    ]
    settings = [f"{key}: {value!r}" for key, value in facts.settings]
    versions = ", ".join(f"{name} {version}" for name, version in facts.versions.items())
    return "\n".join(
        [
            "---",
            "library_name: vxp",
            "tags: [video, token-compression, recot]",
            "---",
            "",
            "# ReCoT token compressor",
            "",
            (
                "Dynamic Token Synthesizer of Video-XL-Pro (arXiv 2503.18478, section 3.2), "
                f"trained with vxp {__version__} to rebuild the tokens of a frozen vision tower."
            ),
            *(warning if facts.tower_is_random else []),
            "",
            "- compressor, decoder and masking began with random weights",
            f"- tower: {facts.tower} (digest `{facts.tower_digest}`)",
            f"- {facts.steps:,} steps, {facts.samples:,} samples, {facts.tokens:,} tokens",
            f"- loss {facts.final_loss:.6g} (mean of the last {facts.final_loss_steps} steps)",
            f"- loss {facts.first_loss:.6g} at the first step",
            f"- mask ratio {facts.mask_ratio:g} at the end",
            f"- nothing was masked of {facts.unmasked_share:.0%} of the samples",
            f"- {facts.num_replaced} samples replaced because their media were broken",
            *(f"- {line}" for line in facts.rows),
            f"- {facts.num_bad_batches} batches left out because their loss was no number",
            f"- {versions}",
            "",
            "| file | parameters |",
            "|---|---|",
            *parts,
            "",
            "| data | kinds | weight | SHA-256 of its index.json |",
            "|---|---|---|---|",
            *sources,
            "",
            facts.datasets,
            "",
            "Read it with `vxp_model.models.artefacts.load_dts`, or `load_recot` for all parts.",
            "",
            "```yaml",
            *settings,
            "```",
            "",
        ]
    )
