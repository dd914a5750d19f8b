"""The index of a folder of shards."""

from __future__ import annotations

from vxp_data.errors import UserError
from vxp_data.shard_format import INDEX_NAME
from vxp_data.shard_index import ShardIndex
from vxp_data.storage.folder import Folder


def read_index(out: Folder) -> ShardIndex:
    """Read the index of a folder of shards.

    Raises:
        UserError: it is missing or not one.
    """
    try:
        return ShardIndex.from_json(out.read_bytes(INDEX_NAME))
    except FileNotFoundError as error:
        raise UserError(
            f"{out} holds no finished shards: {INDEX_NAME} is missing. Run `vxp-data shard RUN "
            f"--out {out}`, or again if it was stopped."
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(f"{out.where(INDEX_NAME)} cannot be read: {error}") from error
