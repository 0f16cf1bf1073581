"""Dropped paths (stochastic depth) whose draws belong to the samples of a step, not to the pass they are in.

timm draws from torch's global generator in every forward pass, so what is dropped depends on how a batch is
cut into passes and processes. Here the whole batch is drawn beforehand, from the step's own stream; a pass
takes the columns of its samples.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from featurizers.training.schedules import stream
from featurizers.vision import prepare_timm

prepare_timm()
from timm.layers import DropPath  # noqa: E402


class DrawnPath(nn.Module):
    """A residual branch that is dropped per sample by draws it is given.

    With rate p and u uniform on [0, 1), a sample's branch x becomes x / (1 - p) where u < 1 - p, and 0
    elsewhere, as in timm's ``DropPath``; in evaluation mode it stays x.

    Source: Huang et al. 2016 (stochastic depth).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.draw: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, ...) of x (N, ...), with ``draw`` (N,) when training."""
        if not self.training:
            return x
        assert self.draw is not None, "paths are dropped in training, but nothing was drawn for this pass"
        keep = 1 - self.rate
        kept = (self.draw < keep).to(x.dtype).div_(keep)
        return x * kept.reshape(-1, *[1] * (x.ndim - 1))


def take_over(network: nn.Module) -> list[DrawnPath]:
    """Put a :class:`DrawnPath` of the same rate in the place of each of timm's; return them in order.

    Places without a path to drop (rate 0) have none. Weights and their names stay.
    """
    taken = []
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, DropPath):
                own = DrawnPath(cast("float", child.drop_prob))
                setattr(module, name, own)
                taken.append(own)
    return taken


def draws(seed: int, purpose: str, step: int, branches: int, *samples: int) -> Tensor:
    """Return (branches, *samples) uniform draws of a step: one per branch and sample of the whole batch.

    They depend on nothing else, so neither passes nor processes change them.
    """
    return torch.rand(branches, *samples, generator=stream(seed, purpose, step))
