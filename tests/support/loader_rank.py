"""One training process, as far as its data goes: reads batches, saves states, may be killed."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

from torch import distributed

from vxp_model.data.loader import ShardLoader
from vxp_model.data.order import BatchRule, OrderRule
from vxp_model.data.state import merge_states

STEP_S = 0.01
"""So that a kill can strike between any two steps."""


@dataclass(frozen=True)
class Run:
    """One start of the training."""

    uri: str
    folder: Path
    """Takes `state.json`, `rendezvous` and a log of each rank."""
    world_size: int
    batch: BatchRule
    order: OrderRule
    num_workers: int
    state: dict | None


def train(rank: int, run: Run) -> None:
    """Read an epoch, saving after each step as a checkpoint would: all ranks' states in one."""
    distributed.init_process_group(
        "gloo", init_method=f"file://{run.folder}/rendezvous", rank=rank, world_size=run.world_size
    )
    loader = ShardLoader(
        run.uri, batch=run.batch, order=run.order, frames=None, num_workers=run.num_workers
    )
    assert (loader.rank, loader.world_size) == (rank, run.world_size)
    if run.state is not None:
        loader.load_state_dict(run.state)
    with (run.folder / f"rank-{rank}.jsonl").open("w") as log:
        for batch in loader:
            own = [(s.position, s.sample_id) for s in batch.samples if not s.is_padding]
            log.write(json.dumps(own) + "\n")
            log.flush()
            states = [None] * run.world_size
            distributed.all_gather_object(states, loader.state_dict())
            if rank == 0:
                part = run.folder / "state.part"
                part.write_text(json.dumps(merge_states(states)))
                part.rename(run.folder / "state.json")
            time.sleep(STEP_S)
        log.write("end\n")
    loader.close()
    distributed.destroy_process_group()
