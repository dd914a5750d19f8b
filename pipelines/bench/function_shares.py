"""Where a command and all processes below it spend CPU time: functions by their own share.

py-spy looks 50 times a second at every thread that runs, and stops the process for it: shares are
kept, seconds are not. What C code takes counts for the Python function that calls it; py-spy 0.4
does not survive reading C stacks of a whole Ray.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

PY_SPY: Final = Path(sys.executable).with_name("py-spy")
SAMPLES_PER_S: Final = 50
NUM_FUNCTIONS: Final = 12
"""Functions named of each kind of process."""
_STACK: Final = re.compile(
    r'.*process \d+:"(?P<command>.*?)"(?:;(?P<frames>.*))? (?P<count>\d+)'  # the last is its own
)
_ADDRESS_OR_LINE: Final = re.compile(r"^0x[0-9a-f]+ |(?<=\w):\d+(?=\)$)")
"""Addresses of functions without a name, which are summed up by library, and line numbers."""


def profile(
    command: Sequence[str], stacks: Path, kind: Callable[[str], str]
) -> dict[str, dict[str, float]]:
    """Run a command; give, for each kind of process, its share and those of its functions.

    Args:
        command: program and arguments.
        stacks: file for py-spy's stacks.
        kind: says of a process, by its command line, which kind it is of.

    Returns:
        Per kind 'all', its share of all time in percent, and, most first, NUM_FUNCTIONS functions
        with theirs; a function's share is what it spends itself, without what it calls.
    """
    py_spy = [str(PY_SPY), "record", "--subprocesses", "--function", "--format", "raw"]
    py_spy += ["--rate", str(SAMPLES_PER_S), "--output", str(stacks), "--", *command]
    done = subprocess.run(py_spy, capture_output=True, text=True, check=False)
    if done.returncode or not stacks.exists():
        raise SystemExit(f"py-spy ended with {done.returncode}: {done.stderr[-1000:]}")
    return shares(stacks.read_text(encoding="utf-8").splitlines(), kind)


def shares(stacks: Sequence[str], kind: Callable[[str], str]) -> dict[str, dict[str, float]]:
    """Sum up stacks, one a line: 'process 1:"parent";process 7:"command";outer;inner 12'."""
    functions: dict[str, Counter[str]] = {}
    for stack in stacks:
        if not (found := _STACK.fullmatch(stack)):
            continue
        own = (found["frames"] or "starting or ending").rpartition(";")[2]
        own = _ADDRESS_OR_LINE.sub("", own)
        functions.setdefault(kind(found["command"]), Counter())[own] += int(found["count"])
    total = sum(counter.total() for counter in functions.values())
    return {
        name: {
            "all": round(100 * counter.total() / total, 2),
            **{
                function: round(100 * count / total, 2)
                for function, count in counter.most_common(NUM_FUNCTIONS)
            },
        }
        for name, counter in sorted(functions.items(), key=lambda item: -item[1].total())
    }
