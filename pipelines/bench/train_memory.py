"""The memory that a training of Video-XL-Pro takes on a CPU, against `vxp-model estimate`.

A model of 138 M parameters, nearly all of them the language model's, is trained for three steps in
fp32 on one drawn sample, in a process of its own. Its peak resident memory, less what the process
had before the model was built, stands against the estimate, less what is CUDA's. Before that it has
trained the tiny preset: libraries are loaded, and their buffers there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

CASES: Final[dict[str, dict[str, Any]]] = {
    "sft": {},
    "sft, checkpoint_layers": {"checkpoint_layers": True},
    "sft, ZeRO-2": {"engine": {"zero_stage": 2}},
    "sft, ZeRO-2, offload": {"engine": {"zero_stage": 2, "offload": "torch"}},
    "align": {"stage": "align"},
    "lora": {"lora": {"rank": 16}, "optim": {"freeze": ["tower", "dts", "projector", "selector"]}},
}
TEXT: Final[dict[str, Any]] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_key_value_heads": 12,
    "vocab_size": 32_000,
    "initializer_range": 0.02,
}
ENVIRONMENT: Final = {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
"""What is freed goes back to the system at once: else the C library keeps some of it, by chance."""
NUM_TEXT: Final = 512
NUM_LABELS: Final = 256
NUM_FRAMES: Final = 8


def measure(name: str) -> dict[str, Any]:
    """Measure a case in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, name],
        env=os.environ | ENVIRONMENT, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(name, found, file=sys.stderr, flush=True)
    return found


def train(name: str) -> dict[str, Any]:
    """Train the tiny preset, then the model, and compare."""
    import torch

    from vxp_model.models.video_xl_pro_shape import preset_shape
    from vxp_model.settings.mllm import MLLM_RECIPES
    from vxp_model.train.distributed import join_distributed
    from vxp_model.train.mllm.estimate import SampleShape, estimate_mllm

    torch.set_num_threads(1)
    changes = dict(CASES[name])
    tree = {
        "stage": "sft",
        "start": {"init": "random", "preset": "tiny"},
        "data": {"sources": [{"uri": "none"}]},
        "batch": {"global_samples": 1},
        **changes,
        "engine": {"zero_stage": 0, "device": "cpu", "precision": "fp32"}
        | changes.get("engine", {}),
    }
    recipe = MLLM_RECIPES.read(tree, name).config
    tiny = preset_shape("tiny")
    shape = replace(tiny, text_config=replace(tiny.text_config, **TEXT))
    sample = SampleShape(num_frames=NUM_FRAMES, num_text=NUM_TEXT, num_labels=NUM_LABELS)
    estimate = estimate_mllm(recipe, sample, config=shape)
    parts = {k: v for k, v in estimate.device_bytes.items() if k != "spare"}
    with join_distributed("cpu") as context:
        steps(recipe, {}, context)
        before = _status_bytes("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        kept = steps(recipe, TEXT, context)
    peak = _status_bytes("VmHWM") - before
    expected = sum(parts.values()) + estimate.host_bytes
    return {
        "parameters": estimate.num_parameters,
        "trained": estimate.num_trained,
        "peak_mib": round(peak / 2**20),
        "estimate_mib": round(expected / 2**20),
        "off": round(expected / peak - 1, 3),
        "between_steps_mib": round((kept - before) / 2**20),
        "states_mib": round(
            (sum(parts[k] for k in ("weights", "gradients", "optimizer")) + estimate.host_bytes)
            / 2**20
        ),
    }


def steps(recipe: Any, text: dict[str, Any], context: Any) -> int:
    """Run three steps on one drawn sample; return the resident bytes after them."""
    import torch

    from vxp_model.models.byte_tokenizer import byte_tokenizer
    from vxp_model.models.flops import MllmFlops
    from vxp_model.models.processor import Clip, VideoXLProProcessor
    from vxp_model.models.video_xl_pro import VideoXLProForConditionalGeneration
    from vxp_model.models.video_xl_pro_config import video_xl_pro_preset
    from vxp_model.models.video_xl_pro_shape import preset_shape
    from vxp_model.train.engine import Engine
    from vxp_model.train.mllm.batches import MllmBatch
    from vxp_model.train.mllm.start import prepare_model
    from vxp_model.train.mllm.step import MllmStepper

    config: Any = video_xl_pro_preset("tiny")
    words = asdict(replace(preset_shape("tiny").text_config, **text))
    config.text_config = type(config.text_config)(**words)
    model = VideoXLProForConditionalGeneration(config)
    prepare_model(model, recipe)
    engine = Engine(
        model, engine=recipe.engine, optim=recipe.optim, micro_samples=1, accumulation=1,
        bf16=False, context=context,
    )  # fmt: skip
    engine.train()
    stepper = MllmStepper(
        engine, context, flops=MllmFlops.of(config, recipe.trained_parts()),
        frames_per_group=config.temporal_factor, packed=False, loss=recipe.loss,
    )  # fmt: skip
    processor = VideoXLProProcessor.for_model(config, byte_tokenizer(), system="")
    turns: list[dict[str, Any]] = [
        {"role": "user", "content": [
            {"type": "video", "video": None},
            {"type": "text", "text": "?" * (NUM_TEXT - NUM_LABELS)},
        ]},
        {"role": "assistant", "content": "!" * (NUM_LABELS - 1)},
    ]  # fmt: skip
    times = [float(t) for t in range(NUM_FRAMES)]
    prompt = processor.prompt(turns, [Clip(time_s_T=times)], add_generation_prompt=False)
    inputs = dict(processor.batch([prompt]))
    px = config.vision.image_px
    inputs["frames"] = torch.randint(0, 256, (NUM_FRAMES, px, px, 3), dtype=torch.uint8)
    inputs["clip_frames"] = torch.tensor([NUM_FRAMES])
    inputs["clip_is_image"] = torch.tensor([False])
    batch = MllmBatch(
        inputs=inputs, selector_seeds=[0], num_labels=NUM_LABELS, num_positions=len(prompt.ids),
        sample_ids=["drawn"], tasks=["drawn"],
    )  # fmt: skip
    for _ in range(3):
        stepper.run([batch], lr=1e-5)
    return _status_bytes("VmRSS")


def _status_bytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in lines if line.startswith(f"{name}:")]
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure one case; print it as JSON.")
    parser.add_argument("case", choices=CASES)
    case = parser.parse_args().case
    print(json.dumps(train(case) if ENVIRONMENT.items() <= os.environ.items() else measure(case)))
