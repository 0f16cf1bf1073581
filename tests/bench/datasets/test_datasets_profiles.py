"""Ready-made profiles: what is metadata, what is a feature, what is refused."""

import numpy as np
import pandas as pd
import pytest

from bench.datasets import load
from bench.datasets.importing import import_profiles, store_profiles
from bench.datasets.profiles import read_profiles
from bench.errors import DatasetError, UsageError
from bench.store import Store, read_features


@pytest.fixture
def table(tmp_path):
    frame = pd.DataFrame(
        {
            "Metadata_Plate": ["1", "1", "2"],
            "Metadata_Well": ["a1", "A02", "A01"],
            "Metadata_note": ["x", "", "y"],
            "area": [1.5, 2.5, 3.5],
            "n, cells": [1, 2, 3],
        }
    )
    path = tmp_path / "profiles.csv"
    frame.to_csv(path, index=False)
    return path


def test_metadata_columns_are_metadata_and_all_others_are_features(table):
    profiles = read_profiles(table)
    assert profiles.columns == ("area", "n, cells")
    assert profiles.X.dtype == np.float32
    np.testing.assert_array_equal(profiles.X, [[1.5, 1], [2.5, 2], [3.5, 3]])
    assert profiles.wells["Metadata_Well"].tolist() == ["A01", "A02", "A01"]
    assert profiles.wells["Metadata_note"].tolist() == ["x", "", "y"]


def test_the_digest_follows_content_not_format(table, tmp_path):
    frame = pd.read_csv(table, dtype={"Metadata_Plate": str}, keep_default_na=False)
    frame.to_parquet(tmp_path / "same.parquet")
    assert read_profiles(tmp_path / "same.parquet").digest == read_profiles(table).digest
    frame.assign(area=frame["area"] + 1).to_parquet(tmp_path / "other.parquet")
    assert read_profiles(tmp_path / "other.parquet").digest != read_profiles(table).digest


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("1.5", "big", r"hold text.*\(area; the first holds 'big'.*--rename area=Metadata_area"),
        ("1,A02", "1,A01", "row 2: well 1/A01 occurs twice"),
        ("1.5", "", r"NaN or infinite values in 1 of 2 features \(area: 1\).*--nonfinite drop-columns"),
        ("1.5", "1e300", r"area: 1\)"),
        ("n, cells", "area", "occur twice"),
        ("Metadata_Well", "Metadata_Wall", "no column Metadata_Well"),
    ],
)
def test_what_cannot_be_a_profile_is_refused_with_the_remedy(table, old, new, message):
    text = table.read_text()
    assert old in text
    table.write_text(text.replace(old, new, 1))
    with pytest.raises(DatasetError, match=message):
        read_profiles(table)


def test_columns_with_nan_are_dropped_only_when_asked_and_then_named(table):
    table.write_text(table.read_text().replace("1.5", "nan"))
    profiles = read_profiles(table, nonfinite="drop-columns")
    assert profiles.columns == ("n, cells",)
    assert profiles.dropped == {"area": 1}
    table.write_text(table.read_text().replace(",1\n", ",-inf\n"))
    with pytest.raises(DatasetError, match="nothing is left"):
        read_profiles(table, nonfinite="drop-columns")


def test_a_table_per_treatment_meets_the_wells_by_perturbation(tmp_path):
    pd.DataFrame({"broad_id": ["b", "a", "b"], "f": [1.0, 2.0, 3.0]}).to_csv(tmp_path / "p.csv", index=False)
    profiles = read_profiles(
        tmp_path / "p.csv", perturbation="Metadata_Compound", rename={"broad_id": "Metadata_Compound"}
    )
    assert profiles.wells["Metadata_Well"].tolist() == ["b", "a", "b#2"]
    with pytest.raises(DatasetError, match="no column broad to rename"):
        read_profiles(tmp_path / "p.csv", rename={"broad": "Metadata_Compound"})


def test_imported_profiles_come_back_from_the_store_and_are_recorded_once(small, tmp_path):
    source = small / "profiles.csv"
    done = import_profiles(str(source), name="cp", root=small, store=tmp_path / "store")
    assert (done["wells"], done["plates"], done["features"], done["written"]) == (6, 1, 2, 1)
    assert done["unmatched"] == []
    text = (small / "dataset.toml").read_text()
    assert "# a comment that must survive" in text
    assert text.endswith('[[features]]\nname = "cp"\ntable = "profiles.csv"\n')
    data = load(small)
    again = store_profiles(Store(tmp_path / "store"), data, data.features[-1])
    assert again.written == 0
    key = next(iter(again.parts.values()))
    features = read_features(Store(tmp_path / "store"), key.dataset, "cp", key.key)
    frame = pd.read_csv(source).sort_values("Metadata_Well")
    np.testing.assert_array_equal(features.X, frame[["area", "n"]].to_numpy(np.float32))
    repeated = import_profiles(str(source), name="cp", root=small, store=tmp_path / "store")
    assert (repeated["written"], repeated["recorded"]) == (0, False)
    assert (small / "dataset.toml").read_text() == text


def test_settings_of_an_import_are_recorded_and_used_again(small, tmp_path):
    table = tmp_path / "elsewhere.csv"
    text = (small / "profiles.csv").read_text().replace("Metadata_Well", "well").splitlines()
    text[1] = "001,A01,,0"
    table.write_text("\n".join(text) + "\n")
    done = import_profiles(
        str(table),
        name="cp",
        root=small,
        store=tmp_path / "store",
        rename={"well": "Metadata_Well"},
        nonfinite="drop-columns",
    )
    assert done["dropped"] == {"area": 1}
    data = load(small)
    assert data.features[-1].table == str(table)
    assert store_profiles(Store(tmp_path / "store"), data, data.features[-1]).written == 0


def test_recording_keeps_the_bytes_and_mode_of_the_settings(small, tmp_path):
    file = small / "dataset.toml"
    before = file.read_bytes().replace(b"\n", b"\r\n").rstrip()
    file.write_bytes(before)
    file.chmod(0o640)
    import_profiles(str(small / "profiles.csv"), name="cp", root=file, store=tmp_path / "store")
    assert file.read_bytes().startswith(before)
    assert file.stat().st_mode & 0o777 == 0o640
    assert [t.name for t in load(small).features] == ["ready", "cp"]


def test_settings_that_cannot_take_an_entry_are_left_as_they_are(small, tmp_path):
    file = small / "dataset.toml"
    text = file.read_text()
    file.write_text("features = []\n" + text[: text.index("[[features]]")])
    before = file.read_bytes()
    with pytest.raises(DatasetError, match="add it by hand"):
        import_profiles(str(small / "profiles.csv"), name="cp", root=small, store=tmp_path / "store")
    assert file.read_bytes() == before


def test_a_failed_import_records_nothing(small, tmp_path):
    before = (small / "dataset.toml").read_text()
    strangers = tmp_path / "p.csv"
    strangers.write_text("Metadata_Plate,Metadata_Well,f\n9,H12,1.0\n")
    with pytest.raises(DatasetError, match="none of its wells is in the wells table"):
        import_profiles(str(strangers), name="cp", root=small, store=tmp_path / "store")
    strangers.write_text("Metadata_Plate,Metadata_Well,f\n001,A01,1.0\n")
    with pytest.raises(DatasetError, match=r"'ready' is .*profiles\.csv; choose another --name"):
        import_profiles(str(strangers), name="ready", root=small, store=tmp_path / "store")
    with pytest.raises(UsageError, match="--nonfinite 'drop'"):
        import_profiles(str(strangers), name="cp", root=small, store=tmp_path / "store", nonfinite="drop")
    assert (small / "dataset.toml").read_text() == before
