"""Replace the machines of a cluster at random while `vxp-data prune` runs on it; compare the bytes.

From the command line: part of make chaos; RUNS=3 of these runs.

A real Ray cluster on this machine: a head, machines of a core that decode, machines with a GPU that
Ray counts and nobody uses, which embed. A run begins without a GPU; then there are two, one, two.
Of all machines but the head 30 % are replaced, at random moments. Every machine leaves the time of
its first work, so that it is known how soon a new one was busy.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from support.chaos import Kill, Outcome, add_figures, make_media
from support.clusters import Prune, cluster_of, node, offer_nodal
from support.compared_runs import compare, num_clips
from support.media_watch import OpenedFiles

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

REPLACED: Final = 0.3
"""Share of the machines that are replaced in a run."""
NUM_DECODING: Final = 3
NUM_EMBEDDING: Final = 2
DECODE_S: Final = 1.0
EMBED_S: Final = 0.05
"""What a file and a frame take at least, seconds: machines wait, so that many fit on two cores."""
PATIENCE_S: Final = 900.0
_POLL_S: Final = 0.1
_GONE_S: Final = 180.0
"""How long Ray may take to notice that a machine is gone."""
_WAITS: Final = "the cluster has no GPU now"
SETTINGS: Final[Mapping[str, Any]] = {
    "encoder.name": "nodal",
    "frames.sampler": "nodal",
    "encoder.device": "cuda",
    "cluster.gpu_wait_s": PATIENCE_S,
    "cluster.node_wait_s": 10,
}


@dataclass(kw_only=True)
class NodeOutcome(Outcome):
    """What came of it all, and how soon new machines were busy."""

    busy_after_s: list[float] = field(default_factory=list)
    """Of each new machine that found work: from when Ray listed it to its first work."""
    not_needed: int = 0
    """New machines for which no work was left."""

    def figures(self) -> dict[str, Any]:
        """Return totals, then every machine that was taken away."""
        figures = super().figures()
        each = figures.pop("each")
        return figures | {
            "machines_replaced": len(self.kills),
            "new_machines_busy": len(self.busy_after_s),
            "new_machines_not_needed": self.not_needed,
            "new_machine_busy_after_s": self.busy_after_s,
            "new_machine_busy_after_s_most": max(self.busy_after_s, default=0.0),
            "each": each,
        }


class ClusterArena:
    """Videos, and a cluster whose machines come and go.

    Args:
        folder: an empty one.
        cluster: with its head.
        copies: of every video.
        decode_s: what a file takes at least.
        embed_s: what a frame takes at least.
    """

    def __init__(
        self, folder: Path, cluster: Cluster, *, copies: int, decode_s: float, embed_s: float
    ) -> None:
        self.folder, self._cluster = folder, cluster
        self.manifest = make_media(folder / "media", copies=copies)
        videos = self.manifest.parent / "videos"
        self.num_files = sum(1 for _ in videos.iterdir())
        self.opened = OpenedFiles(videos)
        self._marks = folder / "marks"
        self._marks.mkdir()
        self._work = {"VXP_TEST_DECODE_S": str(decode_s), "VXP_TEST_EMBED_S": str(embed_s)}
        self._num_added = 0
        self._joined_s: dict[str, float] = {}
        self.machines: dict[str, Any] = {}
        """Names, of which the first letter says what they do, to Ray's own."""

    def add(self, kind: str) -> None:
        """Add a machine that decodes ('d') or embeds ('e')."""
        name = f"{kind}{self._num_added}"
        self._num_added += 1
        env = {"VXP_TEST_NODE": name, "VXP_TEST_MARKS": str(self._marks), **self._work}
        what = {"num_cpus": 0, "num_gpus": 1} if kind == "e" else {"num_cpus": 1}
        machine = self._cluster.add_node(wait=False, **node(**what, **env))  # type: ignore[arg-type]
        self.machines[name] = machine
        threading.Thread(target=self._note_joining, args=(name, machine), daemon=True).start()

    def _note_joining(self, name: str, machine: Any) -> None:
        """Note when Ray first lists a machine: to start one is not the run's business."""
        known: Any = self._cluster.global_state
        socket_name = machine.plasma_store_socket_name
        while socket_name not in {row["ObjectStoreSocketName"] for row in known.node_table()}:
            time.sleep(_POLL_S)
        self._joined_s[name] = time.time()

    def take(self, name: str) -> None:
        """Take a machine away, as a spot market does: without a word."""
        self._cluster.remove_node(self.machines.pop(name), allow_graceful=False)

    def take_all(self, kind: str) -> None:
        """Take all machines of a kind away."""
        for name in [name for name in self.machines if name.startswith(kind)]:
            self.take(name)
        self._cluster.wait_for_nodes(_GONE_S)

    def busy_after_s(self, name: str) -> float | None:
        """Return how long after it had joined a machine first worked; None: it did not."""
        marks = [float(path.read_text() or 0) for path in self._marks.glob(f"{name} *")]
        return round(min(marks) - self._joined_s[name], 1) if marks else None

    def start(self, out: Path) -> Prune:
        """Start a run."""
        return Prune(self._cluster, self.manifest, out, SETTINGS, self._work)


@contextmanager
def make_cluster_arena(
    folder: Path, *, copies: int, decode_s: float = DECODE_S, embed_s: float = EMBED_S
) -> Iterator[ClusterArena]:
    """Hold a ClusterArena for the length of a block."""
    folder.mkdir(parents=True, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        offer_nodal(folder / "nodal", patch)
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("OMP_NUM_THREADS", "1")
        with cluster_of(node(num_cpus=0)) as cluster:
            arena = ClusterArena(folder, cluster, copies=copies, decode_s=decode_s, embed_s=embed_s)
            try:
                yield arena
            finally:
                arena.opened.close()


def undisturbed(arena: ClusterArena) -> Path:
    """Return the run directory of a run with all machines from its beginning to its end."""
    out = arena.folder / "undisturbed"
    for kind in "d" * NUM_DECODING + "e" * NUM_EMBEDDING:
        arena.add(kind)
    run = arena.start(out)
    assert run.end(PATIENCE_S) == 0, run.said()
    return out


def disturbed(arena: ClusterArena, reference: Path, seed: int, outcome: NodeOutcome) -> None:
    """Run once while machines come and go, and compare."""
    began_s, draw = time.monotonic(), random.Random(seed)
    out = arena.folder / f"run-{outcome.runs}"
    arena.take_all("e")
    run = arena.start(out)
    run.wait_for(_WAITS, PATIENCE_S)
    added = [_add(arena, "e") for _ in range(NUM_EMBEDDING)]
    number = math.ceil(REPLACED * (NUM_DECODING + NUM_EMBEDDING))
    moments = sorted(draw.uniform(0.05, 0.6) for _ in range(number))
    kinds = ["e", *draw.choices("de", k=number - 1)]  # encoders: from two to one, and to two again
    for moment, kind in zip(moments, kinds, strict=True):
        if not _wait_for_files(arena, run, moment, began_s):
            break
        name = draw.choice([name for name in arena.machines if name.startswith(kind)])
        before, at_s = num_clips(out), time.monotonic()
        arena.take(name)
        time.sleep(draw.uniform(0, 10))
        added.append(_add(arena, kind))
        read = len(arena.opened.between(began_s, at_s))
        outcome.kills.append(
            Kill(
                engine="ray",
                mode="decoding machine" if kind == "d" else "embedding machine",
                encoder="nodal",
                after_s=round(at_s - began_s, 3),
                moment="files",
                clips_before=0,
                clips_after=before,
                files_read=read,
            )
        )
    assert run.end(PATIENCE_S) == 0, run.said()
    for name in added:
        busy_s = arena.busy_after_s(name)
        if busy_s is None:
            outcome.not_needed += 1
        else:
            outcome.busy_after_s.append(busy_s)
    _count(outcome, arena, out, reference)
    outcome.seconds += time.monotonic() - began_s


def _add(arena: ClusterArena, kind: str) -> str:
    arena.add(kind)
    return list(arena.machines)[-1]


def _wait_for_files(arena: ClusterArena, run: Prune, share: float, began_s: float) -> bool:
    """Wait until a share of the files has been opened; False: the run ended before."""
    number = max(1, int(share * arena.num_files))
    while arena.opened.opening_s(number, began_s) is None:
        if run.process.poll() is not None:
            return False
        time.sleep(_POLL_S)
    return True


def _count(outcome: NodeOutcome, arena: ClusterArena, out: Path, reference: Path) -> None:
    found = compare(out, reference)
    outcome.runs += 1
    outcome.attempts += 1
    outcome.files_in_all_runs += arena.num_files
    outcome.rows += found.rows
    outcome.lost += found.lost
    outcome.doubled += found.doubled
    outcome.different += found.different
    outcome.left_behind += found.left_behind


def main() -> None:
    """Run, and add to manifests/runs/chaos.json after every compared run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--copies", type=int, default=8)
    options = parser.parse_args()
    import records

    earlier = json.loads((records.RUNS / "chaos.json").read_text())["figures"]
    os.environ["RAY_AUTH_MODE"] = "disabled"  # a cluster of this machine's, for minutes
    outcome = NodeOutcome()
    with (
        tempfile.TemporaryDirectory(prefix="vxp-chaos-", dir="/tmp") as scratch,
        make_cluster_arena(Path(scratch) / "arena", copies=options.copies) as arena,
    ):
        reference = undisturbed(arena)
        for number in range(options.runs):
            disturbed(arena, reference, options.seed + number, outcome)
            figures = add_figures(earlier, outcome.figures())
            argv = ["-m", "support.chaos_cluster", "--runs", options.runs, "--seed", options.seed]
            records.write_record("chaos", figures, argv=[*map(str, argv)])
            sys.stderr.write(
                f"{len(outcome.kills)} machines replaced, {outcome.lost} rows lost, "
                f"{outcome.doubled} doubled, {outcome.different} differ, new ones busy after "
                f"{outcome.busy_after_s} s\n"
            )
    bad = outcome.lost or outcome.doubled or outcome.different or outcome.left_behind
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
