"""A small store with something of everything that is read for ever."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.store import PartKey, Store, digest, write_matrix, write_part, write_table

DOCUMENT = {"featurizer": "intensity", "version": "1", "config": {"bins": 4, "channels": ["DNA", "ER"]}}
GENES = ("<script>", 'a","b', "ü x")


def _part(plate: str, document: dict[str, object] = DOCUMENT, images: str = "") -> PartKey:
    return PartKey("demo@1", "intensity", digest(document), plate, images)


def _features(plate: str) -> tuple[pd.DataFrame, np.ndarray, tuple[str, ...]]:
    seed = sum(plate.encode())
    wells = pd.DataFrame(
        {"Metadata_Well": ["B02", "A01", "A02"], "n_cells": [7, 0, seed], "qc": [True, False, True]}
    )
    values = np.arange(12, dtype=np.float32).reshape(3, 4) / 8 + seed
    return wells, values, ("DNA_mean", "DNA_sd", "ER_mean", 'ER,"sd"')


def _fill(store: Store, plates: tuple[str, ...] = ("P1", "a/b")) -> None:
    for plate in plates:
        wells, values, columns = _features(plate)
        extra = {"key_document": DOCUMENT, "failures": [], "provenance": {"seconds": 0.5}}
        write_part(store, _part(plate), wells, values, columns, extra, cells=(wells, values))
    run = {"features": digest(DOCUMENT), "head": "ridge"}

    def summands(folder: Path) -> None:
        index = pd.DataFrame({"repeat": [0, 1], "perturbation": ["c1", "ü"]})
        values = {"e": np.array([[1, np.nan, 3], [4, 5, 6]], np.float32), "e0": np.ones((2, 3), np.float32)}
        write_matrix(folder / "summands.parquet", index, values, {"readouts": list(GENES)})

    def scores(folder: Path) -> None:
        frame = pd.DataFrame({"readout": list(GENES), "skill": [0.25, np.nan, -1.5], "n": [3, 2, 1]})
        write_table(folder / "scores.parquet", frame, {})

    store.commit(f"summands/run={digest(run)[:16]}", summands, {"key_document": run})
    store.commit(f"scores/run={digest(run)[:16]}", scores, {"key_document": run})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return an empty store in a folder whose name asks for quoting."""
    return Store(tmp_path / "it's a [store] ü*")


@pytest.fixture
def fill() -> Callable[..., None]:
    """Return the function that fills a store with the small example."""
    return _fill


@pytest.fixture
def part() -> Callable[..., PartKey]:
    """Return the function that addresses a plate of the small example."""
    return _part


@pytest.fixture
def features() -> Callable[[str], tuple[pd.DataFrame, np.ndarray, tuple[str, ...]]]:
    """Return the function that makes the features of a plate of the small example."""
    return _features


@pytest.fixture
def contents() -> Callable[[Path], dict[str, bytes]]:
    """Return the function that reads every committed byte that must be deterministic, by relative path."""

    def read(root: Path) -> dict[str, bytes]:
        files = (p for p in sorted(root.rglob("*")) if p.is_file() and p.name != "provenance.json")
        named = ((p.relative_to(root).as_posix(), p) for p in files)
        return {name: p.read_bytes() for name, p in named if not name.startswith(".")}

    return read
