"""A cache that forgets visual tokens: of a long video, those that came last stay.

Prefix, time text and all other text stay, whatever happens. What an old group of frames was about
is known only through the text between the groups, which saw it when it was read: an approximation
that no model here was trained with, in return for memory and attention that no longer grow with the
square of the video's length.

Shape suffixes: K cached positions, P positions of a prompt.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer


class _Layer(DynamicLayer):  # type: ignore[no-untyped-call]
    """One layer's keys and values, with holes where positions were forgotten.

    To whoever makes masks, what is kept are the last positions before the ones that come: all of it
    may be seen. Keys are rotated by their own positions, which the holes do not change.
    """

    num_forgotten = 0

    def get_seq_length(self) -> int:
        """Return how many positions have been read, forgotten ones too."""
        return int(super().get_seq_length()) + self.num_forgotten

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return how many keys there are with those that come, and the index of the first."""
        kept = int(super().get_seq_length())
        return kept + query_length, self.num_forgotten

    def keep(self, index_K: Tensor) -> None:
        """Drop all other positions."""
        self.num_forgotten += int(super().get_seq_length()) - len(index_K)
        assert self.keys is not None
        assert self.values is not None
        self.keys = self.keys.index_select(-2, index_K)
        self.values = self.values.index_select(-2, index_K)


class WindowCache(Cache):
    """Keys and values of all text, and of the visual tokens read last."""

    def __init__(self, window: int) -> None:
        """Begin empty.

        Args:
            window: visual tokens that stay, 0 or more.
        """
        super().__init__(layer_class_to_replicate=_Layer)
        self.window = window
        self._is_visual_K = torch.zeros(0, dtype=torch.bool)

    @property
    def num_kept(self) -> int:
        """Positions whose keys and values are there."""
        return len(self._is_visual_K)

    def forget(self, is_visual_P: Tensor) -> None:
        """Record what was read just now, and forget the oldest visual tokens beyond the window.

        Args:
            is_visual_P: bool, of the positions read since the last call.
        """
        is_visual_K = torch.cat([self._is_visual_K.to(is_visual_P.device), is_visual_P])
        later_K = is_visual_K.flip(0).cumsum(0).flip(0)  # visual tokens from here to the end
        stays_K = ~is_visual_K | (later_K <= self.window)
        self._is_visual_K = is_visual_K[stays_K]
        if bool(stays_K.all()):
            return
        index_K = torch.nonzero(stays_K)[:, 0]
        for layer in self.layers:
            assert isinstance(layer, _Layer)
            layer.keep(index_K)
