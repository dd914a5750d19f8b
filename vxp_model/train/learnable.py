"""A training's rows: those that it can learn from, and what is told and written of the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vxp_model.data.row_check import RowCheck, TextLimit, check_rows
from vxp_model.data.sources import Rows, read_rows
from vxp_model.settings.recot import SourceSettings
from vxp_model.train.distributed import DistributedContext
from vxp_model.train.left_out import (
    LEFT_OUT_NAME,
    by_sample,
    describe_left_out,
    digest_of,
    require_few,
    require_one_answer,
    rows_record,
    write_left_out,
)
from vxp_model.train.mixture import sources_of


class LearnableRows:
    """Looks for rows to learn from; every process does, and all must find the same."""

    def __init__(self, context: DistributedContext, *, max_share: float, out: Path) -> None:
        """Hold what decides.

        Args:
            context: of the processes.
            max_share: of rows that may be left out, see `data.max_bad_share`.
            out: the run directory.
        """
        self.checks: dict[str, RowCheck] = {}
        """By the setting that names the rows."""
        self._context, self._max_share, self._path = context, max_share, out / LEFT_OUT_NAME

    def find(
        self,
        what: str,
        sources: Sequence[SourceSettings],
        *,
        reads_words: bool,
        limit: TextLimit | None = None,
    ) -> tuple[Rows, ...]:
        """Read indexes, and leave out the rows that cannot be learned from.

        Args:
            what: the setting that names the sources.
            sources: of the recipe.
            reads_words: see `check_rows`, as `limit`.
            limit: see there.

        Raises:
            UserError: an index cannot be used; too many rows are left out.
        """
        parts = read_rows(sources_of(sources))
        check = check_rows(parts, reads_words=reads_words, limit=limit)
        require_one_answer(self._context.gather(digest_of(check)))
        require_few(check, max_share=self._max_share, what=what)
        self.checks[what] = check
        return check.parts

    def lines(self) -> Iterator[str]:
        """Return what is said before the first step."""
        for what, check in self.checks.items():
            if check.left_out:
                yield f"{what}: {describe_left_out(check)}; see {self._path}"

    def card_lines(self, replaced: Iterable[Mapping[str, Any]]) -> list[str]:
        """Return what a model card says."""
        lines = [f"{what}: {describe_left_out(check)}" for what, check in self.checks.items()]
        if num_replaced := len(by_sample(replaced)):
            lines.append(
                f"{num_replaced:,} rows could not be read and were replaced by others; which, and "
                f"by what, {LEFT_OUT_NAME} of the training has"
            )
        return lines

    def record(self, replaced: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        """Return what run.json says; see `rows_record`."""
        return rows_record(self.checks, replaced)

    def write(self, replaced: Iterable[Mapping[str, Any]]) -> None:
        """Write the list; see `write_left_out`."""
        write_left_out(self._path, self.checks, replaced)
