"""The public datasets that a recipe names: `vxp-data ingest` of each, as a step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vxp_data.datasets.catalogue import load_record
from vxp_data.datasets.ingest import find_files, ingest_dataset
from vxp_data.datasets.record import DatasetRecord
from vxp_data.errors import UserError
from vxp_data.manifests.base import AnyFile
from vxp_data.manifests.mixture import read_entries
from vxp_data.manifests.samples import Dataset
from vxp_data.pipeline.recipe.step_cache import file_digest
from vxp_data.settings.data import IngestConfig
from vxp_data.storage.folder import Folder, find_file, find_folder, open_folder

MANIFESTS_FOLDER: Final = "manifests"
_FORMAT: Final = "jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicDataset:
    """A public dataset whose manifest a recipe writes."""

    dataset: Dataset
    """With the manifest, whether it is written yet or not."""
    public: str
    """Its name in manifests/datasets, or the path of such a file."""
    only: tuple[str, ...]

    @property
    def files(self) -> tuple[str, str]:
        """Name the manifest and the list of missing media, below the recipe's folder."""
        stem = f"{MANIFESTS_FOLDER}/{self.dataset.name}"
        return f"{stem}.{_FORMAT}", f"{stem}.missing.txt"

    def record(self) -> DatasetRecord:
        """Return what is known of the dataset."""
        return load_record(self.public)

    def annotation_files(self) -> Iterator[tuple[str, AnyFile]]:
        """Return the files that the manifest is made of.

        Raises:
            UserError: one is missing; with where to get it.
        """
        root = open_folder(str(self.dataset.media_root))
        for entry in find_files(self.record(), root, self.only).entries:
            yield from entry.paths
            if entry.companion is not None:
                yield str(entry.companion), entry.companion


class RecipeSources:
    """All that goes into a recipe by `ingest.datasets` and `ingest.mixture`."""

    def __init__(self, config: IngestConfig, out: Folder) -> None:
        """Read the mixture, if there is one.

        Raises:
            UserError: it cannot be read, or two datasets have one name.
        """
        self._config = config
        self._out = out
        self.datasets: list[Dataset] = []
        """In their order, with those manifests of a mixture that are not written here."""
        self.sources: list[PublicDataset] = []
        """Those of them that are."""
        for given in config.datasets:
            name = load_record(given.dataset).name
            self._add(name, given.dataset, find_folder(given.root), given.only, None, None)
        entries = [] if config.mixture is None else read_entries(config.mixture, config.root)
        for entry in entries:
            own = entry.dataset
            if entry.source:
                self._add(own.name, entry.source, own.media_root, entry.only, own.task, own.rows)
            else:
                self._take(own)

    def inputs(self) -> list[dict[str, Any]]:
        """Return all that the manifests follow from, but for which media are there.

        Raises:
            UserError: an annotation file is missing, with where to get it, or cannot be read.
        """
        return [
            {
                "name": source.dataset.name,
                "only": source.only,
                "extract_media": self._config.extract_media,
                "record": source.record().model_dump(mode="json"),
                "files": {path: file_digest(file) for path, file in source.annotation_files()},
            }
            for source in self.sources
        ]

    def is_stale(self) -> bool:
        """Whether media were missing: what is there by now may have another suffix."""
        return any(self._out.size_bytes(source.files[1]) > 0 for source in self.sources)

    def ingest(self) -> tuple[list[str], list[str]]:
        """Write the manifests; return what there is to say of each, and the files' names."""
        told: list[str] = []
        files: list[str] = []
        for source in self.sources:
            result = ingest_dataset(
                source.public,
                root=str(source.dataset.media_root),
                out=self._out.where(source.files[0]),
                only=source.only,
                extract_media=self._config.extract_media,
            )
            told.append(
                f"{source.dataset.name}: {result.num_rows} rows, {result.num_missing} of "
                f"{result.num_media} media missing, {result.num_rejected} broken rows"
            )
            files += source.files
        return told, files

    def _add(
        self,
        name: str,
        public: str,
        root: Path | Folder,
        only: Sequence[str],
        task: str | None,
        rows: int | None,
    ) -> None:
        dataset = Dataset(
            name=name,
            manifest=find_file(self._out.where(f"{MANIFESTS_FOLDER}/{name}.{_FORMAT}")),
            format=_FORMAT,
            media_root=root.resolve() if isinstance(root, Path) else root,
            task=task,
            rows=rows,
        )
        self._take(dataset)
        self.sources.append(PublicDataset(dataset=dataset, public=public, only=tuple(only)))

    def _take(self, dataset: Dataset) -> None:
        self.datasets = with_own_names(self.datasets, [dataset])


def with_own_names(datasets: Sequence[Dataset], more: Sequence[Dataset]) -> list[Dataset]:
    """Join datasets.

    Raises:
        UserError: two have one name.
    """
    together = [*datasets, *more]
    names = Counter(dataset.name for dataset in together)
    for name, number in names.items():
        if number > 1:
            raise UserError(
                f"ingest: the name {name!r} is there {number} times, and sample ids begin with it. "
                "Name every dataset once."
            )
    return together
