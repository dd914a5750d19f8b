"""Time EfficientNet-Lite0 on a CPU in the ways that it can be run, and compare their vectors.

    python pipelines/bench/encoder_lite.py [VIDEOS]

20 frames, one each of the first videos of a folder that can be read (none given: noise), go through
the network on one thread, alone or in batches: as timm builds it; with the norms folded into the
convolutions, channels last, as `efficientnet_lite0` runs it in torch; that by torch.jit, by
torch.compile, in bf16; and in onnxruntime, as it runs on CPUs. Seconds are the least of some rounds
of this process's CPU time; cosines are to timm's vectors in fp32. What a process takes before its
first vector is measured apart, in processes of their own.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import records
import torch
from numpy.typing import NDArray
from torch import Tensor

from vxp_data.decoders.base import FrameSize
from vxp_data.decoders.probe import probe
from vxp_data.decoders.pyav_decoder import PyavDecoder
from vxp_data.encoders.efficientnet_lite0 import Lite0Encoder, find_weights
from vxp_data.encoders.lite0_layers import FRAME_PX, MINUS, OVER, read_folded
from vxp_data.encoders.lite0_onnx import open_session
from vxp_data.encoders.lite0_tower import Lite0Tower
from vxp_data.errors import MediaError
from vxp_data.settings.prune import EncoderConfig

FRAMES: Final = 20
ROUNDS: Final = 5
BATCHES: Final = (1, 4, 20)
GIVEN: Final = EncoderConfig(name="efficientnet_lite0", device="cpu")
LIBRARIES: Final = (*records.LIBRARIES, "timm", "onnxruntime")
STARTS: Final = {
    "import torch": "import torch",
    "import timm": "import timm",
    "efficientnet_lite0 to its first vector": (
        "import numpy as np\n"
        "from vxp_data.settings.prune import EncoderConfig as C\n"
        "from vxp_data.encoders.efficientnet_lite0 import Lite0Encoder as L\n"
        "encoder = L.load(C(name='efficientnet_lite0', device='cpu'))\n"
        "encoder.embed(np.zeros((1, 224, 224, 3), np.uint8))"
    ),
}

Run = Callable[[Tensor], Tensor]


def frames_of(videos: Path | None) -> NDArray[np.uint8]:
    """Return the middle frame of each of the first videos; without videos, noise."""
    if videos is None:
        return np.random.default_rng(0).integers(0, 256, (FRAMES, *[FRAME_PX] * 2, 3), np.uint8)
    found: list[NDArray[np.uint8]] = []
    size = FrameSize(width_px=FRAME_PX, height_px=FRAME_PX)
    for path in sorted(videos.iterdir()):
        if len(found) == FRAMES:
            break
        try:
            known = probe(str(path), "")
            plan = known.timeline.plan(np.array([(known.media.num_frames or 1) // 2]))
            found.append(PyavDecoder().decode(str(path), known.media, plan, size).frames_FHWC)
        except (MediaError, OSError):
            continue
    return np.concatenate(found)


def timms_network() -> torch.nn.Module:
    """Return timm's network with the weights of the package, in their order."""
    timm = importlib.import_module("timm")
    model: torch.nn.Module = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    state = torch.load(find_weights(GIVEN), weights_only=True)
    model.load_state_dict(dict(zip(model.state_dict(), state.values(), strict=True)))
    return model.eval().requires_grad_(False)


def ways(frames_FHWC: NDArray[np.uint8]) -> Iterator[tuple[str, Run, Tensor]]:
    """Return how the network can be run, each with the input that it takes."""
    frames = torch.from_numpy(frames_FHWC)
    last_FCHW = (frames.permute(0, 3, 1, 2).float() - MINUS) / OVER
    timms = timms_network()

    def by_timm(x_BCHW: Tensor) -> Tensor:
        pooled: Tensor = timms.forward_head(timms.forward_features(x_BCHW), pre_logits=True)
        return pooled

    yield "timm", by_timm, last_FCHW.contiguous()
    timms = timms.to(memory_format=torch.channels_last)
    yield "timm, channels last", by_timm, last_FCHW
    folded = read_folded(find_weights(GIVEN))
    ours = Lite0Tower(folded).eval().requires_grad_(False)
    yield "torch, norms folded", ours, last_FCHW
    traced = torch.jit.trace(ours, last_FCHW[:1])
    yield (
        "the same, torch.jit",
        torch.jit.optimize_for_inference(torch.jit.freeze(traced)),
        last_FCHW,
    )
    yield "the same, torch.compile", torch.compile(ours), last_FCHW
    half = Lite0Tower(folded).eval().requires_grad_(False).to(torch.bfloat16)
    yield "the same, bf16", half, last_FCHW.to(torch.bfloat16)
    session = open_session(folded)

    def in_onnxruntime(images_BHWC: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {"images": images_BHWC.numpy()})[0])

    yield "onnxruntime", in_onnxruntime, frames


def unit(run: Run, pixels_FCHW: Tensor, batch: int) -> Tensor:
    """Return unit vectors of images, so many at once."""
    parts = [run(pixels_FCHW[i : i + batch]) for i in range(0, len(pixels_FCHW), batch)]
    return torch.nn.functional.normalize(torch.cat(parts).float(), dim=-1)


def measure(run: Run, pixels_FCHW: Tensor, wanted_FD: Tensor) -> dict[str, Any]:
    """Time one way in every batch size, and compare its vectors with those wanted."""
    figures: dict[str, Any] = {"cpu_s": {}}
    started_s = time.process_time()
    alone_FD = unit(run, pixels_FCHW, 1)
    figures["first_time_cpu_s"] = round(time.process_time() - started_s, 2)
    figures["least_cosine"] = round(float((alone_FD * wanted_FD).sum(1).min()), 7)
    figures["same_bits_as_alone"] = {}
    for batch in BATCHES:
        by = "alone" if batch == 1 else f"by_{batch}"
        taken = []
        for _ in range(1 + ROUNDS):
            started_s = time.process_time()
            emb_FD = unit(run, pixels_FCHW, batch)
            taken.append(time.process_time() - started_s)
        figures["cpu_s"][by] = round(min(taken), 3)
        figures["same_bits_as_alone"][by] = torch.equal(emb_FD, alone_FD)
    return figures


def starts() -> dict[str, float]:
    """Return the CPU-seconds that processes take before they can work, the least of three."""
    told = "import time\n{}\nprint(time.process_time())"
    found = {}
    for name, code in STARTS.items():
        command = [sys.executable, "-c", told.format(code)]
        taken = [
            float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            for _ in range(3)
        ]
        found[name] = round(min(taken), 2)
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Measure every way, write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("videos", type=Path, nargs="?", help="a folder of videos [noise]")
    parser.add_argument("--out", type=Path, default=records.RUNS / "encoder-lite.json")
    options = parser.parse_args(argv)
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # torch's, about its older exporters
    frames_FHWC = frames_of(options.videos)
    figures: dict[str, Any] = {"frames": len(frames_FHWC), "threads": 1, "rounds": ROUNDS}
    figures["ways"] = {}
    wanted_FD = None
    with torch.inference_mode():
        for name, run, own in ways(frames_FHWC):
            if wanted_FD is None:
                wanted_FD = unit(run, own, 1)
            figures["ways"][name] = measure(run, own, wanted_FD)
            print(name, figures["ways"][name], flush=True)
    encoder = Lite0Encoder.load(GIVEN)
    taken = []
    for _ in range(1 + ROUNDS):
        started_s = time.process_time()
        encoder.embed(frames_FHWC)
        taken.append(time.process_time() - started_s)
    figures["embed_cpu_s"] = round(min(taken), 3)
    figures["starts_cpu_s"] = starts()
    print({name: figures[name] for name in ("embed_cpu_s", "starts_cpu_s")})
    words = [
        "pipelines/bench/encoder_lite.py",
        *map(str, [options.videos] if options.videos else []),
    ]
    records.write_record(
        options.out.stem, figures, argv=words, libraries=LIBRARIES, folder=options.out.parent
    )


if __name__ == "__main__":
    main()
