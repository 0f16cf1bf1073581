"""``bench reproduce``: a run made again is the same to the last bit, and what is not the same is found."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from bench import entries
from bench.errors import BenchError, UsageError
from bench.reproduce import Other, compare, reproduce
from bench.settings import Settings
from bench.store import Store
from bench.store.tables import read_matrix, write_matrix
from tests.e2e.support import Run


def quiet(*_, **__):
    return None


@pytest.fixture
def copied(scored: Path, tmp_path: Path) -> Store:
    """A copy of the scored store that a test may damage."""
    return Store(Path(shutil.copytree(scored, tmp_path / "copy")))


def record_of(store: Store, label: str):
    (found,) = entries.records(store, {"label": label})
    return found


def side_by_side(scored: Path, copied: Store):
    store = Store(scored)
    record = record_of(store, "position")
    recorded = store.manifest(f"runs/run={record['run']}")["provenance"]["asked"]["settings"]
    settings = Settings(threads=recorded["threads"])
    return compare(store, record, copied, record["run"], settings, rtol=1e-4)


def nudge(store: Store, label: str, by: float) -> None:
    """Change one stored prediction of a run by a share of its readout's largest."""
    run = record_of(store, label)["run"]
    path = store.path(f"predictions/run={run}/repeat=1/fold=2") / "predictions.parquet"
    index, values = read_matrix(path)
    p = values["prediction"].copy()
    p[0, 3] += np.float32(by * np.abs(p[:, 3]).max())
    path.unlink()
    write_matrix(path, index, {"prediction": p, "floor": values["floor"]}, {})


@pytest.mark.parametrize(
    "label", ["training mean", *(pytest.param(n, marks=pytest.mark.slow) for n in ("position", "intensity"))]
)
def test_a_run_made_again_is_the_same_bit_by_bit(scored: Path, tmp_path: Path, label: str) -> None:
    store = Store(scored)
    out = Store(tmp_path / "again")
    found = reproduce(store, record_of(store, label)["run"], out, quiet, Other(processes=1))
    assert (found.outcome, found.tolerance, found.again) == ("identical", 0.0, found.run)
    assert (found.environment, found.keys) == ((), ())
    assert len(out.list("runs")) == 1


def test_a_changed_prediction_is_found_where_nothing_may_differ(scored: Path, copied: Store) -> None:
    assert side_by_side(scored, copied).outcome == "identical"
    nudge(copied, "position", 1e-5)
    found = side_by_side(scored, copied)
    assert (found.outcome, found.tolerance) == ("different", 0.0)
    assert found.largest == pytest.approx(1e-5, rel=0.1)


@pytest.mark.parametrize(("by", "outcome"), [(1e-5, "within tolerance"), (1e-3, "different")])
def test_another_version_is_listed_and_allows_the_stated_tolerance(
    scored: Path, copied: Store, by: float, outcome: str
) -> None:
    path = copied.path(f"runs/run={record_of(copied, 'position')['run']}") / "provenance.json"
    spent = json.loads(path.read_text(encoding="utf-8"))
    spent["libraries"]["numpy"] = "1.0"
    path.write_text(json.dumps(spent), encoding="utf-8")
    nudge(copied, "position", by)
    found = side_by_side(scored, copied)
    assert (found.outcome, found.tolerance) == (outcome, 1e-4)
    assert [line for line in found.environment if line.startswith("numpy: ")] == list(found.environment)
    assert found.environment[0].endswith("1.0 now")


def test_another_dataset_of_the_same_name_is_refused(scored: Path, own_screen: Path, tmp_path: Path) -> None:
    store = Store(scored)
    run = record_of(store, "position")["run"]
    wells = next(own_screen.rglob("wells.csv"), None) or next(own_screen.rglob("*wells*"))
    table = wells.read_bytes() + b"\n"
    wells.write_bytes(table)
    with pytest.raises(BenchError, match="not those the run was made from"):
        reproduce(store, run, Store(tmp_path / "again"), quiet, Other(dataset=str(own_screen)))
    with pytest.raises(BenchError, match="--dataset"):
        reproduce(store, run, Store(tmp_path / "again"), quiet, Other(dataset=str(tmp_path / "gone")))


def test_a_store_that_holds_something_is_refused(scored: Path, copied: Store) -> None:
    store = Store(scored)
    with pytest.raises(UsageError, match="empty store"):
        reproduce(store, record_of(store, "position")["run"], copied, quiet)


def test_plugins_of_a_record_are_not_executed_unless_named_again(copied: Store, tmp_path: Path) -> None:
    run = record_of(copied, "position")["run"]
    path = copied.path(f"runs/run={run}") / "provenance.json"
    spent = json.loads(path.read_text(encoding="utf-8"))
    mark = tmp_path / "executed"
    evil = tmp_path / "evil.py"
    evil.write_text(f"open({str(mark)!r}, 'w')\n", encoding="utf-8")
    spent["asked"]["settings"]["plugins"] = [str(evil)]
    path.write_text(json.dumps(spent), encoding="utf-8")
    with pytest.raises(UsageError, match="--plugin"):
        reproduce(copied, run, Store(tmp_path / "again"), quiet)
    assert not mark.exists()


def test_a_record_without_settings_says_so(copied: Store, tmp_path: Path) -> None:
    run = record_of(copied, "position")["run"]
    path = copied.path(f"runs/run={run}") / "provenance.json"
    spent = json.loads(path.read_text(encoding="utf-8"))
    del spent["asked"]
    path.write_text(json.dumps(spent), encoding="utf-8")
    with pytest.raises(BenchError, match="did not keep settings"):
        reproduce(copied, run, Store(tmp_path / "again"), quiet)


@pytest.mark.slow
def test_the_command_says_what_it_found_and_keeps_the_store_on_demand(
    bench: Run, scored: Path, tmp_path: Path
) -> None:
    run = record_of(Store(scored), "intensity, permuted labels")["run"]
    words = ("reproduce", run[:8], "--store", scored, "--store-out", tmp_path / "kept", "-j", 1)
    done = bench(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "identical; every prediction of 25 folds" in done.stdout
    assert bench("verify", "all", "--store", tmp_path / "kept", cwd=tmp_path).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "name"),
    [
        pytest.param(("--task", "classification", "--head", "logistic"), "intensity", id="classes"),
        pytest.param(("--task", "retrieval"), "intensity", id="retrieval"),
        pytest.param(
            ("--layer", "proteins", "--set", "mae.steps=3", "--set", "mae.batch=16"), "mae:tiny", id="mae"
        ),
    ],
)
def test_classes_retrieval_and_a_trained_entrant_are_made_again_bit_by_bit(
    bench: Run, screen: Path, tmp_path: Path, words, name
) -> None:
    done = bench(
        "run", "-f", name, *words, "--controls", "none", "-j", 1, "--dataset", screen, "--store", "s",
        cwd=tmp_path, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    store = Store(tmp_path / "s")
    runs = [r for r in entries.records(store, {"role": "entrant"}) if r["name"] == name.partition(":")[0]]
    assert runs
    found = reproduce(store, runs[0]["run"], Store(tmp_path / "again"), quiet, Other(processes=1))
    assert (found.outcome, found.environment, found.keys) == ("identical", (), ())
    assert found.again == runs[0]["run"]
