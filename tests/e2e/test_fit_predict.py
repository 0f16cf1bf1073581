"""From a run to predictions for plates that have images only."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.e2e.support import Run, contents
from tests.e2e.test_inductive import PLUGIN


def identifier(store: Path, role: str) -> str:
    """Return the run with this role; of several the first."""
    found = [json.loads(p.read_text()) for p in sorted(store.glob("runs/run=*/record.json"))]
    return next(str(record["run"]) for record in found if record["role"] == role)


@pytest.fixture(scope="module")
def images_only(screen: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The screen without a readout, a truth or a latent state."""
    folder = Path(shutil.copytree(screen, tmp_path_factory.mktemp("new") / "plates"))
    text = (folder / "dataset.toml").read_text()
    text = text[: text.index("[[layers]]")]
    text = re.sub(r"\[(latent|truth)\]\ntable = .*\n", "", text).replace('name = "demo"', 'name = "new"', 1)
    (folder / "dataset.toml").write_text(text)
    for table in ("proteins", "transcripts", "regulation", "targets", "truth", "latent"):
        (folder / f"{table}.parquet").unlink()
    return folder


def test_a_run_becomes_a_model_that_predicts_new_plates(
    bench: Run, scored: Path, images_only: Path, tmp_path: Path
) -> None:
    run = identifier(scored, "entrant")
    done = bench("fit", run, "-o", "model", "--store", scored, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "fitted on 12 units" in done.stdout
    words = ("predict", "model", images_only, "--store", tmp_path / "st")
    refused = bench(*words, cwd=tmp_path)
    assert refused.returncode == 1
    assert "--all-readouts" in refused.stderr
    done = bench(*words, "--all-readouts", "-o", "p.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    table, evidence = pd.read_csv(tmp_path / "p.csv"), pd.read_csv(tmp_path / "p.readouts.csv")
    wells = pd.read_csv(images_only / "wells.csv")
    assert len(table) == len(wells)
    assert list(table.columns[-len(evidence) :]) == list(evidence["readout"])
    assert np.isfinite(table[evidence["readout"]]).all(axis=None)
    assert {"skill", "low", "high", "q", "established"} <= set(evidence.columns)
    assert (evidence["low"] <= evidence["skill"]).all()
    # The plates are those that the model was fitted on.
    assert table["out_of_domain"].mean() < 0.2


@pytest.mark.slow
def test_the_same_run_gives_the_same_model_and_the_same_predictions(
    bench: Run, scored: Path, images_only: Path, tmp_path: Path
) -> None:
    run = identifier(scored, "entrant")
    for name in ("one", "two"):
        done = bench("fit", run, "-o", name, "--store", scored, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        words = ("predict", name, images_only, "--store", "st", "--all-readouts", "-o", f"{name}.csv")
        done = bench(*words, "--json", cwd=tmp_path)
        assert json.loads(done.stdout)["n_wells"] == len(pd.read_csv(images_only / "wells.csv"))
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    assert one.keys() == two.keys()
    assert all(one[name] == two[name] for name in one if name != "model.json")
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()
    again = bench("fit", run, "-o", "one", "--store", scored, cwd=tmp_path)
    assert again.returncode == 1
    assert "exists already" in again.stderr


def test_a_floor_and_permuted_labels_have_no_model(bench: Run, scored: Path, tmp_path: Path) -> None:
    for role, says in (("floor", "a floor"), ("permuted", "permuted labels")):
        done = bench("fit", identifier(scored, role), "-o", "model", "--store", scored, cwd=tmp_path)
        assert done.returncode == 2
        assert says in done.stderr
    assert not (tmp_path / "model").exists()


@pytest.mark.slow
def test_an_entrant_that_learns_from_labels_is_fitted_on_all_paired_data(
    bench: Run, screen: Path, images_only: Path, tmp_path: Path
) -> None:
    plugin = tmp_path / "scale.py"
    plugin.write_text(PLUGIN, encoding="utf-8")
    words = ("run", "-f", "scale", "--plugin", plugin, "--layer", "proteins", "--controls", "none", "-j", "1")
    done = bench(*words, "--dataset", screen, "--store", "st", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = identifier(tmp_path / "st", "entrant")
    fit = ("fit", run, "-o", "model", "--store", "st", "--plugin", plugin)
    refused = bench(*fit, cwd=tmp_path)
    assert refused.returncode == 2
    assert "--dataset" in refused.stderr
    done = bench(*fit, "--dataset", screen, "-j", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    seen = json.loads((tmp_path / "model" / "weights" / "seen.json").read_text())["seen"]
    wells = pd.read_csv(screen / "wells.csv")
    assert seen == sorted(set(wells.loc[wells["Metadata_pert_type"] != "negcon", "Metadata_Compound"]))
    done = bench(
        "predict",
        "model",
        images_only,
        "--store",
        "st",
        "--plugin",
        plugin,
        "--all-readouts",
        "-j",
        "1",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert np.isfinite(pd.read_parquet(tmp_path / "predictions.parquet").iloc[:, -5:]).all(axis=None)
