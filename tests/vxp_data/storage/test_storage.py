"""Folders on disk and in S3: one behaviour, also when the store fails."""

from __future__ import annotations

import io
import os
import pickle
import random
import resource
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.s3 import Bucket
from vxp_data.errors import UserError
from vxp_data.storage.folder import Folder, open_folder
from vxp_data.storage.object_store import ObjectStore, RetryPolicy, StoreFailedError

HASTY = RetryPolicy(attempts=4, first_wait_s=0.01, max_wait_s=0.05, timeout_s=10.0)
HASTIER = RetryPolicy(attempts=8, first_wait_s=0.01, max_wait_s=0.05, timeout_s=0.5)


@pytest.fixture(params=["disk", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    if request.param == "disk":
        return open_folder(tmp_path / "run")
    bucket: Bucket = request.getfixturevalue("s3")
    return open_folder(f"{bucket.uri}/run", HASTY)


@pytest.fixture
def remote(s3: Bucket) -> Folder:
    return open_folder(f"{s3.uri}/run/", HASTY)


def test_what_is_written_is_read(folder: Folder) -> None:
    assert folder.names() == []
    folder.write_text("b.txt", "grün")
    folder.write_bytes("a.bin", b"\0\1")
    with folder.write("c.bin") as file:
        file.write(b"x" * 10)
        file.seek(3)
        file.write(b"y")
    folder.child("deeper").write_bytes("d", b"d")
    assert folder.names() == ["a.bin", "b.txt", "c.bin"]
    assert folder.read_bytes("b.txt").decode() == "grün"
    assert folder.read_bytes("c.bin") == b"xxxyxxxxxx"
    assert folder.size_bytes("a.bin") == 2
    assert folder.child("deeper").read_bytes("d") == b"d"
    assert folder.exists("a.bin")
    assert not folder.exists("deeper")
    assert not folder.exists("no")


def test_a_file_is_replaced_and_removed(folder: Folder) -> None:
    folder.write_bytes("a", b"first")
    folder.write_bytes("a", b"second")
    assert folder.read_bytes("a") == b"second"
    folder.remove("a")
    folder.remove("a")
    assert folder.names() == []


def test_what_is_not_there_is_a_missing_file(folder: Folder) -> None:
    with pytest.raises(FileNotFoundError):
        folder.open("no")
    with pytest.raises(FileNotFoundError):
        folder.size_bytes("no")


def test_an_error_half_way_leaves_the_old_file_and_nothing_else(folder: Folder) -> None:
    folder.write_bytes("a", b"old")

    def write_half() -> None:
        with folder.write("a") as file:
            file.write(b"new")
            raise KeyError("half-way")

    with pytest.raises(KeyError, match="half-way"):
        write_half()
    assert folder.read_bytes("a") == b"old"
    assert folder.names() == ["a"]


def test_one_of_several_creators_wins(folder: Folder) -> None:
    won: list[int] = []

    def create(number: int) -> None:
        if folder.create("lock.json", f"holder {number}".encode()):
            won.append(number)

    threads = [threading.Thread(target=create, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert folder.read_bytes("lock.json") == f"holder {won[0]}".encode()
    folder.remove("lock.json")
    assert folder.create("lock.json", b"again")


def test_reading_moves_like_in_a_local_file(folder: Folder) -> None:
    data = random.Random(1).randbytes(3_000_000)
    folder.write_bytes("a", data)
    random_ = random.Random(2)
    with folder.open("a") as file:
        truth = io.BytesIO(data)
        for _ in range(200):
            if random_.random() < 0.5:
                index = random_.randrange(len(data) + 100)
                assert file.seek(index) == truth.seek(index)
            num_bytes = random_.choice([1, 100, 70_000, 400_000])
            assert file.read(num_bytes) == truth.read(num_bytes)
        assert file.seek(-10, io.SEEK_END) == truth.seek(-10, io.SEEK_END)
        assert file.read() == data[-10:]


def test_a_folder_pickles_and_parquet_reads_from_it(folder: Folder) -> None:
    again = pickle.loads(pickle.dumps(folder))
    assert again == folder
    table = pa.table(
        {"number": list(range(100_000)), "word": ["x" * (i % 7) for i in range(100_000)]}
    )
    with again.write_path("t.parquet") as path:
        pq.write_table(table, path, row_group_size=10_000)
    with folder.open("t.parquet") as file:
        assert pq.read_table(file, columns=["word"])["word"] == table["word"]


def test_unknown_kinds_of_storage_are_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'ftp://'. Known: s3://, gs://, hdfs:// and plain paths"):
        open_folder("ftp://host/run")
    with pytest.raises(UserError, match="names no bucket"):
        open_folder("s3://")
    assert open_folder(str(tmp_path)).uri == str(tmp_path)
    assert open_folder("s3://b/run/").child("parts").uri == "s3://b/run/parts"


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 500},
        {"kind": "status", "status": 503},
        {"kind": "silent", "seconds": 0.7},
        {"kind": "lost"},
    ],
    ids=["500", "slow-down", "silent", "lost"],
)
def test_a_store_that_fails_twice_is_asked_again(s3: Bucket, fault: dict[str, object]) -> None:
    remote = open_folder(f"{s3.uri}/run", HASTIER)
    calls = {
        "write": lambda: remote.write_bytes("a", b"1234567890"),
        "read": lambda: remote.read_bytes("a"),
        "list": remote.names,
        "create": lambda: remote.create("lock", b"me"),
        "created": lambda: remote.create("lock", b"you"),
        "remove": lambda: remote.remove("a"),
    }
    wanted = {"read": b"1234567890", "list": ["a"], "create": True, "created": False}
    for name, call in calls.items():
        struck = s3.fail(**fault, times=2)
        assert call() == wanted.get(name), name
        assert struck.met == 2, name
        s3.heal()
    assert s3.listing() == ["run/lock"]


@pytest.mark.parametrize("kind", ["cut", "short"])
def test_a_body_that_ends_early_is_never_taken_for_the_file(
    s3: Bucket, remote: Folder, kind: str
) -> None:
    data = random.Random(3).randbytes(500_000)
    s3.put("run/a", data)
    s3.fail(kind, method="GET", times=2)
    assert remote.read_bytes("a") == data
    s3.fail(kind, method="GET", times=99)
    with pytest.raises(StoreFailedError, match=r"\(4 attempts\)"):
        remote.read_bytes("a")


def test_a_store_that_never_answers_is_given_up(s3: Bucket, remote: Folder) -> None:
    struck = s3.fail("status", status=503, times=99)
    with pytest.raises(UserError, match=r"cannot write s3://.*/run/a: .*SlowDown.*4 attempts"):
        remote.write_bytes("a", b"1")
    assert struck.met == 4
    s3.heal()
    assert s3.listing() == []


def test_no_permission_and_no_bucket_are_told_and_not_tried_again(
    s3: Bucket, remote: Folder
) -> None:
    struck = s3.fail("status", status=403, times=99)
    with pytest.raises(UserError, match=r"cannot write s3://.*/run/a: no permission"):
        remote.write_bytes("a", b"1")
    with pytest.raises(PermissionError):
        remote.read_bytes("a")
    assert struck.met == 2
    gone = open_folder("s3://there-is-no-such-bucket/run", HASTY)
    with pytest.raises(UserError, match=r"cannot write s3://there-is-no.*: no such bucket"):
        gone.write_bytes("a", b"1")
    with pytest.raises(FileNotFoundError):
        gone.read_bytes("a")


def test_a_big_file_goes_up_in_parts_and_is_there_whole_or_not_at_all(
    s3: Bucket, remote: Folder
) -> None:
    data = random.Random(4).randbytes(1 << 20) * 40
    with remote.write("big") as file:
        file.write(data)
    assert s3.get("run/big") == data
    assert sum("partNumber" in request.path for request in s3.requests) == 3
    assert s3.uploads() == []
    for kind in ("status", "lost"):
        s3.fail(kind, method="PUT", path="partNumber=2", times=2)
        s3.fail(kind, method="POST", times=1)
        with remote.write("again") as file:
            file.write(data)
        assert s3.get("run/again") == data
    s3.fail("status", method="PUT", path="partNumber=2", status=500, times=99)
    with pytest.raises(UserError, match="cannot write"), remote.write("big") as file:
        file.write(data[::-1])
    assert s3.get("run/big") == data
    assert [key for key in s3.uploads() if key == "run/big"] == []


def test_an_upload_whose_completion_was_not_heard_is_found_complete(
    s3: Bucket, remote: Folder
) -> None:
    struck = s3.fail("lost", method="POST", path="uploadId=")
    with remote.write("big") as file:
        file.write(bytes(20 << 20))
    assert struck.met == 1
    assert s3.get("run/big") == bytes(20 << 20)
    assert s3.uploads() == []


def test_an_object_that_changes_while_it_is_read_is_an_error(s3: Bucket, remote: Folder) -> None:
    s3.put("run/a", b"a" * 2_000_000)
    with remote.open("a") as file:
        assert file.read(10) == b"a" * 10
        s3.put("run/a", b"b" * 2_000_000)
        file.seek(1_500_000)
        with pytest.raises(OSError, match="changed while it was read"):
            file.read(10)


def test_a_small_file_that_is_replaced_all_the_time_is_read_in_one_state(
    s3: Bucket, remote: Folder
) -> None:
    done = threading.Event()

    def replace_it() -> None:
        for number in range(60):
            s3.put("run/a", str(number % 10).encode() * 300_000)
        done.set()

    s3.put("run/a", b"0" * 300_000)
    thread = threading.Thread(target=replace_it)
    thread.start()
    while not done.is_set():
        assert len(set(remote.read_bytes("a"))) == 1
    thread.join()


def test_reading_a_little_of_a_big_object_fetches_a_little(s3: Bucket, remote: Folder) -> None:
    s3.put("run/a", bytes(30_000_000))
    with remote.open("a") as file:
        file.seek(20_000_000)
        assert file.read(8) == bytes(8)
    assert sum(request.bytes_sent for request in s3.requests) < 300_000


def test_hdfs_like_stores_write_beside_and_rename(tmp_path: Path) -> None:
    import pyarrow.fs
    from fsspec.implementations.arrow import ArrowFSWrapper

    from vxp_data.storage.object_store import put_and_rename

    fs = ArrowFSWrapper(pyarrow.fs.LocalFileSystem())
    source = tmp_path / "source"
    for text in ("first", "second"):
        source.write_text(text)
        put_and_rename(fs, source, f"{tmp_path}/run/a.bin")
        assert (tmp_path / "run" / "a.bin").read_text() == text
    assert os.listdir(tmp_path / "run") == ["a.bin"]  # noqa: PTH208


@pytest.fixture
def no_room() -> Iterator[None]:
    """Let no file of this process grow beyond 64 KiB: what a full disk or a quota does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.usefixtures("no_room")
def test_a_full_disk_is_one_clear_message_and_nothing_is_left(tmp_path: Path) -> None:
    folder = open_folder(tmp_path)
    folder.write_bytes("a", b"old")
    with pytest.raises(UserError, match=rf"cannot write {tmp_path}/a: .*make room"):
        folder.write_bytes("a", bytes(1 << 20))
    with pytest.raises(UserError, match="cannot write"):
        folder.create("lock", bytes(1 << 20))
    assert os.listdir(tmp_path) == ["a"]  # noqa: PTH208
    assert folder.read_bytes("a") == b"old"


def test_a_range_outside_the_object_is_no_short_answer(s3: Bucket) -> None:
    uri = s3.put("a", b"12345")
    with pytest.raises(OSError, match="got 3 of 8 bytes"):
        ObjectStore("s3", HASTY).read(uri, 2, 10)
