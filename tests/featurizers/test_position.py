import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurizers.base import FeaturizerError, Field
from featurizers.position import LAYOUTS, Position, PositionConfig, well_indices


def at(well, plate="P1", site=1):
    return Field({"Metadata_Plate": plate, "Metadata_Well": well, "Metadata_Site": site}, ())


def named(featurizer, field):
    return dict(zip(featurizer.columns(()), featurizer.embed([field]).values[0].tolist(), strict=True))


@pytest.mark.parametrize(
    ("well", "place"),
    [
        ("A01", (0, 0)),
        ("A1", (0, 0)),
        ("P24", (15, 23)),
        ("AA01", (26, 0)),
        ("AF48", (31, 47)),
        ("H012", (7, 11)),
    ],
)
def test_well_names_become_rows_and_columns(well, place):
    assert well_indices(well) == place


@pytest.mark.parametrize("word", ["", "A", "01", "A00", "a01", "A01 ", "AAA1", "A-1", "A1.0", "A123"])
def test_what_is_no_well_name_is_none(word):
    assert well_indices(word) is None


@given(st.sampled_from(sorted(LAYOUTS)), st.data())
def test_every_well_of_a_layout_has_one_row_one_column_and_its_edge_distance(wells, data):
    rows, cols = LAYOUTS[wells]
    r = data.draw(st.integers(0, rows - 1))
    c = data.draw(st.integers(0, cols - 1))
    letters = chr(ord("A") + r) if r < 26 else "A" + chr(ord("A") + r - 26)
    found = named(Position(PositionConfig(wells=wells)), at(f"{letters}{c + 1:02d}"))
    hot = [k for k, v in found.items() if v == 1 and k[-2:].isdigit() and "Hash" not in k]
    assert hot == [f"Position_Row{r + 1:02d}", f"Position_Column{c + 1:02d}"]
    assert found["Position_EdgeDistance"] == min(r, rows - 1 - r, c, cols - 1 - c)
    assert -1 <= found["Position_Row"] <= 1
    assert found["Position_Column"] == pytest.approx(-1 + 2 * c / (cols - 1), abs=1e-6)


def test_plates_differ_in_the_hash_columns_alone():
    one, other = (Position().embed([at("C05", plate)]).values[0] for plate in ("P1", "P2"))
    differing = np.flatnonzero(one != other)
    names = Position().columns(())
    assert differing.size
    assert all(names[i].startswith("Position_PlateHash") for i in differing)
    assert np.linalg.norm(one[-16:]) == pytest.approx(1)


def test_as_many_plates_as_hash_columns_can_nearly_all_be_told_apart_linearly():
    codes = np.stack([Position().embed([at("A01", f"plate {i}")]).values[0, -16:] for i in range(16)])
    assert np.linalg.matrix_rank(codes) >= 14


def test_a_plate_code_is_the_first_bits_of_the_sha256_of_its_name():
    signs = Position().embed([at("A01", "P1")]).values[0, -16:] > 0
    bits = "".join(str(int(s)) for s in signs)
    assert f"{int(bits, 2):04x}" == "fbea"  # printf P1 | sha256sum


def test_without_the_plate_only_the_place_is_left():
    config = PositionConfig(plate="none")
    assert len(Position(config).columns(())) == 3 + 16 + 24


def test_sites_of_a_well_are_equal():
    values = Position().embed([at("B02", site=1), at("B02", site=2)]).values
    assert np.array_equal(values[0], values[1])


@pytest.mark.parametrize(
    ("well", "sentence"),
    [
        ("Q01", "outside a plate of 384 wells; use the preset '1536'"),
        ("ZZ99", "correct Metadata_Well"),
        ("well 7", "'well 7' is not a well name such as A01"),
    ],
)
def test_a_well_that_is_not_on_the_plate_is_refused(well, sentence):
    with pytest.raises(FeaturizerError, match=sentence):
        Position().embed([at(well)])


def test_a_field_without_a_plate_is_refused():
    with pytest.raises(FeaturizerError, match="needs Metadata_Plate"):
        Position().embed([Field({"Metadata_Well": "A01"}, ())])


@pytest.mark.parametrize("settings", [{"wells": 24}, {"plate": "one-hot"}, {"plate_columns": 0}])
def test_unknown_settings_are_refused(settings):
    with pytest.raises(FeaturizerError, match="position"):
        PositionConfig(**settings)
