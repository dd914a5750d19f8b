"""Damage media, manifests and shards at random, read them as a run does, and record what came.

    make fuzz VIDEOS=DIR N=2000

Media go through the stage that engines run (`stages.decode_files`): gate, real decoders, the
sandbox, and the table that would be stored. What counts as a failure is an exception that escapes
(it would end the run), a clip that takes longer than its limits add up to, and a row that says it
is good and is not. Input number i is the same for the same seed and the same files.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from support.fuzz_headers import HEADER_MUTATIONS
from support.shard_fixtures import make_video, media_clip, text_clip, write_shards
from vxp_data.encoders.thumbnail import ThumbnailEncoder
from vxp_data.engines.crash_ledger import Attempt, CrashLedger
from vxp_data.engines.files import FILE_SCHEMA
from vxp_data.errors import UserError
from vxp_data.manifests.samples import Dataset, ManifestCounts, TaskRules, read_samples
from vxp_data.manifests.seen_ids import SeenIds
from vxp_data.pipeline.embed.job_settings import JobSettings
from vxp_data.pipeline.embed.stages import decode_files
from vxp_data.pipeline.run_dir.samples import sample_table
from vxp_data.settings.prune import DecodeConfig, EncoderConfig, FetchConfig, FramesConfig
from vxp_data.shards.shard_file import read_clips
from vxp_data.storage.folder import open_folder
from vxp_data.storage.local import local_file_version

BASE_BYTES: Final = 3_000_000
"""Larger files are left out: damage to a header is what matters, and a decode takes its time."""
HEAD_BYTES: Final = 4096
HEADER_SHARE: Final = 1 / 3
TIMEOUT_S: Final = 5.0
SLACK_S: Final = 15.0
"""For starting children again, up to three a file, on a busy machine."""
DECODE: Final = DecodeConfig(timeout_s=TIMEOUT_S, memory_mib=512)
IMAGES: Final = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".heic", ".avif")
NASTY: Final = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\0\0\0\x01")


@dataclass(slots=True)
class Tally:
    """What came of the inputs of one kind."""

    inputs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    mutations: Counter[str] = field(default_factory=Counter)
    hangs: list[str] = field(default_factory=list)
    escaped: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    seconds: list[tuple[float, str]] = field(default_factory=list)

    @property
    def failures(self) -> list[str]:
        """All that must not be."""
        return [*self.hangs, *self.escaped, *self.wrong]

    def figures(self) -> dict[str, Any]:
        """Return the tally as a run record has it."""
        slowest_s, slowest = max(self.seconds, default=(0.0, ""))
        return {
            "inputs": self.inputs,
            "outcomes": dict(self.outcomes.most_common()),
            "mutations": dict(sorted(self.mutations.items())),
            "hangs_past_the_limit": len(self.hangs),
            "exceptions_that_would_end_a_run": len(self.escaped),
            "wrong_rows": len(self.wrong),
            "median_s": round(float(np.median([s for s, _ in self.seconds] or [0.0])), 4),
            "slowest_s": round(slowest_s, 2),
            "slowest": slowest,
        }


# Damage


def flip_bits(rng: random.Random, data: bytearray, _: bytes) -> bytearray:
    """Flip 1 to 64 bits, every other time near the beginning."""
    stretch = len(data) if rng.random() < 0.5 else min(len(data), HEAD_BYTES)
    for _bit in range(2 ** rng.randrange(7)):
        data[rng.randrange(stretch)] ^= 1 << rng.randrange(8)
    return data


def cut_off(rng: random.Random, data: bytearray, _: bytes) -> bytearray:
    """Keep a beginning."""
    return data[: rng.randrange(len(data))]


def cut_out(rng: random.Random, data: bytearray, _: bytes) -> bytearray:
    """Lose a stretch."""
    start, stop = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return data[:start] + data[stop:]


def repeat(rng: random.Random, data: bytearray, _: bytes) -> bytearray:
    """Repeat a stretch."""
    start = rng.randrange(len(data))
    stop = min(len(data), start + 2 ** rng.randrange(14))
    return data[:stop] + data[start:]


def blank(rng: random.Random, data: bytearray, _: bytes) -> bytearray:
    """Overwrite a stretch with zeros or noise."""
    start = rng.randrange(len(data))
    num_bytes = min(len(data) - start, 2 ** rng.randrange(14))
    data[start : start + num_bytes] = rng.choice([bytes(num_bytes), rng.randbytes(num_bytes)])
    return data


def plant_numbers(rng: random.Random, data: bytearray, _: bytes) -> bytearray:
    """Write extreme 32-bit numbers where sizes and counts may stand."""
    for _number in range(rng.randrange(1, 5)):
        at = rng.randrange(min(len(data), 4 * HEAD_BYTES))
        if rng.random() < 0.5:  # headers at the end
            at = len(data) - 1 - at
        data[at : at + 4] = rng.choice(NASTY)
    return data


def splice_header(rng: random.Random, data: bytearray, other: bytes) -> bytearray:
    """Insert the beginning of another file before this one's rest."""
    num_bytes = 2 ** rng.randrange(2, 15)
    return bytearray(other[:num_bytes]) + data[rng.choice([0, num_bytes]) :]


def splice_tail(rng: random.Random, data: bytearray, other: bytes) -> bytearray:
    """Go on with another file from somewhere."""
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


MUTATIONS: Final = (
    *(flip_bits, flip_bits, cut_off, cut_out, repeat, blank, plant_numbers),
    *(splice_header, splice_tail),
)


def damaged(seed: str, bases: Sequence[Path], *, headers: bool = False) -> tuple[bytes, str, str]:
    """Return damaged bytes, what was damaged, and how: the same for the same seed.

    Args:
        seed: of all that is drawn.
        bases: whole files.
        headers: one input of three has odd header fields, mostly without other damage.
    """
    rng = random.Random(seed)
    base = rng.choice(bases)
    data, other = bytearray(base.read_bytes()), rng.choice(bases).read_bytes()
    chosen = [rng.choice(MUTATIONS) for _ in range(rng.choice([1, 1, 1, 2, 3]))]
    if headers and rng.random() < HEADER_SHARE:
        chosen = [rng.choice(HEADER_MUTATIONS), *chosen[: rng.choice([0, 0, 0, 1])]]
    kinds = []
    for mutate in chosen:
        if not data:
            break
        kinds.append(mutate.__name__)
        data = mutate(rng, data, other)
    return bytes(data), base.name, "+".join(kinds)


# Reading


class _HangError(BaseException):
    """The limit has passed; no handler of ours may swallow it."""


@contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """Raise in the main thread when the time is over."""

    def ring(*_: object) -> None:
        raise _HangError

    before = signal.signal(signal.SIGALRM, ring)
    timer_before = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *timer_before)  # pytest's, for one


def read_media(path: Path, settings: JobSettings) -> tuple[str, str]:
    """Read a clip of a file; return the outcome and what is wrong with the row, if anything."""
    is_image = path.suffix.lower() in IMAGES
    file = {
        "uri": str(path), "file_version": local_file_version(str(path)), "is_image": is_image,
        "num_bytes": 0, "clip": [0], "clip_start_s": [0.0], "clip_end_s": [float("inf")],
    }  # fmt: skip
    files = pa.Table.from_pylist([file], FILE_SCHEMA)
    with alarm(3 * TIMEOUT_S + 400.0):  # many frames may take long; see `limit_s`
        started_s = time.monotonic()
        attempt = Attempt(CrashLedger(), "fuzz")
        (table,) = list(decode_files(files, attempt, settings))
        wall_s = time.monotonic() - started_s
    row = table.to_pylist()[0]
    if wall_s > (limit := limit_s(row["num_frames"])):
        raise TimeoutError(f"{wall_s:.1f} s, the limit is {limit:.1f}")
    return row["reason"] or f"read by {row['decoder']}", _wrong_with(row, settings)


def limit_s(num_frames: int) -> float:
    """Return what a probe and two decodes may take: the limits of DecodeConfig, and some slack."""
    return 3 * TIMEOUT_S + 2 * 0.02 * num_frames + SLACK_S


def _wrong_with(row: dict[str, Any], settings: JobSettings) -> str:
    if row["reason"]:
        return "" if row["message"] and row["frames"] is None else "a failure without a message"
    px, num_frames = settings.spec.frame_px, len(row["frame_index"])
    facts = (row["fps"], row["duration_s"], row["start_s"], *row["time_s"])
    checks = {
        "pixels": row["frames"] is not None and len(row["frames"]) == num_frames * px * px * 3,
        "frame count": 1 <= num_frames <= min(settings.frames.num_frames, row["num_frames"]),
        "order": (np.diff(row["frame_index"]) > 0).all(),
        "exact": 0 <= row["frames_exact"] <= row["frames_expected"] == num_frames,
        "numbers": bool(np.isfinite(facts).all()) and row["duration_s"] >= 0,
        "size": row["width_px"] > 0 and row["height_px"] > 0,
    }
    return ", ".join(name for name, holds in checks.items() if not holds)


def read_manifest(path: Path, _: JobSettings) -> tuple[str, str]:
    """Read a manifest's rows as samples and put them into their table."""
    kind = path.suffix[1:]
    dataset = Dataset(name="fuzz", manifest=path, format=kind, media_root=path.parent)
    with alarm(60):
        try:
            samples = list(
                read_samples(dataset, TaskRules(field="task"), ManifestCounts(), SeenIds())
            )
        except UserError as error:
            return f"{kind}: one error", "" if str(path) in str(error) else "no path in the error"
        bad = [reason for reason in sample_table(samples)["reason"].to_pylist() if reason]
    return f"{kind}: {'some rows bad' if bad else 'rows'}", ""


def read_shard(path: Path, _: JobSettings) -> tuple[str, str]:
    """Read a shard's records and offsets."""
    with alarm(60), path.open("rb") as file:
        try:
            return f"{sum(1 for _ in read_clips(file)) and 'clips'}", ""
        except ValueError as error:
            return "one error", "" if str(error) else "an error without words"


Reader = Callable[[Path, JobSettings], tuple[str, str]]


def fuzz(
    name: str,
    bases: Sequence[Path],
    numbers: range,
    read: Reader,
    *,
    seed: int = 0,
    headers: bool = False,
) -> Tally:
    """Damage, read and count so many inputs.

    Args:
        name: of the kind, part of the seed.
        bases: files to damage.
        numbers: of the inputs; an input's number decides what it is.
        read: reads one.
        seed: another gives other inputs.
        headers: see `damaged`.
    """
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="vxp-fuzz-") as folder:
        settings = job_settings(Path(folder))
        for number in numbers:
            data, base, mutation = damaged(f"{name} {seed} {number}", bases, headers=headers)
            path = Path(folder) / f"{number}{Path(base).suffix}"
            path.write_bytes(data)
            what = f"{number}: {base}, {mutation}"
            started_s = time.monotonic()
            try:
                outcome, wrong = read(path, settings)
            except (_HangError, TimeoutError) as error:
                outcome, wrong = "hang", ""
                tally.hangs.append(f"{what}: {error}")
            except Exception:  # noqa: BLE001 - whatever escapes is what is looked for
                outcome, wrong = "escaped", ""
                tally.escaped.append(f"{what}: {traceback.format_exc(limit=-6)}")
            tally.inputs += 1
            tally.outcomes[outcome] += 1
            tally.mutations.update(mutation.split("+"))
            tally.seconds.append((time.monotonic() - started_s, what))
            if wrong:
                tally.wrong.append(f"{what}: {wrong}")
            path.unlink()
    return tally


def job_settings(folder: Path) -> JobSettings:
    """Return the settings under which everything is read."""
    return JobSettings(
        frames=FramesConfig(num_frames=8),
        decode=DECODE,
        fetch=FetchConfig(),
        encoder=EncoderConfig(name="thumbnail"),
        spec=ThumbnailEncoder.describe(EncoderConfig(name="thumbnail")),
        sampler="fuzz",
        parts=open_folder(folder),
    )


def media_bases(videos: Path) -> list[Path]:
    """Find the files to damage, below a folder or in its 'hard', 'odd' and 'real'."""
    named = [videos / name for name in ("hard", "odd", "real")]
    folders = [folder for folder in named if folder.is_dir()] or [videos]
    found = sorted(path for folder in folders for path in folder.iterdir() if path.is_file())
    return [path for path in found if 0 < path.stat().st_size <= BASE_BYTES]


def remux(source: Path, out: Path) -> None:
    """Write a video's images into another container, with what codec is at home there."""
    codec = "gif" if out.suffix == ".gif" else "mpeg4"
    pixels = "rgb8" if codec == "gif" else "yuv420p"
    with av.open(str(source)) as given, av.open(str(out), "w") as made:
        stream = made.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
        for number, frame in enumerate(given.decode(video=0)):
            again = frame.reformat(format=pixels)
            again.pts, again.time_base = number, Fraction(1, 10)
            made.mux(stream.encode(again))
        made.mux(stream.encode(None))


def manifest_bases(folder: Path) -> list[Path]:
    """Write small manifests of each format."""
    turns = [{"from": "human", "value": "<image>\nWho?\nA. x"}, {"from": "gpt", "value": "Ä\x1b."}]
    rows = [
        {"id": f"r{i}", "video": f"clips/{i}.mp4", "task": "caption", "clip_start_s": i / 2}
        for i in range(20)
    ]
    full = [row | {"conversations": turns, "meta": {"a": [1, None]}} for row in rows]
    (folder / "rows.json").write_text(json.dumps(full, indent=1, ensure_ascii=False))
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in full))
    table = pa.Table.from_pylist(full)
    pq.write_table(table, folder / "rows.parquet", row_group_size=7)
    lines = [",".join(rows[0]), *(",".join(f'"{v}"' for v in row.values()) for row in rows)]
    (folder / "rows.csv").write_text("\r\n".join(lines))
    return sorted(folder.glob("rows.*"))


def shard_bases(folder: Path) -> list[Path]:
    """Write a shard of a video and some texts."""
    clips = [media_clip(make_video(folder / "a.mp4", 12), ["a", "b"])]
    clips += [text_clip(f"t{i}") for i in range(6)]
    return [sorted(write_shards(folder / "shards", [clips]).folder.glob("*.tar"))[0]]


def main(argv: Sequence[str] | None = None) -> int:
    """Fuzz all three kinds, print the figures, write the record; 1 if anything failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("videos", type=Path, help="folder of videos, or of hard/, odd/ and real/")
    parser.add_argument("-n", type=int, default=2000, help="damaged media; as many manifests")
    parser.add_argument("--seed", type=int, default=0, help="another gives other inputs")
    parser.add_argument("--out", type=Path, help="record to write; none: figures are printed only")
    options = parser.parse_args(argv)
    bases = media_bases(options.videos)
    if not bases:
        raise SystemExit(f"error: no files of at most {BASE_BYTES} bytes in {options.videos}")
    numbers = range(options.n)
    media = fuzz("media", bases, numbers, read_media, seed=options.seed, headers=True)
    with tempfile.TemporaryDirectory(prefix="vxp-fuzz-") as folder:
        manifests = manifest_bases(Path(folder))
        rows = fuzz("manifests", manifests, numbers, read_manifest, seed=options.seed)
        shard = fuzz("shards", shard_bases(Path(folder)), numbers, read_shard, seed=options.seed)
    tallies = {"media": media, "manifests": rows, "shards": shard}
    figures: dict[str, Any] = {name: tally.figures() for name, tally in tallies.items()}
    figures["media"] |= {"files_damaged": len(bases), "timeout_s": TIMEOUT_S, "memory_mib": 512}
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")
    failures = [f"{name} {what}" for name, tally in tallies.items() for what in tally.failures]
    sys.stdout.write("\n".join(failures[:50]) + "\n")
    if options.out:
        import records

        command = ["-m", "support.fuzz", options.videos.name, "-n", str(options.n)]
        command += ["--seed", str(options.seed)]
        records.write_record(options.out.stem, figures, argv=command, folder=options.out.parent)
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
