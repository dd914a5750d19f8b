"""What tests share: one engine, one Ray, an S3 server, the video corpus."""

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from xdist.scheduler import LoadFileScheduling

from support import mixed_media, runs, several_media
from support import s3 as s3_server
from support.later import run_later
from support.misbehaving import offer_misbehaving

if TYPE_CHECKING:
    from vxp_model.train.distributed import DistributedContext


def pytest_configure() -> None:
    """Heed Ctrl-C, as tests and the commands they start do, also where a shell has us ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background of a script
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Import what the test module names under `if LATER:`, before any of its fixtures."""
    module = item.getparent(pytest.Module)
    if module is not None:
        run_later(module.obj)


class _OneRay(LoadFileScheduling):
    """A file a process, but all files of the engines go to one: it alone starts Ray."""

    def _split_scope(self, nodeid: str) -> str:
        scope = super()._split_scope(nodeid)
        return "engines" if "/engines/" in scope else scope


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadFileScheduling | None:
    """Called where tests run in several processes."""
    return _OneRay(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture(scope="session")
def s3_proxy() -> Iterator[s3_server.Proxy]:
    """Point S3 clients to a proxy, for the whole session; the server behind it starts later."""
    with s3_server.proxy_endpoint() as (endpoint, proxy), pytest.MonkeyPatch.context() as patch:
        s3_server.s3_environment(endpoint, patch)
        yield proxy


@pytest.fixture(scope="session")
def s3_running(s3_proxy: s3_server.Proxy) -> Iterator[s3_server.Proxy]:
    """Have the S3 server running behind the proxy."""
    with s3_server.s3_server(s3_proxy):
        yield s3_proxy


@pytest.fixture
def s3(s3_running: s3_server.Proxy) -> s3_server.Bucket:
    """Return a fresh bucket of a real S3 server, and the means to make it fail."""
    return s3_server.Bucket(s3_running)


@pytest.fixture(scope="session")
def misbehaving(
    tmp_path_factory: pytest.TempPathFactory,
    s3_proxy: s3_server.Proxy,  # noqa: ARG001 - workers find S3 by the environment they start with
) -> Iterator[None]:
    """Have all workers that are started know what is called 'misbehaving'."""
    with pytest.MonkeyPatch.context() as patch:
        offer_misbehaving(tmp_path_factory.mktemp("misbehaving"), patch)
        yield


@pytest.fixture(scope="session")
def engine(misbehaving: None) -> Iterator[None]:  # noqa: ARG001 - what its workers know
    """One engine of this machine for the whole session, whatever runs with the usual settings."""
    from vxp_data.engines.choose import one_engine
    from vxp_data.settings.cluster import ClusterConfig

    with one_engine(ClusterConfig()):
        yield


@pytest.fixture(scope="session")
def ray_session(misbehaving: None) -> Iterator[None]:  # noqa: ARG001 - what its workers know
    """One local Ray for the whole session, started by the first test that asks for it."""
    # A CPU-only task must not hide the GPUs from its process: what Ray's own warning asks for.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS", "0")
    import ray

    with pytest.MonkeyPatch.context() as started:
        started.setenv("RAY_health_check_failure_threshold", "1000")  # a busy node is not lost
        ray.init(
            address="local",
            num_cpus=2,
            object_store_memory=256 << 20,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    yield
    ray.shutdown()


@pytest.fixture(params=["local", "ray"])
def engine_name(request: pytest.FixtureRequest) -> str:
    """Each of our engines in turn, shared by the whole session."""
    request.getfixturevalue({"local": "engine", "ray": "ray_session"}[request.param])
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def mixed_run(
    tmp_path_factory: pytest.TempPathFactory,
    engine: None,  # noqa: ARG001 - where it runs
) -> Path:
    """A finished run over a row of every kind; half of the multiple-choice rows are pruned."""
    folder = tmp_path_factory.mktemp("mixed")
    manifest = mixed_media.write_media(folder / "media")
    thresholds = {"default": "keep 1.0", "multiple_choice": "keep 0.5"}
    runs.run_prune(manifest, folder / "run", thresholds=thresholds)
    return folder / "run"


@pytest.fixture(scope="session", params=["video", "frames", "none"])
def mixed_shards(
    request: pytest.FixtureRequest,
    mixed_run: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The shards of that run, with each kind of payload."""
    out = tmp_path_factory.mktemp("shards") / request.param
    runs.run_shard(
        mixed_run, out, shard__payload=request.param, shard__world_size=2, shard__num_epochs=2
    )
    return out


@pytest.fixture(scope="session")
def several_run(
    tmp_path_factory: pytest.TempPathFactory,
    engine: None,  # noqa: ARG001 - where it runs
) -> Path:
    """A finished run with rows of several media, all of them kept."""
    return several_media.several_run(tmp_path_factory.mktemp("several"))


@pytest.fixture(scope="session", params=["video", "frames", "none"])
def several_shards(
    request: pytest.FixtureRequest,
    several_run: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The shards of that run, with each kind of payload; a row has 24 frames at most."""
    out = tmp_path_factory.mktemp("several-shards") / request.param
    several_media.write_shards(several_run, out, request.param)
    return out


@pytest.fixture(scope="session")
def context() -> "Iterator[DistributedContext]":
    """Join torch.distributed as a group of one process.

    For the whole session: DeepSpeed keeps the first process group that it has seen.
    """
    from vxp_model.train.distributed import join_distributed

    with join_distributed("cpu") as joined:
        yield joined


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The folder of real videos."""
    folder = os.environ.get("VXP_CORPUS")
    if not folder:
        pytest.skip("VXP_CORPUS is not set")
    return Path(folder)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Let torch compute with one thread.

    For small tensors: two threads on a busy core wait for one another at every operation, and 5 s
    have turned into 300. Of a whole module: what its own fixtures compute must not differ in the
    last bits from what its tests do.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
