"""From a run to predictions for plates that have images only."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.bench import small
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


def profiles(folder: Path, rows: int, seed: int, far: int = 0, by: str = "") -> Path:
    """Write a dataset of ready-made profiles whose first four readouts follow them; ``far`` are outliers."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    X = rng.normal(size=(rows, 5))
    X[:far] *= 50
    Y = np.hstack([X @ np.random.default_rng(9).normal(size=(5, 4)), np.zeros((rows, 4))])
    Y += 0.5 * rng.normal(size=Y.shape)
    wells = pd.DataFrame({"Metadata_Compound": [f"c{seed}-{i:02d}" for i in range(rows)]})
    wells.assign(Metadata_pert_type="trt").to_csv(folder / "wells.csv", index=False)
    wells.join(pd.DataFrame(X).add_prefix("f")).to_csv(folder / "profiles.csv", index=False)
    tables = [small.profiles("cp")]
    if not far:
        genes, key = wells.join(pd.DataFrame(Y).add_prefix("g")), ("Metadata_Compound",)
        if by:
            genes = pd.concat([genes.assign(**{by: value}) for value in ("rest", "tnf")])
            key += (by,)
        genes.to_csv(folder / "genes.csv", index=False)
        strata = {"fit_by": [by]} if by else {}
        tables.append(small.layer("genes", scale="z", key=key, **strata))
    (folder / "dataset.toml").write_text(small.dataset_toml(*tables, name="new"))
    return folder


def fitted(bench: Run, dataset: Path, into: Path) -> str:
    """Run and fit; return what `bench fit` said. The model stands in ``into / "model"``."""
    words = ("run", "-f", "cp", "--controls", "none", "-j", "1", "-d", dataset, "--store", "st")
    done = bench(*words, cwd=into)
    assert done.returncode == 0, done.stderr
    done = bench("fit", identifier(into / "st", "entrant"), "-o", "model", "--store", "st", cwd=into)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_established_readouts_are_predicted_and_wells_far_away_are_flagged(
    bench: Run, tmp_path: Path
) -> None:
    said = fitted(bench, profiles(tmp_path / "old", 60, 0), tmp_path)
    assert "4 of 8 readouts have an established skill" in said
    done = bench(
        "predict", "model", profiles(tmp_path / "new", 20, 1, far=4), "-o", "p.csv", "--store", "st",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "4 readouts withheld" in done.stdout
    table, evidence = pd.read_csv(tmp_path / "p.csv"), pd.read_csv(tmp_path / "p.readouts.csv")
    assert list(evidence["readout"]) == ["g0", "g1", "g2", "g3"]
    assert evidence["established"].all()
    assert (evidence["low"] > 0).all()
    assert not {"g4", "g5"} & set(table.columns)
    assert table["out_of_domain"][:4].all()
    assert table["out_of_domain"][4:].mean() < 0.25


@pytest.mark.slow
def test_a_well_is_predicted_under_every_condition_that_only_the_readouts_know(
    bench: Run, tmp_path: Path
) -> None:
    fitted(bench, profiles(tmp_path / "old", 40, 2, by="Metadata_Stimulus"), tmp_path)
    new = profiles(tmp_path / "new", 6, 3, far=1)
    words = ("predict", "model", new, "-o", "p.csv", "--store", "st", "--all-readouts")
    done = bench(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "p.csv")
    assert table["Metadata_Stimulus"].tolist() == ["rest"] * 6 + ["tnf"] * 6
    assert np.isfinite(table["g0"]).all()
    wells = pd.read_csv(new / "wells.csv").assign(Metadata_Stimulus=["rest", "cold"] * 3)
    wells.to_csv(new / "wells.csv", index=False)
    done = bench(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "3 wells of a condition that the model was not fitted on: no prediction" in done.stdout
    own = pd.read_csv(tmp_path / "p.csv")
    assert own["g0"].isna().tolist() == [False, True] * 3
    np.testing.assert_allclose(own["g0"][::2], table["g0"][:6:2], rtol=1e-6)


@pytest.mark.slow
def test_a_trained_featurizer_keeps_the_weights_of_its_run_on_new_plates(
    bench: Run, screen: Path, images_only: Path, tmp_path: Path
) -> None:
    words = ("run", "-f", "mae", "--set", "mae.steps=2", "--set", "mae.batch=8", "--layer", "proteins")
    done = bench(*words, "--controls", "none", "-j", "1", "-d", screen, "--store", "st", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = bench("fit", identifier(tmp_path / "st", "entrant"), "-o", "model", "--store", "st", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (trained,) = (tmp_path / "st").glob("weights/*/weights.safetensors")
    assert (tmp_path / "model/weights/weights.safetensors").read_bytes() == trained.read_bytes()
    predict = ("predict", "model", images_only, "--store", "other", "-j", "1")
    refused = bench(*predict, cwd=tmp_path)
    assert refused.returncode == 1
    assert "is established" in refused.stderr
    done = bench(*predict, "--all-readouts", "-o", "p.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "other/weights").exists()
    table = pd.read_csv(tmp_path / "p.csv")
    assert np.isfinite(table.iloc[:, -5:]).all(axis=None)
    # The plates are those of the run, and so are the features, though they were computed anew.
    parts = [next((tmp_path / s).glob("features/**/featurizer=mae/**/part.parquet")) for s in ("st", "other")]
    one, two = (np.stack(pd.read_parquet(part)["embedding"]) for part in parts)
    np.testing.assert_array_equal(one, two)
    other = Path(shutil.copytree(images_only, tmp_path / "stains"))
    text = (other / "dataset.toml").read_text()
    (other / "dataset.toml").write_text(text.replace('"DNA"', '"Hoechst"'))
    images = pd.read_parquet(other / "images.parquet")
    images.assign(Channel=images["Channel"].replace("DNA", "Hoechst")).to_parquet(other / "images.parquet")
    refused = bench("predict", "model", other, "--store", "other", "--all-readouts", cwd=tmp_path)
    assert refused.returncode == 1
    assert "the model was fitted on" in refused.stderr


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
