"""Objects of a field: pure functions from pixels to label images.

Methods
-------
otsu-log
    Nuclei by Otsu's threshold and the Laplacian of Gaussian on the *binary* image, whose maxima are the
    centres (Mehrizi et al. 2023, arXiv 2306.09391, preprocessing); cells grown around them.
otsu-watershed
    Nuclei by shape, cells by propagation, cytoplasm: :mod:`bench.imaging.segment_watershed`.
foreground
    Whole objects (organoids, spheroids) of fields without a nuclear stain.
whole
    One object, which is the field: the square around a spot of spatial data.
cellpose
    Cells by Cellpose-SAM, from weights that the user has: :mod:`bench.imaging.segment_cellpose`.
masks
    Label images from files: :mod:`bench.imaging.segment_masks`.

Labels are int32, 0 is background, and ids are shared between the masks of one object; those found here run
from 1 in raster order of the centres.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.errors import DatasetError
from bench.imaging.configs import TABLE, fill
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
from bench.imaging.segment_cellpose import Cellpose
from bench.imaging.segment_masks import Masks
from bench.imaging.segment_watershed import Watershed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class OtsuLog:
    """Settings of ``otsu-log``; lengths in pixels.

    Parameters
    ----------
    radius_px
        Radius of a typical nucleus. 0 takes, in each field, the median equivalent radius √(A/π) of the
        connected parts of the foreground.
    smooth_px
        Gaussian sigma before thresholding.
    min_area
        Least area of a nucleus, as a share of π · radius².
    min_saddle
        Two maxima are two nuclei if the response between them falls at least this far below the lower one (a
        lone disc answers with 2/e = 0.74).
    min_contrast
        A field whose nuclei are not this many standard deviations of the background brighter than it holds no
        nucleus. (Pure noise, cut by Otsu, reaches 2.7.)
    reach_px
        How far a cell may extend from its nucleus; 0 takes twice the radius.
    border
        ``keep`` objects whose nucleus touches the edge of the field, or ``drop`` them.
    """

    radius_px: float = 0.0
    smooth_px: float = 1.0
    min_area: float = 0.2
    min_saddle: float = 0.05
    min_contrast: float = 5.0
    reach_px: float = 0.0
    border: Border = "keep"


@dataclass(frozen=True, slots=True)
class Foreground:
    """Settings of ``foreground``.

    Parameters
    ----------
    channel
        Name of the channel that is cut; empty takes the first.
    smooth_px
        Gaussian sigma of the deviation, pixels.
    min_area
        Least area of an object, as a share of the field.
    max_objects
        At most this many, the largest.
    min_contrast
        As in :class:`OtsuLog`.
    border
        ``keep`` objects that touch the edge of the field, or ``drop`` them.
    """

    channel: str = ""
    smooth_px: float = 3.0
    min_area: float = 0.02
    max_objects: int = 1
    min_contrast: float = 4.0
    border: Border = "keep"


@dataclass(frozen=True, slots=True)
class Whole:
    """``whole`` has no settings."""


Config = OtsuLog | Watershed | Foreground | Whole | Cellpose | Masks
METHODS: dict[str, type[Config]] = {
    "otsu-log": OtsuLog,
    "otsu-watershed": Watershed,
    "foreground": Foreground,
    "whole": Whole,
    "cellpose": Cellpose,
    "masks": Masks,
}


def configure(settings: Mapping[str, Any]) -> tuple[str, Config]:
    """Return method and typed settings of a dataset's segmentation; ``otsu-log`` when it names none.

    Raises
    ------
    DatasetError
        For an unknown method or setting, or a value of the wrong type or sign.
    """
    given = dict(settings)
    method = str(given.pop("method", "otsu-log"))
    if method not in METHODS:
        raise DatasetError(f"{TABLE}: unknown method {method!r}; known: {', '.join(METHODS)}")
    kind: Any = METHODS[method]
    return method, fill(kind, given, method)


def otsu_log(nucleus: NDArray[Any], others: NDArray[Any], config: OtsuLog) -> Objects:
    """Segment nuclei and cells.

    With B = [G_smooth * I > Otsu], the centres are the local maxima of -σ² ∇²G_σ * B with σ = r / √2, the
    scale at which a disc of radius r answers most. Each pixel of B goes to a centre by watershed on that
    response. Maxima with a shallow saddle between them are one nucleus. Cells are nuclei grown by at most
    ``reach_px`` into the Otsu foreground of the summed logarithms of the channels, every pixel to its
    nearest nucleus. One scale serves the whole field: a nucleus of more than about twice the typical size
    may still be cut in two.

    Parameters
    ----------
    nucleus
        (H, W) channel of the nuclear stain.
    others
        (C, H, W) all channels, for the cells.
    config
        Settings.
    """
    from scipy import ndimage
    from skimage.feature import peak_local_max
    from skimage.segmentation import watershed

    binary = cut(ndimage.gaussian_filter(nucleus.astype(np.float32), config.smooth_px), config.min_contrast)
    if binary is None:
        return nothing(nucleus.shape, ("nuclei", "cells"))
    radius = config.radius_px or component_radius(binary)
    sigma = radius / np.sqrt(2.0)
    response = -(sigma**2) * ndimage.gaussian_laplace(binary.astype(np.float32), sigma)
    # Rounded, because the last bits of equal maxima must not decide which of them is kept.
    response = np.round(response, 4)
    peaks = peak_local_max(
        response,
        min_distance=max(1, round(0.75 * radius)),
        threshold_abs=0.05,
        labels=binary,
        exclude_border=False,
    )
    peaks = peaks[np.lexsort((peaks[:, 1], peaks[:, 0]))]
    markers = np.zeros(binary.shape, np.int32)
    markers[peaks[:, 0], peaks[:, 1]] = np.arange(1, len(peaks) + 1)
    labels = watershed(-response, markers, mask=binary).astype(np.int32)
    labels, peaks = merged(labels, peaks, response, config.min_saddle)
    kept = large_enough(labels, len(peaks), config.min_area * np.pi * radius**2, config.border)
    if not kept.any():
        return nothing(nucleus.shape, ("nuclei", "cells"))
    nuclei = renumbered(labels, kept)
    cells = _grown(nuclei, stained(others, config.smooth_px), config.reach_px or 2.0 * radius)
    ids = np.arange(1, int(kept.sum()) + 1, dtype=np.int32)
    return Objects({"nuclei": nuclei, "cells": cells}, ids, peaks[kept].astype(np.float32))


def foreground(image: NDArray[Any], config: Foreground) -> Objects:
    """Segment whole objects by their deviation from the background.

    The background is the median along the field's edge; the deviation |I - background| + local standard
    deviation, smoothed, is cut by Otsu's threshold, holes are filled and the largest parts kept. So an
    object may be darker, brighter or only more textured than what surrounds it.

    Parameters
    ----------
    image
        (H, W) grey levels.
    config
        Settings.
    """
    from scipy import ndimage

    grey = image.astype(np.float32)
    edge = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    mean = ndimage.gaussian_filter(grey, config.smooth_px)
    spread = np.sqrt(np.maximum(ndimage.gaussian_filter(grey**2, config.smooth_px) - mean**2, 0.0))
    binary = cut(np.abs(mean - np.median(edge)) + spread, config.min_contrast)
    if binary is None:
        return nothing(image.shape, ("objects",))
    labels, n = ndimage.label(ndimage.binary_fill_holes(ndimage.binary_opening(binary, iterations=2)))
    kept = large_enough(labels, n, config.min_area * labels.size, config.border)
    areas = np.bincount(labels.ravel(), minlength=n + 1)[1:]
    largest = np.argsort(np.where(kept, -areas, 1), kind="stable")[: config.max_objects]
    kept &= np.isin(np.arange(n), largest)
    if not kept.any():
        return nothing(image.shape, ("objects",))
    objects = renumbered(labels, kept)
    ids = np.arange(1, int(kept.sum()) + 1, dtype=np.int32)
    centres = np.asarray(ndimage.center_of_mass(objects > 0, objects, ids), np.float32)
    return Objects({"objects": objects}, ids, centres)


def whole(shape: tuple[int, ...]) -> Objects:
    """Return one object that covers a field of this shape (H, W), centred in it."""
    centre = np.array([[(n - 1) / 2 for n in shape]], np.float32)
    return Objects({"objects": np.ones(shape, np.int32)}, np.ones(1, np.int32), centre)


def _grown(nuclei: NDArray[np.int32], stained: NDArray[np.bool_] | None, reach: float) -> NDArray[np.int32]:
    """Return nuclei grown by at most ``reach`` pixels into what is stained, each pixel to its nearest."""
    from skimage.segmentation import expand_labels

    grown = expand_labels(nuclei, reach).astype(np.int32)
    if stained is not None:
        grown[~stained & (nuclei == 0)] = 0
    return np.asarray(grown, np.int32)
