"""Where the planes of each field lie, and the raw pixels of one field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.datasets.tables import natural
from bench.errors import DatasetError
from bench.imaging.stored import Place, Stored
from featurizers.base import Channel

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Job:
    """One field to read: its metadata and, per channel, where its plane is (None: no row in the table)."""

    metadata: Mapping[str, Any]
    planes: tuple[Stored | None, ...]


def in_order(places: Mapping[Place, Any]) -> list[Place]:
    """Return the places sorted by plate, well and site, numbers by value."""
    return sorted(places, key=lambda place: tuple(natural(part) for part in place))


def raw_pixels(job: Job, channels: tuple[Channel, ...]) -> NDArray[Any]:
    """Return the (C, H, W) grey levels of a field in the files' own type.

    Raises
    ------
    DatasetError
        For a channel without a row or file, planes of unequal size, and NaN or infinite pixels.
    """
    planes: list[NDArray[Any]] = []
    for channel, place in zip(channels, job.planes, strict=True):
        if place is None:
            raise DatasetError(
                f"the images table has no row for channel {channel.name!r} of this field; add it, or leave "
                "the field out"
            )
        uri, plane = place.uri, place.read()
        if plane.ndim != 2:
            raise DatasetError(f"{uri}: its reader gave an array of shape {plane.shape}, not one 2-D plane")
        if planes and plane.shape != planes[0].shape:
            raise DatasetError(
                f"{uri}: channel {channel.name!r} has {plane.shape[0]} x {plane.shape[1]} pixels, channel "
                f"{channels[0].name!r} of the same field {planes[0].shape[0]} x {planes[0].shape[1]}; "
                "all channels of a field must have one size"
            )
        if plane.dtype.kind == "f" and not np.isfinite(plane).all():
            row, column = np.argwhere(~np.isfinite(plane))[0]
            raise DatasetError(
                f"{uri}: channel {channel.name!r} holds NaN or infinite pixels, the first at row {row}, "
                f"column {column}; repair the image, or leave the field out"
            )
        planes.append(plane)
    return np.stack(planes)
