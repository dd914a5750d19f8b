"""Train on the shards that `vxp_data` writes; answer questions about long videos.

Names are loaded when they are first used: importing this package loads nothing else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from vxp_model.data.frames import FrameOptions
    from vxp_model.data.loader import ShardLoader
    from vxp_model.data.order import BatchRule, OrderRule
    from vxp_model.data.seeded_draws import WindowRule
    from vxp_model.data.sources import Source
    from vxp_model.data.visuals import FrameChoice
    from vxp_model.errors import UserError
    from vxp_model.inference.session import LongVideoModel

__version__ = "0.1.0"

__all__ = [
    "BatchRule",
    "FrameChoice",
    "FrameOptions",
    "LongVideoModel",
    "OrderRule",
    "ShardLoader",
    "Source",
    "UserError",
    "WindowRule",
]

_MODULE_OF: Final = {
    "BatchRule": "vxp_model.data.order",
    "FrameChoice": "vxp_model.data.visuals",
    "FrameOptions": "vxp_model.data.frames",
    "LongVideoModel": "vxp_model.inference.session",
    "OrderRule": "vxp_model.data.order",
    "ShardLoader": "vxp_model.data.loader",
    "Source": "vxp_model.data.sources",
    "UserError": "vxp_model.errors",
    "WindowRule": "vxp_model.data.seeded_draws",
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
