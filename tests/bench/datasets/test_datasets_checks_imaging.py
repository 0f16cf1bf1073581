"""Each fault of ``[imaging]`` is a finding of its own; what a run would refuse, the check refuses before."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import torch

from bench.datasets import check, load

SETTINGS = 'method = "otsu-log"'


def found(folder, **kwargs):
    return {f.code: f for f in check(load(folder), **kwargs)}


@pytest.mark.parametrize(
    ("settings", "code", "words"),
    [
        ('method = "otsu"', "imaging-settings", "unknown method 'otsu'; known: otsu-log"),
        ('method = "otsu-log"\nmin_aera = 3', "imaging-settings", "no setting 'min_aera'"),
        ('illumination = "flat"', "imaging-settings", "unknown illumination 'flat'"),
        ('illumination = {window_px = "big"}', "imaging-settings", "window_px is a number"),
        ('standardise = "plate"', "imaging-settings", "unknown standardise 'plate'"),
        ("quality = {focus = 1}", "imaging-settings", "quality has no setting 'focus'"),
        (
            'method = "foreground"\nchannel = "GFP"',
            "no-segmentation",
            "no channel 'GFP'; channels: DNA, Actin",
        ),
        ('method = "otsu-watershed"\ncell_channel = "GFP"', "no-segmentation", "no channel 'GFP'"),
        ('method = "cellpose"', "no-segmentation", "cellpose needs weights"),
        ('method = "cellpose"\nweights = "w"\nchannels = "GFP"', "no-segmentation", "no channel 'GFP'"),
        ('method = "cellpose"\nweights = "no-such-file"', "no-segmentation", "no-such-file do not exist"),
        ('method = "masks"', "no-segmentation", "masks needs at least one of"),
        ('method = "masks"\nnuclei = "{GFP}.tif"', "no-segmentation", "uses {GFP}; known are {plate}"),
        (
            'illumination = {window_px = 20, small = "refuse"}',
            "window-too-large",
            "12 x 10 pixels are too small for window_px = 20: set window_px to 1 or less",
        ),
    ],
)
def test_a_setting_that_cannot_work_is_an_error_with_its_reason(small, edit, settings, code, words):
    edit("dataset.toml", SETTINGS, settings)
    errors = [f for f in check(load(small)) if f.severity == "error"]
    assert [f.code for f in errors] == [code]
    assert words in errors[0].what
    assert errors[0].where == "dataset.toml"


def test_faults_of_two_steps_are_both_said(small, edit):
    edit("dataset.toml", SETTINGS, 'method = "otsu"\nillumination = "flat"\nstandardise = "plate"')
    assert [f.code for f in check(load(small))] == ["imaging-settings"] * 3


def test_a_dataset_whose_default_segmentation_has_no_stain_is_only_warned(small, edit):
    edit("dataset.toml", SETTINGS, "")
    edit("dataset.toml", 'role = "nucleus"', "")
    one = found(small)
    assert [(c, f.severity) for c, f in one.items()] == [("no-segmentation", "warning")]
    assert 'no channel has role = "nucleus"' in one["no-segmentation"].what


def test_the_default_window_shrinks_so_small_fields_are_no_fault(small, edit):
    edit("dataset.toml", SETTINGS, 'illumination = "image2omics"')
    assert found(small) == {}


def test_fields_of_another_size_than_their_plate_cannot_share_its_flat_field(small, edit):
    for name in ("A02_DNA", "A02_Actin"):
        grey = np.arange(80, dtype=np.uint16).reshape(10, 8)
        tifffile.imwrite(small / "images" / f"{name}.tif", grey)
    assert found(small) == {}
    edit("dataset.toml", SETTINGS, 'illumination = "image2omics"')
    assert found(small)["uneven-plate"].rows == (3, 4)


@pytest.fixture
def masked(small, edit):
    """Masks beside the images: one object in the middle of each field."""
    edit("dataset.toml", SETTINGS, 'method = "masks"\nnuclei = "masks/{DNA}.tif"')
    (small / "masks").mkdir()
    mask = np.zeros((12, 10), np.uint16)
    mask[4:8, 3:7] = 5
    for path in (small / "images").glob("*_DNA.tif"):
        tifffile.imwrite(small / "masks" / path.name, mask)
    return small


def test_masks_that_fit_are_no_fault(masked):
    assert found(masked) == {}


def test_missing_masks_are_counted_and_named_without_reading(masked):
    (masked / "masks" / "A02_DNA.tif").unlink()
    (masked / "masks" / "B01_DNA.tif").unlink()
    for pixels in ("read", "skip"):
        finding = found(masked, pixels=pixels)["missing-mask"]
        assert finding.what == "2 masks are missing: masks/A02_DNA.tif, masks/B01_DNA.tif"


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (np.zeros((12, 11), np.uint16), "the mask has 12 x 11 pixels, the field's images 12 x 10"),
        (np.full((12, 10), 0.5, np.float32), "the mask holds fractions"),
        (np.full((12, 10), -1, np.int16), "the mask holds -1 to -1"),
    ],
)
def test_a_mask_that_cannot_be_used_is_said_before_the_run(masked, mask, words):
    tifffile.imwrite(masked / "masks" / "A02_DNA.tif", mask)
    one = found(masked)
    assert set(one) == {"wrong-mask"}
    assert "1 field with a mask" in one["wrong-mask"].what
    assert words in one["wrong-mask"].what
    assert found(masked, pixels="skip") == {}


def test_a_foreground_given_as_a_label_image_is_warned_of(masked, edit):
    mask = np.zeros((12, 10), np.uint8)
    mask[1:3, 1:3] = mask[5:7, 5:7] = 255
    tifffile.imwrite(masked / "masks" / "A02_DNA.tif", mask)
    assert found(masked) == {}  # two pieces can be one object
    mask[9:11, 1:3] = 255
    tifffile.imwrite(masked / "masks" / "A02_DNA.tif", mask)
    one = found(masked)["one-object-masks"]
    assert one.severity == "warning"
    assert "1 mask with one id for 3 or more separate pieces: masks/A02_DNA.tif" in one.what
    edit("dataset.toml", 'nuclei = "masks/{DNA}.tif"', 'nuclei = "masks/{DNA}.tif"\nlabels = "binary"')
    assert found(masked) == {}


def test_weights_of_another_network_are_said_before_the_run(small, edit):
    edit("dataset.toml", SETTINGS, 'method = "cellpose"\nweights = "cyto3"')
    torch.save({"downsample.down.weight": torch.zeros(1)}, small / "cyto3")
    assert "holds a Cellpose 3 network" in found(small)["no-segmentation"].what
    assert found(small, pixels="skip") == {}


def test_plates_without_pictured_controls_cannot_be_standardised_by_them(small, edit):
    edit("dataset.toml", SETTINGS, 'standardise = "negcon"')
    assert found(small) == {}
    edit("wells.csv", "negcon", "trt")
    one = found(small)["no-control-pixels"]
    assert one.severity == "error"
    assert "1 plate has no image of a negative control: 001" in one.what


def function(folder, rows, array=None):
    np.save(folder / "f.npy", np.ones((12, 10)) if array is None else array)
    (folder / "illumination.csv").write_text("Metadata_Plate,Channel,URI\n" + "".join(rows))
    toml = folder / "dataset.toml"
    toml.write_text(toml.read_text() + '\n[illumination]\ntable = "illumination.csv"\n')


def test_illumination_functions_that_fit_are_no_fault(small):
    function(small, ["001,DNA,f.npy\n", "001,Actin,f.npy\n"])
    assert found(small) == {}


def test_absent_unfit_and_lacking_functions_are_told_apart(small):
    function(small, ["001,DNA,f.npy\n", "002,DNA,gone.npy\n"], np.ones((12, 11)))
    one = found(small)
    assert set(one) == {"missing-function", "no-function", "wrong-function"}
    assert one["missing-function"].rows == (2,)
    assert one["wrong-function"].rows == (1,)
    assert "is (12, 11), plate 001 is (12, 10)" in one["wrong-function"].what
    assert "1 channel of a plate without an illumination function: 001/Actin" in one["no-function"].what
    assert "wrong-function" not in found(small, pixels="skip")
