"""Data-Juicer's nearest operator: 20 uniform frames of every clip, as JPEG; it embeds nothing.

python data_juicer_frames.py CLIPS CHECKPOINT OUT.json
"""

import json
import sys
from pathlib import Path

from data_juicer.core.data import NestedDataset
from data_juicer.ops.mapper.video_extract_frames_mapper import VideoExtractFramesMapper

NUM_FRAMES = 20


def main(clips: str, checkpoint: str, out: str) -> None:
    """Count the frames of every clip."""
    del checkpoint
    paths = sorted(Path(clips).iterdir())
    rows = [{"text": "<__dj__video>", "videos": [str(path)]} for path in paths]
    operator = VideoExtractFramesMapper(
        frame_sampling_method="uniform",
        frame_num=NUM_FRAMES,
        output_format="bytes",
        num_proc=2,
    )
    done = operator.run(NestedDataset.from_list(rows))
    field = operator.frame_field
    counts = {}
    for path, row in zip(paths, done, strict=True):
        counts[path.name] = sum(len(frames) for frames in row[field])
    Path(out).write_text(json.dumps({"num_frames": counts, "encoder_cpu_s": 0.0}))


if __name__ == "__main__":
    main(*sys.argv[1:])
