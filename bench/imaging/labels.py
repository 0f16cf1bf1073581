"""What segmentations share: cutting, declumping, choosing and numbering labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Border = Literal["keep", "drop"]


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


def cut(image: NDArray[np.float32], min_contrast: float) -> NDArray[np.bool_] | None:
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


def component_radius(binary: NDArray[np.bool_]) -> float:
    """Return the median equivalent radius √(A/π) of the connected parts of a foreground, pixels."""
    from scipy import ndimage

    labels, _ = ndimage.label(binary)
    areas = np.bincount(labels.ravel())[1:]
    # Specks of noise are many; the parts that make up most of the foreground decide.
    areas = np.sort(areas)
    heavy = areas[np.cumsum(areas) >= 0.1 * areas.sum()]
    return max(1.5, float(np.sqrt(np.median(heavy) / np.pi)))


def merged(
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


def stained(channels: NDArray[Any], smooth_px: float) -> NDArray[np.bool_] | None:
    """Return the Otsu foreground of the summed logarithms of (C, H, W) channels, None where there is none.

    Logarithms, because dim cytoplasm beside bright nuclei and bright cells beside dim ones are all cell.
    """
    from scipy import ndimage

    total = np.zeros(channels.shape[1:], np.float32)
    for channel in channels:
        grey = ndimage.gaussian_filter(channel.astype(np.float32), smooth_px)
        if grey.max() > 0:
            total += np.log(np.maximum(grey / grey.max(), 1e-4))
    return cut(total, min_contrast=0.0)


def large_enough(labels: NDArray[Any], n: int, min_area: float, border: Border) -> NDArray[np.bool_]:
    """Return (n,) which of labels 1..n stay."""
    kept: NDArray[np.bool_] = np.bincount(labels.ravel(), minlength=n + 1)[1:] >= max(min_area, 1)
    if border == "drop":
        touching = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
        kept[np.unique(touching[touching > 0]) - 1] = False
    return kept


def renumbered(labels: NDArray[Any], kept: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return the labels that are ``kept`` (n,), numbered from 1 without gaps."""
    number = np.concatenate([[0], np.where(kept, np.cumsum(kept), 0)]).astype(np.int32)
    return np.asarray(number[labels])


def nothing(shape: tuple[int, ...], names: tuple[str, ...]) -> Objects:
    """Return empty masks of these names."""
    masks = {name: np.zeros(shape, np.int32) for name in names}
    return Objects(masks, np.zeros(0, np.int32), np.zeros((0, 2), np.float32))
