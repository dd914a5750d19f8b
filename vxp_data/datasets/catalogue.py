"""The datasets that we know: one YAML file each in `manifests/datasets/`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from vxp_data.datasets.record import DatasetRecord
from vxp_data.errors import UserError, unknown_name
from vxp_data.settings.file import read_yaml

FOLDER: Final = Path(__file__).parents[2] / "manifests" / "datasets"
"""In a checkout of the repository; a wheel has no such folder, and datasets go by their file."""
_SUFFIXES: Final = (".yaml", ".yml")


def dataset_names() -> list[str]:
    """Return the name of every dataset with a file in `FOLDER`."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_record(dataset: str | Path) -> DatasetRecord:
    """Read what is known of a dataset.

    Args:
        dataset: its name, or the path of a YAML file of this form (`.yaml` or `.yml`).

    Raises:
        UserError: the name is unknown, with the nearest known one; or the file is not of this form.
    """
    if Path(dataset).suffix in _SUFFIXES:
        path = Path(dataset)
    elif str(dataset) in (names := dataset_names()):
        path = FOLDER / f"{dataset}.yaml"
    elif names:
        raise unknown_name("dataset", str(dataset), names)
    else:
        raise UserError(
            f"unknown dataset {str(dataset)!r}: there is no folder {FOLDER}. Give the path of its "
            "YAML file, from manifests/datasets of the source repository."
        )
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
