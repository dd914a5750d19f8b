"""What every engine is: it runs functions over many files and knows no video and no encoder.

What it runs are stages: plain functions of tables, which know no engine. They travel to other
processes, so they can be pickled.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

import pyarrow as pa

from vxp_data.engines.crash_ledger import Attempt
from vxp_data.engines.stage_plan import AskedDevice, Device, EncoderNeeds, StagePlan

if TYPE_CHECKING:
    from vxp_data.settings.cluster import ClusterConfig

T = TypeVar("T")
R = TypeVar("R")

Decode = Callable[[pa.Table, Attempt], Iterator[pa.Table]]
"""Takes files (FILE_SCHEMA), gives tables with a column `clip`: a clip each with its frames, or,
where no encoder follows, reports."""
Store = Callable[[], pa.Table]
"""Stores clips that are embedded, gives their reports: a table with a column `clip`."""
Embed = Callable[[pa.Table, Attempt], Store]
"""Takes clips with their frames, embeds them, and gives what stores them: that is called once, in
another thread perhaps, and while it runs the next clips are embedded."""
MapTable = Callable[[pa.Table], pa.Table]


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedStages:
    """The stages from files to reports."""

    decode: Decode
    start_encoder: Callable[[], Embed] | None
    """Loads an encoder, once in each process that embeds; None: `decode` embeds, too."""
    needs: EncoderNeeds
    """Of the encoder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """What makes a job slow, or wait."""

    name: str
    """Of what there is too little."""
    message: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeActivity:
    """A machine that a job runs on."""

    name: str
    num_cpus: float
    num_gpus: float
    decoders: int | None = None
    """Decoding workers there; None: it is not known here, as the next."""
    encoders: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """What an engine does at a moment."""

    nodes: tuple[NodeActivity, ...]
    clips_waiting: int | None = None
    """Decoded ones that no encoder has taken; None: it is not known."""
    decoders_paused: int | None = None
    """Decoding workers that wait until an encoder takes clips; None: it is not known."""


def no_word(shortage: Shortage) -> None:
    """Tell nobody of a shortage."""


class WorkerDiedError(Exception):
    """A task whose worker processes died, one after the other.

    Attributes:
        index: of the task.
        deaths: how many.
        what: the engine's words for the last one.
    """

    def __init__(self, index: int, deaths: int, what: str) -> None:
        super().__init__(index, deaths, what)
        self.index, self.deaths, self.what = index, deaths, what


class Engine(Protocol):
    """Runs stages. A class is registered in `registry.ENGINES`.

    It starts what it needs when first asked for something, keeps it, and ends it when its block
    ends.

    Args:
        cluster: where jobs run.

    Attributes:
        spans_machines: whether a job may run on others than this one.
        on_shortage: called with what a job waits for, or does without, while it runs; whoever
            starts jobs may set it.
    """

    spans_machines: bool
    on_shortage: Callable[[Shortage], None]

    def __init__(self, cluster: ClusterConfig) -> None: ...

    @classmethod
    def check(cls, cluster: ClusterConfig) -> str:
        """Return in words what would run a job. Starts nothing.

        Raises:
            UserError: it could not run here: something is not installed, or the settings ask for
                what this engine has not.
        """

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def encoder_device(self, asked: AskedDevice) -> Device:
        """Return where encoders run: the same for all of them, asked once for a run.

        May wait for a GPU that is to come; `on_shortage` hears of it.

        Raises:
            UserError: there is no cluster, or no GPU that is asked for.
        """

    def plan(self, needs: EncoderNeeds) -> StagePlan:
        """Return how an embedding job would be shared out over what is free now.

        Raises:
            UserError: there is no cluster, or no GPU here that is asked for.
        """

    def activity(self) -> Activity:
        """Return what goes on now; may be called from any thread while a job runs."""

    def publish(self, figures: Mapping[str, float]) -> None:
        """Show figures of a run, by name, to what watches over this engine's machines, if any."""

    def shortages(self, needs: EncoderNeeds) -> list[Shortage]:
        """Return what there is too little of for an embedding job.

        Raises:
            UserError: as `plan`.
        """

    def embed_files(self, files: pa.Table, stages: EmbedStages) -> Iterator[pa.Table]:
        """Decode and embed files; return reports as they come, every clip's once, in any order.

        Machines that come while it runs are used, those that go are done without. It waits where
        others use all there is; `on_shortage` hears of it.

        A worker that dies costs what it worked on; a clip of which MAX_WORKER_DEATHS die is given
        up by the stages themselves, through their `Attempt`.

        Args:
            files: FILE_SCHEMA, dearest first.
            stages: what is run over them.

        Raises:
            UserError: as `plan`; or a stage met an error that the user can fix.
            RuntimeError: clips do not come back however often they are handed out.
        """

    def run_tasks(
        self, function: Callable[[T], R], tasks: Sequence[T]
    ) -> Generator[tuple[int, R], None, None]:
        """Call a function with each task, a process each at a time; return results as they come.

        Closed early, or where one fails, it ends those that run.

        Returns:
            The index of the task, and what it gave.

        Raises:
            UserError: the function's own, or there is no cluster.
            WorkerDiedError: the workers of a task died again and again.
        """

    def map_tables(
        self, start: Callable[[], MapTable], tables: Sequence[pa.Table], needs: EncoderNeeds
    ) -> Iterator[pa.Table]:
        """Return what each table becomes, in any order.

        Args:
            start: called once in each process that works on them; loads an encoder, say.
            tables: 1 or more.
            needs: of that encoder.

        Raises:
            UserError: as `plan`; or what runs met an error that the user can fix.
        """

    def on_every_machine(self, function: Callable[[], T]) -> dict[str, T]:
        """Call a function once on each machine; return what it gave, by the machine's name.

        Raises:
            UserError: there is no cluster, or a machine does not answer.
        """
