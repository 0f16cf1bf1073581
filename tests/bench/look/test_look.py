"""bench look: the picture shows the values and pixels that it says it shows."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import ndimage

from bench.__main__ import main
from bench.datasets import load
from bench.demo import make
from bench.entrants import Spec, feature_document
from bench.errors import DatasetError, UsageError
from bench.execute import Executor
from bench.featurize import Job, Work, ensure
from bench.look import colour, heatmap, layout, plate_sheet, values, well_sheet
from bench.look.sheet import overlay
from bench.store import Store, digest, read_parts
from featurizers.base import Channel


@pytest.fixture(scope="module")
def screen(tmp_path_factory):
    return make(
        tmp_path_factory.mktemp("look") / "screen", plates=1, compounds=2, doses=1, seed=1, processes=1
    )


@pytest.fixture(scope="module")
def dataset(screen):
    return load(screen)


@pytest.fixture(scope="module")
def stored(dataset, tmp_path_factory):
    """A store with two featurizers of the plate, of which only the first counts objects."""
    store = Store(tmp_path_factory.mktemp("store") / "store")
    parts = {}
    for name in ("cell-count", "intensity"):
        spec = Spec(name)
        featurizer = spec.build()
        document = feature_document(spec, featurizer, dataset, None, None)
        job = Job(name, Work(digest(document), spec), document, tuple(featurizer.card.needs))
        result = ensure(store, dataset, [job], Executor(0), lambda *_: None)[job.work.key]
        parts[name] = read_parts(store, result.parts.values())
    return store, parts


def bench(*words: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(w) for w in words])
    return int(stop.value.code or 0)


def test_a_column_is_found_in_the_platemap_beside_features_in_a_layer_and_in_features(dataset, stored):
    store, parts = stored
    wells = dataset.wells.set_index("Metadata_Well")
    pd.testing.assert_series_equal(
        values(dataset, "plate-1", "Metadata_Compound", None), wells["Metadata_Compound"]
    )
    counted = parts["cell-count"].wells.set_index("Metadata_Well")["n_cells"]
    assert counted.max() > 3
    pd.testing.assert_series_equal(values(dataset, "plate-1", "n_cells", store), counted, check_names=False)
    features = parts["intensity"]
    name = features.columns[0]
    found = values(dataset, "plate-1", f"intensity:{name}", store)
    np.testing.assert_array_equal(found.to_numpy(), features.X[:, 0])
    layer = dataset.layer("transcripts")
    table = layer.read()
    readout = table.columns[len(layer.key)]
    found = values(dataset, "plate-1", f"transcripts:{readout}", None)
    row = table.iloc[0]
    wells = dataset.wells.set_index("Metadata_Well", drop=False)
    well = wells.index[(wells[list(layer.key)] == row[list(layer.key)]).all(axis=1)][0]
    assert found[well] == pytest.approx(row[readout])


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("nothing", "no column 'nothing'.*stored beside features are Metadata_QC"),
        ("transcripts:XYZ", "layer 'transcripts' has no readout 'XYZ'; it has"),
        ("intensity:XYZ", "'intensity' has no feature 'XYZ'; it has Image_"),
        ("mae:XYZ", "no features of that name are stored.*bench run --featurizer mae"),
    ],
)
def test_a_column_that_stands_nowhere_is_refused_with_those_there_are(dataset, stored, column, words):
    with pytest.raises(UsageError, match=words):
        values(dataset, "plate-1", column, stored[0])


@pytest.mark.parametrize(
    ("well", "place"), [("A01", (0, 0)), ("H12", (7, 11)), ("P24", (15, 23)), ("AF48", (31, 47))]
)
def test_wells_have_their_place_and_rows_their_letters(well, place):
    assert layout.position(well) == place
    assert well.startswith(layout.row_name(place[0]))
    assert layout.plate_format([well]) == {(0, 0): (2, 3), (7, 11): (8, 12), (15, 23): (16, 24)}.get(
        place, (32, 48)
    )


@pytest.mark.parametrize("well", ["taxol", "A00", "1A", ""])
def test_a_name_without_a_place_is_refused(well):
    with pytest.raises(DatasetError, match="has no place on a plate"):
        layout.position(well)


def near(image: np.ndarray, rgb: tuple[int, ...]) -> np.ndarray:
    return (np.abs(image[..., :3].astype(int) - rgb) <= 3).all(axis=-1)


def test_a_heat_map_colours_the_well_of_the_value(tmp_path):
    found = pd.Series([0.0, 1.0, np.nan], ["A01", "H12", "D06"])
    heatmap(found, tmp_path / "h.png", title="t", label="l")
    image = np.asarray(Image.open(tmp_path / "h.png"))
    middle = {}
    for rgb, well in {(68, 1, 84): "A01", (253, 231, 37): "H12"}.items():
        parts, _ = ndimage.label(near(image, rgb))
        largest = np.bincount(parts.ravel())[1:].argmax() + 1
        ys, xs = np.nonzero(parts == largest)
        assert 0.9 < (np.ptp(ys) + 1) / (np.ptp(xs) + 1) < 1.1  # one square well, not the scale
        middle[well] = np.array([ys.mean(), xs.mean()]), np.ptp(ys) + 1
    (first, edge), (last, _) = middle["A01"], middle["H12"]
    np.testing.assert_allclose((last - first) / (7, 11), edge, rtol=0.12)


def test_a_heat_map_is_the_same_bytes_twice_and_takes_text_constants_and_nothing(tmp_path):
    cases = {
        "text": pd.Series(["a", "b", ""], ["A01", "A02", "A03"]),
        "constant": pd.Series([2.0, 2.0], ["A01", "A02"]),
        "nothing": pd.Series([np.nan], ["A01"]),
    }
    for name, found in cases.items():
        for i in range(2):
            heatmap(found, tmp_path / f"{name}{i}.png", title=name, label="x", controls=["A01"])
        assert (tmp_path / f"{name}0.png").read_bytes() == (tmp_path / f"{name}1.png").read_bytes()


def test_contrast_is_common_to_the_plate_so_a_bright_well_looks_bright():
    rng = np.random.default_rng(0)
    dim, bright = (rng.uniform(0, top, (1, 40, 40)) for top in (100, 1000))
    limits = colour.contrast([dim, bright], [Channel("ER")])
    assert colour.scaled(bright, limits).mean() > 5 * colour.scaled(dim, limits).mean()


def test_a_channel_of_one_grey_level_is_black_and_a_single_channel_is_white_on_black():
    flat = np.full((2, 8, 8), 7.0)
    two = [Channel("ER"), Channel("DNA", role="nucleus")]
    assert colour.scaled(flat, colour.contrast([flat], two)).max() == 0.0
    assert colour.colours([Channel("BF")]).tolist() == [[1.0, 1.0, 1.0]]
    assert colour.colours(two)[1] == pytest.approx(colour.NUCLEUS)


@pytest.mark.parametrize("names", ["RGB", ("red", "Green", "BLUE")])
def test_a_colour_image_keeps_its_colours(names):
    bands = [Channel(name) for name in names]
    grey = np.random.default_rng(0).integers(0, 256, (3, 30, 30)).astype(np.uint8)
    grey[1] //= 2  # little green: a stretch per band would bring it up
    limits = colour.contrast([grey], bands)
    assert (limits == limits[0]).all()
    shown = colour.composite(colour.scaled(grey, limits), colour.colours(bands)).astype(float)
    assert np.abs(shown - np.moveaxis(grey, 0, 2)).max() < 8


def naive_outlines(labels: np.ndarray) -> np.ndarray:
    rim = np.zeros(labels.shape, bool)
    for r in range(labels.shape[0]):
        for c in range(labels.shape[1]):
            for dr, dc in ((0, 1), (1, 0), (0, -1), (-1, 0)):
                a, b = r + dr, c + dc
                inside = 0 <= a < labels.shape[0] and 0 <= b < labels.shape[1]
                if labels[r, c] and inside and labels[a, b] != labels[r, c]:
                    rim[r, c] = True
    return rim


def test_outlines_are_where_an_object_meets_another_label():
    labels = np.random.default_rng(0).integers(0, 3, (15, 18)).repeat(2, axis=0)
    np.testing.assert_array_equal(colour.outlines(labels), naive_outlines(labels))


def test_an_overlay_changes_the_rims_and_nothing_else():
    labels = np.zeros((12, 12), np.int32)
    labels[3:9, 3:9] = 4
    base = np.full((12, 12, 3), 50, np.uint8)
    drawn = overlay(base, {"cells": labels})
    changed = (drawn != base).any(axis=2)
    np.testing.assert_array_equal(changed, colour.outlines(labels))


def test_a_plate_and_a_well_are_drawn_from_the_command_line(screen, stored, tmp_path, capsys):
    well = load(screen).wells["Metadata_Well"].iloc[3]
    jobs = {
        "sheet.png": ("plate-1",),
        "heat.png": ("plate-1", "--column", "n_cells", "--store", stored[0].root),
        "well.png": (f"plate-1/{well.lower()}",),
    }
    for name, words in jobs.items():
        assert bench("look", *words, "--dataset", screen, "--out", tmp_path / name, "--json") == 0
        said = json.loads(capsys.readouterr().out)
        assert said["file"] == str(tmp_path / name)
        assert said["failures"] == []
        assert min(Image.open(tmp_path / name).size) > 200


def test_a_well_whose_field_is_lost_is_left_out_named_and_the_exit_code_says_so(screen, tmp_path, capsys):
    root = shutil.copytree(screen, tmp_path / "screen")
    lost = sorted((root / "images" / "plate-1").glob("*_ER.tif"))[2]
    lost.unlink()
    words = ("look", "plate-1", "--dataset", root, "--out", tmp_path / "s.png", "--json")
    assert bench(*words) == 3
    said = json.loads(capsys.readouterr().out)
    assert [str(lost) in failure for failure in said["failures"]] == [True]
    assert (tmp_path / "s.png").exists()


def test_a_name_that_is_neither_plate_nor_well_is_said(screen, capsys):
    assert bench("look", "Q99", "--dataset", screen) != 0
    assert "no plate and no well of 'demo'; plates: plate-1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("plate-1", "--out", "x.txt"), "x.txt does not end in .png"),
        (("plate-1/WELL", "--column", "n_cells"), "'n_cells' is drawn over a whole plate; name plate-1"),
        (("plate-1", "--column", "Metadata_Compound", "--out", "file/x.png"), "file/x.png cannot be written"),
    ],
)
def test_what_cannot_be_drawn_or_written_is_one_sentence(
    screen, dataset, tmp_path, monkeypatch, capsys, words, said
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("in the way")
    well = dataset.wells["Metadata_Well"].iloc[0]
    assert bench("look", *(w.replace("WELL", well) for w in words), "-d", screen) in (1, 2)
    error = capsys.readouterr().err
    assert said in error.replace("\n", " ")
    assert "Traceback" not in error
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_well_of_two_plates_asks_which(dataset):
    from bench.cli.look import find

    other = dataset.wells.assign(Metadata_Plate="plate-2")
    both = replace(dataset, wells=pd.concat([dataset.wells, other]))
    well = dataset.wells["Metadata_Well"].iloc[0]
    with pytest.raises(UsageError, match="is on plates plate-1, plate-2; name one"):
        find(both, well)
    assert find(both, f"plate-2/{well}") == ("plate-2", well)
    assert find(both, "plate-2") == ("plate-2", "")


def test_a_plate_without_any_readable_field_is_an_error(tmp_path):
    with pytest.raises(DatasetError, match="no field can be read"):
        plate_sheet({"A01": None}, tmp_path / "x.png", title="P")
    with pytest.raises(DatasetError, match="no field can be read"):
        well_sheet([], tmp_path / "x.png", title="P")
