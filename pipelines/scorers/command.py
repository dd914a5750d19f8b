"""What both scorers' command lines have: the model, how it is asked, and the end."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from asks import Answer, Backend, Failure
from template_rows import SUFFIXES, ScoredRow, write_scores

from vxp_data.errors import VxpError
from vxp_data.extras import INFERENCE, is_installed, require_extra
from vxp_model.errors import UserError, require
from vxp_model.eval.chat_server import ChatServer
from vxp_model.eval.store import digest

_SHORT: Final = 8


def base_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser of what both scorers take."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("rows", type=Path, help="what `vxp-data score-template RUN` wrote")
    parser.add_argument("--out", type=Path, required=True, help=f"scores: {' or '.join(SUFFIXES)}")
    where = parser.add_argument_group("the model: one of --server and --model")
    where.add_argument("--server", metavar="URL#MODEL", help="http://HOST:PORT/v1#MODEL")
    where.add_argument("--model", help="a folder of transformers; with --ray, what vLLM loads")
    where.add_argument(
        "--ray", nargs="?", const="", metavar="ADDRESS", help="ask by ray.data.llm; '': here"
    )
    where.add_argument("--key-variable", metavar="NAME", help="variable that holds the API key")
    where.add_argument("--revision", default="", help="of the served model, for the record")
    how = parser.add_argument_group("how it is asked")
    how.add_argument("--tries", type=_number(1), default=None, help="of each question")
    how.add_argument("--seed", type=int, default=0)
    how.add_argument("--temperature", type=float, default=0.7, help="where a try is drawn [0.7]")
    how.add_argument("--max-tokens", type=_number(1), default=None, help="of a reply")
    how.add_argument("--prompts", type=Path, default=None, help="a file of your own")
    how.add_argument("--body", type=_object, default={}, help="more fields of a request, as JSON")
    how.add_argument("--parallel", type=_number(1), default=16, help="requests at once [16]")
    how.add_argument("--workers", type=_number(1), default=1, help="Ray's, or copies of the model")
    how.add_argument("--batch", type=_number(1), default=8, help="of a model in a folder [8]")
    how.add_argument("--device", default="auto", help="of a model in a folder")
    how.add_argument("--timeout-s", type=float, default=120.0, help="of a silent server [120]")
    how.add_argument("--attempts", type=_number(1), default=6, help="of a request [6]")
    how.add_argument("--first-wait-s", type=float, default=1.0, help="before the second; doubles")
    return parser


def run(main: Callable[[], int]) -> int:
    """Run a scorer; a known error is one line, and its exit code."""
    try:
        return main()
    except VxpError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped: what was answered is kept; the same command goes on.", file=sys.stderr)
        return 130


def open_backend(options: argparse.Namespace) -> Backend:
    """Return the model that a command line names; nothing is asked yet.

    Raises:
        UserError: it names none, or two, or one that cannot be.
    """
    require(
        (options.server is None) != (options.model is None),
        "wanted one of --server URL#MODEL and --model FOLDER.",
    )
    address = options.ray or None
    if options.server is not None:
        server = _server(options)
        given = {"revision": options.revision, "body": options.body}
        given["num_parallel"] = options.parallel
        if options.ray is None:
            from server_backend import ServerBackend

            return ServerBackend(server, **given)
        _require_ray()
        from ray_backend import RayServerBackend

        return RayServerBackend(server, **given, address=address, num_workers=options.workers)
    if options.ray is not None:
        _require_ray()
        from ray_backend import RayEngineBackend

        return RayEngineBackend(
            options.model,
            revision=options.revision,
            engine=options.body,
            address=address,
            num_workers=options.workers,
        )
    require_extra("train", "--model", INFERENCE)
    from local_backend import LocalBackend

    return LocalBackend(Path(options.model), device=options.device, batch=options.batch)


def version_of(backend: Backend, prompts: str, settings: Mapping[str, Any]) -> str:
    """Return a scorer's version: the model, a digest of the prompts, one of all other settings.

    Args:
        backend: the model.
        prompts: digest of the prompt file.
        settings: what else scores depend on.
    """
    how = digest([dict(backend.identity), dict(settings)])[:_SHORT]
    return f"{backend.model}/prompts-{prompts[:_SHORT]}/settings-{how}"


def answers_of(
    keys: Sequence[str], found: Mapping[str, Answer | Failure]
) -> list[Answer] | Failure:
    """Return the answers to a row's requests, or the first failure among them."""
    answers: list[Answer] = []
    for key in keys:
        answer = found[key]
        if isinstance(answer, Failure):
            return answer
        answers.append(answer)
    return answers


def finish(
    options: argparse.Namespace,
    rows: Sequence[ScoredRow],
    *,
    scorer: str,
    version: str,
    notes: Sequence[str] = (),
) -> int:
    """Write the scores, and print what they are.

    Returns:
        The exit code.

    Raises:
        UserError: no row has a score; the file is written all the same, with the reasons.
    """
    write_scores(options.out, rows, scorer=scorer, version=version)
    reasons = Counter(row.reason for row in rows if row.score is None)
    counted = ", ".join(f"{reason} {number}" for reason, number in sorted(reasons.items()))
    scored = [row for row in rows if row.score is not None]
    require(
        bool(scored),
        f"none of {len(rows)} rows has a score ({counted}): nothing can be decided by "
        f"{options.out}, whose column `details` says more of each.",
    )
    print(f"{options.out}: {len(rows)} rows, {len(scored)} with a score of {scorer}@{version}")
    for task in sorted({row.task for row in scored}):
        values = [row.score for row in scored if row.task == task and row.score is not None]
        print(
            f"  {task or 'no task'}: {len(values)} rows, from {min(values):.3g} to "
            f"{max(values):.3g}, median {statistics.median(values):.3g}"
        )
    if counted:
        print(f"  without a score: {counted}")
    for note in notes:
        print(f"  {note}")
    missing = " --missing keep" if counted else ""
    print(f"Larger = keep. Next: vxp-data decide RUN --scores {options.out}{missing} --keep 0.5")
    return 0


def _require_ray() -> None:
    require_extra("ray", "--ray")
    require(
        is_installed("aiohttp"), "--ray needs aiohttp, which ray.data.llm asks by: pip install it."
    )


def _server(options: argparse.Namespace) -> ChatServer:
    url, _, model = options.server.partition("#")
    require(
        url.startswith(("http://", "https://")) and bool(model),
        f"--server {options.server}: wanted an address and a model's name, such as "
        "http://localhost:8000/v1#Qwen2.5-7B-Instruct.",
    )
    name = options.key_variable
    key = None if name is None else os.environ.get(name)
    require(
        name is None or bool(key),
        f"--key-variable {name}: the environment variable is not set; it is to hold the API key.",
    )
    return ChatServer(
        url,
        model,
        key=key,
        num_tries=options.attempts,
        timeout_s=options.timeout_s,
        first_wait_s=options.first_wait_s,
    )


def _number(least: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r}: wanted a whole number from {least} on")
        return int(text)

    return read


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text!r}: wanted a JSON object")
    return value


__all__ = [
    "UserError",
    "answers_of",
    "base_parser",
    "finish",
    "open_backend",
    "run",
    "version_of",
]
