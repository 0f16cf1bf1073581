"""Each fault is found, said once, with its rows; a sound dataset has none."""

import dataclasses

import numpy as np
import pytest
import tifffile

from bench.datasets import check, load
from bench.datasets.checks.finding import finding


def codes(folder, **kwargs):
    return {f.code: f for f in check(load(folder), **kwargs)}


def test_a_sound_dataset_has_no_finding(small):
    assert check(load(small)) == []


def test_a_truncated_image_is_found_by_reading_it(small):
    path = small / "images" / "B01_DNA.tif"
    path.write_bytes(path.read_bytes()[:-40])
    found = codes(small)
    assert set(found) == {"unreadable-image"}
    assert found["unreadable-image"].rows == (9,)
    assert "B01_DNA.tif" in found["unreadable-image"].what
    assert "row 9 (line 10)" in found["unreadable-image"].where
    assert codes(small, pixels="skip") == {}


def test_missing_files_are_found_without_reading_pixels(small):
    (small / "images" / "B01_DNA.tif").unlink()
    (small / "images" / "B02_DNA.tif").unlink()
    found = codes(small, pixels="skip")
    assert set(found) == {"missing-file"}
    assert found["missing-file"].rows == (9, 11)
    assert "images/B01_DNA.tif" in found["missing-file"].what
    assert set(codes(small)) == {"missing-file"}


@pytest.mark.parametrize(
    ("pixels", "code"),
    [
        (np.full((12, 10), 4096, np.uint16), "wrong-bit-depth"),
        (np.arange(120, dtype=np.uint8).reshape(12, 10), "wrong-type"),
        (np.linspace(0, 1, 120, dtype=np.float32).reshape(12, 10), "wrong-type"),
        (np.arange(24, dtype=np.uint16).reshape(4, 6), "uneven-size"),
        (np.full((12, 10), 7, np.uint16), "blank-image"),
    ],
)
def test_an_image_unlike_the_settings_is_found(small, pixels, code):
    tifffile.imwrite(small / "images" / "A01_DNA.tif", pixels)
    found = codes(small)
    assert code in found
    assert 1 in found[code].rows


def test_the_highest_grey_level_of_the_bit_depth_is_allowed(small):
    tifffile.imwrite(small / "images" / "A01_DNA.tif", np.arange(3976, 4096, dtype=np.uint16).reshape(12, 10))
    assert codes(small) == {}


@pytest.mark.parametrize(
    ("old", "new", "code", "rows"),
    [
        ("001,A01,1,Actin,images/A01_Actin.tif,0\n", "", "missing-channel", (1,)),
        ("001,A01,1,Actin", "001,A01,1,Aktin", "unknown-channel", (2,)),
        ("001,A01,1,Actin", "001,A01,1,DNA", "duplicate-image", (1, 2)),
        ("images/A01_Actin.tif", "images/A02_Actin.tif", "shared-image", (2, 4)),
        ("001,B01,", "001,C01,", "image-without-well", (9, 10)),
    ],
)
def test_a_fault_of_the_image_table_is_found_with_its_rows(small, edit, old, new, code, rows):
    edit("images.csv", old, new)
    assert codes(small)[code].rows == rows


def test_wells_without_images_are_named(small, edit):
    edit("images.csv", "001,B01,", "001,C01,")
    found = codes(small)["well-without-image"]
    assert found.rows == (5,)
    assert "001/B01" in found.what


@pytest.mark.parametrize(
    ("old", "new", "code", "rows"),
    [
        ("001,A03,", "001,A04,", "duplicate-well", (3, 4)),
        ("001,A03,", "001,A3x,", "odd-well", (3,)),
        ("trt,x-2,1.0", "trt,,1.0", "unnamed-well", (5,)),
        ("trt,x-2,1.0", "trt,DMSO,1.0", "mixed-control", (1, 2, 5)),
        ("trt,x-2,1.0", "trt,x-2,-1.0", "bad-dose", (5,)),
        ("trt,x-2,1.0", "trt,x-2,0.0", "bad-dose", (5,)),
        ("trt,x-2,1.0", "trt,x-2,inf", "bad-dose", (5,)),
        ("trt,x-2,1.0", "trt,x-2,", "no-dose", (5,)),
        ("trt,NA,10.0,uM", "trt,NA,10.0,nM", "mixed-dose-units", (4,)),
        ("negcon", "trt", "no-negative-controls", ()),
    ],
)
def test_a_fault_of_the_wells_is_found_with_its_rows(small, edit, old, new, code, rows):
    edit("wells.csv", old, new)
    assert codes(small)[code].rows == rows


def test_units_mixed_within_a_perturbation_are_worse_than_between(small, edit):
    edit("wells.csv", "x-2,1.0,uM", "x-2,1.0,nM")
    assert codes(small)["mixed-dose-units"].severity == "warning"
    edit("wells.csv", "NA,10.0,uM", "NA,10.0,nM")
    assert codes(small)["mixed-dose-units"].severity == "error"


def test_one_perturbation_is_too_few(small, edit):
    edit("wells.csv", "x-2", "NA")
    edit("wells.csv", "x-10", "NA")
    assert codes(small)["few-perturbations"].severity == "error"


def readouts(small, **columns):
    lines = (small / "rna.csv").read_text().splitlines()
    for name, values in columns.items():
        lines = [f"{line},{v}" for line, v in zip(lines, [name, *values], strict=True)]
    (small / "rna.csv").write_text("\n".join(lines) + "\n")


def test_readouts_that_teach_nothing_are_counted_and_named(small):
    constant = {f"flat{i:02d}": [1] * 6 for i in range(12)}
    readouts(small, **constant, gone=[""] * 6, partly=["", 1, 2, 3, 4, 5])
    found = codes(small)
    assert "12 of 17 readouts have one distinct value: flat00" in found["constant-readout"].what
    assert found["constant-readout"].what.endswith("flat09 and 2 more")
    assert found["all-missing-readout"].what.endswith("gone")
    assert found["missing-value"].rows == (1,)
    assert {f.severity for f in found.values()} == {"warning"}


def test_values_that_the_scale_or_kind_cannot_have_are_found(small, edit):
    readouts(small, bad=[1, "inf", 2, -3, 4, 5])
    assert codes(small)["infinite-readout"].rows == (2,)
    edit("dataset.toml", 'scale = "log"', 'scale = "counts"')
    assert 4 in codes(small)["negative-readout"].rows
    edit("dataset.toml", 'kind = "abundance"', 'kind = "target"')
    assert codes(small)["bad-call"].severity == "error"


def test_what_has_no_counterpart_is_found_on_both_sides(small, edit):
    edit("rna.csv", "001,A03", "001,H11")
    found = codes(small)
    assert found["readout-without-unit"].rows == (3,)
    assert found["unit-without-readout"].rows == (3,)
    assert "001/A03" in found["unit-without-readout"].what


def test_a_layer_that_cannot_be_read_or_joined_does_not_hide_the_rest(small, edit):
    edit("rna.csv", "TP53", "<script>", 1)
    (small / "images" / "B01_DNA.tif").unlink()
    assert {"unreadable-layer", "missing-file"} <= set(codes(small))
    edit("rna.csv", "<script>", "TP53", 1)
    edit("rna.csv", "001,A03", "001,A04")
    assert "occurs twice" in codes(small)["no-join"].what


def test_profiles_are_checked_for_nan_and_strangers(small, edit):
    lines = (small / "profiles.csv").read_text().splitlines()
    lines[2] = "001,A02,,inf"
    lines[6] = "001,H12,0.5,9"
    (small / "profiles.csv").write_text("\n".join(lines) + "\n")
    found = codes(small)
    assert found["nonfinite-feature"].rows == (2,)
    assert "area: 1, n: 1" in found["nonfinite-feature"].what
    edit("dataset.toml", 'table = "profiles.csv"', 'table = "profiles.csv"\nnonfinite = "drop-columns"')
    assert codes(small)["nonfinite-feature"].severity == "warning"


def test_rows_that_no_well_has_are_named(small, edit):
    edit("profiles.csv", "001,B02", "001,H12")
    found = codes(small)
    assert found["profile-without-well"].rows == (6,)
    assert "001/B02" in found["well-without-profile"].what


def test_errors_come_before_warnings_and_progress_is_told(small, edit):
    edit("wells.csv", "negcon", "trt")
    edit("wells.csv", "trt,x-2,1.0", "trt,x-2,-1.0")
    told = []
    findings = check(load(small), report=lambda stage, done, total: told.append((stage, done, total)))
    assert [f.severity for f in findings] == sorted(f.severity for f in findings)
    assert told[-1] == ("images", 12, 12)


def test_lines_count_quoted_breaks_and_blank_lines(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('a,b\n"x\ny",1\n\nz,2\n')
    found = finding("error", "c", str(path), "what", "remedy", [0, 1])
    assert dataclasses.asdict(found)["lines"] == (2, 5)
    assert found.where == "t.csv, rows 1, 2 (lines 2, 5)"
