"""CellProfiler's load_data.csv: channels, illumination functions, metadata, platemaps in JUMP form."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pytest
import tifffile

from bench.datasets import check, image_manifest, load
from bench.datasets.jump import LoadData, from_jump
from bench.errors import DatasetError, UsageError
from bench.imaging import field_source, preprocessing_key

WELLS = ("A01", "A02", "P24")
CHANNELS = ("DNA", "ER")


def function(seed):
    return np.random.default_rng(seed).uniform(1.0, 2.0, (6, 7))


@pytest.fixture
def screen(tmp_path):
    """Two plates of three wells and two sites; paths as on the cluster where the index was made."""
    home = tmp_path / "data ü"
    for p, plate in enumerate(("BR1", "BR2")):
        (home / "images" / plate).mkdir(parents=True)
        (home / "illum" / plate).mkdir(parents=True)
        (home / "load_data_csv" / plate).mkdir(parents=True)
        rows = []
        for channel in CHANNELS:
            np.save(home / "illum" / plate / f"{plate}_Illum{channel}.npy", function(p))
        for w, well in enumerate(WELLS):
            for site in (1, 2):
                row = {}
                for c, channel in enumerate(CHANNELS):
                    name = f"r{w}s{site}-{channel}.tiff"
                    pixels = np.random.default_rng([p, w, site, c]).integers(
                        0, 65536, (6, 7), dtype=np.uint16
                    )
                    tifffile.imwrite(home / "images" / plate / name, pixels)
                    row |= {
                        f"FileName_Orig{channel}": name,
                        f"PathName_Orig{channel}": f"/home/u/images/{plate}/",
                    }
                    row |= {
                        f"FileName_Illum{channel}": f"{plate}_Illum{channel}.npy",
                        f"PathName_Illum{channel}": f"/home/u/illum/{plate}",
                    }
                place = {"Metadata_Plate": plate, "Metadata_Well": well, "Metadata_Site": site}
                rows.append(row | place | {"Metadata_Batch": "b1", "Metadata_AbsTime": f"{w}:{site}"})
        frame = pd.DataFrame(rows)
        where = home / "load_data_csv" / plate
        frame.to_csv(where / "load_data_with_illum.csv.gz", index=False)
        frame[[c for c in frame.columns if "Illum" not in c]].to_csv(where / "load_data.csv", index=False)
    return home


def made(screen, tmp_path, index="load_data_csv", out="set", **more):
    more = {"rebase": {"/home/u": str(screen)}, "name": "jump", **more}
    return from_jump(LoadData(index=screen / index, **more), tmp_path / out)


def files(screen, plate, w, site, channel):
    return tifffile.imread(screen / "images" / plate / f"r{w}s{site}-{channel}.tiff")


def test_a_folder_of_indices_becomes_a_dataset_with_illumination_divided_out(screen, tmp_path):
    found = made(screen, tmp_path, nucleus="DNA")
    assert (found.images, found.wells, found.absent) == (24, 6, ())
    data = load(tmp_path / "set")
    assert {f.code for f in check(data) if f.severity == "error"} == {"few-perturbations"}
    assert [(c.name, c.role) for c in data.channels] == [("DNA", "nucleus"), ("ER", "")]
    assert set(data.wells["Metadata_Batch"]) == {"b1"}
    assert "Metadata_AbsTime" not in data.wells.columns  # differs between the sites of a well
    seen = 0
    for field in field_source(data):
        plate, well, site = (field.metadata[f"Metadata_{k}"] for k in ("Plate", "Well", "Site"))
        for c, channel in enumerate(CHANNELS):
            raw = files(screen, plate, WELLS.index(well), site, channel)
            expected = np.rint(raw / function(("BR1", "BR2").index(plate)))
            np.testing.assert_array_equal(field.pixels[c], expected)
            assert field.pixels.dtype == np.uint16
            seen += 1
    assert seen == 24


def test_without_illumination_columns_pixels_are_the_files_own(screen, tmp_path):
    made(screen, tmp_path, "load_data_csv/BR1/load_data.csv")
    data = load(tmp_path / "set")
    assert data.illumination is None
    first = next(iter(field_source(data)))
    np.testing.assert_array_equal(first.pixels[1], files(screen, "BR1", 0, 1, "ER"))
    assert "illumination_functions" not in preprocessing_key(data)


def test_an_illumination_function_is_part_of_what_features_are_made_of(screen, tmp_path):
    made(screen, tmp_path)
    data = load(tmp_path / "set")
    assert preprocessing_key(data)["illumination_functions"] == {"rule": "divide", "version": 1}
    before = {p: image_manifest(data, p) for p in ("BR1", "BR2")}
    pixels = next(iter(field_source(data))).pixels
    np.save(screen / "illum" / "BR1" / "BR1_IllumDNA.npy", function(9))
    assert image_manifest(data, "BR1") != before["BR1"]
    assert image_manifest(data, "BR2") == before["BR2"]
    changed = next(iter(field_source(data))).pixels
    assert (changed[0] != pixels[0]).any()
    np.testing.assert_array_equal(changed[1], pixels[1])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((5, 7)), r"the illumination function is \(5, 7\), the image .* is \(6, 7\)"),
        (np.zeros((6, 7)), "not positive everywhere"),
        (np.full((6, 7), np.nan), "not positive everywhere"),
        (np.ones((6, 7, 3)), "one 2-D array of numbers"),
        (np.array([[{"a": 1}]]), "not an array of numbers in NumPy's"),
        (None, "not an array of numbers in NumPy's"),
    ],
)
def test_a_wrong_function_fails_its_fields_with_its_name_and_runs_nothing(screen, tmp_path, array, message):
    made(screen, tmp_path)
    path = screen / "illum" / "BR1" / "BR1_IllumER.npy"
    if array is None:
        path.write_bytes(b"\x93NUMPY")
    else:
        np.save(path, array, allow_pickle=True)
    failures = []
    source = field_source(load(tmp_path / "set"), on_failure=lambda m, r: failures.append((m, r)))
    assert len(list(source)) == 6
    assert {m["Metadata_Plate"] for m, _ in failures} == {"BR1"}
    with pytest.raises(DatasetError, match=message):
        raise DatasetError(failures[0][1])
    assert "BR1_IllumER.npy" in failures[0][1]


def test_correction_is_cut_at_the_bit_depth(tmp_path):
    from bench.imaging.stored import divide

    np.save(tmp_path / "f.npy", np.full((1, 3), 0.5))
    out = divide(np.array([[10, 3000, 4095]], np.uint16), str(tmp_path / "f.npy"), "i.tif", 12)
    assert out.tolist() == [[20, 4095, 4095]]
    floats = divide(np.array([[0.25, 0.5, 1.0]], np.float32), str(tmp_path / "f.npy"), "i.tif", 32)
    assert floats.tolist() == [[0.5, 1.0, 2.0]]
    assert floats.dtype == np.float32


def test_images_that_the_index_names_and_are_absent_are_said(screen, tmp_path):
    (screen / "images" / "BR1" / "r0s1-DNA.tiff").unlink()
    found = made(screen, tmp_path)
    assert [a.rpartition("/")[2] for a in found.absent] == ["r0s1-DNA.tiff"]
    failures = []
    fields = list(field_source(load(tmp_path / "set"), on_failure=lambda m, r: failures.append(r)))
    assert len(fields) == 11
    assert "r0s1-DNA.tiff does not exist" in failures[0]


def test_when_every_image_is_absent_the_remedy_is_to_rebase(screen, tmp_path):
    with pytest.raises(DatasetError, match=r"none of the 24 images is there.*--rebase OLD=NEW"):
        made(screen, tmp_path, rebase={})
    assert not (tmp_path / "set").exists()


def test_a_truncated_index_is_one_sentence(screen, tmp_path):
    path = screen / "load_data_csv" / "BR1" / "load_data_with_illum.csv.gz"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DatasetError, match=r"load_data_with_illum\.csv\.gz: cannot be read as csv"):
        made(screen, tmp_path)
    plain = screen / "load_data_csv" / "BR2" / "load_data.csv"
    lines = plain.read_text().splitlines()
    plain.write_text("\n".join([*lines[:2], lines[2][:9]]) + "\n")
    with pytest.raises(DatasetError, match="row 2: FileName_OrigER is empty"):
        made(screen, tmp_path, "load_data_csv/BR2/load_data.csv")


def test_a_table_that_is_no_index_and_a_folder_without_one_are_called_so(screen, tmp_path):
    (tmp_path / "x.csv").write_text("Metadata_Well,a\nA01,1\n")
    with pytest.raises(DatasetError, match="is it CellProfiler's LoadData table"):
        from_jump(LoadData(index=tmp_path / "x.csv", name="n"), tmp_path / "set")
    with pytest.raises(DatasetError, match=r"no load_data\.csv"):
        made(screen, tmp_path, "images")


def test_urls_frames_and_paths_relative_to_the_index_are_understood(tmp_path):
    stack = np.random.default_rng(0).integers(0, 255, (2, 4, 5), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a b.tif", stack, photometric="minisblack")
    text = "Metadata_Well,FileName_DNA,Frame_DNA,URL_OrigER,Frame_OrigER\n"
    text += f"a1,a b.tif,1,file://{str(tmp_path).replace(' ', '%20')}/a%20b.tif,0\n"
    with gzip.open(tmp_path / "load_data.csv.gz", "wt") as handle:
        handle.write(text)
    from_jump(LoadData(index=tmp_path / "load_data.csv.gz", name="n", plate="P"), tmp_path / "set")
    data = load(tmp_path / "set")
    assert (data.bit_depth, [c.name for c in data.channels]) == (8, ["DNA", "ER"])
    np.testing.assert_array_equal(next(iter(field_source(data))).pixels, stack[::-1])


# Platemaps and treatments.

BARCODES = "Assay_Plate_Barcode,Plate_Map_Name\nBR1,map-1\nBR2,map-1\n"
PLATEMAP = (
    "plate_map_name\twell_position\tbroad_sample\tmmoles_per_liter\tsolvent\n"
    "map-1\tA01\t\t\tDMSO\nmap-1\tA02\tBRD-1\t0.005\tDMSO\nmap-1\tP24\tBRD-2\t0.01\tDMSO\n"
)
COMPOUNDS = (
    "broad_sample\tInChIKey\tpert_iname\tpert_type\tcontrol_type\n"
    "BRD-1\tAAAAAAAAAAAAAA-BBBBBBBBBB-N\taspirin\ttrt\t\n"
    "BRD-2\tCCCCCCCCCCCCCC-BBBBBBBBBB-N\tAMG900\tcontrol\tposcon_cp\n"
)


def tables(tmp_path):
    (tmp_path / "meta" / "platemap").mkdir(parents=True)
    (tmp_path / "meta" / "barcode_platemap.csv").write_text(BARCODES)
    (tmp_path / "meta" / "platemap" / "map-1.txt").write_text(PLATEMAP)
    (tmp_path / "meta" / "compounds.tsv").write_text(COMPOUNDS)
    return {
        "barcodes": tmp_path / "meta" / "barcode_platemap.csv",
        "annotate": (tmp_path / "meta" / "compounds.tsv",),
        "perturbation": "Metadata_broad_sample",
    }


def test_platemaps_in_jump_form_give_compounds_doses_and_controls(screen, tmp_path):
    found = made(screen, tmp_path, **tables(tmp_path))
    assert found.wells_without_row == ()
    data = load(tmp_path / "set")
    wells = data.wells.set_index(["Metadata_Plate", "Metadata_Well"])
    assert wells.loc["BR2", "Metadata_pert_type"].tolist() == ["negcon", "trt", "poscon"]
    assert wells.loc["BR1", "Metadata_broad_sample"].tolist() == ["DMSO", "BRD-1", "BRD-2"]
    assert wells.loc[("BR1", "P24"), "Metadata_Concentration"] == 0.01
    assert np.isnan(wells.loc[("BR1", "A01"), "Metadata_Concentration"])
    assert set(wells["Metadata_Concentration_unit"]) == {"mM"}
    assert wells.loc[("BR1", "A02"), "Metadata_pert_iname"] == "aspirin"
    assert set(wells["Metadata_Batch"]) == {"b1"}
    assert data.identities(data.wells)[:3] == ["DMSO", "AAAAAAAAAAAAAA", "CCCCCCCCCCCCCC"]


def test_a_plain_platemap_names_its_controls_with_or_without_the_prefix(screen, tmp_path):
    for number, (column, kinds) in enumerate(
        (("pert_type", "negcon,trt,trt"), ("control_type", "negcon,poscon_cp,"), ("Metadata_pert_type", ",,"))
    ):
        rows = zip(("A01", "A02", "P24"), "abc", kinds.split(","), strict=True)
        text = "".join(",".join(row) + "\n" for row in rows)
        table = tmp_path / f"wells-{number}.csv"
        table.write_text(f"Metadata_Well,Metadata_Compound,{column}\n{text}")
        made(screen, tmp_path, out=f"set-{number}", wells=table, perturbation="Metadata_Compound")
        types = load(tmp_path / f"set-{number}").wells["Metadata_pert_type"].tolist()
        assert types[:3] == [k.removesuffix("_cp") or "trt" for k in kinds.split(",")], column


def test_the_public_jump_tables_join_by_their_identifier(screen, tmp_path):
    (tmp_path / "well.csv").write_text(
        "Metadata_Source,Metadata_Plate,Metadata_Well,Metadata_JCP2022\n"
        "s1,BR1,A01,JCP2022_033924\ns1,BR1,A02,JCP2022_000001\ns1,other,A01,JCP2022_000002\n"
    )
    (tmp_path / "compound.csv").write_text(
        "Metadata_JCP2022,Metadata_InChIKey,Metadata_SMILES\nJCP2022_000001,AAAAAAAAAAAAAA-BBBBBBBBBB-N,C\n"
    )
    found = made(
        screen,
        tmp_path,
        wells=tmp_path / "well.csv",
        annotate=(tmp_path / "compound.csv",),
        perturbation="Metadata_JCP2022",
    )
    assert (found.wells, len(found.wells_without_row)) == (2, 4)
    wells = load(tmp_path / "set").wells
    assert wells["Metadata_Plate"].tolist() == ["BR1", "BR1"]
    assert wells["Metadata_pert_type"].tolist() == ["negcon", "trt"]
    assert wells["Metadata_InChIKey"].tolist() == ["", "AAAAAAAAAAAAAA-BBBBBBBBBB-N"]


def test_a_platemap_without_plates_is_that_of_every_plate(screen, tmp_path):
    (tmp_path / "map.csv").write_text("Metadata_Well,Metadata_Compound\nA1,DMSO\nA2,x\nP24,y\n")
    made(screen, tmp_path, wells=tmp_path / "map.csv", negative=("DMSO",))
    wells = load(tmp_path / "set").wells
    assert wells["Metadata_Plate"].tolist() == ["BR1"] * 3 + ["BR2"] * 3
    assert wells["Metadata_pert_type"].tolist() == ["negcon", "trt", "trt"] * 2


def test_what_the_tables_lack_is_said_with_the_remedy(screen, tmp_path):
    given = tables(tmp_path)
    with pytest.raises(UsageError, match="--wells and --barcodes are two ways"):
        made(screen, tmp_path, **given, wells=given["annotate"][0])
    with pytest.raises(DatasetError, match=r"no column Metadata_Compound; .* --perturbation Metadata_"):
        made(screen, tmp_path, **given | {"perturbation": "Metadata_Compound"})
    (tmp_path / "twice.tsv").write_text(COMPOUNDS + "BRD-1\tother\t\t\t\n")
    with pytest.raises(DatasetError, match="BRD-1 has several rows that differ"):
        made(screen, tmp_path, **given | {"annotate": (tmp_path / "twice.tsv",)})
    (tmp_path / "none.tsv").write_text(COMPOUNDS.replace("BRD", "XYZ"))
    with pytest.raises(DatasetError, match="none of its Metadata_broad_sample is in the wells"):
        made(screen, tmp_path, **given | {"annotate": (tmp_path / "none.tsv",)})
    (tmp_path / "none.tsv").write_text(COMPOUNDS.splitlines()[0] + "\n")
    with pytest.raises(DatasetError, match="it has nothing, they have DMSO, BRD-1, BRD-2"):
        made(screen, tmp_path, **given | {"annotate": (tmp_path / "none.tsv",)})
    (tmp_path / "apart.csv").write_text("gene,x\na,1\n")
    with pytest.raises(DatasetError, match="shares no column with the wells"):
        made(screen, tmp_path, **given | {"annotate": (tmp_path / "apart.csv",)})
    (tmp_path / "meta" / "barcode_platemap.csv").write_text(BARCODES.replace("BR", "XX"))
    with pytest.raises(
        DatasetError, match=r"its plates \(XX1, XX2\) are none of those with images \(BR1, BR2\)"
    ):
        made(screen, tmp_path, **given)
    (tmp_path / "meta" / "barcode_platemap.csv").write_text(BARCODES)
    (tmp_path / "meta" / "platemap" / "map-1.txt").unlink()
    with pytest.raises(DatasetError, match=r"map-1\.txt: no such file"):
        made(screen, tmp_path, **given)
    assert not (tmp_path / "set").exists()


def test_wells_that_no_platemap_names_are_said_and_a_plate_with_wells_missing_is_taken(screen, tmp_path):
    given = tables(tmp_path)
    rows = PLATEMAP.splitlines(keepends=True)
    (tmp_path / "meta" / "platemap" / "map-1.txt").write_text(
        "".join(rows[:-1]) + "map-1\tB07\tBRD-2\t1\tDMSO\n"
    )
    found = made(screen, tmp_path, **given)
    assert found.wells_without_row == ("BR1/P24", "BR2/P24")
    warned = {f.code for f in check(load(tmp_path / "set")) if f.severity == "warning"}
    assert {"image-without-well", "well-without-image"} <= warned
