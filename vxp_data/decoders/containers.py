"""What a file is by its first bytes: for the reasons of files that will not open."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from vxp_data.decoders.mp4_box import BOX_HEAD_BYTES, box_at
from vxp_data.records import Reason

VIDEO_DEMUXERS: Final = (
    "asf",
    "av1",
    "avi",
    "flv",
    "gif",
    "h264",
    "hevc",
    "ivf",
    "m4v",
    "matroska",
    "mov",
    "mpeg",
    "mpegts",
    "mpegvideo",
    "mxf",
    "nut",
    "obu",
    "ogg",
    "webm",
)
"""FFmpeg demuxers that may open a row's video: self-contained formats only. Playlists and scripts
(hls, dash, concat, ...) name other files and hosts and are never opened."""

IMAGE_DEMUXERS: Final = (
    "apng",
    "bmp_pipe",
    "gif",
    "jpeg_pipe",
    "jpegxl_pipe",
    "mov",
    "png_pipe",
    "tiff_pipe",
    "webp_pipe",
)
"""Demuxers that may open a row's image ('mov': HEIC and AVIF)."""

_IMAGE_MAGIC: Final = {
    b"\xff\xd8\xff": "jpeg_pipe",
    b"\x89PNG": "png_pipe",
    b"BM": "bmp_pipe",
    b"II*\0": "tiff_pipe",
    b"MM\0*": "tiff_pipe",
}
_POINTS_ELSEWHERE: Final = (b"#EXTM3U", b"ffconcat", b"<?xml", b"<MPD", b"[playlist]", b"RTSPtext")
_MP4_BOXES: Final = frozenset(
    {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"moof", b"styp", b"sidx", b"uuid"}
)
_ENCRYPTED_SAMPLE_ENTRIES: Final = (b"encv", b"pssh", b"cenc", b"cbcs")
_MATROSKA_MAGIC: Final = b"\x1a\x45\xdf\xa3"
_MATROSKA_ENCRYPTION: Final = re.compile(rb"\x6d\x80.{1,8}\x62\x40.{1,64}\x50\x35", re.DOTALL)
_HEAD_BYTES: Final = 1 << 16


def image_demuxer(path: str) -> str | None:
    """Name the demuxer of an image by its first bytes; None for those that FFmpeg finds itself.

    Left to itself, FFmpeg goes by the file's name and takes '%d' in it for a sequence.
    """
    head = _head(path)
    for magic, demuxer in _IMAGE_MAGIC.items():
        if head.startswith(magic):
            return demuxer
    return "webp_pipe" if head[8:12] == b"WEBP" else None


def names_other_files(path: str) -> bool:
    """Whether a file begins as a playlist or script does, whatever else is in it.

    FFmpeg 8 goes by the name too and may find a video behind such a beginning; another decoder's
    FFmpeg goes by the beginning alone, and would follow it.
    """
    return _head(path).lstrip(b"\xef\xbb\xbf \r\n\t").startswith(_POINTS_ELSEWHERE)


def is_encrypted(path: str) -> bool:
    """Whether an MP4 or Matroska header declares common encryption of its samples."""
    head = _head(path)
    if head.startswith(_MATROSKA_MAGIC):
        return _MATROSKA_ENCRYPTION.search(head) is not None
    return _looks_like_mp4(head) and any(kind in head for kind in _ENCRYPTED_SAMPLE_ENTRIES)


def why_unopenable(path: str, message: str) -> tuple[Reason, str]:
    """Find the reason for a file that no allowed demuxer could open.

    Args:
        path: a readable, non-empty file.
        message: the demuxer's own words, returned with what was found.
    """
    if not _looks_like_mp4(_head(path)):
        return Reason.NOT_VIDEO, f"no allowed container ({message})"
    if is_encrypted(path):
        return Reason.ENCRYPTED, message
    if cut := mp4_cut_short(path):
        return Reason.TRUNCATED, f"{cut} ({message})"
    return Reason.CORRUPT, message


def mp4_cut_short(path: str) -> str:
    """Walk an MP4's top-level boxes; say what is missing, or nothing ('') where all is there."""
    num_bytes = Path(path).stat().st_size
    seen: list[bytes] = []
    with Path(path).open("rb") as file:
        offset = 0
        while len(seen) < 10_000:
            file.seek(offset)
            box = box_at(offset, file.read(BOX_HEAD_BYTES), num_bytes)
            if box is None:
                break
            seen.append(box.kind)
            offset = box.stop
            if offset > num_bytes:
                kind = box.kind.decode("latin-1")
                return f"box {kind!r} ends {offset - num_bytes} bytes past the file"
    if b"moov" not in seen:
        return "no 'moov' box"
    if not {b"mdat", b"moof"} & set(seen):
        return "a header without sample data"
    return ""


def _looks_like_mp4(head: bytes) -> bool:
    return head[4:8] in _MP4_BOXES


def _head(path: str) -> bytes:
    with Path(path).open("rb") as file:
        return file.read(_HEAD_BYTES)
