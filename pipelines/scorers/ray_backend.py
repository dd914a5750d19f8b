"""A model that `ray.data.llm` runs or asks: many machines, one dataset of requests.

`RayServerBackend` is Ray's HTTP processor in front of a server; `RayEngineBackend` is its vLLM
processor, which loads the model on the GPUs of the cluster.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from typing import Any, Final

from asks import Answer, Ask, Failure, Keyed
from chat_requests import body_of, tried
from pictures import Pictures, data_uris
from server_backend import check_server, named

from vxp_data.settings.cluster import ClusterConfig
from vxp_model.errors import UserError
from vxp_model.eval.chat_server import AnswerError, ChatServer

_STORE_BYTES: Final = 512 << 20
_MOST_TOGETHER: Final = 4096
"""Requests of one dataset: what is kept at least every so often, whatever Ray holds back."""
Extra = Mapping[str, Any]


class RayServerBackend:
    """Ray's `HttpRequestProcessorConfig` in front of a server; a `Backend`.

    Its requests go through our own client: Ray's one sends those of a batch one after another, ends
    the whole dataset with the first that fails for good, and does not try again after 500.
    """

    takes_images = True
    likelihood = frozenset({"letters"})

    def __init__(
        self,
        server: ChatServer,
        *,
        revision: str,
        body: Extra,
        num_parallel: int,
        address: str | None,
        num_workers: int,
    ) -> None:
        """Name it; see `ServerBackend`. `address` is that of a Ray cluster, None: this machine."""
        self._server = server
        self._body = body
        self._num_parallel = num_parallel
        self._address = address
        self._num_workers = num_workers
        self.model, self.identity = named(server, revision, body)

    def check(self) -> None:
        """Check the server from here; Ray's workers must reach it too."""
        check_server(self._server)

    def answers(self, asks: Iterable[Keyed]) -> Iterator[tuple[str, Answer | Failure]]:
        """Yield answers as Ray gives them; see `Backend`."""
        with _session(self._address):
            pictures = Pictures()
            left = iter(asks)
            try:
                while some := list(islice(left, _MOST_TOGETHER)):
                    yield from self._some(dict(some), pictures)
            finally:
                pictures.close()

    def _some(
        self, asks: dict[str, Ask], pictures: Pictures
    ) -> Iterator[tuple[str, Answer | Failure]]:
        from ray.data.llm import HttpRequestProcessorConfig, build_processor

        rows: list[dict[str, str]] = []
        for key, ask in asks.items():
            found = [] if ask.frames is None else pictures.jpegs(ask.frames)
            if isinstance(found, Failure):
                yield key, found
                continue
            body = {"model": self._server.model, **body_of(ask, self._body, data_uris(found))}
            # As text: Arrow would fill the fields that some messages lack.
            rows.append({"key": key, "payload": json.dumps(body)})
        if not rows:
            return
        config = HttpRequestProcessorConfig(
            url=f"{self._server.url}/chat/completions",
            session_factory=_session_factory(self._server, self._num_parallel),
            batch_size=4 * self._num_parallel,
            concurrency=self._num_workers,
        )
        processor = build_processor(config, postprocess=_kept_columns)
        for row in _rows(processor, rows):
            yield row["key"], _outcome(asks[row["key"]], json.loads(row["outcome"]))


class RayEngineBackend:
    """Ray's `vLLMEngineProcessorConfig`: needs vLLM and GPUs where it runs; a `Backend`."""

    takes_images = False
    likelihood: frozenset[str] = frozenset()

    def __init__(
        self,
        model: str,
        *,
        revision: str,
        engine: Extra,
        address: str | None,
        num_workers: int,
    ) -> None:
        """Name it.

        Args:
            model: a folder that every node has, or a name of the Hub.
            revision: as the user names it; '': not told.
            engine: vLLM's `engine_kwargs`.
            address: of a Ray cluster; None: this machine.
            num_workers: copies of the model.
        """
        self._model = model
        self._engine = engine
        self._address = address
        self._num_workers = num_workers
        name = Path(model).name
        self.model = f"{name}@{revision}" if revision else name
        self.identity: Mapping[str, Any] = {
            "model": model,
            "revision": revision,
            "engine": dict(engine),
        }

    def check(self) -> None:
        """Check that Ray's vLLM processor is here.

        Raises:
            UserError: it is not.
        """
        import importlib.util

        if importlib.util.find_spec("vllm") is None:
            raise UserError(
                "--ray with --model runs vLLM, which is not installed here: pip install 'ray[llm]' "
                "on every node, or ask a server (--server), or leave --ray out."
            )

    def answers(self, asks: Iterable[Keyed]) -> Iterator[tuple[str, Answer | Failure]]:
        """Yield answers as Ray gives them; see `Backend`."""
        with _session(self._address):
            left = iter(asks)
            while some := list(islice(left, _MOST_TOGETHER)):
                rows = [engine_row(key, ask) for key, ask in some]
                for row in _rows(self.processor(), rows):
                    yield engine_answer(row)

    def processor(self) -> Any:
        """Return Ray's processor of `engine_row`; the model is loaded when it first gets some."""
        from ray.data.llm import build_processor, vLLMEngineProcessorConfig

        config = vLLMEngineProcessorConfig(
            model_source=self._model,
            engine_kwargs=dict(self._engine),
            concurrency=self._num_workers,
            should_continue_on_error=True,
        )
        return build_processor(config, postprocess=_said)


def engine_row(key: str, ask: Ask) -> dict[str, Any]:
    """Return a request as Ray's vLLM processor takes it."""
    return {
        "key": key,
        "messages": [{"role": role, "content": text} for role, text in ask.chat],
        "sampling_params": {
            "temperature": ask.temperature,
            "max_tokens": ask.max_tokens,
            "seed": ask.seed,
        },
    }


def _said(row: dict[str, Any]) -> dict[str, Any]:
    return {"key": row["key"], "generated_text": row["generated_text"]}


def engine_answer(row: Mapping[str, Any]) -> tuple[str, Answer | Failure]:
    """Return what Ray's vLLM processor made of a request."""
    problem = row.get("__inference_error__") or ""
    if problem:
        return row["key"], Failure(reason="refused", message=f"vLLM: {problem}")
    return row["key"], {"text": str(row["generated_text"])}


class _Response:
    """What Ray's stage looks at of an answer: always a good one, with ours inside."""

    status = 200
    reason = "OK"

    def __init__(self, content: dict[str, Any]) -> None:
        self._content = content

    async def __aenter__(self) -> _Response:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing is open."""

    async def json(self) -> dict[str, Any]:
        """Return it."""
        return self._content


class _Session:
    """Stands where Ray's stage has an aiohttp session: the requests of a batch begin together."""

    def __init__(self, server: ChatServer, num_parallel: int) -> None:
        self._server = server
        self._pool = ThreadPoolExecutor(num_parallel)

    async def __aenter__(self) -> _Session:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def post(self, url: str, *, headers: object, data: str) -> asyncio.Future[_Response]:
        """Send a request; the future is Ray's to wait for."""
        del url, headers
        return asyncio.get_running_loop().run_in_executor(self._pool, self._sent, data)

    def _sent(self, data: str) -> _Response:
        try:
            choice = self._server.complete(json.loads(json.loads(data)))
        except AnswerError as error:
            return _response({"failed": [error.reason, str(error)]})
        except UserError as error:
            return _response({"ends": str(error)})
        return _response({"choice": choice})


def _response(content: dict[str, Any]) -> _Response:
    """Wrap what came as one text: Arrow would give all rows the fields of every one."""
    return _Response({"outcome": json.dumps(content)})


def _session_factory(server: ChatServer, num_parallel: int) -> Callable[[], _Session]:
    return lambda: _Session(server, num_parallel)


def _kept_columns(row: dict[str, Any]) -> dict[str, Any]:
    return {"key": row["key"], "outcome": row["http_response"]["outcome"]}


def _outcome(ask: Ask, said: Mapping[str, Any]) -> Answer | Failure:
    """Return what a worker's answer says.

    Raises:
        UserError: no other request will be answered either.
    """

    def complete() -> Mapping[str, Any]:
        if "ends" in said:
            raise UserError(said["ends"])
        if "failed" in said:
            raise AnswerError(*said["failed"])
        choice: Mapping[str, Any] = said["choice"]
        return choice

    return tried(ask, complete)


def _rows(processor: Any, rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Run a processor over a few rows."""
    import ray

    pickler: Any = ray.cloudpickle
    pickler.register_pickle_by_value(sys.modules[__name__])  # workers elsewhere have it not
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield from processor(ray.data.from_items(rows)).iter_rows()


def _session(address: str | None) -> AbstractContextManager[None]:
    from vxp_data.engines.ray.session import ray_session

    return ray_session(ClusterConfig(address=address), _STORE_BYTES)
