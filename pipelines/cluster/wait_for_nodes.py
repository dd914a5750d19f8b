"""Wait until a Ray cluster has so many nodes: a run plans for those that it finds."""

from __future__ import annotations

import argparse
import socket
import sys
import time


def main() -> None:
    """Wait, print what there is, exit with 1 when the time is up."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("address", help="HOST:PORT of the head")
    parser.add_argument("number", type=int, help="nodes, the head included")
    parser.add_argument("--limit-s", type=float, default=600.0, help="give up after, seconds")
    options = parser.parse_args()
    end_s = time.monotonic() + options.limit_s
    while not _answers(options.address):
        _pause(end_s, f"nothing answers at {options.address}")

    import ray

    ray.init(address=options.address, log_to_driver=False)
    while (there := sum(node["Alive"] for node in ray.nodes())) < options.number:
        _pause(end_s, f"{there} of {options.number} nodes are there")
    resources = ray.cluster_resources()
    print(f"{there} nodes, {resources.get('CPU', 0):g} cores, {resources.get('GPU', 0):g} GPUs")


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError:
        return False
    return True


def _pause(end_s: float, why: str) -> None:
    if time.monotonic() > end_s:
        sys.exit(f"error: {why}. Look into the logs of `ray start` on the machines.")
    time.sleep(2)


if __name__ == "__main__":
    main()
