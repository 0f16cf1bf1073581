"""``otsu-watershed``: nuclei by shape, cells by propagation from them, cytoplasm by subtraction.

The scheme of most CellProfiler pipelines (IdentifyPrimaryObjects declumped by shape,
IdentifySecondaryObjects by propagation, IdentifyTertiaryObjects), with automatic scales.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.imaging.labels import (
    Border,
    Objects,
    component_radius,
    cut,
    large_enough,
    merged,
    nothing,
    renumbered,
    stained,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

MASKS = ("nuclei", "cells", "cytoplasm")


@dataclass(frozen=True, slots=True)
class Watershed:
    """Settings of ``otsu-watershed``; lengths in pixels.

    Parameters
    ----------
    radius_px, smooth_px, min_area, min_contrast, border
        As in ``otsu-log``.
    min_saddle
        Two maxima of the distance to the background are two nuclei if the saddle between them lies at least
        this share of the radius below the lower one.
    regularisation
        λ of the propagation: 0 follows the edges of the image alone, a large one the distance alone.
    cell_channel
        Channel whose edges and foreground bound the cells; empty takes the summed logarithms of all channels.
    """

    radius_px: float = 0.0
    smooth_px: float = 1.0
    min_area: float = 0.2
    min_saddle: float = 0.1
    min_contrast: float = 5.0
    regularisation: float = 0.05
    cell_channel: str = ""
    border: Border = "keep"


def otsu_watershed(nucleus: NDArray[Any], channels: NDArray[Any], config: Watershed) -> Objects:
    """Segment nuclei, cells and cytoplasm.

    With B = [G_smooth * I > Otsu] and D the distance of each pixel of B to the background, the maxima of D
    are the centres; B is divided between them by watershed on -D, and maxima with a shallow saddle are one
    nucleus. Cells are the Otsu foreground of the cell stain, divided by :func:`propagate`. Cytoplasm is the
    cell without its nucleus.

    Parameters
    ----------
    nucleus
        (H, W) channel of the nuclear stain.
    channels
        (C, H, W) the channels that stain the cell.
    config
        Settings.

    Returns
    -------
    Masks ``nuclei``, ``cells`` and ``cytoplasm``, which share ids.
    """
    from scipy import ndimage
    from skimage.feature import peak_local_max
    from skimage.segmentation import watershed

    smooth = ndimage.gaussian_filter(nucleus.astype(np.float32), config.smooth_px)
    binary = cut(smooth, config.min_contrast)
    if binary is None:
        return nothing(nucleus.shape, MASKS)
    radius = config.radius_px or component_radius(binary)
    # Mirrored at the edge of the field, where a nucleus goes on unseen.
    pad = max(1, int(2 * radius))
    distance = ndimage.distance_transform_edt(np.pad(binary, pad, mode="symmetric"))[pad:-pad, pad:-pad]
    response = np.round(ndimage.gaussian_filter(distance, config.smooth_px) / radius, 4).astype(np.float32)
    peaks = peak_local_max(
        response, min_distance=max(1, round(0.75 * radius)), labels=binary, exclude_border=False
    )
    peaks = peaks[np.lexsort((peaks[:, 1], peaks[:, 0]))]
    markers = np.zeros(binary.shape, np.int32)
    markers[peaks[:, 0], peaks[:, 1]] = np.arange(1, len(peaks) + 1)
    labels = watershed(-response, markers, mask=binary).astype(np.int32)
    labels, peaks = merged(labels, peaks, response, config.min_saddle)
    kept = large_enough(labels, len(peaks), config.min_area * np.pi * radius**2, config.border)
    if not kept.any():
        return nothing(nucleus.shape, MASKS)
    nuclei = renumbered(labels, kept)
    found = stained(channels, config.smooth_px)
    territory = nuclei > 0 if found is None else found | (nuclei > 0)
    guide = np.log1p(np.maximum(channels, 0).astype(np.float32)).mean(axis=0)
    guide = ndimage.gaussian_filter(guide, config.smooth_px)
    cells = propagate(nuclei, guide, territory, config.regularisation)
    cytoplasm = np.where(nuclei > 0, 0, cells).astype(np.int32)
    ids = np.arange(1, int(kept.sum()) + 1, dtype=np.int32)
    return Objects(
        dict(zip(MASKS, (nuclei, cells, cytoplasm), strict=True)), ids, peaks[kept].astype(np.float32)
    )


def propagate(
    seeds: NDArray[np.int32], guide: NDArray[np.float32], territory: NDArray[np.bool_], regularisation: float
) -> NDArray[np.int32]:
    """Give each pixel of ``territory`` to the seed that is nearest along the image.

    The distance is the shortest path's ∫ √(|∇I|² + λ²) ds with I scaled to [0, 1]: the Voronoi regions on the
    manifold of the image (Jones, Carpenter & Golland 2005), with the gradient's magnitude in place of its
    component along the path.

    Parameters
    ----------
    seeds
        (H, W) labels; they are kept.
    guide
        (H, W) grey levels whose edges are to be followed.
    territory
        (H, W) where labels may go; what no path reaches stays 0.
    regularisation
        λ ≥ 0.

    Returns
    -------
    (H, W) int32.
    """
    from scipy import ndimage
    from skimage.graph import MCP_Geometric

    # Only the rim of a seed starts paths: pixels with a neighbour of another label.
    rim = (seeds > 0) & (
        (ndimage.minimum_filter(seeds, 3) != seeds) | (ndimage.maximum_filter(seeds, 3) != seeds)
    )
    open_ = (territory & (seeds == 0)) | rim
    starts = np.argwhere(rim)
    if len(starts) == 0 or not (territory & (seeds == 0)).any():
        return seeds.copy()
    span = float(guide.max() - guide.min()) or 1.0
    along_rows, along_columns = np.gradient(guide.astype(np.float64) / span)
    cost = np.sqrt(along_rows**2 + along_columns**2 + max(regularisation, 1e-6) ** 2)
    # Negative costs are walls; one beyond the edge of the field keeps offsets from wrapping around it.
    walled = np.pad(np.where(open_, cost, -1.0), 1, constant_values=-1.0)
    paths = MCP_Geometric(walled)
    _, came = paths.find_costs([tuple(start) for start in (starts + 1).tolist()])
    offsets = np.asarray(paths.offsets) @ np.array([walled.shape[1], 1])
    came = came.ravel()
    parent = np.arange(came.size)
    reached = came >= 0
    parent[reached] -= offsets[came[reached]]
    # Each step doubles the part of the path that is skipped, so labels arrive in log₂(longest path) steps.
    while not np.array_equal(above := parent[parent], parent):
        parent = above
    out = np.pad(seeds, 1).ravel()[parent].reshape(walled.shape)[1:-1, 1:-1]
    return np.where(seeds > 0, seeds, np.where(open_, out, 0)).astype(np.int32)
