"""Measure what it takes to learn the versions of some objects of a prefix of millions.

    python pipelines/bench/listing.py [--objects 1000000] [--wanted 20 200 2000 20000 all]
        [--rule new old] [--latency-ms 50]

A server of our own answers from arithmetic after a wait (`many_objects.py`), in a process of its
own. The old rule: a prefix with 20 wanted files or more is listed, all of it, a page after the
other; fewer are asked for singly. Wanted objects lie evenly among the others, and are looked up
200,000 at a time, as a prune does. Figures are written after each measurement, and those of other
sizes, latencies and rules stay in the record.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from multiprocessing.connection import Connection
from typing import Any, Final

import records
from many_objects import ManyObjects, many_objects

AT_ONCE: Final = 200_000
OLD_LIST_FROM: Final = 20
ENVIRONMENT: Final = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",
}


def serve(num_objects: int, latency_s: float, connection: Connection) -> None:
    """Serve objects; tell the port, then at each word how many requests have come."""
    with many_objects(num_objects, latency_s) as (port, objects):
        connection.send(port)
        while connection.recv():
            connection.send(dict(objects.requests))
            objects.requests.clear()


def old_versions(uris: Sequence[str]) -> dict[str, str]:
    """Do what was done before: list all of the prefix from 20 files on."""
    from vxp_data.storage.object_store import ObjectStore

    store = ObjectStore("s3")
    if len(uris) >= OLD_LIST_FROM:
        listed = store.listing(uris[0].rpartition("/")[0])
        return {uri: listed[uri.rpartition("/")[2]].file_version for uri in uris}
    with ThreadPoolExecutor(32) as pool:
        return dict(zip(uris, (f.file_version for f in pool.map(store.facts, uris)), strict=True))


def look_up(rule: str, uris: Iterable[str]) -> int:
    """Look up objects by a rule; return how many have a version."""
    from vxp_data.storage.file_versions import file_versions

    if rule == "old":
        return sum(map(bool, old_versions(list(uris)).values()))
    rest, found = iter(uris), 0
    while some := list(islice(rest, AT_ONCE)):
        found += sum(map(bool, file_versions(some).values()))
    return found


def measure(rule: str, num_wanted: int, num_objects: int, connection: Connection) -> dict[str, Any]:
    """Look up so many objects; return requests, seconds and memory."""
    objects = ManyObjects(num_objects)
    step = num_objects // num_wanted
    uris = (objects.uri(i * step) for i in range(num_wanted))
    connection.send(True)
    connection.recv()
    started_s, cpu_s = time.monotonic(), time.process_time()
    if look_up(rule, uris) != num_wanted:
        raise RuntimeError("an object was not found")
    wall_s, cpu_s = time.monotonic() - started_s, time.process_time() - cpu_s
    connection.send(True)
    requests = connection.recv()
    return {
        "heads": requests.get("HEAD", 0),
        "pages": requests.get("GET", 0),
        "wall_s": round(wall_s, 2),
        "client_cpu_s": round(cpu_s, 2),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def measured_apart(rule: str, num_wanted: int, num_objects: int, latency_s: float) -> Any:
    """Measure in a process of its own, beside a server in another."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    server = spawn.Process(target=serve, args=(num_objects, latency_s, theirs), daemon=True)
    server.start()
    port = ours.recv()
    os.environ.update(ENVIRONMENT, AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}")
    with spawn.Pool(1) as client:
        figures = client.apply(measure, (rule, num_wanted, num_objects, ours))
    ours.send(False)
    server.join()
    return figures


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--wanted", nargs="+", default=["20", "200", "2000", "20000", "all"])
    parser.add_argument("--rule", nargs="+", choices=["new", "old"], default=["new", "old"])
    parser.add_argument("--latency-ms", type=float, default=50.0)
    args = parser.parse_args()
    path = records.RUNS / "listing.json"
    rows = json.loads(path.read_text())["figures"]["measurements"] if path.exists() else []
    began_s = time.monotonic()
    for num_objects in args.objects:
        for wanted in args.wanted:
            for rule in args.rule:
                num_wanted = num_objects if wanted == "all" else int(wanted)
                case = {
                    "objects": num_objects,
                    "wanted": num_wanted,
                    "rule": rule,
                    "latency_ms": args.latency_ms,
                }
                figures = measured_apart(rule, num_wanted, num_objects, args.latency_ms / 1000)
                print(case, figures, flush=True)
                rows = [row for row in rows if not case.items() <= row.items()]
                rows = sorted([*rows, case | figures], key=lambda r: [str(r[k]) for k in case])
                records.write_record(
                    "listing",
                    {"measurements": rows},
                    argv=sys.argv,
                    libraries=("vxp", "s3fs", "aiobotocore"),
                    wall_s=time.monotonic() - began_s,
                )


if __name__ == "__main__":
    main()
