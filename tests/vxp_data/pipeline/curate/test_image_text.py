"""Captions beside their images: the text side against open_clip's own, and who goes for it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from support.later import LATER
from support.runs import by_sample, run_prune, write_rows
from support.stored_runs import ENCODER, SAMPLER, StoredClip, decide, stored_run
from support.tiny_models import Settings, images, write_tiny_siglip
from vxp_data.encoders.base import EncoderSpec
from vxp_data.errors import UserError
from vxp_data.pipeline.curate.image_text import (
    CompareTexts,
    image_pairs,
    wants_similarity,
    with_images,
)
from vxp_data.pipeline.curate.image_text_table import SIMILARITY_SCHEMA, pair_key
from vxp_data.pipeline.embed.job_settings import JobSettings
from vxp_data.pipeline.run_dir.directory import RunDirectory, read_table, write_table
from vxp_data.registry import ENCODERS
from vxp_data.settings.prune import EncoderConfig, PruneConfig

if LATER:
    import open_clip
    import torch

    from vxp_data.encoders.siglip_text import SiglipTextEncoder

TEXTS = ["A red cat, and the dog.", "the  RED cat and the dog", "", "car " * 50, "is green"]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_siglip(tmp_path_factory.mktemp("tiny"))


def test_texts_embed_as_with_open_clips_own_model_and_tokenizer(tiny: Path) -> None:
    model, _ = open_clip.create_model_from_pretrained(f"local-dir:{tiny}")
    tokens = open_clip.get_tokenizer(f"local-dir:{tiny}")(TEXTS)
    with torch.inference_mode():
        wanted_TD = model.eval().encode_text(tokens, normalize=True).numpy()
    encoder = SiglipTextEncoder.load(Settings(checkpoint=str(tiny)))
    got_TD = encoder.embed_texts(TEXTS)
    assert got_TD.dtype == np.float32
    np.testing.assert_allclose(got_TD, wanted_TD, atol=1e-6)
    assert abs((got_TD[0] * got_TD[4]).sum()) < 0.99  # the model can tell texts apart
    assert len(encoder.embed_texts([])) == 0
    for text, alone in zip(TEXTS, got_TD, strict=True):
        np.testing.assert_array_equal(encoder.embed_texts([text])[0], alone)


def test_without_a_tokenizer_it_is_said_which_and_how_to_get_it(tiny: Path, tmp_path: Path) -> None:
    for name in ("open_clip_config.json", "open_clip_model.safetensors"):
        shutil.copy(tiny / name, tmp_path)
    with pytest.raises(
        UserError, match=r"tokenizer\.json beside the weights .*\n.*hf download tiny"
    ):
        SiglipTextEncoder.prepare(Settings(checkpoint=str(tmp_path)))
    config = json.loads((tiny / "open_clip_config.json").read_text())
    del config["model_cfg"]["text_cfg"]["hf_tokenizer_name"]
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="names no tokenizer"):
        SiglipTextEncoder.prepare(Settings(checkpoint=str(tmp_path)))


def test_a_stage_gives_the_cosine_of_each_pair(tiny: Path) -> None:
    given = EncoderConfig(name="siglip", checkpoint=str(tiny), device="cpu")
    encoder = ENCODERS.load("siglip").load(given)
    image_TD = encoder.embed(images(3, 64)).astype(np.float16)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(image_TD.reshape(-1)), 64)
    table = pa.table({"pair": ["a", "b", "c"], "text": TEXTS[:3], "embedding": vectors})
    got = CompareTexts(given, encoder.spec)(table.slice(1))  # a slice, as Ray gives them
    text_TD = SiglipTextEncoder.load(given).embed_texts(TEXTS[:3])
    wanted_T = (text_TD * image_TD.astype(np.float32)).sum(axis=1)
    assert got["pair"].to_pylist() == ["b", "c"]
    assert got["similarity"].to_numpy() == pytest.approx(wanted_T[1:], abs=1e-3)
    with pytest.raises(UserError, match=r"is fp32, .* and the job's is bf16, "):
        CompareTexts(given, replace(encoder.spec, precision="bf16", fingerprint="0" * 16))


def pair_row(row_id: str, file: str, caption: str, **more: Any) -> dict[str, Any]:
    turns = [
        {"from": "human", "value": "<image>\nDescribe the image in detail."},
        {"from": "gpt", "value": caption},
    ]
    return {"id": row_id, more.pop("kind", "image"): file, "conversations": turns, **more}


IMAGE = StoredClip(emb_FD=np.eye(1, 8), duration_s=0.04)
ROWS = [
    pair_row("fits", "a.png", "A red cat."),
    pair_row("other", "a.png", "A green   car."),
    pair_row("bound", "b.png", "A blue dog."),
    pair_row("new", "b.png", "The sea."),
    pair_row("video", "c.mp4", "A red cat.", kind="video"),
]


def stored_pairs(folder: Path) -> RunDirectory:
    files = {name: IMAGE for name in ("a.png", "b.png", "c.mp4")}
    run = stored_run(folder, files, ROWS)
    known = [
        ("id-of-a.png", "A red cat.", 0.3),
        ("id-of-a.png", "A green car.", 0.0999),
        ("id-of-b.png", "A blue dog.", 0.1),
        ("id-of-c.mp4", "A red cat.", -1.0),
    ]
    keys = [pair_key(media_id, text, ENCODER) for media_id, text, _ in known]
    table = pa.table({"pair": keys, "similarity": [value for *_, value in known]})
    write_table(run.similarities, table.cast(SIMILARITY_SCHEMA))
    return run


def test_captions_unlike_their_image_go_and_those_never_compared_stay(tmp_path: Path) -> None:
    run = stored_pairs(tmp_path)
    decided = decide(run, filters__image_text_similarity={"min": 0.1})
    reasons = by_sample(tmp_path / "run", "reason")
    assert [name for name, why in reasons.items() if why == "caption_unlike_image"] == ["other"]
    assert decided.num_unmeasured == 1
    values = pq.read_table(str(run.filter_values))["image_text_similarity"].to_pylist()
    assert values == [pytest.approx(v) if v else v for v in (0.3, 0.0999, 0.1, None, None)]
    assert decide(run, filters={}).num_unmeasured == 0


def test_pairs_are_captions_with_words_of_images_that_could_be_read(tmp_path: Path) -> None:
    files = {
        "0bad.png": StoredClip(emb_FD=np.eye(1, 8), duration_s=0.04, facts={"reason": "corrupt"}),
        "c.mp4": StoredClip(emb_FD=np.eye(2, 8), duration_s=4.0),
        "a.png": StoredClip(emb_FD=np.eye(8)[2:3], duration_s=0.04),
        "b.png": StoredClip(emb_FD=np.eye(8)[3:4], duration_s=0.04),
    }
    asked = pair_row("asked", "a.png", "A red cat.", task="open_ended")
    asked["conversations"][0]["value"] = "<image>\nWho sits there?"
    rows = [
        pair_row("later", "b.png", "The  sea."),
        pair_row("bad", "0bad.png", "A red cat."),
        pair_row("video", "c.mp4", "A red cat.", kind="video"),
        asked,
        pair_row("mute", "a.png", " "),
        pair_row("first", "a.png", "A red cat."),
        pair_row("same", "b.png", "The sea."),
    ]
    run = stored_run(tmp_path, files, rows)
    media = read_table(run.media)
    pairs = list(image_pairs(run, media, ENCODER))
    names = [Path(media["uri"][pair.index].as_py()).name for pair in pairs]
    assert list(zip(names, [pair.text for pair in pairs], strict=True)) == [
        ("b.png", "The sea."),
        ("a.png", "A red cat."),
        ("b.png", "The sea."),
    ]
    assert pairs[0].key == pairs[2].key == pair_key("id-of-b.png", "The sea.", ENCODER)
    config = PruneConfig()
    spec = EncoderSpec(name="x", frame_px=8, dim=8, fingerprint=ENCODER, in_decode_task=False)
    settings = JobSettings(
        frames=config.frames, decode=config.decode, fetch=config.fetch, encoder=config.encoder,
        spec=spec, sampler=SAMPLER, parts=run.parts,
    )  # fmt: skip
    table = with_images(run, media, pairs, settings)
    assert table["pair"].to_pylist() == [pair.key for pair in pairs]
    assert table["text"].to_pylist() == [pair.text for pair in pairs]
    assert np.array(table["embedding"].to_pylist()).argmax(axis=1).tolist() == [3, 2, 3]


@pytest.mark.parametrize(
    ("encoder", "filters", "wanted"),
    [
        ("siglip", {"image_text_similarity": {"min": 0.1}}, True),
        ("siglip", {"motion": {"min": 0.1}}, False),
        ("thumbnail", {"image_text_similarity": {"min": 0.1}}, False),
    ],
)
def test_texts_are_embedded_only_where_a_filter_asks_and_the_encoder_can(
    encoder: str, filters: dict[str, Any], wanted: bool
) -> None:
    config = PruneConfig.model_validate({"encoder": {"name": encoder}, "filters": filters})
    assert wants_similarity(config) is wanted


@pytest.mark.slow
@pytest.mark.usefixtures("engine")
def test_prune_compares_each_pair_once(tiny: Path, tmp_path: Path) -> None:
    for index, frame in enumerate(images(3, 64)):
        Image.fromarray(frame).save(tmp_path / f"{index}.png")
    rows = [pair_row(f"r{i}", f"{i % 3}.png", text) for i, text in enumerate(TEXTS)]
    manifest = write_rows(tmp_path / "rows.json", rows)
    settings = {"encoder__name": "siglip", "encoder__checkpoint": str(tiny)}
    wanted = {"image_text_similarity": {"min": -1.0}}
    out = tmp_path / "run"
    result = run_prune(manifest, out, tmp_path, filters=wanted, **settings)
    assert result.decided.num_unmeasured == 0
    column = pq.read_table(out / "filter_values.parquet")["image_text_similarity"].to_pylist()
    frames = np.stack([np.asarray(Image.open(tmp_path / f"{i}.png")) for i in range(3)])
    given = Settings(checkpoint=str(tiny))
    image_PD = ENCODERS.load("siglip").load(given).embed(frames)
    text_TD = SiglipTextEncoder.load(given).embed_texts(TEXTS)
    for row, text in enumerate(TEXTS):
        if text:
            wanted_cosine = float(text_TD[row] @ image_PD[row % 3])
            assert column[row] == pytest.approx(wanted_cosine, abs=2e-3)
        else:
            assert column[row] is None  # no words, no pair
    before = (out / "image_text_similarity.parquet").stat().st_mtime_ns
    run_prune(manifest, out, tmp_path, filters=wanted, **settings)
    assert (out / "image_text_similarity.parquet").stat().st_mtime_ns == before
