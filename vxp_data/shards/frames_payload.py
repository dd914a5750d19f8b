"""The frames payload: a tar of images, one a planned frame, so that training decodes no video.

Shapes: F frames, H x W pixels, C = 3 (red, green, blue).
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vxp_data.shard_format import frame_name
from vxp_data.shards.tar_file import TarWriter, read_bytes, read_members

_FORMAT_OPTIONS: Final[dict[str, dict[str, object]]] = {
    "jpeg": {"subsampling": 0, "optimize": True},  # 4:4:4: coloured edges stay where they are
    "webp": {"method": 4},
}


def pack_frames(
    frames: Iterable[tuple[int, NDArray[np.uint8]]],
    *,
    image_format: str,
    quality: int,
) -> bytes:
    """Write frames as images into a tar; the same frames give the same bytes.

    Args:
        frames: each frame's index in the file's presentation order, its name, and uint8
            [H, W, 3], red, green, blue.
        image_format: 'jpeg' or 'webp'.
        quality: 1 to 100, the encoder's own scale.
    """
    file = io.BytesIO()
    with TarWriter(file) as tar:
        for index, frame_HWC in frames:
            image = io.BytesIO()
            Image.fromarray(frame_HWC).save(
                image, format=image_format, quality=quality, **_FORMAT_OPTIONS[image_format]
            )
            tar.add(frame_name(index, image_format), image.getvalue())
    return file.getvalue()


def unpack_frames(data: bytes) -> dict[int, NDArray[np.uint8]]:
    """Read every image of a frames payload: uint8 [H, W, 3] by index in presentation order.

    Raises:
        ValueError: it is no whole tar of images named by their frames' indices.
    """
    file = io.BytesIO(data)
    frames: dict[int, NDArray[np.uint8]] = {}
    for member in list(read_members(file)):
        stem = member.name.partition(".")[0]
        if not (stem.isascii() and stem.isdecimal()) or int(stem) in frames:
            raise ValueError(f"member {member.name!r} is not named by a frame's index, or twice")
        try:
            with Image.open(io.BytesIO(read_bytes(file, member))) as image:
                frames[int(stem)] = np.asarray(image.convert("RGB"))
        except OSError as error:
            raise ValueError(f"member {member.name!r} is no image: {error}") from error
    return frames
