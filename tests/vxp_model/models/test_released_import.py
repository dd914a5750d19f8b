"""`vxp-model import-released`: from a published checkpoint to a folder that answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from support.later import LATER
from support.mllm_runs import recipe
from support.mllm_videos import write_colours
from support.tiny_video_xl_pro import drawn_frames
from vxp_model.errors import UserError

if LATER:
    import torch
    from safetensors.torch import load_file

    from support.released_checkpoint import Kind, Layout, released_state, write_released
    from support.tensors import random
    from vxp_model.cli import app
    from vxp_model.inference.session import LongVideoModel
    from vxp_model.models.byte_tokenizer import VISUAL_ID, byte_tokenizer
    from vxp_model.models.released_import import ImportOptions, import_released
    from vxp_model.models.released_model import load_released_model
    from vxp_model.train.mllm.start import start_model

pytestmark = pytest.mark.usefixtures("one_thread")


def asked(num_frames: int) -> list[dict[str, Any]]:
    video = {"type": "video", "video": torch.from_numpy(drawn_frames(num_frames, px=56))}
    return [{"role": "user", "content": [video, {"type": "text", "text": "What?"}]}]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.usefixtures("no_grad")
@pytest.mark.parametrize("layout", ["one", "shards", "bins"])
@pytest.mark.parametrize("kind", ["video-xl-pro", "video-xl-2"])
def test_the_command_leaves_a_model_that_answers_as_the_checkpoint_does(
    tmp_path: Path, kind: Kind, layout: Layout
) -> None:
    source, out = tmp_path / "published", tmp_path / "models" / "ours"
    write_released(source, kind, layout)
    done = CliRunner().invoke(app, ["import-released", str(source), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert done.stdout == f"model in {out}\n"
    assert f"{kind}, torch.float32" in done.stderr
    assert [path.name for path in out.parent.iterdir()] == ["ours"]  # nothing is left beside it

    ours = LongVideoModel.load(out, device="cpu", dtype="float32")
    wanted, report = load_released_model(source, visual_token_id=VISUAL_ID)
    assert ours.model.config.visual_rotary == (kind == "video-xl-pro")
    assert ours.model.config.random_parts == ["selector"]
    batch = ours.processor(asked(9))
    got = ours.model(**batch)
    assert torch.equal(got.logits, wanted(**batch).logits)
    assert torch.equal(ours.model.selector.up.weight, wanted.selector.up.weight)
    text = ours.processor.decode(batch["input_ids"][0])
    assert ("Time 0004.0s:" if kind == "video-xl-pro" else "Time 4.0s:") in text

    record = json.loads((out / "import.json").read_text())
    assert list(record["tensors"]) == [fate.name for fate in report.fates]
    assert json.loads((out / "generation_config.json").read_text())["eos_token_id"] == [2, 0]
    card = (out / "README.md").read_text()
    assert "weights from chance: selector" in card
    assert "from the folder `published`" in card
    assert str(tmp_path) not in card


def test_the_imported_model_is_asked_by_command(tmp_path: Path) -> None:
    write_released(tmp_path / "published")
    import_released(tmp_path / "published", tmp_path / "ours", ImportOptions())
    clip = write_colours(tmp_path / "clip.mp4", num_frames=12, fps=2)
    given = [str(tmp_path / "ours"), "--video", str(clip), "--device", "cpu"]
    told = CliRunner().invoke(
        app, ["generate", *given, "--prompt", "What?", "--max-new-tokens", "4", "--json"]
    )
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["num_frames"] == 6


@pytest.mark.parametrize(
    ("wanted", "stored"), [("auto", "bfloat16"), ("float32", "float32"), ("float16", "float16")]
)
def test_weights_keep_the_type_they_have_or_get_the_one_asked_for(
    tmp_path: Path, wanted: str, stored: str
) -> None:
    state = write_released(tmp_path / "published", "video-xl-2", dtype="bfloat16")
    import_released(tmp_path / "published", tmp_path / "ours", ImportOptions(dtype=wanted))
    tensors = load_file(tmp_path / "ours" / "model.safetensors")
    assert {str(tensor.dtype) for tensor in tensors.values()} == {f"torch.{stored}"}
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(tensors[f"language_model.{name}"], state[name].to(getattr(torch, stored)))
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["dtype"] == stored


def test_an_import_that_was_stopped_goes_on_and_ends_with_the_same_files(tmp_path: Path) -> None:
    source = tmp_path / "published"
    write_released(source, layout="shards")
    options = ImportOptions(shard_bytes=200_000)
    import_released(source, tmp_path / "whole", options)
    whole = contents(tmp_path / "whole")
    shards = [name for name in whole if name.startswith("model-")]
    assert len(shards) > 5

    class StoppedError(Exception):
        pass

    def stop(line: str) -> None:
        if line.startswith(shards[2]):
            raise StoppedError

    with pytest.raises(StoppedError):
        import_released(source, tmp_path / "ours", options, stop)
    assert not (tmp_path / "ours").exists()
    left = tmp_path / ".ours.import"
    (left / shards[1]).write_bytes(whole[shards[1]][:-100])  # as a full disk leaves it
    said: list[str] = []
    import_released(source, tmp_path / "ours", options, said.append)
    before = {line.split(":")[0] for line in said if line.endswith("written before")}
    assert before == {shards[0], shards[2]}
    assert contents(tmp_path / "ours") == whole
    assert not left.exists()


def test_what_a_stop_left_of_another_checkpoint_is_not_gone_on_with(tmp_path: Path) -> None:
    source = tmp_path / "published"
    write_released(source)
    options = ImportOptions(shard_bytes=200_000)

    class StoppedError(Exception):
        pass

    def stop(line: str) -> None:
        if line.startswith("model-00003"):
            raise StoppedError

    with pytest.raises(StoppedError):
        import_released(source, tmp_path / "ours", options, stop)
    write_released(source, **{"model.embed_tokens.weight": random(268, 24)})
    said: list[str] = []
    import_released(source, tmp_path / "ours", options, said.append)
    assert not [line for line in said if line.endswith("written before")]


def test_no_file_of_weights_is_larger_than_asked_for(tmp_path: Path) -> None:
    write_released(tmp_path / "published")
    import_released(tmp_path / "published", tmp_path / "ours", ImportOptions(shard_bytes=500_000))
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "ours").glob("model-*")}
    largest = max(tensor.numel() * 4 for tensor in released_state("video-xl-pro").values())
    assert max(sizes.values()) < max(500_000, largest) + 20_000  # and the header


@pytest.mark.parametrize("what", ["a file in it", "a file"])
def test_an_out_that_holds_something_is_left_as_it_is(tmp_path: Path, what: str) -> None:
    write_released(tmp_path / "published")
    out = tmp_path / "ours"
    kept = out / "kept.txt" if what == "a file in it" else out
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("kept")
    with pytest.raises(UserError, match="is there and not empty"):
        import_released(tmp_path / "published", out, ImportOptions())
    assert kept.read_text() == "kept"
    kept.unlink()
    import_released(tmp_path / "published", out, ImportOptions())
    assert (out / "config.json").is_file()


def test_unknown_tensors_stop_it_before_anything_is_written(tmp_path: Path) -> None:
    source = tmp_path / "published"
    write_released(source, **{"model.extra.weight": random(2), "other": random(2)})
    given = ["import-released", str(source), "--out", str(tmp_path / "ours")]
    refused = CliRunner().invoke(app, given)
    assert isinstance(refused.exception, UserError)
    assert "2 tensors that no released model has: model.extra.weight, other" in str(
        refused.exception
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["published"]
    done = CliRunner().invoke(app, [*given, "--ignore", "model.extra.", "--ignore", "other"])
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "ours" / "import.json").read_text())
    assert record["tensors"]["other"] == "left out: asked for"


def test_a_tokenizer_may_lie_elsewhere(tmp_path: Path) -> None:
    write_released(tmp_path / "published", tokenizer=False)
    with pytest.raises(UserError, match=r"has no tokenizer .*--tokenizer"):
        import_released(tmp_path / "published", tmp_path / "ours", ImportOptions())
    byte_tokenizer().save_pretrained(tmp_path / "tokenizer")
    options: dict[str, Any] = {"tokenizer": tmp_path / "tokenizer"}
    import_released(tmp_path / "published", tmp_path / "ours", ImportOptions(**options))
    assert LongVideoModel.load(tmp_path / "ours", device="cpu").processor.visual_token_id == 11


def test_training_goes_on_from_it(tmp_path: Path) -> None:
    write_released(tmp_path / "published")
    import_released(tmp_path / "published", tmp_path / "ours", ImportOptions())
    loaded = recipe("none", tmp_path / "out", start={"model": str(tmp_path / "ours")})
    model, processor = start_model(loaded.config)
    assert processor.time_format == "Time {:06.1f}s:"
    assert model.config.random_parts == []  # sft trains the selector
