"""What a second run reads: new files, changed files, nothing else. Heard from the kernel."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from support import tiny_models
from support.chaos import make_media
from support.media_watch import opened_files
from support.runs import by_sample, caption_row, run_prune, table, write_rows

pytestmark = pytest.mark.usefixtures("engine")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the demo's videos."""
    return make_media(tmp_path_factory.mktemp("drawn"), copies=1).parent / "videos"


@pytest.fixture
def media(drawn: Path, tmp_path: Path) -> Path:
    """A folder with four of them, which the test may change."""
    folder = tmp_path / "media"
    folder.mkdir()
    for name in ("cuts_fast.mp4", "fixed_ball.mp4", "rings.mp4", "slides_still.mp4"):
        shutil.copyfile(drawn / name, folder / name)
    return folder


def rows_of(media: Path) -> list[dict[str, object]]:
    return [caption_row(path.stem, path.name) for path in sorted(media.iterdir())]


def test_of_new_rows_and_files_only_the_new_ones_are_read(
    media: Path, drawn: Path, tmp_path: Path
) -> None:
    manifest = write_rows(tmp_path / "rows.json", rows_of(media))
    out = tmp_path / "run"
    with opened_files(media) as opened:
        run_prune(manifest, out, media)
    assert opened == {path.name for path in media.iterdir()}
    shutil.copyfile(drawn / "noise_tv.mp4", media / "noise_tv.mp4")
    more = [*rows_of(media), caption_row("again", "rings.mp4"), caption_row("gone", "gone.mp4")]
    write_rows(manifest, more)
    with opened_files(media) as opened:
        run_prune(manifest, out, media)
    assert opened == {"noise_tv.mp4"}
    assert len(by_sample(out, "decision")) == 7
    assert by_sample(out, "reason")["gone"] == "missing"
    shutil.copyfile(drawn / "cuts_places.mp4", media / "gone.mp4")
    with opened_files(media) as opened:
        run_prune(manifest, out, media)
    assert opened == {"gone.mp4"}
    run_prune(manifest, tmp_path / "at-once", media)
    for name in ("decisions.parquet", "kept.json", "dropped.json", "scores.parquet"):
        assert (out / name).read_bytes() == (tmp_path / "at-once" / name).read_bytes(), name


@pytest.mark.slow
def test_other_settings_get_embeddings_of_their_own_beside_the_old(
    media: Path, tmp_path: Path
) -> None:
    manifest = write_rows(tmp_path / "rows.json", rows_of(media))
    out, names = tmp_path / "run", {path.name for path in media.iterdir()}
    checkpoint = tiny_models.write_tiny_siglip(tmp_path / "siglip")
    siglip = {"encoder__name": "siglip", "encoder__checkpoint": str(checkpoint)}
    others: list[dict[str, object]] = [
        {},
        {"frames__num_frames": 5},
        {"frames__seek": "keyframe"},
        {"decode__decoder": "decord", "decode__fallback": "pyav"},
        dict(siglip),
    ]
    scores = []
    for settings in others:
        with opened_files(media) as opened:
            run_prune(manifest, out, media, **settings)
        assert opened == names, settings
        scores.append((out / "scores.parquet").read_bytes())
    assert len(set(scores)) >= 4  # decord gives pyav's own frames
    for settings, before in zip(others, scores, strict=True):
        with opened_files(media) as opened:
            result = run_prune(manifest, out, media, **settings)
        assert opened == set(), settings
        assert result.num_files == 0
        assert (out / "scores.parquet").read_bytes() == before


def test_another_threshold_measure_or_task_mapping_touches_no_video(
    media: Path, tmp_path: Path
) -> None:
    rows = [row | {"kind": f"kind{i % 2}"} for i, row in enumerate(rows_of(media))]
    manifest = write_rows(tmp_path / "rows.json", rows)
    out = tmp_path / "run"
    run_prune(manifest, out, media)
    with opened_files(media) as opened:
        run_prune(manifest, out, media, thresholds__default="keep 1")
        assert list(by_sample(out, "decision").values()).count("keep") == 1
        run_prune(manifest, out, media, measure="effective_frames")
        assert {row["measure"] for row in table(out, "decisions")} == {"effective_frames"}
        tasks = {"tasks__field": "kind", "tasks__map": {"kind0": "caption", "kind1": "open_ended"}}
        run_prune(manifest, out, media, **tasks)
        assert {row["task"] for row in table(out, "decisions")} == {"caption", "open_ended"}
    assert opened == set()


def test_a_changed_file_is_read_again_once_and_reported(media: Path, tmp_path: Path) -> None:
    manifest = write_rows(tmp_path / "rows.json", rows_of(media))
    out = tmp_path / "run"
    assert run_prune(manifest, out, media).changed == ()
    shutil.copyfile(media / "rings.mp4", media / "fixed_ball.mp4")
    (media / "slides_still.mp4").touch()  # another time, the same content: read, not reported
    with opened_files(media) as opened:
        result = run_prune(manifest, out, media)
    assert opened - {"rings.mp4"} == {"fixed_ball.mp4", "slides_still.mp4"}
    assert [Path(uri).name for uri in result.changed] == ["fixed_ball.mp4"]
    record = json.loads((out / "run.json").read_text())
    assert record["changed_files"] == {"number": 1, "first": list(result.changed)}
    scores = {Path(row["uri"]).name: row["mean_pairwise"] for row in table(out, "scores")}
    assert scores["fixed_ball.mp4"] == scores["rings.mp4"]
    for _ in range(2):  # whichever part comes first
        with opened_files(media) as opened:
            assert run_prune(manifest, out, media).changed == ()
        assert opened == set()


def test_a_file_that_changes_while_a_run_lasts_is_for_the_next_run(
    media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = write_rows(tmp_path / "rows.json", rows_of(media))
    from vxp_data.pipeline import prune as prune_module

    embed = prune_module.embed_media

    def embed_then_change(*args: object) -> object:
        result = embed(*args)  # type: ignore[arg-type]
        shutil.copyfile(media / "rings.mp4", media / "fixed_ball.mp4")
        return result

    monkeypatch.setattr(prune_module, "embed_media", embed_then_change)
    first = run_prune(manifest, tmp_path / "run", media)
    monkeypatch.undo()
    assert first.decided.num_quarantined == 0
    second = run_prune(manifest, tmp_path / "run", media)
    assert second.num_files == 1
    assert [Path(uri).name for uri in second.changed] == ["fixed_ball.mp4"]


def test_half_written_files_of_killed_writers_are_swept_by_the_next_run(
    media: Path, tmp_path: Path
) -> None:
    manifest = write_rows(tmp_path / "rows.json", rows_of(media))
    out = tmp_path / "run"
    run_prune(manifest, out, media)
    left = [out / ".kept.json.0a1b2c3d.part", out / "embeddings" / ".part-9.parquet.00ff00ff.part"]
    for path in [*left, out / ".notes.part"]:
        path.write_text("half")
    run_prune(manifest, out, media)
    assert not any(path.exists() for path in left)
    assert (out / ".notes.part").exists()  # not ours
