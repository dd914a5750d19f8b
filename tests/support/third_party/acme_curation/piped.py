"""Lines `id|video|caption`."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from vxp_data.errors import UserError
from vxp_data.manifests.base import AnyFile, ManifestRow, cannot_open, not_utf8
from vxp_data.manifests.renamed_media import Renaming

COLUMNS = ("id", "video", "caption")


class Piped:
    """One row a line."""

    suffixes = (".piped",)
    output_suffix = ".piped"

    def rows(self, path: AnyFile) -> Iterator[ManifestRow]:
        """Return the lines that are not blank."""
        try:
            with path.open(encoding="utf-8", newline="\n") as file:
                lines = [line.removesuffix("\n") for line in file if line.strip()]
        except OSError as error:
            raise cannot_open(path, error) from error
        except UnicodeDecodeError as error:
            raise not_utf8(path) from error
        if not all("|" in line for line in lines):
            raise UserError(f"{path}: a line has no '|', wanted {'|'.join(COLUMNS)}.")
        for index, line in enumerate(lines):
            cells = line.split("|", 2)
            problem = "" if len(cells) == 3 else f"the row has {len(cells)} cells, wanted 3"
            yield ManifestRow(
                index=index,
                where=f"row {index}",
                annotation=line.encode(),
                fields={} if problem else dict(zip(COLUMNS, cells, strict=True)),
                problem=problem,
            )

    def write(
        self,
        out: Path,
        source: AnyFile,  # noqa: ARG002 - a row needs nothing of it
        rows: Iterable[tuple[int, bytes]],
        renamed: Mapping[int, Renaming],
    ) -> int:
        """Write one untouched row a line."""
        count = 0
        with out.open("wb") as file:
            for index, annotation in rows:
                name, _, caption = annotation.decode().split("|", 2)
                new = renamed.get(index)
                row = annotation if new is None else f"{name}|{new.name}|{caption}".encode()
                file.write(row + b"\n")
                count += 1
        return count
