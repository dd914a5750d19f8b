"""Does pruning help? The paper's Table 7 at a size for a CPU, with confidence intervals.

    python pipelines/bench/table7.py [--pool 480 --steps 300 --seeds 5]
    python pipelines/bench/table7.py --encoder efficientnet_lite0 --tower efficientnet_lite0 \
        --record table7-lite

For each seed a pool of 2N rows is drawn in which redundancy varies (table7_clips.py); every set of
rows below is chosen from it by `vxp-data`, all pools in one run, from one scoring of 20 uniform
frames by an encoder, the weight-free one unless another is named:

    random-N            N rows by chance
    mean_pairwise       the N least redundant by mean cosine, the paper's pruning
    effective_frames    the N least redundant by effective frames
    no-duplicates       near-duplicates dropped, then N rows by chance
    no-duplicates+mean_pairwise
    random-2N           the whole pool

N/2 are of each question. On each set the visual path of the tiny Video-XL-Pro with a head for
answers is trained (table7_train.py), read from our shards, from the same weights and for the same
number of steps. The tower before it is frozen: of random weights, or EfficientNet-Lite0's
(table7_tower.py). Counted are right answers about other clips: about active ones, where what is
asked happens, and about active and still ones in equal parts. Intervals are of the mean over seeds,
by Student's t, 95 %. The records: manifests/runs/table7.json, table7-lite.json.
"""

from __future__ import annotations

import argparse
import math
import shutil
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq
import records
import torch
from table7_clips import QUESTIONS, SIDE_PX, PoolClip, draw_clips, draw_pool, write_rows
from table7_tower import LITE0, RANDOM, TOWERS, tower_of
from table7_train import Answerer, Examples, read_examples, right_answers, train

from vxp_data.cli import app
from vxp_data.engines.choose import one_engine
from vxp_data.settings.prune import load_config

CURATION: Final = records.ROOT / "pipelines" / "demo.yaml"
LIBRARIES: Final = ("vxp", "torch", "transformers", "numpy", "av", "ray", "faiss-cpu")
NUM_FRAMES: Final = 8
"""Of a clip, uniform, that training sees."""
HELDOUT_SEED: Final = 1000
ENCODERS: Final = ("thumbnail", LITE0)
DRAW: Final = {"random-N": 1, "no-duplicates": 2}
"""Sets drawn by chance, and what sets their draws apart."""
BASE: Final = "random-N"
T_975: Final = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306,
                9: 2.262}  # fmt: skip
"""Student's t below which 97.5 % lie, by degrees of freedom."""

Truth = Mapping[str, PoolClip]
"""By sample id."""


def main(argv: Sequence[str] | None = None) -> None:
    """Draw, choose, train, count, write the record."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--pool", type=int, default=480, help="rows of a pool, 2N")
    parser.add_argument("--heldout", type=int, default=640, help="clips that are asked about")
    parser.add_argument("--steps", type=int, default=300, help="of each training")
    parser.add_argument("--seeds", type=int, default=5, help="pools, 2 to 10")
    parser.add_argument("--encoder", choices=ENCODERS, default=ENCODERS[0], help="that rows are "
                        "chosen with")  # fmt: skip
    parser.add_argument("--tower", choices=TOWERS, default=RANDOM, help="that is trained behind")
    parser.add_argument("--record", default="table7", help="its name")
    parser.add_argument("--out", type=Path, default=Path("runs/table7"), help="made anew")
    parser.add_argument("--reuse", action="store_true", help="clips, scores, shards that OUT has")
    parser.add_argument("--note", default="", help="goes into the record: what else ran, say")
    args = parser.parse_args(argv)
    if args.seeds - 1 not in T_975:
        parser.error(f"--seeds {args.seeds}: wanted 2 to {max(T_975) + 1}")
    began_s = time.monotonic()
    out: Path = args.out
    pools = {f"pool{seed}": draw_pool(args.pool, seed=seed) for seed in range(args.seeds)}
    held = {"heldout": draw_clips(args.heldout, np.random.default_rng(HELDOUT_SEED))}
    if not args.reuse:
        shutil.rmtree(out, ignore_errors=True)
        with one_engine(load_config(CURATION, []).config.cluster):
            prepare(pools, out / "pool", encoder=args.encoder)
            prepare(held, out / "heldout", encoder=ENCODERS[0])  # nothing is chosen from it
    chosen = choose(str(out / "pool" / "run"), per_task=args.pool // 4)
    print(f"drawn, chosen and sharded after {time.monotonic() - began_s:.0f} s", flush=True)
    began_training_s = time.process_time()
    truth = truth_of(pools) | truth_of(held)
    duplicates = duplicates_found(chosen["no-duplicates"], truth)
    sets = [sets_of(chosen, truth, seed, per_task=args.pool // 4) for seed in range(args.seeds)]
    runs = train_all(out, sets, steps=args.steps, truth=truth, tower=args.tower)
    found = {
        "arms": table(runs, sets, truth),
        "duplicates": duplicates,
        "encoder": args.encoder,
        "tower": args.tower,
        "rows_N": args.pool // 2,
        "heldout_clips": args.heldout,
        "chance": 0.25,
        "steps": args.steps,
        "seeds": args.seeds,
        "note": args.note,
        "minutes": round((time.monotonic() - began_s) / 60, 1),
        "cpu_minutes_of_training": round((time.process_time() - began_training_s) / 60, 1),
    }
    path = records.write_record(
        args.record, found, argv=[sys.argv[0], *(argv or sys.argv[1:])], libraries=LIBRARIES
    )
    print("\n".join(describe(found["arms"])))
    print(f"record: {path}")


def choose(run: str, *, per_task: int) -> dict[str, list[dict[str, Any]]]:
    """Decide in four ways about a run, from one scoring.

    Args:
        run: of all pools.
        per_task: rows of each question that are kept of a pool.

    Returns:
        decisions: rows of decisions.parquet, by way.
    """
    decisions = {}
    for name, (measure, duplicates, keep) in {
        "mean_pairwise": ("mean_pairwise", "off", f"{per_task}"),
        "effective_frames": ("effective_frames", "off", f"{per_task}"),
        "no-duplicates": ("mean_pairwise", "drop", "1.0"),
        "no-duplicates+mean_pairwise": ("mean_pairwise", "drop", f"{per_task}"),
    }.items():
        curate("decide", run, "--measure", measure, "--duplicates", duplicates, "--keep", keep)
        decisions[name] = read_decisions(run)
    return decisions


def prepare(pools: Mapping[str, Sequence[PoolClip]], folder: Path, *, encoder: str) -> None:
    """Score clips and shard all rows of them, nothing pruned: images of uniform frames."""
    mixture = write_mixture(pools, folder)
    run = str(folder / "run")
    curate("prune", str(mixture), "--out", run, "--recipe", str(CURATION), "--keep", "1.0",
           "--encoder", encoder)  # fmt: skip
    curate("sample", run, "--set", "sampling.policy=uniform_n",
           "--set", f"sampling.num_frames={NUM_FRAMES}")  # fmt: skip
    curate("shard", run, "--out", str(folder / "shards"), "--payload", "frames",
           "--set", f"shard.frame_px={SIDE_PX}")  # fmt: skip


def write_mixture(pools: Mapping[str, Sequence[PoolClip]], folder: Path) -> Path:
    """Write clips and manifests; a question of a pool is a dataset, and a task subset."""
    folder.mkdir(parents=True)
    lines = ["datasets:"]
    for name, clips in pools.items():
        for task, path in write_rows(clips, folder, name=name).items():
            own = f"{name}-{task}"
            lines.append(f"  - {{name: {own}, manifest: {path.name}, media_root: videos, "
                         f"task: {own}}}")  # fmt: skip
    mixture = folder / "mixture.yaml"
    mixture.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return mixture


def curate(*words: str) -> None:
    """Run a command of vxp-data here."""
    app(list(words), standalone_mode=False)


def read_decisions(run: str) -> list[dict[str, Any]]:
    """Read what a run has decided."""
    columns = ["sample_id", "task", "decision", "duplicate_of"]
    rows: list[dict[str, Any]] = pq.read_table(
        f"{run}/decisions.parquet", columns=columns
    ).to_pylist()
    if lost := sum(row["decision"] == "quarantine" for row in rows):
        raise RuntimeError(f"{run}: {lost} rows are quarantined")
    return rows


def truth_of(pools: Mapping[str, Sequence[PoolClip]]) -> dict[str, PoolClip]:
    """Return clips by the ids of their samples."""
    return {
        f"{name}-{clip.task}/{name}-{index:05d}": clip
        for name, clips in pools.items()
        for index, clip in enumerate(clips)
    }


def sets_of(
    decisions: Mapping[str, Sequence[Mapping[str, Any]]], truth: Truth, seed: int, *, per_task: int
) -> dict[str, list[str]]:
    """Return the sets of rows of a seed: sample ids by arm, in the record's order.

    Args:
        decisions: see `choose`.
        truth: names the rows of all pools.
        seed: of the pool; draws by chance go by it.
        per_task: rows of each question in a set of N rows.
    """
    kept: dict[str, list[str]] = {
        way: [row["sample_id"] for row in rows if row["decision"] == "keep"]
        for way, rows in decisions.items()
    }
    kept |= {"random-N": list(truth), "random-2N": list(truth)}
    order = ("random-N", "mean_pairwise", "effective_frames", "no-duplicates",
             "no-duplicates+mean_pairwise", "random-2N")  # fmt: skip
    sets: dict[str, list[str]] = {}
    for arm in order:
        rows = []
        for task in QUESTIONS:
            own = sorted(name for name in kept[arm] if name.startswith(f"pool{seed}-{task}/"))
            if arm in DRAW:
                rng = np.random.default_rng([seed, DRAW[arm]])
                own = sorted(rng.choice(own, per_task, replace=False).tolist())
            rows += own
        sets[arm] = rows
    return sets


def train_all(
    out: Path,
    sets: Sequence[Mapping[str, Sequence[str]]],
    *,
    steps: int,
    truth: Truth,
    tower: str = RANDOM,
) -> dict[str, list[dict[str, float]]]:
    """Train on every set: by arm, what each seed's model gets right."""
    pool, held = read_examples(out / "pool" / "shards"), read_examples(out / "heldout" / "shards")
    runs: dict[str, list[dict[str, float]]] = {arm: [] for arm in sets[0]}
    trained = None if tower == RANDOM else tower_of(tower, num_frames=NUM_FRAMES, seed=0)
    for seed, arms in enumerate(sets):
        whole = pool.take(arms["random-2N"])
        eyes = trained or tower_of(RANDOM, num_frames=NUM_FRAMES, seed=seed)  # as every arm's
        eyes.fit(whole)
        seen, asked = eyes.features(whole), eyes.features(held)
        for arm, sample_ids in arms.items():
            model, loss = train(seen.take(sample_ids), steps=steps, seed=seed)
            runs[arm].append({"train_loss": loss, **shares_right(model, asked, truth)})
            last = runs[arm][-1]
            print(f"{seed} {arm}: active {last['active']:.3f}, mixed {last['mixed']:.3f}, "
                  f"training loss {loss:.3f}", flush=True)  # fmt: skip
    return runs


def shares_right(model: Answerer, asked: Examples, truth: Truth) -> dict[str, float]:
    """Return the shares of held-out questions answered right, by kind of clip."""
    right_N = right_answers(model, asked)
    clips = [truth[name] for name in asked.sample_ids]
    active_N = torch.tensor([clip.active for clip in clips])
    parts = {"active": active_N, "mixed": torch.ones_like(active_N)}
    for task in QUESTIONS:
        of_task_N = torch.tensor([clip.task == task for clip in clips])
        parts |= {f"{task}_active": of_task_N & active_N, f"{task}_still": of_task_N & ~active_N}
    return {name: float(right_N[part_N].float().mean()) for name, part_N in parts.items()}


def mean_interval(values: Sequence[float]) -> dict[str, float]:
    """Return a mean and its 95 % confidence interval by Student's t, for 2 to 10 values."""
    mean = statistics.fmean(values)
    half = T_975[len(values) - 1] * statistics.stdev(values) / math.sqrt(len(values))
    return {"mean": round(mean, 4), "low": round(mean - half, 4), "high": round(mean + half, 4)}


def table(
    runs: Mapping[str, Sequence[Mapping[str, float]]],
    sets: Sequence[Mapping[str, Sequence[str]]],
    truth: Truth,
) -> dict[str, dict[str, Any]]:
    """Compose the record's figures by arm."""
    arms: dict[str, dict[str, Any]] = {}
    for arm, own in runs.items():
        row: dict[str, Any] = {"rows": len(sets[0][arm]), "rows_are": composition(sets, arm, truth)}
        for part in ("active", "mixed"):
            values = [run[part] for run in own]
            gains = [run[part] - base[part] for run, base in zip(own, runs[BASE], strict=True)]
            row[part] = {"by_seed": [round(value, 4) for value in values], **mean_interval(values)}
            if arm != BASE:
                row[part][f"minus_{BASE}"] = mean_interval(gains)
        for part in sorted(own[0].keys() - {"active", "mixed"}):
            row[part] = round(statistics.fmean(run[part] for run in own), 4)
        arms[arm] = row
    return arms


def composition(
    sets: Sequence[Mapping[str, Sequence[str]]], arm: str, truth: Truth
) -> dict[str, float]:
    """Return what an arm's rows are, means over the seeds: shares, and how many different clips."""
    shares: dict[str, list[float]] = {}
    for arms in sets:
        names = arms[arm]
        clips = [truth[name] for name in names]
        different = {source_of(name, truth): clip for name, clip in zip(names, clips, strict=True)}
        for key, value in {
            "share_active": statistics.fmean(clip.active for clip in clips),
            "share_drifting": statistics.fmean(clip.drifts for clip in clips),
            "different_clips": len(different),
            "different_active_clips": sum(clip.active for clip in different.values()),
        }.items():
            shares.setdefault(key, []).append(value)
    return {key: round(statistics.fmean(values), 3) for key, values in shares.items()}


def source_of(name: str, truth: Truth) -> str:
    """Return the sample id of the clip that a clip is a copy of, or its own."""
    index = truth[name].copy_of
    return name if index is None else f"{name.rpartition('-')[0]}-{index:05d}"


def duplicates_found(rows: Sequence[Mapping[str, Any]], truth: Truth) -> dict[str, int]:
    """Count rows dropped as duplicates, those wrongly, and how many copies there are."""
    sample_of = {name.rpartition("/")[2]: name for name in truth}  # by the clip's file
    duplicates = [row for row in rows if row["decision"] == "duplicate"]
    wrong = sum(
        source_of(row["sample_id"], truth)
        != source_of(sample_of[Path(row["duplicate_of"]).stem], truth)
        for row in duplicates
    )
    copies = sum(truth[row["sample_id"]].copy_of is not None for row in rows)
    return {
        "rows": len(rows),
        "copies": copies,
        "dropped": len(duplicates),
        "dropped_wrongly": wrong,
    }


def describe(arms: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the result as Markdown."""
    lines = ["| rows | active clips | minus random-N | active and still | minus random-N |",
             "|---|---|---|---|---|"]  # fmt: skip
    for arm, row in arms.items():
        cells = [f"{arm}: {row['rows']}"]
        for part in ("active", "mixed"):
            gain = row[part].get(f"minus_{BASE}")
            cells += [spoken(row[part]), spoken(gain, sign="+") if gain else ""]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def spoken(interval: Mapping[str, float], *, sign: str = "") -> str:
    """Write an interval in percent: '71.2 (68.0 to 74.4)'."""
    mean, low, high = (f"{100 * interval[key]:{sign}.1f}" for key in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"


if __name__ == "__main__":
    main()
