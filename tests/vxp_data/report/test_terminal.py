"""Progress: what is said before anything is read, at what rate, and what is not guessed yet."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from support.wanted import wanted_of
from vxp_data.pipeline.embed import job
from vxp_data.pipeline.embed.clip_tables import REPORT_SCHEMA
from vxp_data.pipeline.embed.work_items import WorkList
from vxp_data.report import terminal
from vxp_data.report.terminal import ClipProgress


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def monotonic(self):
        return self.now_s


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(terminal, "time", clock)
    monkeypatch.setattr(job, "time", clock)
    return clock


@pytest.fixture
def progress():
    return ClipProgress(Console(file=io.StringIO(), width=200))


def said(progress):
    return progress.console.file.getvalue().splitlines()


def test_the_start_is_announced_and_the_rate_is_that_of_reading_alone(clock, progress):
    progress.start(1000)
    assert said(progress) == ["1000 videos to read; starting ..."]
    clock.now_s += 60  # workers and encoders load
    progress.update(100, 3, 20.0)
    words = "5.0 videos/s, 3 quarantined, about 3 min left"
    assert said(progress)[1] == f"100/1000 videos, {words}"


@pytest.mark.parametrize(("done", "guessed"), [(29, False), (30, True)])
def test_no_time_is_guessed_before_a_part_is_done(done, guessed, clock, progress):
    progress.start(1000)
    clock.now_s += 11
    progress.update(done, 0, 10.0)
    assert ("left" in said(progress)[1]) == guessed


def test_lines_come_now_and_then(clock, progress):
    progress.start(10)
    for _ in range(5):
        clock.now_s += 9
        progress.update(5, 0, 1.0)
    assert len(said(progress)) == 1 + 2


def test_nothing_is_announced_where_nothing_is_to_be_read(progress):
    progress.start(0)
    assert said(progress) == []


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (119, "119 s"), (600, "10 min"), (9000, "2.5 h")]
)
def test_the_time_left_is_a_small_number(seconds, words, clock, progress):
    progress.start(2)
    clock.now_s += 11
    progress.update(1, 0, seconds)
    assert said(progress)[1].endswith(f"about {words} left")


def test_a_terminal_has_a_bar_that_begins_with_the_start(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    progress = ClipProgress(console)
    progress.start(1000)
    progress.update(20, 1, 10.0)
    progress.stop()
    shown = console.file.getvalue()
    assert "starting ..." in shown
    assert "2.0 videos/s, 1 quarantined" in shown
    assert "left" not in shown


class Engine:
    """Takes 30 s to start, then gives a report of two clips every 4 s, each read in 2 s."""

    def __init__(self, clock):
        self._clock = clock

    def plan(self, _needs):
        stage = type("Stage", (), {"workers": 1})
        return type("Plan", (), {"decode": stage, "embed": None, "on_gpu": False})

    def embed_files(self, _files, _stages):
        self._clock.now_s += 30
        for first in (0, 2, 4):
            self._clock.now_s += 4
            rows = [
                {name: 0 for name in REPORT_SCHEMA.names}
                | {"clip": first + i, "uri": "", "reason": "", "wall_s": 2.0}
                for i in range(2)
            ]
            yield pa.Table.from_pylist(rows, REPORT_SCHEMA)


def test_the_seconds_of_a_job_begin_with_its_first_clip(clock, monkeypatch):
    monkeypatch.setattr(job, "embed_stages", lambda *_: type("Stages", (), {"needs": None}))
    heard = []
    job.embed_media(
        WorkList(wanted_of({"a": [(0.0, 1.0)]}), np.zeros(1, dtype=bool)),
        Engine(clock),
        None,
        lambda totals: heard.append((totals.clips, totals.reading_s)),
    )
    assert heard == [(2, 4.0), (4, 8.0), (6, 12.0)]
