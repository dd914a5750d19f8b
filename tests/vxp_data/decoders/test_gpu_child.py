"""The one child of a GPU, with decoders that stand in for the one on a GPU."""

from __future__ import annotations

import math
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from support.gpu_stand_ins import offer_stand_ins
from vxp_data.decoders.base import FrameSize
from vxp_data.decoders.child import decode_file
from vxp_data.decoders.gpu_child import GpuJob
from vxp_data.decoders.gpu_sandbox import GpuFrames, GpuSandbox
from vxp_data.decoders.probe import probe
from vxp_data.decoders.sandbox import Sandbox
from vxp_data.errors import MediaError, UserError
from vxp_data.pipeline.media.clips import ClipFrames, ClipReader, MediaItem
from vxp_data.settings.prune import DecodeConfig, FramesConfig


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "5", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for i in range(25):
            shade = np.full((64, 64, 3), 10 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shade, format="rgb24")))
        container.mux(stream.encode(None))
    return path


NewReader = Callable[..., ClipReader]


@pytest.fixture
def new_reader(tmp_path, monkeypatch) -> Iterator[NewReader]:
    """Make readers as decoding workers have one each; close them at the end."""
    offer_stand_ins(tmp_path / "installed", monkeypatch)
    readers = []

    def new_reader(decoder="misbehaving-on-gpu", **decode):
        settings = {"timeout_s": 4, "memory_mib": 128, "nvdec_gain": 0, "fallback": None} | decode
        config = DecodeConfig(decoder=decoder, **settings)
        readers.append(ClipReader(FramesConfig(num_frames=4), config, frame_px=32))
        return readers[-1]

    yield new_reader
    for reader in readers:
        reader.close()


@pytest.fixture
def named(clip, tmp_path):
    """Copy the clip to a telling name."""
    return lambda name: Path(shutil.copy(clip, tmp_path / name))


def read(reader: ClipReader, path: Path) -> ClipFrames:
    item = MediaItem(uri=str(path), is_image=False, file_version="1-2", clips_s=((0.0, math.inf),))
    (only,) = reader.read(item)
    return only


def job_of(path: Path) -> GpuJob:
    """Ask for the first and the last of a clip's 25 images."""
    found = probe(str(path), str(path))
    return GpuJob(
        decoder="misbehaving-on-gpu",
        path=str(path),
        media=found.media,
        plan=found.timeline.plan(np.array([0, 24])),
        size=FrameSize(width_px=32, height_px=32),
        timeout_s=4,
    )


def child_of(read_clip: ClipFrames) -> int:
    """Return the process that decoded a clip."""
    assert (read_clip.reason, read_clip.decoder) == (None, "misbehaving-on-gpu")
    return int.from_bytes(read_clip.frames_FHWC[0, 0, 0, :3].tobytes(), "little")


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def is_there(pid: int) -> bool:
    """Whether a process lives; one that its parent has not asked about yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone_within(pid: int, limit_s: float) -> bool:
    until_s = time.monotonic() + limit_s
    while is_there(pid) and time.monotonic() < until_s:
        time.sleep(0.05)
    return not is_there(pid)


def test_workers_share_one_child_which_ends_with_the_last_of_them(new_reader, named):
    first, second = new_reader(), new_reader()
    children = {child_of(read(reader, named("good.mp4"))) for reader in (first, second)}
    assert len(children) == 1
    child = children.pop()
    server = parent_of(child)
    assert server != os.getpid()
    first.close()
    assert child_of(read(second, named("good.mp4"))) == child
    second.close()
    assert gone_within(child, 10)
    assert gone_within(server, 10)


def test_frames_are_those_that_the_same_decoder_gives_elsewhere(new_reader, named):
    ours = read(new_reader("pyav"), named("good.mp4"))
    theirs = read(new_reader(), named("good.mp4"))
    assert theirs.frame_index_F.tolist() == ours.frame_index_F.tolist() == [0, 8, 16, 24]
    assert (theirs.frames_FHWC[:, 1:] == ours.frames_FHWC[:, 1:]).all()
    assert theirs.frames_exact == 4
    assert theirs.decode_cpu_s > 0
    assert theirs.decoder_note == ""


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        pytest.param("hangs.mp4", "timeout", marks=pytest.mark.slow),
        ("crashes.mp4", "crashed"),
        ("hoards.mp4", "out_of_memory"),
    ],
)
def test_a_file_that_takes_the_child_down_is_decoded_on_a_core_and_the_next_has_a_new_child(
    name, reason, new_reader, named
):
    reader = new_reader()
    before = child_of(read(reader, named("good.mp4")))
    taken = read(reader, named(name))
    assert (taken.reason, taken.decoder) == (None, "pyav")
    assert taken.decoder_note.startswith(f"misbehaving-on-gpu: {reason}: ")
    assert child_of(read(reader, named("good.mp4"))) != before
    assert not is_there(before)


@pytest.mark.slow
@pytest.mark.usefixtures("new_reader")
def test_files_that_were_decoded_beside_the_one_to_blame_are_done_again_on_the_gpu(named):
    jobs = [job_of(named(name)) for name in ("good_0.mp4", "hangs.mp4", "good_1.mp4", "good_2.mp4")]
    sandbox = GpuSandbox(128 << 20)
    try:
        first, blamed, *others = sandbox.decode(jobs)
    finally:
        sandbox.close()
    assert isinstance(blamed, MediaError)
    assert blamed.reason.value == "timeout"
    for other in (first, *others):
        assert isinstance(other, GpuFrames)
        assert other.frames_FHWC[:, 1:].mean(axis=(1, 2, 3)) == pytest.approx([0, 240], abs=3)


def test_a_server_that_is_killed_is_replaced(new_reader, named):
    reader = new_reader()
    child = child_of(read(reader, named("good.mp4")))
    os.kill(parent_of(child), signal.SIGKILL)
    assert gone_within(child, 10)
    assert child_of(read(reader, named("good.mp4"))) != child


@pytest.mark.usefixtures("new_reader")
def test_a_child_whose_memory_is_limited_from_inside_decodes_nothing_for_a_gpu(named):
    job = job_of(named("good.mp4"))
    sandbox = Sandbox(1 << 30)
    call = (decode_file, job.decoder, job.path, job.media, job.plan, job.size)
    with pytest.raises(MediaError, match="decodes in the child of a GPU alone"):
        sandbox.call(*call, timeout_s=60)
    sandbox.close()


def test_a_bug_in_the_decoder_is_no_reason_of_a_clip(new_reader, named):
    reader = new_reader()
    with pytest.raises(Exception, match="a bug of the decoder"):
        read(reader, named("buggy.mp4"))
    assert child_of(read(reader, named("good.mp4")))


def test_a_gpu_that_cannot_be_used_ends_the_run(new_reader, named, monkeypatch):
    monkeypatch.setenv("VXP_TEST_NO_GPU", "1")
    with pytest.raises(UserError, match="no GPU, as asked"):
        read(new_reader(memory_mib=129), named("good.mp4"))  # a server of its own


def test_a_clip_that_gains_little_stays_on_a_core_and_says_so(new_reader, named):
    stays = read(new_reader(nvdec_gain=1.5), named("good.mp4"))
    assert stays.decoder == "pyav"
    assert stays.decoder_note.startswith("misbehaving-on-gpu: NVDEC would do the work of 0.")
    assert stays.decoder_note.endswith("cores, decode.nvdec_gain is 1.5")
