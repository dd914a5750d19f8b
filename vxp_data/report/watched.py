"""What the terminal shows of runs that are under way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from vxp_data.core.run_state import RunState
from vxp_data.report.terminal import aligned, time_words

_NODES_NAMED: Final = 8
"""The others are counted."""


def run_lines(state: RunState) -> list[str]:
    """Return some lines about one run."""
    lines = [f"{state.run}: {phase_words(state)}"]
    if state.holder:
        lines.append(f"  {'was' if state.is_killed else 'by'} {state.holder}")
    line = state.metrics
    if line is None:
        return lines
    clips = line["clips"]
    before = f", {clips['before']} before" if clips["before"] else ""
    lines.append(
        f"  {clips['done']} of {clips['todo']} videos ({_percent(clips)}){before}, "
        f"{clips['failed']} quarantined; {line['frames']} frames, "
        f"{line['bytes_fetched'] / 1e6:.1f} MB fetched"
    )
    lines.append(f"  {_rate_words(state)}")
    lines += [f"  {words}" for words in _work_lines(line)]
    lines += [f"  {number:>6}  {reason}" for reason, number in line["quarantine"].items()]
    return lines


def short_line(state: RunState) -> str:
    """Return one line about one run, for a log."""
    line = state.metrics
    words = f"{state.run}: {phase_words(state)}"
    if line is None:
        return words
    clips = line["clips"]
    words += f", {clips['done']}/{clips['todo']} videos, {clips['failed']} quarantined"
    if state.eta_s is not None:
        words += f", {line['clips_per_s']:.1f} videos/s, about {time_words(state.eta_s)} left"
    return words


def runs_table(states: Sequence[RunState]) -> str:
    """Draw a table: a row a run."""
    rows: list[tuple[str, ...]] = [
        ("run", "phase", "videos", "of", "videos/s", "left", "quarantined", "bound by", "nodes")
    ]
    for state in states:
        line = state.metrics
        if line is None:
            rows.append((state.run, state.phase, *["-"] * 7))
            continue
        rate = line["clips_per_s"] if state.phase == "embedding" else None
        rows.append(
            (
                state.run,
                "silent" if state.silent_s else state.phase,
                str(line["clips"]["done"]),
                str(line["clips"]["todo"]),
                "-" if rate is None else f"{rate:.1f}",
                "-" if state.eta_s is None else time_words(state.eta_s),
                str(line["clips"]["failed"]),
                line["bound_by"] or "-",
                str(len(line["nodes"])),
            )
        )
    return aligned(rows)


def phase_words(state: RunState) -> str:
    """Return where a run is, in words."""
    if state.phase == "stopped" and state.is_killed:
        return "stopped: its process is gone"
    if state.silent_s is not None:
        return f"embedding, but silent: its next line is overdue for {time_words(state.silent_s)}"
    return {
        "none": "nothing has run here",
        "checking": "reading rows and looking at files",
        "embedding": "embedding",
        "deciding": "embedded; writing scores and decisions",
        "ended": "ended",
        "stopped": "stopped before it ended",
    }[state.phase]


def _percent(clips: Mapping[str, int]) -> str:
    return f"{clips['done'] / max(1, clips['todo']):.0%}"


def _rate_words(state: RunState) -> str:
    line = state.metrics
    assert line is not None
    words = f"{time_words(line['elapsed_s'])} so far"
    if line["elapsed_s"] and line["clips"]["done"]:
        words += f", {line['clips']['done'] / line['elapsed_s']:.1f} videos/s since the start"
    if state.phase == "embedding" and line["clips_per_s"] is not None:
        words += f", {line['clips_per_s']:.1f} of late"
    if state.eta_s is not None:
        words += f"; about {time_words(state.eta_s)} left"
    return words


def _work_lines(line: Mapping[str, Any]) -> list[str]:
    workers, queue, stages = line["workers"], line["queue"], line["stages"]
    encoder = "GPU" if workers["on_gpu"] else "encoder"
    unknown = "decode- or encoder-bound: not known yet"
    bound = {"decoding": "decode-bound", "encoder": f"{encoder}-bound", None: unknown}
    words = [bound[line["bound_by"]]]
    if line["encoder_busy"] is not None:
        words.append(f"encoders busy {line['encoder_busy']:.0%}")
    if workers["embed"] and queue["clips_waiting"] is not None:
        words.append(
            f"{queue['clips_waiting']} videos wait for an encoder, "
            f"{queue['decoders_paused']} of {workers['decode']} decoders with them"
        )
    beside = f", {workers['embed']} encoders" if workers["embed"] else ", which embed, too"
    seconds = ", ".join(
        f"{stage} {own['cpu_s']:.1f}" for stage, own in stages.items() if "cpu_s" in own
    )
    if not workers["decode"]:  # nothing has come back yet
        return [_nodes_words(line["nodes"])]
    return [
        "; ".join(words),
        f"{workers['decode']} decoding workers{beside}; CPU-s: {seconds}",
        _nodes_words(line["nodes"]),
    ]


def _nodes_words(nodes: Sequence[Mapping[str, Any]]) -> str:
    several = f"{len(nodes)} nodes" if len(nodes) > 1 else "node"
    more = f" and {len(nodes) - _NODES_NAMED} more" if len(nodes) > _NODES_NAMED else ""
    return f"{several}: {', '.join(map(_node_words, nodes[:_NODES_NAMED]))}{more}"


def _node_words(node: Mapping[str, Any]) -> str:
    gpus = f", {node['num_gpus']:g} GPUs" if node["num_gpus"] else ""
    return f"{node['name']} ({node['num_cpus']:g} cores{gpus})"
