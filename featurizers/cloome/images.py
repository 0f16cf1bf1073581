"""From a field to the network's window: eight-bit grey levels, resampling, a window."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from featurizers.crops import checked_pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from featurizers.base import Field
    from featurizers.cloome.config import Grey, Scaling
    from featurizers.training.pixels import Statistics

EIGHT_BIT = {"eight-bit-256": (0.0028e-2, 256.0), "eight-bit-255": (0.01e-2, 255.0)}
"""Share of pixels that saturate, and the level of the darkest of them before it is cut to 255."""


def eight_bit(plane: NDArray[np.generic], share: float, top: float) -> NDArray[np.uint8]:
    """Return a plane in 256 levels: x → min(255, ⌊top x / t⌋), below 0 at 0.

    t is the darkest of the brightest round(``share`` H W) pixels, of at least one (our reading for images of
    fewer than 1 / ``share`` pixels, where the published code divides by the darkest). A plane without
    light stays 0.

    Parameters
    ----------
    plane
        (H, W).

    Notes
    -----
    Source: released code of CLOOME, ``preprocess_image.py`` (0.0028 %, 256) and the wrapper (0.01 %, 255).
    """
    levels = plane.astype(np.float64)
    count = max(1, int(np.around(share * levels.size)))
    threshold = np.partition(levels, levels.size - count, axis=None)[levels.size - count]
    if threshold <= 0:
        return np.zeros(levels.shape, np.uint8)
    scaled_levels: NDArray[np.float64] = np.clip(levels * (top / threshold), 0.0, 255.0)
    return scaled_levels.astype(np.uint8)


def prepared(field: Field, grey: Grey, rescale: float) -> NDArray[np.float32]:
    """Return a field's grey levels (C, H', W') float32, resampled after the levels are set.

    Resampling is bilinear, with a Gaussian against aliasing where it shrinks.
    """
    pixels = checked_pixels(field)
    if grey == "raw":
        planes = pixels.astype(np.float32)
    else:
        share, top = EIGHT_BIT[grey]
        planes = np.stack([eight_bit(plane, share, top) for plane in pixels]).astype(np.float32)
    if rescale == 1.0:
        return planes
    from skimage.transform import resize

    shape = tuple(max(1, round(edge * rescale)) for edge in planes.shape[1:])
    resampled = [
        resize(plane, shape, order=1, anti_aliasing=rescale < 1, preserve_range=True) for plane in planes
    ]
    return np.stack(resampled).astype(np.float32)


def central(planes: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Return the middle (C, ``height``, ``width``) of planes (C, H, W), padded with 0 where they are smaller.

    The window begins at round((H − height) / 2), halves to even; of an odd padding the larger part is below
    and right.
    """
    for axis, wanted in ((1, height), (2, width)):
        have = planes.shape[axis]
        if have < wanted:
            before = (wanted - have) // 2
            padding = [(0, 0)] * 3
            padding[axis] = (before, wanted - have - before)
            planes = np.pad(planes, padding)
        first = round((planes.shape[axis] - wanted) / 2)
        planes = planes.take(range(first, first + wanted), axis=axis)
    return planes


def scaled(windows: Tensor, scaling: Scaling, statistics: Statistics | None) -> Tensor:
    """Return (x − m) / s per channel; a channel without variance becomes 0.

    ``"dataset"``: m and s are ``statistics``. ``"field"``: the window's own mean and sample deviation, to
    which 1e-7 is added.

    Parameters
    ----------
    windows
        (N, C, H, W) float32 grey levels.
    """
    import torch

    if scaling == "field":
        mean = windows.mean(dim=(2, 3), keepdim=True)
        std = windows.std(dim=(2, 3), keepdim=True)
        # rounding leaves a constant channel with a tiny spread that must not be blown up
        return torch.where(std > 1e-6 * mean.abs(), (windows - mean) / (std + 1e-7), 0.0)
    assert statistics is not None
    mean = torch.as_tensor(statistics.mean, device=windows.device)[None, :, None, None]
    std = torch.as_tensor(statistics.std, device=windows.device)[None, :, None, None]
    return torch.where(std > 0, (windows - mean) / torch.where(std > 0, std, 1.0), 0.0)
