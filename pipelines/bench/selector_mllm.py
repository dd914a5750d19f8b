"""Does what selector_board.py finds hold for the whole MLLM? Three ways to choose, at 25 %.

    python pipelines/bench/toy.py --out runs/toy
    python pipelines/bench/selector_board.py VIDEOS --out runs/selectors
    python pipelines/bench/selector_mllm.py --model runs/toy/video/model --board runs/selectors

The tiny Video-XL-Pro of toy.py, which knows discs, is trained further on rows about patches that
`random`, `intra` and the best of the other selectors have taken, in the pools of TESTED; the best
one is chosen on the other pools alone, by the board's first learner, among those that take other
rows than `intra` there. Counted are right answers
about held-out clips. As many steps for every set, and three
times as many for all rows; paired by seed. The record:
manifests/runs/selectors-mllm.json.
"""

from __future__ import annotations

import argparse
import ast
import json
import shutil
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import records
from selector_figures import RIVALS, VERDICT_BUDGET, best_other
from selector_pools import DRAWN, BenchRow, draw_pools
from selector_runs import shard_rows
from student_t import paired

from vxp_data.engines.choose import one_engine
from vxp_data.settings.file import read_yaml
from vxp_data.settings.prune import load_config
from vxp_model.settings.mllm import MLLM_RECIPES
from vxp_model.train.distributed import DistributedContext, join_distributed
from vxp_model.train.metrics_log import read_log
from vxp_model.train.mllm.run import train_mllm

CURATION: Final = records.ROOT / "pipelines" / "demo.yaml"
RECIPE: Final = records.ROOT / "pipelines" / "video_xl_pro" / "toy.yaml"
TESTED: Final = ("static", "duplicates")
HELDOUT: Final = "heldout"
ALL: Final = "all"
ALL_TIMES: Final = 3
"""Steps on all rows, for each that a set has."""
LEARNING_RATE: Final = 5e-4
LIBRARIES: Final = ("vxp", "torch", "deepspeed", "transformers", "numpy", "av")


def main(argv: Sequence[str] | None = None) -> None:
    """Shard, train, ask, write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", type=Path, required=True, help="what toy.py has trained")
    parser.add_argument("--board", type=Path, required=True, help="OUT of selector_board.py")
    parser.add_argument("--rows", type=int, default=400, help="as selector_board.py's")
    parser.add_argument("--heldout", type=int, default=320, help="as selector_board.py's")
    parser.add_argument("--seeds", type=int, default=3, help="as many as it had, or fewer")
    parser.add_argument("--steps", type=int, default=150, help="of each training")
    parser.add_argument("--out", type=Path, default=Path("runs/selectors-mllm"), help="made anew")
    parser.add_argument("--reuse", action="store_true", help="sets and trainings that OUT has")
    parser.add_argument("--note", default="", help="goes into the record: what else ran, say")
    args = parser.parse_args(argv)
    began_s = time.monotonic()
    if not args.reuse:
        shutil.rmtree(args.out, ignore_errors=True)
    chosen = read_chosen(args.board)
    alike = takes_what_intra_takes(chosen)
    others = [pool for pool in DRAWN if pool not in TESTED]
    best = best_other(read_right(args.board), others, but=alike)
    arms = (*RIVALS, best, ALL)
    shard_all(args, chosen, arms)
    with join_distributed("cpu") as context:
        shares = {
            pool: {arm: [train(args, context, pool, arm, seed) for seed in range(args.seeds)]
                   for arm in arms}
            for pool in TESTED
        }  # fmt: skip
    found = {
        "best_of_others": best,
        "left_out_since_they_take_what_intra_takes": alike,
        "chosen_on": [pool for pool in DRAWN if pool not in TESTED],
        "budget": VERDICT_BUDGET,
        "pools": {pool: figures(own) for pool, own in shares.items()},
        "rows": args.rows,
        "steps": args.steps,
        "steps_of_all": ALL_TIMES * args.steps,
        "seeds": args.seeds,
        "note": args.note,
        "minutes": round((time.monotonic() - began_s) / 60, 1),
    }
    told = [sys.argv[0], *(argv or sys.argv[1:])]
    path = records.write_record("selectors-mllm", found, argv=told, libraries=LIBRARIES)
    print(json.dumps(found["pools"], indent=1))
    print(f"record: {path}")


def read_right(board: Path) -> dict[tuple[str, float, str], list[float]]:
    """Read the shares of right answers of the board's first learner."""
    entries = json.loads((board / "right.json").read_text(encoding="utf-8"))["visual_path"]
    return {ast.literal_eval(key): shares for key, shares in entries.items()}


def read_chosen(board: Path) -> dict[tuple[str, str, int], list[str]]:
    """Read what was taken at VERDICT_BUDGET: sample ids by selector, pool and seed."""
    return {
        (entry["selector"], entry["pool"], entry["seed"]): entry["sample_ids"]
        for entry in json.loads((board / "chosen.json").read_text(encoding="utf-8"))
        if entry["budget"] == VERDICT_BUDGET
    }


def takes_what_intra_takes(chosen: Mapping[tuple[str, str, int], Sequence[str]]) -> list[str]:
    """Return selectors that take the rows of `intra` in all pools of TESTED."""
    tested = [key for key in chosen if key[1] in TESTED]
    return [
        name
        for name in sorted({selector for selector, _, _ in chosen} - set(RIVALS))
        if all(
            set(chosen[key]) == set(chosen["intra", *key[1:]]) for key in tested if key[0] == name
        )
    ]


def shard_all(
    args: argparse.Namespace,
    chosen: Mapping[tuple[str, str, int], Sequence[str]],
    arms: Sequence[str],
) -> None:
    """Write the shards of every set of rows, and of the questions that are held out."""
    with one_engine(load_config(CURATION, []).config.cluster):
        for seed in range(args.seeds):
            pools = draw_pools(args.rows, args.heldout, seed=seed)
            for name in TESTED:
                sets: dict[str, Sequence[BenchRow]] = {HELDOUT: pools[name].heldout}
                for arm in arms:
                    rows = pools[name].rows
                    if arm != ALL:
                        ids = chosen[arm, name, seed]
                        rows = tuple(rows[int(own.rpartition("/")[2])] for own in ids)
                    sets[arm] = rows
                for arm, own in sets.items():
                    folder = folder_of(args.out, name, arm, seed)
                    if not (folder / "shards" / "index.json").exists():
                        shutil.rmtree(folder, ignore_errors=True)
                        shard_rows(own, folder)


def folder_of(out: Path, pool: str, arm: str, seed: int) -> Path:
    """Return where a set's run and shards are."""
    return out / f"{pool}-{arm}-{seed}"


def train(
    args: argparse.Namespace, context: DistributedContext, pool: str, arm: str, seed: int
) -> float:
    """Train on a set of rows; return the share of held-out questions answered right."""
    own, held = folder_of(args.out, pool, arm, seed), folder_of(args.out, pool, HELDOUT, seed)
    result = own / "share.json"
    if result.exists():
        return float(json.loads(result.read_text(encoding="utf-8")))
    steps = args.steps * (ALL_TIMES if arm == ALL else 1)
    tree = read_yaml(RECIPE)
    tree["start"] = {"model": str(args.model)}
    tree["data"]["sources"][0]["uri"] = str(own / "shards")
    tree["validation"] = {
        "sources": [{"uri": str(held / "shards")}],
        "steps": steps,
    }
    tree["optim"]["lr"] = LEARNING_RATE
    tree["run"] |= {"out": str(own / "trained"), "seed": seed, "steps": steps,
                    "checkpoint_steps": steps}  # fmt: skip
    done = train_mllm(MLLM_RECIPES.read(tree, str(RECIPE)), context, lambda _: None)
    last = [entry for entry in read_log(done.out / "log.jsonl") if "val/answers" in entry][-1]
    print(f"{pool} {arm} {seed}: {last['val/answers']:.3f}, loss {done.final_loss:.4f}", flush=True)
    shutil.rmtree(own / "trained")
    result.write_text(json.dumps(last["val/answers"]), encoding="utf-8")
    return float(last["val/answers"])


def figures(shares: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Return a pool's means, and the differences from `random` with their intervals."""
    table: dict[str, Any] = {}
    for arm, own in shares.items():
        row: dict[str, Any] = {
            "by_seed": [round(share, 4) for share in own],
            "mean": round(statistics.fmean(own), 4),
        }
        for rival in RIVALS:
            if arm != rival:
                gain = paired([a - b for a, b in zip(own, shares[rival], strict=True)])
                low, high = gain.interval()
                row[f"minus_{rival}"] = {
                    "mean": round(gain.mean, 4), "low": round(low, 4), "high": round(high, 4)
                }  # fmt: skip
        table[arm] = row
    return table


if __name__ == "__main__":
    main()
