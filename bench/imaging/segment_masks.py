"""``masks``: label images that someone else made, read from files beside the images."""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bench.datasets.tables import PLATE, SITE, WELL, locate
from bench.errors import DatasetError
from bench.imaging.configs import TABLE
from bench.imaging.labels import Objects
from bench.imaging.planes import Job, in_order
from bench.imaging.readers import read_plane
from bench.imaging.stored import planes_of

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from bench.datasets.model import Dataset

NAMES = ("nuclei", "cells", "objects", "cytoplasm")


@dataclass(frozen=True, slots=True)
class Masks:
    """Settings of ``masks``: where each mask's file is.

    Parameters
    ----------
    nuclei, cells, objects, cytoplasm
        Path, relative to the dataset's folder, with ``{plate}``, ``{well}``, ``{site}`` and, by a channel's
        name, the name of its image file without suffix: ``"masks/{DNA}_nuclei.tif"``. Empty: no such mask.
    labels
        ``ids``: pixels hold object ids, shared between the masks of one object; ids may have gaps and are
        kept. ``binary``: connected parts of what is not 0 become objects; for a single mask.
    """

    nuclei: str = ""
    cells: str = ""
    objects: str = ""
    cytoplasm: str = ""
    labels: Literal["ids", "binary"] = "ids"

    def patterns(self) -> dict[str, str]:
        """Return the patterns that are set, by mask, the one that decides the objects first."""
        given = {name: str(getattr(self, name)) for name in NAMES}
        return {name: pattern for name, pattern in given.items() if pattern}


def check(config: Masks, channels: tuple[str, ...]) -> None:
    """Refuse settings that name no mask or use an unknown placeholder.

    Raises
    ------
    DatasetError
        With the placeholders that there are.
    """
    patterns = config.patterns()
    if not patterns:
        raise DatasetError(
            f"{TABLE}: masks needs at least one of {', '.join(NAMES)}: the pattern of its files"
        )
    if config.labels == "binary" and len(patterns) > 1:
        raise DatasetError(
            f"{TABLE}: labels = 'binary' is for one mask, because the objects of several cannot be matched; "
            f"name one of {', '.join(patterns)}, or label the files with shared ids"
        )
    known = ("plate", "well", "site", *channels)
    for name, pattern in patterns.items():
        used = [field for _, field, _, _ in string.Formatter().parse(pattern) if field is not None]
        for field in used:
            if field not in known:
                raise DatasetError(
                    f"{TABLE}: {name} = {pattern!r} uses {{{field}}}; known are "
                    + ", ".join(f"{{{k}}}" for k in known)
                )


def files(config: Masks, job: Job, channels: tuple[str, ...], root: Path) -> dict[str, str]:
    """Return the absolute path of each mask's file for one field."""
    values: dict[str, Any] = {
        name: PurePosixPath(place.uri).stem
        for name, place in zip(channels, job.planes, strict=True)
        if place is not None
    }
    values |= {"plate": job.metadata[PLATE], "well": job.metadata[WELL], "site": job.metadata[SITE]}
    try:
        return {name: locate(root, p.format_map(values)) for name, p in config.patterns().items()}
    except KeyError as error:
        raise DatasetError(
            f"the images table has no row for channel {error} of this field, whose name finds its masks"
        ) from error


def of_plate(config: Masks, dataset: Dataset, plate: str) -> list[str]:
    """Return the mask files of a plate in order; what they hold is part of what its features are made of."""
    names = tuple(c.name for c in dataset.channels)
    planes = planes_of(dataset, plate=plate)
    found: list[str] = []
    for place in in_order(planes):
        metadata = dict(zip((PLATE, WELL, SITE), place, strict=True))
        job = Job(metadata, tuple(planes[place].get(name) for name in names))
        try:
            found += files(config, job, names, dataset.root).values()
        except DatasetError:
            continue  # the field fails, with this reason, when it is read
    return found


def masks(found: Mapping[str, str], shape: tuple[int, ...], config: Masks) -> Objects:
    """Read the masks of one field.

    The objects are those of the first mask (nuclei, else cells, else objects, else cytoplasm); ids that only
    another mask has are dropped from it. A centre is the mean of an object's pixels in the first mask.

    Parameters
    ----------
    found
        File by mask, of :func:`files`.
    shape
        (H, W) of the field's images.
    config
        Settings.

    Raises
    ------
    DatasetError
        For a missing file, a mask of another size than the images, or pixels that are no ids.
    """
    from scipy import ndimage

    read = {name: _labels(uri, shape) for name, uri in found.items()}
    first = next(iter(read))
    if config.labels == "binary":
        read[first] = np.asarray(ndimage.label(read[first] > 0)[0], np.int32)
    ids = np.unique(read[first])
    ids = ids[ids > 0]
    for name, labels in read.items():
        if name != first:
            read[name] = np.where(np.isin(labels, ids), labels, 0).astype(np.int32)
    centres = np.asarray(ndimage.center_of_mass(read[first] > 0, read[first], ids), np.float32)
    return Objects(read, ids.astype(np.int32), centres.reshape(-1, 2))


def _labels(uri: str, shape: tuple[int, ...]) -> NDArray[np.int32]:
    labels = read_plane(uri, 0)
    if labels.shape != tuple(shape):
        raise DatasetError(
            f"{uri}: the mask has {labels.shape[0]} x {labels.shape[1]} pixels, the field's images "
            f"{shape[0]} x {shape[1]}; export it at the size of the images"
        )
    if labels.dtype.kind == "f" and not np.array_equal(labels, np.round(labels)):
        raise DatasetError(f"{uri}: the mask holds fractions; an object id is a whole number")
    if labels.min() < 0 or labels.max() >= 2**31:
        raise DatasetError(
            f"{uri}: the mask holds {labels.min()} to {labels.max()}; ids run from 0 to 2^31 - 1"
        )
    return labels.astype(np.int32)
