import dataclasses
import os
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from featurizers.base import Channel, FeaturizerError, Field
from featurizers.cellprofiler import CellProfiler, CellProfilerConfig
from featurizers.cellprofiler.config import FAMILIES
from featurizers.cellprofiler.image import measure_image
from featurizers.cellprofiler.measure import cytoplasm, measure
from featurizers.cellprofiler.names import column_names
from featurizers.cellprofiler.vocabulary import IMAGE
from featurizers.conformance import check_featurizer, failures

CHANNELS = (Channel("DNA", "", "nucleus"), Channel("ER"), Channel("Mito"))
SMALL = dataclasses.replace(CellProfilerConfig(), families=("size-shape", "intensity"), neighbors=())


def as_field(synthetic, **changes):
    ids = np.unique(synthetic.cells[synthetic.cells > 0]).astype(np.int32)
    plain = Field(
        metadata={"Metadata_Plate": "P1", "Metadata_Well": "A01", "Metadata_Site": "2"},
        channels=CHANNELS,
        pixels=np.rint(synthetic.pixels * 65535).astype(np.uint16),
        masks={"nuclei": synthetic.nuclei, "cells": synthetic.cells},
        centres=np.zeros((len(ids), 2), np.float32),
        ids=ids,
    )
    return dataclasses.replace(plain, **changes)


def test_it_keeps_the_contract_of_featurizers():
    assert failures(check_featurizer(CellProfiler)) == []


def cp_measure_columns(synthetic, mask, config):
    """The whole set of one compartment from cp-measure, named as CellProfiler names it."""
    bulk = pytest.importorskip("cp_measure.bulk")
    from cp_measure.core.measurecolocalization import get_correlation_overlap

    core, pair = bulk.get_core_measurements(legacy=True), bulk.get_correlation_measurements()
    with np.errstate(all="ignore"):
        out = {
            f"AreaShape_{k}": v
            for k, v in (core["sizeshape"](mask, None) | core["feret"](mask, None)).items()
        }
        out |= {f"AreaShape_{k}": v for k, v in core["zernike"](mask, None).items()}
        for channel, image in zip(CHANNELS, synthetic.pixels, strict=True):
            name = channel.name
            found = core["intensity"](mask, image)
            found |= core["granularity"](mask, image, subsample_size=0.5, image_sample_size=0.5)
            out |= {f"{k}_{name}": v for k, v in found.items()}
            for scale in config.texture_scales:
                for key, value in core["texture"](mask, image, scale=scale).items():
                    feature, rest = key.split("_", 1)
                    out[f"Texture_{feature}_{name}_{rest}"] = value
            rings = core["radial_distribution"](mask, image) | core["radial_zernikes"](mask, image)
            for key, value in rings.items():
                group, feature, rest = key.split("_", 2)
                out[f"{group}_{feature}_{name}_{rest}"] = value
        for a, b in combinations(range(len(CHANNELS)), 2):
            first, second = CHANNELS[a].name, CHANNELS[b].name
            two = (synthetic.pixels[a], synthetic.pixels[b], mask)
            found = pair["pearson"](*two) | pair["manders_fold"](*two) | pair["rwc"](*two)
            found |= pair["costes"](*two, scale_max=65535) | get_correlation_overlap(*two)
            for key, value in found.items():
                key = key.replace("Pearson", "Correlation")
                if key.endswith("_1"):
                    out[f"{key[:-2]}_{first}_{second}"] = value
                elif key.endswith("_2"):
                    out[f"{key[:-2]}_{second}_{first}"] = value
                else:
                    out[f"{key}_{first}_{second}"] = value
    return {k: np.asarray(v, float) for k, v in out.items()}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_every_column_of_the_whole_set_is_the_one_its_name_says(field, assert_equal_values):
    config = dataclasses.replace(
        CellProfiler.presets["full"],
        families=tuple(f for f in FAMILIES if f != "neighbors" and not f.startswith("image")),
        cytoplasm="whole-nuclei",
        colocalization="object",
        neighbors=(),
    )
    names = column_names([c.name for c in CHANNELS], config)
    masks = {"nuclei": field.nuclei, "cells": field.cells, "cytoplasm": field.cytoplasm}
    ids = np.unique(field.cells[field.cells > 0]).astype(np.int32)
    ours = dict(zip(names, measure(field.pixels, masks, ids, config).T, strict=True))
    compared = 0
    for compartment, mask in masks.items():
        theirs = cp_measure_columns(field, mask, config)
        for key, expected in theirs.items():
            name = f"{compartment.capitalize()}_{key}"
            if name not in ours or "Phase" in key or "Orientation" in key or "CentralMoment_" in key:
                continue  # absent, or compared with their own tolerance beside their kernels
            assert_equal_values(ours[name], expected, name)
            compared += 1
    assert compared == len(
        [n for n in names if not any(w in n for w in ("Phase", "Orientation", "CentralMoment_"))]
    )


def test_rows_are_the_cells_off_the_border_in_ascending_order_whatever_the_order_of_ids(field):
    given = as_field(field)
    kept = CellProfiler(SMALL).embed([given])
    rim = np.concatenate([field.nuclei[0], field.nuclei[-1], field.nuclei[:, 0], field.nuclei[:, -1]])
    assert kept.object.tolist() == [i for i in given.ids if i not in rim]
    everything = CellProfiler(dataclasses.replace(SMALL, border="keep"))
    shuffled = dataclasses.replace(given, ids=given.ids[::-1].copy())
    a, b = everything.embed([given]), everything.embed([shuffled])
    assert a.object.tolist() == b.object.tolist() == given.ids.tolist()
    assert np.array_equal(a.values, b.values)


def test_cells_at_the_border_count_as_neighbours_though_they_have_no_row(field):
    config = dataclasses.replace(SMALL, families=("neighbors",), neighbors=("cells adjacent",))
    dropped = CellProfiler(config).embed([as_field(field)])
    kept = CellProfiler(dataclasses.replace(config, border="keep")).embed([as_field(field)])
    assert np.array_equal(dropped.values, kept.values[np.isin(kept.object, dropped.object)])


def test_the_same_bytes_come_twice_and_from_any_batch(field):
    featurizer = CellProfiler(CellProfiler.presets["full"])
    given = as_field(field)
    alone = featurizer.embed([given]).values
    batch = featurizer.embed([given, given])
    assert alone.tobytes() == batch.values[: len(alone)].tobytes() == batch.values[len(alone) :].tobytes()
    assert batch.field.tolist() == [0] * len(alone) + [1] * len(alone)


def test_undefined_values_become_the_fields_median_and_zero_where_nothing_is_defined(field):
    pixels = np.rint(field.pixels * 65535).astype(np.uint16)
    pixels[2] = 0
    config = dataclasses.replace(CellProfiler.presets["full"], border="keep")
    featurizer = CellProfiler(config)
    given = as_field(field, pixels=pixels)
    nuclei = given.masks["nuclei"].copy()
    nuclei[nuclei == 5] = 0  # a cell without a nucleus
    found = featurizer.embed([dataclasses.replace(given, masks=given.masks | {"nuclei": nuclei})])
    assert np.isfinite(found.values).all()
    columns = dict(zip(featurizer.columns(CHANNELS), found.values.T, strict=True))
    assert not columns["Cells_Texture_Entropy_Mito_3_00_256"].any()
    assert not columns["Cells_Correlation_Correlation_DNA_Mito"].any()
    area = columns["Nuclei_AreaShape_Area"]
    without = found.object.tolist().index(5)
    assert area[without] == np.median(np.delete(area, without))


def test_a_cytoplasm_is_the_cell_less_the_nucleus_or_less_its_interior(field):
    whole = cytoplasm(field.cells, field.nuclei, dataclasses.replace(SMALL, cytoplasm="whole-nuclei"))
    assert np.array_equal(whole, field.cytoplasm)
    shrunken = cytoplasm(field.cells, field.nuclei, SMALL)
    centrosome = pytest.importorskip("centrosome.outline")
    rim = centrosome.outline(field.nuclei) > 0
    assert np.array_equal(shrunken, np.where((field.nuclei > 0) & ~rim, 0, field.cells))


def test_a_given_cytoplasm_is_measured_as_it_is(field):
    given = as_field(field)
    masks = given.masks | {"cytoplasm": np.where(field.cells == 4, 4, 0).astype(np.int32)}
    config = dataclasses.replace(SMALL, compartments=("cytoplasm",), border="keep")
    area = CellProfiler(config).embed([dataclasses.replace(given, masks=masks)]).values[:, 0]
    assert area[given.ids.tolist().index(4)] == (field.cells == 4).sum()


def test_image_features_are_numpys_statistics_of_all_pixels():
    image = np.array([[[0.5, 0.1, 0.2], [0.9, 0.9, 0.3]]])
    row = dict(zip(IMAGE, measure_image(image)[0], strict=True))
    assert row["TotalIntensity"] == pytest.approx(2.9)
    assert row["MedianIntensity"] == pytest.approx(0.4)
    assert row["MADIntensity"] == pytest.approx(np.median(abs(image - 0.4)))
    assert row["LowerQuartileIntensity"] == pytest.approx(np.quantile(image, 0.25))
    assert row["UpperQuartileIntensity"] == pytest.approx(np.quantile(image, 0.75))
    assert row["PercentMaximal"] == pytest.approx(100 / 3)


def test_a_field_without_cells_has_no_rows(field):
    empty = np.zeros_like(field.cells)
    given = as_field(field, masks={"nuclei": empty, "cells": empty}, ids=np.zeros(0, np.int32))
    featurizer = CellProfiler(SMALL)
    assert featurizer.embed([given]).values.shape == (0, len(featurizer.columns(CHANNELS)))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("case", ["black", "constant", "saturated"])
def test_images_without_contrast_give_finite_rows(field, case):
    level = {"black": 0, "constant": 4000, "saturated": 65535}[case]
    featurizer = CellProfiler(dataclasses.replace(CellProfiler.presets["full"], border="keep"))
    found = featurizer.embed([as_field(field, pixels=np.full(field.pixels.shape, level, np.uint16))])
    assert np.isfinite(found.values).all()
    assert len(found.values) == 9


@pytest.mark.parametrize("case", ["one cell covers the field", "cells of one and two pixels"])
def test_extreme_cells_give_finite_rows(field, case):
    cells, nuclei = np.zeros((2, *field.cells.shape), np.int32)
    if case.startswith("one cell"):
        cells[:] = 1
        nuclei[40:60, 40:70] = 1
    else:
        cells[5, 5] = cells[80, 100] = nuclei[5, 5] = 1
        cells[9, 9:11] = nuclei[9, 9:11] = 2
    ids = np.unique(cells[cells > 0]).astype(np.int32)
    given = as_field(field, masks={"nuclei": nuclei, "cells": cells}, ids=ids)
    featurizer = CellProfiler(dataclasses.replace(CellProfiler.presets["full"], border="keep"))
    found = featurizer.embed([given])
    assert found.object.tolist() == ids.tolist()
    assert np.isfinite(found.values).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"masks": {"foreground": np.zeros((120, 120), np.int32)}},
            "needs masks of cells, cytoplasm, nuclei",
        ),
        ({"bit_depth": 12}, "plate P1 well A01 site 2: channel DNA goes from .*bit depth"),
        ({"pixels": None}, "needs pixels"),
        ({"pixels": np.zeros((3, 60, 120), np.uint16)}, "the mask of nuclei is"),
        ({"pixels": np.full((3, 120, 120), np.nan, np.float32), "bit_depth": 32}, "NaN or infinite"),
        ({"pixels": np.full((3, 120, 120), -1.5, np.float32), "bit_depth": 32}, "within ±1"),
    ],
)
def test_fields_that_cannot_be_measured_are_refused_by_name(field, changes, message):
    with pytest.raises(FeaturizerError, match=message):
        CellProfiler(SMALL).embed([as_field(field, **changes)])


@pytest.mark.realdata
def test_a_real_field_equals_cp_measure():
    folder = os.environ.get("WELLBENCH_REALDATA")
    if folder is None:
        pytest.skip("WELLBENCH_REALDATA does not name the folder of public data sets")
    from benchmarks.handcrafted import differing, nf1_field, ours, theirs, without_gaps

    real = nf1_field(Path(folder) / "images_nf1_cellpainting")
    kept = {name: np.where(np.isin(mask, (3, 5, 8)), mask, 0) for name, mask in real.masks.items()}
    real.masks = without_gaps(kept)
    (_, mine), (_, other) = ours(real), theirs(real)
    wrong = {family: differing(mine[family], other[family]) for family in other if family != "neighbours"}
    assert {family: names for family, names in wrong.items() if names} == {}


@pytest.mark.slow
def test_bytes_depend_neither_on_the_process_nor_on_threads_nor_on_where_kernels_are_cached(tmp_path):
    code = (
        "import hashlib\n"
        "from featurizers.cellprofiler import CellProfiler\n"
        "from featurizers.synthetic import synthetic_fields\n"
        "featurizer = CellProfiler(CellProfiler.presets['full'])\n"
        "values = featurizer.embed(list(synthetic_fields(cells=(4, 6)))).values\n"
        "print(hashlib.sha256(values.tobytes()).hexdigest())"
    )
    nowhere = tmp_path / "a file, not a folder"
    nowhere.touch()
    digests = set()
    for changes in ({}, {"OMP_NUM_THREADS": "1"}, {"NUMBA_CACHE_DIR": str(nowhere / "cache")}):
        run = subprocess.run(
            [sys.executable, "-c", code], env=os.environ | changes, capture_output=True, text=True, check=True
        )
        digests.add(run.stdout)
    assert len(digests) == 1
