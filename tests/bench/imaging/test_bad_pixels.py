"""A well with one bad site: the site is recorded with its reason, the well goes on, numbers are finite."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from bench.embed import Work, embed_wells
from bench.entrants import Spec

TOML = """
schema_version = 1
name = "bad"
version = "1"
bit_depth = {bits}
perturbation = "Metadata_Compound"
channels = [{{name = "DNA", role = "nucleus"}}, {{name = "ER"}}]
images = {{table = "images.csv"}}
wells = {{table = "wells.csv"}}
imaging = {{method = "masks", nuclei = "{{DNA}}_nuclei.tif"}}
"""
EDGE = 40
WORK = (
    Work("cp", Spec("cellprofiler", "nuclei", (("border", "keep"),))),
    Work("int", Spec("intensity")),
)


def usual_mask():
    mask = np.zeros((EDGE, EDGE), np.uint16)
    mask[5:15, 5:15], mask[20:32, 22:34] = 3, 9
    return mask


@pytest.fixture
def screen(tmp_path):
    """Write one well of two sites of float images; the second holds what the test gives."""

    def write(pixels, mask, dtype=np.float32, bits=32):
        rng = np.random.default_rng(0)
        rows = ["Metadata_Plate,Metadata_Well,Metadata_Site,Channel,URI"]
        for site in (1, 2):
            shape = (2, EDGE, EDGE)
            own = rng.uniform(0.1, 0.9, shape) if site == 1 or pixels is None else pixels
            scale = 1 if bits == 32 else 2**bits - 1
            for channel, plane in zip(("DNA", "ER"), own, strict=True):
                tifffile.imwrite(tmp_path / f"{site}{channel}.tif", (plane * scale).astype(dtype))
                rows.append(f"P,A01,{site},{channel},{site}{channel}.tif")
            labels = usual_mask() if site == 1 or mask is None else mask
            tifffile.imwrite(tmp_path / f"{site}DNA_nuclei.tif", labels)
        (tmp_path / "images.csv").write_text("\n".join(rows) + "\n")
        (tmp_path / "wells.csv").write_text("Metadata_Plate,Metadata_Well,Metadata_Compound\nP,A01,x\n")
        (tmp_path / "dataset.toml").write_text(TOML.format(bits=bits))
        return embed_wells(str(tmp_path), WORK, "P", None, ["A01"])

    yield write
    from bench import embed

    embed._dataset.cache_clear()


def whole(rows, cells):
    assert (rows.wells, rows.fields, rows.failed, rows.failures) == (["A01"], [2], [0], [])
    assert rows.cells == [cells]
    assert np.isfinite(rows.values).all()


def partial(rows, words):
    """One of two sites is lost: the well has the other's values and says so."""
    assert (rows.wells, rows.fields, rows.failed) == (["A01"], [1], [1])
    (failure,) = rows.failures
    assert failure.what == "plate P, well A01, site 2"
    assert words in failure.reason
    assert not failure.passing
    assert np.isfinite(rows.values).all()


def test_float_pixels_outside_one_fail_where_they_mean_nothing_and_count_where_they_do(screen):
    found = screen(np.full((2, EDGE, EDGE), 3.5), None)
    partial(found["cp"], "channel DNA goes from 3.5 to 3.5, and featurizer 'cellprofiler' needs pixels")
    whole(found["int"], cells=4)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_no_numbers_fail_their_site_for_all(screen, value):
    pixels = np.full((2, EDGE, EDGE), 0.5)
    pixels[1, 4, 7] = value
    for rows in screen(pixels, None).values():
        partial(rows, "channel 'ER' holds NaN or infinite pixels, the first at row 4, column 7")


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("bits", [8, 16, 32])
def test_black_constant_and_saturated_channels_are_measured(screen, level, bits):
    dtype = {8: np.uint8, 16: np.uint16, 32: np.float32}[bits]
    for rows in screen(np.full((2, EDGE, EDGE), level), None, dtype, bits).values():
        whole(rows, cells=4)


def one_pixel():
    mask = usual_mask()
    mask[0, 0], mask[37, 2] = 700, 12
    return mask


@pytest.mark.parametrize(
    ("mask", "cells"),
    [
        (np.ones((EDGE, EDGE), np.uint16), 3),
        (one_pixel(), 6),
        (np.full((EDGE, EDGE), 65535, np.uint16), 3),
    ],
    ids=["one cell covers the field", "one-pixel objects and gaps", "the highest id alone"],
)
def test_extreme_objects_are_cells_like_others(screen, mask, cells):
    for rows in screen(None, mask).values():
        whole(rows, cells)


def test_a_site_without_cells_adds_no_row_and_is_no_failure(screen):
    rows = screen(None, np.zeros((EDGE, EDGE), np.uint16))["cp"]
    assert (rows.fields, rows.failed, rows.cells, rows.failures) == ([1], [0], [2], [])


def test_a_mask_of_another_size_fails_its_site(screen):
    rows = screen(None, np.ones((EDGE, EDGE + 1), np.uint16))["cp"]
    partial(rows, "40 x 41 pixels, the field's images 40 x 40")


def test_a_file_that_declares_a_hundred_thousand_squared_fails_its_site(screen, tmp_path):
    screen(None, None)
    path = tmp_path / "2ER.tif"
    raw = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        tags = [file.pages[0].tags[name] for name in ("ImageWidth", "ImageLength")]
    for tag in tags:  # type LONG, so that 100,000 fits
        raw[tag.offset + 2 : tag.offset + 4] = (4).to_bytes(2, file.byteorder.replace("<", "little"))
        raw[tag.offset + 8 : tag.offset + 12] = (100_000).to_bytes(4, "little")
    path.write_bytes(bytes(raw))
    found = embed_wells(str(tmp_path), WORK, "P", None, ["A01"])
    for rows in found.values():
        partial(rows, "declares 100000 x 100000 pixels")
