"""Size and shape of objects, put together from outlines, moments, hulls and distances.

Radii are distances to the outside, with the image border outside. FormFactor = 4π area / perimeter²,
Compactness = perimeter² / 4π area, Solidity = area / convex area, Extent = area / area of the bounding box.
"""

from __future__ import annotations

from math import pi
from typing import TYPE_CHECKING

import numpy as np

from featurizers.cellprofiler.hull import feret_diameters
from featurizers.cellprofiler.jit import kernel
from featurizers.cellprofiler.moments import measure_moments
from featurizers.cellprofiler.outlines import measure_outlines
from featurizers.cellprofiler.vocabulary import ADVANCED_SHAPE as ADVANCED
from featurizers.cellprofiler.vocabulary import EXTRA_SHAPE as EXTRA
from featurizers.cellprofiler.vocabulary import STANDARD_SHAPE as STANDARD

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featurizers.cellprofiler.objects import Objects


@kernel
def _radii(squared: NDArray[np.int64], start: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return (n, 3) maximum, mean and median of √squared."""
    n = start.size - 1
    out = np.empty((n, 3))
    tally = np.zeros(squared.max() + 1 if squared.size else 1, np.int64)
    for k in range(n):
        largest = 0
        for p in range(start[k], start[k + 1]):
            tally[squared[p]] += 1
            largest = max(largest, squared[p])
        size = start[k + 1] - start[k]
        total = 0.0
        median = 0.0
        below = 0
        for d in range(largest + 1):
            count = tally[d]
            if count == 0:
                continue
            tally[d] = 0
            root = np.sqrt(float(d))
            total += count * root
            for middle in ((size - 1) // 2, size // 2):
                if below <= middle < below + count:
                    median += root / 2
            below += count
        out[k, 0] = np.sqrt(float(largest))
        out[k, 1] = total / size
        out[k, 2] = median
    return out


def measure_shape(
    objects: Objects,
    squared: NDArray[np.int64],
    hull: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> dict[str, NDArray[np.float64]]:
    """Measure size and shape.

    Parameters
    ----------
    objects
        n objects with P pixels.
    squared
        (P,) squared distance to the outside, under the ``bounded`` rule of
        :func:`~featurizers.cellprofiler.distance.squared_distances`.
    hull
        From :func:`~featurizers.cellprofiler.hull.convex_hulls`.

    Returns
    -------
    (n,) float64 by name: ``STANDARD``, ``ADVANCED`` and ``EXTRA``. Lengths in pixels, areas in pixels,
    orientation in degrees from -90 to 90. A single pixel has perimeter 0 and so an infinite FormFactor.
    """
    perimeter, crofton, euler, filled, convex = measure_outlines(objects).T
    radii = _radii(squared, objects.start)
    feret = feret_diameters(*hull)
    moments, centroid = measure_moments(objects)
    area = objects.area.astype(np.float64)
    box = objects.box.astype(np.float64)
    box_area = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
    with np.errstate(divide="ignore"):
        form_factor = 4 * pi * area / perimeter**2
    found = moments | {
        "Area": area,
        "BoundingBoxArea": box_area,
        "BoundingBoxMaximum_X": box[:, 3],
        "BoundingBoxMaximum_Y": box[:, 2],
        "BoundingBoxMinimum_X": box[:, 1],
        "BoundingBoxMinimum_Y": box[:, 0],
        "Center_X": centroid[:, 1],
        "Center_Y": centroid[:, 0],
        "Compactness": perimeter**2 / (4 * pi * area),
        "ConvexArea": convex,
        "EquivalentDiameter": np.sqrt(4 * area / pi),
        "EulerNumber": euler,
        "Extent": area / box_area,
        "FilledArea": filled,
        "FormFactor": form_factor,
        "MaxFeretDiameter": feret[:, 1],
        "MaximumRadius": radii[:, 0],
        "MeanRadius": radii[:, 1],
        "MedianRadius": radii[:, 2],
        "MinFeretDiameter": feret[:, 0],
        "Perimeter": perimeter,
        "PerimeterCrofton": crofton,
        "Solidity": area / convex,
    }
    return {name: found[name] for name in (*STANDARD, *ADVANCED, *EXTRA)}
