"""A two-layer classifier on frozen features.

Shape suffixes: N media, D features, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def probe_accuracy(
    train_ND: Tensor,
    train_label_N: Tensor,
    test_ND: Tensor,
    test_label_N: Tensor,
    *,
    num_classes: int,
    hidden: int,
    epochs: int,
    batch: int,
    lr: float,
    weight_decay: float,
    seed: int,
) -> float:
    """Train a two-layer MLP and return its top-1 accuracy.

    Args:
        train_ND: float32; each feature is standardised by its mean and spread here.
        train_label_N: int64 in [0, num_classes).
        test_ND: like train_ND.
        test_label_N: like train_label_N.
        num_classes: K.
        hidden: width of the layer between.
        epochs: passes over the training media.
        batch: media of a step.
        lr: highest rate of AdamW; it falls along a cosine to 0.
        weight_decay: of all weights.
        seed: of weights and order; torch's own random state is left as it was.

    Returns:
        accuracy: share of test media whose class has the highest logit.
    """
    mean_D, spread_D = train_ND.mean(0), train_ND.std(0, correction=0)
    spread_D = torch.where(spread_D > 0, spread_D, 1)  # a constant feature stays 0
    train_ND, test_ND = (train_ND - mean_D) / spread_D, (test_ND - mean_D) / spread_D
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Linear(train_ND.shape[1], hidden), nn.GELU(), nn.Linear(hidden, num_classes)
        )
    net.to(train_ND.device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=weight_decay)
    num_steps = epochs * -(-len(train_ND) // batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    for _ in range(epochs):
        order_N = torch.randperm(len(train_ND), generator=generator).to(train_ND.device)
        for index_B in torch.split(order_N, batch):
            loss = functional.cross_entropy(net(train_ND[index_B]), train_label_N[index_B])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        return float((net(test_ND).argmax(1) == test_label_N).float().mean())
