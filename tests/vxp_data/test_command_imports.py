"""What each command loads: torch takes seconds, a decoder or a plot tenths of one."""

import subprocess
import sys

import numpy as np
import pytest
from synthetic_run import write_synthetic_run

from support.stored_runs import StoredClip, decide, stored_run

HEAVY = {
    *("torch", "ray", "transformers", "deepspeed", "open_clip", "fsspec", "pandas"),
    *("timm", "onnxruntime"),
}
DECODERS = {"av", "decord", "pebble"}
DRAWING = {"matplotlib", "jinja2", "PIL", "rich"}
ALL = HEAVY | DECODERS | DRAWING
SCRIPT = """
import sys
from vxp_data.cli import app
app(sys.argv[1:], standalone_mode=False)
print("loaded:", *{name.partition(".")[0] for name, module in sys.modules.items() if module})
"""


def loaded_by(*command: str) -> set[str]:
    """Run a command in a process of its own; return the packages that it has loaded in the end."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    words = done.stdout.splitlines()[-1].split()
    assert words[0] == "loaded:"
    return set(words[1:])


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The words that stand for paths in the commands below."""
    folder = tmp_path_factory.mktemp("imports")
    write_synthetic_run(folder / "run", num_rows=40, num_videos=20, seed=9, sheets=True)
    clips = {name: StoredClip(emb_FD=np.eye(20, 64), duration_s=9.0) for name in "abc"}
    stored = stored_run(folder / "stored", clips)
    decide(stored)
    places = {"RUN": folder / "run", "WHOLE": stored.root, "OUT": folder / "out"}
    return {word: str(place) for word, place in places.items()}


@pytest.mark.parametrize(
    ("command", "needs"),
    [
        ("decide WHOLE --keep 0.5 --duplicates report", set()),
        ("plan RUN --keep 0.5", set()),
        ("compare RUN RUN", set()),
        ("report RUN --out OUT", {"jinja2"}),
        ("verify WHOLE", set()),
        ("sample RUN", {"matplotlib", "PIL"}),
        ("export RUN --out OUT", set()),
        ("show-config prune", set()),
        ("watch RUN --once", set()),
        ("mixture show video_xl_pro_sft", set()),
        ("doctor --encoder thumbnail", {"av", "pebble"}),
    ],
)
def test_a_command_loads_what_it_needs(
    command: str, needs: set[str], places: dict[str, str]
) -> None:
    loaded = loaded_by(*(places.get(word, word) for word in command.split()))
    assert loaded & ALL == needs
