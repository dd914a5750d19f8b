"""Checks before anything is spent; `vxp-data doctor` runs them alone.

Each check is about one thing, returns what it found, and says what to do where that is not well.
"""

from __future__ import annotations

import hashlib
import os
import random
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from vxp_data.decoders.base import decodes_on_gpu
from vxp_data.decoders.child import check_decoder
from vxp_data.decoders.child_process import child_isolation
from vxp_data.decoders.sandbox import Sandbox
from vxp_data.encoders.base import Encoder
from vxp_data.engines.base import Engine, Shortage
from vxp_data.engines.choose import engine_class
from vxp_data.engines.stage_plan import EncoderNeeds
from vxp_data.errors import MediaError, UserError
from vxp_data.registry import ENCODERS
from vxp_data.settings.cluster import ClusterConfig
from vxp_data.settings.prune import DecodeConfig, EncoderConfig, PruneConfig
from vxp_data.storage.folder import Folder, find_file

SAMPLED_ROWS: Final = 100
"""Media of so many rows are looked for."""

_CHILD_TIMEOUT_S: Final = 120.0
_LITTLE_BYTES: Final = 1 << 30
_FEW_MEDIA: Final = 10
"""Of fewer than these, all may be missing without an error: their rows are quarantined."""


class Verdict(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What a check found."""

    name: str
    verdict: Verdict
    message: str
    remedy: str = ""
    """What to do; '' where all is well, or where the message says it."""

    def __str__(self) -> str:
        """Return the finding as an error or warning says it."""
        gap = "\n  " if "\n" in self.message else " "
        return f"{self.name}: {self.message}{self.remedy and gap}{self.remedy}"


def require(checks: Iterable[Check]) -> list[Check]:
    """Return the warnings among some checks.

    Raises:
        UserError: a check has failed; the message has all that failed.
    """
    done = list(checks)
    if wrong := [check for check in done if check.verdict is Verdict.FAILED]:
        raise UserError("\n".join(map(str, wrong)))
    return [check for check in done if check.verdict is Verdict.WARNING]


def check_machine(config: PruneConfig, out: Folder | None) -> Iterator[Check]:
    """Check this machine, one thing after another: what costs least comes first.

    Args:
        config: of the run to come.
        out: its run directory; None: that is not asked.
    """
    if out is not None:
        yield check_output(out)
    yield check_scratch()
    yield from check_children(config.decode, gpu_elsewhere=config.cluster.address is not None)
    yield check_engine(config.cluster)
    yield check_encoder(config.encoder)


def check_children(decode: DecodeConfig, *, gpu_elsewhere: bool = False) -> Iterator[Check]:
    """Start a decoding child: does each decoder work in it, and what has it given up?

    Args:
        decode: the decoders.
        gpu_elsewhere: a decoder on a GPU may fail here, as other nodes may have one.
    """
    sandbox = Sandbox(decode.memory_mib << 20)
    try:
        if decode.fallback is not None and decodes_on_gpu(decode.fallback):
            yield failed(
                "decode.fallback",
                f"{decode.fallback} is on a GPU, and takes over from nobody.",
                "Name it as decode.decoder; PyAV takes over from it.",
            )
        for name in dict.fromkeys([decode.decoder, decode.fallback or decode.decoder, "pyav"]):
            try:
                sandbox.call(check_decoder, name, timeout_s=_CHILD_TIMEOUT_S)
            except (UserError, MediaError, OSError, ImportError) as error:
                yield _failed_decoder(name, str(error), gpu_elsewhere=gpu_elsewhere)
            else:
                yield ok(f"decoder {name}", "works in a decoding child")
        isolation = sandbox.call(child_isolation, timeout_s=_CHILD_TIMEOUT_S).value
    except (MediaError, OSError) as error:
        yield failed("decoding child", f"cannot be started: {error}")
        return
    finally:
        sandbox.close()
    message = f"decoding children have {isolation}"
    if isolation.network and isolation.files:
        yield ok("isolation", message)
        return
    yield Check(
        name="isolation",
        verdict=Verdict.WARNING,
        message=f"{message} (refused: {'; '.join(isolation.refused)})",
        remedy="Prune files of strangers where Linux allows user namespaces, Landlock (5.13) or "
        "seccomp: in containers, by their security profile.",
    )


def _failed_decoder(name: str, message: str, *, gpu_elsewhere: bool) -> Check:
    if not (gpu_elsewhere and decodes_on_gpu(name)):
        return failed(f"decoder {name}", message)
    return Check(
        name=f"decoder {name}",
        verdict=Verdict.WARNING,
        message=message,
        remedy="Files are decoded on the nodes of the cluster that have a GPU.",
    )


def check_engine(cluster: ClusterConfig) -> Check:
    """Check that what reads many files at once can run."""
    try:
        return ok("engine", engine_class(cluster).check(cluster))
    except UserError as error:
        return failed("engine", str(error))


def check_room(engine: Engine, needs: EncoderNeeds) -> list[Check]:
    """Check whether the engine has room for frames on their way to the encoders."""
    return [shortage_check(short) for short in engine.shortages(needs)]


def shortage_check(short: Shortage) -> Check:
    """Return what there is too little of as a warning."""
    return Check(
        name=short.name, verdict=Verdict.WARNING, message=short.message, remedy=short.remedy
    )


def check_encoder(encoder: EncoderConfig) -> Check:
    """Check that the encoder's weights are here, and of the hash that the recipe pins."""
    name = f"encoder {encoder.name}"
    try:
        encoder_class: type[Encoder] = ENCODERS.load(encoder.name)
        weights = encoder_class.prepare(encoder)
        encoder_class.describe(encoder)
    except UserError as error:
        return failed(name, str(error))
    if weights is None:
        return ok(name, "needs no weights")
    if not encoder.weights_sha256:
        return ok(name, f"has its weights: {weights}")
    with weights.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 == encoder.weights_sha256:
        return ok(name, f"has its weights, of the pinned SHA-256: {weights}")
    return failed(
        name,
        f"{weights} has the SHA-256 {sha256}, pinned is {encoder.weights_sha256}.",
        "Fetch the weights again, or correct encoder.weights_sha256.",
    )


def check_output(out: Folder) -> Check:
    """Write a small file into the run directory, read it, remove it; check the space."""
    name = f".vxp-check.{secrets.token_hex(4)}.part"  # left by a kill, it goes as half-written
    try:
        out.write_bytes(name, b"vxp")
        whole = out.read_bytes(name) == b"vxp"
        out.remove(name)
    except (UserError, OSError) as error:
        return failed("output", str(error))
    if not whole:
        return failed("output", f"{out} does not give back what is written to it.")
    return ok("output", f"{out} can be written") if out.is_remote else _space("output", out.uri)


def check_scratch() -> Check:
    """Check the space for temporary files."""
    return _space("scratch space", tempfile.gettempdir())


def sample_of(media: Iterable[str]) -> list[str]:
    """Draw up to SAMPLED_ROWS media, the same ones every time."""
    distinct = sorted(set(media))
    return [distinct[index] for index in sampled(len(distinct))]


def sampled(number: int) -> list[int]:
    """Draw which of so many media, ascending, `sample_of` draws."""
    return random.Random(0).sample(range(number), min(SAMPLED_ROWS, number))


def check_media(media: Sequence[str]) -> Check:
    """Check whether files can be read; those on a disk are not opened for it."""
    problems = [(uri, problem) for uri in media if (problem := _why_not_read(uri))]
    if not problems:
        return ok("media", f"all of {len(media)} sampled files can be opened")
    uri, problem = problems[0]
    message = f"{len(problems)} of {len(media)} sampled files cannot be opened, first {uri}: "
    none_there = len(problems) == len(media) >= _FEW_MEDIA
    return Check(
        name="media",
        verdict=Verdict.FAILED if none_there else Verdict.WARNING,
        message=f"{message}{problem}.",
        remedy="Check --media-root (media_root in a mixture), mounts and permissions."
        if none_there
        else "Such rows will be quarantined.",
    )


def _why_not_read(uri: str) -> str:
    try:
        file = find_file(uri)
        if isinstance(file, Path):
            if not file.is_file():
                return "it is no file" if file.exists() else "no such file"
            return "" if os.access(file, os.R_OK) else "no permission to read it"
        with file.open("rb") as opened:
            opened.read(1)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _space(name: str, folder: str) -> Check:
    free = shutil.disk_usage(folder).free
    message = f"{folder} can be written, {free / 1e9:.1f} GB free"
    if free >= _LITTLE_BYTES:
        return ok(name, message)
    return Check(
        name=name,
        verdict=Verdict.WARNING,
        message=f"{message}.",
        remedy="Embeddings take 46 kB a video (20 frames of 1,152 numbers): make room.",
    )


def ok(name: str, message: str) -> Check:
    """Return that a check found all well."""
    return Check(name=name, verdict=Verdict.OK, message=message)


def failed(name: str, message: str, remedy: str = "") -> Check:
    """Return that a check found what a run cannot do without."""
    return Check(name=name, verdict=Verdict.FAILED, message=message, remedy=remedy)
