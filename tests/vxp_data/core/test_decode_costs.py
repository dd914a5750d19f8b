"""The cost of a clip on a core and on NVDEC, against measured ones and every way to share work."""

from __future__ import annotations

import math
import random
import statistics
from dataclasses import replace

import pytest

from vxp_data.core.decode_costs import (
    ClipWork,
    balanced_gain,
    core_s,
    cores_for,
    cores_replaced,
    engine_s,
)


def work(codec="h264", size=(1920, 1080), decoded=1790, mbit_s=18.0, fps=30, ten_bit=False):
    return ClipWork(
        codec=codec,
        is_ten_bit=ten_bit,
        megapixels=size[0] * size[1] / 1e6,
        num_decoded=decoded,
        num_drawn=20,
        kb_per_image=mbit_s * 1e3 / 8 / fps,
    )


LONG = work()
"""A minute of 1080p, key frames 250 images apart: nearly all of its 1,800 images are decoded."""


def test_cores_for_a_minute_of_1080p_are_those_that_were_counted():
    """303 cores at 30 videos a second, by measured decodes of such a file."""
    assert cores_for([LONG], 30) == pytest.approx(303, rel=0.05)


MEASURED = [
    # codec, size, images decoded, kB an image, CPU seconds with probe: manifests/runs/decode-exact
    ("h264", (1280, 720), 82, 8.4, 0.156),
    ("h264", (480, 360), 225, 3.9, 0.083),
    ("h264", (854, 480), 720, 3.7, 0.380),
    ("h264", (640, 360), 281, 3.3, 0.151),
    ("h264", (1280, 720), 282, 6.0, 0.326),
    ("h264", (1280, 720), 284, 8.5, 0.406),
    ("h264", (1200, 1200), 922, 1.2, 0.884),
    ("h264", (640, 480), 107, 2.4, 0.068),
    ("h264", (768, 432), 369, 7.5, 0.221),
    ("hevc", (1920, 1080), 287, 3.5, 0.910),
    ("vp9", (320, 240), 82, 0.8, 0.033),
]


def test_cost_on_a_core_is_near_what_real_clips_took():
    shares = []
    for codec, size, decoded, kb, taken_s in MEASURED:
        clip = replace(work(codec, size, decoded), kb_per_image=kb)
        shares.append(core_s(clip) / taken_s)
    assert statistics.median(shares) == pytest.approx(1, abs=0.15)
    assert 0.7 < min(shares) < max(shares) < 1.4


def test_an_engine_decodes_as_many_images_a_second_as_nvidia_states():
    long, longer = work(decoded=10_000), work(decoded=20_000)
    assert 10_000 / (engine_s(longer) - engine_s(long)) == pytest.approx(771)
    assert engine_s(work("mpeg4")) == math.inf
    assert cores_replaced(work("mpeg4")) == 0


def test_gain_goes_up_with_bytes_and_bits_and_down_with_small_clips():
    assert cores_replaced(work(mbit_s=18)) > cores_replaced(work(mbit_s=5)) > 1.5
    assert cores_replaced(work("hevc", ten_bit=True)) > cores_replaced(work("hevc"))
    assert cores_replaced(work(size=(320, 240), mbit_s=0.3)) < 1.5


def longest_s(works, gain, num_cores, num_engines):
    on_gpu = [clip for clip in works if cores_replaced(clip) >= gain]
    on_cores = [clip for clip in works if cores_replaced(clip) < gain]
    return max(sum(map(core_s, on_cores)) / num_cores, sum(map(engine_s, on_gpu)) / num_engines)


@pytest.mark.parametrize(("num_cores", "num_engines"), [(16, 7), (16, 1), (2, 7), (200, 1)])
def test_balanced_gain_is_the_best_of_all(num_cores, num_engines):
    draw = random.Random(num_cores)
    works = [
        work(
            draw.choice(["h264", "hevc", "vp9", "mpeg4"]),
            draw.choice([(320, 240), (1280, 720), (1920, 1080)]),
            draw.randrange(20, 2000),
            draw.uniform(0.3, 20),
        )
        for _ in range(60)
    ]
    gains = [math.inf, *map(cores_replaced, works)]
    best_s = min(longest_s(works, gain, num_cores, num_engines) for gain in gains)
    gain = balanced_gain(works, num_cores, num_engines)
    assert longest_s(works, gain, num_cores, num_engines) == pytest.approx(best_s)
