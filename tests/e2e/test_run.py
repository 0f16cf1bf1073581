"""``bench run`` from images to a board, resumed, repeated, recomputed."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.e2e.support import BENCH, QUICK, Run, contents


def test_a_run_ends_in_a_board_with_entrant_controls_floor_and_permuted_labels(
    bench: Run, screen: Path, scored: Path
) -> None:
    done = bench("leaderboard", "--store", scored, "--json", cwd=screen.parent)
    (board,) = json.loads(done.stdout)
    labels = {row["label"] for row in board["rows"]}
    assert labels == {"intensity", "cell-count", "position", "training mean"} | _permuted(labels)
    assert all(row["coverage"] == 1 for row in board["rows"])


def _permuted(labels: set[str]) -> set[str]:
    return {label for label in labels if "permuted" in label}


def test_the_same_command_again_computes_nothing_and_prints_the_same(
    bench: Run, screen: Path, scored: Path
) -> None:
    before = contents(scored)
    again = bench(*QUICK, "--dataset", screen, "--store", scored, "--json", cwd=screen.parent)
    assert again.returncode == 0, again.stderr
    assert contents(scored) == before


def test_processes_change_no_byte(bench: Run, screen: Path, scored: Path, tmp_path: Path) -> None:
    alone = bench(*QUICK[:-1], "1", "--dataset", screen, "--store", tmp_path / "store", cwd=tmp_path)
    assert alone.returncode == 0, alone.stderr
    assert contents(tmp_path / "store") == contents(scored)


@pytest.mark.parametrize("share", [0.1, 0.6])
def test_a_killed_run_goes_on_and_ends_in_the_same_bytes(
    bench: Run, screen: Path, scored: Path, tmp_path: Path, share: float
) -> None:
    store = tmp_path / "store"
    words = [str(BENCH), *QUICK, "--dataset", str(screen), "--store", str(store)]
    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        while len(_parts(store)) < share * len(_parts(scored)) and process.poll() is None:
            time.sleep(0.005)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    again = bench(*QUICK, "--dataset", screen, "--store", store, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert contents(store).keys() >= contents(scored).keys()
    assert {k: v for k, v in contents(store).items() if not k.startswith(".")} == contents(scored)


def _parts(store: Path) -> list[Path]:
    """Parts that are whole: what is being written, under a hidden name, may vanish."""
    return [part for room in store.glob("[!.]*") for part in room.glob("**/manifest.json")]


def _heed_interrupts() -> None:
    """Undo what parallel test workers do: they ignore SIGINT, and a process inherits that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_an_interrupted_run_says_so_and_leaves_a_clean_store(
    bench: Run, screen: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    words = [str(BENCH), *QUICK, "--dataset", str(screen), "--store", str(store)]
    with subprocess.Popen(
        words,
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_heed_interrupts,
    ) as process:
        while not _parts(store) and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "goes on from there" in said
    assert "Traceback" not in said
    assert bench("store", "verify", "--store", store, cwd=tmp_path).returncode == 0


def test_two_runs_into_one_store_at_once_end_in_the_same_bytes(
    bench: Run, screen: Path, scored: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    words = [str(BENCH), *QUICK, "--dataset", str(screen), "--store", str(store)]
    racing = [subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(300) for process in racing] == [0, 0]
    assert contents(store) == contents(scored)


def test_every_stored_number_is_recomputed_from_predictions(bench: Run, screen: Path, scored: Path) -> None:
    done = bench("verify", "all", "--store", scored, "--json", cwd=screen.parent)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) == 5


def test_an_altered_prediction_is_found(bench: Run, scored: Path, tmp_path: Path) -> None:
    import shutil

    store = Path(shutil.copytree(scored, tmp_path / "store"))
    part = next(store.glob("predictions/run=*/repeat=0/fold=0/predictions.parquet"))
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    run = part.parts[-4].removeprefix("run=")
    done = bench("verify", run, "--store", store, cwd=tmp_path)
    assert done.returncode == 1
    assert str(part.parent.relative_to(store)) in done.stderr


def test_a_coverage_that_the_predictions_do_not_have_is_found(scored: Path, tmp_path: Path) -> None:
    import shutil

    from bench import entries
    from bench.errors import BenchError
    from bench.store import Store

    store = Store(Path(shutil.copytree(scored, tmp_path / "store")))
    folder = store.list("runs")[0]
    manifest = store.manifest(folder)
    record = json.loads(store.read_bytes(folder, "record.json"))
    assert entries.verify(store, record["run"])["coverage"] == record["coverage"] == 1.0
    shutil.rmtree(store.path(folder))
    text = json.dumps(record | {"coverage": 0.75})
    given = {name: manifest[name] for name in ("key_document", "provenance")}
    store.commit(folder, lambda into: (into / "record.json").write_text(text, encoding="utf-8"), given)
    with pytest.raises(BenchError, match=r"coverage \(0\.75 stored, 1 found\)"):
        entries.verify(store, record["run"])


def test_the_masked_autoencoder_trains_embeds_and_is_found_again(
    bench: Run, screen: Path, tmp_path: Path
) -> None:
    words = ("run", "-f", "mae", "--set", "mae.steps=2", "--set", "mae.batch=8", "--layer", "proteins")
    words = (
        *words,
        "--controls",
        "untrained,oracle",
        "--dataset",
        screen,
        "--store",
        tmp_path / "store",
        "--json",
    )
    first = bench(*words, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    before = contents(tmp_path / "store")
    assert any(name.startswith("weights/") for name in before)
    second = bench(*words, cwd=tmp_path)
    assert contents(tmp_path / "store") == before
    assert json.loads(second.stdout)["boards"] == json.loads(first.stdout)["boards"]


@pytest.mark.slow
def test_wells_may_be_medians_of_their_cells_which_are_kept(bench: Run, screen: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    words = [
        "run",
        "-f",
        "cellprofiler:nuclei",
        "--layer",
        "proteins",
        "--controls",
        "none",
        "--dataset",
        screen,
    ]
    done = bench(*words, "--store", store, "--aggregate", "cell-median", "--keep-cells", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "cell-median" in done.stdout
    (part,) = store.glob("features/*/featurizer=cellprofiler/*/*/*")
    wells, cells = (pd.read_parquet(part / name) for name in ("part.parquet", "cells.parquet"))
    assert 0 < len(cells) <= wells["n_cells"].sum()  # cells at the border have no row
    assert not cells.duplicated(["Metadata_Well", "Metadata_Site", "Metadata_ObjectNumber"]).any()
    well = wells["Metadata_Well"].iloc[0]
    own = cells[cells["Metadata_Well"] == well]
    median = np.median(np.stack(own["embedding"]).astype(float), axis=0).astype(np.float32)
    np.testing.assert_array_equal(wells["embedding"].iloc[0], median)
