"""Manifest rows to samples: which media, which task, which id, or why a row cannot be used."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vxp_data.conversation import conversation_json, question_answer_pairs
from vxp_data.core.tasks import classify_conversation
from vxp_data.manifests import conversation, media_path, row_values
from vxp_data.manifests.base import AnyFile, ManifestFormat, ManifestRow, RowError
from vxp_data.manifests.conversation import is_given, read_conversation
from vxp_data.manifests.media_path import MediaPaths, RemoteMediaPaths, find_media
from vxp_data.records import Modality, Reason, Sample, Task
from vxp_data.registry import MANIFEST_FORMATS
from vxp_data.storage.folder import Folder

_READ_COLUMNS: Final = frozenset(
    (*row_values.ID_COLUMNS, *row_values.CLIP_COLUMNS, *media_path.COLUMNS, *conversation.COLUMNS)
)
_NUM_EXAMPLES: Final = 3
_EXAMPLE_CHARS: Final = 160
_MESSAGE_CHARS: Final = 2000
_MAX_COUNTED: Final = 200
_OTHERS: Final = "(others)"


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
    ids_missing: int = 0
    """Rows without an id; theirs comes from their content."""
    ids_repeated: int = 0
    """Rows whose id an earlier row has; theirs ends in '#2', '#3' ..."""
    absolute_paths: int = 0
    """Rows that name their media by an absolute path: the set cannot be moved."""
    rows_several_images: int = 0
    """Rows with several images, of which the first stands for the row."""


def read_samples(
    dataset: Dataset, rules: TaskRules, counts: ManifestCounts, seen_ids: dict[str, int]
) -> Iterator[Sample]:
    """Read a dataset's rows as samples, one at a time: as many samples as rows, in their order.

    A row that cannot be used becomes a sample with a reason (BAD_ROW, FORBIDDEN) and a message.

    Args:
        dataset: what to read.
        rules: how rows name their task.
        counts: counted up as rows are read.
        seen_ids: sample id -> how often it was given; share one dict between the datasets of a
            run, so that ids are unique in it.

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
    is_mixed: bool = False
    question: str = ""
    turns: str = "[]"


class _Reader:
    """Makes samples of one dataset's rows."""

    def __init__(
        self,
        dataset: Dataset,
        rules: TaskRules,
        counts: ManifestCounts,
        seen_ids: dict[str, int],
    ) -> None:
        self._dataset = dataset
        self._rules = rules
        self._counts = counts
        self._seen_ids = seen_ids
        root = dataset.media_root
        self._paths = RemoteMediaPaths(root) if isinstance(root, Folder) else MediaPaths(root)
        self._read = _READ_COLUMNS | {rules.field, (rules.field or "").split(".")[0]}

    def sample(self, row: ManifestRow) -> Sample:
        counts = self._counts
        counts.rows += 1
        for name in row.fields:
            if name not in self._read:
                _count(counts.unknown_columns, name)
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
            counts.reasons[reason] += 1
        except RecursionError:
            reason, message = Reason.BAD_ROW, f"{row.where}: a value is nested too deep"
            counts.reasons[reason] += 1
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
        facts.name = row_values.row_name(row.fields)
        media = find_media(row.fields)
        facts.modality, facts.media_uri = media.modality, media.name
        kinds = [] if media.modality is Modality.TEXT else [media.modality.value]
        turns = read_conversation(row.fields, kinds)
        facts.turns = conversation_json(turns)
        pairs = question_answer_pairs(turns)
        self._find_task(row.fields, pairs, facts)
        facts.clip_start_s, facts.clip_end_s = row_values.clip(row.fields)
        if media.modality is Modality.TEXT:
            row_values.check_text_row(row.fields, pairs)
            return
        facts.media_uri = self._paths.resolve(media.name)
        self._counts.absolute_paths += media.name.startswith("/")
        self._counts.rows_several_images += media.num_named > 1

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
        if facts.task_origin == "rule":
            examples = counts.examples.setdefault(facts.task, [])
            if len(examples) < _NUM_EXAMPLES and facts.question:
                examples.append(facts.question[:_EXAMPLE_CHARS].encode(errors="replace").decode())

    def _unique_id(self, row: ManifestRow, name: str) -> str:
        if not name:
            self._counts.ids_missing += 1
            name = hashlib.sha256(row.annotation).hexdigest()[:16]
        wanted = unique = f"{self._dataset.name}/{name}"
        if wanted in self._seen_ids:
            self._counts.ids_repeated += 1
            times = self._seen_ids[wanted]
            while unique in self._seen_ids:  # '#2' may itself be somebody's id
                times += 1
                unique = f"{wanted}#{times}"
            self._seen_ids[wanted] = times
        self._seen_ids[unique] = 1
        return unique
