"""The max-tree of an image, and reconstruction by dilation as two sweeps over it.

Every pixel's parent is a pixel of the same or the next lower level in the component that grows when the
threshold sinks; pixels are numbered from the brightest down, so that parents come after their children
(Najman and Couprie 2006 [1]_, 4-connected). With E an image below the tree's own and M(x) the largest E in
the subtree of x, the reconstruction of E is R(x) = max(min(level(x), M(x)), R(parent(x))): no sorting,
however many images are reconstructed under the same one.

References
----------
.. [1] Najman L, Couprie M (2006). Building the component tree in quasi-linear time. IEEE Transactions on
   Image Processing 15(11), 3531-3539.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from featurizers.cellprofiler.jit import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray


@kernel
def max_tree(order: NDArray[np.int64], height: int, width: int) -> NDArray[np.int32]:
    """Return each pixel's parent in the max-tree, pixels numbered from the brightest (``order``) down."""
    n = order.size
    rank = np.empty(n, np.int32)
    for i in range(n):
        rank[order[i]] = i
    parent = np.empty(n, np.int32)
    root = np.empty(n, np.int32)
    for i in range(n):
        parent[i] = i
        root[i] = i
        p = order[i]
        r, c = p // width, p % width
        for side in range(4):
            if side == 0:
                if r == 0:
                    continue
                q = rank[p - width]
            elif side == 1:
                if c == 0:
                    continue
                q = rank[p - 1]
            elif side == 2:
                if c == width - 1:
                    continue
                q = rank[p + 1]
            else:
                if r == height - 1:
                    continue
                q = rank[p + width]
            if q >= i:
                continue
            top = q
            while root[top] != top:
                top = root[top]
            while root[q] != top:  # compress the path
                above = root[q]
                root[q] = top
                q = above
            if top != i:
                parent[top] = i
                root[top] = i
    return parent


@kernel
def reconstruct(
    eroded: NDArray[np.float64],
    level: NDArray[np.float64],
    order: NDArray[np.int64],
    parent: NDArray[np.int32],
    peak: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """Reconstruct by dilation of ``eroded`` under the image of the tree; ``peak`` is scratch space.

    Pixels at 0, the least level there is, stay at 0: ``level`` and ``peak`` end before them, and ``out`` must
    hold 0 there.
    """
    n = level.size
    for i in range(n):
        peak[i] = eroded[order[i]]
    for i in range(n):
        if parent[i] < n:
            peak[parent[i]] = max(peak[parent[i]], peak[i])
    for i in range(n - 1, -1, -1):
        value = min(level[i], peak[i])
        if parent[i] < n and parent[i] != i:
            value = max(value, peak[parent[i]])
        peak[i] = value
        out[order[i]] = value
