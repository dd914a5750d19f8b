"""The public datasets that a recipe names: `vxp-data ingest` of each, as a step."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vxp_data.data_recipe import SourceConfig
from vxp_data.datasets.catalogue import load_record
from vxp_data.datasets.ingest import find_files, ingest_dataset
from vxp_data.errors import UserError
from vxp_data.manifests.samples import Dataset
from vxp_data.pipeline.step_book import file_digest
from vxp_data.storage.folder import Folder, find_file, find_folder, open_folder

MANIFESTS_FOLDER: Final = "manifests"
_FORMAT: Final = "jsonl"


@dataclass(frozen=True, slots=True)
class Sources:
    """Public datasets, and the recipe's folder."""

    configs: Sequence[SourceConfig]
    out: Folder

    def datasets(self, taken: Collection[str]) -> list[Dataset]:
        """Name the manifests, whether they are written yet or not.

        Raises:
            UserError: two datasets of one name.
        """
        found: list[Dataset] = []
        for config in self.configs:
            name = load_record(config.name).name
            if name in {*taken, *(dataset.name for dataset in found)}:
                raise UserError(
                    f"ingest.datasets: the name {name!r} is taken by another manifest, and sample "
                    "ids begin with it. Name every dataset once."
                )
            root = find_folder(config.root)
            found.append(
                Dataset(
                    name=name,
                    manifest=find_file(self.out.where(self._files(name)[0])),
                    format=_FORMAT,
                    media_root=root.resolve() if isinstance(root, Path) else root,
                )
            )
        return found

    def inputs(self) -> list[dict[str, Any]]:
        """Give all that the manifests follow from but for which media are there.

        Raises:
            UserError: an annotation file is missing, with where to get it, or cannot be read.
        """
        return [
            {
                "settings": config.model_dump(mode="json"),
                "record": record.model_dump(mode="json"),
                "files": {
                    path: file_digest(file)
                    for entry in find_files(record, open_folder(config.root), config.only).entries
                    for path, file in (*entry.paths, *self._companion(entry.companion))
                },
            }
            for config in self.configs
            for record in [load_record(config.name)]
        ]

    def is_stale(self) -> bool:
        """Tell whether media were missing: what is there by now may have another suffix."""
        names = [self._files(load_record(config.name).name)[1] for config in self.configs]
        return any(self.out.size_bytes(name) > 0 for name in names)

    def ingest(self) -> tuple[list[str], list[str]]:
        """Write the manifests; give what there is to say of each, and the files' names."""
        told, files = [], []
        for config in self.configs:
            name = load_record(config.name).name
            result = ingest_dataset(
                config.name,
                root=config.root,
                out=self.out.where(self._files(name)[0]),
                only=config.only,
                extract_media=config.extract_media,
            )
            told.append(
                f"{name}: {result.num_rows} rows, {result.num_missing} of {result.num_media} media "
                f"missing, {result.num_rejected} broken rows"
            )
            files += self._files(name)
        return told, files

    @staticmethod
    def _files(name: str) -> list[str]:
        """Name the manifest and the lists beside it, below the recipe's folder."""
        endings = (f".{_FORMAT}", ".missing.txt", ".rejected.jsonl")
        return [f"{MANIFESTS_FOLDER}/{name}{ending}" for ending in endings]

    @staticmethod
    def _companion(file: Any) -> list[tuple[str, Any]]:
        return [] if file is None else [(str(file), file)]
