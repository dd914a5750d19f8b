"""What a benchmark's videos are called, and whether a training set has had any of them.

`vxp-data prune --exclude` takes out what a list names, and what looks like the videos of a run over
the benchmark. Here the list and the manifest for that run are written, and a finished prune is
asked what it took out, and what it kept although its name is a benchmark's.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vxp_model.data.video import UnreadableVideoError
from vxp_model.errors import UserError
from vxp_model.eval.benchmarks.base import Benchmark, Question
from vxp_model.eval.media import MediaFolder

_STEM_PREFIXES: Final = ("ytb_", "v_")
"""What training sets put before an id to name a file; `vxp-data prune` reads names alike."""
_IN_EVALUATION: Final = "in_evaluation"
"""Reason of the rows that a prune took out for an evaluation's sake."""
_PART_OF_FILE: Final = re.compile(r"#t=[^#]*$")
_MOST_LISTED: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """What a training set had of a benchmark's videos."""

    training_run: Path
    num_rows: int
    """Of the training set, before anything was taken out."""
    exclude: tuple[str, ...]
    """Lists and runs that the prune was told to take out."""
    excluded: Mapping[str, tuple[str, ...]]
    """The benchmark's video -> rows that were taken out for it."""
    num_excluded_others: int
    """Rows that were taken out for other lists and runs."""
    kept: Mapping[str, tuple[str, ...]]
    """The benchmark's video -> rows that stay, although their file is called as it is."""

    @property
    def is_clean(self) -> bool:
        """Whether nothing stays that is called as a video of the benchmark."""
        return not self.kept


def names_of(question: Question) -> tuple[str, ...]:
    """Return what the file of a question's video may be called elsewhere, without suffix.

    Besides its own name: without what sets put before ids, and without the part of a split at its
    end, as VNBench calls what it cut needles into '<video>_<type>'.
    """
    stem = posixpath.splitext(posixpath.basename(question.video))[0]
    names = [stem]
    names += [stem.removesuffix(f"_{part}") for part in question.groups.values()]
    names += [name.removeprefix(prefix) for name in names for prefix in _STEM_PREFIXES]
    return tuple(dict.fromkeys(name for name in names if name))


def media_list(benchmark: Benchmark, root: Path) -> list[str]:
    """Return the lines of a list for `vxp-data prune --exclude`: names of videos, in order.

    Args:
        benchmark: whose.
        root: folder with its annotation files; the videos need not be there.

    Raises:
        UserError: a file is missing or is not the benchmark's.
    """
    return sorted({name for question in benchmark.questions(root) for name in names_of(question)})


def media_manifest(benchmark: Benchmark, root: Path) -> Iterator[dict[str, str]]:
    """Return the rows of a JSON Lines manifest, a video each, with `root` as the media's folder.

    A run of `vxp-data prune` over it can be named to `--exclude`: what looks like one of its videos
    is then taken out, whatever it is called.

    Args:
        benchmark: whose.
        root: folder with its annotation files and videos. A video that lies elsewhere below it
            than its makers say is named by where it lies; one that is not there by their name.

    Raises:
        UserError: a file is missing or is not the benchmark's.
    """
    media = MediaFolder(str(root))
    for video in dict.fromkeys(question.video for question in benchmark.questions(root)):
        try:
            path = Path(media.find(video)).relative_to(root).as_posix()
        except UnreadableVideoError:
            path = video
        yield {"id": video, "video": path}


def overlap(training_run: Path, questions: Sequence[Question]) -> Overlap:
    """Return what a training set had of the videos that questions are about.

    Args:
        training_run: run directory of a finished `vxp-data prune`.
        questions: of the evaluation.

    Raises:
        UserError: there is no such run.
    """
    record = _record(training_run)
    video_of = {name: question.video for question in questions for name in names_of(question)}
    samples = _table(training_run, "samples", ["sample_id", "media_uri", "clips"])
    decisions = _table(
        training_run, "decisions", ["sample_id", "decision", "reason", "duplicate_of"]
    )
    gone = decisions.filter(pc.equal(decisions["reason"], _IN_EVALUATION))
    named = _named_rows(samples, video_of)
    is_kept = pc.and_(
        pc.equal(decisions["decision"], "keep"),
        pc.is_in(decisions["sample_id"], pa.array(list(named), pa.string())),
    )
    kept: dict[str, list[str]] = {}
    for sample in decisions.filter(is_kept)["sample_id"].to_pylist():
        kept.setdefault(named[sample], []).append(sample)
    excluded, num_others = _excluded(training_run, gone, video_of)
    return Overlap(
        training_run=training_run,
        num_rows=len(samples),
        exclude=tuple(record.get("config", {}).get("duplicates", {}).get("exclude", ())),
        excluded={video: tuple(rows) for video, rows in sorted(excluded.items())},
        num_excluded_others=num_others,
        kept={video: tuple(rows) for video, rows in sorted(kept.items())},
    )


def describe_overlap(found: Overlap, benchmark: str) -> str:
    """Return an overlap as lines for people, without a line end at the end."""
    num_excluded = sum(map(len, found.excluded.values()))
    lines = [f"Training set {found.training_run}, {found.num_rows:,} rows, beside {benchmark}:"]
    if found.exclude:
        lines.append(f"  it was told to take out: {', '.join(found.exclude)}")
    else:
        lines.append("  it was told to take nothing out for an evaluation (--exclude)")
    lines.append(
        f"  taken out: {num_excluded:,} rows, for {len(found.excluded):,} videos of {benchmark}"
        + (f"; {found.num_excluded_others:,} rows for others" * bool(found.num_excluded_others))
    )
    if found.is_clean:
        lines.append(f"  no row that stays has a file called as a video of {benchmark}")
        return "\n".join(lines)
    num_kept = sum(map(len, found.kept.values()))
    lines.append(
        f"  WARNING: {num_kept:,} rows stay whose files are called as {len(found.kept):,} of its "
        "videos: scores on them may be memory."
    )
    lines.append(
        "  Take them out and train again: "
        f"vxp-model benchmarks --media {benchmark} --data DIR --out LIST; "
        "vxp-data prune ... --exclude LIST"
    )
    for video, rows in list(found.kept.items())[:_MOST_LISTED]:
        more = f" and {len(rows) - 1:,} more" if len(rows) > 1 else ""
        lines.append(f"    {video}: {rows[0]}{more}")
    if len(found.kept) > _MOST_LISTED:
        lines.append(f"    and {len(found.kept) - _MOST_LISTED:,} more videos")
    return "\n".join(lines)


def _record(training_run: Path) -> dict[str, Any]:
    path = training_run / "run.json"
    if not path.is_file() or not (training_run / "decisions.parquet").is_file():
        raise UserError(
            f"{training_run}: no finished run of `vxp-data prune` lies there. Name the run that "
            "the training set was made by."
        )
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def _table(training_run: Path, name: str, columns: Sequence[str]) -> pa.Table:
    path = training_run / f"{name}.parquet"
    try:
        return pq.read_table(path, columns=list(columns))
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{path}: cannot be read: {error}.") from error


def _named_rows(samples: pa.Table, video_of: Mapping[str, str]) -> dict[str, str]:
    """Return the samples of which a medium is called as a benchmark's video: sample -> video."""
    clips = samples["clips"].combine_chunks()
    inner = pc.struct_field(pc.list_flatten(clips), "media_uri")
    uris = pa.chunked_array(
        [*samples["media_uri"].chunks, *(inner.chunks if hasattr(inner, "chunks") else [inner])],
        pa.string(),
    )
    rows = pa.chunked_array(
        [pa.array(range(len(samples)), pa.int64()), pc.list_parent_indices(clips)], pa.int64()
    )
    found: dict[str, str] = {}
    for uri in pc.unique(uris).to_pylist():
        if uri and (video := _video_called(uri, video_of)) is not None:
            found[uri] = video
    hit = pc.is_in(uris, pa.array(list(found), pa.string()))
    ids = samples["sample_id"].take(rows.filter(hit)).to_pylist()
    return dict(zip(ids, (found[uri] for uri in uris.filter(hit).to_pylist()), strict=True))


def _video_called(uri: str, video_of: Mapping[str, str]) -> str | None:
    """Return the benchmark's video of which a file has the name; see `vxp-data prune --exclude`."""
    stem = posixpath.splitext(posixpath.basename(uri))[0]
    names = [stem, *(stem.removeprefix(prefix) for prefix in _STEM_PREFIXES)]
    return next((video_of[name] for name in names if name in video_of), None)


def _excluded(
    training_run: Path, gone: pa.Table, video_of: Mapping[str, str]
) -> tuple[dict[str, list[str]], int]:
    """Return the rows that were taken out by the benchmark's video, and the number of others."""
    if not len(gone):
        return {}, 0
    columns = ["reason", "source", "representative_uri"]
    rows = _table(training_run, "duplicates", columns).to_pylist()
    # `duplicate_of` names the list or run, then what of it: an id, or a file and perhaps a part.
    named = {
        f"{row['source']}: {row['representative_uri']}": row["representative_uri"]
        for row in rows
        if row["reason"] == _IN_EVALUATION
    }
    found: dict[str, list[str]] = {}
    num_others = 0
    for sample, told in zip(
        gone["sample_id"].to_pylist(), gone["duplicate_of"].to_pylist(), strict=True
    ):
        representative = named.get(told) or named.get(_PART_OF_FILE.sub("", told), "")
        video = video_of.get(representative) or _video_called(representative, video_of)
        if video is None:
            num_others += 1
        else:
            found.setdefault(video, []).append(sample)
    return found, num_others
