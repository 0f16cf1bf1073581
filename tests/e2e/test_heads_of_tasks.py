"""Several tasks in one command: a head is run on the tasks it fits; a task that none fits is a failure."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from tests.bench.shelf import command
from tests.bench.small import dataset_toml, layer, profiles

N = 20
DATASET = dataset_toml(profiles("cp"), layer("levels", scale="z"), layer("calls", "regulation"))


@pytest.fixture
def words(tmp_path):
    rng = np.random.default_rng(0)
    wells = pd.DataFrame({"Metadata_Compound": [f"c{i:02d}" for i in range(N)]})
    X = pd.DataFrame(rng.normal(size=(N, 5))).add_prefix("f")
    Y = pd.DataFrame(X.to_numpy() @ rng.normal(size=(5, 4))).add_prefix("g")
    wells.assign(Metadata_pert_type="trt").to_csv(tmp_path / "wells.csv", index=False)
    wells.join(X).to_csv(tmp_path / "profiles.csv", index=False)
    wells.join(Y).to_csv(tmp_path / "levels.csv", index=False)
    wells.join(np.sign(Y.round()).astype(int)).to_csv(tmp_path / "calls.csv", index=False)
    (tmp_path / "dataset.toml").write_text(DATASET)
    protocol = tmp_path / "once.toml"
    protocol.write_text(
        'schema_version = 1\nname = "once"\nlabel = "honest"\nsplit = "grouped"\nrepeats = 1\n'
        'outer_folds = 5\nvariance = "measured"\nnormalisation = ["fold"]\n'
    )
    return (
        *("run", "-f", "cp", "-d", tmp_path, "--store", tmp_path / "store", "--protocol", protocol),
        *("--controls", "none", "--permuted", "none", "-j", "0", "-t", "regression", "-t", "classification"),
    )


def heads(report) -> dict[str, set[str]]:
    return {
        board["board"]["task"]: {row["head"] for row in board["rows"] if row["role"] == "entrant"}
        for board in report["boards"]
    }


def test_each_head_is_run_on_the_tasks_it_fits(words, capsys) -> None:
    status, out, err = command(capsys, *words, "--head", "ridge", "--head", "logistic", "--json")
    assert status == 0, err
    report = json.loads(out)
    assert heads(report) == {"regression": {"ridge"}, "classification": {"ridge", "logistic"}}
    (said,) = report["skipped"]
    assert said == (
        "Head logistic takes readouts of 0 and 1, so it is not run on task regression, which predicts values."
    )
    assert report["failures"] == []


def test_a_task_that_no_named_head_fits_is_done_in_part_and_named(words, capsys) -> None:
    status, out, err = command(capsys, *words, "--head", "logistic", "--json")
    assert status == 3, err
    report = json.loads(out)
    assert heads(report) == {"classification": {"logistic"}}
    (failure,) = report["failures"]
    assert failure["what"] == "task regression"
    assert "--head ridge" in failure["reason"]
    status, out, err = command(capsys, *words, "--head", "logistic", "--dry-run")
    assert status == 0
    assert "not run on task regression" in " ".join(out.split())
