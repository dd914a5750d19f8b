"""What our own processes leave out as they start: pandas, which pyarrow imports unasked."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType


def import_pyarrow_alone() -> None:
    """Import pyarrow so that it leaves pandas alone until something is converted to it or from it.

    With its first array pyarrow asks whether that is a pandas object, and imports pandas for it:
    0.3 CPU-seconds a process. It asks once; what needs pandas imports it still. For processes of
    ours only: a program that imports us may hand pandas objects to pyarrow itself.
    """
    if "pandas" in sys.modules:
        return
    no_pandas = _NoPandas()
    sys.meta_path.insert(0, no_pandas)
    try:
        import pyarrow as pa

        pa.array([0])
    finally:
        sys.meta_path.remove(no_pandas)


class _NoPandas:
    """Finds no pandas, for as long as it stands in `sys.meta_path`."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return None for everything else.

        Raises:
            ImportError: pandas is asked for.
        """
        del path, target
        if name == "pandas":
            raise ModuleNotFoundError("pandas is not imported here", name=name)
        return None
