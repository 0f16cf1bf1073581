"""Planes of Zarr arrays: OME-Zarr images and any array whose last two axes are height and width."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.errors import DatasetError
from bench.imaging.readers import MAX_PIXELS, Header, Reader, check_plane
from bench.imaging.remote import said

if TYPE_CHECKING:
    from numpy.typing import NDArray


class ZarrReader(Reader):
    """Arrays of Zarr formats 2 and 3, plane by plane; only the chunks of the plane are read.

    A URI is that of an array inside a folder that ends in ``.zarr``: ``plate.zarr/B/3/0/0`` is level 0 of
    site 0 of well B3 of an OME-Zarr plate. Planes are counted through the axes before height and width in C
    order: of axes (t, c, z, y, x), plane = (t · C + c) · Z + z.

    A chunk that was never written holds the array's fill value; that is the format's rule, so a lost chunk
    cannot be told from an empty one (``bench dataset check`` warns of planes with one grey level).
    """

    def claims(self, uri: str) -> bool:
        """Whether the URI lies inside a folder that ends in .zarr."""
        return is_array(uri)

    def probe(self, uri: str) -> Header:
        """Return the shape of a plane, the dtype and the number of planes."""
        with _array(uri) as array:
            return Header(_shape(uri, array), str(array.dtype), math.prod(array.shape[:-2]))

    def read(self, uri: str, plane: int) -> NDArray[Any]:
        """Return one plane."""
        with _array(uri) as array:
            height, width = _shape(uri, array)
            leading = array.shape[:-2]
            check_plane(uri, plane, math.prod(leading))
            if np.dtype(array.dtype).kind not in "buif":
                raise DatasetError(f"{uri} holds {array.dtype}, not grey levels; convert it to uint16")
            at = np.unravel_index(plane, leading) if leading else ()
            pixels: NDArray[Any] = np.asarray(array[(*map(int, at), slice(None), slice(None))])
        return np.ascontiguousarray(pixels.reshape(height, width))


def is_array(uri: str) -> bool:
    """Whether a URI names something inside a ``.zarr`` folder."""
    return ".zarr/" in uri.lower()


def files_of(uri: str) -> list[str]:
    """Return the files of a local array by their names below it: metadata and chunks, sorted."""
    root = Path(uri)
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())


@contextmanager
def _array(uri: str) -> Iterator[Any]:
    """Open an array; whatever a broken one makes of the decoders is said in a sentence."""
    import zarr

    if "://" not in uri and not Path(uri).is_dir():
        raise DatasetError(f"{uri} does not exist; restore it, or correct the images table")
    try:
        with said(uri):
            yield zarr.open_array(uri, mode="r")
    except DatasetError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DatasetError(
            f"{uri} cannot be read as a Zarr array ({reason}); copy it again from the archive"
        ) from error


def _shape(uri: str, array: Any) -> tuple[int, int]:
    if array.ndim < 2:
        raise DatasetError(f"{uri} has {array.ndim} axes; an image has height and width at least")
    height, width = (int(n) for n in array.shape[-2:])
    chunk = math.prod(array.chunks)
    if height * width > MAX_PIXELS or chunk > MAX_PIXELS:
        raise DatasetError(
            f"{uri} declares {height} x {width} pixels in chunks of {chunk}, more than the {MAX_PIXELS} a "
            "plane or chunk may have: it is damaged, or must be cut into fields and smaller chunks first"
        )
    if height * width == 0:
        raise DatasetError(f"{uri} holds no pixel; write it again or remove its row")
    return height, width
