"""Z-stacks: named rules that make one plane of several."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.errors import DatasetError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bench.datasets.model import Rule


def project(planes: Iterable[tuple[str, NDArray[Any]]], rule: Rule) -> NDArray[Any]:
    r"""Return one plane of a z-stack, reading plane after plane.

    ``max`` is :math:`p_{yx} = \max_z p_{zyx}`; ``mean`` is :math:`p_{yx} = Z^{-1} \sum_z p_{zyx}`, summed in
    float64 and, for integers, rounded half to even. Both keep the dtype; integer sums are exact, so the
    order of the planes does not matter.

    Parameters
    ----------
    planes
        URI and (H, W) of each, of one shape and dtype; at least one. Two are in memory at a time.

    Raises
    ------
    DatasetError
        When the planes differ in shape or dtype.
    """
    stack = iter(planes)
    _, first = next(stack)
    out: NDArray[Any] = first.astype(np.float64) if rule == "mean" else first.copy()
    count = 1
    for uri, plane in stack:
        if plane.shape != first.shape or plane.dtype != first.dtype:
            raise DatasetError(
                f"{uri}: this plane of a z-stack is {plane.shape} {plane.dtype}, the first {first.shape} "
                f"{first.dtype}; all planes of a stack must have one size and type"
            )
        count += 1
        if rule == "mean":
            out += plane
        else:
            np.maximum(out, plane, out=out)
    if rule != "mean":
        return out
    out /= count
    if first.dtype.kind in "ui":
        np.rint(out, out=out)
    return out.astype(first.dtype)
