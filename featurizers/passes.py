"""From fields to one row per cell through a network, in forward passes of one size."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from featurizers.base import Embedding, FeaturizerError, Field
from featurizers.crops import Crops
from featurizers.fields import where

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Crops per forward pass. Every pass has exactly this many (the last one is filled up), because a matrix
# product of another size may be computed in another order and would then differ in the last bits.
CHUNK = 32


def embed_cells(
    fields: Sequence[Field],
    cut: Callable[[Field], Crops],
    forward: Callable[[Tensor, Tensor], Tensor],
    *,
    channels: int,
    edge: int,
    width: int,
    device: torch.device,
) -> Embedding:
    """Embed every cell of every field.

    Parameters
    ----------
    cut
        Crops of one field, (n, C, S, S) with S = ``edge``.
    forward
        Rows (N, ``width``) of crops (N, C, S, S) and their masks (N, S, S), both on ``device``; each row a
        function of its own crop.

    Raises
    ------
    FeaturizerError
        When a field has another number of channels, or an embedding is not finite.
    """
    owner: list[NDArray[np.int64]] = []
    objects: list[NDArray[np.int32]] = []

    def crops() -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
        for k, field in enumerate(fields):
            if field.pixels is not None and len(field.pixels) != channels:
                msg = f"{where(field)} has {len(field.pixels)} channels, but the encoder takes {channels}"
                raise FeaturizerError(msg)
            cells = cut(field)
            owner.append(np.full(len(cells.ids), k, np.int64))
            objects.append(cells.ids)
            yield cells.pixels, cells.inside

    rows: list[NDArray[np.float32]] = []
    for pixels, inside, filled in _chunks(crops(), channels, edge):
        given = torch.from_numpy(pixels), torch.from_numpy(inside)
        rows.append(in_memory(forward, *given, device=device)[:filled].numpy())
    values = np.concatenate([np.zeros((0, width), np.float32), *rows])
    finite = np.isfinite(values).all(axis=1)
    field_of_row = np.concatenate([np.zeros(0, np.int64), *owner])
    if not finite.all():
        bad = fields[int(field_of_row[int(np.argmin(finite))])]
        msg = f"{where(bad)}: the embedding of a cell is not finite; check its pixels and the weights"
        raise FeaturizerError(msg)
    return Embedding(values, field_of_row, np.concatenate([np.zeros(0, np.int32), *objects]))


def in_memory(
    forward: Callable[..., Tensor],
    *inputs: Tensor,
    device: torch.device,
    unit: str = "crop",
    remedy: str = "choose a smaller crop or network",
) -> Tensor:
    """Return ``forward(*inputs)`` without gradients, as float32 on the CPU.

    Where the device's memory ends, with the inputs or with what is made of them, it is done in halves, and
    that is said.

    Parameters
    ----------
    inputs
        On the CPU, of one length; ``forward`` gets them on ``device``.
    unit, remedy
        What a row of the inputs is, and what to change where a single one does not fit.

    Raises
    ------
    FeaturizerError
        When a single row does not fit.
    """
    with torch.inference_mode():
        try:
            return forward(*(rows.to(device) for rows in inputs)).float().cpu()
        except torch.OutOfMemoryError:
            count = len(inputs[0])
    if count == 1:
        msg = f"the device's memory does not hold one {unit}; {remedy}, or device=cpu"
        raise FeaturizerError(msg)
    warnings.warn(
        f"the device's memory ended at {count} {unit}s at once; going on with {count // 2}", stacklevel=2
    )
    torch.cuda.empty_cache()
    middle = count // 2
    parts = [[rows[:middle] for rows in inputs], [rows[middle:] for rows in inputs]]
    return torch.cat([in_memory(forward, *part, device=device, unit=unit, remedy=remedy) for part in parts])


def _chunks(
    crops: Iterator[tuple[NDArray[np.float32], NDArray[np.bool_]]], channels: int, edge: int
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_], int]]:
    """Regroup crops of fields into chunks of one size; the third entry says how many are real."""

    def empty() -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        return np.zeros((CHUNK, channels, edge, edge), np.float32), np.zeros((CHUNK, edge, edge), np.bool_)

    (pixels, inside), filled = empty(), 0
    for more, own in crops:
        start = 0
        while start < len(more):
            take = min(CHUNK - filled, len(more) - start)
            pixels[filled : filled + take] = more[start : start + take]
            inside[filled : filled + take] = own[start : start + take]
            filled, start = filled + take, start + take
            if filled == CHUNK:
                yield pixels, inside, filled
                (pixels, inside), filled = empty(), 0
    if filled:
        yield pixels, inside, filled
