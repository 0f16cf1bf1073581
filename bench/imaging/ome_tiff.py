"""OME-TIFF: planes counted by what its OME-XML says, not by the order of the pages."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.errors import DatasetError
from bench.imaging.readers import Header, TiffReader, check_plane, decode, page_shape, stamp, tiff

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ORDER = "TCZS"


class OmeTiffReader(TiffReader):
    """The first image of an ``.ome.tif``, at full resolution.

    Planes are counted over time, channel, depth and sample, whatever order the pages have in the file:
    plane = ((t · C + c) · Z + z) · S + s. So without time and depth the plane is the channel.
    """

    def claims(self, uri: str) -> bool:
        """Whether the name ends in .ome.tif or .ome.tiff."""
        return uri.lower().endswith((".ome.tif", ".ome.tiff"))

    def probe(self, uri: str) -> Header:
        """Return the header of the first page and the number of planes."""
        with tiff(uri) as (file, _):
            series = _series(uri, file)
            return Header(page_shape(uri, file.pages[0]), str(series.dtype), math.prod(_sizes(series)))

    def read(self, uri: str, plane: int) -> NDArray[Any]:
        """Return one plane; one that lies in another file of a set is an error that says so."""
        known = stamp(uri)
        layout = _remembered(uri, known) if any(known) else _layout(uri)
        check_plane(uri, plane, math.prod(layout.sizes))
        at = dict(zip(_ORDER, np.unravel_index(plane, layout.sizes), strict=True))
        number = 0
        for axis, length in layout.leading:
            number = number * length + int(at[axis])
        page = layout.pages[number]
        if page is None:
            raise DatasetError(
                f"{uri}: plane {plane} lies in another file of this OME-TIFF; join the files to one first"
            )
        with tiff(uri) as (file, size):
            return decode(uri, file.pages[page], size, plane, int(at["S"]))


@dataclass(frozen=True, slots=True)
class _Layout:
    """What the OME-XML says: lengths of T, C, Z and S, axes of the pages in order, index of each page."""

    sizes: tuple[int, ...]
    leading: tuple[tuple[str, int], ...]
    pages: tuple[int | None, ...]


def _layout(uri: str) -> _Layout:
    with tiff(uri) as (file, _):
        series = _series(uri, file)
        leading = [(a, int(n)) for a, n in zip(series.axes, series.shape, strict=True) if a not in "YXS"]
        own = [None if p is None or p.parent is not file else int(p.index) for p in series.pages]
        return _Layout(_sizes(series), tuple(leading), tuple(own))


@functools.lru_cache(maxsize=32)
def _remembered(uri: str, _stamp: tuple[int, int]) -> _Layout:
    """Return the layout, kept while the file is the same: its XML costs as much as a plane's pixels."""
    return _layout(uri)


def _series(uri: str, file: Any) -> Any:
    if not file.is_ome:
        raise DatasetError(f"{uri} holds no OME-XML; name it .tif, or write it again as OME-TIFF")
    series = file.series[0]
    unknown = sorted(set(series.axes) - set("TCZSYX"))
    if unknown:
        raise DatasetError(f"{uri} has axes {series.axes}; planes are counted over T, C and Z only")
    return series


def _sizes(series: Any) -> tuple[int, ...]:
    sizes = dict(zip(series.axes, series.shape, strict=True))
    return tuple(int(sizes.get(axis, 1)) for axis in _ORDER)
