"""One tiny screen, shared by the tests that only read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.demo import make

SIZES = {"plates": 1, "compounds": 6, "doses": 1}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("demo") / "screen", **SIZES, seed=3, processes=1)
