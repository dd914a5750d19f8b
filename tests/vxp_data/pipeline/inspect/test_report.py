"""`report`: exact numbers, the right rows beside the threshold, a page that asks for nothing."""

from __future__ import annotations

import http.server
import json
import math
import re
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from synthetic_run import write_synthetic_run

from support.runs import table
from vxp_data.core.run_report import RunReport
from vxp_data.core.thresholds import parse_keep
from vxp_data.pipeline.inspect.report import report_run
from vxp_data.pipeline.redecide import redecide
from vxp_data.pipeline.run_dir.directory import open_run
from vxp_data.report.page import render_report, verdict
from vxp_data.schemas import DUPLICATE_SCHEMA

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium on this machine (Debian: apt-get install chromium)"
)
OWN_REQUESTS = re.compile(r"https?://[a-z0-9.]*(google|googleapis|gvt1)\.com/")
"""What Chromium itself asks for when it starts."""


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 400 rows over 150 videos, made of numbers, with contact sheets."""
    folder = tmp_path_factory.mktemp("synthetic") / "run"
    write_synthetic_run(folder, num_rows=400, num_videos=150, seed=9, sheets=True)
    return folder


@pytest.fixture
def run(synthetic: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(synthetic, tmp_path / "run"))


@pytest.fixture(scope="module")
def gathered(synthetic: Path) -> RunReport:
    return report_run(open_run(synthetic), "run")


@pytest.fixture(scope="module")
def page(gathered: RunReport) -> str:
    return render_report(gathered)


class Elements(HTMLParser):
    """Every element of a page, with its attributes; and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.found if name == tag]


def test_counts_are_those_of_the_decisions(gathered: RunReport, synthetic: Path) -> None:
    rows = table(synthetic, "decisions")
    for subset in gathered.subsets:
        mine = Counter(row["decision"] for row in rows if row["task"] == subset.task)
        assert {name: number for name, number in subset.counts.items() if number} == mine
        scores, kept = subset.scores, mine["keep"]
        assert scores is not None
        assert scores.kept_B.sum() == kept
        assert scores.dropped_B.sum() == mine["prune"]
        for bars in (subset.durations, subset.frames):
            assert {name: sum(values) for name, values in bars.series.items()} == {
                "before": kept + mine["prune"],
                "after": kept,
            }
        assert [sum(values) for values in subset.sampling.series.values()] == [kept, kept]
    lost = Counter(row["reason"] for row in rows if row["decision"] == "quarantine")
    assert {report.reason: report.num_rows for report in gathered.quarantine} == lost


def test_it_shows_how_scores_go_with_durations(page: str, gathered: RunReport, run: Path) -> None:
    for number, subset in enumerate(gathered.subsets):
        assert abs(subset.duration_correlation) < 0.3, number  # they are drawn apart
        assert f"with length: {subset.duration_correlation:+.2f}." in page
    scores = pq.read_table(run / "scores.parquet")
    durations = pq.read_table(run / "media.parquet")["duration_s"].to_numpy()
    at = scores.column_names.index("mean_pairwise")
    pq.write_table(
        scores.set_column(at, "mean_pairwise", pa.array(-durations)), run / "scores.parquet"
    )
    again = report_run(open_run(run), "run")
    assert {subset.duration_correlation for subset in again.subsets} == {-1.0}


def test_the_rows_beside_the_threshold_are_the_nearest_each_of_another_file(
    gathered: RunReport, synthetic: Path
) -> None:
    rows = table(synthetic, "decisions")
    for subset in gathered.subsets:
        mine = [
            row for row in rows if row["task"] == subset.task and row["decision"] != "quarantine"
        ]
        by_list = {
            "just_kept": sorted(
                (row for row in mine if row["decision"] == "keep"), key=lambda row: -row["score"]
            ),
            "just_dropped": sorted(
                (row for row in mine if row["decision"] == "prune"), key=lambda row: row["score"]
            ),
            "least": sorted(mine, key=lambda row: row["score"]),
            "most": sorted(mine, key=lambda row: -row["score"]),
        }
        for name, ordered in by_list.items():
            wanted = list(dict.fromkeys(row["score"] for row in ordered))[:8]  # a score a file
            cards = subset.cards[name]
            assert [card.score for card in cards] == wanted
            assert len({card.file for card in cards}) == len(cards)
            assert all(card.sheet for card in cards)


def test_the_page_is_the_same_each_time_and_shows_the_run(page: str, synthetic: Path) -> None:
    assert render_report(report_run(open_run(synthetic), "run")) == page
    words = Elements(page).text
    decisions = Counter(row["decision"] for row in table(synthetic, "decisions"))
    assert f"= {sum(decisions.values())} of {sum(decisions.values())}" in words
    for shown in ("caption", "multiple_choice", "moov atom not found", "truncated", "keep 0.25",
                  "Just kept", "Most redundant", "frames.num_frames", "GPU-bound"):  # fmt: skip
        assert shown.lower() in words.lower()


def test_rows_of_which_frames_did_not_come_are_a_column(page: str, run: Path) -> None:
    assert "inexact</th>" not in page
    record = json.loads((run / "run.json").read_text())
    record["decided"]["subsets"][1]["inexact"] = 3
    (run / "run.json").write_text(json.dumps(record))
    shown = render_report(report_run(open_run(run), "run"))
    assert "3 kept rows are inexact" in Elements(shown).text
    rows = shown[shown.index("<caption") : shown.index("</table>")].split("<tr>")[1:]
    cells = [re.findall(r"<t[hd][^>]*>(?:<a[^>]*>)?([^<]*)", row) for row in rows]
    assert {row[0]: row[-2] for row in cells} == {
        "subset": "inexact", "caption": "0", "multiple_choice": "3", "open_ended": "0", "all": "3",
    }  # fmt: skip


def test_the_sampling_rule_in_use_is_the_coloured_one(page: str) -> None:
    chart = page[page.index("<h4>Sampling</h4>") :]
    named = re.findall(r'<rect class="(bar\d)"[^>]*/><text[^>]*>([^<]+)</text>', chart)[:2]
    assert named == [("bar0", "fixed, 1 fps"), ("bar1", "variable")]
    assert "svg .bar0 { fill: var(--second); } svg .bar1 { fill: var(--keep); }" in page


def test_nothing_on_the_page_points_away_from_it(page: str) -> None:
    found = Elements(page)
    ids = [attributes["id"] for _, attributes in found.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in found.found:
        for name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
            value = attributes.get(name, "data:")
            assert value.startswith("data:") or value[1:] in ids, (name, value[:80])
    assert "@import" not in page
    assert "url(" not in page
    assert not found.all("script")


def test_it_can_be_used_without_eyes_and_without_a_mouse(page: str) -> None:
    found = Elements(page)
    assert found.all("html")[0]["lang"] == "en"
    assert "width=device-width" in found.all("meta")[1]["content"]
    assert all(image["alt"] for image in found.all("img"))
    assert all(svg["aria-label"] for svg in found.all("svg"))
    assert len(found.all("table")) == len(found.all("caption"))
    assert all(header.get("scope") in ("col", "row") for header in found.all("th"))
    levels = [int(tag[1]) for tag, _ in found.found if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(after <= before + 2 for before, after in pairwise(levels))
    anchors = [link["href"] for link in found.all("a")]
    assert anchors[0] == "#main"


def hostile(run: Path, address: str) -> None:
    """Write markup that would show itself into everything that a stranger can name."""
    attack = (
        f"<script>document.title='pwned'</script><img src='{address}/a.png' onerror='alert(1)'>"
        f'"><svg onload="document.title=\'pwned\'"><link rel=stylesheet href={address}/b.css>'
        "{{ 7 * 7 }}</td></table><h1>pwned</h1>"
    )
    turns = [{"role": role, "content": attack} for role in ("user", "assistant")]
    for name, columns in {
        "samples": {"turns": json.dumps(turns), "sample_id": attack},
        "decisions": {"sample_id": attack, "task": f"task {attack}"},
        "quarantine": {"message": attack, "media_uri": f"/v/{attack}", "sample_id": attack},
    }.items():
        rows: pa.Table = pq.read_table(run / f"{name}.parquet")
        for column, text in columns.items():
            values = [f"{text}{i}" if column == "sample_id" else text for i in range(rows.num_rows)]
            rows = rows.set_column(rows.column_names.index(column), column, pa.array(values))
        pq.write_table(rows, run / f"{name}.parquet")
    record = json.loads((run / "run.json").read_text())
    first = record["decided"]["subsets"][0]
    record["decided"]["subsets"] = [{**first, "task": f"task {attack}"}]
    record["config"]["tasks"]["field"] = attack
    record["versions"] = {attack: attack}
    (run / "run.json").write_text(json.dumps(record))


def test_markup_in_rows_is_text(run: Path) -> None:
    hostile(run, "http://127.0.0.1:9")
    found = Elements(render_report(report_run(open_run(run), "<b>run</b>")))
    assert not found.all("script")
    assert not found.all("b") or all(b == {} for b in found.all("b"))
    assert [link for link in found.all("link") if link["rel"] != "icon"] == []
    assert all("onerror" not in image and "onload" not in image for image in found.all("img"))
    assert len(found.all("h1")) == 1
    assert "{{ 7 * 7 }}" in found.text
    assert "<script>document.title='pwned'</script>" in found.text


class Server(http.server.BaseHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_error(404)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """A server on this machine, and what it was asked for."""
    asked: list[str] = []
    handler = type("Handler", (Server,), {"asked": asked})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_address[1]}", asked
        listening.shutdown()
        thread.join()


def browse(path: Path, folder: Path, *options: str) -> tuple[str, list[str], set[str]]:
    """Open a page in headless Chromium; return its DOM, its console, the addresses asked for."""
    log = folder / "net.json"
    done = subprocess.run(
        [str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
         "--disable-background-networking", "--disable-component-update", "--no-first-run",
         f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr",
         f"--log-net-log={log}", *options, "--dump-dom", path.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    events = json.loads(log.read_text())["events"]
    asked = {str((event.get("params") or {}).get("url", "")) for event in events}
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    away = {url for url in asked if url.startswith("http") and not OWN_REQUESTS.match(url)}
    return done.stdout, console, away


@needs_chromium
def test_a_browser_runs_nothing_fetches_nothing_and_complains_of_nothing(
    run: Path, tmp_path: Path, server: tuple[str, list[str]]
) -> None:
    address, asked = server
    hostile(run, address)
    (tmp_path / "report.html").write_text(render_report(report_run(open_run(run), "run")))
    dom, console, away = browse(tmp_path / "report.html", tmp_path)
    assert (console, away, asked) == ([], set(), [])
    assert "<title>run \N{EN DASH} vxp report</title>" in dom
    assert Counter(tag for tag, _ in Elements(dom).found)["img"] == dom.count("data:image/webp")


@needs_chromium
@pytest.mark.slow
def test_the_browser_test_would_see_a_request_a_script_and_a_complaint(
    tmp_path: Path, server: tuple[str, list[str]]
) -> None:
    address, asked = server
    body = (
        f"<img src='{address}/a.png'><script>console.error('seen'); document.title='run'</script>"
    )
    (tmp_path / "page.html").write_text(f"<!doctype html><title>x</title>{body}")
    dom, console, away = browse(tmp_path / "page.html", tmp_path)
    assert asked == ["/a.png"]
    assert away == {f"{address}/a.png"}
    assert any("seen" in line for line in console)
    assert "<title>run</title>" in dom


@needs_chromium
@pytest.mark.slow
@pytest.mark.parametrize(("width_px", "dark"), [(390, False), (1280, False), (1280, True)])
def test_it_fills_a_phone_and_a_desk_and_nothing_sticks_out(
    page: str, tmp_path: Path, width_px: int, dark: bool
) -> None:
    (tmp_path / "report.html").write_text(page)
    probe = page.replace("default-src 'none';", "default-src 'none'; script-src 'unsafe-inline';")
    said = "parent.postMessage(document.documentElement.scrollWidth, '*')"
    (tmp_path / "probe.html").write_text(
        probe.replace("</body>", f"<script>{said}</script></body>")
    )
    (tmp_path / "frame.html").write_text(  # a window of its own is never narrower than 500 px
        "<!doctype html><title></title>"
        "<script>onmessage = (event) => document.title = 'width ' + event.data</script>"
        f"<iframe src=probe.html style='border: 0; width: {width_px}px; height: 2000px'></iframe>"
    )
    dom, _, _ = browse(tmp_path / "frame.html", tmp_path, "--virtual-time-budget=5000")
    assert f"<title>width {width_px}</title>" in dom
    shot = tmp_path / "shot.png"
    more = ["--force-dark-mode"] if dark else []
    size = f"--window-size={width_px},2000"
    browse(tmp_path / "report.html", tmp_path, size, f"--screenshot={shot}", *more)
    image = np.asarray(Image.open(shot).convert("L"))
    assert image.shape == (2000, width_px)
    assert (np.median(image) < 60) == dark
    assert len(np.unique(image)) > 100  # there are images and charts on it


@needs_chromium
@pytest.mark.slow
@pytest.mark.parametrize(("width_px", "scrolls"), [(390, True), (1280, False)])
def test_what_goes_on_beyond_a_screens_edge_has_a_shade_there(
    page: str, tmp_path: Path, width_px: int, scrolls: bool
) -> None:
    (tmp_path / "report.html").write_text(page)
    (tmp_path / "frame.html").write_text(
        "<!doctype html><style>body { margin: 0 }</style>"
        f"<iframe src=report.html style='border: 0; width: {width_px}px; height: 900px'></iframe>"
    )
    shot = tmp_path / "shot.png"
    size = f"--window-size={max(width_px, 500)},900"
    browse(tmp_path / "frame.html", tmp_path, size, f"--screenshot={shot}")
    image = np.asarray(Image.open(shot).convert("L"))
    edge = image[:250, width_px - 2]  # of the navigation; nothing else reaches it
    assert (edge.min() < 200) == scrolls


def test_duplicates_stand_beside_what_they_are_copies_of(run: Path) -> None:
    uris = sorted(row["uri"] for row in table(run, "media"))
    pairs = [
        (uris[1], uris[0], "near_duplicate", "drop", "", 0.97),
        (uris[4], uris[0], "contained", "report", "", 0.9),
        (uris[2], uris[0], "same_content", "relink", "", 1.0),
        (uris[3], "video-mme-7", "in_evaluation", "drop", "eval.txt", None),
    ]
    rows = [
        {"task": "", "sample_id": "", "uri": uri, "clip_start_s": 0.0, "clip_end_s": math.inf,
         "media_id": "", "reason": reason, "action": action, "source": source,
         "representative_uri": representative,
         "representative_clip_start_s": None if source else 0.0,
         "representative_clip_end_s": None if source else math.inf, "agreement": agreement,
         "offset_s": 2.5}
        for uri, representative, reason, action, source, agreement in pairs
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows, DUPLICATE_SCHEMA), run / "duplicates.parquet")
    gathered = report_run(open_run(run), "run")
    found = [
        (
            group.representative.file,
            group.representative.decision,
            [(t.file, t.decision, t.note) for t in group.duplicates],
        )
        for group in gathered.duplicates
    ]
    assert found == [
        ("0000000.mp4", "stays", [
            ("0000001.mp4", "duplicate", "near duplicate, dropped, agreement 0.970"),
            ("0000004.mp4", "copy", "contained, reported, agreement 0.900, from 2.5 s"),
            ("0000002.mp4", "copy", "same content, rows relinked, agreement 1.000"),
        ]),
        ("video-mme-7", "evaluation", [("0000003.mp4", "duplicate", "in evaluation, dropped")]),
    ]  # fmt: skip
    assert "2 videos have copies" in Elements(render_report(gathered)).text


def test_without_thumbnails_the_page_says_so(run: Path) -> None:
    shutil.rmtree(run / "thumbnails")
    gathered = report_run(open_run(run), "run")
    words = Elements(render_report(gathered)).text
    assert not gathered.has_sheets
    assert "This run kept no thumbnails" in words


@pytest.mark.parametrize("keep", ["0", "1.0"])
def test_a_run_that_keeps_nothing_or_all_has_a_report(run: Path, keep: str) -> None:
    redecide(run, measure="effective_frames", thresholds={}, default=parse_keep(keep))
    words = Elements(render_report(report_run(open_run(run), "run"))).text
    assert "effective_frames" in words


def test_another_decision_removes_the_report_of_the_one_before(run: Path) -> None:
    (run / "report.html").write_text("old")
    redecide(run, measure=None, thresholds={}, default=parse_keep("0.5"))
    assert not (run / "report.html").exists()


@pytest.mark.parametrize(
    ("workers", "decode_s", "embed_s", "on_gpu", "wanted"),
    [
        ((8, 1), 700, 20, True, "Decode-bound"),
        ((64, 1), 700, 90, True, "GPU-bound"),
        ((2, 1), 50, 90, False, "Encoder-bound"),
        ((2, 0), 150, 5, False, "Decode-bound"),
        ((2, 0), 15, 5, False, "Start-bound"),
        ((2, 0), 0, 0, False, "Nothing decoded"),
    ],
)
def test_the_verdict_names_the_stage_that_was_busy(
    workers: tuple[int, int], decode_s: float, embed_s: float, on_gpu: bool, wanted: str
) -> None:
    timings = {
        "embed_wall_s": 100.0,
        "probe_cpu_s": 0.0,
        "decode_cpu_s": decode_s,
        "embed_cpu_s": embed_s,
        "decode_workers": workers[0],
        "embed_workers": workers[1],
        "on_gpu": on_gpu,
    }
    assert verdict(timings)[0] == wanted
