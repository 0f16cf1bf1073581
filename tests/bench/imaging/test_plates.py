"""What is estimated over a plate: used, shared, in the key, and its failure is its plate's alone."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tifffile

from bench.datasets import load
from bench.entrants import Spec, feature_document
from bench.errors import DatasetError
from bench.execute import Executor
from bench.featurize import Job, Work, content_hashes, ensure
from bench.imaging import field_source, plates, preprocessing_key
from bench.imaging.illumination import FlatField, flat_field, mean_image
from bench.store import Store, digest, read_parts

FLAT = {"illumination": "image2omics"}


def with_imaging(screen, **settings):
    dataset = load(screen)
    return replace(dataset, imaging={**dataset.imaging, **settings})


def raw(dataset):
    return [f.pixels for f in field_source(replace(dataset, imaging={}))]


def test_a_field_is_divided_by_the_flat_field_of_its_plate(screen):
    dataset = with_imaging(screen, **FLAT)
    pixels = raw(dataset)
    flat = flat_field(mean_image(pixels)[0], FlatField())
    fields = list(field_source(dataset))
    assert {f.bit_depth for f in fields} == {32}
    for field, own in zip(fields, pixels, strict=True):
        np.testing.assert_allclose(field.pixels, own / flat, rtol=1e-6)


def test_rescaled_to_the_mean_pixels_stay_in_the_unit_interval_and_so_do_masks_and_cells(screen):
    dataset = with_imaging(screen, illumination={"method": "image2omics", "rescale": "mean"})
    wells = dataset.wells.head(3)
    plain = list(field_source(load(screen), wells, ("pixels", "objects")))
    for field, before in zip(field_source(dataset, wells, ("pixels", "objects")), plain, strict=True):
        assert 0.0 <= field.pixels.min() <= field.pixels.max() <= 1.0
        assert field.pixels.mean() == pytest.approx(before.pixels.mean() / 65535, rel=0.1)
        assert abs(len(field.ids) - len(before.ids)) <= 3


def test_pixels_standardised_by_controls_have_their_moments_and_by_field_their_own(screen):
    dataset = with_imaging(screen, standardise="negcon", **FLAT)
    controls = dataset.wells[dataset.wells["Metadata_pert_type"] == "negcon"]
    together = np.stack([f.pixels for f in field_source(dataset, controls)])
    np.testing.assert_allclose(together.mean(axis=(0, 2, 3)), 0.0, atol=1e-4)
    np.testing.assert_allclose(together.std(axis=(0, 2, 3)), 1.0, rtol=1e-4)
    alone = next(iter(field_source(with_imaging(screen, standardise="field"))))
    np.testing.assert_allclose(alone.pixels.mean(axis=(1, 2)), 0.0, atol=1e-4)


def test_masks_do_not_depend_on_standardisation(screen):
    wells = load(screen).wells.head(1)
    masks = [
        next(iter(field_source(with_imaging(screen, standardise=how), wells, ("objects",)))).masks["cells"]
        for how in ("none", "field", "negcon")
    ]
    assert (masks[0] == masks[1]).all()
    assert (masks[0] == masks[2]).all()


def test_a_plate_without_controls_fails_its_fields_with_the_remedy(screen):
    dataset = with_imaging(screen, standardise="negcon")
    dataset = replace(dataset, wells=dataset.wells.assign(Metadata_pert_type="trt"))
    reasons = []
    assert list(field_source(dataset, None, ("pixels",), lambda _, reason: reasons.append(reason))) == []
    assert len(reasons) == 34
    assert "plate plate-1: standardise = 'negcon' needs wells" in reasons[0]


def test_every_preprocessing_setting_and_the_choice_of_controls_change_the_key(screen):
    base = load(screen)
    variants = [
        {"illumination": "image2omics"},
        {"illumination": {"method": "image2omics", "rescale": "mean"}},
        {"illumination": {"method": "image2omics", "window_px": 99}},
        {"illumination": {"method": "image2omics", "sigma_px": 9.0}},
        {"illumination": {"method": "image2omics", "percentile": 5.0}},
        {"illumination": {"method": "image2omics", "small": "refuse"}},
        {"standardise": "field"},
        {"standardise": "negcon"},
        {"quality": {"saturated": 0.5}},
    ]
    keys = [digest(preprocessing_key(with_imaging(screen, **v))) for v in [{}, *variants]]
    assert len(set(keys)) == len(keys)
    assert digest(preprocessing_key(with_imaging(screen, illumination="none"))) == keys[0]
    control = with_imaging(screen, standardise="negcon")
    fewer = control.wells.copy()
    fewer.loc[fewer.index[fewer["Metadata_pert_type"] == "negcon"][0], "Metadata_pert_type"] = "trt"
    assert digest(preprocessing_key(replace(control, wells=fewer))) not in keys
    assert digest(preprocessing_key(replace(base, wells=fewer))) == keys[0]


def test_another_way_to_estimate_a_plate_changes_the_key_of_what_uses_it(screen, monkeypatch):
    chosen = [{}, {"standardise": "field"}, {"illumination": "image2omics"}, {"standardise": "negcon"}]
    before = [preprocessing_key(with_imaging(screen, **c)) for c in chosen]
    monkeypatch.setattr(plates, "VERSION", plates.VERSION + 1)
    after = [preprocessing_key(with_imaging(screen, **c)) for c in chosen]
    assert [b == a for b, a in zip(before, after, strict=True)] == [True, True, False, False]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"illumination": "cellprofiler"}, "unknown illumination 'cellprofiler'; known: none, image2omics"),
        ({"illumination": {"method": "image2omics", "window": 3}}, "no setting 'window'; it has: window_px"),
        ({"illumination": {"method": "image2omics", "rescale": "max"}}, "rescale is one of none, mean"),
        ({"illumination": 3}, "a method's name or a table"),
        ({"standardise": "plate"}, "unknown standardise 'plate'; known: none, field, negcon"),
        ({"quality": {"saturated": "yes"}}, "saturated is a number of at least 0, not 'yes'"),
    ],
)
def test_wrong_settings_are_said_before_a_pixel_is_read(screen, settings, words):
    with pytest.raises(DatasetError, match=words):
        field_source(with_imaging(screen, **settings))


def job(dataset):
    spec = Spec("intensity")
    featurizer = spec.build()
    document = feature_document(spec, featurizer, dataset, None, None)
    return Job("intensity", Work(digest(document), spec), document, tuple(featurizer.card.needs))


def run(root, store, executor=None):
    dataset = load(root)
    one = job(dataset)
    return ensure(store, dataset, [one], executor or Executor(0), lambda *_: None)[one.work.key]


def test_a_run_estimates_once_and_stores_quality_beside_the_features(broken, tmp_path, monkeypatch):
    toml = broken / "dataset.toml"
    toml.write_text(toml.read_text("utf-8").replace("[imaging]", '[imaging]\nillumination = "image2omics"'))
    burnt = sorted((broken / "images" / "plate-1").glob("*_ER.tif"))[4]
    pixels = tifffile.imread(burnt)
    pixels[:60] = 65535
    tifffile.imwrite(burnt, pixels)
    store = Store(tmp_path / "store")
    result = run(broken, store)
    assert result.failures == []
    assert len(store.list("illumination")) == 1
    features = read_parts(store, result.parts.values())
    wells = features.wells.set_index("Metadata_Well")
    assert wells.loc[burnt.name[:3], "Metadata_QC"] == "saturated:ER x1"
    assert wells.loc[burnt.name[:3], "qc_saturated_ER"] == pytest.approx(60 / 176, rel=0.01)
    assert (wells.drop(index=burnt.name[:3])["qc_saturated_ER"] < 0.01).all()
    assert wells["qc_focus_DNA"].between(-6, 0).all()

    monkeypatch.setattr(plates, "estimate", lambda *_: pytest.fail("the plate was estimated again"))
    with content_hashes(store) as content_hash:
        folders, lost = plates.ensure(store, load(broken), ["plate-1"], content_hash)
    assert lost == {}
    assert folders["plate-1"] == str(store.root / store.list("illumination")[0])


def test_two_processes_give_the_bytes_of_none(screen, tmp_path):
    root = tmp_path / "screen"
    shutil.copytree(screen, root)
    toml = root / "dataset.toml"
    settings = '[imaging]\nillumination = {method = "image2omics", rescale = "mean"}\nstandardise = "negcon"'
    toml.write_text(toml.read_text("utf-8").replace("[imaging]", settings))
    files = []
    for name, executor in (("none", Executor(0)), ("two", Executor(2))):
        store = Store(tmp_path / name)
        with executor:
            result = run(root, store, executor)
        assert result.failures == []
        folders = [*store.list("illumination"), *store.list("features")]
        files.append({(f, k): v for f in folders for k, v in store.manifest(f)["files"].items()})
    assert files[0] == files[1]
    assert len(files[0]) >= 3


def test_a_plate_whose_estimate_fails_loses_its_features_only(broken, tmp_path):
    toml = broken / "dataset.toml"
    toml.write_text(toml.read_text("utf-8").replace("[imaging]", '[imaging]\nillumination = "image2omics"'))
    for path in (broken / "images" / "plate-1").glob("*_ER.tif"):
        tifffile.imwrite(path, np.zeros((176, 176), np.uint16))
    store = Store(tmp_path / "store")
    result = run(broken, store)
    assert result.parts == {}
    (failure,) = result.failures
    assert failure.what == "plate plate-1"
    assert "not positive everywhere" in failure.reason


def test_nan_pixels_fail_their_field_with_the_place(screen, tmp_path):
    dataset = replace(load(screen), bit_depth=32)
    for name, bad in (("good", 0.5), ("bad", np.nan), ("wide", 40.0)):
        pixels = np.random.default_rng(0).random((20, 24)).astype(np.float32)
        pixels[3, 4] = bad
        tifffile.imwrite(tmp_path / f"{name}.tif", pixels)
    rows = [
        {"Metadata_Plate": "1", "Metadata_Well": w, "Metadata_Site": "1", "Channel": c.name, "Plane": 0,
         "URI": str(tmp_path / f"{n}.tif")}
        for w, n in (("A01", "good"), ("A02", "bad"), ("A03", "wide"))
        for c in dataset.channels
    ]  # fmt: skip
    failures, measured = [], []
    source = field_source(
        replace(dataset, images=pd.DataFrame(rows)),
        None,
        ("pixels",),
        lambda m, reason: failures.append((m["Metadata_Well"], reason)),
        lambda m, values: measured.append((m["Metadata_Well"], values["qc_saturated_DNA"])),
    )
    assert [f.metadata["Metadata_Well"] for f in source] == ["A01", "A03"]
    ((well, reason),) = failures
    assert well == "A02"
    assert "NaN or infinite pixels, the first at row 3, column 4" in reason
    assert measured == [("A01", 0.0), ("A03", pytest.approx(1 / 480))]
