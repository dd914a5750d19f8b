"""Duplicates by the encoder's vectors and by `thumbnail`'s beside them: what either finds."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from support.duplicate_clips import DIM, clip, film
from support.flat_videos import write_flat_video
from support.runs import caption_row, run_prune, table, write_rows
from support.shard_fixtures import make_image
from support.stored_runs import StoredClip, decide, stored_run
from vxp_data.core.duplicates import MIN_COVERED, match_clips, own_likeness
from vxp_data.core.similarity import cross_cosines
from vxp_data.encoders.beside import BESIDE_DIM, embed_beside, packed, unpacked
from vxp_data.errors import UserError
from vxp_data.pipeline.curate.clip_views import views_of
from vxp_data.pipeline.run_dir.directory import open_run
from vxp_data.pipeline.upgrade import upgrade
from vxp_data.pipeline.verify.run import verify_run
from vxp_data.settings.curation import DuplicatesConfig
from vxp_data.settings.prune import load_config

DURATION_S = 40.0
SLOW = {"speed": 0.25}
TO_ANGLES = np.random.default_rng(3).normal(size=(DIM, BESIDE_DIM // 2)) * 2


def wide(emb_FD):
    """As wide as `thumbnail`'s vectors are, and made of angles as these are: alike stays alike."""
    angle_FN = emb_FD @ TO_ANGLES
    circles_FD = np.concatenate([np.cos(angle_FN), np.sin(angle_FN)], axis=1)
    return circles_FD / np.sqrt(BESIDE_DIM / 2)


def as_stored(beside_FD):
    return unpacked(packed(beside_FD).tobytes(), len(beside_FD))


def near(emb_FD, seed):
    noise = np.random.default_rng(seed).normal(size=emb_FD.shape) * 0.005
    emb_FD = emb_FD + noise
    return (emb_FD / np.linalg.norm(emb_FD, axis=1, keepdims=True)).astype(np.float16)


def clip_of(by_encoder, by_thumbnail, **more):
    """A clip that looks like one film to the encoder, like another to `thumbnail`."""
    shown = clip(film(by_encoder, DURATION_S, **SLOW))[0]
    beside = clip(film(by_thumbnail, DURATION_S, **SLOW))[0]
    seed = more.pop("seed", 0)
    emb_FD = near(shown, seed) if seed else shown
    beside_FD = near(beside, seed) if seed else beside
    return StoredClip(emb_FD=emb_FD, beside_FD=wide(beside_FD), duration_s=DURATION_S, **more)


def clips():
    """Of `a` one copy that both know, one that the encoder alone knows, one that the other does."""
    small = {"width_px": 320, "height_px": 180}
    return {
        "a.mp4": clip_of(1, 101),
        "a-both.mp4": clip_of(1, 101, seed=1, **small),
        "a-mirrored.mp4": clip_of(1, 102, seed=2, **small),
        "a-coded.mp4": clip_of(2, 101, seed=3, **small),
        "b.mp4": clip_of(5, 105),
    }


def found(run):
    """From a duplicate to its representative, and to what found it."""
    columns = ["uri", "representative_uri", "found_by"]
    rows = pq.read_table(str(run.duplicates), columns=columns).to_pylist()
    names = ([row[name].rpartition("/")[2] for name in columns] for row in rows)
    return {duplicate: (representative, by) for duplicate, representative, by in names}


FOUND = {
    "a-both.mp4": ("a.mp4", "encoder+thumbnail"),
    "a-mirrored.mp4": ("a.mp4", "encoder"),
    "a-coded.mp4": ("a.mp4", "thumbnail"),
}


def test_a_pair_is_found_where_either_finds_it_and_the_table_says_which(tmp_path):
    run = stored_run(tmp_path, clips())
    decided = decide(run, duplicates__mode="drop")
    assert found(run) == FOUND
    assert (decided.num_kept, decided.num_duplicates, decided.num_unseen) == (2, 3, 0)
    assert verify_run(run, media=False).problems == []


@pytest.mark.parametrize("vectors", [["encoder"], ["thumbnail"]])
def test_only_the_vectors_that_are_named_are_looked_at(tmp_path, vectors):
    run = stored_run(tmp_path, clips())
    decide(run, duplicates__mode="report", duplicates__vectors=vectors)
    wanted = {name: (of, vectors[0]) for name, (of, by) in FOUND.items() if vectors[0] in by}
    assert found(run) == wanted
    assert verify_run(run, media=False).problems == []


def test_the_union_is_that_of_all_pairs_one_by_one(tmp_path):
    """Against a plain loop over every pair and both kinds of vectors, without any candidates."""
    rng = np.random.default_rng(7)
    family = {
        f"{n}.mp4": clip_of(int(rng.integers(4)), 100 + int(rng.integers(4)), seed=n + 1)
        for n in range(14)
    }
    run = stored_run(tmp_path, family)
    decide(run, duplicates__mode="report")
    times = clip(film(0, DURATION_S, **SLOW))[1]
    times = replace(times, time_s_F=np.linspace(0, DURATION_S, 20, endpoint=False))
    same = {}
    for view in views_of(DuplicatesConfig(), "siglip"):
        beside = view.vectors == "thumbnail"
        vectors = {
            name: as_stored(one.beside_FD) if beside else one.emb_FD.astype(np.float16)
            for name, one in family.items()
        }
        limits = {"threshold": view.thresholds.agreement, "contrast": view.thresholds.contrast}
        for names in itertools.combinations(family, 2):
            pair = [vectors[name] for name in names]
            match = match_clips(cross_cosines(*pair), times, times)
            own = own_likeness(match, *pair, times, times)
            covered = max(match.first_covered, match.second_covered) >= MIN_COVERED
            if covered and match.is_same(own=own, **limits):
                same.setdefault(frozenset(names), []).append(view.vectors)
    rows = found(run)
    assert len(rows) >= 5
    for name, (representative, by) in rows.items():
        assert same[frozenset((name, representative))] == by.split("+")
    stay = set(family) - set(rows)
    assert not any(frozenset((a, b)) in same for a in stay for b in stay if a != b)
    assert {by for _, by in rows.values()} >= {"encoder", "thumbnail"}


def test_of_several_that_may_stand_for_a_clip_the_encoders_comes_first(tmp_path):
    """However near another one is to `thumbnail`: cosines of two encoders are not compared."""
    small = {"width_px": 320, "height_px": 180}
    family = {
        "by-thumbnail.mp4": clip_of(2, 101),
        "by-encoder.mp4": clip_of(1, 102, seed=5),
        "copy.mp4": clip_of(1, 101, **small),
    }
    run = stored_run(tmp_path, family)
    decide(run, duplicates__mode="report")
    assert found(run) == {"copy.mp4": ("by-encoder.mp4", "encoder")}
    (row,) = table(tmp_path / "run", "duplicates")
    exact = cross_cosines(*[as_stored(family["copy.mp4"].beside_FD)] * 2).diagonal().mean()
    assert row["agreement"] < exact - 1e-4


def test_duplicates_of_an_evaluation_run_are_found_by_either(tmp_path):
    family = clips()
    other = stored_run(tmp_path / "other", {"held-out.mp4": family.pop("a.mp4")})
    run = stored_run(tmp_path / "own", family)
    decide(run, duplicates__exclude=[str(other.root)])
    assert found(run) == {name: ("held-out.mp4", by) for name, (_, by) in FOUND.items()}
    assert verify_run(run, media=False).problems == []


def test_runs_without_such_vectors_are_read_as_before_and_it_is_counted(tmp_path):
    older = {name: replace(one, beside_FD=None) for name, one in clips().items()}
    run = stored_run(tmp_path / "none", older)
    decided = decide(run, duplicates__mode="report")
    assert found(run) == {k: (of, "encoder") for k, (of, by) in FOUND.items() if "encoder" in by}
    assert decided.num_unseen == 5
    assert verify_run(run, media=False).problems == []
    # One that was embedded later has them, and nothing to be compared with by them.
    some = older | {"a-coded.mp4": clips()["a-coded.mp4"]}
    run = stored_run(tmp_path / "some", some)
    assert decide(run, duplicates__mode="report").num_unseen == 4
    assert decide(run, duplicates__mode="report", duplicates__vectors=["encoder"]).num_unseen == 0
    assert verify_run(run, media=False).problems == []


def test_looking_by_vectors_alone_that_are_not_there_is_refused(tmp_path):
    run = stored_run(tmp_path, {k: replace(c, beside_FD=None) for k, c in clips().items()})
    with pytest.raises(UserError, match=r"no vectors of `thumbnail`.*Add 'encoder'"):
        decide(run, duplicates__mode="report", duplicates__vectors=["thumbnail"])


def test_a_clip_that_would_be_compared_by_nothing_is_refused(tmp_path):
    """Some of a run's, or those of an evaluation run: what is in both would stay, unsaid."""
    family = clips()
    held_out = family.pop("a.mp4")
    other = stored_run(tmp_path / "other", {"held-out.mp4": replace(held_out, beside_FD=None)})
    run = stored_run(tmp_path / "own", family)
    vectors = {"duplicates__vectors": ["thumbnail"]}
    with pytest.raises(UserError, match=r"1 videos of \S*/other/\S* have no vectors"):
        decide(run, duplicates__exclude=[str(other.root)], **vectors)
    assert decide(run, duplicates__exclude=[str(other.root)]).num_unseen == 1
    some = family | {"b.mp4": replace(family["b.mp4"], beside_FD=None)}
    run = stored_run(tmp_path / "some", some)
    with pytest.raises(UserError, match=r"1 videos of \S*/some/\S* have no vectors"):
        decide(run, duplicates__mode="report", **vectors)


def test_images_of_an_evaluation_run_are_no_videos_without_vectors(tmp_path):
    family = clips()
    still = StoredClip(emb_FD=clip(film(3, DURATION_S))[0][:1], duration_s=0.04)  # as FFmpeg has it
    seen = {"held-out.mp4": family.pop("a.mp4"), "still.png": still}
    image = caption_row("still", "still.png")
    image["image"] = image.pop("video")
    image["conversations"][0]["value"] = "<image>\nWhat is seen?"
    both = {"id": "both", "images": ["still-2.png"], "videos": ["held-out.mp4"]}
    both["conversations"] = [dict(turn) for turn in image["conversations"]]
    both["conversations"][0]["value"] = "<image>\n<video>\nWhat is seen?"
    seen["still-2.png"] = still
    rows = [caption_row("a", "held-out.mp4"), image, both]
    other = stored_run(tmp_path / "other", seen, rows)
    assert {row["reason"] for row in table(tmp_path / "other/run", "samples")} == {""}
    run = stored_run(tmp_path / "own", family)
    decided = decide(run, duplicates__exclude=[str(other.root)])
    assert set(found(run)) == set(FOUND)
    assert decided.num_unseen == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vectors": []}, "name 'encoder', 'thumbnail' or both"),
        ({"vectors": ["encoder", "encoder"]}, "each once"),
        ({"vectors": ["siglip"]}, "encoder"),
        ({"vectors": ["thumbnail"], "threshold": 0.8}, "threshold is for the vectors of the run's"),
        ({"vectors": ["thumbnail"], "contrast": 0.5}, "contrast is for the vectors"),
        ({"contrast": 1.5}, "contrast"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        load_config(None, [(f"duplicates.{key}", value, "test") for key, value in settings.items()])


def test_what_the_user_says_is_for_the_encoders_vectors_alone():
    given = DuplicatesConfig(threshold=0.5, candidate_cosine=0.6, contrast=0.7)
    own, beside = views_of(given, "efficientnet_lite0")
    said = own.thresholds
    assert (said.agreement, said.candidate_cosine, said.contrast) == (0.5, 0.6, 0.7)
    assert beside.thresholds == views_of(DuplicatesConfig(), "siglip")[1].thresholds
    assert [view.vectors for view in views_of(given, "thumbnail")] == ["encoder"]


def test_how_unlike_two_may_be_is_said_by_the_contrast(tmp_path):
    """Two of the same still scene: nearly as unlike as each is like itself over time."""
    shown = clip(film(1, DURATION_S, speed=0.01))[0]
    rng = np.random.default_rng(0)
    other = shown + rng.normal(size=shown.shape) * 0.03
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    scenes = {"a.mp4": shown, "b.mp4": other}
    run = stored_run(
        tmp_path, {name: StoredClip(emb_FD=v, duration_s=DURATION_S) for name, v in scenes.items()}
    )
    own = cross_cosines(shown, shown)
    unlike = 1 - np.diagonal(cross_cosines(shown, other)).mean()
    assert 0.4 < unlike / (1 - own[~np.eye(20, dtype=bool)].mean()) < 0.9
    decide(run, duplicates__mode="report", duplicates__vectors=["encoder"])
    assert found(run) == {}
    decide(
        run, duplicates__mode="report", duplicates__vectors=["encoder"], duplicates__contrast=1.0
    )
    assert list(found(run)) == ["b.mp4"]


def test_a_damaged_vector_is_found_by_verify(tmp_path):
    family = clips()
    family["b.mp4"] = replace(family["b.mp4"], beside_FD=family["b.mp4"].beside_FD * 2)
    run = stored_run(tmp_path, family)
    decide(run)
    assert [p for p in verify_run(run, media=False).problems if "b.mp4" in p and "thumbnail" in p]


def test_a_table_of_before_is_compared_by_the_columns_it_has(tmp_path):
    run = stored_run(tmp_path, clips())
    decide(run, duplicates__mode="report")
    rows = pq.read_table(str(run.duplicates))
    pq.write_table(rows.drop_columns(["found_by"]), str(run.duplicates))
    assert verify_run(run, media=False).problems == []
    pq.write_table(rows.drop_columns(["found_by"]).slice(1), str(run.duplicates))
    (problem, *_) = verify_run(run, media=False).problems
    assert "an older version found them" in problem


def test_a_stopped_run_with_such_vectors_is_of_our_format(tmp_path):
    run = stored_run(tmp_path, clips())
    run.root.remove(run.run_json.name)
    assert upgrade(str(run.root)).was_current


@pytest.fixture
def manifest(tmp_path):
    for n, grey in enumerate((40, 90, 140)):
        write_flat_video(tmp_path / f"{n}.mp4", num_frames=12 + n, rgb=(grey, 255 - grey, 90))
    rows = [caption_row(f"row-{n}", f"{n}.mp4") for n in range(3)]
    return write_rows(tmp_path / "rows.json", rows)


def beside_of(out):
    parts = [pq.read_table(part) for part in (out / "embeddings").glob("*.parquet")]
    rows = [row for part in parts for row in part.to_pylist()]
    return {row["uri"].rpartition("/")[2]: row.get("beside") for row in rows}


def test_prune_keeps_them_beside_a_trained_encoder_the_same_on_each_engine(
    manifest, tmp_path, engine_name
):
    settings = {
        "encoder__name": "efficientnet_lite0",
        "encoder__device": "cpu",
        "duplicates__mode": "report",
    }
    make_image(tmp_path / "still.png")
    rows = json.loads(manifest.read_text())
    image = caption_row("still", "x") | {"image": "still.png"}
    del image["video"]
    write_rows(manifest, [*rows, image])
    run_prune(manifest, tmp_path / "run", cluster__engine=engine_name, **settings)
    run_prune(manifest, tmp_path / "local", cluster__engine="local", **settings)
    beside = beside_of(tmp_path / "run")
    assert beside == beside_of(tmp_path / "local")
    assert beside["still.png"] is None  # images are the same by content alone
    for n, grey in enumerate((40, 90, 140)):
        kept = unpacked(beside[f"{n}.mp4"], 12 + n)
        flat = np.full((1, 224, 224, 3), (grey, 255 - grey, 90), np.uint8)
        # A flat video comes back from its codec as nearly the colour that went in.
        assert (kept @ embed_beside(flat)[0] > 0.99).all()
        assert (kept == kept[0]).all()
    assert table(tmp_path / "run", "duplicates") == []
    assert verify_run(open_run(tmp_path / "run"), media=False).problems == []


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(
    "settings",
    [
        {"encoder__name": "thumbnail"},
        {"encoder__name": "efficientnet_lite0", "duplicates__vectors": ["encoder"]},
    ],
)
def test_none_are_made_where_none_are_wanted(manifest, tmp_path, settings):
    run_prune(manifest, tmp_path / "run", encoder__device="cpu", **settings)
    assert set(beside_of(tmp_path / "run").values()) == {None}
    names = {part: pq.read_schema(part).names for part in (tmp_path / "run/embeddings").glob("*")}
    assert all("beside" not in columns for columns in names.values())
