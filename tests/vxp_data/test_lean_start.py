"""pyarrow without pandas, in a process of its own: pyarrow asks for pandas once in a process."""

import subprocess
import sys

ALONE = "from vxp_data.lean_start import import_pyarrow_alone; import_pyarrow_alone(); import sys;"
ARRAYS = "import pyarrow as pa; t = pa.table({'a': [1.5, None], 'b': [[1], []]});"


def printed_by(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_arrays_are_made_without_pandas() -> None:
    asked = "print('pandas' in sys.modules)"
    assert printed_by(f"{ALONE}{ARRAYS}{asked}") == "False"
    assert printed_by(f"import sys;{ARRAYS}{asked}") == "True"  # else it is left out for nothing


def test_what_needs_pandas_gets_it() -> None:
    both_ways = "import pandas as pd; print(pa.Table.from_pandas(t.to_pandas()).equals(t))"
    assert printed_by(f"{ALONE}{ARRAYS}{both_ways}") == "True"
    a_series = "import pandas as pd; t.to_pandas(); print(pa.array(pd.Series([1.5, float('nan')])))"
    assert "null" in printed_by(f"{ALONE}{ARRAYS}{a_series}")


def test_pandas_that_is_there_already_stays() -> None:
    script = f"import pandas;{ALONE}{ARRAYS}print(t.to_pandas().shape)"
    assert printed_by(script) == "(2, 2)"
