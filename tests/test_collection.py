"""What collecting the tests loads: every worker pays for it before its first test."""

import subprocess
import sys

from support.repo import ROOT

HEAVY = ("torch", "transformers", "open_clip", "deepspeed", "ray", "datasets", "faiss")
COLLECT = f"""
import sys, pytest
options = ["--collect-only", "-qq", "-p", "no:cacheprovider", "-m", "not gpu"]
status = pytest.main([*options, *sys.argv[1:]])
print("loaded:", *(name for name in {HEAVY} if name in sys.modules))
sys.exit(status)
"""


def collect(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Collect tests in a process of its own, whose last line says what of HEAVY got loaded."""
    return subprocess.run(
        [sys.executable, "-c", COLLECT, *arguments], cwd=ROOT, capture_output=True, text=True
    )


def test_collecting_all_tests_loads_nothing_heavy() -> None:
    done = collect()
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "loaded:"


def test_a_heavy_import_at_the_top_of_a_test_module_is_seen(tmp_path) -> None:
    (tmp_path / "test_it.py").write_text("import faiss\n\n\ndef test_it() -> None: ...\n")
    done = collect(str(tmp_path))
    assert done.stdout.splitlines()[-1] == "loaded: faiss", done.stdout + done.stderr
