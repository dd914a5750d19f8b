"""Other people's readers read our shards: plain `webdataset`, and Hugging Face `datasets`."""

from __future__ import annotations

import gc
import io
import json
import tarfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from support.runs import table
from vxp_data.pipeline.shard.index import read_index
from vxp_data.shard_format import ClipRecord
from vxp_data.storage.folder import open_folder

pytestmark = pytest.mark.usefixtures("engine")

SUFFIX = {"video": {"video": "video", "image": "image"},
          "frames": {"video": "frames.tar", "image": "frames.tar"}, "none": {}}  # fmt: skip


def paths_of(out: Path, kind: str) -> list[str]:
    shards = read_index(open_folder(out)).shards
    return [str(out / shard.name) for shard in shards if shard.kind == kind]


def kept_ids(run: Path) -> Counter[str]:
    return Counter(row["sample_id"] for row in table(run, "decisions") if row["decision"] == "keep")


def webdataset_samples(paths: list[str]) -> list[dict[str, Any]]:
    """Read tars with plain `webdataset`, which leaves files open."""
    import webdataset

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        samples = list(webdataset.WebDataset(paths, shardshuffle=False))
        gc.collect()
    return samples


def test_plain_webdataset_reads_every_row_once(mixed_run: Path, mixed_shards: Path) -> None:
    found: Counter[str] = Counter()
    for kind in ("video", "image", "text"):
        suffix = SUFFIX[mixed_shards.name].get(kind)
        for sample in webdataset_samples(paths_of(mixed_shards, kind)):
            record = ClipRecord.from_json(sample["json"])
            assert sample["__key__"] == record.key
            assert ({"json", suffix} if suffix else {"json"}) == {
                name for name in sample if not name.startswith("__")
            }
            if suffix:
                assert len(sample[suffix]) == record.payload.num_bytes
            found.update(row.sample_id for row in record.rows)
    assert found == kept_ids(mixed_run)


def test_five_lines_of_webdataset_give_images_and_a_conversation(mixed_shards: Path) -> None:
    if mixed_shards.name != "frames":
        pytest.skip("the other payloads hold no images")
    for sample in webdataset_samples(paths_of(mixed_shards, "video")):
        record = json.loads(sample["json"])
        with tarfile.open(fileobj=io.BytesIO(sample["frames.tar"])) as tar:
            images = {int(m.name.split(".")[0]): Image.open(tar.extractfile(m)) for m in tar}
            sizes = {image.size for image in images.values()}
        for row in record["rows"]:
            assert set(row["plans"][0]["frame_index"]) <= set(images)
            turns = json.loads(row["conversation"])
            assert {turn["role"] for turn in turns} <= {"user", "assistant"}
        assert sizes == {(384, 384)}


def types_of(value: Any) -> Any:
    """The types in a JSON value; of a list, those of its members, without doubles."""
    if isinstance(value, dict):
        return {name: types_of(each) for name, each in value.items()}
    if isinstance(value, list):
        return [json.loads(t) for t in sorted({json.dumps(types_of(each)) for each in value})]
    return type(value).__name__


@pytest.mark.parametrize("kind", ["video", "image", "text"])
def test_every_record_of_a_kind_has_the_same_fields_of_the_same_types(
    mixed_shards: Path, kind: str
) -> None:
    samples = webdataset_samples(paths_of(mixed_shards, kind))
    seen = {json.dumps(types_of(json.loads(sample["json"])), sort_keys=True) for sample in samples}
    assert len(seen) == 1
    assert "NoneType" not in seen.pop()


@pytest.mark.parametrize("kind", ["video", "image", "text"])
def test_hugging_face_datasets_reads_every_row_once(
    mixed_run: Path, mixed_shards: Path, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own, of its own libraries
        import datasets

        datasets.disable_progress_bars()
        dataset = datasets.load_dataset(
            "webdataset",
            data_files=paths_of(mixed_shards, kind),
            split="train",
            cache_dir=str(tmp_path / "cache"),
        )
        read = list(dataset)
    index = read_index(open_folder(mixed_shards))
    assert len(read) == sum(shard.num_clips for shard in index.shards if shard.kind == kind)
    suffix = SUFFIX[mixed_shards.name].get(kind)
    own = {name for name in dataset.column_names if not name.startswith("__")}
    assert own == ({"json", suffix} if suffix else {"json"})
    found: Counter[str] = Counter()
    for sample in read:
        record = sample["json"]
        assert sample["__key__"] == record["key"]
        if suffix:
            assert len(sample[suffix]) == record["payload"]["num_bytes"]
        for row in record["rows"]:
            found[row["sample_id"]] += 1
            assert row["annotation"].startswith("{")
            for plan in row["plans"]:
                assert len(plan["frame_index"]) == len(plan["time_s"]) > 0
    modality = {row["sample_id"]: row["modality"] for row in table(mixed_run, "samples")}
    assert found == Counter(
        {name: n for name, n in kept_ids(mixed_run).items() if modality[name] == kind}
    )
