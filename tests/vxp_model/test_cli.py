"""Commands that say something before a training is paid for load no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from support.mllm_runs import tree
from support.recot_runs import recipe_file, training_shards

CODE = """
import sys
from vxp_model.cli import main
try:
    main()
finally:
    heavy = {'torch', 'transformers', 'deepspeed', 'peft', 'ray'}
    print(sorted(heavy & set(sys.modules)), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    shards = training_shards(folder)
    (folder / "sft.yaml").write_text(yaml.safe_dump(tree(shards, folder / "sft")))
    return recipe_file(folder / "recot.yaml", shards, folder / "out")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["--help"], "Before you pay"),
        (["frames"], "every token of 848 frames fits 32,768 positions"),
        (["frames", "--preset", "tiny", "--memory-gb", "9"], "of 9 GB, 8 left for activations"),
        (["estimate", "video_xl_pro/sft"], "3,592,160,800 of them trained"),
        (["estimate", "video_xl_pro/sft", "--set", "lora.rank=8"], "of them trained"),
        (["estimate", "video_xl_pro/recot", "--samples", "1000000"], "12,500"),
        (["estimate", "RECIPE"], "GPU memory"),  # reads the shards' index
        (["estimate", "video_xl_pro/eval"], "GPU hours in all"),
        (["show-config", "RECIPE"], "tower.init"),
        (["check", "RECIPE"], "all 8 rows can be learned from"),
        (["check", "SFT"], "all 8 rows can be learned from"),
        (["estimate", "SFT"], "samples an epoch"),
        (["show-config", "video_xl_pro/sft"], "loss"),
        (["show-config", "video_xl_pro/eval"], "benchmarks"),
        (["show-config", "video_xl_pro/needle"], "needles"),
        (["show-config", "probe"], "models"),
        (["benchmarks"], "mlvu"),
    ],
)
def test_no_torch_is_loaded(recipe: Path, command: list[str], said: str) -> None:
    paths = {"RECIPE": str(recipe), "SFT": str(recipe.with_name("sft.yaml"))}
    given = [paths.get(word, word) for word in command]
    done = subprocess.run([sys.executable, "-c", CODE, *given], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
    assert done.stderr.splitlines()[-1] == "[]"
