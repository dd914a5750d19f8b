"""What is missing is named with its extra, in one line, before a run is touched."""

import re
import sys
import tomllib
from importlib import metadata

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from support.repo import ROOT
from support.stored_runs import StoredClip, decide, stored_run
from vxp_data.decoders.decord_decoder import DecordDecoder
from vxp_data.errors import UserError
from vxp_data.extras import EXTRAS, require_extra
from vxp_data.neighbours import base
from vxp_data.registry import ENCODERS
from vxp_data.settings.prune import DecodeConfig, EncoderConfig
from vxp_data.storage.object_store import require_store

HEAVY = ("torch", "ray", "faiss", "transformers", "deepspeed", "open_clip")


def film(seed, noise=0.0, **more):
    """A clip that drifts from one image to others, as another encoding of it may have it."""
    steps = np.random.default_rng(seed).normal(size=(20, 64))
    emb_FD = np.cumsum(steps, axis=0) + noise * np.random.default_rng(99).normal(size=(20, 64))
    emb_FD /= np.linalg.norm(emb_FD, axis=1, keepdims=True)
    return StoredClip(emb_FD=emb_FD, duration_s=40.0, **more)


def family():
    """Three films, and of the first a small copy."""
    small = film(1, noise=0.01, width_px=320, height_px=180)
    return {"a.mp4": film(1), "a-small.mp4": small, "b.mp4": film(2), "c.mp4": film(3)}


@pytest.fixture
def without(monkeypatch):
    """Hide packages, as where they are not installed."""

    def hide(*modules):
        for module in modules:
            monkeypatch.setitem(sys.modules, module, None)

    return hide


def test_the_table_is_that_of_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert set(EXTRAS) == set(extras) - {"all", "dev"}
    packages = metadata.packages_distributions()
    for extra, modules in EXTRAS.items():
        named = {re.split(r"[^\w-]", text)[0].replace("_", "-") for text in extras[extra]}
        found = {packages[module][0].replace("_", "-") for module in modules}
        assert found <= named, extra
    (everything,) = (text for text in extras["all"] if text.startswith("vxp["))
    assert set(everything[4:-1].split(",")) == set(EXTRAS)


def test_the_plain_install_has_nothing_heavy():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[^\w-]", text)[0] for text in project["dependencies"]}
    packages = metadata.packages_distributions()
    assert not names & {packages[module][0] for module in HEAVY}
    assert {"av", "decord", "pillow", "pyarrow", "jinja2", "matplotlib", "rich"} <= names


def test_all_that_is_missing_of_an_extra_stands_in_one_line(without):
    require_extra("train", "it")
    without("torch", "peft")
    with pytest.raises(UserError) as raised:
        require_extra("train", "it")
    assert str(raised.value) == (
        "it needs vxp[train] (torch, peft are not installed): pip install 'vxp[train]'"
    )


@pytest.mark.parametrize("missing", ["torch", "open_clip"])
def test_an_encoder_names_its_extra(without, missing):
    without(missing)
    wanted = rf"encoder 'siglip' needs vxp\[siglip\] \({missing} is not installed\): pip install"
    given = EncoderConfig(name="siglip", device="cpu")
    for ask in (ENCODERS.load("siglip").prepare, ENCODERS.load("siglip").describe):
        with pytest.raises(UserError, match=rf"{wanted}.*--encoder thumbnail"):
            ask(given)


@pytest.mark.parametrize(("uri", "module", "extra"), [("s3", "s3fs", "s3"), ("gs", "gcsfs", "gcs")])
def test_a_store_names_its_extra(without, uri, module, extra):
    without(module)
    with pytest.raises(UserError, match=rf"{uri}:// needs vxp\[{extra}\] \({module} is not"):
        require_store(f"{uri}://bucket-of-test-extras/a")


def test_the_engine_ray_asks_for_it_before_a_run_directory_is_made(without, tmp_path, monkeypatch):
    from vxp_data.cli import app

    rows = tmp_path / "rows.json"
    rows.write_text("[]")
    for module in [name for name in sys.modules if name.startswith("vxp_data.engines.ray")]:
        monkeypatch.delitem(sys.modules, module)
    without("ray")
    command = ["prune", str(rows), "--out", str(tmp_path / "run"), "--engine", "ray"]
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, UserError)
    assert str(done.exception).startswith("engine 'ray' needs vxp[ray] (ray is not installed)")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("command", "module"),
    [
        (["recot", "smoke/recot"], "deepspeed"),
        (["train", "smoke/sft"], "deepspeed"),
        (["probe", "probe"], "transformers"),
        (["generate", "m", "--video", "v", "--prompt", "p"], "torch"),
        (["chat", "m", "--video", "v"], "torch"),
        (["frames", "--model", "m"], "transformers"),
    ],
)
def test_commands_of_training_name_their_extra(without, command, module):
    from vxp_model.cli import app

    without(module)
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, UserError), done.output
    assert str(done.exception).startswith(f"`vxp-model {command[0]}` ")
    assert f" needs vxp[train] ({module} is not installed)" in str(done.exception)


def test_duplicates_without_faiss_are_those_with_it(without, tmp_path):
    without("faiss")
    run = stored_run(tmp_path, family())
    decide(run, duplicates__mode="drop")
    (row,) = pq.read_table(str(run.duplicates)).to_pylist()
    assert (row["uri"].split("/")[-1], row["reason"]) == ("a-small.mp4", "near_duplicate")


def test_many_clips_need_no_faiss(without, tmp_path, monkeypatch):
    without("faiss")
    monkeypatch.setattr(base, "FLAT_VECTORS", 3)
    run = stored_run(tmp_path, family())
    decide(run, duplicates__mode="drop")
    (row,) = pq.read_table(str(run.duplicates)).to_pylist()
    assert (row["uri"].split("/")[-1], row["reason"]) == ("a-small.mp4", "near_duplicate")


def test_a_list_that_is_not_there_leaves_the_run_as_it_was(tmp_path):
    run = stored_run(tmp_path, {"a.mp4": film(1)})
    decide(run)
    with pytest.raises(UserError, match="--exclude"):
        decide(run, duplicates__exclude=[str(tmp_path / "gone.txt")])
    run.read_run()


def test_the_second_decoder_is_decord_only_where_it_is_installed(without):
    assert DecodeConfig().fallback == "decord"
    DecordDecoder().check()
    without("decord")
    assert DecodeConfig().fallback is None
    with pytest.raises(UserError, match=r"--set decode\.fallback=null"):
        DecordDecoder().check()
