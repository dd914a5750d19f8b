"""A long video does not hold up the end of a run by more than its own decode."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.flat_videos import COSTS_FROM, write_flat_video
from support.misbehaving import MARKS
from support.runs import by_sample, caption_row, run_prune, write_rows

WORKERS = 2


def begun_and_ended() -> dict[int, list[tuple[float, float]]]:
    """Read when each decode began and ended, by the frames that its video has."""
    times: dict[int, list[tuple[float, float]]] = {}
    for mark in Path(os.environ[MARKS]).glob("cost *"):
        _, frames, begun, ended = mark.name.split()
        times.setdefault(int(frames), []).append((float(begun), float(ended)))
    return times


@pytest.mark.slow  # it is about time, which others on the machine take
@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("statistics", ["long", "short"])
def test_a_long_video_costs_the_end_no_more_than_itself(tmp_path: Path, statistics: str) -> None:
    for mark in Path(os.environ[MARKS]).iterdir():
        mark.unlink()
    tenths = {"long": 60} | {f"short{i:02}": 3 for i in range(40)}
    for name, cost in tenths.items():
        path = write_flat_video(tmp_path / f"{name}.mp4", num_frames=COSTS_FROM + cost)
        if name == "long" and statistics == "long":
            os.truncate(path, 200 << 20)  # a hole at the end, which no reader minds
    manifest = write_rows(tmp_path / "rows.json", [caption_row(n, f"{n}.mp4") for n in tenths])
    run_prune(manifest, tmp_path / "run", frames__sampler="misbehaving")
    assert set(by_sample(tmp_path / "run", "decision").values()) <= {"keep", "prune"}
    times = begun_and_ended()
    ((long_begun, long_ended),) = times.pop(COSTS_FROM + 60)
    ((*shorts,),) = times.values()
    assert len(shorts) == 40
    begun = min([long_begun, *(b for b, _ in shorts)])
    ended = max([long_ended, *(e for _, e in shorts)])
    work_s = long_ended - long_begun + sum(e - b for b, e in shorts)
    bound_s = max(long_ended - long_begun, work_s / WORKERS)
    if statistics == "long":
        assert long_begun - begun < 2.0, "not among the first"
        assert ended - begun < 1.5 * bound_s + 5.0  # 5 s: a second worker that starts late
    else:
        assert ended - begun < bound_s + (long_ended - long_begun) + 5.0
