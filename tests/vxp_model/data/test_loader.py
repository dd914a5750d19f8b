"""The loader: frames of the plan, every sample once, exact resume, broken payloads replaced."""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import pickle
import shutil
from itertools import islice

import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from support import ffmpeg_truth
from support.later import LATER
from support.misbehaving import offer_misbehaving
from support.shard_fixtures import (
    damage,
    make_image,
    make_video,
    media_clip,
    rewrite_index,
    text_clip,
    text_shards,
    write_shards,
)
from vxp_data.conversation import Role, Turn
from vxp_data.registry import DECODERS
from vxp_data.shard_index import ShardIndex
from vxp_model.data.frames import FrameOptions
from vxp_model.data.index import load_index
from vxp_model.data.order import BatchRule, OrderRule
from vxp_model.data.state import merge_states
from vxp_model.errors import UserError

if LATER:
    import torch

    from vxp_model.data.dataset import SampleIndex, ShardDataset
    from vxp_model.data.loader import ShardLoader, TooManyBrokenError
    from vxp_model.data.sources import Source

THREADS = "ignore:This process .* is multi-threaded:DeprecationWarning"
"""Python 3.12's, where torch forks workers of a process with threads."""
SIDE_PX = ffmpeg_truth.SIDE_PX


def loader(source, **more):
    """A loader that reads rows alone, unless told otherwise."""
    return ShardLoader(source, **({"frames": None} | more))


def ids(batches):
    return [s.sample_id for batch in batches for s in batch.samples if not s.is_padding]


def ranks(source, world_size, state=None, **more):
    """One loader for each rank."""
    made = [loader(source, rank=r, world_size=world_size, **more) for r in range(world_size)]
    for each in made:
        if state is not None:
            each.load_state_dict(state)
    return made


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    return text_shards(tmp_path_factory.mktemp("texts"), 53)


# --- resume -------------------------------------------------------------------------------------


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    worlds=st.lists(st.integers(1, 4), min_size=2, max_size=4),
    kills=st.lists(st.integers(0, 30), min_size=3, max_size=3),
    sizes=st.lists(st.integers(1, 5), min_size=4, max_size=4),
    order=st.builds(
        OrderRule,
        seed=st.integers(0, 3),
        shuffle=st.booleans(),
        length_window=st.sampled_from([0, 16]),
        length_run=st.sampled_from([4, 8]),
    ),
)
def test_killed_after_any_step_and_resumed_on_any_world_every_sample_comes_once(
    texts, worlds, kills, sizes, order
):
    state, seen, rest = None, [], None
    for number, world_size in enumerate(worlds):
        batch = BatchRule(max_samples=sizes[number])
        made = ranks(texts.uri, world_size, state, batch=batch, order=order)
        if rest is not None:
            left = made[0].current_order().sample_E[made[0].position :]
            assert [texts.sample_ids[i] for i in left] == rest  # the order goes on where it was
        is_last = number == len(worlds) - 1
        steps = list(zip(*(iter(each) for each in made), strict=True)) if is_last else []
        if not is_last:
            iterators = [iter(each) for each in made]
            for _ in range(min(kills[number], len(made[0]))):
                steps.append([next(each) for each in iterators])
            states = [each.state_dict() for each in made]
            assert all(other == states[0] for other in states)
            state = json.loads(json.dumps(states[0]))
            left = made[0].current_order().sample_E[made[0].position :]
            rest = [texts.sample_ids[i] for i in left]
        for step in steps:
            of_step = [s for one in step for s in one.samples if not s.is_padding]
            seen += [s.sample_id for s in sorted(of_step, key=lambda s: s.position)]
    assert sorted(seen) == sorted(texts.sample_ids)
    whole = loader(texts.uri, order=order)
    assert ids(whole) == seen  # in the order of one process that never stopped


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_on_the_same_world_each_rank_goes_on_with_its_own_batches(texts, world_size):
    batch = BatchRule(max_samples=2)
    whole = [[ids([b]) for b in each] for each in ranks(texts.uri, world_size, batch=batch)]
    made = ranks(texts.uri, world_size, batch=batch)
    first = [[ids([b]) for b in islice(each, 3)] for each in made]
    again = ranks(texts.uri, world_size, made[0].state_dict(), batch=batch)
    rest = [[ids([b]) for b in each] for each in again]
    assert [f + r for f, r in zip(first, rest, strict=True)] == whole


@pytest.mark.filterwarnings(THREADS)
def test_state_is_of_the_batch_given_out_however_far_workers_have_read_ahead(texts):
    with_workers = loader(texts.uri, num_workers=2, prefetch_batches=4)
    iterator = iter(with_workers)
    seen = ids([next(iterator) for _ in range(5)])
    state = with_workers.state_dict()
    with_workers.close()
    assert state["position"] == 5
    again = loader(texts.uri)
    again.load_state_dict(state)
    assert seen + ids(again) == ids(loader(texts.uri))


def test_a_state_saved_in_an_epochs_last_step_has_nothing_left_of_it(texts):
    first = loader(texts.uri, batch=BatchRule(max_samples=8))
    for _ in first:
        in_last_step = first.state_dict()
    after = first.state_dict()
    assert (in_last_step["epoch"], in_last_step["position"]) == (0, 53)
    assert (after["epoch"], after["position"]) == (1, 0)
    again = loader(texts.uri)
    again.load_state_dict(in_last_step)
    assert len(again) == 0
    assert ids(again) == []
    second = ids(again)
    again.load_state_dict(after)
    assert ids(again) == second != ids(loader(texts.uri))
    assert sorted(second) == sorted(texts.sample_ids)


def test_leaving_the_loop_and_coming_back_goes_on(texts):
    one = loader(texts.uri)
    seen = []
    for batch in one:
        seen += ids([batch])
        if len(seen) == 10:
            break
    assert seen + ids(one) == ids(loader(texts.uri))


# --- the remainder ------------------------------------------------------------------------------


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
@pytest.mark.parametrize("max_samples", [1, 4, 60])
def test_ranks_end_on_the_same_step_and_pad_the_last_alone(texts, world_size, max_samples):
    made = ranks(texts.uri, world_size, batch=BatchRule(max_samples=max_samples))
    assert len({len(each) for each in made}) == 1
    num_steps = len(made[0])
    batches = [list(each) for each in made]
    assert {len(own) for own in batches} == {num_steps}
    padding = [b for own in batches for b in own if b.num_real == 0]
    assert len(padding) == -(-53 // max_samples) % -world_size * -1
    assert all(b.num_real for own in batches for b in own[:-1])
    for batch in padding:  # the step's first sample, alone
        (sample,) = batch.samples
        assert sample.is_padding
        assert sample.position == min(s.position for own in batches for s in own[-1].samples)
    assert sorted(ids(b for own in batches for b in own)) == sorted(texts.sample_ids)


def test_no_rank_always_has_the_same_place_in_the_step(tmp_path):
    texts = text_shards(tmp_path / "t", 200)
    share = []
    for each in ranks(texts.uri, 4):
        share.append(np.bincount([b.samples[0].position % 4 for b in each], minlength=4))
    assert np.min(share) > 3
    assert np.max(share) < 25


# --- mixtures -----------------------------------------------------------------------------------


def test_a_mixture_takes_kinds_of_one_directory_by_weight(tmp_path):
    image = make_image(tmp_path / "i.png")
    images = [media_clip(image, ["img/0", "img/1", "img/2"], payload="none", is_image=True)]
    shards = write_shards(
        tmp_path / "s", [images, [text_clip(f"t/{i}") for i in range(30)]], payload="none"
    )
    mixture = [
        Source(uri=shards.uri, kinds=("image",), weight=1),
        Source(uri=shards.uri, kinds=("text",), weight=3),
    ]
    seen = ids(loader(mixture))
    assert len(seen) == 40
    assert sorted(s for s in seen if s.startswith("t")) == sorted(f"t/{i}" for i in range(30))
    assert [seen.count(f"img/{i}") for i in range(3)] in ([3, 3, 4], [3, 4, 3], [4, 3, 3])


def test_a_source_without_samples_of_its_kinds_is_refused(texts):
    with pytest.raises(UserError, match="no samples of kind video, wanted one at least"):
        loader([Source(uri=texts.uri, kinds=("video",))])
    with pytest.raises(UserError, match="unknown kind 'videos'"):
        Source(uri=texts.uri, kinds=("videos",))


# --- refusals -----------------------------------------------------------------------------------


def test_a_changed_index_is_refused(tmp_path):
    shards = text_shards(tmp_path / "t", 10)
    state = loader(shards.uri).state_dict()
    rewrite_index(shards, num_epochs=2)
    with pytest.raises(
        UserError, match=r"source 0 \(.*\): its index.json has SHA-256 .*, the state"
    ):
        loader(shards.uri).load_state_dict(state)


def test_the_same_shards_elsewhere_are_the_same_data(tmp_path):
    shards = text_shards(tmp_path / "t", 10)
    one = loader(shards.uri)
    seen = ids([next(iter(one))])
    shutil.move(shards.folder, tmp_path / "moved")
    again = loader(str(tmp_path / "moved"))
    again.load_state_dict(one.state_dict())
    assert sorted(seen + ids(again)) == sorted(shards.sample_ids)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"order": OrderRule(seed=1)}, "seed 1, the state has 0"),
        ({"order": OrderRule(epoch_samples=5)}, "epoch_samples 5, the state has None"),
        ({"order": OrderRule(length_window=64)}, "length_window 64, the state has 0"),
        ({"weight": 2.0}, "weight 2.0, the state has None"),
        ({"kinds": ("text",)}, r"kinds \['text'\], the state has None"),
        ({"double": True}, "2 sources, the state has 1"),
    ],
)
def test_a_state_of_another_order_is_refused(texts, change, message):
    state = loader(texts.uri).state_dict()
    source = Source(uri=texts.uri, weight=change.get("weight"), kinds=change.get("kinds"))
    sources = [source] * (2 if "double" in change else 1)
    with pytest.raises(UserError, match=message):
        loader(sources, order=change.get("order", OrderRule())).load_state_dict(state)


def test_what_is_no_state_is_refused(texts):
    one = loader(texts.uri)
    with pytest.raises(UserError, match="version is None, wanted 1"):
        one.load_state_dict({})
    state = one.state_dict()
    del state["position"]
    with pytest.raises(UserError, match="position"):
        one.load_state_dict(state)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("no_index", "cannot read index.json"),
        ("version", "format_version is 99"),
        ("samples", r"SHA-256 is .* wanted"),
        ("gone", r"text-00001.tar: got no such file, wanted \d+ bytes"),
        ("short", r"text-00001.tar: got 512 bytes, wanted \d+ bytes"),
    ],
)
def test_a_directory_that_is_not_whole_is_refused(fault, message, tmp_path):
    shards = text_shards(tmp_path / "t", 10)
    if fault == "no_index":
        (shards.folder / "index.json").unlink()
    elif fault == "version":
        rewrite_index(shards, format_version=99)
    elif fault == "samples":
        path = shards.folder / "samples.parquet"
        path.write_bytes(path.read_bytes()[:-1] + b"\0")
    elif fault == "gone":
        (shards.folder / "text-00001.tar").unlink()
    elif fault == "short":
        os.truncate(shards.folder / "text-00001.tar", 512)
    with pytest.raises(UserError, match=message):
        load_index(shards.uri)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"rank": 2, "world_size": 2}, "rank is 2, wanted 0 to world_size - 1"),
        ({"rank": 0}, "give both or neither"),
        ({"source": []}, "no sources"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(more, message, texts):
    source = more.pop("source", texts.uri)
    with pytest.raises(UserError, match=message):
        loader(source, **more)


# --- frames -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Three videos with all their frames as an ffmpeg program gives them."""
    folder = tmp_path_factory.mktemp("videos")
    made = {}
    for seed, num_frames in enumerate((50, 23, 1)):
        path = make_video(folder / f"{seed}.mp4", num_frames, seed=seed)
        made[path] = ffmpeg_truth.decode(path, folder / f"{seed}.rgb")
    return made


def clips_of(videos, **more):
    """Two rows about each video, and one about a part of the first."""
    clips = [media_clip(path, [f"v{i}/a", f"v{i}/b"], **more) for i, path in enumerate(videos)]
    clips.append(media_clip(next(iter(videos)), ["part"], clip_s=(1.0, 3.0), **more))
    return clips


def truth(videos, sample):
    number = 0 if sample.sample_id == "part" else int(sample.sample_id[1])
    return list(videos.values())[number]


@pytest.mark.parametrize("decoder", DECODERS.names())
def test_frames_are_those_of_the_plan_by_every_decoder(decoder, videos, tmp_path):
    shards = write_shards(tmp_path / "s", [clips_of(videos)])
    options = FrameOptions(frame_px=SIDE_PX, decoder=decoder, fallback=None)
    plans = {row.sample_id: row.plans[0] for clip in shards.clips for row in clip.record.rows}
    seen = []
    one = loader(shards.uri, frames=options)
    for batch in one:
        (sample,) = batch.samples
        seen.append(sample.sample_id)
        plan = plans[sample.sample_id]
        assert sample.time_s_T.tolist() == plan.time_s
        assert sample.fps == plan.fps
        assert sample.frames_THWC.shape == (len(plan.frame_index), SIDE_PX, SIDE_PX, 3)
        assert sample.frames_THWC.dtype == torch.uint8
        assert sample.num_inexact == 0
        wanted = truth(videos, sample)
        assert wanted.places_of(sample.time_s_T.numpy()).tolist() == plan.frame_index
        check_frames(sample.frames_THWC.numpy(), wanted.frames_NHWC, plan.frame_index)
        if sample.sample_id == "part":
            first, second, *_, last = sample.time_s_T.tolist()
            assert 0.85 < first <= 1 < second < last < 3  # the first is on screen at 1 s
    one.close()
    assert sorted(seen) == sorted(shards.sample_ids)
    assert one.replaced == []


def check_frames(frames_THWC, truth_NHWC, frame_index):
    """The frames are the wanted ones, several times nearer to them than to any other."""
    for frame, index in zip(frames_THWC.astype(float), frame_index, strict=True):
        away_N = np.abs(truth_NHWC.astype(float) - frame).mean(axis=(1, 2, 3))
        assert away_N[index] < 12  # filters differ, most of all at hard edges
        assert (np.delete(away_N, index) > 4 * away_N[index]).all()


def test_frames_payload_gives_the_stored_images_of_each_epochs_plan(videos, tmp_path):
    """Three epochs' plans of two are stored: the third epoch shows the first's frames."""
    clips = [
        media_clip(path, [f"v{i}/a", f"v{i}/b"], payload="frames", num_epochs=2,
                   frames_NHWC=wanted.frames_NHWC)
        for i, (path, wanted) in enumerate(videos.items())
    ]  # fmt: skip
    shards = write_shards(tmp_path / "s", [clips], payload="frames")
    plans = {row.sample_id: row.plans for clip in shards.clips for row in clip.record.rows}
    one = loader(shards.uri, frames=FrameOptions(frame_px=None))
    for epoch in range(3):
        for batch in one:
            (sample,) = batch.samples
            plan = plans[sample.sample_id][epoch % 2]
            assert sample.epoch == epoch
            assert sample.time_s_T.tolist() == plan.time_s
            wanted = truth(videos, sample).frames_NHWC[plan.frame_index]
            assert (sample.frames_THWC.numpy() == wanted).all()  # lossless images
    smaller = loader(shards.uri, frames=FrameOptions(frame_px=32))
    assert next(iter(smaller)).samples[0].frames_THWC.shape[1:] == (32, 32, 3)


def test_plans_beyond_the_stored_epochs_are_drawn_from_the_rule(videos, tmp_path):
    """Shards with one epoch's plans give the fifth epoch that shards with five have stored."""
    one = write_shards(tmp_path / "one", [clips_of(videos, payload="none")], payload="none")
    five = write_shards(
        tmp_path / "five", [clips_of(videos, payload="none", num_epochs=5)], payload="none"
    )
    datasets = [ShardDataset(shards.uri, None) for shards in (one, five)]
    rates = set()
    for number in range(len(one.sample_ids)):
        for epoch in range(5):
            index = SampleIndex(0, number, epoch, 0)
            drawn, stored = (dataset[index] for dataset in datasets)
            assert drawn.sample_id == stored.sample_id
            assert drawn.time_s_T.tolist() == stored.time_s_T.tolist()
            assert drawn.fps == stored.fps
            rates.add(drawn.fps)
    assert rates == {2.0, 3.0, 4.0}


@pytest.mark.parametrize("payload", ["video", "none"])
def test_images_come_as_one_frame_and_text_without(payload, tmp_path):
    path = make_image(tmp_path / "i.png")
    clips = [media_clip(path, ["i"], payload=payload, is_image=True)]
    shards = write_shards(tmp_path / "s", [clips, [text_clip("t")]], payload=payload)
    one = loader(shards.uri, frames=FrameOptions(frame_px=None))
    samples = {s.sample_id: s for batch in one for s in batch.samples}
    one.close()
    assert one.replaced == []
    with Image.open(path) as image:
        wanted = np.asarray(image)
    assert (samples["i"].frames_THWC.numpy() == wanted[None]).all()
    assert samples["i"].time_s_T.tolist() == [0.0]
    assert samples["t"].frames_THWC is None
    assert samples["t"].time_s_T.tolist() == []
    assert (samples["t"].kind, samples["t"].task, samples["t"].key[:4]) == (
        "text", "caption", shards.clips[1].record.key[:4],
    )  # fmt: skip
    assert samples["t"].conversation == (
        Turn.of_text(Role.USER, "What is t?"),
        Turn.of_text(Role.ASSISTANT, "It is t."),
    )


@pytest.mark.filterwarnings(THREADS)
@pytest.mark.parametrize("num_workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_workers_decode_in_sandboxes_and_give_the_same_frames(num_workers, videos, tmp_path):
    shards = write_shards(tmp_path / "s", [clips_of(videos)])
    options = FrameOptions(frame_px=32)
    with_workers = loader(shards.uri, frames=options, num_workers=num_workers)
    alone = loader(shards.uri, frames=options)
    for _ in range(2):  # workers stay for the second epoch
        for one, other in zip(with_workers, alone, strict=True):
            (a,), (b,) = one.samples, other.samples
            assert (a.sample_id, a.epoch, a.position) == (b.sample_id, b.epoch, b.position)
            assert torch.equal(a.frames_THWC, b.frames_THWC)
    with_workers.close()
    alone.close()


def test_a_dataset_goes_to_another_process_whole(videos, tmp_path):
    shards = write_shards(tmp_path / "s", [clips_of(videos)])
    dataset = ShardDataset(shards.uri, FrameOptions(frame_px=16))
    index = SampleIndex(0, 3, 0, 0)
    first = dataset[index]
    again = pickle.loads(pickle.dumps(dataset))
    second = again[index]
    assert first.sample_id == second.sample_id
    assert torch.equal(first.frames_THWC, second.frames_THWC)
    dataset.close()
    again.close()
    assert torch.equal(dataset[index].frames_THWC, first.frames_THWC)  # opens itself again
    dataset.close()


# --- broken payloads ----------------------------------------------------------------------------


def frames_shards(folder, num_clips):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (50, 8, 8, 3), dtype=np.uint8)
    clips = []
    for number in range(num_clips):
        video = make_video(folder / f"{number}.mp4", 20 + number, seed=number)
        clips.append(media_clip(video, [f"{number}/a", f"{number}/b"], payload="frames",
                                frames_NHWC=frames))  # fmt: skip
    return write_shards(folder / "s", [clips], payload="frames")


@pytest.mark.filterwarnings(THREADS)
def test_a_broken_payload_is_replaced_by_the_next_of_like_length_and_listed(tmp_path, caplog):
    shards = frames_shards(tmp_path, 6)
    broken = shards.clips[2].record
    damage(shards, broken.key)
    one = loader(shards.uri, frames=FrameOptions(frame_px=None))
    samples = [s for batch in one for s in batch.samples]
    counts = load_index(shards.uri).num_frames_N.tolist()
    ring = [shards.sample_ids[i] for i in np.argsort(counts, kind="stable")]

    def next_good(sample_id):
        after = ring[ring.index(sample_id) + 1 :] + ring[: ring.index(sample_id)]
        return next(other for other in after if not other.startswith("2/"))

    replaced = {s.replaced.sample_id: s for s in samples if s.replaced}
    assert sorted(replaced) == ["2/a", "2/b"]
    for sample_id, sample in replaced.items():
        assert sample.sample_id == sample.replaced.by_sample_id == next_good(sample_id)
        assert sample.frames_THWC is not None
        assert sample.replaced.reason == "checksum"
        assert sample.replaced.position == sample.position
    assert len(samples) == 12  # no place of the order is lost
    assert [entry.sample_id for entry in one.replaced] == list(replaced)
    assert "2 samples of 1 broken clips were replaced" in caplog.text
    assert broken.key in caplog.text

    with_workers = loader(shards.uri, frames=FrameOptions(frame_px=None), num_workers=2)
    assert ids(with_workers) == [s.sample_id for s in samples]  # the rule knows no worker
    with_workers.close()
    again = loader(shards.uri)
    again.load_state_dict(json.loads(json.dumps(one.state_dict())))
    assert again.replaced == one.replaced


def test_more_broken_clips_than_allowed_stop_with_the_list(tmp_path):
    shards = frames_shards(tmp_path, 6)
    for clip in shards.clips[:3]:
        damage(shards, clip.record.key)
    options = FrameOptions(frame_px=None)
    assert len(ids(loader(shards.uri, frames=options, max_broken=3))) == 12
    with pytest.raises(TooManyBrokenError, match="3 clips cannot be used, at most 2") as error:
        ids(loader(shards.uri, frames=options, max_broken=2))
    for clip in shards.clips[:3]:
        assert clip.record.key in str(error.value)
    for clip in shards.clips[3:]:
        damage(shards, clip.record.key)
    with pytest.raises(UserError, match="6 clips of kind video cannot be used, and none is left"):
        ids(loader(shards.uri, frames=options))


@pytest.mark.filterwarnings(THREADS)
@pytest.mark.parametrize("num_workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_decoders_that_hang_or_crash_cost_their_clips_and_nothing_else(
    num_workers, tmp_path, monkeypatch
):
    offer_misbehaving(tmp_path / "installed", monkeypatch)
    names = ["hangs", "crashes", "killed", "raises", "fine"]
    clips = []
    for seed, name in enumerate(names):
        path = make_video(tmp_path / f"{name}.mp4", 20, seed=seed)
        clips.append(media_clip(path, [name]))
    shards = write_shards(tmp_path / "s", [clips])
    options = FrameOptions(frame_px=16, decoder="misbehaving", fallback=None, timeout_s=3)
    one = loader(shards.uri, frames=options, num_workers=num_workers)
    assert ids(one) == ["fine"] * 5
    one.close()
    assert {e.sample_id: e.reason for e in one.replaced} == {
        "hangs": "timeout", "crashes": "crashed", "killed": "out_of_memory",
        "raises": "decode_failed",
    }  # fmt: skip
    second = loader(shards.uri, frames=FrameOptions(frame_px=16, decoder="misbehaving",
                    fallback="pyav", timeout_s=3), num_workers=num_workers)  # fmt: skip
    assert sorted(ids(second)) == sorted(names)
    second.close()


@pytest.mark.filterwarnings(THREADS)
def test_pyav_takes_what_the_decoder_does_not_claim_without_a_fallback(tmp_path, monkeypatch):
    offer_misbehaving(tmp_path / "installed", monkeypatch)
    clip = media_clip(make_video(tmp_path / "unclaimed.mp4", 20), ["unclaimed"])
    options = FrameOptions(frame_px=16, decoder="misbehaving", fallback=None)
    one = loader(write_shards(tmp_path / "s", [[clip]]).uri, frames=options)
    assert (ids(one), one.replaced) == (["unclaimed"], [])
    one.close()


@pytest.mark.parametrize(
    ("frame_index", "later_s", "message"),
    [
        ([0, 1], 0.01, "0.010 s from their planned times"),
        ([0, 50], 0.0, "50 is planned, it has 50"),
    ],
)
def test_frames_that_lie_elsewhere_than_planned_are_not_shown(
    frame_index, later_s, message, videos, tmp_path
):
    """The file's bytes are those of the record: another FFmpeg may read other times from them."""
    whole, other = (media_clip(path, [path.name]) for path in list(videos)[:2])
    (row,) = whole.record.rows
    plan = dataclasses.replace(
        row.plans[0], frame_index=frame_index, time_s=[later_s, later_s + 0.107]
    )
    row = dataclasses.replace(row, plans=[plan])
    record = dataclasses.replace(whole.record, rows=[row])
    odd = dataclasses.replace(whole, record=record)
    one = loader(write_shards(tmp_path / "s", [[odd, other]]).uri, frames=FrameOptions(frame_px=16))
    assert ids(one) == [other.record.rows[0].sample_id] * 2
    one.close()
    (entry,) = one.replaced
    assert (entry.sample_id, entry.reason) == (row.sample_id, "source_changed")
    assert message in entry.message


@pytest.mark.parametrize(
    ("member", "at", "reason"),
    [
        ("video", 0.5, "source_changed"),
        ("json", 0.0, "bad_record"),
        ("json", 0.5, "bad_record"),
    ],
)
def test_a_flipped_byte_is_found(member, at, reason, videos, tmp_path):
    shards = write_shards(tmp_path / "s", [clips_of(videos)])
    damage(shards, shards.clips[0].record.key, member=member, at=at)
    one = loader(shards.uri, frames=FrameOptions(frame_px=16))
    assert len(ids(one)) == 7
    one.close()
    assert {(entry.key, entry.reason) for entry in one.replaced} == {
        (shards.clips[0].record.key, reason)
    }


def test_a_row_under_anothers_place_is_not_given_out(tmp_path):
    """An index whose names are off by one row: captions must not go to other videos."""
    import hashlib

    import pyarrow.parquet as pq

    shards = text_shards(tmp_path / "t", 8)
    path = shards.folder / "samples.parquet"
    table = pq.read_table(path)
    rolled = [*table["sample_id"].to_pylist()[1:], "t/0"]
    at = table.column_names.index("sample_id")
    pq.write_table(table.set_column(at, "sample_id", [rolled]), path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    index = ShardIndex.from_json((shards.folder / "index.json").read_bytes())
    rewrite_index(shards, samples={"name": "samples.parquet", "num_rows": 8, "sha256": sha256})
    assert index.samples.num_rows == 8
    with pytest.raises(UserError, match=r"cannot be used.*bad_record.*as the index says"):
        ids(loader(shards.uri))


def test_a_media_that_is_gone_is_replaced_until_it_is_back_where_the_shard_has_no_payload(
    videos, tmp_path
):
    paths = [shutil.copy(path, tmp_path / path.name) for path in videos]
    clips = [media_clip(p, [f"v{i}"], payload="none")
             for i, p in enumerate(paths)]  # fmt: skip
    shards = write_shards(tmp_path / "s", [clips], payload="none")
    paths[0].unlink()
    shutil.copy(paths[2], paths[1])
    one = loader(shards.uri, frames=FrameOptions(frame_px=16))
    assert ids(one) == ["v2"] * 3
    assert {e.sample_id: e.reason for e in one.replaced} == {
        "v0": "missing",
        "v1": "source_changed",
    }
    shutil.copy(next(iter(videos)), paths[0])
    assert sorted(ids(one)) == ["v0", "v0", "v2"]  # the next epoch; v1 is what it was
    one.close()


def test_states_of_all_ranks_are_merged_with_every_replacement(tmp_path):
    shards = frames_shards(tmp_path, 6)
    for clip in shards.clips[:2]:
        damage(shards, clip.record.key)
    made = ranks(shards.uri, 2, frames=FrameOptions(frame_px=None))
    for each in made:
        list(each)
    states = [each.state_dict() for each in made]
    merged = merge_states(states)
    assert len(merged["replaced"]) == 4 == sum(len(state["replaced"]) for state in states)
    made[0].load_state_dict(merged)
    with pytest.raises(ValueError, match="ranks 0 and 1 differ in position"):
        merge_states([states[0], states[1] | {"position": 3}])


def test_what_stands_in_for_padding_is_not_counted(tmp_path):
    shards = frames_shards(tmp_path, 2)
    (first,) = next(loader(shards.uri).steps())  # with 8 ranks: one step, padded with this sample
    damage(shards, load_index(shards.uri).key_N[first.sample].as_py())
    made = ranks(shards.uri, 8, frames=FrameOptions(frame_px=None))
    padding = [batch.samples[0] for each in made for batch in each if batch.num_real == 0]
    assert [sample.replaced is not None for sample in padding] == [True] * 4
    assert sum(len(each.replaced) for each in made) == 2


# --- an object store ----------------------------------------------------------------------------


@pytest.mark.filterwarnings(THREADS)
def test_shards_in_an_object_store_give_the_same_samples(s3, videos, tmp_path):
    shards = write_shards(tmp_path / "s", [clips_of(videos)])
    for path in shards.folder.iterdir():
        s3.put(f"shards/{path.name}", path.read_bytes())
    options = FrameOptions(frame_px=16)
    local = loader(shards.uri, frames=options)
    remote = loader(f"{s3.uri}/shards", frames=options, num_workers=1)  # forked after its first use
    for one, other in zip(local, remote, strict=True):
        (a,), (b,) = one.samples, other.samples
        assert a.sample_id == b.sample_id
        assert torch.equal(a.frames_THWC, b.frames_THWC)
    local.close()
    remote.close()
    again = loader(f"{s3.uri}/shards")
    again.load_state_dict(local.state_dict())  # the place moves with the data


def test_a_store_that_fails_for_a_while_costs_no_sample(s3, tmp_path):
    shards = text_shards(tmp_path / "t", 6)
    for path in shards.folder.iterdir():
        s3.put(path.name, path.read_bytes())
    remote = loader(s3.uri)
    s3.fail("status", method="GET", path="tar", times=2, status=503)
    s3.fail("short", method="GET", path="tar", times=2)
    assert ids(remote) == ids(loader(shards.uri))
    assert remote.replaced == []
    s3.fail("status", method="GET", path="tar", times=1, status=403)
    with pytest.raises(
        UserError, match=r"the object store fails: .*resume from the last checkpoint"
    ):
        ids(remote)
    s3.heal()
    assert remote.state_dict()["position"] == 0


def test_a_loader_that_nobody_holds_has_no_file_open(texts):
    iterator = iter(loader(texts.uri))
    next(iterator)
    held = open_shards(texts.uri)
    assert held
    del iterator
    gc.collect()
    assert not open_shards(texts.uri)
    closed = loader(texts.uri)
    next(iter(closed))
    assert open_shards(texts.uri)
    closed.close()
    assert not open_shards(texts.uri)


def open_shards(folder: str) -> list[str]:
    """Name the files of a folder that this process has open."""
    files = (file.path for file in psutil.Process().open_files())
    return [path for path in files if path.startswith(folder)]
