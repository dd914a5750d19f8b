"""What becomes of rows that cannot be learned from: told, written down, refused where too many are.

Loads no torch.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from vxp_model.data.row_check import LeftOutRow, RowCheck
from vxp_model.errors import UserError
from vxp_model.train.text_table import text_table

LEFT_OUT_NAME: Final = "left_out.jsonl"
_FIRST_IDS: Final = 5
"""That a message has of each reason."""


def require_few(check: RowCheck, *, max_share: float, what: str, is_listed: bool = False) -> None:
    """Refuse to train where too many rows cannot be learned from.

    Args:
        check: what was found.
        max_share: `data.max_bad_share`.
        what: the setting that names the rows.
        is_listed: the rows have been shown: the message does not list them again.

    Raises:
        UserError: they are more; with reasons, counts, and the first ids of each.
    """
    if check.share <= max_share:
        return
    then = "A training would not start."
    if not is_listed:
        then = (
            f"\n{list_left_out(check, _FIRST_IDS)}\nNothing is started. See them all with "
            "`vxp-model check RECIPE --out FILE`."
        )
    raise UserError(
        f"{what}: {describe_left_out(check)}: {check.share:.1%}, at most {max_share:.1%} may be "
        f"(data.max_bad_share). {then} Put the rows right and shard them anew, or, if they are "
        "what they should be, raise data.max_bad_share."
    )


def describe_left_out(check: RowCheck) -> str:
    """Return how many rows are left out, and why, in a line."""
    if not check.left_out:
        return f"all {check.num_all:,} rows can be learned from"
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in check.by_reason().items())
    return (
        f"{len(check.left_out):,} of {check.num_all:,} rows cannot be learned from and are left "
        f"out ({reasons})"
    )


def list_left_out(check: RowCheck, most: int) -> str:
    """List the first rows of each reason, with what is wrong with the first of them."""
    by_reason = defaultdict[str, list[LeftOutRow]](list)
    for row in check.left_out:
        by_reason[row.reason.value].append(row)
    return "\n".join(
        f"  {reason}: {', '.join(row.sample_id for row in rows[:most])}"
        f"{', ...' * (len(rows) > most)} (the first: {rows[0].message})"
        for reason in check.by_reason()
        if (rows := by_reason[reason])
    )


def check_table(check: RowCheck) -> str:
    """Return the rows of each source and dataset, and how many are left out for each reason."""
    reasons = list(check.by_reason())
    found = Counter((row.source, row.dataset, row.reason.value) for row in check.left_out)
    body = []
    for (source, dataset), count in check.num_rows.items():
        own = [found[source, dataset, reason] for reason in reasons]
        uri = check.parts[source].source.uri
        body.append([uri, dataset or "-", f"{count:,}", *(f"{n:,}" for n in (sum(own), *own))])
    return text_table(["source", "dataset", "rows", "left out", *reasons], body, num_words=2)


def require_one_answer(checks: Sequence[str]) -> None:
    """Refuse to train where processes have found other rows.

    Args:
        checks: `digest_of` in each process.

    Raises:
        UserError: they differ.
    """
    for rank, digest in enumerate(checks):
        if digest != checks[0]:
            raise UserError(
                f"processes 0 and {rank} find other rows that cannot be learned from: they do not "
                "see the same shards, or the same model. Copy the shards to every machine anew."
            )


def digest_of(check: RowCheck) -> str:
    """Name the rows that are left out and the shards that they are of."""
    parts = [f"{rows.table.digest} {rows.left_out_digest()}" for rows in check.parts]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def write_left_out(
    path: Path, checks: Mapping[str, RowCheck], replaced: Iterable[Mapping[str, Any]]
) -> None:
    """Write every row that is left out, and every one that was replaced, a line of JSON each.

    Args:
        path: of the file; written whole or not at all.
        checks: by the setting that names the rows.
        replaced: entries of a loader's state: rows of `data.sources` whose media were broken.
    """
    lines = [
        {
            "of": what,
            "source": row.uri,
            "row": row.row,
            "sample_id": row.sample_id,
            "dataset": row.dataset,
            "reason": row.reason.value,
            "message": row.message,
        }
        for what, check in checks.items()
        for row in check.left_out
    ]
    for entry in by_sample(replaced).values():
        names = ("sample_id", "reason", "message", "by_sample_id")
        lines.append(
            {
                "of": "data.sources",
                "source": entry["uri"],
                **{name: entry[name] for name in names},
            }
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def by_sample(replaced: Iterable[Mapping[str, Any]]) -> dict[tuple[int, str], Mapping[str, Any]]:
    """Return the first replacement of each sample, by source and id."""
    first: dict[tuple[int, str], Mapping[str, Any]] = {}
    for entry in replaced:
        first.setdefault((entry["source"], entry["sample_id"]), entry)
    return first


def rows_record(
    checks: Mapping[str, RowCheck], replaced: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return what run.json says of the rows: how many there are, left out by reason, replaced."""
    record: dict[str, Any] = {
        what: {
            "rows": check.num_all,
            "left_out": len(check.left_out),
            "by_reason": check.by_reason(),
        }
        for what, check in checks.items()
    }
    record["data.sources"]["replaced"] = len(by_sample(replaced))
    return record
