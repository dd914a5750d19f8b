"""Filters: what each rule measures, whom it takes, and that nothing is opened for it."""

import dataclasses
import functools
import sys
import types
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest

from support.commands import vxp_data_here
from support.distributions import install, offer
from support.duplicate_clips import clip, film
from support.filter_contract import check_filter
from support.runs import by_sample, caption_row
from support.stored_runs import StoredClip, decide, stored_run
from vxp_data.core import text_rules
from vxp_data.core.filters import (
    Bounds,
    FilterRule,
    RowFacts,
    check_bounds,
    filter_rows,
    load_rule,
)
from vxp_data.errors import UserError
from vxp_data.pipeline.verify.run import verify_run
from vxp_data.records import FILTER_REASONS, Reason, is_filter_reason
from vxp_data.registry import FILTERS

NOTHING = RowFacts(
    sample_id=["a"],
    task=["caption"],
    modality=["text"],
    index_N=np.array([-1]),
    duration_s_N=np.array([np.nan]),
    width_px_N=np.array([np.nan]),
    height_px_N=np.array([np.nan]),
    audio_streams_N=np.array([np.nan]),
    exact_share_N=np.array([np.nan]),
    change_N=np.array([np.nan]),
    scene_changes_N=np.array([np.nan]),
    blank_share_N=np.array([np.nan]),
    similarity_N=np.array([np.nan]),
    exchanges=[()],
)


@pytest.mark.parametrize("name", FILTERS.names())
def test_every_rule_is_whole(name):
    rule = load_rule(name)
    assert rule.name == name
    assert rule.unit
    assert rule.version >= 1
    assert rule.low < rule.high
    reasons = {rule.below, rule.above} - {None}
    assert reasons
    assert all(is_filter_reason(reason) for reason in reasons)


@pytest.mark.parametrize("name", FILTERS.names())
def test_every_rule_stands_zero_and_unknown_facts(name):
    check_filter(load_rule(name))


def rule_of(of_rows, *, low=0.0, high=np.inf, above="filter:wide", below=None):
    return FilterRule(
        name="shape", version=1, unit="width / height", low=low, high=high, below=below,
        above=above, needs="media", of_rows=of_rows,
    )  # fmt: skip


def shape_of_known_sides(facts):
    known_N = (facts.width_px_N > 0) & (facts.height_px_N > 0)
    shape_N = np.full(len(known_N), np.nan)
    return np.divide(facts.width_px_N, facts.height_px_N, out=shape_N, where=known_N)


def test_the_contract_lets_a_filter_pass_that_looks_before_it_divides():
    check_filter(rule_of(shape_of_known_sides))


@pytest.mark.parametrize(
    ("of_rows", "low", "high"),
    [
        (lambda facts: facts.height_px_N / facts.width_px_N, 0.0, np.inf),
        (lambda facts: np.nan_to_num(facts.width_px_N), 0.0, np.inf),
        (lambda facts: facts.width_px_N, 1.0, np.inf),
        (lambda facts: facts.duration_s_N, 0.0, 10.0),
        (lambda facts: facts.duration_s_N.astype(np.float32), 0.0, np.inf),
        (lambda facts: facts.duration_s_N[:-1], 0.0, np.inf),
        (lambda facts: np.full(len(facts.sample_id), np.nan), 0.0, np.inf),
    ],
)
def test_the_contract_refuses_a_filter_that(of_rows, low, high):
    with pytest.raises((AssertionError, FloatingPointError)):
        check_filter(rule_of(of_rows, low=low, high=high))


@pytest.fixture
def offer_rule(tmp_path, monkeypatch):
    """Let a rule be the one that a package offers under the name 'shape'."""
    offer(monkeypatch, install(tmp_path, "shapes", "[vxp_data.filters]\nshape = shapes:RULE\n"))
    module = types.ModuleType("shapes")
    monkeypatch.setitem(sys.modules, "shapes", module)
    return functools.partial(setattr, module, "RULE")


def sized(*sides_px):
    width_N, height_N = np.array(sides_px, np.float64).T
    rows = [(str(i), "caption", "video", i, ()) for i in range(len(sides_px))]
    return rows_of(*rows, width_px_N=width_N, height_px_N=height_N)


def test_a_filters_own_reason_is_that_of_the_rows_it_takes(offer_rule):
    offer_rule(rule_of(shape_of_known_sides, below=Reason.LOW_RESOLUTION))
    reason_N, _ = filter_rows(sized((9, 3), (1, 3), (4, 3)), {"shape": Bounds(low=1, high=2)})
    assert reason_N.tolist() == ["filter:wide", "low_resolution", ""]


@pytest.mark.parametrize("reason", ["wide", "filter:", "filter:Wide", "redundant", "timeout"])
def test_a_filter_with_a_reason_that_it_may_not_give_is_refused(offer_rule, reason):
    offer_rule(rule_of(shape_of_known_sides, above=reason))
    with pytest.raises(UserError, match=rf"'shape': its reason is '{reason}', wanted 'filter:'"):
        check_bounds("shape", Bounds(high=2))


@pytest.mark.parametrize(
    ("of_rows", "message"),
    [
        (lambda facts: facts.width_px_N * np.inf, r"inf for '0' \(2 of 2 rows\)"),
        (lambda facts: facts.width_px_N[:1], r"shape \(1,\) for 2 rows"),
    ],
)
def test_a_filter_that_gives_no_numbers_takes_no_rows_but_is_named(offer_rule, of_rows, message):
    offer_rule(rule_of(of_rows))
    with pytest.raises(UserError, match=f"filter 'shape': gave .*{message}"):
        filter_rows(sized((9, 3), (4, 3)), {"shape": Bounds(high=2)})


@pytest.mark.parametrize("name", FILTERS.names())
def test_a_row_that_a_rule_is_not_about_stays(name):
    rule = load_rule(name)
    bounds = Bounds(
        low=None if rule.below is None else rule.low,
        high=None if rule.above is None else rule.low,
    )
    reason_N, values = filter_rows(NOTHING, {name: bounds})
    assert reason_N.tolist() == [""]
    assert np.isnan(values[name]).all()


def test_every_reason_has_a_rule():
    rules = [load_rule(name) for name in FILTERS.names()]
    given = {reason for r in rules for reason in (r.below, r.above) if reason}
    assert given >= FILTER_REASONS


def test_both_ends_of_the_range_stay_and_the_first_rule_gives_the_reason():
    facts = rows_of(
        *((name, "caption", "video", index, ()) for index, name in enumerate("abcd")),
        duration_s_N=[1.9, 2.0, 180.0, 180.1],
        width_px_N=[64, 640, 640, 640],
        height_px_N=[64, 360, 360, 360],
    )
    limits = {"duration_s": Bounds(low=2, high=180), "short_side_px": Bounds(low=100)}
    reason_N, values = filter_rows(facts, limits)
    assert reason_N.tolist() == ["too_short", "", "", "too_long"]
    assert values["short_side_px"].tolist() == [64, 360, 360, 360]
    turned = dict(reversed(limits.items()))
    assert filter_rows(facts, turned)[0].tolist() == ["low_resolution", "", "", "too_long"]


@pytest.mark.parametrize(
    ("name", "bounds", "message"),
    [
        ("duration_s", Bounds(), "neither min nor max"),
        ("duration_s", Bounds(low=-1), "wanted a value in"),
        ("blank_frames", Bounds(high=1.1), r"got 1.1, wanted a value in \[0, 1\]"),
        ("duration_s", Bounds(low=9, high=3), "is above max"),
        ("motion", Bounds(high=1), "has no max"),
        ("duration", Bounds(low=1), "Did you mean 'duration_s'"),
    ],
)
def test_bounds_that_make_no_sense_are_refused(name, bounds, message):
    with pytest.raises(UserError, match=message):
        check_bounds(name, bounds)


def test_a_range_may_be_a_single_value_and_reach_the_rules_own_ends():
    check_bounds("scene_changes", Bounds(high=0))
    check_bounds("duration_s", Bounds(low=3, high=3))
    check_bounds("caption_repetition", Bounds(high=1))


def rows_of(*rows, **columns):
    """Facts of rows (sample_id, task, modality, index, exchanges)."""
    ids, task, modality, index, exchanges = zip(*rows, strict=True)
    unknown = {
        field.name: np.full(len(rows), np.nan)
        for field in dataclasses.fields(RowFacts)
        if field.name.endswith("_N") and field.name != "index_N"
    }
    return RowFacts(
        sample_id=ids, task=task, modality=modality, index_N=np.array(index), exchanges=exchanges,
        **unknown | {name: np.array(values, np.float64) for name, values in columns.items()},
    )  # fmt: skip


def measured(name, facts):
    rule = load_rule(name)
    none = Bounds(high=rule.high) if rule.below is None else Bounds(low=rule.low)
    return [None if np.isnan(v) else v for v in filter_rows(facts, {name: none})[1][name]]


def test_row_facts_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match=r"differ in length.*'task': 2"):
        dataclasses.replace(NOTHING, task=["caption", "caption"])


def test_a_side_that_nobody_knows_is_no_low_resolution():
    said = [("", "x")]
    facts = rows_of(
        ("a", "caption", "video", 0, said),
        ("b", "caption", "image", 1, said),
        ("c", "caption", "text", -1, said),
        width_px_N=[0, 90, 90],
        height_px_N=[90, 160, 90],
    )
    assert measured("short_side_px", facts) == [None, 90, None]


def test_rules_of_videos_say_nothing_of_images():
    names = ("duration_s_N", "change_N", "scene_changes_N", "audio_streams_N")
    facts = rows_of(
        ("a", "caption", "video", 0, ()),
        ("b", "caption", "image", 1, ()),
        **{name: np.array([3.0, 3.0]) for name in names},
    )
    for name in ("duration_s", "motion", "scene_changes", "audio_streams"):
        assert measured(name, facts) == [3, None]


def test_a_pair_is_a_caption_with_words_of_one_image():
    words, mute = [("Describe.", "A cat.")], [("Describe.", " \n")]
    facts = rows_of(
        ("pair", "caption", "image", 0, words),
        ("question", "open_ended", "image", 0, words),
        ("video", "caption", "video", 0, words),
        ("mute", "caption", "image", 0, mute),
        ("gone", "caption", "image", -1, words),
        similarity_N=[0.5] * 5,
    )
    assert measured("image_text_similarity", facts) == [0.5, None, None, None, None]


def test_repeats_count_what_has_a_lesser_id_about_the_same_clip():
    asked, told = [("Who is it?", "A man.")], [("Describe.", "A man!")]
    facts = rows_of(
        ("d", "open_ended", "video", 0, asked),
        ("b", "open_ended", "video", 0, asked),
        ("c", "open_ended", "video", 1, asked),
        ("a", "open_ended", "text", -1, asked),
        ("e", "caption", "video", 2, told),
        ("f", "caption", "video", 2, [("What do you see?", "a man")]),
        ("g", "caption", "video", 2, [("Describe.", "A woman.")]),
        ("h", "caption", "video", 2, ()),
        ("i", "open_ended", "text", -1, asked),
    )
    assert measured("repeats", facts) == [1, 0, 0, None, 0, 1, 0, None, None]


def test_rows_with_several_media_repeat_those_about_the_same_ones():
    asked = [("What differs?", "The hat.")]
    facts = rows_of(
        *(
            (name, "open_ended", "video", index, asked)
            for name, own in {
                "a": (0, 1),
                "b": (0, 2),
                "c": (3, 3),
                "d": (0, 1),
                "e": (1, 0),
            }.items()
            for index in own
        ),
        ("f", "open_ended", "video", 0, asked),
    )
    assert measured("repeats", facts) == [0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0]
    reason_N, _ = filter_rows(facts, {"repeats": Bounds(high=0)})
    assert np.flatnonzero(reason_N).tolist() == [6, 7]


def test_a_row_goes_whole_before_what_stays_is_compared():
    asked = [("What differs?", "The hat.")]
    facts = rows_of(
        ("a", "open_ended", "video", 0, asked),
        ("a", "open_ended", "video", 1, asked),
        ("b", "open_ended", "video", 1, asked),
        duration_s_N=np.array([9.0, 2.0, 2.0]),
    )
    bounds = {"repeats": Bounds(high=0), "duration_s": Bounds(high=5)}
    reason_N, values = filter_rows(facts, bounds)
    assert reason_N.tolist() == ["too_long", "", ""]
    assert values["repeats"].tolist() == pytest.approx([np.nan, np.nan, 0], nan_ok=True)


def test_a_question_whose_first_row_goes_for_another_reason_is_not_lost():
    facts = rows_of(
        ("a", "open_ended", "video", 0, [("Who is it?", "")]),
        ("b", "open_ended", "video", 0, [("Who is it?", "A man.")]),
        ("c", "open_ended", "video", 0, [("Who is it?", "A tall man.")]),
    )
    bounds = {"repeats": Bounds(high=0), "answer_words": Bounds(low=1)}
    reason_N, values = filter_rows(facts, bounds)
    assert reason_N.tolist() == ["answer_too_short", "", "repeated_question"]
    assert np.isnan(values["repeats"][0])
    assert values["repeats"][1:].tolist() == [0, 1]


ASKED = {
    "who": "Who is it?", "what": "What is it?", "why": "Why is it there?", "count": "How many?",
    "order": "What is next?", "other": "Name it.",
}  # fmt: skip


def asking(*, task="open_ended", **numbers):
    """So many rows of each type."""
    kinds = [kind for kind, number in numbers.items() for _ in range(number)]
    return [
        (f"{task}-{kind}-{i}", task, "video", 0, [(ASKED[kind], "x")])
        for i, kind in enumerate(kinds)
    ]


def kept_of_types(rows, most):
    reason_N, _ = filter_rows(rows_of(*rows), {"question_type_share": Bounds(high=most)})
    assert set(reason_N) <= {"", "question_type_excess"}
    return {row[0] for row, reason in zip(rows, reason_N, strict=True) if not reason}


def number_of(kept):
    return Counter(name.rsplit("-", 1)[0].removeprefix("open_ended-") for name in kept)


def test_no_type_has_more_than_the_share_and_no_row_more_could_stay():
    rows = asking(who=40, what=25, why=6, count=3, order=1)
    sizes = Counter(row[0].split("-")[1] for row in rows)
    for percent in range(20, 101):
        most = percent / 100
        kept = number_of(kept_of_types(rows, most))
        assert all(number / kept.total() <= most for number in kept.values()) or most == 0.2
        # By brute force: the greatest number that no type exceeds, and the share still holds.
        fits = [
            cap
            for cap in range(1, 41)
            if cap / sum(min(cap, size) for size in sizes.values()) <= most or cap == 1
        ]
        assert kept == {kind: min(max(fits), size) for kind, size in sizes.items()}


def test_a_larger_share_never_drops_a_row_that_a_smaller_one_keeps():
    rows = asking(who=31, what=17, why=9, order=2) + asking(task="mine", who=5, why=4)
    before = set()
    for most in np.linspace(0, 1, 101):
        kept = kept_of_types(rows, most)
        assert kept >= before
        before = kept
    assert len(before) == len(rows)


def test_a_share_that_cannot_be_met_leaves_all_types_alike():
    assert number_of(kept_of_types(asking(who=9, what=4), 0.1)) == {"who": 4, "what": 4}
    assert number_of(kept_of_types(asking(who=9), 0.1)) == {"who": 9}


def test_types_are_balanced_in_each_task_and_rows_without_one_stay():
    rows = asking(who=8, why=2, other=50) + asking(task="mine", why=8, who=2)
    rows += [(f"c{i}", "caption", "video", 0, [("What is it?", "x")]) for i in range(30)]
    rows += [("mute", "open_ended", "video", 0, ())]
    assert number_of(kept_of_types(rows, 0)) == {
        "who": 2, "why": 2, "other": 50, "mine-why": 2, "mine-who": 2, "mute": 1,
        **{f"c{i}": 1 for i in range(30)},
    }  # fmt: skip


def test_the_order_of_rows_changes_nothing_and_ids_decide():
    rows = asking(who=30, why=5)
    kept = kept_of_types(rows, 0)
    assert kept_of_types(rows[::-1], 0) == kept
    other = [(f"x{name}", *more) for name, *more in rows]
    drawn = [{name.rsplit("-", 1)[1] for name in k} for k in (kept, kept_of_types(other, 0))]
    assert drawn[0] != drawn[1]


def test_types_are_balanced_among_what_other_filters_leave():
    rows = asking(who=8, why=4)
    long = [(*row[:4], [(row[4][0][0], "x y z")]) for row in rows]
    half = long[:6] + rows[6:]  # of "who" six have long answers
    bounds = {"question_type_share": Bounds(high=0), "answer_words": Bounds(high=2)}
    reason_N, values = filter_rows(rows_of(*half), bounds)
    assert list(values) == list(bounds)
    assert Counter(reason_N) == {"answer_too_long": 6, "": 4, "question_type_excess": 2}
    assert np.isnan(values["question_type_share"][:6]).all()


def test_a_row_with_several_media_counts_once():
    twice = [row for row in asking(who=4) for _ in range(2)]
    rows = [*twice, *asking(why=3)]
    reason_N, _ = filter_rows(rows_of(*rows), {"question_type_share": Bounds(high=0)})
    assert (reason_N[:8:2] == reason_N[1:8:2]).all()
    assert Counter(reason_N) == {"": 2 * 3 + 3, "question_type_excess": 2}


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("caption_words", {"caption": 10}),
        ("caption_repetition", {"caption": 0.25}),
        ("placeholders", {"caption": 1, "open_ended": 1, "multiple_choice": 1}),
        ("latin_letters", {"caption": 25 / 26, "open_ended": 25 / 26, "multiple_choice": 25 / 26}),
        ("empty_answers", {"caption": 0, "open_ended": 0, "multiple_choice": 0}),
        ("options", {"multiple_choice": 2}),
        ("wrong_letters", {"multiple_choice": 0}),
        ("leaked_answers", {"caption": 1, "open_ended": 1, "multiple_choice": 1}),
        ("answer_words", {"caption": 10, "open_ended": 10, "multiple_choice": 10}),
        ("needs_time", {"open_ended": 0, "multiple_choice": 0}),
        ("question_type_share", {"open_ended": 0, "multiple_choice": 0}),
    ],
)
def test_rules_of_words_measure_their_own_tasks(name, wanted):
    question = "Which?\n(A) one\n(B) two\nAnswer: B"
    said = [(question, "走 www.x.org the cat the cat the cat")]
    tasks = ("caption", "open_ended", "multiple_choice")
    facts = rows_of(*((task, task, "text", -1, said) for task in tasks))
    assert measured(name, facts) == pytest.approx([wanted.get(task) for task in tasks])


def test_a_filter_for_some_tasks_takes_no_other_rows():
    said = [("", "See www.x.org")]
    facts = rows_of(*((task, task, "text", -1, said) for task in ("caption", "mine", "open_ended")))
    reason_N, values = filter_rows(facts, {"placeholders": Bounds(high=0, tasks=("mine",))})
    assert reason_N.tolist() == ["", "placeholder_text", ""]
    assert np.isnan(values["placeholders"]).tolist() == [True, False, True]


QUESTION = "What is it?\nA. A cat\nB. A dog\nC. A bird"


@pytest.mark.parametrize(
    ("rule", "said", "wanted"),
    [
        ("answer_words", [("", "A man's red-brown dog, 2 m away.")], 7),
        ("repetition", [("", "a b c a b c a b c")], 4 / 7),
        ("repetition", [("", "one two")], 0),
        ("placeholders", [("", "See https://x.org/a.jpg or <b>IMG_1.png</b>, N/A")], 6),
        ("placeholders", [("", "A man looks at 3 < 4 cars.")], 0),
        ("latin_letters", [("", "Ein Mädchen läuft, 走る")], 15 / 17),
        ("latin_letters", [("", "12 !")], 1),
        ("empty_answers", [("Who?", " \n"), ("Who?", "He")], 1),
        ("fewest_options", [(QUESTION, "A")], 3),
        ("fewest_options", [(QUESTION, "A"), ("Which one?", "B")], 0),
        ("fewest_options", [("Which? (A) one (B) two", "A")], 2),
        ("wrong_letters", [(QUESTION, "B")], 0),
        ("wrong_letters", [(QUESTION, "B. A dog")], 0),
        ("wrong_letters", [(QUESTION, "The answer is (D).")], 1),
        ("wrong_letters", [(QUESTION, "B. A cat")], 1),
        ("wrong_letters", [(QUESTION, "B. It barks, so a dog")], 0),
        ("wrong_letters", [(QUESTION, "A dog")], 0),
        ("leaked_answers", [(QUESTION + "\nAnswer: B", "B")], 1),
        ("leaked_answers", [(QUESTION + "\nAnswer with the letter of the option.", "B")], 0),
    ],
)
def test_what_is_told_of_words(rule, said, wanted):
    assert getattr(text_rules, rule)(said) == pytest.approx(wanted)


def moving(change=(3.0,) * 19, contrast=(50.0,) * 20, **facts):
    statistics = {
        "content_change": list(change),
        "contrast": list(contrast),
        "num_audio_streams": 1,
    }
    emb_FD = clip(film(3, 8, speed=0.1))[0]
    return StoredClip(emb_FD=emb_FD, duration_s=8.0, facts=statistics | facts)


CLIPS = {
    "still.mp4": moving((0.1,) * 19),
    "cuts.mp4": moving((2.0, 40.0, 40.1, 90.0) * 4 + (0.0,) * 3),
    "blank.mp4": moving((9.0,) * 19, (0.0,) * 8 + (2.0,) * 3 + (2.1,) * 9),
    "silent.mp4": moving(num_audio_streams=0),
    "moving.mp4": moving(),
    "short.mp4": dataclasses.replace(moving(), duration_s=0.5),
    "small.mp4": dataclasses.replace(moving(), width_px=64, height_px=36),
}


def test_videos_are_filtered_from_what_the_run_has_stored(tmp_path):
    run = stored_run(tmp_path, CLIPS)
    decided = decide(
        run,
        filters__duration_s={"min": 1},
        filters__short_side_px={"min": 100},
        filters__blank_frames={"max": 0.5},
        filters__motion={"min": 0.5},
        filters__scene_changes={"max": 3},
        filters__audio_streams={"min": 1},
    )
    assert by_sample(tmp_path / "run", "reason") == {
        "row-still.mp4": "static",
        "row-cuts.mp4": "too_many_scenes",
        "row-blank.mp4": "blank",
        "row-silent.mp4": "no_audio",
        "row-moving.mp4": "within_threshold",
        "row-short.mp4": "too_short",
        "row-small.mp4": "low_resolution",
    }
    assert set(by_sample(tmp_path / "run", "decision").values()) == {"keep", "prune"}
    assert (decided.num_kept, decided.num_pruned) == (1, 6)
    values = pq.read_table(str(run.filter_values)).to_pylist()
    assert [row["scene_changes"] for row in values] == [0, 8, 0, 0, 0, 0, 0]
    assert values[2]["blank_frames"] == 11 / 20
    assert values[1]["motion"] == pytest.approx(4 * 172.1 / 19)
    assert verify_run(run, media=False).problems == []
    decide(run, filters={})
    assert not run.filter_values.is_file()
    assert set(by_sample(tmp_path / "run", "reason").values()) == {"within_threshold"}


def test_frames_that_did_not_come_are_counted_and_can_be_asked_for(tmp_path):
    clips = {
        "whole.mp4": moving(frames_expected=20, frames_exact=20),
        "lost_one.mp4": moving(frames_expected=20, frames_exact=19),
        "lost_five.mp4": moving(frames_expected=20, frames_exact=15),
        "unknown.mp4": moving(),
    }
    run = stored_run(tmp_path, clips)
    assert [(s.kept, s.inexact) for s in decide(run).subsets] == [(4, 2)]
    decided = decide(run, filters__exact_share={"min": 0.9})
    assert by_sample(tmp_path / "run", "reason") == {
        "row-whole.mp4": "within_threshold",
        "row-lost_one.mp4": "within_threshold",
        "row-lost_five.mp4": "inexact_frames",
        "row-unknown.mp4": "within_threshold",
    }
    values = pq.read_table(str(run.filter_values)).to_pylist()
    assert [row["exact_share"] for row in values] == [1, 0.95, 0.75, None]
    assert [(s.kept, s.inexact) for s in decided.subsets] == [(3, 1)]
    said = vxp_data_here("decide", tmp_path / "run", "--keep", "1.0").stdout
    assert "     1  kept rows are about videos of which some frames could not be decoded" in said


def test_a_share_of_no_frames_is_no_share(tmp_path):
    run = stored_run(tmp_path, {"none.mp4": moving(frames_expected=0, frames_exact=0)})
    decide(run, filters__exact_share={"min": 1})
    assert by_sample(tmp_path / "run", "reason") == {"row-none.mp4": "within_threshold"}


def test_a_clip_of_one_frame_is_a_still_and_one_without_frames_is_nothing(tmp_path):
    one = dataclasses.replace(moving((), (50.0,)), emb_FD=film(1, 1)[:1])
    unknown = dataclasses.replace(moving(), facts={})
    run = stored_run(tmp_path, {"one.mp4": one, "unknown.mp4": unknown})
    rules = {"motion": {"min": 0.5}, "blank_frames": {"max": 0}, "audio_streams": {"min": 1}}
    decide(run, filters=rules)
    assert by_sample(tmp_path / "run", "reason") == {
        "row-one.mp4": "static",
        "row-unknown.mp4": "within_threshold",
    }
    values = pq.read_table(str(run.filter_values)).to_pylist()
    assert values[0]["motion"] == 0
    assert [values[1][name] for name in rules] == [None, None, None]


def qa(row_id, question, answer, video="moving.mp4"):
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"id": row_id, "video": video, "conversations": turns}


def test_questions_are_filtered_by_their_words(tmp_path):
    rows = [
        qa("good", QUESTION, "B"),
        qa("not-an-option", QUESTION.replace("it?", "that?"), "D"),
        qa("no-options", "Answer with the option's letter from the given choices. Which?", "A"),
        qa("empty", "What does the man hold after he sits down?", ""),
        qa("same-1", "What does he do after he sits?", "Sings"),
        qa("same-2", "what does he do after he sits", "Talks"),
        qa("elsewhere", "What does he do after he sits?", "Talks", video="cuts.mp4"),
        caption_row("caption", "moving.mp4"),
    ]
    run = stored_run(tmp_path, CLIPS | {}, rows)
    decide(
        run,
        filters__empty_answers={"max": 0},
        filters__options={"min": 2},
        filters__wrong_letters={"max": 0},
        filters__repeats={"max": 0},
        filters__caption_words={"min": 5, "tasks": ["caption"]},
    )
    reasons = by_sample(tmp_path / "run", "reason")
    assert {name: why for name, why in reasons.items() if why != "within_threshold"} == {
        "not-an-option": "answer_not_an_option",
        "no-options": "no_options",
        "empty": "empty_answer",
        "same-2": "repeated_question",
        "caption": "caption_too_short",
    }
    assert verify_run(run, media=False).problems == []


def test_rows_end_for_what_their_question_asks(tmp_path):
    rows = [
        qa("still", "Which colour has the hat?", "Red"),
        qa("moves", "What does he do next?", "He sits"),
        qa("long", "What does she do after that?", "She sings a song for all of them"),
        caption_row("caption", "moving.mp4"),
    ]
    run = stored_run(tmp_path, CLIPS | {}, rows)
    words = {"max": 5, "tasks": ["open_ended"]}
    decide(run, filters__needs_time={"min": 1}, filters__answer_words=words)
    reasons = by_sample(tmp_path / "run", "reason")
    assert reasons == {
        "still": "needs_no_time",
        "moves": "within_threshold",
        "long": "answer_too_long",
        "caption": "within_threshold",
    }
    decide(run, filters={"answer_words": {"min": 2}, "question_type_share": {"max": 0}})
    reasons = by_sample(tmp_path / "run", "reason")
    assert reasons.pop("still") == "answer_too_short"
    assert set(reasons.values()) == {"within_threshold"}
    assert verify_run(run, media=False).problems == []


def test_a_filtered_row_is_no_representative(tmp_path):
    big = dataclasses.replace(moving(), width_px=1920, height_px=1080)
    rows = [qa("bad", QUESTION, "D", "big.mp4"), qa("good", QUESTION, "B", "small.mp4")]
    run = stored_run(tmp_path, {"big.mp4": big, "small.mp4": moving()}, rows)
    decide(run, filters__wrong_letters={"max": 0}, duplicates__mode="drop")
    assert by_sample(tmp_path / "run", "decision") == {"bad": "prune", "good": "keep"}


def test_a_filter_for_a_task_that_no_row_has_is_refused(tmp_path):
    run = stored_run(tmp_path, {"moving.mp4": moving()})
    with pytest.raises(UserError, match=r"filters\.motion\.tasks 'captoin'\. Did you mean 'capt"):
        decide(run, filters__motion={"min": 1, "tasks": ["captoin"]})
