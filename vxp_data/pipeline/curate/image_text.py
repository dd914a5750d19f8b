"""Compares captions with their images, by the encoder's text side: once, where a filter asks.

Only of image-text pairs: caption rows about one image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vxp_data.conversation import conversation_from_json, question_answer_pairs
from vxp_data.core.filter_rules.texts import IMAGE_TEXT_SIMILARITY
from vxp_data.core.text_rules import caption
from vxp_data.encoders.base import Encoder, EncoderSpec, TextEncoder, require_spec
from vxp_data.engines.base import Engine
from vxp_data.engines.stage_plan import EncoderNeeds
from vxp_data.pipeline.curate.image_text_table import SIMILARITY_SCHEMA, pair_key, read_similarities
from vxp_data.pipeline.embed.job_settings import JobSettings
from vxp_data.pipeline.embed.stages import encoder_needs
from vxp_data.pipeline.run_dir.clip_facts import indices
from vxp_data.pipeline.run_dir.directory import RunDirectory, read_batches, read_table, write_table
from vxp_data.pipeline.run_dir.stored_frames import stored_frames
from vxp_data.records import Modality, Task
from vxp_data.registry import ENCODERS, TEXT_ENCODERS
from vxp_data.schemas import CLIP_KEY, SAMPLE_CLIP_KEY
from vxp_data.settings.prune import EncoderConfig, PruneConfig

PAIRS_PER_JOB: Final = 100_000
"""Pairs that the engine is given at a time, and that a stopped run loses at most."""
_PAIRS_AT_ONCE: Final = 256
_DECIMALS: Final = 4
"""Of a similarity that is kept: what machines of one kind agree on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A caption and its image."""

    key: str
    text: str
    index: int
    """Of the image's clip in the run's media."""


def wants_similarity(config: PruneConfig) -> bool:
    """Whether a run's captions have to be compared with images."""
    return (
        IMAGE_TEXT_SIMILARITY.name in config.filters
        and config.encoder.name in TEXT_ENCODERS.names()
    )


def prepare_text_encoder(config: PruneConfig) -> None:
    """Make sure that the text side's weights and tokenizer are here, where the run needs them.

    Raises:
        UserError: they cannot be had.
    """
    if wants_similarity(config):
        encoder: type[TextEncoder] = TEXT_ENCODERS.load(config.encoder.name)
        encoder.prepare(config.encoder)


def measure_similarities(run: RunDirectory, settings: JobSettings, engine: Engine) -> int:
    """Compare those captions with their images that have not been; keep what was measured.

    Args:
        run: with samples, media and embeddings.
        settings: the encoder, and fingerprints of the embeddings.
        engine: what runs the text encoders.

    Returns:
        How many pairs were measured now.

    Raises:
        UserError: the text side cannot be loaded, or a file cannot be read or written.
    """
    known = read_similarities(run)
    media = read_table(run.media, columns=[*CLIP_KEY, "media_id", "file_version", "reason"])
    todo = {
        pair.key: pair
        for pair in image_pairs(run, media, settings.spec.fingerprint)
        if pair.key not in known
    }
    pairs = list(todo.values())
    if not pairs:
        return 0
    needs = encoder_needs(settings)
    for first in range(0, len(pairs), PAIRS_PER_JOB):
        table = with_images(run, media, pairs[first : first + PAIRS_PER_JOB], settings)
        known |= _measured(table, engine, settings, needs)
        keys = sorted(known)
        columns = {"pair": keys, "similarity": [known[key] for key in keys]}
        write_table(run.similarities, pa.table(columns, schema=SIMILARITY_SCHEMA))
    return len(pairs)


class CompareTexts:
    """Holds one text encoder, and compares table after table of pairs.

    Args:
        encoder: its settings, the image encoder's.
        spec: of the image encoder whose vectors it compares texts with.

    Raises:
        UserError: the encoder cannot be loaded here, or belongs to another than the job's.
    """

    def __init__(self, encoder: EncoderConfig, spec: EncoderSpec) -> None:
        images: type[Encoder] = ENCODERS.load(encoder.name)
        require_spec(images.describe(encoder), spec)  # of the same weights
        encoder_class: type[TextEncoder] = TEXT_ENCODERS.load(encoder.name)
        self._encoder = encoder_class.load(encoder)

    def __call__(self, pairs: pa.Table) -> pa.Table:
        """Return SIMILARITY_SCHEMA of a table with pair, text and float16 [D] embedding."""
        text_TD = self._encoder.embed_texts(pairs["text"].to_pylist())
        column = pairs["embedding"].combine_chunks()
        image_TD = column.flatten().to_numpy(zero_copy_only=False).reshape(len(pairs), -1)
        image_TD = image_TD.astype(np.float32)
        image_TD /= np.linalg.norm(image_TD, axis=1, keepdims=True)
        cosine_T = np.clip((text_TD * image_TD).sum(axis=1), -1, 1)
        columns = {"pair": pairs["pair"], "similarity": cosine_T.round(_DECIMALS)}
        return pa.table(columns, schema=SIMILARITY_SCHEMA)


def image_pairs(run: RunDirectory, media: pa.Table, encoder: str) -> Iterator[Pair]:
    """Return the captions about images that have an embedding."""
    columns = ["modality", "task", "reason", "turns", *SAMPLE_CLIP_KEY]
    wanted = (
        (pc.field("modality") == Modality.IMAGE.value)
        & (pc.field("task") == Task.CAPTION.value)
        & (pc.field("reason") == "")
    )
    media_ids, failed = media["media_id"].to_pylist(), media["reason"].to_pylist()
    for batch in read_batches(run.samples, columns=columns):
        rows = pa.Table.from_batches([batch]).filter(wanted)
        index_N = indices(rows.select(SAMPLE_CLIP_KEY), media.select(CLIP_KEY)).to_pylist()
        for index, said in zip(index_N, rows["turns"].to_pylist(), strict=True):
            text = caption(question_answer_pairs(conversation_from_json(said)))
            if index is not None and not failed[index] and text:
                key = pair_key(media_ids[index], text, encoder)
                yield Pair(key=key, text=text, index=index)


def with_images(
    run: RunDirectory, media: pa.Table, pairs: list[Pair], settings: JobSettings
) -> pa.Table:
    """Convert pairs to columns, each with its image's embedding."""
    wanted_C = sorted({pair.index for pair in pairs})
    clips = media.take(pa.array(wanted_C))
    emb_CD = np.zeros((len(wanted_C), settings.spec.dim), dtype=np.float16)
    found = stored_frames(run, clips, encoder=settings.spec.fingerprint, sampler=settings.sampler)
    for clip in found:
        emb_CD[clip.index] = clip.emb_FD[0]
    row_of = {index: row for row, index in enumerate(wanted_C)}
    emb_PD = emb_CD[[row_of[pair.index] for pair in pairs]]
    vectors = pa.array(emb_PD.reshape(-1), pa.float16())
    return pa.table(
        {
            "pair": [pair.key for pair in pairs],
            "text": [pair.text for pair in pairs],
            "embedding": pa.FixedSizeListArray.from_arrays(vectors, settings.spec.dim),
        }
    )


def _measured(
    table: pa.Table, engine: Engine, settings: JobSettings, needs: EncoderNeeds
) -> Mapping[str, float]:
    """Compare pairs, with an encoder on each GPU, or on each core if it needs none."""
    starts = range(0, len(table), _PAIRS_AT_ONCE)
    tables = [table.slice(start, _PAIRS_AT_ONCE) for start in starts]
    measured: dict[str, float] = {}
    for batch in engine.map_tables(
        partial(CompareTexts, settings.encoder, settings.spec), tables, needs
    ):
        keys, values = batch["pair"].to_pylist(), batch["similarity"].to_pylist()
        measured |= dict(zip(keys, values, strict=True))
    if lost := set(table["pair"].to_pylist()) - measured.keys():
        raise RuntimeError(f"{len(lost)} pairs did not come back; this is a bug in a stage")
    return measured
