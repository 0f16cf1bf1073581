"""What a training step needs as a pure function of its number: learning rate, batch, random streams.

Because nothing random is carried from step to step, a resumed training continues exactly.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from featurizers.training.settings import Warmup

if TYPE_CHECKING:
    from numpy.typing import NDArray


def stream(seed: int, purpose: str, index: int) -> torch.Generator:
    """Return a CPU generator of its own for one purpose and one step (or epoch)."""
    generator = torch.Generator()
    generator.manual_seed(_seed(seed, purpose, index))
    return generator


def _seed(seed: int, purpose: str, index: int) -> int:
    digest = hashlib.sha256(f"{seed}/{purpose}/{index}".encode()).digest()
    return int.from_bytes(digest[:7], "big")


@contextmanager
def seeded(seed: int, purpose: str, index: int, device: torch.device | None = None) -> Iterator[None]:
    """Let torch's global generators (initial weights, dropped paths) draw from a stream, and put them back.

    Parameters
    ----------
    device
        Device whose generator is meant besides the CPU's.
    """
    devices = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(_seed(seed, purpose, index))
        yield


def one_cycle(
    step: int, steps: int, peak: float, *, share: float = 0.1, warmup: Warmup = "cosine", start: float = 25.0
) -> float:
    """Return the learning rate of step 0 <= t < T.

    It rises from peak / 25 to the peak at t1 = share T - 1, linearly or as half a cosine, then falls as half
    a cosine to peak / 25 / 10⁴ at T - 1: the one-cycle schedule of Smith and Topin with torch's constants.
    """
    low, top = peak / start, max(share * steps - 1, 0.0)
    if step < top:
        done = step / top
        rise = done if warmup == "linear" else (1 - math.cos(math.pi * done)) / 2
        return low + (peak - low) * rise
    done = (step - top) / max(steps - 1 - top, 1.0)
    end = low / 1e4
    return end + (peak - end) * (1 + math.cos(math.pi * done)) / 2


def cosine(step: int, steps: int, first: float, last: float, *, warmup: int = 0) -> float:
    """Return the value of step 0 <= t < T: a line from 0 to ``first`` over ``warmup`` steps W, then a cosine.

    For t < W, first t / (W - 1); then last + (first - last) (1 + cos(π (t - W) / (T - W))) / 2. DINO has it
    for learning rate, weight decay and teacher momentum (Caron et al. 2021).
    """
    if step < warmup:
        return first * step / max(warmup - 1, 1)
    done = (step - warmup) / max(steps - warmup, 1)
    return last + (first - last) * (1 + math.cos(math.pi * done)) / 2


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> Tensor:
    return torch.randperm(count, generator=stream(seed, "order", epoch))


def batch_indices(seed: int, step: int, batch: int, count: int) -> Tensor:
    """Return the (batch,) crops of a step: each epoch passes once over all ``count`` crops in a new order."""
    position = step * batch + torch.arange(batch)
    epoch, place = position // count, position % count
    index = torch.empty_like(place)
    for e in torch.unique(epoch).tolist():
        index[epoch == e] = _order(seed, e, count)[place[epoch == e]]
    return index


def field_batch(seed: int, step: int, fields: int, crops: int, owner: NDArray[np.int64]) -> Tensor:
    """Return the (fields · crops,) crops of a step that takes so many crops of each of so many fields.

    Fields with crops pass once per epoch in a new order. A field's crops are drawn without replacement; one
    that has fewer gives all it has, then again.

    Parameters
    ----------
    owner
        (n,) field of each crop, ascending.
    """
    present, first, count = np.unique(owner, return_index=True, return_counts=True)
    chosen = batch_indices(seed, step, fields, len(present)).numpy()
    generator = np.random.default_rng(_seed(seed, "crops of fields", step))
    drawn = []
    for k in chosen:
        rounds = [generator.permutation(count[k]) for _ in range(-(-crops // count[k]))]
        drawn.append(first[k] + np.concatenate(rounds)[:crops])
    return torch.from_numpy(np.concatenate(drawn))
