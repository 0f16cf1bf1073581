"""One training in two processes, started by ``bench run``; its metrics; its weights used again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from tests.e2e.support import Run

SMALL = {"steps": 3, "batch": 8, "depth": 1, "dim": 32, "heads": 2, "lr": 1e-5}
WORDS = (
    "run",
    "-f",
    "mae",
    "--layer",
    "proteins",
    "--controls",
    "none",
    "-j",
    "1",
    "--threads",
    "2",
    "--json",
)


def settings() -> list[str]:
    return [word for key, value in SMALL.items() for word in ("--set", f"mae.{key}={value}")]


@pytest.mark.slow
def test_two_processes_train_the_weights_of_one_and_their_weights_can_be_given(
    bench: Run, screen: Path, tmp_path: Path
) -> None:
    words = [*WORDS, *settings(), "--dataset", screen]
    found, losses = {}, {}
    for count in (1, 2):
        logs, store = tmp_path / f"logs{count}", tmp_path / str(count)
        options = ("--store", store, "--logs", logs, "--training-processes", count)
        done = bench(*words, *options, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert not list((store / ".work").glob("*"))
        (weights,) = store.glob("weights/*/weights.safetensors")
        found[count] = load_file(weights)
        (folder,) = logs.glob("mae-*")
        assert json.loads((folder / "about.json").read_text())["seed"] == 0
        losses[count] = pq.read_table(folder / "metrics.parquet")["loss"].to_pylist()
    assert len(losses[1]) == 3
    assert losses[2] == pytest.approx(losses[1], rel=1e-4)
    # Lion moves by the sign of its momentum, so a weight whose momentum is rounding may differ by 2 lr a step
    for name, value in found[1].items():
        assert np.abs(found[2][name] - value).max() <= 2.01 * 3 * SMALL["lr"], name
        assert np.mean(np.abs(found[2][name] - value) > 1e-7) < 0.02, name

    given = bench(*words, "--weights", weights, "--store", tmp_path / "given", cwd=tmp_path)
    assert given.returncode == 0, given.stderr
    boards = [json.loads(out)["boards"][0]["rows"] for out in (done.stdout, given.stdout)]
    skill = [next(r for r in rows if r["entrant"].startswith("mae[")) for rows in boards]
    assert skill[0]["skill"] == skill[1]["skill"]
    assert "weights" in skill[1]["entrant"]
    assert not list((tmp_path / "given").glob("weights/*"))


@pytest.mark.slow
def test_the_reason_of_a_process_that_failed_is_said(bench: Run, screen: Path, tmp_path: Path) -> None:
    words = [*WORDS, *settings(), "--set", "mae.lr=1e30", "--set", "mae.clip=0", "--dataset", screen]
    done = bench(*words, "--store", tmp_path / "s", "--training-processes", 2, cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    (failure,) = json.loads(done.stdout)["failures"]
    assert "gradient norm" in failure["reason"]
    assert "lower lr or clip" in failure["reason"]
