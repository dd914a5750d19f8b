"""means.parquet: the unit mean of each clip's frames, in the order of media.parquet."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from support.duplicate_clips import clip, film
from support.runs import table
from support.stored_runs import ENCODER, SAMPLER, StoredClip, stored_run
from vxp_data.pipeline.run_dir.clip_means import clip_means
from vxp_data.pipeline.run_dir.embedding_column import embedding_column, mean_matrix
from vxp_data.schemas import CLIP_KEY


def shown(seed):
    return StoredClip(emb_FD=clip(film(seed, 10.0))[0], duration_s=10.0)


def read(run, clips, **other):
    fingerprints = {"encoder": ENCODER, "sampler": SAMPLER, **other}
    found = {}
    for batch in clip_means(run, clips, **fingerprints):
        for index, mean_D, num in zip(
            batch.index_B.tolist(), batch.mean_BD, batch.num_frames_B.tolist(), strict=True
        ):
            found[index] = (mean_D.tolist(), num)
    return found


def test_means_are_those_of_the_frames_with_and_without_the_file(tmp_path):
    clips = {f"{n}.mp4": shown(n) for n in range(5)}
    run = stored_run(tmp_path, clips)
    media = pq.read_table(tmp_path / "run/media.parquet")
    assert [tuple(row[k] for k in CLIP_KEY) for row in table(tmp_path / "run", "means")] == [
        tuple(row[k] for k in CLIP_KEY) for row in media.to_pylist()
    ]
    wanted = media.take(pa.array([3, 1]))
    from_file = read(run, wanted)
    assert sorted(from_file) == [0, 1]
    for index, uri in enumerate(wanted["uri"].to_pylist()):
        emb_FD = clips[uri.rpartition("/")[2]].emb_FD.astype(np.float16).astype(np.float64)
        mean_D = emb_FD.mean(axis=0)
        mean_D /= np.linalg.norm(mean_D)
        assert from_file[index] == (mean_D.astype(np.float16).tolist(), len(emb_FD))
    (tmp_path / "run/means.parquet").unlink()
    assert read(run, wanted) == from_file


def test_means_of_another_encoder_are_not_taken(tmp_path):
    run = stored_run(tmp_path, {"a.mp4": shown(1)})
    media = pq.read_table(tmp_path / "run/media.parquet")
    assert read(run, media)
    assert read(run, media, encoder="another") == {}


def test_a_clip_that_failed_has_none(tmp_path):
    clips = {"a.mp4": shown(1), "b.mp4": shown(2)}
    run = stored_run(tmp_path, clips)
    rows = table(tmp_path / "run", "means")
    rows[0] |= {"num_frames": 0, "mean": None}
    schema = pq.read_schema(tmp_path / "run/means.parquet")
    pq.write_table(pa.Table.from_pylist(rows, schema), tmp_path / "run/means.parquet")
    media = pq.read_table(tmp_path / "run/media.parquet")
    assert sorted(read(run, media)) == [1]


def test_means_of_a_part_of_a_column_are_its_own() -> None:
    means = [np.array([i, 2, 3], dtype=np.float16) for i in range(4)]
    column = embedding_column([means[0], means[1], means[2], means[3]])
    assert mean_matrix(column.slice(1, 2)).tolist() == [[1, 2, 3], [2, 2, 3]]
    column = embedding_column([means[0], None, means[2], means[3]])
    assert mean_matrix(column.slice(1)).tolist() == [[2, 2, 3], [3, 2, 3]]
    assert mean_matrix(column.slice(1, 1)).shape == (0, 0)
