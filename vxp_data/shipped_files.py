"""Files that come with the package: dataset files, mixtures, recipes. Found by name.

The wheel has them below `_files/`, as `pyproject.toml` says; a checkout at its top.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vxp_data.errors import UserError

_NEAREST: Final = 3
_SUFFIXES: Final = (".yaml", ".yml")


def shipped_root(package: Path = Path(__file__).parent) -> Path:
    """Return the folder with `manifests/` and `pipelines/`: in the installed package, or above."""
    installed = package / "_files"
    return installed if installed.is_dir() else package.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class ShippedFiles:
    """YAML files of one kind, named by their path below a folder, without the suffix."""

    what: str
    """For messages."""
    folder: str
    """Below `shipped_root`."""
    inner: tuple[str, ...] = ("",)
    """Folders inside it that hold such files; '' for itself."""

    def names(self) -> list[str]:
        """Return every name, such as 'prune' or 'video_xl_pro/recot'."""
        root = shipped_root() / self.folder
        paths = [path for folder in self.inner for path in (root / folder).glob("*.yaml")]
        return sorted(path.relative_to(root).with_suffix("").as_posix() for path in paths)

    def find(self, given: str | Path) -> Path:
        """Return the file that a command names.

        Args:
            given: a path, which wins where there is such a file; or a name, with or without its
                suffix, and with or without `folder` before it.

        Raises:
            UserError: it is neither; with the nearest names.
        """
        path = Path(given)
        if _is_there(path):
            return path
        root = shipped_root() / self.folder
        name = path.with_suffix("") if path.suffix in _SUFFIXES else path
        if name.is_relative_to(self.folder):
            name = name.relative_to(self.folder)
        if name.as_posix() in (names := self.names()):
            return root / f"{name}.yaml"
        near = difflib.get_close_matches(name.as_posix(), names, n=_NEAREST, cutoff=0.5)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise UserError(
            f"{self.what} {str(given)!r}: there is no such file, and none of that name comes with "
            f"vxp.{hint} Known: {', '.join(names)}."
        )


DATASETS: Final = ShippedFiles(what="dataset", folder="manifests/datasets")
MIXTURES: Final = ShippedFiles(what="mixture", folder="manifests/mixtures")
RECIPES: Final = ShippedFiles(
    what="recipe", folder="pipelines", inner=("", "smoke", "video_xl_pro")
)


def _is_there(path: Path) -> bool:
    """Whether a path is to be read; what is no plain file may be: /dev/stdin."""
    try:
        return path.exists() and not path.is_dir()
    except OSError:  # no permission to look: the reader says so
        return True


def here_or_shipped(given: str) -> str:
    """Return what a recipe names beside itself, such as 'pipelines/smoke/held_out.txt'.

    The file that is here wins; else the one that comes with the package; else it stays as it is.
    """
    shipped = shipped_root() / given
    return str(shipped) if not Path(given).exists() and shipped.is_file() else given
