"""The wheel: what is in it, and that it works in an environment of its own, far from a checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from support.commands import vxp_data
from support.repo import PIPELINES, ROOT
from vxp_data.shipped_files import DATASETS, MIXTURES, RECIPES

UV = str(Path(sys.executable).with_name("uv"))


def call(command: Sequence[str | Path], folder: Path) -> subprocess.CompletedProcess[str]:
    hidden = {"PYTHONPATH", "VIRTUAL_ENV", "RAY_ADDRESS"}
    env = {name: value for name, value in os.environ.items() if name not in hidden}
    return subprocess.run(
        list(map(str, command)), cwd=folder, env=env, capture_output=True, text=True, check=False
    )


def done(command: Sequence[str | Path], folder: Path) -> str:
    result = call(command, folder)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    done([UV, "build", "--wheel", "--quiet", "--out-dir", out, ROOT], out)
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the programs of a new environment with the wheel, its extra, and what they need."""

    def install(extra: str) -> Path:
        folder = tmp_path_factory.mktemp("environment")
        done([UV, "venv", "--quiet", "--python", sys.executable, folder / "venv"], folder)
        python = folder / "venv/bin/python"
        done([UV, "pip", "install", "--quiet", "--python", python, f"vxp{extra} @ {wheel}"], folder)
        return python.parent

    return install


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's videos, drawn, with their manifest, and a run over them made by the checkout."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(PIPELINES))
        from demo_videos import make_videos

        manifest = make_videos(folder / "videos")
    pruned = vxp_data("prune", manifest, "--out", folder / "run", "--recipe", "demo")
    assert pruned.returncode == 0, pruned.stderr
    return folder


def test_it_holds_the_files_that_are_found_by_name_and_no_scripts(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    top = "vxp_data/_files/"
    shipped = {name.removeprefix(top) for name in names if name.startswith(top)}
    found = {
        f"{kind.folder}/{name}.yaml"
        for kind in (DATASETS, MIXTURES, RECIPES)
        for name in kind.names()
    }
    assert shipped == found | {"manifests/weights.yaml", "pipelines/smoke/held_out.txt"}
    code = {
        path.relative_to(ROOT).as_posix()
        for package in ("vxp_data", "vxp_model")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if "/_files/" not in name and ".dist-info/" not in name} == code


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_plain_install_reads_decides_plans_reports_and_verifies(
    installed: Callable[[str], Path], demo: Path, tmp_path: Path
) -> None:
    programs = installed("")
    data, model = programs / "vxp-data", programs / "vxp-model"
    run = tmp_path / "run"
    shutil.copytree(demo / "run", run)

    assert "prune" in done([data, "--help"], tmp_path)
    assert "recot" in done([model, "--help"], tmp_path)
    root = tmp_path / "charades"
    root.mkdir()
    (root / "Charades_v1_train.csv").write_text("id,descriptions\nAAAAA,A person opens a door.\n")
    (root / "charades_sta_train.txt").write_text("AAAAA 0.0 2.5##person opens a door.\n")
    done([data, "ingest", "charades", "--root", root, "--out", tmp_path / "c.jsonl"], tmp_path)
    assert len((tmp_path / "c.jsonl").read_text().splitlines()) == 2
    shown = done([data, "mixture", "show", "video_xl_pro_sft"], tmp_path)
    assert "not there: vxp-data ingest" in shown
    for recipe in ("prune", "video_xl_pro/sft_data", "pipelines/smoke/sft_data.yaml"):
        assert "thresholds.default" in done([data, "show-config", recipe], tmp_path)
    done([model, "show-config", "video_xl_pro/recot"], tmp_path)
    assert "visual tokens" in done([model, "frames"], tmp_path)

    before = pq.read_table(run / "decisions.parquet")
    decided = done([data, "decide", run, "--keep", "1.0", "--duplicates", "drop"], tmp_path)
    assert "duplicates" in decided
    after = pq.read_table(run / "decisions.parquet")
    assert before["sample_id"] == after["sample_id"]
    assert before["decision"] != after["decision"]
    assert "caption" in done([data, "plan", run, "--budget", "frames=300"], tmp_path)
    done([data, "report", run], tmp_path)
    assert "<html" in (run / "report.html").read_text()
    done([data, "verify", run, "--media"], tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_plain_install_names_the_extra_of_what_it_cannot_do(
    installed: Callable[[str], Path], demo: Path, tmp_path: Path
) -> None:
    programs = installed("")
    run = demo / "run"
    prune: list[str | Path] = [
        "vxp-data",
        "prune",
        demo / "videos/annotations.json",
        "--out",
        "new",
    ]
    for command, extra in (
        ([*prune, "--encoder", "thumbnail", "--engine", "ray"], "ray"),
        (["vxp-data", "shard", run, "--out", "new", "--address", "auto"], "ray"),
        ([*prune, "--encoder", "siglip"], "siglip"),
        ([*prune, "--encoder", "efficientnet_lite0"], "lite"),
        (["vxp-data", "prune", "s3://bucket/a.json", "--out", "new"], "s3"),
        (["vxp-data", "verify", "gs://bucket/run"], "gcs"),
        (["vxp-model", "recot", "smoke/recot"], "train"),
    ):
        result = call([programs / command[0], *command[1:]], tmp_path)
        assert result.returncode == 2, result.stdout + result.stderr
        assert f"pip install 'vxp[{extra}]'" in result.stderr, result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_plain_install_prunes_and_shards_as_the_checkout_does(
    installed: Callable[[str], Path], demo: Path, tmp_path: Path
) -> None:
    data = installed("") / "vxp-data"
    rows = demo / "videos/annotations.json"
    told = call([data, "prune", rows, "--out", "run"], tmp_path)  # nothing more is installed
    assert told.returncode == 0, told.stdout + told.stderr
    assert told.stderr.startswith("Encoder thumbnail: none is named"), told.stderr
    checkout: list[str | Path] = [
        sys.executable,
        "-m",
        "vxp_data",
        "prune",
        rows,
        "--encoder",
        "thumbnail",
    ]
    done([*checkout, "--out", "theirs"], tmp_path)
    for name in ("decisions.parquet", "scores.parquet", "kept.json"):
        own, theirs = tmp_path / "run" / name, tmp_path / "theirs" / name
        assert own.read_bytes() == theirs.read_bytes()
    assert '"torch"' not in (tmp_path / "run/run.json").read_text()
    done([data, "shard", "run", "--out", "shards", "--world-size", "2"], tmp_path)
    assert "All is as the index says." in done([data, "verify", "shards"], tmp_path)
