"""Where a channel of a field lies, and how its pixels come from there: projection, illumination function."""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.datasets.tables import PLATE, SITE, WELL, normalise_well, region_of
from bench.errors import DatasetError
from bench.imaging.projection import project
from bench.imaging.readers import opened, read_plane, reader_for, stamp

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from bench.datasets.model import Dataset, Rule

Place = tuple[str, str, str]
"""Plate, well and site."""

VERSION = 1
"""Raised when the same function would correct a plane otherwise; part of the feature key."""

_FUNCTIONS = 8
"""Illumination functions kept in memory: those of one plate's channels."""

_PLANES = 4
"""Whole planes kept in memory to cut regions from: the bands of one image."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One channel of one field as it lies on disk.

    Parameters
    ----------
    places
        (URI, plane) of each plane of its z-stack; one where there is no stack.
    projection
        Rule for several planes.
    function
        URI of the illumination function to divide by; empty for none.
    bit_depth
        Significant bits of the images, which a corrected plane keeps.
    region
        The part of the image that is the field, ``x,y,width,height``; empty for all.
    """

    places: tuple[tuple[str, int], ...]
    projection: Rule = ""
    function: str = ""
    bit_depth: int = 16
    region: str = ""

    @property
    def uri(self) -> str:
        """The first file, to name the channel by in messages."""
        return self.places[0][0]

    def read(self) -> NDArray[Any]:
        """Return (H, W) in the file's dtype.

        Raises
        ------
        DatasetError
            Naming the file; when several planes stand here without a rule, or the function does not fit.
        """
        if len(self.places) > 1 and not self.projection:
            raise DatasetError(
                f"{self.uri}: {len(self.places)} images of one channel of one site and no rule; set "
                'projection = "max" or "mean" under [images], or keep one'
            )
        if len(self.places) == 1:
            pixels = read_region(*self.places[0], self.region)
        else:
            planes = ((u, read_region(u, p, self.region)) for u, p in self.places)
            pixels = project(planes, self.projection)
        return divide(pixels, self.function, self.uri, self.bit_depth) if self.function else pixels


def planes_of(
    dataset: Dataset, wells: pd.DataFrame | None = None, plate: str | None = None
) -> dict[Place, dict[str, Stored]]:
    """Return (plate, well, site) to channel to where it lies, of all wells or of those in ``wells``.

    Parameters
    ----------
    plate
        Take this plate only.
    """
    if dataset.images is None:
        return {}
    images = dataset.images if plate is None else dataset.images[dataset.images[PLATE] == plate]
    chosen = None
    if wells is not None:
        chosen = {(str(p), normalise_well(str(w))) for p, w in zip(wells[PLATE], wells[WELL], strict=True)}
        # A unit of work asks for a few wells of a table that may have millions of rows.
        images = images[images[PLATE].isin({p for p, _ in chosen})]
        names = {w: normalise_well(str(w)) for w in images[WELL].unique()}
        images = images[images[WELL].isin([w for w, name in names.items() if name in {c for _, c in chosen}])]
    functions: dict[tuple[str, str], str] = {}
    if dataset.illumination is not None:
        table = (dataset.illumination[c] for c in (PLATE, "Channel", "URI"))
        functions = {(str(p), str(c)): str(u) for p, c, u in zip(*table, strict=True)}
    places: dict[Place, dict[str, list[tuple[str, int]]]] = {}
    regions: dict[tuple[Place, str], str] = {}
    parts = images["Region"] if "Region" in images.columns else [""] * len(images)
    columns = (images[c] for c in (PLATE, WELL, SITE, "Channel", "URI", "Plane"))
    for barcode, name, site, channel, uri, plane, region in zip(*columns, parts, strict=True):
        well = normalise_well(str(name))
        if chosen is None or (str(barcode), well) in chosen:
            field = places.setdefault((str(barcode), well, str(site)), {})
            field.setdefault(str(channel), []).append((str(uri), int(plane)))
            if region:
                regions[(str(barcode), well, str(site)), str(channel)] = str(region)
    rule, depth = dataset.projection, dataset.bit_depth
    return {
        key: {
            c: Stored(tuple(at), rule, functions.get((key[0], c), ""), depth, regions.get((key, c), ""))
            for c, at in by.items()
        }
        for key, by in places.items()
    }


def read_region(uri: str, plane: int, region: str) -> NDArray[Any]:
    """Return one plane, or the part of it that ``region`` names; the whole plane is decoded once, then kept.

    Raises
    ------
    DatasetError
        When the file cannot be read, or the region reaches beyond it.
    """
    if not region:
        return read_plane(uri, plane)
    whole = _whole(uri, plane, stamp(uri))
    bounds = region_of(region)
    if bounds is None or bounds[0] + bounds[2] > whole.shape[1] or bounds[1] + bounds[3] > whole.shape[0]:
        raise DatasetError(
            f"{uri}: region {region} reaches beyond the image, which is {whole.shape[1]} wide and "
            f"{whole.shape[0]} high; correct Region in the images table"
        )
    x, y, width, height = bounds
    return whole[y : y + height, x : x + width].copy()


def shape_of(uri: str, region: str) -> tuple[int, int]:
    """Return (H, W) of a field by its region, else by the header of its file."""
    bounds = region_of(region) if region else None
    return reader_for(uri)[1].probe(uri).shape if bounds is None else (bounds[3], bounds[2])


@functools.lru_cache(maxsize=_PLANES)
def _whole(uri: str, plane: int, _stamp: tuple[int, int]) -> NDArray[Any]:
    pixels = read_plane(uri, plane)
    pixels.setflags(write=False)
    return pixels


def key_of(dataset: Dataset) -> dict[str, Any]:
    """Return what a z-rule and illumination functions add to the preprocessing key; nothing without them.

    The functions' contents enter with the images of their plate
    (:func:`bench.datasets.manifest.image_manifest`).
    """
    key: dict[str, Any] = {"projection": dataset.projection} if dataset.projection else {}
    if dataset.illumination is not None:
        key["illumination_functions"] = {"rule": "divide", "version": VERSION}
    return key


def divide(pixels: NDArray[Any], function: str, uri: str, bit_depth: int) -> NDArray[Any]:
    """Return pixels divided by an illumination function, as CellProfiler's CorrectIlluminationApply does.

    Integers are rounded to the nearest grey level and cut at the largest of ``bit_depth``, so that dtype and
    range stay those of the files (at most half a grey level is lost below the cut); floats stay floats.

    Parameters
    ----------
    pixels
        (H, W).
    function
        URI of a ``.npy`` file of the same shape, positive everywhere.
    """
    check_function(function, pixels.shape, f"the image {uri}")
    out: NDArray[Any] = pixels / _function(function, stamp(function))
    if pixels.dtype.kind in "ui":
        top = min(2**bit_depth - 1, int(np.iinfo(pixels.dtype).max))
        out = np.clip(np.rint(out), 0, top)
    return out.astype(pixels.dtype)


def check_function(function: str, shape: tuple[int, ...], what: str) -> None:
    """Refuse an illumination function that cannot be read or has another shape than ``what`` has."""
    values = _function(function, stamp(function))
    if values.shape != shape:
        raise DatasetError(
            f"{function}: the illumination function is {values.shape}, {what} is {shape}; "
            "functions must be made from images of this size"
        )


@functools.lru_cache(maxsize=_FUNCTIONS)
def _function(uri: str, _stamp: tuple[int, int]) -> NDArray[np.float64]:
    with opened(uri) as handle:
        try:
            values = np.load(io.BytesIO(handle.read()), allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise DatasetError(
                f"{uri} is not an array of numbers in NumPy's .npy format ({error}); write it again with "
                "numpy.save"
            ) from error
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.dtype.kind not in "fui":
        raise DatasetError(f"{uri}: an illumination function is one 2-D array of numbers; write it again")
    out: NDArray[np.float64] = values.astype(np.float64)
    if not (np.isfinite(out).all() and (out > 0).all()):
        raise DatasetError(f"{uri}: the illumination function is not positive everywhere; compute it again")
    out.setflags(write=False)
    return out
