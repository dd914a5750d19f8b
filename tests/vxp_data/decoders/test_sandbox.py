"""No file can take a run down: hanging, crashing and hungry children, and what `ClipReader` says.

The functions that run in the child are at module level, where the child imports them.
"""

from __future__ import annotations

import ctypes
import math
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest

from support.misbehaving import offer_misbehaving
from vxp_data.decoders.sandbox import FrameArena, Sandbox, SharedBuffer, cap_memory, put_frames
from vxp_data.errors import MediaError
from vxp_data.pipeline.media.clips import ClipReader, MediaItem
from vxp_data.records import Reason
from vxp_data.settings.prune import DecodeConfig, FramesConfig

CAP_BYTES = 256 << 20


def kill_self(number: int) -> None:
    os.kill(os.getpid(), number)


def hang_holding_the_gil() -> None:
    ctypes.PyDLL(None).sleep(600)


def allocate(num_bytes: int) -> int:
    cap_memory()
    return len(np.ones(num_bytes, dtype=np.uint8))


def raise_media_error() -> None:
    raise MediaError(Reason.CORRUPT, "these words")


def spin(seconds: float) -> int:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return os.getpid()


def num_threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def read_buffer() -> list[bytes]:
    return [Path(SharedBuffer.child_path()).read_bytes() for _ in range(2)]


def call_from_here(queue: multiprocessing.Queue) -> None:
    sandbox = Sandbox(CAP_BYTES)
    child = sandbox.call(os.getpid, timeout_s=60).value
    sandbox.close()
    queue.put((multiprocessing.current_process().daemon, child != os.getpid()))


@pytest.fixture
def sandbox():
    sandbox = Sandbox(CAP_BYTES)
    yield sandbox
    sandbox.close()


@pytest.mark.parametrize(
    ("function", "args", "reason", "words"),
    [
        (kill_self, [signal.SIGSEGV], Reason.CRASHED, "SIGSEGV"),
        (kill_self, [signal.SIGABRT], Reason.CRASHED, "SIGABRT"),
        (kill_self, [signal.SIGKILL], Reason.OUT_OF_MEMORY, "killed"),
        (os._exit, [3], Reason.CRASHED, "exit code 3"),
        (time.sleep, [600], Reason.TIMEOUT, "5 s"),
        (hang_holding_the_gil, [], Reason.TIMEOUT, "5 s"),
        (allocate, [4 * CAP_BYTES], Reason.OUT_OF_MEMORY, "allocate"),
        (raise_media_error, [], Reason.CORRUPT, "these words"),
    ],
)
def test_failure_of_a_child_is_a_reason_and_the_next_call_works(
    sandbox, function, args, reason, words
):
    started_s = time.monotonic()
    with pytest.raises(MediaError) as caught:
        sandbox.call(function, *args, timeout_s=5)
    assert caught.value.reason is reason
    assert words in caught.value.message
    assert time.monotonic() - started_s < 30
    assert sandbox.call(math.sqrt, 9, timeout_s=30).value == 3


def test_a_child_that_dies_while_it_has_nothing_to_do_is_replaced(sandbox):
    for wait_s in (0.0, 0.5):  # before pebble has seen it, and after
        os.kill(sandbox.call(os.getpid, timeout_s=30).value, signal.SIGKILL)
        time.sleep(wait_s)
        assert sandbox.call(os.getpid, timeout_s=30).value > 0


def test_child_is_kept_between_calls_and_its_cpu_time_is_told(sandbox):
    timed = sandbox.call(spin, 0.2, timeout_s=60)
    assert 0.2 <= timed.cpu_s < 0.4
    assert timed.value == sandbox.call(os.getpid, timeout_s=60).value != os.getpid()


@pytest.mark.skipif(os.cpu_count() == 1, reason="numpy has no second thread to start")
def test_numpy_starts_no_threads_in_a_child_unless_told_to(sandbox, monkeypatch):
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    assert sandbox.call(num_threads, timeout_s=30).value == 1
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    asked_for = Sandbox(CAP_BYTES)
    assert asked_for.call(num_threads, timeout_s=30).value == 2
    asked_for.close()


def test_what_is_within_the_cap_may_be_allocated_again_and_again(sandbox):
    for _ in range(4):
        assert sandbox.call(allocate, CAP_BYTES // 2, timeout_s=60).value == CAP_BYTES // 2


def test_our_own_bug_in_the_child_keeps_its_type(sandbox):
    with pytest.raises(ZeroDivisionError):
        sandbox.call(divmod, 1, 0, timeout_s=60)


def test_frames_come_back_through_the_arena_whole():
    arena = FrameArena()
    sandbox = Sandbox(CAP_BYTES, arena)
    rng = np.random.default_rng(0)
    for shape in [(2, 3, 4, 3), (5, 64, 48, 3), (1, 2, 2, 3)]:  # grows, then is used in part
        frames = rng.integers(0, 256, shape, dtype=np.uint8)
        arena.reserve(frames.nbytes)
        sandbox.call(put_frames, frames, timeout_s=60)
        taken = arena.take(shape)
        sandbox.call(put_frames, np.zeros(shape, np.uint8), timeout_s=60)
        assert (taken == frames).all()  # a copy, untouched by the next clip
    sandbox.close()
    arena.close()


def test_a_file_goes_in_through_the_buffer_whole():
    """The child has given up its parent's rights by then, and reads no other process's memory."""
    buffer = SharedBuffer()
    sandbox = Sandbox(CAP_BYTES, None, buffer)
    for data in (b"a long file", b"short", b""):
        buffer.put(data)
        assert sandbox.call(read_buffer, timeout_s=60).value == [data, data]
    sandbox.close()
    buffer.close()


def test_a_daemon_may_have_a_sandbox():
    """As torch's DataLoader workers are."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=call_from_here, args=(queue,), daemon=True)
    process.start()
    assert queue.get(timeout=60) == (True, True)
    process.join(60)
    assert process.exitcode == 0


def test_main_module_of_the_parent_is_not_run_again_in_the_child(tmp_path):
    script = tmp_path / "no_guard.py"
    script.write_text(
        "import os\n"
        "from vxp_data.decoders.sandbox import Sandbox\n"
        "print('main runs', flush=True)\n"
        "sandbox = Sandbox(1 << 28)\n"
        "print(sandbox.call(os.getpid, timeout_s=60).value != os.getpid(), __file__, flush=True)\n"
        "sandbox.close()\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.splitlines() == ["main runs", f"True {script}"]


# --- a media in the sandbox: ClipReader ---------------------------------------------------------


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "5", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(25):
            shade = np.full((48, 64, 3), 10 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shade, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def read(clip, tmp_path, monkeypatch):
    """Read a clip of a telling name with the misbehaving decoder."""
    offer_misbehaving(tmp_path / "installed", monkeypatch)

    def read(name, fallback=None, **decode):
        path = Path(shutil.copy(clip, tmp_path / name))
        settings = {"timeout_s": 15, "memory_mib": 256} | decode
        config = DecodeConfig(decoder="misbehaving", fallback=fallback, **settings)
        item = MediaItem(
            uri=str(path), is_image=False, file_version="1-2", clips_s=((0.0, math.inf), (0.2, 0.4))
        )
        with ClipReader(FramesConfig(num_frames=4), config, frame_px=32) as reader:
            return list(reader.read(item))

    return read


MISDEEDS = {
    "hangs.mp4": Reason.TIMEOUT,
    "dozes.mp4": Reason.TIMEOUT,
    "crashes.mp4": Reason.CRASHED,
    "killed.mp4": Reason.OUT_OF_MEMORY,
    "allocates.mp4": Reason.OUT_OF_MEMORY,
    "raises.mp4": Reason.DECODE_FAILED,
}


@pytest.mark.parametrize("name", MISDEEDS)
def test_misdeed_of_a_decoder_is_the_reason_of_each_clip(name, read):
    whole, part = read(name, timeout_s=4)
    for clip in (whole, part):
        assert clip.reason is MISDEEDS[name]
        assert clip.frames_FHWC is None
        assert clip.media.num_frames == 25  # the probe's facts stay
    assert (part.clip_start_s, part.clip_end_s) == (0.2, 0.4)


WAITED_FOR = {"hangs.mp4", "dozes.mp4"}


@pytest.mark.parametrize(
    "name", [pytest.param(m, marks=[pytest.mark.slow] * (m in WAITED_FOR)) for m in MISDEEDS]
)
def test_second_decoder_takes_over_and_the_note_says_why(name, read):
    for clip in read(name, fallback="pyav", timeout_s=4):
        assert clip.reason is None
        assert clip.decoder == "pyav"
        assert clip.decoder_note.startswith(f"misbehaving: {MISDEEDS[name].value}: ")
        assert clip.frames_exact == len(clip.frame_index_F) == 4


def test_pyav_takes_what_the_decoder_does_not_claim_without_a_fallback(read):
    for clip in read("unclaimed.mp4"):
        assert (clip.reason, clip.decoder) == (None, "pyav")
        assert clip.decoder_note.startswith("misbehaving: unsupported: ")


def test_good_clip_has_its_frames_and_no_note(read):
    whole, part = read("good.mp4")
    assert (whole.decoder, whole.decoder_note) == ("misbehaving", "")
    assert whole.frame_index_F.tolist() == [0, 8, 16, 24]
    assert whole.frames_FHWC.shape == (4, 32, 32, 3)
    assert whole.frames_FHWC.mean(axis=(1, 2, 3)) == pytest.approx([0, 80, 160, 240], abs=3)
    assert part.frame_index_F.tolist() == [5, 6, 8, 9]
    assert part.time_s_F.tolist() == pytest.approx([0.2, 0.24, 0.32, 0.36])
    assert (part.probe_cpu_s, whole.probe_cpu_s > 0) == (0, True)


def test_bug_in_a_decoder_is_no_reason_of_a_clip(read):
    with pytest.raises(ZeroDivisionError):
        read("buggy.mp4")
