"""ReCoT training with samples that are left whole and a ratio that falls: seeded, resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.later import LATER
from support.recot_runs import recipe, training_shards
from vxp_model.data.seeded_draws import is_whole
from vxp_model.errors import StoppedError
from vxp_model.train.metrics_log import read_log

if LATER:
    import torch

    from vxp_model.train.distributed import DistributedContext
    from vxp_model.train.recot.run import ReCoTTraining, train_recot

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    # DeepSpeed and TensorBoard, about their own use of torch, numpy and protobuf.
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

SGM = {"ratio": 0.25, "ratio_start": 0.75, "ratio_ramp": 1.0, "unmasked_share": 0.5}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    return training_shards(tmp_path_factory.mktemp("shards"))


def settings(**changes: Any) -> dict[str, Any]:
    return {"model": {"preset": "tiny", "sgm": SGM}, **changes}


def test_whole_samples_are_drawn_by_share_seed_epoch_and_position() -> None:
    drawn = [is_whole(0, epoch=0, position=p, share=0.25) for p in range(4000)]
    assert abs(sum(drawn) - 1000) < 137  # five standard deviations
    again = [is_whole(0, epoch=0, position=p, share=0.5) for p in range(4000)]
    assert all(more for less, more in zip(drawn, again, strict=True) if less)
    for other in ({"seed": 1, "epoch": 0}, {"seed": 0, "epoch": 1}):
        changed = [is_whole(position=p, share=0.25, **other) for p in range(4000)]
        assert sum(a and b for a, b in zip(drawn, changed, strict=True)) < 350  # 250 by chance
    assert not any(is_whole(0, epoch=0, position=p, share=0) for p in range(4000))


def test_a_samples_groups_are_whole_together_whatever_the_micro_batch(
    context: DistributedContext, shards: str, tmp_path: Path
) -> None:
    whole = {}
    for micro in (1, 4):
        batch = {"global_samples": 4, "micro_samples": micro}
        training = ReCoTTraining(recipe(shards, tmp_path, **settings(batch=batch)), context, print)
        steps = training.micro_batches()
        seen: list[tuple[str, set[bool]]] = []
        for _ in range(6):
            for part in next(steps):
                for clip, name in enumerate(part.sample_ids):
                    own = part.whole_G[part.groups.clip_G == clip]
                    seen.append((name, set(own.tolist())))
        training.loader.close()
        whole[micro] = seen
    assert whole[1] == whole[4]
    assert {len(flags) for _, flags in whole[1]} == {1}
    assert 6 < sum(flags == {True} for _, flags in whole[1]) < 18  # of 24, half


def test_stopped_and_resumed_masks_as_if_never_stopped(
    context: DistributedContext, shards: str, tmp_path: Path
) -> None:
    once = train_recot(recipe(shards, tmp_path / "once", **settings()), context, print)
    loaded = recipe(shards, tmp_path / "twice", **settings())
    training = ReCoTTraining(loaded, context, print)

    class StopAfterTwo:
        came = property(lambda _: training.state.step >= 1)

    with pytest.raises(StoppedError):
        training.run(StopAfterTwo())  # type: ignore[arg-type]
    training.loader.close()
    twice = train_recot(loaded, context, print)
    logs = [read_log(run.out / "log.jsonl") for run in (once, twice)]
    for name in ("loss", "grad_norm", "masked_share", "mask_ratio"):
        assert [entry[name] for entry in logs[0]] == [entry[name] for entry in logs[1]], name
    ratios = [entry["mask_ratio"] for entry in logs[0]]
    assert ratios == pytest.approx([0.75 - 0.5 * step / 6 for step in range(6)])
    # A frame that counts has its exact share masked, or nothing where its sample is whole.
    steps = ReCoTTraining(recipe(shards, tmp_path / "new", **settings()), context, print)
    for entry, batches in zip(logs[0], steps.micro_batches(), strict=False):
        frames = torch.cat([batch.groups.valid_GT.sum(1) for batch in batches])
        masked = frames[~torch.cat([batch.whole_G for batch in batches])].sum() / frames.sum()
        wanted = float(masked) * round(16 * entry["mask_ratio"]) / 16
        assert entry["masked_share"] == pytest.approx(wanted, abs=1e-6)
    steps.loader.close()
    assert torch.isfinite(torch.tensor([entry["loss"] for entry in logs[0]])).all()
