"""Readers: one image plane from one file, or a sentence that says why not."""

from __future__ import annotations

import functools
import importlib
import logging
from abc import ABC, abstractmethod
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from bench.errors import DatasetError
from bench.imaging.remote import said

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

# What tifffile logs of a broken file is said in the error; without a handler it would reach the terminal.
_NO_LOG = logging.NullHandler()

MAX_PIXELS = 2**28
"""A plane that declares more (16,384 x 16,384) is refused before memory is asked for."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself: ``shape`` (H, W) of a plane, ``dtype`` name, number of ``planes``."""

    shape: tuple[int, int]
    dtype: str
    planes: int


class Reader(ABC):
    """The contract of a reader: no state, no arguments, one plane at a time."""

    version: str = "1"
    """Raised when the same file would give other numbers; part of the feature key."""

    @abstractmethod
    def claims(self, uri: str) -> bool:
        """Whether this reader takes files of this name."""

    @abstractmethod
    def probe(self, uri: str) -> Header:
        """Return the header without decoding pixels; a :class:`bench.errors.DatasetError` if unreadable."""

    @abstractmethod
    def read(self, uri: str, plane: int) -> NDArray[Any]:
        """Return plane ``plane`` (0-based) as (H, W) in the file's dtype.

        Raises
        ------
        bench.errors.DatasetError
            One sentence that names the file and the remedy.
        """


class TiffReader(Reader):
    """TIFF and ImageJ stacks; what ends in ``.ome.tif`` has a reader of its own.

    Planes are counted through the pages in file order, and within a page through its samples: plane
    = page · samples + sample. So a channel-first stack of five pages has planes 0-4, and an RGB page
    planes 0-2.
    """

    def claims(self, uri: str) -> bool:
        """Whether the name ends in .tif, .tiff, .flex or .stk."""
        return uri.lower().endswith((".tif", ".tiff", ".flex", ".stk"))

    def probe(self, uri: str) -> Header:
        """Return the header of the first page and the number of planes."""
        with tiff(uri) as (file, _):
            page = file.pages[0]
            return Header(page_shape(uri, page), str(page.dtype), len(file.pages) * _samples(page))

    def read(self, uri: str, plane: int) -> NDArray[Any]:
        """Return one plane; a file that ends before its pixels do is an error, never zeros."""
        with tiff(uri) as (file, size):
            samples = _samples(file.pages[0])
            check_plane(uri, plane, len(file.pages) * samples)
            return decode(uri, file.pages[plane // samples], size, plane, plane % samples)


def decode(uri: str, page: Any, size: int, plane: int, sample: int) -> NDArray[Any]:
    """Return one sample of one page of a TIFF of ``size`` bytes as (H, W); ``plane`` is for messages."""
    shape = page_shape(uri, page)
    ends = [o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if not ends or min(page.databytecounts) == 0 or max(ends) > size:
        raise DatasetError(
            f"{uri} is truncated: plane {plane} should end at byte {max(ends, default=0)}, the file "
            f"has {size}; copy it again from the microscope or the archive"
        )
    pixels = page.asarray(maxworkers=1)
    if _samples(page) > 1:
        # Planar pages come samples-first, interleaved ones samples-last.
        pixels = pixels.take(sample, axis=page.axes.index("S"))
    if pixels.dtype.kind not in "buif" or pixels.size != shape[0] * shape[1]:
        raise DatasetError(
            f"{uri} is damaged: plane {plane} decodes to {pixels.shape} {pixels.dtype}, the header "
            f"says {shape}; copy it again from the microscope or the archive"
        )
    plane_of_pixels: NDArray[Any] = pixels.reshape(shape)
    return plane_of_pixels


class RasterReader(Reader):
    """PNG and JPEG; the planes of a colour image are its bands."""

    def claims(self, uri: str) -> bool:
        """Whether the name ends in .png, .jpg or .jpeg."""
        return uri.lower().endswith((".png", ".jpg", ".jpeg"))

    def probe(self, uri: str) -> Header:
        """Return the header; bands of a palette image are those of its colours."""
        import numpy as np

        with _raster(uri) as image:
            dtype = "uint16" if image.mode.startswith("I") else "uint8"
            return Header((image.height, image.width), str(np.dtype(dtype)), len(image.getbands()))

    def read(self, uri: str, plane: int) -> NDArray[Any]:
        """Return one band."""
        import numpy as np

        with _raster(uri) as image:
            check_plane(uri, plane, len(image.getbands()))
            pixels = np.asarray(image)
        if pixels.dtype == np.int32:  # Pillow's mode of a 16-bit PNG
            pixels = pixels.astype(np.uint16)
        return np.ascontiguousarray(pixels if pixels.ndim == 2 else pixels[:, :, plane])


BUILT_IN = {
    "zarr": "bench.imaging.zarrs:ZarrReader",
    "ome-tiff": "bench.imaging.ome_tiff:OmeTiffReader",
    "tiff": "bench.imaging.readers:TiffReader",
    "raster": "bench.imaging.readers:RasterReader",
}
"""Our readers in the order in which they are asked, as ``module:class``."""


@functools.lru_cache(maxsize=1)
def installed() -> tuple[tuple[str, Reader], ...]:
    """Return the readers of this process by name: those of other packages first, then ours.

    A package's reader that cannot be imported is left out here; ``bench plugin`` shows its reason.
    """
    from bench.registry import Registry

    registry = Registry()
    outside = [e for e in registry.probe("readers") if e.name not in BUILT_IN and e.error is None]
    return (
        *((f"{e.name} ({e.origin})", registry.get("readers", e.name)()) for e in outside),
        *((name, _built_in(place)) for name, place in BUILT_IN.items()),
    )


def _built_in(place: str) -> Reader:
    module, _, name = place.partition(":")
    reader: Reader = getattr(importlib.import_module(module), name)()
    return reader


def reader_for(uri: str, readers: Sequence[tuple[str, Reader]] | None = None) -> tuple[str, Reader]:
    """Return the first reader that claims ``uri``, with its name."""
    for name, reader in installed() if readers is None else readers:
        if reader.claims(uri):
            return name, reader
    raise DatasetError(
        f"{uri}: no reader takes files of this name; convert it to TIFF, or install a package with a reader "
        "(entry point group wellbench.readers)"
    )


def read_plane(uri: str, plane: int) -> NDArray[Any]:
    """Read one plane with whichever reader claims the file; what a plugin raises becomes a sentence."""
    name, reader = reader_for(uri)
    try:
        return reader.read(uri, plane)
    except DatasetError:
        raise
    except Exception as error:
        raise DatasetError(
            f"{uri}: reader {name} failed ({type(error).__name__}: {error}); tell its author, or convert "
            "the file"
        ) from error


def check_plane(uri: str, plane: int, planes: int) -> None:
    """Raise when ``plane`` is not one of ``planes`` planes."""
    if not 0 <= plane < planes:
        raise DatasetError(
            f"{uri} has {planes} plane{'s' if planes > 1 else ''} and plane {plane} is asked for (counted "
            "from 0); correct Plane in the images table"
        )


def stamp(uri: str) -> tuple[int, int]:
    """Return size and time of a local file, so that what is remembered of it ends when it changes."""
    path = Path(uri)
    if "://" in uri or not path.is_file():
        return (0, 0)
    status = path.stat()
    return (status.st_size, status.st_mtime_ns)


@contextmanager
def opened(uri: str) -> Iterator[BinaryIO]:
    """Open a local or remote file, its absence said in a sentence."""
    import fsspec

    with said(uri), fsspec.open(uri, "rb") as handle:
        yield handle


@contextmanager
def tiff(uri: str) -> Iterator[tuple[Any, int]]:
    """Open a TIFF; yield it and its size in bytes. Whatever the decoder makes of a broken file is said."""
    import tifffile

    tifffile.logger().addHandler(_NO_LOG)
    with opened(uri) as handle:
        size = handle.seek(0, 2)
        handle.seek(0)
        if size == 0:
            raise DatasetError(f"{uri} is empty; copy it again from the microscope or the archive")
        try:
            with tifffile.TiffFile(handle) as file:
                if len(file.pages) == 0:
                    raise DatasetError(f"{uri} holds no image; copy it again or remove its row")
                yield file, size
        except DatasetError:
            raise
        except tifffile.TiffFileError as error:
            raise DatasetError(f"{uri} is not a TIFF ({error}); replace it or correct its name") from error
        except Exception as error:
            # A corrupt directory or stream surfaces as nearly any type from the decoders.
            raise DatasetError(
                f"{uri} is damaged ({type(error).__name__}: {error}); copy it again from the microscope "
                "or the archive"
            ) from error


def _samples(page: Any) -> int:
    return int(page.samplesperpixel)


def page_shape(uri: str, page: Any) -> tuple[int, int]:
    """Return (H, W) of a page, refusing sizes that no field has."""
    height, width = int(page.imagelength), int(page.imagewidth)
    if height * width > MAX_PIXELS:
        raise DatasetError(
            f"{uri} declares {height} x {width} pixels, more than the {MAX_PIXELS} a plane may have: it "
            "is damaged, or a slide that must be cut into fields first"
        )
    if height * width == 0 or int(page.imagedepth) != 1:
        raise DatasetError(f"{uri} is not made of 2-D planes; export it as a stack of pages")
    return height, width


@contextmanager
def _raster(uri: str) -> Iterator[Any]:
    from PIL import Image, UnidentifiedImageError

    # Our limit stands in for Pillow's, which is lower and would warn of every microscope slide.
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    with opened(uri) as handle:
        try:
            with Image.open(handle) as image:
                if image.height * image.width > MAX_PIXELS:
                    raise DatasetError(
                        f"{uri} declares {image.height} x {image.width} pixels: cut it into fields"
                    )
                yield image.convert("RGB") if image.mode == "P" else image
        except UnidentifiedImageError as error:
            raise DatasetError(f"{uri} is not an image; replace it or correct its name") from error
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise DatasetError(f"{uri} is damaged or truncated ({error}); copy it again") from error
