"""What is in the manifests, and can their rows be used? Asked before anything is decoded."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from vxp_data.errors import UserError
from vxp_data.manifests.samples import Dataset, ManifestCounts, TaskRules, read_samples
from vxp_data.manifests.seen_ids import SeenIds
from vxp_data.pipeline.embed.preflight import SAMPLED_ROWS, Check, Verdict, failed, ok
from vxp_data.records import Modality

_COLUMNS_SHOWN: Final = 12
_PROBLEMS_SHOWN: Final = 8
_MESSAGE_CHARS: Final = 600


def check_manifests(
    datasets: Sequence[Dataset], rules: TaskRules, max_bad_share: float
) -> tuple[list[Check], list[str]]:
    """Read manifests to their end.

    Returns:
        A check for each, and the media of up to SAMPLED_ROWS of their rows, evenly drawn.
    """
    checks = []
    media: list[str] = []
    drawn = random.Random(0)
    num_seen = 0
    seen_ids = SeenIds()
    for dataset in datasets:
        counts = ManifestCounts()
        try:
            for sample in read_samples(dataset, rules, counts, seen_ids):
                if sample.media_uri and sample.reason is None:
                    num_seen += 1
                    index = drawn.randrange(num_seen)
                    if len(media) < SAMPLED_ROWS:
                        media.append(sample.media_uri)
                    elif index < SAMPLED_ROWS:
                        media[index] = sample.media_uri
        except UserError as error:
            checks.append(failed(f"manifest {dataset.name}", str(error)))
            continue
        checks.append(check_counts(dataset, counts, max_bad_share))
    return checks, media


def check_counts(dataset: Dataset, counts: ManifestCounts, max_bad_share: float) -> Check:
    """Judge a manifest by what was found in its rows.

    Args:
        dataset: the manifest's.
        counts: of all of its rows.
        max_bad_share: the largest share of unusable rows that will do.
    """
    name = f"manifest {dataset.name}"
    message = "\n".join([_summary(counts), *_details(counts)])
    unused = [said for said, rows in counts.columns_used.items() if rows == 0]
    if counts.rows and unused:
        remedy = f"Correct --columns: the rows have {_columns(counts.columns) or 'none'}."
        return failed(name, f"no row has a column for {', '.join(unused)}. {message}", remedy)
    if not counts.num_unusable:
        return ok(name, message)
    if counts.num_unusable == counts.rows:
        remedy = (
            "Name the columns that hold what is wanted (--columns video=COLUMN,question=COLUMN,"
            "answer=COLUMN), or look at --media-root."
        )
        return failed(name, f"not one row can be used. {message}", remedy)
    share = counts.num_unusable / counts.rows
    if share > max_bad_share:
        remedy = (
            f"That is {share:.1%} of the rows, and manifest.max_bad_share is {max_bad_share:.1%}. "
            "Name the columns (--columns video=COLUMN,...), mend the rows, or go on without them: "
            f"--set manifest.max_bad_share={_rounded_up(share)}"
        )
        return failed(name, message, remedy)
    return Check(
        name=name,
        verdict=Verdict.WARNING,
        message=message,
        remedy="They will be quarantined, with their messages in quarantine.parquet.",
    )


def _rounded_up(share: float) -> str:
    """Write a share so that it is no smaller: 0.123 becomes 0.13."""
    return f"{min(1.0, (int(share * 100) + 1) / 100):g}"


def _summary(counts: ManifestCounts) -> str:
    kinds = (
        (counts.modalities[Modality.VIDEO], "with a video"),
        (counts.modalities[Modality.IMAGE], "with an image"),
        (counts.modalities[Modality.TEXT], "of text only"),
        (counts.rows_without_question, "without a question"),
        (counts.rows_without_answer, "without an answer"),
        (counts.num_unusable, "that cannot be used"),
    )
    return f"{counts.rows} rows: " + ", ".join(f"{number} {words}" for number, words in kinds)


def _details(counts: ManifestCounts) -> Iterator[str]:
    """Return a line on the columns that nothing reads, and one on each problem."""
    if counts.unknown_columns:
        yield f"  columns that are not read: {_columns(counts.unknown_columns)}"
    for kind, number in counts.problems.most_common(_PROBLEMS_SHOWN):
        reason = kind.partition(":")[0]
        yield f"  {number} {reason}, first {counts.problem_examples[kind][:_MESSAGE_CHARS]}"
    if (left := len(counts.problems) - _PROBLEMS_SHOWN) > 0:
        yield f"  and {left} other kinds of problem"


def _columns(columns: Mapping[str, int]) -> str:
    """List columns with the rows that have them, the most frequent first."""
    ordered = sorted(columns.items(), key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"{name} ({number})" for name, number in ordered[:_COLUMNS_SHOWN])
    return shown + (", ..." if len(ordered) > _COLUMNS_SHOWN else "")
