"""Subtitles: files as they are found, the lines that frames fall into, and where they stand."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vxp_model.eval.benchmarks.base import SubtitleLine
from vxp_model.eval.benchmarks.subtitles import between_frames, on_screen, read_subtitles

SRT = """\
1
00:00:01,000 --> 00:00:02,500
<font color="white" size=".72c">Good  morning</font>
<i>everyone</i>

00:00:00.500 --> 00:00:01.000 position:10%
Plain &amp; early

3
no times
lost

4
1:00:00,000 --> 1:00:02,000

5
00:10,250 --> 00:12
Short {\\an8}stamps
"""


def line(start_s, end_s, text="x"):
    return SubtitleLine(start_s=start_s, end_s=end_s, text=text)


def read(tmp_path, name, data, offset_s=0.0, duration_s=100.0):
    path = tmp_path / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return read_subtitles(path, offset_s, duration_s)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_subrip_is_read_without_tags_and_without_bad_blocks(tmp_path, end):
    assert read(tmp_path, "a.srt", SRT.replace("\n", end)) == (
        line(0.5, 1.0, "Plain & early"),
        line(1.0, 2.5, "Good morning everyone"),
        line(10.25, 12.0, "Short stamps"),
    )


def test_blocks_without_empty_lines_between_them_and_with_some_inside_are_read(tmp_path):
    times = "00:00:0{},000 --> 00:00:0{},500\n".format
    text = (
        f"1\n{times(1, 1)}one\n2\n{times(2, 2)}two\n\nmore\n\n3\n{times(3, 3)}\n"
        f"4\n{times(4, 4)}1984\n5\n{times(5, 5)}- five\n- 5"
    )
    wanted = (
        line(1.0, 1.5, "one"),
        line(2.0, 2.5, "two more"),
        line(4.0, 4.5, "1984"),
        line(5.0, 5.5, "- five - 5"),
    )
    assert read(tmp_path, "a.srt", text) == wanted
    assert read(tmp_path, "b.srt", text.replace("\n", "\r")) == wanted
    assert read(tmp_path, "c.srt", text.encode("utf-16")) == wanted
    # U+2028 ends a line nowhere but in Python
    assert read(tmp_path, "d.srt", f"1\n{times(1, 1)}a\u2028b\n") == (line(1.0, 1.5, "a b"),)


def test_both_forms_of_longvideobench_are_read_in_the_videos_own_time(tmp_path):
    rows = [
        {"start": "00:00:31.2", "end": "00:00:32.5", "line": "one"},
        {"timestamp": [33, 34.5], "text": "two"},
        {"timestamp": [130.0, None], "text": "to the end"},
        {"timestamp": [1], "text": "bad"},
        {"start": "soon", "end": "later", "line": "bad"},
        {"start": 3, "end": 4},
        "bad",
    ]
    assert read(tmp_path, "a.json", json.dumps(rows), offset_s=30.0, duration_s=110.0) == (
        line(pytest.approx(1.2), 2.5, "one"),
        line(3.0, 4.5, "two"),
        line(100.0, 110.0, "to the end"),
    )


def test_no_file_is_none_and_a_broken_one_has_no_lines(tmp_path):
    assert read_subtitles(tmp_path / "none.srt", 0.0, 1.0) is None
    assert read_subtitles(tmp_path, 0.0, 1.0) is None
    assert read(tmp_path, "a.json", "{") == ()
    assert read(tmp_path, "b.json", "[" * 100_000) == ()
    assert read(tmp_path, "a.srt", "") == ()


def test_another_encoding_does_not_raise(tmp_path):
    latin = "1\n00:00:01,000 --> 00:00:02,000\ncaf\u00e9\n".encode("latin-1")
    (one,) = read(tmp_path, "a.srt", latin)
    assert one.text.startswith("caf")
    marked = b"\xef\xbb\xbf1\n00:00:01,000 --> 00:00:02,000\nhi\n"
    assert read(tmp_path, "b.srt", marked) == (line(1.0, 2.0, "hi"),)


@given(data=st.binary(max_size=200), name=st.sampled_from(["a.srt", "a.json"]))
def test_nothing_in_a_file_raises(tmp_path_factory, data, name):
    assert read(tmp_path_factory.getbasetemp(), name, data) is not None


def test_lines_on_screen_at_a_frame_are_taken_once_in_time_order():
    lines = [line(0, 1, "a"), line(1, 5, "b"), line(2.5, 3.5, "c"), line(6, 7, "d")]
    found = on_screen(lines, (1.0, 2.0, 3.0, 7.0))
    assert [one.text for one in found] == ["b", "c"]  # a has ended at 1, d at 7
    assert on_screen(lines, ()) == ()


@given(
    frames=st.lists(st.integers(0, 20), max_size=8),
    spans=st.lists(st.tuples(st.integers(0, 20), st.integers(-2, 9)), max_size=8),
)
def test_on_screen_is_a_line_in_which_a_frame_lies(frames, spans):
    lines = [line(start, start + length, f"{i}") for i, (start, length) in enumerate(spans)]
    times = tuple(map(float, sorted(frames)))
    wanted = [one for one in lines if any(one.start_s <= t < one.end_s for t in times)]
    assert list(on_screen(lines, times)) == wanted


def test_a_line_stands_behind_the_frames_up_to_its_middle():
    lines = [line(0, 3, "a"), line(3.2, 3.8, "b"), line(5.1, 5.9, "c"), line(9, 12, "d")]
    frames = (0.0, 1.0, 2.0, 4.0, 6.0, 10.0)
    # b lasts 0.6 s around 3.5 and counts as 3 to 4, which no frame is inside; c as 5 to 6
    assert between_frames(lines, frames) == ((1.5, "a"), (10.5, "d"))
    assert between_frames([line(3.4, 3.8, "b")], (3.2, 5.0)) == ((pytest.approx(3.6), "b"),)


def test_lines_never_go_back_in_time():
    lines = [line(0, 10, "long"), line(1, 3, "inside")]
    assert between_frames(lines, (2.0, 4.0)) == ((5.0, "long"), (5.0, "inside"))


def interleaved(frames, texts):
    """Frames and texts in their order: a text before the first frame that is later."""
    told = sorted([(t, 0, f"frame {t}") for t in frames] + [(t, 1, text) for t, text in texts],
                  key=lambda one: one[:2])  # fmt: skip
    return [text for _, _, text in told]


def by_their_loop(frames, lines):
    """The published loop over subtitles, written anew."""
    out, at = [], 0
    for one in lines:
        middle = (one.start_s + one.end_s) / 2
        while at < len(frames) and frames[at] <= middle:
            out.append(f"frame {frames[at]}")
            at += 1
        start, end = one.start_s, one.end_s
        if end - start < 1:
            start, end = middle - 0.5, middle + 0.5
        if any(start < t < end for t in frames):
            out.append(one.text)
    return out + [f"frame {t}" for t in frames[at:]]


@given(
    frames=st.lists(st.integers(0, 40), max_size=8, unique=True),
    starts=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 12)), max_size=8),
)
def test_frames_and_lines_alternate_as_in_the_published_loop(frames, starts):
    times = tuple(frame / 4 for frame in sorted(frames))
    lines = [line(s / 4, (s + n) / 4, f"{i}") for i, (s, n) in enumerate(sorted(starts))]
    assert interleaved(times, between_frames(lines, times)) == by_their_loop(times, lines)
