"""Protocols: files of plain settings whose hash is their identity."""

import subprocess
import sys
from dataclasses import FrozenInstanceError

import pytest

from tasks.base import TaskError
from tasks.protocol import FOLDER, LogGrid, Protocol, load, names


def test_every_shipped_protocol_loads_under_its_own_name():
    assert {"nested-cv", "poster", "image2omics", "scaffold", "plate-out", "section-out"} < set(names())
    for name in names():
        assert load(name).name == name


def test_the_default_protocol_is_five_times_five_by_perturbation_and_honest():
    protocol = load("nested-cv")
    assert (protocol.repeats, protocol.outer_folds, protocol.inner_folds) == (5, 5, 4)
    assert (protocol.split, protocol.label, protocol.variance, protocol.margin) == (
        "grouped", "honest", "measured", 0.01,
    )  # fmt: skip
    assert protocol.penalties == LogGrid(1e-3, 1e6, 20)


def test_random_wells_is_labelled_optimistic_and_shows_no_interval():
    protocol = load("random-wells")
    assert (protocol.split, protocol.label, protocol.variance) == ("random-units", "optimistic", "unmeasured")


def test_a_random_split_cannot_call_itself_honest():
    with pytest.raises(TaskError, match="optimistic"):
        load("random-wells").with_settings(label="honest")


@pytest.mark.parametrize(
    "settings",
    [
        {"split": "leave-out", "split_by": "Metadata_Plate"},
        {"split": "scaffold", "split_by": "Metadata_SMILES"},
        {"split": "random-splits", "outer_folds": 1},
        {"split": "random-units", "label": "optimistic"},
        {"label": "optimistic"},
        {"outer_folds": 4},
        {"outer_folds": 11},
    ],
)
def test_no_split_claims_error_rates_that_were_not_measured_for_it(settings):
    with pytest.raises(TaskError, match='set variance = "unmeasured"'):
        load("nested-cv").with_settings(**settings)
    load("nested-cv").with_settings(variance="unmeasured", **settings)


@pytest.mark.parametrize("settings", [{"repeats": 1}, {"repeats": 10}, {"outer_folds": 10, "repeats": 3}])
def test_numbers_of_repeats_and_folds_that_were_simulated_keep_their_intervals(settings):
    assert load("nested-cv").with_settings(**settings).variance == "measured"


def test_the_hash_is_the_same_in_another_process():
    code = "from tasks.protocol import load; print(load('nested-cv').hash)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == load("nested-cv").hash


def test_every_setting_enters_the_hash():
    base = load("nested-cv")
    others = {
        "name": "mine", "repeats": 4, "outer_folds": 6, "inner_folds": 3, "seed": 1,
        "min_groups_per_inner_fold": 3, "normalisation": ("fold",), "penalties": LogGrid(1e-2, 1e6, 20),
        "margin": 0.02, "variance": "unmeasured",
    }  # fmt: skip
    hashes = {base.with_settings(**{key: value}).hash for key, value in others.items()}
    unmeasured = base.with_settings(variance="unmeasured")
    hashes.add(unmeasured.with_settings(label="optimistic").hash)
    assert len(hashes | {base.hash}) == len(others) + 2


def test_a_file_with_the_same_settings_has_the_same_hash(tmp_path):
    path = tmp_path / "copy.toml"
    path.write_text((FOLDER / "nested-cv.toml").read_text(encoding="utf-8"), encoding="utf-8")
    assert load(path) == load("nested-cv")
    assert load(str(path)).hash == load("nested-cv").hash


def test_a_protocol_cannot_be_changed_in_place():
    with pytest.raises(FrozenInstanceError):
        load("nested-cv").repeats = 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("repeat = 3", "did you mean 'repeats'"),
        ("repeats = 0", "repeats must be a whole number of at least 1"),
        ("repeats = true", "repeats must be a whole number"),
        ('split = "group"', "did you mean 'grouped'"),
        ('normalisation = ["plate-standardize"]', "did you mean 'plate-standardise'"),
        ("normalisation = []", "at least one name"),
        ("margin = -1", "margin"),
        ("schema_version = 2", "schema_version"),
        ("[penalties]\nstop = -1.0", "penalties.stop"),
        ("[penalties]\nstep = 3", "penalties has no entry 'step'; did you mean 'stop'"),
        ("penalties = 3", "table"),
        ("repeats = ", "not a TOML file"),
    ],
)
def test_a_wrong_setting_is_named_with_its_file(tmp_path, text, message):
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TaskError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_an_unknown_protocol_gets_a_suggestion():
    with pytest.raises(TaskError, match="did you mean 'nested-cv'"):
        load("nested_cv")
    with pytest.raises(TaskError, match="no such protocol file"):
        load("nowhere/mine.toml")


def test_a_file_needs_no_more_than_what_differs(tmp_path):
    path = tmp_path / "short.toml"
    path.write_text("inner_folds = 3", encoding="utf-8")
    assert load(path) == Protocol(name="short", inner_folds=3)
