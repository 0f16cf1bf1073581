"""Objects of a field: pure functions from pixels to label images.

Methods
-------
otsu-log
    Nuclei by Otsu's threshold and the Laplacian of Gaussian on the *binary* image, whose maxima are the
    centres (Mehrizi et al. 2023, arXiv 2306.09391, preprocessing); cells grown around them.
foreground
    Whole objects (organoids, spheroids) of fields without a nuclear stain.

Labels are int32, 0 is background, ids run from 1 in raster order of the centres, and are shared between the
masks of one object.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bench.errors import DatasetError
from bench.imaging.configs import TABLE, fill

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

Border = Literal["keep", "drop"]


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


Config = OtsuLog | Foreground
METHODS: dict[str, type[OtsuLog] | type[Foreground]] = {"otsu-log": OtsuLog, "foreground": Foreground}


@dataclass(frozen=True, eq=False)
class Objects:
    """Masks by name (H, W) int32, ``ids`` (n,) int32 ascending, ``centres`` (n, 2) float32 row and column."""

    masks: Mapping[str, NDArray[np.int32]]
    ids: NDArray[np.int32]
    centres: NDArray[np.float32]

    @classmethod
    def empty(cls) -> Objects:
        """Return no objects in no mask."""
        return cls({}, np.zeros(0, np.int32), np.zeros((0, 2), np.float32))


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
    return method, fill(METHODS[method], given, method)


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

    binary = _binary(
        ndimage.gaussian_filter(nucleus.astype(np.float32), config.smooth_px), config.min_contrast
    )
    if binary is None:
        return _none(nucleus.shape, ("nuclei", "cells"))
    radius = config.radius_px or _component_radius(binary)
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
    labels, peaks = _merged(labels, peaks, response, config.min_saddle)
    kept = _kept(labels, len(peaks), config.min_area * np.pi * radius**2, config.border)
    if not kept.any():
        return _none(nucleus.shape, ("nuclei", "cells"))
    nuclei = _renumbered(labels, kept)
    cells = _cells(nuclei, others, config.reach_px or 2.0 * radius, config)
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
    binary = _binary(np.abs(mean - np.median(edge)) + spread, config.min_contrast)
    if binary is None:
        return _none(image.shape, ("objects",))
    labels, n = ndimage.label(ndimage.binary_fill_holes(ndimage.binary_opening(binary, iterations=2)))
    kept = _kept(labels, n, config.min_area * labels.size, config.border)
    areas = np.bincount(labels.ravel(), minlength=n + 1)[1:]
    largest = np.argsort(np.where(kept, -areas, 1), kind="stable")[: config.max_objects]
    kept &= np.isin(np.arange(n), largest)
    if not kept.any():
        return _none(image.shape, ("objects",))
    objects = _renumbered(labels, kept)
    ids = np.arange(1, int(kept.sum()) + 1, dtype=np.int32)
    centres = np.asarray(ndimage.center_of_mass(objects > 0, objects, ids), np.float32)
    return Objects({"objects": objects}, ids, centres)


def _binary(image: NDArray[np.float32], min_contrast: float) -> NDArray[np.bool_] | None:
    """Return the Otsu foreground with holes filled, None where it does not stand out of the background."""
    from scipy import ndimage
    from skimage.filters import threshold_otsu

    if not np.isfinite(image).all() or image.min() == image.max():
        return None
    binary = image > threshold_otsu(image)
    inside, outside = image[binary], image[~binary]
    if inside.size == 0 or outside.size == 0:
        return None
    # 1.4826 MAD is the standard deviation of a normal background, whatever halo the objects add.
    centre = np.median(outside)
    noise = 1.4826 * np.median(np.abs(outside - centre))
    if inside.mean() - centre < min_contrast * noise:
        return None
    return np.asarray(ndimage.binary_fill_holes(binary))


def _component_radius(binary: NDArray[np.bool_]) -> float:
    from scipy import ndimage

    labels, _ = ndimage.label(binary)
    areas = np.bincount(labels.ravel())[1:]
    # Specks of noise are many; the parts that make up most of the foreground decide.
    areas = np.sort(areas)
    heavy = areas[np.cumsum(areas) >= 0.1 * areas.sum()]
    return max(1.5, float(np.sqrt(np.median(heavy) / np.pi)))


def _merged(
    labels: NDArray[np.int32], peaks: NDArray[np.int64], response: NDArray[np.float32], depth: float
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Join neighbours whose saddle lies less than ``depth`` below the lower of their maxima.

    One long nucleus answers with two maxima and a shallow saddle, two nuclei that touch with a deep one.
    The highest saddle goes first and the higher maximum stays (0-dimensional persistence).
    """
    a, b, height = [], [], []
    for first, second in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        left, right = labels[first], labels[second]
        meet = (left != right) & (left > 0) & (right > 0)
        a.append(np.minimum(left[meet], right[meet]))
        b.append(np.maximum(left[meet], right[meet]))
        height.append(np.minimum(response[first][meet], response[second][meet]))
    saddles: dict[tuple[int, int], float] = {}
    for i, j, h in zip(np.concatenate(a), np.concatenate(b), np.concatenate(height), strict=True):
        saddles[int(i), int(j)] = max(float(h), saddles.get((int(i), int(j)), -np.inf))
    top = [np.inf, *(float(response[r, c]) for r, c in peaks)]
    owner = list(range(len(top)))

    def root(i: int) -> int:
        while owner[i] != i:
            i = owner[i]
        return i

    for (i, j), h in sorted(saddles.items(), key=lambda item: (-item[1], item[0])):
        # Of equal maxima the first in raster order stays.
        high, low = sorted((root(i), root(j)), key=lambda k: (-top[k], k))
        if high != low and top[low] - h < depth:
            owner[low] = high
    roots = np.array([root(i) for i in range(len(owner))])
    stay = np.unique(roots[1:])
    number = np.zeros(len(owner), np.int32)
    number[stay] = np.arange(1, len(stay) + 1)
    return number[roots][labels], peaks[stay - 1]


def _cells(
    nuclei: NDArray[np.int32], channels: NDArray[Any], reach: float, config: OtsuLog
) -> NDArray[np.int32]:
    from scipy import ndimage
    from skimage.segmentation import expand_labels

    # Logarithms, because dim cytoplasm beside bright nuclei and bright cells beside dim ones are all cell.
    total = np.zeros(nuclei.shape, np.float32)
    for channel in channels:
        grey = ndimage.gaussian_filter(channel.astype(np.float32), config.smooth_px)
        if grey.max() > 0:
            total += np.log(np.maximum(grey / grey.max(), 1e-4))
    grown = expand_labels(nuclei, reach).astype(np.int32)
    stained = _binary(total, min_contrast=0.0)
    if stained is not None:
        grown[~stained & (nuclei == 0)] = 0
    return np.asarray(grown, np.int32)


def _kept(labels: NDArray[Any], n: int, min_area: float, border: Border) -> NDArray[np.bool_]:
    """Return (n,) which of labels 1..n stay."""
    kept: NDArray[np.bool_] = np.bincount(labels.ravel(), minlength=n + 1)[1:] >= max(min_area, 1)
    if border == "drop":
        touching = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
        kept[np.unique(touching[touching > 0]) - 1] = False
    return kept


def _renumbered(labels: NDArray[Any], kept: NDArray[np.bool_]) -> NDArray[np.int32]:
    number = np.concatenate([[0], np.where(kept, np.cumsum(kept), 0)]).astype(np.int32)
    return np.asarray(number[labels])


def _none(shape: tuple[int, ...], names: tuple[str, ...]) -> Objects:
    masks = {name: np.zeros(shape, np.int32) for name in names}
    return Objects(masks, np.zeros(0, np.int32), np.zeros((0, 2), np.float32))
