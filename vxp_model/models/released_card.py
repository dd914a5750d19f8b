"""The card of a model that was imported from a public checkpoint."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Final

from transformers import __version__ as transformers_version

from vxp_model.models.released_plan import TIME_FORMATS, Kind, ReleasedPlan

_TITLES: Final[dict[Kind, str]] = {
    "video-xl-pro": "Video-XL-Pro, as published (lxr2003/Video-XL-Pro-3B)",
    "video-xl-2": "Video-XL-2, as published (BAAI/Video-XL-2)",
}
_UNTRAINED: Final = """\
- the selector starts from chance: it acts above the context limit alone, and is no better than
  chance there until it is trained. {why}
"""
_DIFFERENCES: Final[dict[Kind, str]] = {
    "video-xl-pro": """\
- a last group of fewer than four frames is filled with its last frame; the released code doubles
  frames drawn at random, so that it answers otherwise each time;
- every visual token stays while the prompt fits the context; the released code drops 1 to 30 % at
  random, always;
"""
    + _UNTRAINED.format(why="The released one has other parts."),
    "video-xl-2": """\
- chunked pre-filling and the bi-level cache are ways of reading a prompt, not weights, and no part
  of this model: it reads the whole prompt, or through a window (`--window`);
"""
    + _UNTRAINED.format(why="Video-XL-2 has none."),
}
_OF_BOTH: Final = """\
- an image is one group of tokens; the released code cuts it into tiles;
- the frames of a group reach the compressor in the released code's mixed-up order, and its position
  table is transposed, as the weights were used (`legacy_frame_layout`, `legacy_relpos_transpose`).
"""


def write_released_card(path: Path, plan: ReleasedPlan, *, dtype: str) -> None:
    """Write it.

    Args:
        path: of the card.
        plan: what was imported.
        dtype: of the weights.
    """
    counts = Counter(fate.part or f"left out: {fate.why}" for fate in plan.report.fates)
    tensors = "\n".join(f"| {what} | {count} |" for what, count in sorted(counts.items()))
    rotary = "turned by their position" if plan.config.visual_rotary else "not turned"
    path.write_text(
        f"# {_TITLES[plan.kind]}\n\n"
        f"Imported by `vxp-model import-released` from the folder `{plan.files.path.name}`; no "
        f"weight was trained or changed, {dtype}. The licence is that of the published weights "
        "and of the language model in them.\n\n"
        f"**Not trained, weights from chance: {', '.join(plan.report.random_parts)}.**\n\n"
        f"Times are written as `{TIME_FORMATS[plan.kind].format(12.3)}`; visual tokens are "
        f"{rotary} before the language model. What is different from the released code, with the "
        f"same weights:\n\n{_DIFFERENCES[plan.kind]}{_OF_BOTH}\n"
        "Names of tensors are those of the released code (VectorSpaceLab/Video-XL at 6e3dc89); "
        "`import.json` has each of them.\n\n"
        f"| tensors of the checkpoint | number |\n|---|---|\n{tensors}\n\n"
        f"Made with transformers {transformers_version}.\n",
        encoding="utf-8",
    )
