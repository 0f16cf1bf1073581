"""unmixing through the command: the readouts of tested perturbations reach no weight."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.e2e.support import Run

pytestmark = pytest.mark.slow


def run(bench: Run, screen: Path, store: Path) -> dict[int, Path]:
    """Run a short training per fold; return the folder of weights of each outer fold."""
    done = bench(
        "run", "-f", "unmixing", "--set", "unmixing.steps=3", "--controls", "none", "--dataset", screen,
        "--store", store, "-j", 1, "--threads", 1, "--layer", "transcripts", "--permuted", "none",
        cwd=store.parent, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "unmixing[custom, 3 steps of 64]" in " ".join(done.stdout.split())
    found = {}
    for path in store.glob("weights/key=*/manifest.json"):
        found[json.loads(path.read_text())["key_document"]["fold"]["fold"]] = path.parent
    return found


def test_poisoned_readouts_of_tested_perturbations_change_no_weight(
    bench: Run, screen: Path, tmp_path: Path
) -> None:
    clean = run(bench, screen, tmp_path / "store")
    assert len(clean) == 5
    folds = pd.read_parquet(next((tmp_path / "store").glob("folds/key=*/folds.parquet")))
    out = set(folds.loc[(folds["repeat"] == 0) & (folds["fold"] == 0), "perturbation"])
    for folder in clean.values():
        assert (folder / "unmixing.json").is_file()
    assert not out & set(json.loads((clean[0] / "unmixing.json").read_text())["perturbations"])
    own = Path(shutil.copytree(screen, tmp_path / "poisoned"))
    wells = pd.read_csv(own / "wells.csv", dtype=str, keep_default_na=False)
    keys = ["Metadata_Plate", "Metadata_Well"]
    poison = pd.MultiIndex.from_frame(wells.loc[wells["Metadata_Compound"].isin(out), keys])
    readouts = pd.read_parquet(own / "transcripts.parquet")
    rows = pd.MultiIndex.from_frame(readouts[keys].astype(str)).isin(poison)
    assert rows.any()
    readouts.loc[rows, readouts.columns.difference(keys)] = np.float32(1e6)
    readouts.to_parquet(own / "transcripts.parquet", index=False)
    again = run(bench, own, tmp_path / "other")
    same = [
        (again[k] / "weights.safetensors").read_bytes() == (clean[k] / "weights.safetensors").read_bytes()
        for k in sorted(clean)
    ]
    assert same == [True, False, False, False, False]
