"""Made-up runs with a known order: each run sees the true state of a screen through its own noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from leaderboard import Entry, Leaderboard

HIDDEN = 0.6
"""Standard deviation of what no image shows of a readout."""


def build_folds(repeats, folds, perturbations, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(np.arange(perturbations) % folds) for _ in range(repeats)]).astype(
        np.int16
    )


def build_entry(e, e0, folds, *, label="mae", **changes):
    _, perturbations, readouts = e.shape
    fields = {
        "run": f"run-{label}",
        "name": label,
        "label": label,
        "role": "entrant",
        "task": "regression",
        "head": "ridge",
        "layer": "transcripts",
        "dataset": "demo",
        "dataset_version": "1",
        "protocol": "nested-cv",
        "protocol_hash": "p" * 8,
        "folds_hash": "f" * 8,
        "readouts": tuple(f"gene{i:04d}" for i in range(readouts)),
        "perturbations": tuple(f"cpd{i:03d}" for i in range(perturbations)),
        "e": e.astype(np.float32),
        "e0": e0.astype(np.float32),
        "folds": folds,
        "scores": pd.DataFrame({"readout": [], "stratum": []}),
    }
    return Entry(**(fields | changes))


def build_screen(seed=0, repeats=5, folds=5, perturbations=80, readouts=400):
    """Eight runs over half informative readouts: oracle, two equal entrants, a weaker one, controls, floor.

    A run's prediction of readout g is strength * signal + noise shared by its repeats + a little per repeat.
    """
    rng = np.random.default_rng(seed)
    state = rng.normal(size=(perturbations, 8))
    load = rng.normal(size=(8, readouts)) / np.sqrt(8)
    load[:, readouts // 2 :] = 0.0
    signal = state @ load
    truth = signal + HIDDEN * rng.normal(size=signal.shape)
    table = build_folds(repeats, folds, perturbations, seed)
    e0 = np.stack([_floor_errors(truth, row) for row in table])

    def run(name, strength, noise, **changes):
        own = rng.normal(size=signal.shape) * noise
        prediction = strength * signal + own + 0.05 * rng.normal(size=(repeats, *signal.shape))
        return build_entry((truth - prediction) ** 2, e0, table, **{"label": name, "name": name} | changes)

    first = run("mae", 0.55, 0.25, label="mae[tiny, 0.4 % of the paper's training]")
    first = replace(first, preset="tiny", fit_scope="transductive", seconds=232.4, peak_memory_mb=1630.0)
    permuted = run("mae-permuted", 0.0, 0.15, role="permuted", permutes="mae")
    return [
        first,
        run("vits-imagenet", 0.56, 0.25, seconds=94.0, peak_memory_mb=2210.0),
        run("stains", 0.25, 0.2, seconds=8.2, peak_memory_mb=310.0, fit_scope="inductive"),
        run("cell-count", 0.12, 0.1, role="control", seconds=0.4, peak_memory_mb=120.0),
        run("position", 0.0, 0.12, role="control", seconds=0.3, peak_memory_mb=110.0),
        run("oracle", 0.95, 0.05, role="ceiling"),
        permuted,
        build_entry(e0, e0, table, label="mean", head="mean", role="floor"),
    ]


@pytest.fixture(scope="session")
def make_folds():
    return build_folds


@pytest.fixture(scope="session")
def make_entry():
    return build_entry


@pytest.fixture(scope="session")
def screen():
    """The entries of a realistic screen: 5 repeats, 5 folds, 80 perturbations, 400 readouts."""
    return build_screen()


@pytest.fixture(scope="session")
def small_screen():
    return build_screen(seed=3, repeats=3, folds=4, perturbations=120, readouts=30)


@pytest.fixture(scope="session")
def board(screen):
    return Leaderboard(screen).boards[0]


def _floor_errors(truth, folds):
    """Squared errors of the mean over the other folds."""
    errors = np.empty_like(truth)
    for fold in np.unique(folds):
        test = folds == fold
        errors[test] = (truth[test] - truth[~test].mean(axis=0)) ** 2
    return errors
