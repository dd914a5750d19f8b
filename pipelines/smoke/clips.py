"""Clips, stills and manifests for the recipes of this folder: those of `make demo`, by stage.

    python pipelines/smoke/clips.py runs/smoke/clips

Writes `captions.json` (of every video), `stills.json` (one image of some of them), `sft.json`
(questions and captions), `mixture.yaml`: of these two the rows that fine-tuning is meant to have,
and `evaluation.json`: the rows about the videos in held_out.txt, which the recipes leave out.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from demo_videos import clips, make_videos

HELD_OUT: Final = Path(__file__).with_name("held_out.txt")
STILL_EVERY: Final = 3
"""Of every third video one image."""
ROWS: Final = {"sft": 20, "stills": 4}
"""Of the mixture: of 35 usable rows about videos, and 6 about stills, so many are trained on."""
MIXTURE: Final = "mixture.yaml"


def make_clips(out: Path) -> list[dict[str, Any]]:
    """Write all of it into a folder; a few seconds on two cores.

    Returns:
        The rows for evaluation.
    """
    rows = json.loads(make_videos(out).read_text(encoding="utf-8"))
    captions = [row for row in rows if row["id"].endswith("-caption")]
    names = held_out()
    decontamination = [row for row in rows if Path(row["video"]).stem in names]
    _write(out / "captions.json", captions)
    _write(out / "stills.json", _stills(out / "stills", names))
    _write(out / "sft.json", rows)
    _write(out / "evaluation.json", decontamination)
    lines = [
        f"- {{name: {name}, manifest: {name}.json, media_root: ., rows: {rows}}}\n"
        for name, rows in ROWS.items()
    ]
    (out / MIXTURE).write_text("datasets:\n" + "".join(lines), encoding="utf-8")
    return decontamination


def held_out() -> set[str]:
    """Return the names, without suffix, of the videos that no model is trained on."""
    lines = HELD_OUT.read_text(encoding="utf-8").splitlines()
    return {line for line in lines if line and not line.startswith("#")}


def _stills(folder: Path, names: set[str]) -> list[dict[str, Any]]:
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for clip in clips()[::STILL_EVERY]:
        stem = Path(clip.file).stem
        if stem in names:
            continue
        Image.fromarray(clip.scene(0.5)).save(folder / f"{stem}.png")
        turns = [
            {"from": "human", "value": "<image>\nDescribe this picture of a video."},
            {"from": "gpt", "value": clip.caption},
        ]
        rows.append({"id": f"{stem}-still", "image": f"stills/{stem}.png", "conversations": turns})
    return rows


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    make_clips(Path(sys.argv[1]))
