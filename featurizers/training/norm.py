"""Batch normalisation over the whole batch of a step, whatever number of processes shares it.

torch's own synchronised layer works on GPUs only. This one gives the statistics, and the gradients, of one
process on any device; alone it is torch's layer, bit for bit, and its state dict is always torch's.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from featurizers.training import parallel


class _Sum(torch.autograd.Function):
    """Sum over processes. Every process uses the sum, so the gradients that come back are summed too."""

    @staticmethod
    def forward(_: Any, values: Tensor) -> Tensor:
        summed = values.clone()
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        summed = gradients[0].clone()
        dist.all_reduce(summed)
        return summed


def summed(values: Tensor) -> Tensor:
    """Return the sum of ``values`` over processes, through which gradients pass.

    With the gradients of all processes summed afterwards
    (:func:`featurizers.training.parallel.sum_gradients`) they are those of one process that holds every
    row.
    """
    return _Sum.apply(values) if parallel.size() > 1 else values  # type: ignore[no-untyped-call]


def normalise(layer: nn.BatchNorm1d | nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Return γ (x − m) / √(v + ε) + β with mean m and variance v over the rows of all processes.

    Running statistics move as torch moves them: the variance that enters them is the unbiased one.

    Parameters
    ----------
    x
        (N, C) or (N, C, H, W), this process's rows of the batch; processes may hold different N.
    """
    dims = [0, *range(2, x.ndim)]
    shape = [1, -1, *[1] * (x.ndim - 2)]
    values = x.float()
    count = summed(values.new_tensor(float(values.numel() // values.shape[1])))
    mean = summed(values.sum(dims)) / count
    centred = values - mean.reshape(shape)
    variance = summed(centred.square().sum(dims)) / count
    if layer.running_mean is not None and layer.running_var is not None and layer.momentum is not None:
        with torch.no_grad():
            layer.running_mean.lerp_(mean, layer.momentum)
            layer.running_var.lerp_(variance * count / (count - 1), layer.momentum)
            if layer.num_batches_tracked is not None:
                layer.num_batches_tracked += 1
    out = centred * torch.rsqrt(variance + layer.eps).reshape(shape)
    return (out * layer.weight.reshape(shape) + layer.bias.reshape(shape)).to(x.dtype)


class BatchNorm1d(nn.BatchNorm1d):
    """Normalisation of (N, C) over the rows of all processes."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise rows."""
        return normalise(self, x) if self.training and parallel.size() > 1 else super().forward(x)


class BatchNorm2d(nn.BatchNorm2d):
    """Normalisation of (N, C, H, W) over rows and pixels of all processes."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise images."""
        return normalise(self, x) if self.training and parallel.size() > 1 else super().forward(x)
