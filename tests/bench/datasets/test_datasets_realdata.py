"""Public data sets come in as their readmes describe them."""

import gzip

import numpy as np
import pandas as pd
import pytest

from bench.datasets import check, join, join_with_report, load
from bench.datasets.profiles import read_profiles
from tests.bench.small import dataset_toml, layer

pytestmark = pytest.mark.realdata


def test_cdrp_l1000_pairs_162_compounds_with_978_genes(realdata, tmp_path):
    folder = realdata / "cdrp_l1000_cmea"
    rename = {"broad_id": "Metadata_Compound"}
    profiles = read_profiles(
        folder / "morphology_162x812.parquet", perturbation="Metadata_Compound", rename=rename
    )
    genes = pd.read_parquet(folder / "expression_162x978.parquet").rename(columns=rename)
    # Another order of rows must not change what is paired with what.
    genes.sample(frac=1, random_state=0).to_parquet(tmp_path / "genes.parquet")
    profiles.wells[["Metadata_Compound"]].to_csv(tmp_path / "wells.csv", index=False)
    text = dataset_toml(layer("l1000", table="genes.parquet", scale="z"), name="cdrp")
    (tmp_path / "dataset.toml").write_text(text)
    data = load(tmp_path)
    task, report = join_with_report(data, data.layer("l1000"), profiles.wells)
    assert (profiles.X.shape, task.Y.shape) == ((162, 812), (162, 978))
    assert (report.rows_without_wells, report.wells_without_readouts) == ((), ())
    by_compound = genes.set_index("Metadata_Compound")
    expected = by_compound.loc[task.units["Metadata_Compound"]].to_numpy(np.float32)
    np.testing.assert_array_equal(task.Y, expected)
    assert {f.code for f in check(data)} == {"no-negative-controls"}


def test_lincs_plate_meets_its_targets_by_compound_and_by_top_dose(realdata, tmp_path):
    source = realdata / "lincs_a549" / "SQ00015054_normalized_feature_select.csv.gz"
    rename = {
        "Metadata_mmoles_per_liter": "Metadata_Concentration",
        "Metadata_broad_sample": "Metadata_Compound",
        "Metadata_InChIKey14": "Metadata_InChIKey",
    }
    profiles = read_profiles(source, rename=rename)
    assert profiles.X.shape == (384, 454)
    wells = profiles.wells.copy()
    wells["Metadata_pert_type"] = wells["Metadata_pert_type"].replace("control", "negcon")
    wells["Metadata_Concentration_unit"] = "mM"
    wells.to_csv(tmp_path / "wells.csv", index=False)
    treated = wells[wells["Metadata_target"] != ""]
    targets = treated[["Metadata_Compound"]].assign(target=treated["Metadata_target"].str.split("|"))
    called = targets.drop_duplicates("Metadata_Compound").explode("target")
    pd.crosstab(called["Metadata_Compound"], called["target"]).reset_index().to_parquet(
        tmp_path / "t.parquet"
    )
    text = dataset_toml(layer("target", "target", table="t.parquet", scale="z"), name="lincs")
    (tmp_path / "dataset.toml").write_text(text)
    data = load(tmp_path)
    assert {f.code for f in check(data) if f.severity == "error"} == set()
    each, report = join_with_report(data, data.layer("target"), profiles.wells)
    assert report.controls_without_readouts == 24
    doses = pd.Series(each.units["Metadata_Concentration"]).groupby(each.groups).nunique()
    wells_each = pd.Series(np.diff(each.members.indptr)).groupby(each.groups).sum()
    # 2 reference compounds stand in 12 wells at one dose, all others once at each of 6 doses.
    assert sorted(set(zip(doses, wells_each, strict=True))) == [(1, 12), (6, 6)]
    assert each.members.nnz == int((wells["Metadata_target"] != "").sum()) == 258
    assert all(len(g) == 14 and g.isalpha() for g in each.groups)
    (tmp_path / "dataset.toml").write_text(text + 'dose_rule = "top"\n')
    data = load(tmp_path)
    top = join(data, data.layer("target"), profiles.wells)
    assert len(top.units) == called["Metadata_Compound"].nunique()
    assert top.units["Metadata_Concentration"].min() >= each.units["Metadata_Concentration"].median()


def test_bbbc021_has_103_treatments_of_38_compounds_on_55_plates(realdata, tmp_path):
    folder = realdata / "bbbc021_profiles"
    rename = {"Image_Metadata_Plate": "Metadata_Plate", "Image_Metadata_Well": "Metadata_Well"}
    source = folder / "ljosa_jbiomolscreen_2013_per_well_mean.csv.gz"
    profiles = read_profiles(source, rename=rename, nonfinite="drop-columns")
    assert len(profiles.columns) + len(profiles.dropped) == 516
    with gzip.open(folder / "BBBC021_v1_image.csv.gz", "rt") as handle:
        image = pd.read_csv(handle, dtype=str)
    columns = ["Plate_DAPI", "Well_DAPI", "Compound", "Concentration"]
    names = {f"Image_Metadata_{c}": f"Metadata_{c.removesuffix('_DAPI')}" for c in columns}
    wells = image[list(names)].rename(columns=names).drop_duplicates()
    wells["Metadata_pert_type"] = np.where(wells["Metadata_Compound"] == "DMSO", "negcon", "trt")
    wells["Metadata_Concentration_unit"] = "uM"
    wells.to_csv(tmp_path / "wells.csv", index=False)
    moa = pd.read_csv(folder / "BBBC021_v1_moa.csv").rename(
        columns={"compound": "Metadata_Compound", "concentration": "Metadata_Concentration"}
    )
    calls = pd.get_dummies(moa.set_index(["Metadata_Compound", "Metadata_Concentration"])["moa"], dtype=float)
    calls.reset_index().to_csv(tmp_path / "moa.csv", index=False)
    text = dataset_toml(
        layer("moa", "target", scale="z", key=("Metadata_Compound", "Metadata_Concentration")), name="bbbc021"
    )
    (tmp_path / "dataset.toml").write_text(text)
    data = load(tmp_path)
    task, report = join_with_report(data, data.layer("moa"), profiles.wells)
    assert profiles.wells["Metadata_Plate"].nunique() == 55
    assert len(profiles.wells) == 632
    treated = ~task.control
    assert (int(treated.sum()), len(set(task.groups[treated]))) == (103, 38)
    assert task.members[np.flatnonzero(treated)].nnz == 302
    assert int(task.well_control.sum()) == 330
    assert (report.wells_unknown, report.rows_without_wells) == ((), ())
