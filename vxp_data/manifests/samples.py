"""Manifest rows to samples: which media, which task, which id, or why a row cannot be used."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vxp_data.conversation import Turn, conversation_json, question_answer_pairs
from vxp_data.core.tasks import PLACEHOLDER, classify_conversation
from vxp_data.manifests import row_values
from vxp_data.manifests.base import AnyFile, ManifestFormat, ManifestRow, RowError, is_given
from vxp_data.manifests.conversation import read_turns
from vxp_data.manifests.media_path import MediaPaths, RemoteMediaPaths
from vxp_data.manifests.row_checks import READ_COLUMNS, check_understood
from vxp_data.manifests.row_columns import top_of, with_columns
from vxp_data.manifests.row_media import NamedMedia, find_media
from vxp_data.manifests.seen_ids import SeenIds
from vxp_data.media_markers import place_media, shown_order
from vxp_data.records import Modality, Reason, Sample, SampleClip, Task
from vxp_data.registry import MANIFEST_FORMATS
from vxp_data.storage.folder import Folder

_NUM_EXAMPLES: Final = 3
_EXAMPLE_CHARS: Final = 160
_MESSAGE_CHARS: Final = 2000
_MAX_COUNTED: Final = 200
_OTHERS: Final = "(others)"
_MAX_PROBLEMS: Final = 20
"""Kinds of problems that are told apart."""
_WHOLE: Final = (0.0, math.inf)
"""The part that a whole file is, seconds."""
_PARTICULARS: Final = re.compile(r"'[^']*'|\"[^\"]*\"|\d+(?:\.\d+)?")
"""What differs between messages about the same problem."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """One manifest and where its media lie."""

    name: str
    """Unique in a run; every sample id begins with it."""
    manifest: AnyFile
    format: str
    """A name in `registry.MANIFEST_FORMATS`; `formats.detect_format` tells it."""
    media_root: Path | Folder
    """Relative media paths count from here, and no media may lie elsewhere."""
    task: str | None = None
    """The task of every row, if the whole set is of one; any name."""
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """What the user says of the rows' columns; see `settings.columns.COLUMN_KINDS`."""
    rows: int | None = None
    """How many of its rows its mixture states; None: it states none, or there is no mixture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRules:
    """How a row names its own task; a row that does not is classified by its words."""

    field: str | None = None
    """The column with the task; a dotted path goes into objects ('meta.kind')."""
    mapping: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """What that column says -> task. A value that is a `Task` already needs no entry."""


@dataclass(slots=True, kw_only=True)
class ManifestCounts:
    """What was found while reading; grows as the rows are read.

    `rows` is the sum of `modalities`, and of `reasons` for the rows that cannot be used.
    """

    rows: int = 0
    modalities: Counter[str] = dataclasses.field(default_factory=Counter)
    """Usable rows per modality."""
    reasons: Counter[str] = dataclasses.field(default_factory=Counter)
    """Rows that cannot be used, per reason."""
    tasks: Counter[str] = dataclasses.field(default_factory=Counter)
    """Usable rows per task."""
    task_origins: Counter[str] = dataclasses.field(default_factory=Counter)
    """Usable rows per `Sample.task_origin`."""
    rows_mixed: int = 0
    """Rows classified by their words whose turns are of several kinds."""
    unknown_tasks: Counter[str] = dataclasses.field(default_factory=Counter)
    """Values of the task column that are neither mapped nor a task; the rules decided."""
    examples: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    """Task -> the first three questions to which the rules gave it."""
    unknown_columns: Counter[str] = dataclasses.field(default_factory=Counter)
    """Columns that nothing here reads -> rows that have them."""
    columns: Counter[str] = dataclasses.field(default_factory=Counter)
    """All columns -> rows that have them."""
    ids_missing: int = 0
    """Rows without an id; theirs comes from their content."""
    ids_repeated: int = 0
    """Rows whose id an earlier row has; theirs ends in '#2', '#3' ..."""
    absolute_paths: int = 0
    """Rows that name their media by an absolute path: the set cannot be moved."""
    stems: int = 0
    """Media that rows name without a suffix: which files these are, the folder of media says."""
    rows_several_media: int = 0
    """Rows with several media, which stand and fall together."""
    rows_without_question: int = 0
    """Usable rows in which nobody asks anything."""
    rows_without_answer: int = 0
    """Usable rows in which nothing is answered."""
    problems: Counter[str] = dataclasses.field(default_factory=Counter)
    """Rows that cannot be used, per kind of message; see `problem_examples`."""
    problem_examples: dict[str, str] = dataclasses.field(default_factory=dict)
    """Kind of message -> the first row's."""
    columns_used: Counter[str] = dataclasses.field(default_factory=Counter)
    """Of the columns that the user named: rows in which each holds something."""

    @property
    def num_unusable(self) -> int:
        """Rows that cannot be used, for whatever reason."""
        return sum(self.reasons.values())


def total_counts(counts: Sequence[ManifestCounts]) -> ManifestCounts:
    """Return what was found in several manifests together."""
    total = ManifestCounts()
    for each in counts:
        for field in dataclasses.fields(ManifestCounts):
            mine, more = getattr(total, field.name), getattr(each, field.name)
            if isinstance(mine, int):
                setattr(total, field.name, mine + more)
            elif isinstance(mine, Counter):
                mine.update(more)
        for task, words in each.examples.items():
            mine = total.examples.setdefault(task, [])
            mine += words[: _NUM_EXAMPLES - len(mine)]
        total.problem_examples = each.problem_examples | total.problem_examples
    return total


def read_samples(
    dataset: Dataset, rules: TaskRules, counts: ManifestCounts, seen_ids: SeenIds
) -> Iterator[Sample]:
    """Read a dataset's rows as samples, one at a time: as many samples as rows, in their order.

    A row that cannot be used becomes a sample with a reason (BAD_ROW, FORBIDDEN) and a message.

    Args:
        dataset: what to read.
        rules: how rows name their task.
        counts: counted up as rows are read.
        seen_ids: what was given; one for all datasets of a run, so that ids are unique in it.

    Raises:
        UserError: the manifest cannot be read as its format.
    """
    manifest: ManifestFormat = MANIFEST_FORMATS.load(dataset.format)()
    reader = _Reader(dataset, rules, counts, seen_ids)
    for row in manifest.rows(dataset.manifest):
        yield reader.sample(row)


def _count(names: Counter[str], name: str) -> None:
    """Count a name that a row brings; the 201st different one and all after it count as others."""
    shown = name[:_EXAMPLE_CHARS].encode(errors="replace").decode()
    names[shown if shown in names or len(names) < _MAX_COUNTED else _OTHERS] += 1


@dataclass(slots=True)
class _Facts:
    """What is known of a row so far; stays at its defaults from the first problem on."""

    name: str
    task: str
    task_origin: str
    modality: Modality = Modality.TEXT
    media_uri: str = ""
    clip_start_s: float = 0.0
    clip_end_s: float = math.inf
    clips: tuple[SampleClip, ...] = ()
    is_mixed: bool = False
    question: str = ""
    has_question: bool = False
    has_answer: bool = False
    turns: str = "[]"


def _conversation(
    fields: Mapping[str, object], named: tuple[NamedMedia, ...]
) -> tuple[tuple[Turn, ...], tuple[NamedMedia, ...]]:
    """Return a row's conversation, and its media in the order in which they are shown there.

    Raises:
        RowError: see `conversation.read_turns`; or a medium is shown that the row does not name.
    """
    turns = read_turns(fields)
    if len(named) > 1:
        order = shown_order(turns, [media.modality.value for media in named])
        named = tuple(named[index] for index in order)
    try:
        return place_media(turns, [media.modality.value for media in named]), named
    except ValueError as error:
        raise RowError(str(error)) from error


def _first_media(named: Sequence[NamedMedia]) -> NamedMedia | None:
    """Return a row's first video, else its first image; None without media."""
    videos = (media for media in named if media.modality is Modality.VIDEO)
    return next(videos, named[0] if named else None)


class _Reader:
    """Makes samples of one dataset's rows."""

    def __init__(
        self,
        dataset: Dataset,
        rules: TaskRules,
        counts: ManifestCounts,
        seen_ids: SeenIds,
    ) -> None:
        self._dataset = dataset
        self._rules = rules
        self._counts = counts
        self._seen_ids = seen_ids
        root = dataset.media_root
        self._paths = RemoteMediaPaths(root) if isinstance(root, Folder) else MediaPaths(root)
        self._read = READ_COLUMNS | {rules.field, (rules.field or "").split(".")[0]}

    def sample(self, row: ManifestRow) -> Sample:
        counts = self._counts
        counts.rows += 1
        self._count_columns(row.fields)
        facts = _Facts(
            name="",
            task=self._dataset.task or Task.OPEN_ENDED.value,
            task_origin="dataset" if self._dataset.task else "rule",
        )
        reason, message = None, ""
        try:
            self._find_facts(row, facts)
        except RowError as error:
            reason, message = error.reason, f"{row.where}: {error}"[:_MESSAGE_CHARS]
            self._count_problem(reason, str(error), message)
        except RecursionError:
            problem = "a value is nested too deep"
            reason, message = Reason.BAD_ROW, f"{row.where}: {problem}"
            self._count_problem(reason, problem, message)
        else:
            self._count_usable(facts)
        return Sample(
            sample_id=self._unique_id(row, facts.name),
            dataset=self._dataset.name,
            row=row.index,
            task=facts.task,
            task_origin=facts.task_origin,
            modality=facts.modality,
            media_uri=facts.media_uri,
            clip_start_s=facts.clip_start_s,
            clip_end_s=facts.clip_end_s,
            clips=facts.clips,
            turns=facts.turns,
            annotation=row.annotation,
            reason=reason,
            message=message,
        )

    def _find_facts(self, row: ManifestRow, facts: _Facts) -> None:
        """Fill in the facts, the path last: a forbidden row still has its task.

        Raises:
            RowError: the row cannot be used; the facts found before stay.
        """
        if row.problem:
            raise RowError(row.problem)
        fields = with_columns(row.fields, self._dataset.columns)
        facts.name = row_values.row_name(fields)
        named = find_media(fields)
        first = _first_media(named)
        if first is not None:
            facts.modality, facts.media_uri = first.modality, first.name
        turns, named = _conversation(fields, named)
        facts.turns = conversation_json(turns)
        pairs = question_answer_pairs(turns)
        facts.has_question = any(PLACEHOLDER.sub("", asked).strip() for asked, _ in pairs)
        facts.has_answer = any(answer.strip() for _, answer in pairs)
        self._find_task(row.fields, pairs, facts)
        facts.clip_start_s, facts.clip_end_s = row_values.clip(fields, named)
        check_understood(row.fields, fields, named, pairs, self._dataset.columns, self._rules.field)
        if first is None:
            return
        num_videos = sum(media.modality is Modality.VIDEO for media in named)
        if num_videos > 1 and (facts.clip_start_s, facts.clip_end_s) != _WHOLE:
            raise RowError(
                f"a part from {facts.clip_start_s:g} to {facts.clip_end_s:g} s, of which of "
                f"{num_videos} videos is not said. Cut the row in one for each, or cut the videos"
            )
        clips = [self._clip(media, facts, is_first=media is first) for media in named]
        facts.media_uri = clips[named.index(first)].media_uri
        facts.clips = tuple(clips) if len(clips) > 1 else ()
        self._counts.absolute_paths += any(media.name.startswith("/") for media in named)
        self._counts.rows_several_media += len(named) > 1

    def _clip(self, media: NamedMedia, facts: _Facts, *, is_first: bool) -> SampleClip:
        """Find a medium; the part of a row's only video, or of its only medium, is its own."""
        resolve = self._paths.resolve_stem if media.is_stem else self._paths.resolve
        self._counts.stems += media.is_stem
        part = (facts.clip_start_s, facts.clip_end_s) if is_first else _WHOLE
        return SampleClip(
            modality=media.modality,
            media_uri=resolve(media.name),
            clip_start_s=part[0],
            clip_end_s=part[1],
        )

    def _count_columns(self, fields: Mapping[str, object]) -> None:
        columns = self._dataset.columns
        known = {top_of(fields, name) for name in columns.values()}
        for name in fields:
            _count(self._counts.columns, name)
            if name not in self._read and name not in known:
                _count(self._counts.unknown_columns, name)
        for role, name in columns.items():
            if name:
                held = is_given(row_values.value_at(fields, name))
                self._counts.columns_used[f"{role}={name}"] += held

    def _count_problem(self, reason: Reason, problem: str, message: str) -> None:
        counts = self._counts
        counts.reasons[reason] += 1
        kind = f"{reason}: {_PARTICULARS.sub('...', problem)}"[:_MESSAGE_CHARS]
        kind = kind.encode(errors="replace").decode()
        if kind not in counts.problems and len(counts.problems) >= _MAX_PROBLEMS:
            kind = _OTHERS
        counts.problems[kind] += 1
        counts.problem_examples.setdefault(kind, message.encode(errors="replace").decode())

    def _find_task(
        self, fields: Mapping[str, object], pairs: Sequence[tuple[str, str]], facts: _Facts
    ) -> None:
        if self._dataset.task:
            return
        value = row_values.value_at(fields, self._rules.field)
        if is_given(value):
            named = str(value)
            if named in self._rules.mapping:
                facts.task, facts.task_origin = self._rules.mapping[named], "map"
                return
            if named in {task.value for task in Task}:
                facts.task, facts.task_origin = named, "field"
                return
            _count(self._counts.unknown_tasks, named)
        guess = classify_conversation(pairs)
        facts.task, facts.is_mixed = guess.task.value, guess.mixed
        facts.question = pairs[0][0] if pairs else ""

    def _count_usable(self, facts: _Facts) -> None:
        counts = self._counts
        counts.modalities[facts.modality] += 1
        counts.tasks[facts.task] += 1
        counts.task_origins[facts.task_origin] += 1
        counts.rows_mixed += facts.is_mixed
        counts.rows_without_question += not facts.has_question
        counts.rows_without_answer += not facts.has_answer
        if facts.task_origin == "rule":
            examples = counts.examples.setdefault(facts.task, [])
            if len(examples) < _NUM_EXAMPLES and facts.question:
                examples.append(facts.question[:_EXAMPLE_CHARS].encode(errors="replace").decode())

    def _unique_id(self, row: ManifestRow, name: str) -> str:
        if not name:
            self._counts.ids_missing += 1
            name = hashlib.sha256(row.annotation).hexdigest()[:16]
        unique, is_repeated = self._seen_ids.unique(f"{self._dataset.name}/{name}")
        self._counts.ids_repeated += is_repeated
        return unique
