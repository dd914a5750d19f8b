"""Curate video for training: probe, embed, score, prune, account for every row.

    run = vxp_data.prune("train.json", "runs/a", media_root="videos", keep=0.5)
    shards = run.shard("shards/a", payload="frames")

Names are loaded when they are first used: importing this package loads nothing else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from vxp_data.api.run import Run, open_run, prune
    from vxp_data.api.shards import Shards
    from vxp_data.errors import ExpectationError, UserError, VxpError
    from vxp_data.pipeline.prune import Observer
    from vxp_data.pipeline.shard.command import ShardObserver

__version__ = "0.1.0"

__all__ = [
    "ExpectationError",
    "Observer",
    "Run",
    "ShardObserver",
    "Shards",
    "UserError",
    "VxpError",
    "open_run",
    "prune",
]

_MODULE_OF: Final = {
    "ExpectationError": "vxp_data.errors",
    "Observer": "vxp_data.pipeline.prune",
    "Run": "vxp_data.api.run",
    "ShardObserver": "vxp_data.pipeline.shard.command",
    "Shards": "vxp_data.api.shards",
    "UserError": "vxp_data.errors",
    "VxpError": "vxp_data.errors",
    "open_run": "vxp_data.api.run",
    "prune": "vxp_data.api.run",
}


def __getattr__(name: str) -> Any:
    """Load a name of `__all__` when it is first asked for."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    globals()[name] = value  # asked for once
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
