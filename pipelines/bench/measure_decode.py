"""Measure one clip for `decode.py`: our calls and decord's, in a child process each.

The floor of ours is measured too: libavcodec alone on the packets that must be decoded. Beside the
CPU time: whether both give the same frames, and, where key frames are read, what that
does to a clip's redundancy.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from av.codec.context import ThreadType
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream
from numpy.typing import NDArray

from vxp_data.core.frame_sampling import Seek, plan_indices, uniform
from vxp_data.core.similarity import MEAN_PAIRWISE
from vxp_data.core.thresholds import cut, parse_keep
from vxp_data.decoders import decode_session, pyav_decoder
from vxp_data.decoders.base import FramePlan, FrameSize
from vxp_data.decoders.image import Image, Orientation
from vxp_data.decoders.packets import packets_of
from vxp_data.decoders.probe import open_video, probe
from vxp_data.decoders.runs import runs_of
from vxp_data.decoders.sandbox import Sandbox
from vxp_data.encoders.thumbnail import ThumbnailEncoder
from vxp_data.errors import MediaError
from vxp_data.records import Reason

MEMORY_BYTES: Final = 4 << 30
SAME_FRAME_SLACK: Final = 0.5
"""Grey levels by which a neighbour may be nearer before a frame counts as another one: in a still
stretch neighbours differ less than two libraries' rounding."""
OURS_TIMEOUT_S: Final = 120.0


# In the children


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
    """What one call of ours gave; `cpu_s` is what it took, import of libraries not counted."""

    cpu_s: float
    probe_cpu_s: float
    decode_cpu_s: float
    scale_cpu_s: float
    """Part of the decode; 0 where it was not asked for."""
    num_frames_video: int
    what: str
    """Container, codec and size in words."""
    index_F: NDArray[np.int64]
    frames_FHWC: NDArray[np.uint8] | None


def run_ours(path: str, num_frames: int, px: int, seek: Seek, split: bool, give: bool) -> Ours:
    """Probe, plan and decode; `split` takes the time of scaling too, `give` returns the frames."""
    _TimedImage.cpu_s = 0.0
    vars(decode_session)["Image"] = _TimedImage if split else Image
    started_s = time.process_time()
    probed = probe(path, "clip", keep_open=True)
    probed_s = time.process_time()
    timeline, media = probed.timeline, probed.media
    index_F = plan_indices(
        timeline.time_s_N,
        timeline.is_key_N,
        sampler=uniform,
        num_frames=num_frames,
        seek=seek if timeline.timed else "exact",
    )
    size = FrameSize(width_px=px, height_px=px)
    decoded = pyav_decoder.PyavDecoder().decode(path, media, timeline.plan(index_F), size)
    ended_s = time.process_time()
    return Ours(
        cpu_s=ended_s - started_s,
        probe_cpu_s=probed_s - started_s,
        decode_cpu_s=ended_s - probed_s,
        scale_cpu_s=_TimedImage.cpu_s,
        num_frames_video=len(timeline),
        what=f"{media.container}/{media.codec} {media.width_px}x{media.height_px}",
        index_F=index_F,
        frames_FHWC=decoded.frames_FHWC if give else None,
    )


def run_codec(path: str, index_F: NDArray[np.int64]) -> float:
    """Decode what the planned frames need, and nothing else; return the CPU seconds.

    The packets are read before the clock starts, images come out and are thrown away. What PyAV
    takes to hand over packets and images is in it.
    """
    plan = probe(path, "clip").timeline.plan(index_F)
    with open_video(path) as (container, stream):
        packets = [packet for packet in packets_of(container, stream) if packet.size]
        codec = stream.codec_context
        codec.thread_count, codec.thread_type = 1, ThreadType.NONE
        started_s = time.process_time()
        if plan.timed:
            _decode_runs(codec, packets, plan)
        else:
            _decode_first(codec, packets, int(index_F[-1]) + 1)
        return time.process_time() - started_s


def _decode_runs(
    codec: VideoCodecContext, packets: Sequence[Packet[VideoStream]], plan: FramePlan
) -> None:
    wanted = frozenset(plan.position_F.tolist())
    for run in runs_of(plan):
        for position in range(run.start, run.end + 1):
            codec.skip_frame = "DEFAULT" if position in wanted else "NONREF"
            codec.decode(packets[position])
        codec.decode(None)
        codec.flush_buffers()


def _decode_first(
    codec: VideoCodecContext, packets: Sequence[Packet[VideoStream]], num_frames: int
) -> None:
    for packet in packets:
        num_frames -= len(codec.decode(packet))
        if num_frames <= 0:
            break


def run_decord(path: str, index_F: NDArray[np.int64], px: int) -> float:
    """Open and get the batch; return the CPU seconds.

    Raises:
        MediaError: decord cannot open the file or get the frames.
    """
    started_s = time.process_time()  # the library is loaded: `compare_decord` came before
    with _decord_errors():
        _reader(path, px).get_batch(index_F.tolist())
    return time.process_time() - started_s


def compare_decord(
    path: str, index_F: NDArray[np.int64], px: int, ours_FHWC: NDArray[np.uint8]
) -> tuple[int, list[float], list[bool]]:
    """Compare our frames with decord's of the same numbers, and with those beside them.

    Returns:
        decord's number of frames; mean absolute difference per frame, grey levels; whether no
        neighbour of the frame is nearer to ours. The lists are empty where the numbers differ.
    """
    with _decord_errors():
        reader = _reader(path, px)
    num_frames = len(reader)
    if index_F[-1] >= num_frames:
        return num_frames, [], []
    wanted_M = np.unique(np.concatenate([index_F - 1, index_F, index_F + 1]))
    wanted_M = wanted_M[(wanted_M >= 0) & (wanted_M < num_frames)]
    row_of = {index: row for row, index in enumerate(wanted_M.tolist())}
    with _decord_errors():
        theirs_MHWC = reader.get_batch(wanted_M.tolist()).asnumpy()
    away, same = [], []
    for ours, index in zip(ours_FHWC, index_F.tolist(), strict=True):
        at = {i: _difference(ours, theirs_MHWC[row_of[index + i]]) for i in (-1, 0, 1)
              if index + i in row_of}  # fmt: skip
        away.append(at[0])
        same.append(at[0] <= min(at.values()) + SAME_FRAME_SLACK)
    return num_frames, away, same


def score_ours(path: str, num_frames: int, seek: Seek) -> tuple[float, list[int]]:
    """Return the redundancy of a clip by thumbnails, and which frames it is from."""
    px = ThumbnailEncoder.spec.frame_px
    ours = run_ours(path, num_frames, px, seek, False, True)
    assert ours.frames_FHWC is not None
    emb_FD = ThumbnailEncoder().embed(ours.frames_FHWC)
    return float(MEAN_PAIRWISE.compute(emb_FD[None])[0]), ours.index_F.tolist()


class _TimedImage(Image):
    """Scaling with a stopwatch, put in the decoder's place of it for one call."""

    cpu_s = 0.0

    def draw(self, frame: Any, orientation: Orientation, out_HWC: NDArray[np.uint8]) -> None:
        started_s = time.process_time()
        super().draw(frame, orientation, out_HWC)
        _TimedImage.cpu_s += time.process_time() - started_s


def _reader(path: str, px: int) -> Any:
    import decord

    return decord.VideoReader(path, ctx=decord.cpu(0), width=px, height=px, num_threads=1)


@contextmanager
def _decord_errors() -> Iterator[None]:
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    try:
        yield
    except (decord.DECORDError, RuntimeError, IndexError) as error:
        words = str(error).strip().splitlines()[0].rpartition("] ")[2]
        raise MediaError(Reason.DECODE_FAILED, words) from error


def _difference(a_HWC: NDArray[np.uint8], b_HWC: NDArray[np.uint8]) -> float:
    return float(np.abs(a_HWC.astype(np.int16) - b_HWC.astype(np.int16)).mean())


# In the parent


@dataclass(slots=True, kw_only=True)
class ClipResult:
    """One clip's figures, as the record has them. CPU seconds are medians of the repeats."""

    clip: str
    what: str = ""
    num_frames_video: int = 0
    frames: int = 0
    left_out: str = ""
    """Why the clip is not in the sums; '' if it is."""
    ours_cpu_s: float = 0.0
    probe_cpu_s: float = 0.0
    decode_cpu_s: float = 0.0
    scale_cpu_s: float = 0.0
    """Part of decode_cpu_s, from one further call."""
    codec_cpu_s: float = 0.0
    """libavcodec alone, on the packets that must be decoded."""
    decord_cpu_s: float = 0.0
    """The uniform frames, whatever `seek` is: what is read today."""
    decord_same_frames_cpu_s: float | None = None
    """The key frames that we read; None where we read the uniform frames."""
    mean_abs_difference: float = 0.0
    max_abs_difference: float = 0.0
    """Of one frame, mean over its pixels; grey levels."""
    same_frames: int = 0
    redundancy_exact: float | None = None
    redundancy: float | None = None

    @property
    def ratio(self) -> float:
        """How many times cheaper ours is."""
        return self.decord_cpu_s / self.ours_cpu_s

    @property
    def uses_key_frames(self) -> bool:
        """Whether the frames are others than the uniform ones."""
        return self.decord_same_frames_cpu_s is not None

    def facts(self) -> dict[str, Any]:
        """Return a row of the record: numbers to four significant digits."""
        row = {name: short(value) for name, value in asdict(self).items()}
        if self.left_out:
            return {name: row[name] for name in ("clip", "what", "left_out", "ours_cpu_s")}
        return {**row, "decord_over_ours": short(self.ratio), "slower": self.ratio < 1}


@dataclass(slots=True)
class Bench:
    """The two children, and how the clips are measured."""

    num_frames: int
    px: int
    repeat: int
    seek: Seek
    ours: Sandbox = field(default_factory=lambda: Sandbox(MEMORY_BYTES))
    decord: Sandbox = field(default_factory=lambda: Sandbox(MEMORY_BYTES))

    def close(self) -> None:
        """End the children."""
        self.ours.close()
        self.decord.close()

    def measure(self, path: Path) -> ClipResult:
        """Measure one clip; a failure of either library is written into the result."""
        result = ClipResult(clip=path.name)
        try:
            first = self._ours(path, split=True, give=True)
            again = self._ours(path, split=True)  # the first call loads what a codec needs
        except MediaError as error:
            result.left_out = f"ours: {_plain(error)}"
            return result
        result.what, result.num_frames_video = first.what, first.num_frames_video
        result.frames, result.ours_cpu_s = len(first.index_F), again.cpu_s
        result.scale_cpu_s = again.scale_cpu_s
        timeout_s = 10 + 40 * first.cpu_s  # a hang ends here: nothing takes so much longer
        try:
            result.left_out = self._compare(path, first, result, timeout_s)
            if not result.left_out:
                self._take_turns(path, first.index_F, result, timeout_s)
        except MediaError as error:
            result.left_out = f"decord: {_plain(error)}"
        if self.seek != "exact":
            self._score(path, result)
        return result

    def _ours(self, path: Path, *, split: bool = False, give: bool = False) -> Ours:
        arguments = (str(path), self.num_frames, self.px, self.seek, split, give)
        return self.ours.call(run_ours, *arguments, timeout_s=OURS_TIMEOUT_S).value

    def _compare(self, path: Path, first: Ours, result: ClipResult, timeout_s: float) -> str:
        counted, away, same = self.decord.call(
            compare_decord, str(path), first.index_F, self.px, first.frames_FHWC,
            timeout_s=timeout_s,
        ).value  # fmt: skip
        if counted != first.num_frames_video:
            return f"decord counts {counted} frames, the container has {first.num_frames_video}"
        result.mean_abs_difference = float(np.mean(away))
        result.max_abs_difference = max(away)
        result.same_frames = sum(same)
        return ""

    def _take_turns(
        self, path: Path, index_F: NDArray[np.int64], result: ClipResult, timeout_s: float
    ) -> None:
        uniform_F = uniform(result.num_frames_video, self.num_frames)
        is_other = not np.array_equal(uniform_F, index_F)
        ours: list[Ours] = []
        codec_s: list[float] = []
        decord: dict[bool, list[float]] = {False: [], True: []}  # by: the key frames?
        for _ in range(self.repeat):
            ours.append(self._ours(path))
            alone = self.ours.call(run_codec, str(path), index_F, timeout_s=OURS_TIMEOUT_S)
            codec_s.append(alone.value)
            for keys in (False, True) if is_other else (False,):
                wanted_F = index_F if keys else uniform_F
                timed = self.decord.call(
                    run_decord, str(path), wanted_F, self.px, timeout_s=timeout_s
                )
                decord[keys].append(timed.value)
        result.ours_cpu_s = _median(one.cpu_s for one in ours)
        result.probe_cpu_s = _median(one.probe_cpu_s for one in ours)
        result.decode_cpu_s = _median(one.decode_cpu_s for one in ours)
        result.codec_cpu_s = _median(codec_s)
        result.decord_cpu_s = _median(decord[False])
        result.decord_same_frames_cpu_s = _median(decord[True]) if is_other else None

    def _score(self, path: Path, result: ClipResult) -> None:
        score: dict[Seek, float] = {}
        seeks: tuple[Seek, ...] = ("exact", self.seek)
        for seek in seeks:
            arguments = (str(path), self.num_frames, seek)
            score[seek], _ = self.ours.call(
                score_ours, *arguments, timeout_s=OURS_TIMEOUT_S
            ).value  # fmt: skip
        result.redundancy_exact, result.redundancy = score["exact"], score[self.seek]


def redundancy(results: Sequence[ClipResult]) -> dict[str, Any]:
    """Compare redundancy from the frames read with that from the uniform ones."""
    scored = [result for result in results if result.redundancy is not None]
    exact_N = np.array([result.redundancy_exact for result in scored], dtype=np.float64)
    other_N = np.array([result.redundancy for result in scored], dtype=np.float64)
    names = [result.clip for result in scored]
    half = parse_keep("0.5")
    kept_N, kept_other_N = (
        cut(half, score_N, names, MEAN_PAIRWISE).keep_N for score_N in (exact_N, other_N)
    )
    away_N = np.abs(exact_N - other_N)
    return {
        "clips": len(scored),
        "mean_abs_difference": short(float(away_N.mean())),
        "max_abs_difference": short(float(away_N.max())),
        "max_at": names[int(away_N.argmax())],
        "spearman": short(float(np.corrcoef(_ranks(exact_N), _ranks(other_N))[0, 1])),
        "change_side_at_keep_0.5": int((kept_N != kept_other_N).sum()),
    }


def _ranks(value_N: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rank from 0; equal values share the mean of their ranks."""
    _, index_N, count_U = np.unique(value_N, return_inverse=True, return_counts=True)
    mean_rank_U: NDArray[np.float64] = np.cumsum(count_U) - (count_U + 1) / 2
    ranks_N: NDArray[np.float64] = mean_rank_U[index_N]
    return ranks_N


def short(value: Any) -> Any:
    """Round a float to four significant digits; return anything else as it is."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _median(values: Iterable[float]) -> float:
    return float(np.median(list(values)))


def _plain(error: MediaError) -> str:
    """Return an error's words on one line, without paths."""
    words = str(error).replace("\n", " ").split()
    return " ".join(Path(word).name if "/" in word[:-1] and word[0] in "/'[" else word
                    for word in words)[:200]  # fmt: skip
