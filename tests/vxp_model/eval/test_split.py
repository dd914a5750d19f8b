"""Which part of a run answers which videos."""

import pytest

from vxp_model.errors import UserError
from vxp_model.eval.split import Part


def test_parts_share_all_videos_and_none_twice():
    costs = {f"v{i}": float(i % 7 + 1) for i in range(50)}
    shares = [Part(index=i, count=4).share(costs) for i in range(4)]
    assert sorted(video for share in shares for video in share) == sorted(costs)
    loads = [sum(costs[video] for video in share) for share in shares]
    assert max(loads) - min(loads) <= 7


def test_the_costliest_goes_first_to_the_emptiest():
    costs = {"long": 10.0, "a": 4.0, "b": 4.0, "c": 3.0}
    assert Part(index=0, count=2).share(costs) == {"long"}
    assert Part(index=1, count=2).share(costs) == {"a", "b", "c"}


def test_videos_of_no_known_size_are_shared_too():
    costs = dict.fromkeys("abcdef", 0.0)
    shares = [Part(index=i, count=3).share(costs) for i in range(3)]
    assert sorted(video for share in shares for video in share) == list("abcdef")
    assert max(map(len, shares)) <= 2


def test_ranks_share_the_part_that_is_named():
    parts = [
        Part.of(f"{i}/2", {"RANK": str(rank), "WORLD_SIZE": "3"})
        for i in range(2)
        for rank in range(3)
    ]
    assert [part.index for part in parts] == list(range(6))
    assert {part.count for part in parts} == {6}
    assert Part.of(None, {}) == Part(index=0, count=1)


def test_no_parts_at_all_are_refused_in_those_words():
    with pytest.raises(UserError, match="N must be 1 or more"):
        Part.of("0/0", {})


@pytest.mark.parametrize("shard", ["1", "1/", "a/2", "-1/2", "2/2", "1/0"])
def test_a_shard_of_another_form_is_answered_with_the_form(shard):
    with pytest.raises(UserError, match="shard"):
        Part.of(shard, {})
