"""The greatest of each row, in one order whatever the block: equal ones by their column.

Shapes: B rows, N columns, K of them.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

_LOW_BITS: Final = (1 << 32) - 1


def highest_columns(value_BN: NDArray[np.float32], number: int) -> NDArray[np.int64]:
    """Return the columns of the greatest values of each row, the greatest first.

    Args:
        value_BN: no NaN.
        number: K, at most N.
    """
    key_BN = _keys(value_BN)
    key_BN.partition(value_BN.shape[1] - number, axis=1)
    highest_BK = np.sort(key_BN[:, -number:], axis=1)[:, ::-1]
    column_BK: NDArray[np.int64] = _LOW_BITS - (highest_BK & _LOW_BITS)
    return column_BK


def _keys(value_BN: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return integers in the order of the values; of equal ones the first column has the highest.

    So one partition finds the same ones every time, which by value alone it does not where more
    are equally great than are wanted.
    """
    bits_BN = (value_BN + np.float32(0)).view(np.int32)  # -0.0 becomes 0.0, which is as great
    ordered_BN = np.where(bits_BN < 0, bits_BN ^ np.int32(0x7FFFFFFF), bits_BN)
    keys_BN: NDArray[np.int64] = ordered_BN.astype(np.int64) << 32
    keys_BN |= _LOW_BITS - np.arange(value_BN.shape[1], dtype=np.int64)
    return keys_BN


def greatest(
    group_H: NDArray[np.int64],
    column_H: NDArray[np.int64],
    value_H: NDArray[np.float32],
    number: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which hits are among the greatest of their group, group by group, and their ranks.

    Args:
        group_H: of each hit.
        column_H: of equal values the one of the lower column comes first.
        value_H: of each.
        number: as many of a group at most.
    """
    # lexsort goes by its last key first: by group, then the greatest, then the lowest column.
    order_H = np.lexsort((column_H, -value_H, group_H))
    group_H = group_H[order_H]
    # Less the position at which its group begins: the rank of each hit within its group.
    rank_H = np.arange(len(group_H)) - np.searchsorted(group_H, group_H)
    near_H = rank_H < number
    return order_H[near_H], rank_H[near_H]
