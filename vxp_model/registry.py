"""Tables from a name to the thing of that name, as those of `vxp_data.registry`.

A third party adds an entry with a Python entry point in the table's group, 'vxp_model.<table>'.
"""

from __future__ import annotations

from typing import Final

from vxp_data.registry import Registry

BENCHMARKS: Final = Registry("benchmark", "vxp_model.benchmarks", {})
"""Of `eval.benchmarks.base.Benchmark`, one an entry."""
