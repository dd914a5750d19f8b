"""Which requests tell the versions of many files: HEADs, pages of a listing, or some of both."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest
from many_objects import ManyObjects, many_objects

from support.s3 import Bucket, Proxy
from vxp_data.errors import UserError
from vxp_data.storage.file_versions import file_versions
from vxp_data.storage.lookup_plan import HEADS_A_PAGE, Stretch, just_before

KEYS_A_PAGE = 1000


def requests_for(s3: Bucket, keys: Sequence[str]) -> tuple[int, int, dict[str, str]]:
    """Look up keys of a bucket; return how many HEADs and pages that took, and what was told."""
    before = len(s3.requests)
    versions = file_versions(f"{s3.uri}/{key}" for key in keys)
    asked = s3.requests[before:]
    pages = [request for request in asked if request.method == "GET"]
    assert all("list-type=2" in request.path for request in pages)
    heads = [request for request in asked if request.method == "HEAD"]
    assert len(heads) + len(pages) == len(asked)
    return len(heads), len(pages), versions


def cheapest(place_W: Sequence[int]) -> int:
    """What objects at these places of a listing cost at least, had one known where they lie."""
    best = [0] * (len(place_W) + 1)
    for i in reversed(range(len(place_W))):
        reached = bisect_left(place_W, place_W[i] + KEYS_A_PAGE)
        best[i] = min(1 + best[i + 1], HEADS_A_PAGE + best[reached])
    return best[0]


def cost_of(place_W: Sequence[int]) -> int:
    """What the plan costs for objects at these places: HEADs, with a page for HEADS_A_PAGE."""
    cost = 0
    todo = [Stretch([f"{place:09d}" for place in place_W])]
    seen: list[str] = []
    while todo:
        stretch = todo.pop()
        if stretch.is_singly:
            cost += len(stretch.keys)
            seen += stretch.keys
            continue
        end = f"{int(stretch.keys[0]) + KEYS_A_PAGE:09d}"
        num_answered = bisect_left(stretch.keys, end)
        singly, more = stretch.after_page(num_answered)
        cost += HEADS_A_PAGE + len(singly)
        seen += [*stretch.keys[:num_answered], *singly]
        todo += more
    assert sorted(seen) == [f"{place:09d}" for place in place_W], "each key once"
    return cost


def places(kind: str, rng: random.Random) -> list[int]:
    """Where wanted objects lie among others."""
    match kind:
        case "all":
            return list(range(rng.randrange(1, 30_000)))
        case "even":
            step = rng.choice([20, 90, 110, 500, 2000, 100_000])
            return list(range(0, min(10_000_000, 3000 * step), step))
        case "random":
            return sorted(rng.sample(range(10_000_000), rng.randrange(1, 5000)))
        case "clusters":
            starts = [rng.randrange(10_000_000) for _ in range(rng.randrange(1, 60))]
            sizes = [rng.randrange(1, 200) for _ in starts]
            return sorted({s + i for s, n in zip(starts, sizes, strict=True) for i in range(n)})
        case "switching":  # alone as often as it takes to be asked for singly, then close together
            found, at = [], 0
            for _ in range(rng.randrange(1, 30)):
                for _ in range(rng.randrange(1, 40)):
                    found.append(at)
                    at += 1001
                count = rng.randrange(1, 300)
                found += range(at, at + count)
                at += count + 1001
            return found
    raise AssertionError(kind)


@pytest.mark.parametrize("kind", ["all", "even", "random", "clusters", "switching"])
def test_no_arrangement_costs_more_than_four_times_the_cheapest_way(kind: str) -> None:
    rng = random.Random(7)
    for _ in range(12):
        place_W = places(kind, rng)
        cost = cost_of(place_W)
        assert cost <= 4 * cheapest(place_W), (kind, len(place_W))
        assert cost <= 4 * min(len(place_W), HEADS_A_PAGE * (1 + place_W[-1] // KEYS_A_PAGE))


@pytest.mark.parametrize("key", ["a/0001.mp4", "a/x1", "a/é", "a/0", "a/ ", "a/\ue000", "a"])
def test_a_listing_begins_before_the_key_and_behind_nearly_all_that_is_smaller(key: str) -> None:
    text = just_before(key)
    assert text.encode() < key.encode()
    if key.endswith(("4", "1")):
        smaller = f"{key[:-1]}{chr(ord(key[-1]) - 1)}.mp4"
        assert text.encode() > smaller.encode()


def fill(s3: Bucket, folder: str, numbers: Sequence[int]) -> list[str]:
    """Store small objects of different sizes; return their keys."""
    keys = [f"{folder}/{number:05d}.mp4" for number in numbers]
    for number, key in zip(numbers, keys, strict=True):
        s3.client.put_object(Bucket=s3.name, Key=key, Body=b"x" * (number % 7))
    return keys


def test_the_versions_are_those_of_the_store(s3: Bucket) -> None:
    keys = fill(s3, "videos", range(30))
    truth = {
        f"{s3.uri}/{entry['Key']}": f"{entry['Size']}-" + entry["ETag"].strip('"')
        for entry in s3.client.list_objects_v2(Bucket=s3.name)["Contents"]
    }
    assert requests_for(s3, keys[:9]) == (9, 0, dict(list(truth.items())[:9]))
    assert requests_for(s3, keys) == (0, 1, truth)


@pytest.fixture
def objects(s3_running: Proxy) -> Iterator[ManyObjects]:
    """A bucket of a million objects."""
    usual = s3_running.server_port
    with many_objects(1_000_000) as (port, found):
        s3_running.server_port = port
        yield found
        s3_running.server_port = usual


@pytest.mark.parametrize(
    ("numbers", "heads", "pages"),
    [
        (range(10), 10, 0),
        (range(100, 111), 0, 1),
        (range(0, 1_000_000, 100_000), 10, 0),
        (range(0, 1_000_000, 50_000), 19, 1),
        (range(0, 1_000_000, 10_000), 96, 4),
        (range(5000, 9000), 0, 4),
        (range(11_500), 0, 12),
        ([*range(2000), *range(900_000, 900_500)], 0, 3),
        (range(0, 5000, 50), 0, 5),
        (range(999_500, 1_000_500), 0, 1),
    ],
    ids=["few", "eleven together", "ten apart", "twenty apart", "a hundred apart", "in the middle",
         "in several pieces",
         "a gap", "one of fifty", "half of them missing"],
)  # fmt: skip
def test_what_lies_far_apart_is_asked_for_and_what_lies_close_is_listed(
    objects: ManyObjects, numbers: Sequence[int], heads: int, pages: int
) -> None:
    versions = file_versions(map(objects.uri, numbers))
    assert objects.requests == Counter(HEAD=heads, GET=pages)
    assert versions == {
        objects.uri(i): objects.version(i) if i < objects.num_objects else "" for i in numbers
    }


def test_objects_between_two_wanted_folders_are_skipped(s3: Bucket) -> None:
    wanted = fill(s3, "a", range(15)) + fill(s3, "c/d", range(15))
    heads, pages, versions = requests_for(s3, wanted)
    assert (heads, pages) == (0, 1)
    assert all(versions.values())


def test_many_small_folders_are_listed_together(s3: Bucket) -> None:
    wanted = [key for i in range(8) for key in fill(s3, f"videos/{i:03d}", range(2))]
    heads, pages, versions = requests_for(s3, wanted)
    assert (heads, pages) == (0, 1)
    assert len(versions) == 16
    assert all(versions.values())


def test_a_prefix_that_may_not_be_listed_is_asked_for_singly_and_its_folder_is_listed(
    s3: Bucket,
) -> None:
    wanted = fill(s3, "mine/a", range(15)) + fill(s3, "mine/b", range(15))
    s3.fail("status", method="GET", path=r"prefix=mine%2F(b%2F)?&", times=9, status=403)
    heads, pages, versions = requests_for(s3, wanted)
    assert (heads, pages) == (15, 3)
    assert all(versions.values())


def test_what_is_not_there_has_no_version(s3: Bucket) -> None:
    there = fill(s3, "v", range(0, 40, 2))
    missing = [f"v/{number:05d}.mp4" for number in range(1, 40, 2)] + ["v/~", "v"]
    _, _, versions = requests_for(s3, there + missing)
    assert {uri for uri, version in versions.items() if not version} == {
        f"{s3.uri}/{key}" for key in missing
    }
    other = f"s3://no-such-{s3.name}"
    assert set(file_versions(f"{other}/{i}" for i in range(12)).values()) == {""}


@pytest.mark.slow
def test_a_store_that_fails_at_every_attempt_ends_it(s3: Bucket) -> None:
    wanted = fill(s3, "v", range(12))
    s3.fail("status", times=99, status=503)
    with pytest.raises(UserError, match=rf"cannot list {s3.uri}/v/: .*\(6 attempts\).*again"):
        file_versions(f"{s3.uri}/{key}" for key in wanted)
