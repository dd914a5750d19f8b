"""What `manifests/datasets/*.yaml` says of a public dataset; checked when it is read."""

from __future__ import annotations

from typing import Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from vxp_data.errors import UserError
from vxp_data.records import Task
from vxp_data.registry import ANNOTATION_LAYOUTS
from vxp_data.settings.file import Settings

NOT_STATED: Final = "not stated"


class Figure(Settings):
    """A number of rows, and who says so."""

    rows: int | None = Field(None, ge=0)
    """None: nobody states it, and `source` is 'not stated'."""
    source: str = NOT_STATED
    """Where the figure stands: a page, a file of a repository, a table of a paper."""

    @model_validator(mode="after")
    def _has_a_source(self) -> Self:
        if (self.rows is None) != (self.source == NOT_STATED):
            raise ValueError(
                f"rows is {self.rows} and source {self.source!r}; a figure has a source, and where "
                f"there is none, rows is null and source {NOT_STATED!r}"
            )
        return self


class Licence(Settings):
    """What may be done with a dataset."""

    annotations: str
    """SPDX id, or the words that its page uses."""
    media: str
    """The same for the videos or images, which often belong to others."""
    terms: str
    """What else must be accepted or obeyed; 'not stated' where nothing is said."""
    source: str
    """Where this stands."""


class PaperUse(Settings):
    """One line of the paper's appendix tables (arXiv 2503.18478, App. A)."""

    table: Literal["pretrain", "sft", "recot"]
    """'pretrain' and 'sft': the halves of Table 1; 'recot': Table 2."""
    label: str
    """As the paper writes it."""
    rows: int | None = Field(ge=0)
    """Thousands are written out; None where the line counts several datasets together."""


class Download(Settings):
    """Where files come from, and where they go."""

    url: str
    """A page or a file."""
    how: str
    """What to do with it: which file, unpacked to which folder below the dataset's root."""


class AnnotationFile(Settings):
    """One annotation file, or several of one layout."""

    path: str
    """Below the dataset's root; `*` stands for any name within a folder."""
    also: tuple[str, ...] = ()
    """Other paths that it has where the download is unpacked as it comes."""
    layout: str
    """A name in registry.ANNOTATION_LAYOUTS."""
    companion: str = ""
    """A second file that the layout needs (answers, a map of ids), below the dataset's root."""
    task: str | None = None
    """Of every row: caption, multiple_choice or open_ended; None: the words of each row tell."""
    split: str = "train"
    """The split that is used; rows of files that mix splits are skipped if they are of another."""
    required: bool = True
    """False: a file that not everybody downloads; it is read where it is there."""
    media: str = "{media}"
    """A media's path below the root; {media} is what the row names, {folder} where its annotation
    file lies."""
    suffixes: tuple[str, ...] = ()
    """Where media names come without a suffix: the ones that may follow, likeliest first."""
    prompt: str = "Please describe this video in detail."
    """The question put before captions, which come without one."""
    expected: Figure = Figure()
    """Rows of the file, of all files that `path` stands for together, before any is skipped."""
    download: Download
    """How to get it."""

    @field_validator("layout")
    @classmethod
    def _known_layout(cls, name: str) -> str:
        try:
            ANNOTATION_LAYOUTS.require(name)
        except UserError as error:
            raise ValueError(str(error)) from error
        return name

    @field_validator("task")
    @classmethod
    def _known_task(cls, task: str | None) -> str | None:
        if task is not None and task not in set(Task):
            raise ValueError(f"unknown task {task!r}. Known: {', '.join(Task)}, or null")
        return task

    @field_validator("path", "companion", "media")
    @classmethod
    def _below_the_root(cls, path: str) -> str:
        if path.startswith("/") or ".." in path.split("/"):
            raise ValueError(f"{path!r} leads out of the dataset's root")
        return path

    @field_validator("also")
    @classmethod
    def _all_below_the_root(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(cls._below_the_root, paths))


class MediaEntry(Settings):
    """The videos or images of a dataset."""

    modality: Literal["video", "image"]
    """What most rows have; the rows themselves may differ."""
    naming: str
    """How the files are called, in words."""
    download: Download
    """How to get them."""


class EvaluationLeak(Settings):
    """A benchmark that shares media or questions with a dataset."""

    benchmark: str
    """Its name."""
    how: str
    """What is shared, and whether the split that we use is free of it."""


class DatasetRecord(Settings):
    """All that we know of one public dataset."""

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    """Lower case with hyphens; the file's name without its suffix."""
    title: str
    """As its authors write it."""
    home_page: str
    """Its own page."""
    paper: str = ""
    """Where it is described."""
    licence: Licence
    """What may be done with it."""
    used: tuple[PaperUse, ...] = ()
    """Where the paper uses it; none: a dataset of somebody's own."""
    rows: Figure
    """Rows of the whole set as its authors count them."""
    split: str
    """What of it is for training, in words."""
    leaks: tuple[EvaluationLeak, ...] = ()
    """Benchmarks to keep away from."""
    notes: tuple[str, ...] = ()
    """What a user should know: what the paper leaves open, what we chose."""
    media: MediaEntry
    """The videos or images."""
    files: dict[str, AnnotationFile] = Field(min_length=1)
    """Annotation files, by a short name."""


class PretrainedWeights(Settings):
    """Weights that others have trained, as `manifests/weights.yaml` names them."""

    repo: str | None
    """The repository on the model hub; None: they come as `package`."""
    package: str = ""
    """The Python package that they come in."""
    version: str = ""
    """Of the package."""
    file: str = ""
    """The weights file in it."""
    sha256: str = Field("", pattern=r"^([0-9a-f]{64})?$")
    """Of the weights file; '': not known to us."""
    also: str = ""
    """Other names of the same weights."""
    revision: str | None = Field(pattern=r"^[0-9a-f]{40}$")
    """Its commit; None: not known to us, see `pin`."""
    pin: str
    """How the revision is known, or how to pin it."""
    licence: str
    """SPDX id, or the words that its page uses; 'not stated' where none was found."""
    licence_source: str
    """Where that stands, and what else follows."""
    licence_text: str = ""
    """The text, where it is short and lies beside the weights."""
    used_by: tuple[str, ...] = Field(min_length=1)
    """What of ours reads it."""


class WeightsFile(Settings):
    """All of `manifests/weights.yaml`."""

    weights: dict[str, PretrainedWeights]
    """By a short name."""
