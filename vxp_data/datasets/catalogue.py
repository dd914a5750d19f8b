"""The datasets that we know: one YAML file each in `manifests/datasets/`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from vxp_data.datasets.record import DatasetRecord
from vxp_data.errors import UserError, unknown_name
from vxp_data.settings.file import read_yaml
from vxp_data.shipped_files import DATASETS


def load_record(dataset: str | Path) -> DatasetRecord:
    """Read what is known of a dataset.

    Args:
        dataset: its name, or the path of a YAML file of this form.

    Raises:
        UserError: the name is unknown, with the nearest ones; or the file is not of this form.
    """
    path = DATASETS.find(dataset)
    try:
        record = DatasetRecord.model_validate(read_yaml(path))
    except ValidationError as error:
        lines = [_readable(problem) for problem in error.errors()]
        raise UserError(f"{path}: " + "\n  ".join(lines)) from error
    if record.name != path.stem:
        raise UserError(
            f"{path}: name is {record.name!r}, and the file's is {path.stem!r}. Let them be one."
        )
    return record


def _readable(problem: Any) -> str:
    """Return what is wrong with a field; an unknown one gets the nearest known one."""
    index = problem["loc"]
    where = ".".join(map(str, index))
    if problem["type"] != "extra_forbidden":
        message = problem["msg"].removeprefix("Value error, ")
        got = "" if problem["type"] == "missing" else f"; got {problem['input']!r:.100}"
        return f"{where}: {message}{got}"
    kind: Any = DatasetRecord
    for name in index[:-1]:
        kind = _inner(kind, name)
    return f"{where}: {unknown_name('field', str(index[-1]), kind.model_fields)}"


def _inner(kind: Any, name: str | int) -> Any:
    """Return the type of a class's field, or the class of the items of such a field."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind.model_fields[str(name)].annotation
    return next(
        inner for inner in kind.__args__ if isinstance(inner, type) and issubclass(inner, BaseModel)
    )
