"""Which selector helps when? All of them at equal budgets, on pools redundant for known reasons.

    python pipelines/bench/selector_board.py VIDEOS [--rows 400 --seeds 5]

For each seed and pool (selector_pools.py, selector_cutouts.py) every selector takes 10, 25 and 50 %
of the rows, all through `vxp-data` from one scoring of 8 uniform frames by `efficientnet_lite0`,
the frames that models see.
`text_blind` gets scores of a model that answers by a question's words alone: it counts, in the
other fifths of the pool, which answer they have. Two learners (selector_learners.py)
are trained on what was taken, at a budget for the same number of steps whatever the rows, and asked
about other clips. VIDEOS is a folder of real videos for the pool `cutouts`. Every training's result
is kept: a board that was stopped goes on with --reuse.

Intervals are of the mean over seeds, by Student's t, paired by seed; those that judge are corrected
by Holm. The rule was fixed before anything was trained: see selector_figures.verdict.
The record: manifests/runs/selectors.json.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import shutil
import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final

import records
import torch
from selector_cutouts import draw_cutouts, read_videos
from selector_figures import ALL, VERDICT_BUDGET, best_other, budgets_of, cells, describe, verdict
from selector_learners import examples_of, read_maps, ridge, visual_path
from selector_pools import DRAWN, Pool, draw_pools, questions_of
from selector_runs import (
    BUDGETS,
    SELECTORS,
    Chosen,
    Pools,
    choose,
    prepare,
    sample_id,
    subset,
)
from table7_tower import Components
from table7_train import Examples

from vxp_model.models.video_xl_pro_config import video_xl_pro_preset

POOLS: Final = (*DRAWN, "cutouts")
LEARNERS: Final = ("visual_path", "ridge")
STEPS: Final = {0.1: 100, 0.25: 150, 0.5: 250, 1.0: 400}
"""Of `visual_path`, by budget: more rows take longer to be learned."""
FOLDS: Final = 5
ANSWERED_BLIND: Final = 0.5
"""Probability of a row's answer above which its words tell it."""
LIBRARIES: Final = ("vxp", "torch", "onnxruntime", "numpy", "av")

Right = dict[str, dict[tuple[str, float, str], list[float]]]
"""Shares of right answers by learner; then by selector, budget and pool, a share a seed."""


def main(argv: Sequence[str] | None = None) -> None:
    """Draw, choose, train, judge, write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("videos", type=Path, help="a folder of real videos")
    parser.add_argument("--rows", type=int, default=400, help="of a pool; a multiple of 40")
    parser.add_argument("--heldout", type=int, default=320, help="questions asked about a pool")
    parser.add_argument("--seeds", type=int, default=5, help="draws of all pools, 2 or more")
    parser.add_argument("--visual-budgets", type=float, nargs="+", default=BUDGETS,
                        help="at which visual_path is trained; ridge is at all")  # fmt: skip
    parser.add_argument("--processes", type=int, default=2, help="that train, one seed each")
    parser.add_argument("--out", type=Path, default=Path("runs/selectors"), help="made anew")
    parser.add_argument("--reuse", action="store_true", help="clips, scores, shards that OUT has")
    parser.add_argument("--note", default="", help="goes into the record: what else ran, say")
    args = parser.parse_args(argv)
    began_s, began_cpu_s = time.monotonic(), time.process_time()
    pools = draw(args.videos, args.rows, args.heldout, args.seeds)
    if not args.reuse:
        shutil.rmtree(args.out, ignore_errors=True)
        prepare(pools, args.out)
    chosen = read_chosen(args.out / "chosen.json")
    if not chosen:
        scores = write_blind_scores(pools, args.out / "blind.jsonl")
        chosen = choose(args.out, scores, pools)
        write_chosen(chosen, args.out / "chosen.json")
    print(f"drawn and chosen after {time.monotonic() - began_s:.0f} s", flush=True)
    right = train_all(
        args.out,
        pools,
        chosen,
        seeds=args.seeds,
        processes=args.processes,
        visual=(*args.visual_budgets, 1.0),
    )
    write_right(right, args.out / "right.json")
    found = {
        "verdict": verdict(right["visual_path"], POOLS),
        "verdict_of_ridge": verdict(right["ridge"], POOLS),
        "best_of_others": best_other(right["visual_path"], POOLS),
        "cells": {learner: cells(right[learner], POOLS) for learner in LEARNERS},
        "share_faulty": shares_faulty(pools, chosen),
        "rows": args.rows,
        "heldout": args.heldout,
        "steps": STEPS,
        "seeds": args.seeds,
        "budgets": BUDGETS,
        "chance": 0.25,
        "note": args.note,
        "minutes": round((time.monotonic() - began_s) / 60, 1),
        "cpu_minutes_here": round((time.process_time() - began_cpu_s) / 60, 1),
    }
    told = [sys.argv[0], *(argv or sys.argv[1:])]
    path = records.write_record("selectors", found, argv=told, libraries=LIBRARIES)
    for learner in LEARNERS:
        for budget in budgets_of(right[learner]):
            print(f"\n{learner}, {budget:.0%}\n")
            print("\n".join(describe(right[learner], POOLS, budget=budget)))
    print(json.dumps(found["verdict"] | {"corrected_95": "see the record"}, indent=1))
    print(f"record: {path}")


def draw(videos: Path, size: int, heldout: int, seeds: int) -> dict[tuple[str, int], Pool]:
    """Draw the pools of every seed."""
    small = read_videos(videos)
    pools: dict[tuple[str, int], Pool] = {}
    for seed in range(seeds):
        pools |= {(name, seed): pool for name, pool in draw_pools(size, heldout, seed=seed).items()}
        pools["cutouts", seed] = draw_cutouts(small, size, heldout, seed=seed)
    return pools


def write_blind_scores(pools: Pools, path: Path) -> Path:
    """Write for every row whether its words alone tell its answer: 0 where they do, else 1."""
    lines = []
    for (name, seed), pool in pools.items():
        for position, row in enumerate(pool.rows):
            others = Counter(
                other.answer
                for place, other in enumerate(pool.rows)
                if place % FOLDS != position % FOLDS and other.words == row.words
            )
            likely = (others[row.answer] + 1) / (others.total() + len(row.options))
            entry = {
                "sample_id": sample_id(name, seed, position),
                "score": float(likely <= ANSWERED_BLIND),
            }
            lines.append(json.dumps(entry))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_chosen(chosen: Chosen, path: Path) -> None:
    """Keep what was chosen, for selector_mllm.py."""
    entries = [
        {"selector": selector, "budget": budget, "pool": pool, "seed": seed, "sample_ids": ids}
        for (selector, budget, pool, seed), ids in chosen.items()
    ]
    path.write_text(json.dumps(entries), encoding="utf-8")


def read_chosen(path: Path) -> Chosen:
    """Read what was chosen; nothing where nothing was."""
    entries = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return {
        (entry["selector"], entry["budget"], entry["pool"], entry["seed"]): entry["sample_ids"]
        for entry in entries
    }


def write_right(right: Right, path: Path) -> None:
    """Keep the shares of right answers, for selector_mllm.py."""
    plain = {learner: {str(k): v for k, v in own.items()} for learner, own in right.items()}
    path.write_text(json.dumps(plain), encoding="utf-8")


def train_all(
    out: Path,
    pools: Pools,
    chosen: Chosen,
    *,
    seeds: int,
    processes: int,
    visual: Sequence[float],
) -> Right:
    """Train both learners on everything that was chosen, and on all rows of each pool."""
    maps = out / "maps.pt"
    if not maps.exists():
        torch.save(vars_of(read_maps(out / "bank" / "shards")), maps)
    right: Right = {learner: defaultdict(list) for learner in LEARNERS}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=spawn) as workers:
        jobs = [
            workers.submit(
                train_seed,
                out,
                {name: pool for (name, own), pool in pools.items() if own == seed},
                {key: ids for key, ids in chosen.items() if key[3] == seed},
                seed=seed,
                visual=visual,
            )
            for seed in range(seeds)
        ]
        for job in jobs:  # in the order of the seeds: differences are paired by it
            for learner, shares in job.result().items():
                for cell, share in shares.items():
                    if learner == "ridge" or cell[1] in visual:  # more may have been kept
                        right[learner][cell].append(share)
    return right


def vars_of(clips: Examples) -> dict[str, Any]:
    """Return the fields of examples."""
    return {field.name: getattr(clips, field.name) for field in fields(clips)}


def train_seed(
    out: Path, pools: Mapping[str, Pool], chosen: Chosen, *, seed: int, visual: Sequence[float]
) -> dict[str, dict[tuple[str, float, str], float]]:
    """Train both learners on all sets of a seed that are not done; in a process of its own.

    Args:
        out: where features are, and results go.
        pools: of the seed, by name.
        chosen: what was taken of them.
        seed: of the pools, and of the trainings.
        visual: budgets at which `visual_path` is trained; `ridge` is at all.

    Returns:
        right: shares of right answers by learner, then by selector, budget and pool.
    """
    torch.set_num_threads(1)
    clips = Examples(**torch.load(out / "maps.pt", mmap=True))
    done = KeptShares(out / f"right-{seed}.jsonl")
    for name in POOLS:
        seen, asked = features_of(clips, pools[name], name, seed)
        sets = {(selector, budget): chosen[selector, budget, name, seed]
                for selector in SELECTORS for budget in BUDGETS}  # fmt: skip
        num_questions = int(torch.cat([seen.question_N, asked.question_N]).max()) + 1
        for (selector, budget), ids in {**sets, (ALL, 1.0): list(seen.sample_ids)}.items():
            rows, cell = seen.take(ids), (selector, budget, name)
            done.add("ridge", cell, functools.partial(ridge, rows, asked))
            if budget in visual:
                train = functools.partial(
                    visual_path, rows, asked, num_questions=num_questions, steps=STEPS[budget],
                    seed=seed,
                )  # fmt: skip
                done.add("visual_path", cell, train)
        print(f"{seed} {name} done", flush=True)
    return done.right


class KeptShares:
    """Shares of right answers, each written to a file as soon as it is known.

    Args:
        path: of the file, JSON lines; what it has already is not trained again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.right: dict[str, dict[tuple[str, float, str], float]] = {n: {} for n in LEARNERS}
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        if text and not text.endswith("\n"):  # torn by a kill: that training is done again
            text = text[: text.rfind("\n") + 1]
            path.write_text(text, encoding="utf-8")
        for learner, selector, budget, pool, share in map(json.loads, text.splitlines()):
            self.right[learner][selector, budget, pool] = share

    def add(self, learner: str, cell: tuple[str, float, str], train: Callable[[], float]) -> None:
        """Train, unless the share is known."""
        if cell not in self.right[learner]:
            self.right[learner][cell] = train()
            line = json.dumps([learner, *cell, self.right[learner][cell]])
            with self._path.open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")


def features_of(clips: Examples, pool: Pool, name: str, seed: int) -> tuple[Examples, Examples]:
    """Return a pool's rows and its held-out questions with features, fitted to the pool."""
    questions = questions_of((*pool.rows, *pool.heldout))
    rows = [sample_id(name, seed, position) for position in range(len(pool.rows))]
    held = [f"{subset(name, seed)}/heldout-{n}" for n in range(len(pool.heldout))]
    seen = examples_of(rows, list(pool.rows), questions, clips)
    asked = examples_of(held, list(pool.heldout), questions, clips)
    width = video_xl_pro_preset("tiny").vision.width
    components = Components(seen.seen_N, width=width, turned=False)
    return (
        replace(seen, seen_N=components.project(seen.seen_N)),
        replace(asked, seen_N=components.project(asked.seen_N)),
    )


def shares_faulty(pools: Pools, chosen: Chosen) -> dict[str, dict[str, float]]:
    """Return, at VERDICT_BUDGET, how much of what was taken is what its pool has too many of."""
    table: dict[str, dict[str, float]] = {}
    for pool in POOLS:
        own = {seed: p for (name, seed), p in pools.items() if name == pool}
        row = {ALL: statistics.fmean(r.is_faulty for p in own.values() for r in p.rows)}
        for selector in SELECTORS:
            row[selector] = statistics.fmean(
                own[seed].rows[int(name.rpartition("/")[2])].is_faulty
                for seed in own
                for name in chosen[selector, VERDICT_BUDGET, pool, seed]
            )
        table[pool] = {name: round(share, 3) for name, share in row.items()}
    return table


if __name__ == "__main__":
    main()
