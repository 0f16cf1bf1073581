"""OME-TIFF planes are counted by time, channel and depth, whatever order the pages have."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from bench.errors import DatasetError
from bench.imaging.ome_tiff import OmeTiffReader
from bench.imaging.readers import Header, TiffReader, read_plane, reader_for

READER = OmeTiffReader()
SIZES = {"T": 2, "C": 3, "Z": 4, "Y": 12, "X": 17}


@pytest.mark.parametrize("axes", ["TCZYX", "ZCTYX", "CZTYX", "TZCYX"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_plane_is_time_channel_depth_in_any_order_of_the_file(tmp_path, axes, compression):
    canonical = np.random.default_rng(0).integers(0, 60000, tuple(SIZES.values()), dtype=np.uint16)
    path = tmp_path / "a.ome.tif"
    written = np.moveaxis(canonical, range(5), [axes.index(a) for a in "TCZYX"])
    tifffile.imwrite(path, written, ome=True, metadata={"axes": axes}, compression=compression)
    assert READER.probe(str(path)) == Header((12, 17), "uint16", 24)
    for plane, expected in enumerate(canonical.reshape(24, 12, 17)):
        np.testing.assert_array_equal(READER.read(str(path), plane), expected)


def test_pages_in_another_order_than_channels_are_told_apart_from_a_plain_stack(tmp_path):
    canonical = np.random.default_rng(0).integers(0, 255, (2, 3, 5, 6), dtype=np.uint8)
    path = tmp_path / "a.ome.tiff"
    tifffile.imwrite(path, canonical.swapaxes(0, 1), ome=True, metadata={"axes": "ZCYX"})
    np.testing.assert_array_equal(READER.read(str(path), 1), canonical[0, 1])
    np.testing.assert_array_equal(TiffReader().read(str(path), 1), canonical[1, 0])
    assert reader_for(str(path))[0] == "ome-tiff"
    assert reader_for("x.tif")[0] == "tiff"


def test_colours_are_the_innermost_planes(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (2, 5, 6, 3), dtype=np.uint8)
    path = tmp_path / "rgb.ome.tif"
    tifffile.imwrite(path, pixels, ome=True, photometric="rgb", metadata={"axes": "ZYXS"})
    assert READER.probe(str(path)).planes == 6
    for z in range(2):
        for s in range(3):
            np.testing.assert_array_equal(READER.read(str(path), 3 * z + s), pixels[z, ..., s])


def test_the_full_resolution_of_a_pyramid_is_read(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (2, 64, 64), dtype=np.uint8)
    path = tmp_path / "pyramid.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(pixels, subifds=1, tile=(16, 16), metadata={"axes": "CYX"})
        file.write(pixels[:, ::2, ::2], subfiletype=1, tile=(16, 16))
    assert READER.probe(str(path)) == Header((64, 64), "uint8", 2)
    np.testing.assert_array_equal(READER.read(str(path), 1), pixels[1])


def test_what_is_wrong_is_said(tmp_path):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, np.zeros((2, 5, 6), np.uint8), ome=True, metadata={"axes": "CYX"})
    with pytest.raises(DatasetError, match="has 2 planes and plane 2 is asked for"):
        READER.read(str(path), 2)
    content = path.read_bytes()
    for size in range(0, len(content), 97):
        path.write_bytes(content[:size])
        with pytest.raises(DatasetError, match=r"a\.ome\.tif"):
            READER.read(str(path), 1)
    tifffile.imwrite(path, np.zeros((5, 6), np.uint8), ome=False, metadata=None)
    with pytest.raises(DatasetError, match="holds no OME-XML"):
        READER.read(str(path), 0)
    tifffile.imwrite(path, np.zeros((3, 5, 6), np.uint8), ome=True, metadata={"axes": "QYX"})
    with pytest.raises(DatasetError, match="planes are counted over T, C and Z only"):
        READER.read(str(path), 0)


def test_a_file_that_changes_is_described_anew(tmp_path):
    path = tmp_path / "a.ome.tif"
    first, second = np.zeros((2, 8, 9), np.uint8), np.ones((3, 10, 11), np.uint8)
    for stack in (first, second):
        tifffile.imwrite(path, stack, ome=True, metadata={"axes": "CYX"})
        for plane in range(len(stack)):
            np.testing.assert_array_equal(read_plane(str(path), plane), stack[plane])
    with pytest.raises(DatasetError, match="has 3 planes and plane 3 is asked for"):
        read_plane(str(path), 3)
