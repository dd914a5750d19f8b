"""The page about a run: what it shows, that it goes on without media, that texts stay texts."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.eval_runs import SPANS, Spans, answer, plan_of, shape_questions, write_run
from support.mllm_videos import write_colours
from vxp_model.errors import UserError
from vxp_model.eval.report import anchor_of, render_report, write_report
from vxp_model.eval.report_frames import bars, group_of, kept_shares, spread

pytestmark = pytest.mark.usefixtures("invented")

QUESTIONS = shape_questions(3)
EVIL = "<script>alert('x')</script>\"'&"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / "videos").mkdir()
    write_colours(folder / "videos/clip_0.mp4", num_frames=8, fps=1)
    write_colours(folder / "videos/clip_1.mp4", num_frames=40, fps=4)
    return folder  # and no clip_2


def plans(data: Path):
    sizes = [(data / f"videos/clip_{at}.mp4").stat().st_size for at in range(2)]
    first, second = (
        plan_of(f"videos/clip_{at}.mp4", num_frames=number, num_bytes=size)
        for at, number, size in zip(range(2), (8, 40), sizes, strict=True)
    )
    return [first, second, plan_of("videos/clip_2.mp4")]


class Page(HTMLParser):
    """Collects what a test looks at."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.images: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        own = dict(attrs)
        self.tags.append(tag)
        self.ids += [own["id"]] if "id" in own else []
        self.images += [own["src"]] if tag == "img" else []
        self.links += [own["href"]] if tag == "a" else []

    def handle_data(self, data):
        if self.lasttag != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def picture(uri: str) -> np.ndarray:
    assert uri.startswith("data:image/jpeg;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def test_frames_are_those_of_the_stored_plan(tmp_path, data):
    own = plans(data)
    own[0] = replace(own[0], frame_index=(1, 6), time_s=(1.0, 6.0))
    questions = [one for one in QUESTIONS if one.video == own[0].video][:1]
    run = write_run(tmp_path / "run", questions, lambda one: one.gold, plans=own, data=data)
    images = Page(render_report(run)).images
    levels = [picture(image).mean() for image in images]
    assert levels == pytest.approx([37, 6 * 37], abs=4)
    assert picture(images[0]).shape == (208, 208, 3)


def test_of_many_frames_twelve_are_shown(tmp_path, data):
    run = write_run(tmp_path / "run", QUESTIONS[3:4], lambda one: one.gold, plans=plans(data),
                    data=data)  # fmt: skip
    page = Page(render_report(run))
    assert len(page.images) == 12
    assert "12 of the 40 frames that were shown" in page.text


def test_missing_and_changed_videos_are_said_and_the_rest_goes_on(tmp_path, data):
    own = plans(data)
    own[1] = replace(own[1], num_bytes=own[1].num_bytes + 1)
    run = write_run(tmp_path / "run", QUESTIONS, lambda one: one.gold, plans=own, data=data)
    page = Page(render_report(run))
    assert len(page.images) == 8
    assert "videos/clip_1.mp4 is not the file that was shown" in page.text
    assert "clip_2.mp4: there is no such video" in page.text


def test_what_a_model_and_a_benchmark_say_stays_text(tmp_path):
    evil = [
        replace(one, text=EVIL, options=(EVIL, *one.options[1:]), groups={"task": EVIL})
        for one in QUESTIONS
    ]
    run = write_run(tmp_path / "run", evil, lambda one: one.gold if one.video < "videos/clip_1" else
                    EVIL, plans=[])  # fmt: skip
    text = render_report(run)
    page = Page(text)
    assert "script" not in page.tags
    assert EVIL in page.text
    assert "default-src 'none'" in text
    assert not re.search(r"(src|href)=\"(?!data:|#)", text)


def test_scores_counts_and_lists(tmp_path):
    def reply(one):
        return {"0-0": None, "0-1": "no idea"}.get(one.question_id, one.gold)

    page = Page(render_report(write_run(tmp_path / "run", QUESTIONS, reply)))
    assert "77.78 %" in page.text  # 7 of 9 over all
    assert "accuracy by task" in page.text
    assert "1 without an answer: missing . 0-0" in page.text
    assert "replies that cannot be read: 1 question reply 0-1 no idea" in page.text


def test_the_selectors_share_is_shown_by_group(tmp_path, data):
    run = write_run(tmp_path / "run", QUESTIONS[:1], lambda one: one.gold, plans=plans(data),
                    data=data, visual_tokens=64, kept_tokens=40, kept_by_group=[32, 8])  # fmt: skip
    page = Page(render_report(run))
    assert page.tags.count("rect") == 2
    assert "0:03 · 100 %" in page.text
    assert "0:04 · 25 %" in page.text
    assert "on average 62 %" in page.text


@pytest.mark.parametrize(
    ("frame", "num_frames", "num_groups", "group"),
    [(0, 8, 2, 0), (3, 8, 2, 0), (4, 8, 2, 1), (8, 9, 3, 2), (5, 6, 6, 5), (9, 10, 4, 3)],
)
def test_frames_are_in_groups_of_four_where_that_fits(frame, num_frames, num_groups, group):
    assert group_of(frame, num_frames, num_groups) == group


def test_many_groups_are_drawn_together():
    row = answer(QUESTIONS[0], "A", visual_tokens=4000, kept_by_group=[4, 0] * 500)
    share_G = kept_shares(row)
    assert share_G is not None
    assert set(share_G) == {1.0, 0.0}
    drawn = bars(share_G)
    assert len(drawn) == 96
    assert np.mean(drawn) == pytest.approx(0.5, abs=0.01)
    assert kept_shares(answer(QUESTIONS[0], "A")) is None


def test_frames_are_spread_from_the_first_to_the_last():
    assert spread(1) == [0]
    assert spread(5) == [0, 1, 2, 3, 4]
    assert (spread(100)[0], spread(100)[-1], len(spread(100))) == (0, 99, 12)


def test_answers_that_differ_link_to_the_same_place_in_the_other_page(tmp_path):
    a = write_run(tmp_path / "a", QUESTIONS, lambda one: one.gold)
    wrong = {one.question_id for one in QUESTIONS if one.question_id[0] in "01"}
    b = write_run(tmp_path / "deep/b", QUESTIONS,
                  lambda one: "E" if one.question_id in wrong else one.gold)  # fmt: skip
    page = Page(write_report(a, against=b).read_text(encoding="utf-8"))
    back = Page(write_report(b, against=a).read_text(encoding="utf-8"))
    anchors = {anchor_of("shapes", name) for name in wrong}
    links = {link for link in page.links if "report.html" in link}
    assert links == {f"../deep/b/report.html#{anchor}" for anchor in anchors}
    assert {link for link in back.links if "report.html" in link} == {
        f"../../a/report.html#{anchor}" for anchor in anchors
    }
    for one in (page, back):
        assert anchors <= set(one.ids)
        assert len(set(one.ids)) == len(one.ids)
    assert "a (A) against b (B)" in page.text
    apart = Page(write_report(a, against=b, out=tmp_path / "page.html").read_text(encoding="utf-8"))
    assert {link.partition("#")[0] for link in apart.links if "report.html" in link} == {
        "deep/b/report.html"
    }


def test_the_same_run_is_the_same_page(tmp_path, data):
    run = write_run(tmp_path / "run", QUESTIONS, lambda one: one.gold, plans=plans(data), data=data)
    assert render_report(run) == render_report(run)


def test_it_is_written_where_it_is_wanted(tmp_path):
    run = write_run(tmp_path / "run", QUESTIONS, lambda _: "\ud800")
    assert write_report(run) == run / "report.html"
    assert write_report(run, out=tmp_path / "x/page.html").is_file()


def test_a_second_run_that_is_none_or_has_other_benchmarks_is_refused(tmp_path):
    run = write_run(tmp_path / "run", QUESTIONS, lambda one: one.gold)
    with pytest.raises(UserError, match=r"nowhere: no evaluation lies there"):
        write_report(run, against=tmp_path / "nowhere")
    spans = [replace(QUESTIONS[0], options=(), groups={}, gold="0-10")]
    other = write_run(tmp_path / "other", spans, lambda _: "0-5", benchmark=SPANS)
    with pytest.raises(UserError, match=r"it has spans, and .* has shapes: no benchmark in common"):
        write_report(run, against=other)
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun/run.json").write_text("{}")
    with pytest.raises(UserError, match="has no questions yet"):
        write_report(tmp_path / "begun")


def test_a_part_of_a_benchmark_is_said_and_a_reference_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(Spans, "expected", {"questions": 900})
    free = {"options": (), "groups": {}, "gold": "0-10", "details": {"answer": "A red sea."}}
    asked = [replace(QUESTIONS[0], **free)]
    run = write_run(tmp_path / "run", asked, lambda _: "0-5", benchmark=SPANS)
    text = Page(render_report(run)).text
    assert "not the whole benchmark of 900 questions" in text
    assert "Right: A red sea." in text
