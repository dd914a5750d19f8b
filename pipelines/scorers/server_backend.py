"""A model behind a server that speaks OpenAI's chat completions, such as vLLM."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from asks import Answer, Ask, Failure, Keyed
from chat_requests import asked, body_of
from pictures import Pictures, data_uris

from vxp_data.errors import unknown_name
from vxp_model.eval.chat_server import ChatServer


class ServerBackend:
    """Asks a server with several requests under way at once; a `Backend`."""

    takes_images = True
    likelihood = frozenset({"letters"})

    def __init__(
        self,
        server: ChatServer,
        *,
        revision: str,
        body: Mapping[str, Any],
        num_parallel: int,
    ) -> None:
        """Name it; nothing is sent yet.

        Args:
            server: address and model.
            revision: of the model, as the user names it; '': not told.
            body: further fields of each request.
            num_parallel: requests under way at once.
        """
        self._server = server
        self._body = body
        self._num_parallel = num_parallel
        self.model, self.identity = named(server, revision, body)

    def check(self) -> None:
        """Check that the server is there, takes the key, and has the model, where it says so."""
        check_server(self._server)

    def answers(self, asks: Iterable[Keyed]) -> Iterator[tuple[str, Answer | Failure]]:
        """Yield answers as they come; see `Backend`."""
        pictures = Pictures()
        pool = ThreadPoolExecutor(self._num_parallel)
        running: dict[Future[Answer | Failure], str] = {}
        try:
            for key, ask in asks:
                if len(running) >= self._num_parallel:
                    yield from _done(running)
                running[pool.submit(self._one, pictures, ask)] = key
            while running:
                yield from _done(running)
        finally:
            pool.shutdown(cancel_futures=True)
            pictures.close()

    def _one(self, pictures: Pictures, ask: Ask) -> Answer | Failure:
        images: list[str] = []
        if ask.frames is not None:
            found = pictures.jpegs(ask.frames)
            if isinstance(found, Failure):
                return found
            images = data_uris(found)
        return asked(self._server, ask, body_of(ask, self._body, images))


def named(
    server: ChatServer, revision: str, body: Mapping[str, Any]
) -> tuple[str, Mapping[str, Any]]:
    """Return a model's name with its revision, and what makes it another scorer.

    That is not the address: the same model elsewhere is the same scorer.
    """
    identity = {"model": server.model, "revision": revision, "body": dict(body)}
    return (f"{server.model}@{revision}" if revision else server.model), identity


def check_server(server: ChatServer) -> None:
    """Check that a server is there, takes the key, and has the model, where it says which it has.

    Raises:
        UserError: it is not, or has not.
    """
    known = server.models()
    if known is not None and server.model not in known:
        raise unknown_name(f"model of {server.url}", server.model, known)


def _done(
    running: dict[Future[Answer | Failure], str],
) -> Iterator[tuple[str, Answer | Failure]]:
    """Yield what has come, waiting for something; what came is kept though another one failed."""
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    failed: BaseException | None = None
    for future in done:
        key = running.pop(future)
        if (error := future.exception()) is not None:
            failed = error
        else:
            yield key, future.result()
    if failed is not None:
        raise failed
