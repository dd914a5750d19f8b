"""What is checked before a run: each thing that is wrong is found, named, and has a remedy."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from support.commands import vxp_data
from support.runs import caption_row, run_prune, write_rows
from support.tiny_models import write_tiny_siglip
from vxp_data.decoders import isolation
from vxp_data.errors import UserError
from vxp_data.manifests.samples import Dataset, TaskRules
from vxp_data.pipeline.embed import preflight
from vxp_data.pipeline.embed.preflight import (
    Check,
    Verdict,
    check_children,
    check_encoder,
    check_machine,
    check_media,
    check_output,
    check_scratch,
    require,
    sample_of,
)
from vxp_data.pipeline.embed.preflight_manifests import check_manifests
from vxp_data.settings.prune import DecodeConfig, EncoderConfig, PruneConfig
from vxp_data.storage.folder import open_folder

THUMBNAIL = PruneConfig(encoder=EncoderConfig(name="thumbnail"))


def test_a_machine_that_is_fine_has_no_failure(tmp_path):
    checks = list(check_machine(THUMBNAIL, open_folder(tmp_path / "run")))
    assert [check.name for check in checks[:1]] == ["output"]
    assert {"scratch space", "decoder pyav", "decoder decord", "isolation"} <= {
        check.name for check in checks
    }
    assert require(checks) == [c for c in checks if c.verdict is Verdict.WARNING]
    assert list((tmp_path / "run").iterdir()) == []


def test_all_failures_are_told_at_once_and_warnings_are_given_back():
    failed = [
        Check(name=name, verdict=Verdict.FAILED, message=f"{name} is bad.", remedy="Mend it.")
        for name in ("one", "two")
    ]
    warning = Check(name="three", verdict=Verdict.WARNING, message="so so.")
    with pytest.raises(UserError, match=r"^one: one is bad\. Mend it\.\ntwo: two is bad\. Mend"):
        require([failed[0], warning, failed[1]])
    assert require([warning]) == [warning]


def test_an_output_that_cannot_be_written_fails(tmp_path):
    (tmp_path / "file").touch()
    check = check_output(open_folder(tmp_path / "file" / "run"))
    assert check.verdict is Verdict.FAILED
    assert "cannot write" in check.message


def test_little_space_is_a_warning(tmp_path, monkeypatch):
    free = 1 << 20
    usage = type("Usage", (), {"free": free})
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: usage)
    assert check_output(open_folder(tmp_path)).verdict is Verdict.WARNING
    assert check_scratch().verdict is Verdict.WARNING


def test_a_decoder_that_cannot_work_fails_with_what_to_install(monkeypatch, tmp_path):
    broken = tmp_path / "broken_decoder.py"
    broken.write_text("raise ImportError('libavcodec.so.99 is missing')")
    metadata = tmp_path / "broken-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    points = "[vxp_data.decoders]\nbroken = broken_decoder:Broken\n"
    (metadata / "entry_points.txt").write_text(points)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.syspath_prepend(str(tmp_path))
    checks = {c.name: c for c in check_children(DecodeConfig(decoder="broken", fallback=None))}
    assert checks["decoder broken"].verdict is Verdict.FAILED
    assert "libavcodec.so.99" in checks["decoder broken"].message
    assert checks["decoder pyav"].verdict is Verdict.OK


def test_children_with_a_network_are_a_warning(monkeypatch):
    class Weak:
        def __init__(self, *_: Any) -> None: ...

        def call(self, function: Any, *_: Any, **__: Any) -> Any:
            held = isolation.Isolation(network=(), files=(), refused=("seccomp: no",))
            is_question = function is preflight.child_isolation
            return type("Timed", (), {"value": held if is_question else None})

        def close(self) -> None: ...

    monkeypatch.setattr(preflight, "Sandbox", Weak)  # a kernel without any of them is not at hand
    (check,) = [c for c in check_children(DecodeConfig()) if c.name == "isolation"]
    assert check.verdict is Verdict.WARNING
    assert check.message == ("decoding children have network; writing files (refused: seccomp: no)")
    assert "Landlock" in check.remedy


def test_weights_are_there_and_of_the_pinned_hash(tmp_path):
    write_tiny_siglip(tmp_path)
    weights = tmp_path / "open_clip_model.safetensors"
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    here = {"name": "siglip", "checkpoint": str(tmp_path), "device": "cpu"}
    assert check_encoder(EncoderConfig(**here)).verdict is Verdict.OK
    pinned = check_encoder(EncoderConfig(**here, weights_sha256=sha256))
    assert (pinned.verdict, "pinned" in pinned.message) == (Verdict.OK, True)
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    other = check_encoder(EncoderConfig(**here, weights_sha256=sha256))
    assert other.verdict is Verdict.FAILED
    assert f"pinned is {sha256}" in other.message
    missing = check_encoder(EncoderConfig(name="siglip", checkpoint=str(tmp_path / "gone")))
    assert missing.verdict is Verdict.FAILED
    assert "does not exist" in missing.message


def dataset(path: Path) -> Dataset:
    return Dataset(name=path.stem, manifest=path, format="json", media_root=path.parent)


def test_manifests_are_read_to_the_end_and_media_drawn_from_all_of_them(tmp_path):
    many = [caption_row(f"r{i}", f"{i}.mp4") for i in range(1000)]
    good = write_rows(tmp_path / "good.json", many)
    some = write_rows(tmp_path / "some.json", [{"id": 1}, caption_row("a", "../a.mp4"), many[0]])
    none = write_rows(tmp_path / "none.json", [{"id": 1}])
    broken = tmp_path / "broken.json"
    broken.write_text(json.dumps(many)[:-1])
    datasets = [dataset(path) for path in (good, some, none, broken)]
    checks, media = check_manifests(datasets, TaskRules(), 0.9)
    assert [check.verdict for check in checks] == [
        *(Verdict.OK, Verdict.WARNING, Verdict.FAILED, Verdict.FAILED)
    ]
    assert "1 bad_row" in checks[1].message
    assert "1 forbidden" in checks[1].message
    assert "end of the file" in checks[3].message
    assert checks[0].message == (
        "1000 rows: 1000 with a video, 0 with an image, 0 of text only, 0 without a question, "
        "0 without an answer, 0 that cannot be used"
    )
    assert checks[2].message.startswith("not one row can be used. 1 rows: ")
    assert len(media) == 100
    numbers = sorted(int(Path(uri).stem) for uri in media)
    assert numbers[0] < 100
    assert numbers[-1] > 900
    assert check_manifests(datasets, TaskRules(), 0.9)[1] == media


def test_missing_media_are_a_warning_and_all_missing_a_failure(tmp_path):
    uris = [str(tmp_path / f"{i}.mp4") for i in range(12)]
    check = check_media(uris)
    assert check.verdict is Verdict.FAILED
    assert f"12 of 12 sampled files cannot be opened, first {uris[0]}: no such file." in (
        check.message
    )
    assert "--media-root" in check.remedy
    assert check_media(uris[:9]).verdict is Verdict.WARNING  # few: they are just quarantined
    Path(uris[3]).touch()
    assert check_media(uris).verdict is Verdict.WARNING
    assert check_media(uris[3:4]).verdict is check_media([]).verdict is Verdict.OK
    os.mkfifo(tmp_path / "pipe.mp4")
    assert "it is no file" in check_media([str(tmp_path / "pipe.mp4")]).message
    assert sample_of(uris * 20) == sorted(uris, key=sample_of(uris).index)
    assert len(sample_of(map(str, range(1000)))) == 100


def test_prune_stops_before_a_worker_starts_where_no_media_is_found(tmp_path):
    rows = [caption_row(f"r{i}", f"{i}.mp4") for i in range(12)]
    with pytest.raises(UserError, match="12 of 12 sampled files cannot be opened"):
        run_prune(write_rows(tmp_path / "rows.json", rows), tmp_path / "run")
    assert not (tmp_path / "run" / "run.json").exists()


def test_doctor_shows_every_check_and_ends_with_2_where_one_failed(tmp_path):
    (tmp_path / "a.mp4").touch()
    rows = write_rows(tmp_path / "rows.json", [caption_row("r", "a.mp4")])
    options = ("--encoder", "thumbnail", "--out", tmp_path / "run")
    done = vxp_data("doctor", rows, *options)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for name in ("output", "decoder pyav", "isolation", "encoder thumbnail", "manifest", "media"):
        assert any(name in line.split(":")[0] for line in lines), name
    assert lines[-1] == "All that was checked will do."
    rows.write_text("[")
    failed = vxp_data("doctor", rows, *options)
    assert failed.returncode == 2
    assert "FAILED   manifest rows: " in failed.stdout
    assert "1 checks failed" in failed.stderr
