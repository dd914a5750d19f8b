"""In the child: facts and timeline of a file by its index, of whose images only parts are read.

A file that is being fetched has its full length and its header; where images were not fetched it
holds zeros. Its header's index says where each image lies, so that only those that a plan needs are
fetched. A file on a disk is opened as it is, and then read through `HollowFile`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

from vxp_data.decoders.base import FramePlan
from vxp_data.decoders.hollow import HollowFile
from vxp_data.decoders.probe import Probe, open_video, probe
from vxp_data.decoders.runs import runs_of
from vxp_data.decoders.sandbox import cap_memory
from vxp_data.errors import MediaError
from vxp_data.records import MediaLimits, Reason

_PROBED_BYTES = 5_000_000
"""FFmpeg looks at so many bytes of packets at most to find out about the streams (`probesize`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedProbe:
    """A probe of a sparse file, and where in the file everything lies."""

    probe: Probe
    offset_P: NDArray[np.int64]
    """First byte of each packet of the video stream, by position."""
    num_bytes_P: NDArray[np.int64]
    head: list[tuple[int, int]]
    """Byte ranges [start, stop) that FFmpeg may look at when it opens the file: where they are not
    there, the probe may be wrong."""


def probe_indexed(path: str, uri: str, limits: MediaLimits) -> IndexedProbe:
    """Probe a sparse file under the memory cap.

    Raises:
        MediaError: as `probe.probe`, or `unsupported` where the index does not list every packet.
    """
    cap_memory()
    found = probe(path, uri, limits=limits, sparse=True)
    with open_video(path, limits=limits) as (container, stream):
        entries = stream.index_entries
        return IndexedProbe(
            probe=found,
            offset_P=np.array([entry.pos for entry in entries], dtype=np.int64),
            num_bytes_P=np.array([entry.size for entry in entries], dtype=np.int64),
            head=_head(container),
        )


def probe_by_index(path: str, uri: str, limits: MediaLimits) -> Probe:
    """Probe a whole file on a disk under the memory cap, reading what `HollowFile` reads of it.

    Args:
        path: a local MP4 or QuickTime file with one index of all its frames, so big that it is
            named by a sampled digest.
        uri: the name under which it is recorded.
        limits: what it may hold at most.

    Raises:
        MediaError: as `probe.probe`, or `unsupported` where the index cannot be used.
    """
    cap_memory()
    try:
        with HollowFile(path) as hollow:
            found = probe(path, uri, limits=limits, hollow=hollow)
    except OSError as error:
        raise MediaError(Reason.UNREADABLE, str(error)) from error
    if not found.timeline.timed:  # its frames are decoded from the start, whatever the index says
        raise MediaError(Reason.UNSUPPORTED, "the index has no usable timestamps")
    return found


def ranges_of(
    plan: FramePlan, offset_P: NDArray[np.int64], num_bytes_P: NDArray[np.int64]
) -> list[tuple[int, int]]:
    """Return the byte ranges [start, stop) of all packets that PyAV decodes for a plan.

    Packets between two runs may be read, but nobody looks at what is in them.

    Args:
        plan: at least one frame, with timestamps.
        offset_P: first byte of each packet, by position.
        num_bytes_P: its size.
    """
    return [
        (int(offset_P[position]), int(offset_P[position] + num_bytes_P[position]))
        for run in runs_of(plan)
        for position in range(run.start, run.end + 1)
    ]


def _head(container: InputContainer) -> list[tuple[int, int]]:
    """Find the packets of all streams that come first, in the order of their time."""
    first = sorted(packet for stream in container.streams for packet in _first_packets(stream))
    ranges, total = [], 0
    for _, offset, num_bytes in first:
        ranges.append((offset, offset + num_bytes))
        total += num_bytes
        if total > _PROBED_BYTES:
            break
    return ranges


def _first_packets(stream: object) -> Iterator[tuple[float, int, int]]:
    """Return (seconds, offset, bytes) of a stream's packets, as many as could be looked at."""
    total = 0
    time_base = float(getattr(stream, "time_base", None) or 1)
    for entry in getattr(stream, "index_entries", ()):
        yield entry.timestamp * time_base, entry.pos, entry.size
        total += entry.size
        if total > _PROBED_BYTES:
            return
