"""One sweep over every registered predictor; what the suite sees; the scaffold conforms."""

import json

import numpy as np
import pytest

from bench.plugins.scaffold import scaffold
from bench.registry import Registry, configure
from featurizers.conformance import check_predictor, failures
from tests.bench.shelf import command

SMALL = {
    "image2omics": {"backbone": "untrained", "steps": "3", "bag_tiles": "2"},
    "stain": {"steps": "4", "pixels": "16", "batch": "4"},
}
"""Settings under which a predictor is fitted in seconds."""

NAMES = [entry.name for entry in Registry().listings("predictors")]


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n == "image2omics")) for n in NAMES]
)
def test_a_registered_predictor_keeps_the_contract(name):
    cls = Registry().get("predictors", name)
    config = configure(cls, None, SMALL[name])
    assert failures(check_predictor(lambda: cls(config))) == []


@pytest.fixture
def made(tmp_path):
    """The class of a new package."""
    _, module, _ = scaffold("predictor", "my-model", tmp_path / "new")
    return Registry([module]).get("predictors", "my-model"), module


def test_the_scaffold_conforms_by_command(made, capsys):
    _, module = made
    status, out, err = command(capsys, "plugin", "test", module, "--json")
    assert status == 0, err
    found = {check["name"]: check["status"] for check in json.loads(out)["my-model"]}
    assert {name for name, status in found.items() if status != "passed"} == {"resume"}  # it has no stage


@pytest.mark.parametrize(
    ("method", "broken", "check"),
    [
        ("predict", lambda self, fields, unit, n: np.zeros((n, 3)), "predicts"),
        ("predict", lambda self, fields, unit, n: np.full((n, 3), n, np.float32), "missing-unit"),
        (
            "predict",
            lambda self, fields, unit, n: np.where(
                np.isin(np.arange(n), unit)[:, None], np.float32(n), np.float32(np.nan)
            ).repeat(3, 1),
            "unit-invariant",
        ),
        (
            "predict",
            lambda self, fields, unit, n: np.where(
                np.isin(np.arange(n), unit)[:, None], np.float32(id(self) % 997), np.float32(np.nan)
            ).repeat(3, 1),
            "deterministic",
        ),
    ],
)
def test_the_suite_sees_a_broken_promise(made, monkeypatch, method, broken, check):
    cls, _ = made
    kept = []  # every instance lives, so that no two have one address
    plain = cls.__init__
    monkeypatch.setattr(
        cls, "__init__", lambda self, config=None: (kept.append(self), plain(self, config))[1]
    )
    monkeypatch.setattr(cls, method, broken)
    assert check in {result.name for result in check_predictor(cls) if result.status == "failed"}
