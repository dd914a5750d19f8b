"""Stages for tests of engines: what a file is called says what its worker does."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vxp_data.engines.base import EmbedStages, Store
from vxp_data.engines.crash_ledger import Attempt
from vxp_data.engines.files import FILE_SCHEMA
from vxp_data.engines.stage_plan import EncoderNeeds
from vxp_data.errors import MediaError, UserError

PIXELS = 100_000
"""Bytes of a clip: enough to travel in shared memory."""


def file_rows(names: list[str], clips: int = 1) -> pa.Table:
    """Return files of so many clips each (FILE_SCHEMA)."""
    number = iter(range(len(names) * clips))
    rows = [
        {"uri": name, "is_image": False, "file_version": "1-2", "num_bytes": 1,
         "clip": [next(number) for _ in range(clips)],
         "clip_start_s": [float(clip) for clip in range(clips)],
         "clip_end_s": [clip + 1.0 for clip in range(clips)]}
        for name in names
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, FILE_SCHEMA)


def stages(*, in_decode_task: bool = False) -> EmbedStages:
    """Return stages that count bytes where ours would look at frames."""
    needs = EncoderNeeds(in_decode_task=in_decode_task, device="cpu", clip_bytes=PIXELS)
    if in_decode_task:
        return EmbedStages(decode=decode_and_embed, start_encoder=None, needs=needs)
    return EmbedStages(decode=decode, start_encoder=Encoder, needs=needs)


def decode(files: pa.Table, attempt: Attempt) -> Iterator[pa.Table]:
    """Return a clip a table; its pixels are its own number."""
    for row in files.to_pylist():
        reason = ""
        try:
            attempt.enter(row["uri"])
            misbehave("decode", row["uri"])
        except MediaError as error:
            reason = error.reason.value
        for clip in row["clip"]:
            pixels = np.full(PIXELS, clip % 256, dtype=np.uint8).tobytes()
            yield pa.table({"clip": [clip], "uri": [row["uri"]], "pixels": [pixels],
                            "reason": [reason], "decoder_pid": [os.getpid()]})  # fmt: skip
    attempt.leave()


class Encoder:
    """Takes clips to reports."""

    def __call__(self, clips: pa.Table, attempt: Attempt) -> Store:
        """Report the mean of each clip's pixels, once that is asked for."""
        reasons = []
        for uri, reason in zip(clips["uri"].to_pylist(), clips["reason"].to_pylist(), strict=True):
            told = reason
            try:
                attempt.enter(uri)
                misbehave("embed", uri)
            except MediaError as error:
                told = error.reason.value
            reasons.append(told)
        attempt.leave()
        means = [np.frombuffer(p.as_buffer(), dtype=np.uint8).mean() for p in clips["pixels"]]
        report = pa.table(
            {"clip": clips["clip"], "mean": means, "reason": reasons,
             "decoder_pid": clips["decoder_pid"], "encoder_pid": [os.getpid()] * len(clips),
             "batch": [len(clips)] * len(clips),
             "threads": [os.environ.get("OMP_NUM_THREADS")] * len(clips)}
        )  # fmt: skip
        return lambda: report


class SlowStore:
    """Stores clips only once the next ones are being embedded, or all are; notes what it did.

    Args:
        log: file for the notes: a line each, what and when it began and ended.
        num_clips: of the job, which one encoder embeds alone.
        dies: the first time that anything is stored, the worker is killed instead.
    """

    def __init__(self, log: Path, num_clips: int, *, dies: bool = False) -> None:
        self._embed, self._log, self._dies = Encoder(), log, dies
        self._num_left, self._num_begun = num_clips, 0

    def __call__(self, clips: pa.Table, attempt: Attempt) -> Store:
        """Embed; return what stores."""
        began_s = time.monotonic()
        self._num_begun += 1
        begun = self._num_begun
        report = self._embed(clips, attempt)()
        self._num_left -= len(clips)
        self._note("again" if attempt.again else "embed", began_s)

        def store() -> pa.Table:
            began_s = time.monotonic()
            mark = self._log.with_suffix(".died")
            if self._dies and not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            while (is_alone := self._num_begun == begun) and self._num_left > 0:
                if self._dies or time.monotonic() > began_s + 30:
                    break
                time.sleep(0.01)
            self._note("alone" if is_alone else "beside", began_s)
            return report

        return store

    def _note(self, what: str, began_s: float) -> None:
        with self._log.open("a") as log:
            log.write(f"{what} {began_s} {time.monotonic()}\n")


def decode_and_embed(files: pa.Table, attempt: Attempt) -> Iterator[pa.Table]:
    """Do both in one worker."""
    yield Encoder()(pa.concat_tables(decode(files, attempt)), attempt)()


def misbehave(stage: str, uri: str) -> None:
    """Do what a name asks for in this stage: 'decode-kill-7', 'embed-raise-1' ..."""
    wanted, _, rest = uri.partition("-")
    what = rest.partition("-")[0]
    if wanted != stage:
        return
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "user":
        raise UserError(f"{uri} wants a user")
    if what == "bug":
        raise ZeroDivisionError(uri)
    if what == "sleep":
        time.sleep(0.2)


def square(value: int) -> int:
    """Return a task's result."""
    return value * value


def misbehave_at(value: Any) -> str:
    """Kill the worker, raise, or sleep and leave a mark."""
    if value == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if value == "user":
        raise UserError("as asked")
    if isinstance(value, Path):
        value.touch()
        time.sleep(60)
    return f"{value} in {os.getpid()}"


class Doubler:
    """Maps tables."""

    def __call__(self, table: pa.Table) -> pa.Table:
        """Double a column."""
        return pa.table({"x": pa.array([2 * x for x in table["x"].to_pylist()])})


def no_encoder() -> Encoder:
    """Fail to load."""
    raise UserError("no weights here")


def dying_encoder() -> Encoder:
    """Die while it loads."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError
