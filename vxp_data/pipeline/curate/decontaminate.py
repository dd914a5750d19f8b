"""What must not be in a training set: lists of ids, and runs over evaluation videos."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vxp_data.errors import UserError
from vxp_data.pipeline.run_dir.directory import RunDirectory, open_run, read_table
from vxp_data.records import Modality
from vxp_data.shipped_files import here_or_shipped
from vxp_data.storage.folder import File, find_file

_STEM_PREFIXES: Final = ("ytb_", "v_")
"""What sets put before an id to name a file: LLaVA-Video-178K and ActivityNet."""
_MAX_LIST_BYTES: Final = 1 << 28


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherRun:
    """A run whose videos must not be in this one."""

    source: str
    """As the user named it."""
    run: RunDirectory
    media: pa.Table
    """Its clips that have embeddings or a digest, of media.parquet."""
    is_video_C: NDArray[np.bool_]
    """Not of images: those are the same by content alone."""
    sampler: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decontamination:
    """All that must not be in a run."""

    ids: dict[str, str]
    """From an id to the file that lists it."""
    runs: tuple[OtherRun, ...]

    def listed(self, sample_id: str, uri: str, media_id: str) -> tuple[str, str] | None:
        """Return which list names a sample or its media: (file, id); None: none.

        An id is a sample's (with or without its dataset's name), a media's digest, or the name of
        its file: whole, without suffix, or also without 'ytb_' or 'v_' before it.
        """
        if not self.ids:
            return None
        stem = posixpath.splitext(posixpath.basename(uri))[0]
        names = [sample_id, sample_id.partition("/")[2], media_id, uri, posixpath.basename(uri)]
        names += [stem, *(stem.removeprefix(prefix) for prefix in _STEM_PREFIXES)]
        found = next((name for name in names if name and name in self.ids), None)
        return None if found is None else (self.ids[found], found)


def read_decontamination(
    sources: Sequence[str], columns: Sequence[str], encoder: str
) -> Decontamination:
    """Read what `duplicates.exclude` names.

    Args:
        sources: text files (an id a line; empty lines and lines that begin with '#' do not count),
            and directories of finished runs.
        columns: of media.parquet, for the clips of runs.
        encoder: fingerprint that the runs' embeddings must have.

    Raises:
        UserError: one is not there, is neither, or is of another encoder.
    """
    ids: dict[str, str] = {}
    runs = []
    for source in sources:
        path = find_file(here_or_shipped(source))
        if path.is_dir():
            runs.append(_other_run(source, columns, encoder))
            continue
        for name in _lines(source, path):
            ids.setdefault(name, source)
    return Decontamination(ids=ids, runs=tuple(runs))


def _lines(source: str, path: Path | File) -> list[str]:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_LIST_BYTES + 1)
        if len(data) > _MAX_LIST_BYTES:
            raise UserError(f"--exclude {source}: more than {_MAX_LIST_BYTES} bytes of ids.")
        lines = [line.strip() for line in data.decode("utf-8-sig").splitlines()]
    except OSError as error:
        raise UserError(
            f"--exclude {source}: cannot be read: {error.strerror or error}. Name a text file with "
            "an id a line, or the directory of a finished prune."
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"--exclude {source}: is not UTF-8 text (byte {error.start}). Name a text file with an "
            "id a line, or the directory of a finished prune."
        ) from error
    return [line for line in lines if line and not line.startswith("#")]


def _other_run(source: str, columns: Sequence[str], encoder: str) -> OtherRun:
    run = open_run(source)
    record = run.read_run()
    if record["encoder"]["fingerprint"] != encoder:
        raise UserError(
            f"--exclude {source}: its embeddings are of another encoder "
            f"({record['encoder']['fingerprint']}, here {encoder}): nothing can be compared. Prune "
            "the evaluation videos with the encoder, weights and precision of this run."
        )
    media = read_table(run.media, columns=[*columns, "reason"])
    media = media.filter(pc.equal(media["reason"], "")).drop_columns(["reason"])
    is_image = pc.is_in(media["uri"], value_set=pa.array(_image_uris(run), pa.string()))
    return OtherRun(
        source=source,
        run=run,
        media=media,
        is_video_C=~is_image.to_numpy(),
        sampler=record["sampler"],
    )


def _image_uris(run: RunDirectory) -> list[str]:
    """Return the URIs of a run's images, those of rows with several media too."""
    samples = read_table(run.samples, columns=["modality", "media_uri", "clips"])
    each = pc.list_flatten(samples["clips"])
    uris: set[str] = set()
    for modality, uri in (
        (samples["modality"], samples["media_uri"]),
        (pc.struct_field(each, "modality"), pc.struct_field(each, "media_uri")),
    ):
        uris |= set(pc.unique(uri.filter(pc.equal(modality, Modality.IMAGE.value))).to_pylist())
    return sorted(uris)
