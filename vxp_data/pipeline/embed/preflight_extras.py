"""Is what a command will need there? Asked before a run directory is touched."""

from __future__ import annotations

from collections.abc import Sequence

from vxp_data.core.selectors.base import load_selector
from vxp_data.encoders.base import Encoder
from vxp_data.engines.choose import engine_class
from vxp_data.errors import UserError
from vxp_data.manifests.samples import Dataset
from vxp_data.registry import ENCODERS
from vxp_data.settings.curation import NO_SELECTOR
from vxp_data.settings.prune import PruneConfig
from vxp_data.storage.object_store import require_store


def require_installed(config: PruneConfig, datasets: Sequence[Dataset] = ()) -> None:
    """Check that what embedding needs is installed: the engine's and encoder's packages, clients.

    Raises:
        UserError: something is not, with the extra that it comes with; or the encoder's settings
            name what does not exist.
    """
    engine_class(config.cluster).check(config.cluster)
    encoder: type[Encoder] = ENCODERS.load(config.encoder.name)
    encoder.describe(config.encoder)
    for dataset in datasets:
        require_store(str(dataset.manifest))
        require_store(str(dataset.media_root))


def require_scores(config: PruneConfig) -> None:
    """Check, before anything is read, that no selector needs scores that only come after a prune.

    Raises:
        UserError: one does.
    """
    for name in sorted({*config.select.values()} - {NO_SELECTOR}):
        if "scores" in load_selector(name).needs and not config.scores.sha256:
            raise UserError(
                f"selector {name!r} goes by scores of yours, and those are given to `decide`. "
                "Prune without it; then `vxp-data score-template RUN --out rows.jsonl`, score the "
                f"rows, and `vxp-data decide RUN --scores FILE --select {name}`."
            )
