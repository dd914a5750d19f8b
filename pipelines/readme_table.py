"""Tables of the pages in docs/ that are made of something else: `make readme-table`.

    python pipelines/readme_table.py            # writes them into docs/
    python pipelines/readme_table.py --check    # says whether they are as their sources say

What was measured is made of the run records, the filters and the benchmarks of their registries
(`filter_table.py`, `benchmark_table.py`). A record that has no line in NUMBERS gets a row with its
first few figures.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import benchmark_table
import filter_table

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = ROOT / "docs" / "performance.md"
RUNS: Final = ROOT / "manifests" / "runs"
BEGIN: Final = "<!-- made of manifests/runs/*.json by `make readme-table` -->"
END: Final = "<!-- end of what `make readme-table` has made -->"
FEW: Final = 4
"""Figures shown of a record that NUMBERS does not know."""

SIDE_BY_SIDE: Final = (
    "CPU-s a further clip: exact {tools[vxp exact][cpu_s_per_further_clip]:.2f}, decord script "
    "{tools[decord_script][cpu_s_per_further_clip]:.2f}; of {clips[0]} clips "
    "{tools[vxp exact][few_cpu_s]:.0f} and {tools[decord_script][few_cpu_s]:.0f}"
)
TABLE7: Final = (
    "right on active clips: random-N {arms[random-N][active][mean]:.3f}, pruned-N "
    "{arms[mean_pairwise][active][mean]:.3f}, random-2N {arms[random-2N][active][mean]:.3f}"
)
SGM: Final = (
    "semantic-guided minus random, 0.9 hidden: error of what moves "
    "{settings[random bright][sgm 0.9][minus random 0.9][clean moving][mean]:+.2f}, motion "
    "{settings[random bright][sgm 0.9][minus random 0.9][motion 2][mean]:+.3f}; a quarter of the "
    "samples whole: "
    "{settings[random bright][sgm 0.9 unmasked_share 0.25][minus random 0.9 unmasked_share 0.25]"
    "[clean moving][mean]:+.3f}, "
    "{settings[random bright][sgm 0.9 unmasked_share 0.25][minus random 0.9 unmasked_share 0.25]"
    "[motion 2][mean]:+.3f}"
)

NUMBERS: Final[Mapping[str, str]] = {
    "by-index": (
        "an hour, {file_mb} MB: its probe reads {exact[by_index][probe_mb_read]} MB, a whole pass "
        "{exact[whole_pass][probe_mb_read]}"
    ),
    "chaos": "{kills} kills, {rows_lost} of {rows_compared} rows lost, {rows_doubled} doubled",
    "decode-auto": "{ours_cpu_s} CPU-s for {clips_in_sums} clips, decord {decord_cpu_s}",
    "decode-exact": "{ours_cpu_s} CPU-s for {clips_in_sums} clips, decord {decord_cpu_s}",
    "decode-keyframe": "{ours_cpu_s} CPU-s for {clips_in_sums} clips, decord {decord_cpu_s}",
    "duplicates": (
        "{by_encoder[thumbnail][real][by_copy][re_encoded_half_size][found]} of "
        "{by_encoder[thumbnail][real][by_copy][re_encoded_half_size][copies]} half-size copies of "
        "real clips found"
    ),
    "dts-factor": (
        "1, 2, 4, 8 frames made one: {steps} steps, {seeds} seeds, {heldout_questions} questions; "
        "differences smaller than their intervals"
    ),
    "duplicates-index": (
        "{sizes[2][vectors]:,} vectors: {sizes[2][build_cpu_s]} + {sizes[2][search_cpu_s]} CPU-s, "
        "{sizes[2][peak_mib_of_the_command]} MiB"
    ),
    "duplicates-lite": (
        "thresholds of one half, real copies of the other found: both "
        "{splits[0][checked][both][real_copies][accuracy]}, efficientnet_lite0 "
        "{splits[0][checked][efficientnet_lite0][real_copies][accuracy]}, thumbnail "
        "{splits[0][checked][thumbnail][real_copies][accuracy]}"
    ),
    "duplicates-labelled": (
        "{by_encoder[thumbnail][by_kind][same][found]} of "
        "{by_encoder[thumbnail][by_kind][same][pairs]} same, "
        "{by_encoder[thumbnail][by_kind][contains][found]} of "
        "{by_encoder[thumbnail][by_kind][contains][pairs]} contained, "
        "{by_encoder[thumbnail][by_kind][contains_short_part][found]} of "
        "{by_encoder[thumbnail][by_kind][contains_short_part][pairs]} short parts; precision "
        "{by_encoder[thumbnail][precision]}"
    ),
    "fuzz": (
        "{media[inputs]:,} damaged videos: {media[hangs_past_the_limit]} hangs, "
        "{media[wrong_rows]} wrong rows"
    ),
    "loader": (
        "{raw[video][ours][mb_per_cpu_s]:,.0f} MB a CPU-s raw, webdataset "
        "{raw[video][webdataset][mb_per_cpu_s]:,.0f}, litdata "
        "{raw[video][litdata][mb_per_cpu_s]:,.0f}"
    ),
    "loss-weight": (
        "letters right: {means[token][multiple_choice_accuracy][mean]:.3f} with the mean over "
        "tokens, {means[sample][multiple_choice_accuracy][mean]:.3f} over samples; a caption's "
        "loss {means[token][caption_token_loss][mean]:.2f}, "
        "{means[sample][caption_token_loss][mean]:.2f}"
    ),
    "mllm-toy": (
        "held-out questions right: with the clip {arms[video][heldout][all][accuracy]:.3f}, "
        "without {arms[text][heldout][all][accuracy]:.3f}"
    ),
    "encoder-lite": (
        "{frames} frames: {ways[onnxruntime][cpu_s][alone]} CPU-s in onnxruntime, torch "
        "{ways[torch, norms folded][cpu_s][alone]}, timm {ways[timm][cpu_s][alone]}; to the "
        "first vector {starts_cpu_s[efficientnet_lite0 to its first vector]}"
    ),
    "encoders-compared": (
        "efficientnet_lite0 beside thumbnail: rank correlation "
        "{between_encoders[mean_pairwise][spearman]}, "
        "{between_encoders[mean_pairwise][change_side_at_keep_0.5]} of 37 clips change side; with "
        "duration {with_duration[efficientnet_lite0][mean_pairwise][spearman]}, "
        "{with_duration[thumbnail][mean_pairwise][spearman]}"
    ),
    "eval-speed": (
        "{answers_per_s[harness]} answers a second, {answers_per_s[alone]} encoding for each; of a "
        "question's {direct_cpu_s_per_question} CPU-s the harness adds "
        "{harness_beyond_direct_cpu_s_per_question}"
    ),
    "eval-toy": (
        "{benchmarks[mlvu][figures][1][value]:.3f} right as MLVU, "
        "{benchmarks[vnbench][figures][0][value]:.3f} as VNBench"
    ),
    "eval-truth": "{figures} published figures, {different} differ",
    "niah-toy": (
        "a clip's colour right: alone {clip_alone[colour]:.2f}, over the grid "
        "{haystacks[noise][clip, colour][grid_mean]:.2f}, without it "
        "{haystacks[noise][clip, colour][without_needle]:.2f}; kept of it at 10 %: "
        "{survival[own_selector][1][survival]:.2f}"
    ),
    "selector-sweep": (
        "M-Avg {by_task[1.0][M-Avg]:.3f} with all visual tokens, {by_task[0.5][M-Avg]:.3f} with "
        "half, {by_task[0.1][M-Avg]:.3f} with a tenth"
    ),
    "pipeline": (
        "{sft_data[num_in]} rows in, {sft_data[num_samples]} in shards; held-out letters right: "
        "{held_out[multiple_choice][right]} of {held_out[multiple_choice][rows]}"
    ),
    "plan": "{rows:,} rows: {plan[wall_s]} s, {plan[peak_resident_mb]} MB",
    "prune": "{further_videos_per_s:.1f} videos/s, {cpu_s_per_further_video:.3f} CPU-s a video",
    "prune-real": (
        "{further_videos_per_s:.1f} videos/s, {cpu_s_per_further_video:.3f} CPU-s a video"
    ),
    "selector-toy": (
        "{seeds} seeds of {steps} steps, {questions} questions at each share; {visual_tokens} "
        "tokens, {keys} keys"
    ),
    "train-speed": (
        "accelerate's CPU-s against ours, sft {stages[sft][accelerate_to_vxp][cpu_s][median]}, "
        "align {stages[align][accelerate_to_vxp][cpu_s][median]}; estimate of memory off by "
        "{memory[sft][off]:+.1%}"
    ),
    "two-stage": (
        "{driver[driver_cpu_ms_a_further_file]} ms of the driver a file; an encoder embeds "
        "{encoder_local[busy_share]:.1%} of its time, on Ray {encoder_ray[busy_share]:.1%}"
    ),
    "recot-tiny-cpu": "{samples_per_s} samples/s, {step_s:.2f} s a step",
    "report": "{rows:,} rows: {report[wall_s]} s, {page_bytes:,} bytes",
    "resume-large": (
        "{most[clips]:,} videos, all but 20,000 done: {most[seconds_to_first_task]} s to the first "
        "task, {most[driver_cpu_s]} CPU-s; {held_bytes_a_further_clip} bytes a video held"
    ),
    "scaling": (
        "{most_workers_at_90_percent} workers at 90 % or more; {most_files_per_s:.1f} files/s at "
        "most"
    ),
    "sharing": "one run {one[cpu_s]} CPU-s, two at once {two[cpu_s]}",
    "scores": (
        "score {score[gb_per_cpu_s]} GB a CPU-s, read alone {read[gb_per_cpu_s]}; a million media: "
        "{score[peak_resident_mb_of_a_million]:,.0f} MB"
    ),
    "selectors": (
        "{rows} rows a pool, {seeds} seeds; clearly better than random and intra at 25 %: "
        "{verdict[told]}"
    ),
    "selectors-mllm": (
        "the MLLM at 25 %, static clips: random {pools[static][random][mean]:.3f}, intra "
        "{pools[static][intra][mean]:.3f}; copies: {pools[duplicates][random][mean]:.3f}, "
        "{pools[duplicates][intra][mean]:.3f}"
    ),
    "select-speed": (
        "{clips:,} clips, CPU-s of a plan: decorrelate {decorrelate[cpu_s]}, cluster_quota "
        "{cluster_quota[cpu_s]}, coverage {coverage[cpu_s]} and "
        "{coverage[peak_resident_mb]:,} MB"
    ),
    "sgm": SGM,
    "shards": (
        "{mb_per_s[vxp]:,.0f} MB/s, cp {mb_per_s[cp]:,.0f}, webdataset {mb_per_s[webdataset]:,.0f}"
    ),
    "side-by-side": SIDE_BY_SIDE,
    "side-by-side-local": SIDE_BY_SIDE,
    "startup": (
        "{clips} clips, thumbnail, warm: local {commands[prune thumbnail][local][warm][wall_s]} s "
        "and {commands[prune thumbnail][local][warm][cpu_s]} CPU-s, Ray "
        "{commands[prune thumbnail][ray][warm][cpu_s]} CPU-s, script "
        "{commands[prune thumbnail][script][warm][cpu_s]}"
    ),
    "startup-lite": (
        "{clips} clips, efficientnet_lite0, warm: local "
        "{commands[prune efficientnet_lite0][local][warm][wall_s]} s and "
        "{commands[prune efficientnet_lite0][local][warm][cpu_s]} CPU-s, script "
        "{commands[prune efficientnet_lite0][script][warm][wall_s]} s and "
        "{commands[prune efficientnet_lite0][script][warm][cpu_s]}"
    ),
    "startup-siglip": (
        "{clips} clips, small SigLIP, warm: local {commands[prune siglip][local][warm][wall_s]} s "
        "and {commands[prune siglip][local][warm][cpu_s]} CPU-s, script "
        "{commands[prune siglip][script][warm][wall_s]} s and "
        "{commands[prune siglip][script][warm][cpu_s]}"
    ),
    "table7": TABLE7,
    "table7-lite": TABLE7,
}


def table(runs: Path) -> list[str]:
    """Return the table's lines: one row a record, by name."""
    head = ["| record | command | machine | wall time | numbers |", "|---|---|---|---|---|"]
    paths = sorted(runs.glob("*.json"))
    return head + [row(json.loads(path.read_text(encoding="utf-8"))) for path in paths]


def row(record: Mapping[str, Any]) -> str:
    """Return a record's row."""
    name, figures = record["name"], record["figures"]
    cells = (
        f"[{name}](../manifests/runs/{name}.json)",
        f"`{record['command'].partition(' --note')[0]}`",
        machine(record["machine"]),
        wall_time(record.get("wall_s")),
        NUMBERS[name].format_map(figures) if name in NUMBERS else first_figures(figures),
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def machine(facts: Mapping[str, Any]) -> str:
    """Name a machine: GPUs if it has some, cores, and how busy they were."""
    gpus = "".join(f"{name}, " for name in facts.get("gpu", ()))
    return f"{gpus}{facts['cores']} x {facts['cpu']}, load {facts['load_average_1_min']}"


def wall_time(seconds: float | None) -> str:
    """Write a time as people say it."""
    if seconds is None:
        return "not noted"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def first_figures(figures: Mapping[str, Any]) -> str:
    """Return the first few plain numbers of a record."""
    plain = [
        f"{name} {value}"
        for name, value in figures.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    return ", ".join(plain[:FEW]) or "see the record"


def written(page: str, begin: str = BEGIN) -> list[str]:
    """Return the table's lines as a page has them."""
    return page.partition(begin)[2].partition(END)[0].strip().splitlines()


def with_table(page: str, lines: list[str], begin: str = BEGIN) -> str:
    """Put a table into a page, over the one that is there."""
    before, found, rest = page.partition(begin)
    _, end, after = rest.partition(END)
    if not found or not end:
        raise ValueError(f"no place for the table: wanted the lines {begin!r} and {END!r}")
    return f"{before}{begin}\n\n" + "\n".join(lines) + f"\n\n{END}{after}"


def main() -> int:
    """Write the tables, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 where one is stale")
    is_check, stale = parser.parse_args().check, []
    for path, begin, lines in (
        (PAGE, BEGIN, table(RUNS)),
        (filter_table.PAGE, filter_table.BEGIN, filter_table.table()),
        (benchmark_table.PAGE, benchmark_table.BEGIN, benchmark_table.table()),
    ):
        text = path.read_text(encoding="utf-8")
        stale += sorted(set(lines) ^ set(written(text, begin)))
        if not is_check:
            path.write_text(with_table(text, lines, begin), encoding="utf-8")
    if is_check:
        print("\n".join(stale) or "The tables are as their sources say.")
    return bool(is_check and stale)


if __name__ == "__main__":
    sys.exit(main())
