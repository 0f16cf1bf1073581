"""Data parallel training over processes, each with its share of every batch.

Every process knows the whole batch of a step (it is a function of the step's number), computes its own rows
of it, and the gradients are summed. So the same global batch gives the same step, up to the order of
floating-point sums, for any number of processes; ``torchrun`` starts them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor


def join(device: str) -> torch.device:
    """Join the group that ``torchrun`` announces, if any, and return this process's device.

    ``"cuda"`` becomes the GPU of this process's local rank. gloo connects CPUs, nccl GPUs.
    """
    chosen = torch.device(device)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ:
        if chosen.type == "cuda" and chosen.index is None:
            chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
            torch.cuda.set_device(chosen)
        if not dist.is_initialized():
            dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    return chosen


def size() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return this process's place among them, 0 for one alone."""
    return dist.get_rank() if size() > 1 else 0


def share(count: int) -> slice:
    """Return which of ``count`` rows are this process's: consecutive, equal up to one row."""
    return slice(rank() * count // size(), (rank() + 1) * count // size())


def wait() -> None:
    """Wait until every process is here."""
    if size() > 1:
        dist.barrier()


def total(values: Tensor) -> Tensor:
    """Return the sum of ``values`` over processes."""
    if size() > 1:
        values = values.clone()
        dist.all_reduce(values)
    return values


def sum_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace each gradient by its sum over processes; a missing one counts as zero where another has one.

    One reduction of one flat vector: few large messages beat many small ones.
    """
    if size() == 1:
        return
    own = list(parameters)
    present = total(torch.tensor([float(p.grad is not None) for p in own], device=own[0].device)) > 0
    used = [p for p, there in zip(own, present.tolist(), strict=True) if there]
    if not used:
        return
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in used])
    dist.all_reduce(flat)
    for parameter, piece in zip(used, torch.split(flat, [p.numel() for p in used]), strict=True):
        parameter.grad = piece.reshape(parameter.shape)


def gather(rows: Tensor, count: int) -> Tensor:
    """Return all ``count`` rows, of which :func:`share` names this process's; only its own carry a gradient.

    With a loss over all rows in every process, the sum of the processes' gradients is the loss's gradient.
    """
    if size() == 1:
        return rows
    whole = rows.new_zeros((count, *rows.shape[1:]))
    whole[share(count)] = rows.detach()
    dist.all_reduce(whole)
    own = share(count)
    return torch.cat([whole[: own.start], rows, whole[own.stop :]])
