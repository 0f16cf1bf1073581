"""Predictors through the harness: what a fit sees, what a fold leaves, what is found again."""

from __future__ import annotations

import functools
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from scipy import sparse

import bench.store
from bench import predictors, runs
from bench.datasets import load
from bench.entrants import Spec, known
from bench.errors import BenchError, UsageError
from bench.forecast import forecast
from bench.problem import outer_folds
from bench.settings import Settings
from bench.start import start
from bench.store import Store
from featurizers.base import FitContext
from tasks.base import FoldId
from tests.bench.small import aged

COMPOUNDS, PER_COMPOUND, CONTROLS, FOLDS = 8, 2, 2, 3
ROOT = Path(predictors.__file__).parents[1]

PLUGIN = '''
import json
from dataclasses import dataclass

import numpy as np

from featurizers.base import Card, FeaturizerError, Predictor

SEEN = []


@dataclass(frozen=True)
class Config:
    ridge: float = 1e-6
    fails: str = ""


class MeanGrey(Predictor):
    """Ridge on the mean grey level of each channel; notes what it was given."""

    card = Card(
        name="mean-grey", version="1", title="mean grey", citation="none", licence="none", channel_rule="any",
        input_size="any", trained_on="training readouts", needs=("pixels",), fit_scope="inductive",
        repeats="first",
    )
    Config = Config
    presets = {"default": Config()}

    def check(self, channels):
        if self.config.fails == "channels":
            raise FeaturizerError("mean-grey takes no such channels")

    def _design(self, fields, unit, n):
        wells, rows = [], []
        for field in fields:
            wells.append(field.metadata["Metadata_Well"])
            rows.append(field.pixels.mean(axis=(1, 2)) / 65535)
        assert len(rows) == len(unit)
        X = np.zeros((n, len(fields.channels)))
        np.add.at(X, unit, np.array(rows).reshape(len(rows), -1))
        return np.c_[X / np.maximum(np.bincount(unit, minlength=n), 1)[:, None], np.ones(n)], wells

    def fit(self, fields, unit, targets, table, context):
        X, wells = self._design(fields, unit, len(targets))
        mark = context.workdir / "mark"
        SEEN.append({"wells": wells, "targets": targets.copy(), "table": table, "resumed": mark.exists()})
        mark.touch()
        if self.config.fails == "kill" and len(SEEN) == 2:
            raise KeyboardInterrupt
        if self.config.fails == "fit":
            raise FeaturizerError("mean-grey does not want to")
        self.T = targets.shape[1]
        penalty = self.config.ridge * np.eye(X.shape[1])
        self.coef = np.linalg.solve(X.T @ X + penalty, X.T @ np.nan_to_num(targets.astype(float)))
        SEEN[-1]["coef"] = self.coef.copy()

    def predict(self, fields, unit, n):
        if self.config.fails == "shape":
            return np.zeros((n, self.T + 1), np.float32)
        if self.config.fails == "infinite":
            return np.full((n, self.T), np.inf, np.float32)
        return (self._design(fields, unit, n)[0] @ self.coef).astype(np.float32)
'''


def write_screen(folder):
    """Two channels of 6 x 6 pixels; readout ``bright`` follows the first channel, ``noise`` nothing."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    names = [f"c{i:02d}" for i in range(COMPOUNDS) for _ in range(PER_COMPOUND)] + ["DMSO"] * CONTROLS
    wells = [f"{'ABCDEFGH'[i // 12]}{i % 12 + 1:02d}" for i in range(len(names))]
    level = rng.uniform(5_000, 50_000, len(names))
    rows = []
    for well, grey in zip(wells, level, strict=True):
        for site in ("1", "2"):
            for c, channel in enumerate("XY"):
                pixels = np.clip(rng.normal(grey if c == 0 else 20_000, 500, (6, 6)), 0, 65535)
                uri = f"images/{well}_{site}_{channel}.tif"
                tifffile.imwrite(folder / uri, pixels.astype(np.uint16))
                rows.append(("P1", well, site, channel, uri, 0))
    columns = ["Metadata_Plate", "Metadata_Well", "Metadata_Site", "Channel", "URI", "Plane"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "images.csv", index=False)
    kinds = ["negcon" if name == "DMSO" else "trt" for name in names]
    frame = pd.DataFrame({"Metadata_Plate": "P1", "Metadata_Well": wells})
    frame["Metadata_pert_type"], frame["Metadata_Compound"] = kinds, names
    frame["Metadata_Line"] = ["one", "two"] * (len(names) // 2)
    frame.to_csv(folder / "wells.csv", index=False)
    readouts = frame[["Metadata_Plate", "Metadata_Well"]].copy()
    readouts["bright"] = level / 10_000 + rng.normal(0, 0.01, len(names))
    readouts["noise"] = rng.normal(0, 1, len(names))
    readouts.to_csv(folder / "genes.csv", index=False)
    (folder / "dataset.toml").write_text(
        'schema_version = 1\nname = "grey"\nversion = "1"\nbit_depth = 16\n'
        'perturbation = "Metadata_Compound"\n'
        '[[channels]]\nname = "X"\n[[channels]]\nname = "Y"\n'
        '[images]\ntable = "images.csv"\n[wells]\ntable = "wells.csv"\n'
        '[[layers]]\nname = "genes"\ntable = "genes.csv"\nkind = "abundance"\nscale = "log"\n'
        'key = ["Metadata_Plate", "Metadata_Well"]\njoin = "aggregate"\n',
        encoding="utf-8",
    )
    return aged(folder)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return write_screen(tmp_path_factory.mktemp("grey") / "screen")


@pytest.fixture(scope="module", autouse=True)
def digested_once():
    """Keys cover the code: that of a class is digested once for all tests here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench.store, "code_digest", functools.lru_cache(bench.store.code_digest))
        yield


@pytest.fixture
def screen(original, tmp_path):
    return shutil.copytree(original, tmp_path / "screen")


@pytest.fixture
def settings(screen, tmp_path):
    """A run of the plugin under a protocol of 2 repeats of 3 folds."""
    rules = (ROOT / "tasks/protocols/nested-cv.toml").read_text(encoding="utf-8")
    for name, value in (
        ("repeats", 2),
        ("outer_folds", FOLDS),
        ("inner_folds", 2),
        ("variance", '"unmeasured"'),
    ):
        rules = re.sub(rf"^{name} = .*$", f"{name} = {value}", rules, flags=re.MULTILINE)
    (tmp_path / "short.toml").write_text(rules.replace('"nested-cv"', '"short"'), encoding="utf-8")
    plugin = tmp_path / "mean_grey.py"
    plugin.write_text(PLUGIN, encoding="utf-8")
    known.cache_clear()
    return Settings(
        dataset=str(screen),
        store=str(tmp_path / "store"),
        featurizers=("mean-grey",),
        controls="none",
        protocol=str(tmp_path / "short.toml"),
        processes=0,
        threads=1,
        plugins=(str(plugin),),
    )


def seen(settings):
    """What each fit of the plugin was given, in order."""
    import sys

    return sys.modules[known(settings.plugins).get("predictors", "mean-grey").__module__].SEEN


def quiet(*_):
    pass


def with_setting(settings, value):
    return replace(settings, overrides={"mean-grey": {"fails": value}})


def posed(settings):
    """The one problem of the screen, its store and its dataset."""
    from bench.start import pose
    from tasks.protocol import load as protocol

    dataset, store = load(settings.dataset), Store(settings.store)
    ((_, problem),), _ = pose(settings, dataset, store, protocol(settings.protocol))
    return dataset, store, problem


def fit_one(settings, tmp_path, data=None, fold=0, where="work", fails=""):
    """Fit and predict one fold of the screen as it stands on disk."""
    dataset, store, problem = posed(settings)
    images = predictors.Images(store, dataset, ("pixels",), quiet)
    spec = Spec("mean-grey", overrides=(("fails", fails),), plugins=settings.plugins, kind="predictors")
    (tmp_path / where).mkdir()
    context = FitContext(tmp_path / where)
    return predictors.fit_fold(spec, images, data or problem.data, problem.folds, FoldId(0, fold), context)


def test_a_fit_is_given_training_units_alone_and_no_control(settings):
    start(settings, quiet)
    _, _, problem = posed(settings)
    wells, fits = problem.data.wells, seen(settings)
    folds = outer_folds(problem, first_repeat_only=True)
    assert len(fits) == len(folds) == FOLDS
    of_well = dict(zip(wells["Metadata_Well"], wells["Metadata_Compound"], strict=True))
    for given, (repeat, fold) in zip(fits, folds, strict=True):
        own = problem.folds[problem.folds["repeat"] == repeat]
        trained = set(own.loc[own["fold"] != fold, "perturbation"])
        assert {of_well[well] for well in given["wells"]} == trained
        assert set(given["table"]["perturbation"]) == trained
        assert len(given["targets"]) == 2 * len(trained)
        assert "bright" not in given["table"].columns


def test_poisoned_test_rows_do_not_reach_the_fit(settings, screen, tmp_path):
    from tasks.folds import split

    clean = fit_one(settings, tmp_path)
    _, _, problem = posed(settings)
    test, _ = split(problem.folds, 0, 0)
    Y = problem.data.Y.copy()
    Y[test] = 1e9
    tested = problem.data.wells["Metadata_Well"].iloc[problem.data.members[test].indices]
    for well in tested:
        for path in (screen / "images").glob(f"{well}_*.tif"):
            tifffile.imwrite(path, np.full((6, 6), 65535, np.uint16))
    poisoned = fit_one(settings, tmp_path, replace(problem.data, Y=Y), where="again")
    first, second = seen(settings)
    assert first["coef"].tobytes() == second["coef"].tobytes()
    assert clean.floor.tobytes() == poisoned.floor.tobytes()
    assert not np.array_equal(
        clean.prediction, poisoned.prediction
    )  # the images it is asked about did change


def test_a_fold_is_least_squares_by_hand_over_the_floor_of_every_entrant(settings, screen, tmp_path):
    from tasks import evaluate
    from tasks.folds import split
    from tasks.heads.mean import Mean
    from tasks.protocol import load as protocol

    result = fit_one(settings, tmp_path, fold=2)
    _, _, problem = posed(settings)
    data = problem.data

    def grey(unit):
        well = data.wells["Metadata_Well"].iloc[data.members[unit].indices[0]]
        files = [[screen / "images" / f"{well}_{site}_{c}.tif" for site in "12"] for c in "XY"]
        return [np.mean([tifffile.imread(f).mean() for f in own]) / 65535 for own in files] + [1.0]

    test, train = split(problem.folds, 0, 2)
    X = np.array([grey(unit) for unit in train])
    coef = np.linalg.solve(X.T @ X + 1e-6 * np.eye(3), X.T @ data.Y[train].astype(float))
    expected = np.array([grey(unit) for unit in test]) @ coef
    np.testing.assert_allclose(result.prediction, expected, rtol=1e-5)
    zeros = np.zeros((len(data.wells), 1), np.float32)
    rules = protocol(settings.protocol)
    other = evaluate.run_fold(data, lambda _: zeros, rules, problem.folds, FoldId(0, 2), Mean)
    assert result.floor.tobytes() == other.floor.tobytes()
    assert np.array_equal(result.rows, other.rows)


def test_its_run_is_recorded_verified_and_found_again(settings):
    from bench import entries

    done = start(settings, quiet)
    assert done.report.failures == []
    records = {runs.load_record(done.store, run)["name"]: run for run in done.report.runs}
    record = runs.load_record(done.store, records["mean-grey"])
    assert (record["head"], record["fit_scope"], record["coverage"]) == ("own", "inductive", 1.0)
    assert len(record["folds"]) == FOLDS  # the first repeat, as the card says
    scores = entries.load_entry(done.store, records["mean-grey"]).scores.set_index("readout")["r2"]
    assert scores["bright"] > 0.99
    assert scores["noise"] < 0.5
    assert entries.verify(done.store, records["mean-grey"])["verified"]
    before = len(seen(settings))
    assert start(settings, quiet).report.runs == done.report.runs
    assert len(seen(settings)) == before
    (line,) = [line for line in forecast(settings).steps if line.step == "mean-grey: fits"]
    assert (line.stored, line.missing) == (FOLDS, 0)


def test_permuted_labels_are_fitted_when_asked_for(settings):
    dry = forecast(replace(settings, permuted="all"))
    (line,) = [line for line in dry.steps if line.step == "mean-grey: fits"]
    assert (line.stored, line.missing) == (0, 2 * FOLDS)
    done = start(replace(settings, permuted="all"), quiet)
    found = [runs.load_record(done.store, run) for run in done.report.runs]
    (permuted,) = [record for record in found if record["role"] == "permuted"]
    assert permuted["permutes"] == "mean-grey"
    targets = [np.sort(given["targets"][:, 0]) for given in seen(settings)]
    assert not np.array_equal(seen(settings)[0]["targets"], seen(settings)[FOLDS]["targets"])
    assert not np.array_equal(targets[0], targets[FOLDS])  # other perturbations' readouts are in this fold


def test_fields_that_cannot_be_read_are_left_out_and_said_each_time(settings, screen):
    (screen / "images/A01_1_X.tif").write_bytes(b"no image")
    for site in "12":
        (screen / f"images/A02_{site}_Y.tif").unlink()
    for _ in range(2):
        done = start(settings, quiet)
        told = [failure.what for failure in done.report.failures]
        assert [what.partition(", ")[2] for what in told] == [
            "plate P1, well A01, site 1",
            "plate P1, well A02, site 1",
            "plate P1, well A02, site 2",
        ]
    record = runs.load_record(done.store, done.report.runs[-1])
    assert record["name"] == "mean-grey"
    assert record["coverage"] == pytest.approx(1 - 1 / (COMPOUNDS * PER_COMPOUND))
    assert all(given["wells"].count("A01") < 2 for given in seen(settings))


def test_a_killed_run_goes_on_with_the_fold_it_was_killed_in(settings):
    settings = with_setting(settings, "kill")
    with pytest.raises(KeyboardInterrupt):
        start(settings, quiet)
    done = start(settings, quiet)
    assert [given["resumed"] for given in seen(settings)] == [False, False, True, False]
    assert done.report.failures == []
    assert not list(done.store.root.rglob("mark"))


def test_a_fold_that_fails_is_recorded_and_the_floor_goes_on(settings):
    done = start(with_setting(settings, "fit"), quiet)
    assert len(done.report.runs) == 1
    assert len(done.report.failures) == FOLDS
    assert {failure.reason for failure in done.report.failures} == {"mean-grey does not want to"}


@pytest.mark.parametrize(
    ("fails", "told"), [("shape", r"shape \(\d+, 3\)"), ("infinite", "infinite predictions")]
)
def test_predictions_that_break_the_contract_are_refused(settings, tmp_path, fails, told):
    with pytest.raises(BenchError, match=told):
        fit_one(settings, tmp_path, fails=fails)


def test_channels_are_refused_before_an_image_is_read(settings, monkeypatch):
    monkeypatch.setattr(predictors, "Images", None)
    done = start(with_setting(settings, "channels"), quiet)
    assert [failure.reason for failure in done.report.failures] == ["mean-grey takes no such channels"]


def test_tasks_that_score_no_values_refuse_in_one_sentence(settings):
    with pytest.raises(UsageError, match=r"mean-grey is a predictor.*'classification'.*--task regression"):
        start(replace(settings, tasks=("classification",)), quiet)


def test_the_key_knows_settings_seed_and_images(settings, screen):
    dataset, _, problem = posed(settings)
    plain = Spec("mean-grey", plugins=settings.plugins, kind="predictors")
    other = replace(plain, overrides=(("ridge", 2.0),))

    def key(spec, seed, content):
        return predictors.document(dataset, spec, problem, seed, lambda _: content)

    keys = [key(plain, 0, "a"), key(other, 0, "a"), key(plain, 1, "a"), key(plain, 0, "b")]
    assert all(one != two for i, one in enumerate(keys) for two in keys[:i])
    assert key(plain, 0, "a") == keys[0]


def test_one_model_per_stratum_of_fit_by(settings, tmp_path):
    _, _, problem = posed(settings)
    lines = problem.data.wells["Metadata_Line"].to_numpy()[problem.data.members.indices]
    units = problem.data.units.assign(Metadata_Line=lines)
    data = replace(problem.data, units=units, fit_by=("Metadata_Line",))
    result = fit_one(settings, tmp_path, data)
    assert len(seen(settings)) == 2
    assert np.isfinite(result.prediction).all()
    for given, line in zip(seen(settings), ("one", "two"), strict=True):
        assert set(given["table"]["Metadata_Line"]) == {line}


def test_a_well_of_two_units_is_trained_on_with_the_readouts_of_both(settings, tmp_path):
    _, _, problem = posed(settings)
    data = problem.data
    first = data.members.tolil()
    first[1] = first[0]  # the second unit is measured on the first one's well
    twice = replace(data, members=sparse.csr_matrix(first))
    folds = problem.folds
    assert len(set(data.groups[:2])) == 1
    fold = int(folds.loc[(folds["repeat"] == 0) & (folds["unit"] == 0), "fold"].iloc[0])
    fit_one(settings, tmp_path, twice, fold=(fold + 1) % FOLDS)
    (given,) = seen(settings)
    assert given["wells"].count("A01") == 4  # two fields for each of two units
    assert given["wells"].count("A02") == 0
