"""OME-TIFF: planes counted by what its OME-XML says, not by the order of the pages."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.errors import DatasetError
from bench.imaging.readers import Header, TiffReader, check_plane, decode, page_shape, tiff

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
        with tiff(uri) as (file, size):
            series = _series(uri, file)
            sizes = _sizes(series)
            check_plane(uri, plane, math.prod(sizes))
            at = dict(zip(_ORDER, np.unravel_index(plane, sizes), strict=True))
            leading = [(a, n) for a, n in zip(series.axes, series.shape, strict=True) if a not in "YXS"]
            number = 0
            for axis, length in leading:
                number = number * length + int(at[axis])
            page = series.pages[number]
            if page is None:
                raise DatasetError(
                    f"{uri}: plane {plane} lies in another file of this OME-TIFF; join the files to one first"
                )
            return decode(uri, page.aspage(), size, plane, int(at["S"]))


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
