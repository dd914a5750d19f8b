"""Ids are unique, and the same that a dictionary of all of them gives."""

from __future__ import annotations

import random

import pytest

from vxp_data.manifests import seen_ids as module
from vxp_data.manifests.seen_ids import SeenIds


def by_dictionary(wanted: list[str]) -> list[str]:
    """Number repetitions with all ids kept."""
    seen: dict[str, int] = {}
    given = []
    for name in wanted:
        unique = name
        if name in seen:
            times = seen[name]
            while unique in seen:
                times += 1
                unique = f"{name}#{times}"
            seen[name] = times
        seen[unique] = 1
        given.append(unique)
    return given


@pytest.mark.parametrize("seed", range(5))
def test_ids_are_those_of_a_dictionary(seed: int) -> None:
    rng = random.Random(seed)
    names = ["a", "b", "é", "a#2", "a#3", "b#2", "\ud800", "a#2#2"]
    wanted = [rng.choice(names) for _ in range(200)]
    seen = SeenIds()
    given = [seen.unique(name) for name in wanted]
    assert [unique for unique, _ in given] == by_dictionary(wanted)
    assert [again for _, again in given] == [
        u != w for (u, _), w in zip(given, wanted, strict=True)
    ]


def test_ids_stay_unique_where_digests_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    class Short:
        def __init__(self, raw: bytes, digest_size: int) -> None:
            self._raw = (sum(raw) % 251).to_bytes(digest_size)

        def digest(self) -> bytes:
            return self._raw

    monkeypatch.setattr(module.hashlib, "blake2b", Short)
    seen = SeenIds()
    given = [seen.unique(f"{number}")[0] for number in range(100)]
    assert len(set(given)) == 100
    assert any("#" in unique for unique in given)
