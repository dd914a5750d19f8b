"""What a forward pass of Video-XL-Pro gives.

Shape suffixes: B samples, P positions, K label tokens, D the language model's width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from transformers.utils.generic import ModelOutput

from vxp_model.models.visual_sequence import IGNORED_LABEL, Selection


@dataclass
class VideoXLProOutput(ModelOutput):
    """One forward pass."""

    loss: Tensor | None = None
    """Scalar float32: mean cross-entropy over the label tokens; 0 where there are none. With
    `num_items_in_batch`: their sum divided by that."""
    logits: Tensor | None = None
    """[B, P, vocabulary]; with labels: float32 [label tokens, vocabulary], the rows that predict
    them, one sample after another."""
    label_ids: Tensor | None = None
    """int64 [label tokens]: what those rows should predict."""
    num_labels_B: Tensor | None = None
    """int64: label tokens of each sample."""
    losses_K: Tensor | None = None
    """float32 cross-entropy of each label token, one sample after another."""
    past_key_values: Any | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    """Of the language model, where asked for; as the next."""
    attentions: tuple[Tensor, ...] | None = None
    selections: tuple[Selection, ...] | None = None


def label_output(
    states_BPD: Tensor,
    labels_BP: Tensor,
    head: nn.Module,
    num_items: int | Tensor | None = None,
) -> VideoXLProOutput:
    """Compute logits at label tokens alone, and their loss.

    A prompt of 14,000 positions has 8.5 GB of logits in fp32 at Qwen's vocabulary; its answer of a
    few words has none to speak of.

    Args:
        states_BPD: the language model's last hidden states.
        labels_BP: the token at each position, or `IGNORED_LABEL`; the position before predicts it.
        head: from states to logits.
        num_items: what the sum of losses is divided by; None: the label tokens, or 1.
    """
    wanted_BP = functional.pad(labels_BP[:, 1:], (0, 1), value=IGNORED_LABEL)
    counts_BP = wanted_BP != IGNORED_LABEL
    logits = head(states_BPD[counts_BP]).float()
    label_ids = wanted_BP[counts_BP]
    losses_K = functional.cross_entropy(logits, label_ids, reduction="none")
    return VideoXLProOutput(
        loss=losses_K.sum() / (max(len(label_ids), 1) if num_items is None else num_items),
        logits=logits,
        label_ids=label_ids,
        num_labels_B=counts_BP.sum(-1),
        losses_K=losses_K,
    )
