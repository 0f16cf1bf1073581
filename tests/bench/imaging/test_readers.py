"""Readers give the plane that was written, or one sentence that names the file and the remedy."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bench.errors import DatasetError
from bench.imaging import readers
from bench.imaging.readers import Header, RasterReader, TiffReader

TIFF, RASTER = TiffReader(), RasterReader()


def stack(planes: int = 3, shape: tuple[int, int] = (20, 31), dtype=np.uint16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 250, (planes, *shape)).astype(dtype)


def pixels_or_reason(path: Path, plane: int) -> np.ndarray | str:
    try:
        return TIFF.read(str(path), plane)
    except DatasetError as error:
        return str(error)


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "zstd"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_every_page_of_a_stack_is_a_plane(tmp_path, compression, dtype):
    written = stack(dtype=dtype)
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, written, compression=compression, photometric="minisblack")
    assert TIFF.probe(str(path)) == Header((20, 31), np.dtype(dtype).name, 3)
    for i, plane in enumerate(written):
        read = TIFF.read(str(path), i)
        assert read.dtype == dtype
        np.testing.assert_array_equal(read, plane)


@pytest.mark.parametrize("layout", ["contig", "separate"])
def test_the_samples_of_a_colour_page_are_planes_in_either_layout(tmp_path, layout):
    written = stack(dtype=np.uint8)
    path = tmp_path / "rgb.tif"
    pixels = np.moveaxis(written, 0, -1) if layout == "contig" else written
    tifffile.imwrite(path, pixels, photometric="rgb", planarconfig=layout)
    assert TIFF.probe(str(path)).planes == 3
    for i, plane in enumerate(written):
        np.testing.assert_array_equal(TIFF.read(str(path), i), plane)


def test_an_imagej_hyperstack_is_read_in_file_order(tmp_path):
    written = stack(6).reshape(2, 3, 20, 31)
    path = tmp_path / "ij.tif"
    tifffile.imwrite(path, written, imagej=True, metadata={"axes": "ZCYX"})
    assert TIFF.probe(str(path)).planes == 6
    np.testing.assert_array_equal(TIFF.read(str(path), 4), written[1, 1])


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_png_and_jpeg_bands_are_planes(tmp_path, suffix, mode):
    bands = 1 if mode == "L" else 3
    smooth = np.add.outer(np.arange(40), np.arange(50)).astype(np.uint8)
    pixels = smooth if bands == 1 else np.stack([smooth, smooth + 20, smooth + 40], axis=-1)
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(pixels).save(path, **({"quality": 95} if suffix == "jpg" else {}))
    assert RASTER.probe(str(path)) == Header((40, 50), "uint8", bands)
    for i in range(bands):
        expected = pixels if bands == 1 else pixels[..., i]
        read = RASTER.read(str(path), i).astype(int)
        assert np.abs(read - expected).max() <= (0 if suffix == "png" else 12)


def test_a_16_bit_png_keeps_its_levels(tmp_path):
    written = np.arange(600, dtype=np.uint16).reshape(20, 30) * 100
    path = tmp_path / "deep.png"
    Image.fromarray(written).save(path)
    assert RASTER.probe(str(path)).dtype == "uint16"
    read = RASTER.read(str(path), 0)
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, written)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_truncated_tiff_is_an_error_wherever_it_is_cut(tmp_path, compression):
    path = tmp_path / "whole.tif"
    tifffile.imwrite(path, stack(2, (60, 60)), compression=compression, photometric="minisblack")
    content = path.read_bytes()
    whole = [TIFF.read(str(path), i) for i in range(2)]
    cut = tmp_path / "cut.tif"
    for share in np.linspace(0.0, 0.999, 40):
        cut.write_bytes(content[: int(share * len(content))])
        for i in range(2):
            read = pixels_or_reason(cut, i)
            if isinstance(read, str):
                assert str(cut) in read
            else:
                # A page that lies before the cut may still be whole.
                np.testing.assert_array_equal(read, whole[i])
    cut.write_bytes(content[:-30])
    with pytest.raises(DatasetError, match=r"cut\.tif"):
        TIFF.read(str(cut), 1)


@settings(max_examples=150)
@given(position=st.integers(0, 400), value=st.integers(0, 255))
def test_a_flipped_byte_gives_an_image_or_a_sentence(tmp_path_factory, position, value):
    path = tmp_path_factory.mktemp("flip") / "flip.tif"
    tifffile.imwrite(path, stack(1, (12, 12)), compression="zlib", photometric="minisblack")
    content = bytearray(path.read_bytes())
    content[position % len(content)] = value
    path.write_bytes(bytes(content))
    read = pixels_or_reason(path, 0)
    assert "flip.tif" in read if isinstance(read, str) else read.ndim == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "is empty"), (b"these are words, not an image", "is not a TIFF")],
)
def test_what_is_no_tiff_is_called_so(tmp_path, content, words):
    path = tmp_path / "no.tif"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=words):
        TIFF.read(str(path), 0)
    with pytest.raises(DatasetError, match=words):
        TIFF.probe(str(path))


def test_a_truncated_or_false_png_is_called_so(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(stack(1, (90, 90), np.uint8)[0]).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DatasetError, match="damaged or truncated"):
        RASTER.read(str(path), 0)
    path.write_bytes(b"words")
    with pytest.raises(DatasetError, match="not an image"):
        RASTER.read(str(path), 0)


def test_an_absurd_declared_size_is_refused_before_memory_is_asked_for(tmp_path):
    def entry(tag: int, value: int) -> bytes:
        return struct.pack("<HHII", tag, 4, 1, value)

    tags = [
        (256, 4_000_000),
        (257, 4_000_000),
        (258, 16),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, 1),
        (279, 8),
    ]
    path = tmp_path / "bomb.tif"
    path.write_bytes(
        b"II*\0"
        + struct.pack("<I", 16)
        + bytes(8)
        + struct.pack("<H", len(tags))
        + b"".join(entry(*t) for t in tags)
        + bytes(4)
    )
    with pytest.raises(DatasetError, match="declares 4000000 x 4000000 pixels"):
        TIFF.probe(str(path))
    with pytest.raises(DatasetError, match="declares 4000000 x 4000000 pixels"):
        TIFF.read(str(path), 0)


@pytest.mark.parametrize("plane", [-1, 3, 99])
def test_a_plane_that_is_not_there_is_an_error_with_the_number_there_are(tmp_path, plane):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, stack(), photometric="minisblack")
    with pytest.raises(DatasetError, match=f"has 3 planes and plane {plane}"):
        TIFF.read(str(path), plane)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path):
    with pytest.raises(DatasetError, match="does not exist"):
        TIFF.read(str(tmp_path / "gone.tif"), 0)
    (tmp_path / "folder.tif").mkdir()
    with pytest.raises(DatasetError, match="is a folder"):
        TIFF.read(str(tmp_path / "folder.tif"), 0)


def test_a_path_with_spaces_and_other_letters_is_read(tmp_path):
    path = tmp_path / "Zelle ä 細胞 #1 100%" / "A01 {DNA}.tif"
    path.parent.mkdir()
    tifffile.imwrite(path, stack(1)[0])
    np.testing.assert_array_equal(TIFF.read(str(path), 0), stack(1)[0])


def test_a_file_that_no_reader_claims_is_named():
    with pytest.raises(DatasetError, match=r"A01\.xyz: no reader"):
        readers.reader_for("A01.xyz")


class Xyz(readers.Reader):
    """A plugin's reader."""

    def claims(self, uri):
        return uri.endswith(".xyz")

    def probe(self, uri):
        return Header((1, 1), "uint8", 1)

    def read(self, uri, plane):
        if plane:
            raise IndexError("list index out of range")
        return np.ones((2, 3), np.uint8)


def test_a_plugins_reader_is_used_and_what_it_raises_is_a_sentence(monkeypatch):
    monkeypatch.setattr(readers, "installed", lambda: (("xyz", Xyz()), ("tiff", TIFF)))
    assert readers.read_plane("a.xyz", 0).shape == (2, 3)
    with pytest.raises(DatasetError, match=r"a\.xyz: reader xyz failed \(IndexError"):
        readers.read_plane("a.xyz", 1)


def test_names_decide_the_reader_whatever_their_case():
    assert isinstance(readers.reader_for("A.TIFF")[1], TiffReader)
    assert isinstance(readers.reader_for("s3://bucket/a.jpg")[1], RasterReader)
