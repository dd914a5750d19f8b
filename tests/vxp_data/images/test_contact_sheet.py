"""Contact sheets: the frames in order, within the bound, the same bytes each time."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from support.runs import caption_row, run_prune, write_rows
from support.shard_fixtures import make_video
from vxp_data.images.contact_sheet import contact_sheet


def flat_frames(number: int, side_px: int) -> np.ndarray:
    """Frames of one colour each: 10, 20, 30, ..."""
    level = (10 * (np.arange(number) + 1)).astype(np.uint8)
    return np.broadcast_to(level[:, None, None, None], (number, side_px, side_px, 3)).copy()


@pytest.mark.parametrize(
    ("number", "side_px", "size"),
    [(20, 64, (320, 256)), (20, 384, (480, 384)), (7, 96, (480, 192)), (1, 64, (64, 64))],
)
def test_frames_stand_in_order_five_in_a_row(
    number: int, side_px: int, size: tuple[int, int]
) -> None:
    sheet = contact_sheet(flat_frames(number, side_px), max_bytes=100_000)
    assert sheet is not None
    image = Image.open(io.BytesIO(sheet))
    assert (image.format, image.size) == ("WEBP", size)
    tile_px = min(96, side_px)
    columns = size[0] // tile_px
    for index in range(number):
        x, y = (index % columns + 0.5) * tile_px, (index // columns + 0.5) * tile_px
        pixel = image.getpixel((int(x), int(y)))
        assert isinstance(pixel, tuple)
        assert abs(pixel[0] - 10 * (index + 1)) <= 4


def test_a_sheet_keeps_within_its_bound_or_is_none() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (20, 64, 64, 3), dtype=np.uint8)
    free = contact_sheet(noise, max_bytes=10**6)
    bound = contact_sheet(noise, max_bytes=len(free or b"") - 1)
    assert free is not None
    assert bound is not None
    assert len(bound) < len(free)
    assert contact_sheet(noise, max_bytes=100) is None
    assert contact_sheet(noise, max_bytes=10**6) == free


def test_prune_keeps_a_sheet_a_clip_and_the_same_embeddings_without(
    tmp_path: Path, engine: None
) -> None:
    del engine
    for number in range(2):
        make_video(tmp_path / f"{number}.mp4", 30, seed=number)
    rows = [caption_row(f"r{i}", name) for i, name in enumerate(["0.mp4", "1.mp4", "gone.mp4"])]
    manifest = write_rows(tmp_path / "rows.json", rows)
    run_prune(manifest, tmp_path / "with")
    run_prune(manifest, tmp_path / "without", thumbnails__max_bytes=0)
    assert not (tmp_path / "without" / "thumbnails").exists()
    parts = sorted((tmp_path / "with" / "embeddings").iterdir())
    for part in parts:
        assert part.read_bytes() == (tmp_path / "without" / "embeddings" / part.name).read_bytes()
    sheets = sorted((tmp_path / "with" / "thumbnails").iterdir())
    assert [path.name for path in sheets] == [path.name for path in parts]
    found = [row for path in sheets for row in pq.read_table(path).to_pylist()]
    drawn = {Path(row["uri"]).name: row["sheet"] for row in found if row["sheet"]}
    assert set(drawn) == {"0.mp4", "1.mp4"}
    assert Image.open(io.BytesIO(drawn["0.mp4"])).size == (320, 256)
