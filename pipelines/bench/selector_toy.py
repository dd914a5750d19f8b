"""Does a learned selector find what the question asks for? Pairs of a key and a value.

    python pipelines/bench/selector_toy.py [--steps 500 --seeds 3]

The toy of selector_toy_model.py: whoever is not shown the token with the key that is asked for is
right for one in four. Trained with 5 to 30 % of the tokens left out, as the paper says, without and
with a share of samples that keep all. Then asked with 100, 90, 50, 25 and 10 % of the tokens,
chosen by the selector, by lot, and by the selector for another key: what it chooses by more than
the key's question has to be above that as well. Shares of right answers by seed, with t-intervals
over the seeds and of paired differences. What is finished is kept in OUT, and taken from there when
the command is given again. The record: manifests/runs/selector-toy.json.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import records
import torch
from finished import Finished
from selector_toy_model import BATCH, KEYS, LETTERS, QUARTERS, Drawn, OtherQuestion, Toy, draw
from student_t import with_interval

from vxp_model.modules.selector import SelectorConfig

KEPT: Final = (1.0, 0.9, 0.5, 0.25, 0.1)
FULL_SHARE: Final = 0.2
PLAIN: Final = "5 to 30 % left out"
WITH: Final = "5 to 30 % left out, a fifth kept whole"
ARMS: Final = {PLAIN: SelectorConfig(), WITH: SelectorConfig(full_share=FULL_SHARE)}
CHOOSERS: Final = ("learned", "random", "other question")
HELDOUT_SEED: Final = 1_000_003
LIBRARIES: Final = ("vxp", "torch", "transformers", "numpy")


def main(argv: Sequence[str] | None = None) -> None:
    """Train, ask, write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=800, help="of each training")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each arm")
    parser.add_argument("--asked", type=int, default=300, help="questions at each share")
    parser.add_argument("--out", type=Path, default=Path("runs/selector-toy"), help="kept")
    parser.add_argument("--note", default="", help="goes into the record: what else ran, say")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)  # the model is tiny: threads would wait for each other
    known = Finished(args.out / "found.json")
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in ARMS}
    for seed in range(args.seeds):
        for name, rule in ARMS.items():
            key = f"{name}, seed {seed}, {args.steps} steps"
            rows[name].append(known.get(key, train_and_ask, seed, rule, args.steps, args.asked))
            print(key, rows[name][-1], flush=True)
    found = {
        "arms": {name: figures(own) for name, own in rows.items()},
        "with_full_share_less_without": differences(rows[WITH], rows[PLAIN]),
        "full_share": FULL_SHARE,
        "keys": len(KEYS),
        "visual_tokens": len(KEYS) * QUARTERS,
        "chance": 1 / len(LETTERS),
        "steps": args.steps,
        "batch": BATCH,
        "seeds": args.seeds,
        "questions": args.asked,
        "note": args.note,
        "cpu_minutes": round(sum(row["cpu_s"] for own in rows.values() for row in own) / 60, 1),
    }
    told = [sys.argv[0], *(argv or sys.argv[1:])]
    print(f"record: {records.write_record('selector-toy', found, argv=told, libraries=LIBRARIES)}")


def train_and_ask(seed: int, rule: SelectorConfig, steps: int, num_asked: int) -> dict[str, Any]:
    """Train once; return the shares of right answers by chooser and share kept."""
    began_s = time.process_time()
    toy = Toy(seed, rule)
    loss = toy.train(steps)
    asked = draw(np.random.default_rng([HELDOUT_SEED, seed]), num_asked)
    right: dict[str, dict[str, float]] = {name: {} for name in CHOOSERS}
    for kept in KEPT:
        choosers = {
            "learned": None,
            "random": Drawn(toy.model.selector.config, seed),
            "other question": OtherQuestion(toy, asked),
        }
        for name, chooser in choosers.items():
            right[name][str(kept)] = toy.right(asked, kept, chooser) / num_asked
    return {"right": right, "loss": loss, "cpu_s": time.process_time() - began_s}


def figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Put one arm's seeds together."""
    found: dict[str, Any] = {
        name: {
            str(kept): with_interval([row["right"][name][str(kept)] for row in rows])
            | {"by_seed": [round(row["right"][name][str(kept)], 4) for row in rows]}
            for kept in KEPT
        }
        for name in CHOOSERS
    }
    for name in CHOOSERS[1:]:
        found[f"learned less {name}"] = {
            str(kept): with_interval(
                [row["right"]["learned"][str(kept)] - row["right"][name][str(kept)] for row in rows]
            )
            for kept in KEPT
        }
    found["all tokens less 90 %"] = with_interval(
        [row["right"]["learned"]["1.0"] - row["right"]["learned"]["0.9"] for row in rows]
    )
    found["loss_by_seed"] = [round(row["loss"], 4) for row in rows]
    return found


def differences(
    rows: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return what an arm's learned selector has more than another's, paired by seed."""
    return {
        str(kept): with_interval(
            [
                own["right"]["learned"][str(kept)] - other["right"]["learned"][str(kept)]
                for own, other in zip(rows, others, strict=True)
            ]
        )
        for kept in KEPT
    }


if __name__ == "__main__":
    main()
