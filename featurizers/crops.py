"""Single-cell crops: square windows around the objects of a field, with the object's own mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from featurizers.base import FeaturizerError, Field
from featurizers.fields import where

if TYPE_CHECKING:
    from numpy.typing import NDArray

MaskName = Literal["outermost", "cells", "objects", "nuclei", "none"]
Background = Literal["zero", "keep"]
Border = Literal["pad", "drop"]

_OUTERMOST = ("cells", "objects", "nuclei")


@dataclass(frozen=True, slots=True, eq=False)
class Crops:
    """Crops of one field, in ascending order of object id.

    Parameters
    ----------
    pixels
        (n, C, S, S) float32 grey levels. What lies outside the field is 0.
    inside
        (n, S, S) bool, True on the crop's own object; with ``mask="none"`` True inside the field.
    ids
        (n,) int32 object ids.
    """

    pixels: NDArray[np.float32]
    inside: NDArray[np.bool_]
    ids: NDArray[np.int32]


def cut(
    field: Field,
    size: int,
    *,
    scale: float = 1.0,
    mask: MaskName = "outermost",
    background: Background = "zero",
    border: Border = "pad",
) -> Crops:
    """Cut one square crop per object, centred on the object's centre.

    The field is resampled by s = ``scale`` (bilinear with a Gaussian against aliasing, masks by nearest
    neighbour). The window of a centre (r, c) begins at row floor(s r + 1/2) - size // 2 and at the column
    that follows likewise from c.

    Parameters
    ----------
    field
        Field with ``pixels`` (C, H, W), ``centres``, ``ids`` and the named mask.
    size
        Edge S of the crop in pixels, after resampling.
    scale
        Crop pixels per field pixel; below 1 a larger part of the field is seen.
    mask
        Which label image says what belongs to the object: the one of that name; ``"outermost"`` the first
        that the field has of cells, objects, nuclei; ``"none"`` everything inside the field. An object
        without any pixel in it is left out.
    background
        ``"zero"`` sets everything outside the object to 0, other objects included; ``"keep"`` leaves it.
    border
        ``"pad"`` fills what lies outside the field with 0; ``"drop"`` leaves such objects out.

    Returns
    -------
    Crops
        Possibly none (n = 0). The field is not changed.

    Raises
    ------
    FeaturizerError
        When pixels or the mask are missing, shapes differ, or a pixel is not finite.
    """
    for name, value, menu in (
        ("mask", mask, MaskName),
        ("background", background, Background),
        ("border", border, Border),
    ):
        if value not in get_args(menu):
            msg = f"crops: {name} is {value!r}; choose one of {', '.join(get_args(menu))}"
            raise FeaturizerError(msg)
    if size < 1 or not scale > 0:
        msg = f"crops: size is {size} and scale {scale}; both must be positive"
        raise FeaturizerError(msg)

    planes = checked_pixels(field)
    labels = None if mask == "none" else _labels(field, mask)
    centres = np.asarray(field.centres, dtype=np.float64).reshape(-1, 2) * scale
    if scale != 1.0:
        planes, labels = _resample(planes, labels, scale)
    height, width = planes.shape[1:]

    order = np.argsort(field.ids, kind="stable")
    ids = np.asarray(field.ids, dtype=np.int32)[order]
    # first row and column of each window, in coordinates of the resampled field
    first = np.floor(centres[order] + 0.5).astype(np.int64) - size // 2
    if border == "drop":
        whole = np.all((first >= 0) & (first + size <= (height, width)), axis=1)
        ids, first = ids[whole], first[whole]

    pixels = np.zeros((len(ids), len(planes), size, size), np.float32)
    inside = np.zeros((len(ids), size, size), np.bool_)
    for k, (top, left) in enumerate(first):
        rows = slice(max(top, 0), min(top + size, height))
        columns = slice(max(left, 0), min(left + size, width))
        if rows.start >= rows.stop or columns.start >= columns.stop:
            continue
        there = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
        pixels[k][:, there[0], there[1]] = planes[:, rows, columns]
        inside[k][there] = True if labels is None else labels[rows, columns] == ids[k]

    seen = inside.any(axis=(1, 2))
    pixels, inside, ids = pixels[seen], inside[seen], ids[seen]
    if background == "zero":
        pixels *= inside[:, None]
    return Crops(pixels, inside, ids)


def checked_pixels(field: Field) -> NDArray[Any]:
    """Return the field's pixels (C, H, W) after checking that they exist and are finite."""
    if field.pixels is None or field.pixels.ndim != 3:
        msg = f"{where(field)} has no (channel, row, column) pixels; declare 'pixels' in the card's needs"
        raise FeaturizerError(msg)
    if field.pixels.dtype.kind == "f" and not np.isfinite(field.pixels).all():
        msg = f"{where(field)} has NaN or infinite pixels; replace or exclude this image"
        raise FeaturizerError(msg)
    return field.pixels


def _labels(field: Field, mask: str) -> NDArray[np.int32]:
    names = _OUTERMOST if mask == "outermost" else (mask,)
    labels = next((field.masks[name] for name in names if name in field.masks), None)
    if labels is None:
        have = ", ".join(sorted(field.masks)) or "none"
        msg = (
            f"{where(field)} has no mask of {', '.join(names)} (it has {have}); choose another or mask='none'"
        )
        raise FeaturizerError(msg)
    assert field.pixels is not None
    if labels.shape != field.pixels.shape[1:]:
        msg = f"{where(field)}: mask {mask!r} is {labels.shape}, the image {field.pixels.shape[1:]}"
        raise FeaturizerError(msg)
    return labels


def _resample(
    planes: NDArray[Any], labels: NDArray[np.int32] | None, scale: float
) -> tuple[NDArray[np.float32], NDArray[np.int32] | None]:
    from skimage.transform import resize

    shape = tuple(max(1, round(edge * scale)) for edge in planes.shape[1:])
    resampled = np.stack(
        [
            resize(p.astype(np.float32), shape, order=1, anti_aliasing=scale < 1, preserve_range=True)
            for p in planes
        ]
    ).astype(np.float32)
    if labels is None:
        return resampled, None
    # nearest neighbour by index: label values must never be mixed or pass through floats
    rows, columns = (
        np.minimum(((np.arange(new) + 0.5) / new * old).astype(np.int64), old - 1)
        for new, old in zip(shape, labels.shape, strict=True)
    )
    return resampled, labels[np.ix_(rows, columns)]
