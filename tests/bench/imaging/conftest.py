"""A tiny demo screen; tests that break files take a copy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bench.demo import make


@pytest.fixture(scope="session")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(
        tmp_path_factory.mktemp("demo") / "screen", plates=1, compounds=2, doses=1, seed=1, processes=1
    )


@pytest.fixture
def broken(screen: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(screen, tmp_path / "a copy – für Späße"))
