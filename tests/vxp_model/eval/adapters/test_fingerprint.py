"""Which weights a folder holds."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from vxp_model.errors import UserError
from vxp_model.eval.adapters.fingerprint import PART_BYTES, folder_fingerprint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(5 * PART_BYTES))
    return folder


def test_a_copy_is_the_same_and_cards_do_not_count(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "elsewhere")
    (copy / "README.md").write_text("a card")
    assert folder_fingerprint(copy) == folder_fingerprint(folder)


@pytest.mark.parametrize("place", [0, 5 * PART_BYTES // 2, 5 * PART_BYTES - 1])
def test_weights_count_at_beginning_middle_and_end(folder: Path, place: int) -> None:
    before = folder_fingerprint(folder)
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(place)
        file.write(b"\1")
    assert folder_fingerprint(folder) != before


def test_every_tensor_counts_where_the_rest_is_frozen(folder: Path) -> None:
    known = set()
    for trained in range(12):
        tensors = {f"t{i}": np.zeros(PART_BYTES // 4, np.float32) for i in range(12)}
        tensors[f"t{trained}"] += 1.0
        save_file(tensors, folder / "model.safetensors")
        known.add(folder_fingerprint(folder))
    assert len(known) == 12


def test_names_sizes_configuration_and_tokenizer_count(folder: Path) -> None:
    known = {folder_fingerprint(folder)}

    def changed() -> bool:
        known.add(now := folder_fingerprint(folder))
        return len(known) == number and len(now) == 16

    number = 2
    (folder / "config.json").write_text('{"a": 1}')
    assert changed()
    number = 3
    (folder / "tokenizer.json").write_text('{"a": 1}')
    assert changed()
    number = 4
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    assert changed()
    number = 5
    with (folder / "other.safetensors").open("ab") as file:
        file.write(bytes(PART_BYTES))
    assert changed()


def test_a_folder_without_a_model_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="holds no weights"):
        folder_fingerprint(folder)
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match=r"there is no config.json"):
        folder_fingerprint(folder)
