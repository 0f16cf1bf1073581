"""The installed ``bench`` command, and a small demo screen that several tests share."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.bench.small import aged
from tests.e2e.support import BENCH, QUICK, Run


@pytest.fixture(scope="session")
def bench() -> Run:
    """Run the installed command; ``cwd`` is wanted, extra environment may be given."""

    def run(*words: object, cwd: Path, timeout: float = 300, **env: str) -> subprocess.CompletedProcess[str]:
        clean = {k: v for k, v in os.environ.items() if k not in ("WELLBENCH_STORE", "COLUMNS")}
        return subprocess.run(
            [str(BENCH), *map(str, words)],
            cwd=cwd,
            env={**clean, "COLUMNS": "120", **env},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def screen(bench: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo screen of 12 compounds at one dose on one plate: as few as nested-cv takes."""
    folder = tmp_path_factory.mktemp("screen")
    done = bench("demo", "--plates", 1, "--compounds", 12, "--doses", 1, "--out", "demo", cwd=folder)
    assert done.returncode == 0, done.stderr
    return aged(folder / "demo")


@pytest.fixture
def own_screen(screen: Path, tmp_path: Path) -> Path:
    """A copy of the screen that a test may damage."""
    return Path(shutil.copytree(screen, tmp_path / "demo"))


@pytest.fixture(scope="session")
def scored(bench: Run, screen: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that holds a finished run of ``intensity`` with two controls on one layer."""
    store = tmp_path_factory.mktemp("scored") / "store"
    done = bench(*QUICK, "--dataset", screen, "--store", store, cwd=screen.parent)
    assert done.returncode == 0, done.stderr
    return store
