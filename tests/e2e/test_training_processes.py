"""One training in two processes; its metrics; its weights used again by `bench run`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from bench.datasets import load
from bench.entrants import Spec
from bench.errors import BenchError
from bench.store import Store
from bench.weights import Training, ensure, folder
from tests.e2e.support import Run

SMALL = {"steps": "3", "batch": "8", "depth": "1", "dim": "32", "heads": "2", "lr": "1e-5"}
BY = ["Metadata_Plate", "Metadata_Well"]


def trained(screen: Path, store: Store, logs: Path, processes: int, **changes: str) -> tuple[Path, list[str]]:
    """Train as `bench run --training-processes` does; return the weights' folder and the stages told of."""
    dataset, told = load(screen), []
    spec = Spec("mae", overrides=tuple({**SMALL, **changes}.items()))
    how = Training(dataset.wells, dataset.wells[BY], None, 0, 2, "cpu", processes, logs)
    key = ensure(store, dataset, spec, spec.build(), how, lambda stage, *_: told.append(stage))
    return store.path(folder(key)), told


@pytest.mark.slow
def test_two_processes_train_the_weights_of_one_and_they_can_be_given(
    bench: Run, screen: Path, tmp_path: Path
) -> None:
    found, losses = {}, {}
    for count in (1, 2):
        store, logs = Store(tmp_path / str(count)), tmp_path / f"logs{count}"
        weights, told = trained(screen, store, logs, count)
        assert {"mae: crops", "mae: train"} <= set(told)
        assert not list((store.root / ".work").glob("*"))
        found[count] = load_file(weights / "weights.safetensors")
        (own,) = logs.glob("mae-*")
        assert json.loads((own / "about.json").read_text())["seed"] == 0
        losses[count] = pq.read_table(own / "metrics.parquet")["loss"].to_pylist()
    assert len(losses[1]) == 3
    assert losses[2] == pytest.approx(losses[1], rel=1e-4)
    # Lion moves by the sign of its momentum, so a weight whose momentum is rounding may differ by 2 lr a step
    for name, value in found[1].items():
        assert np.abs(found[2][name] - value).max() <= 2.01 * 3 * float(SMALL["lr"]), name
        assert np.mean(np.abs(found[2][name] - value) > 1e-7) < 0.02, name

    settings = [word for key, value in SMALL.items() for word in ("--set", f"mae.{key}={value}")]
    words = ("run", "-f", "mae", *settings, "--weights", weights, "--layer", "proteins", "--controls", "none")
    given = bench(
        *words, "-j", "1", "--json", "--dataset", screen, "--store", tmp_path / "given", cwd=tmp_path,
        timeout=900,
    )  # fmt: skip
    assert given.returncode == 0, given.stderr
    (row,) = [r for r in json.loads(given.stdout)["boards"][0]["rows"] if r["role"] == "entrant"]
    assert "weights " in row["label"]
    assert str(weights) not in row["label"]
    assert row["fit_scope"] == "transductive"
    assert not list((tmp_path / "given").glob("weights/*"))


@pytest.mark.slow
def test_the_reason_of_a_process_that_failed_is_said(screen: Path, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"loss .* gradient norm .*; lower lr or clip"):
        trained(screen, Store(tmp_path / "s"), tmp_path / "logs", 2, weight_decay="1e30", clip="0")
