"""Protocols through the installed command: each runs, hides what was not measured, and verifies."""

import json

import pytest

from tests.e2e.support import Run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def two_plates(bench: Run, tmp_path_factory):
    """A demo screen of 16 compounds (12 scaffolds) on two plates, with batches and sections added."""
    import pandas as pd

    folder = tmp_path_factory.mktemp("protocols")
    done = bench("demo", "--plates", 2, "--compounds", 16, "--doses", 1, "--out", "demo", cwd=folder)
    assert done.returncode == 0, done.stderr
    path = folder / "demo/wells.csv"
    wells = pd.read_csv(path, dtype=str, keep_default_na=False)
    names = sorted(wells.loc[wells["Metadata_pert_type"] == "trt", "Metadata_Compound"].unique())
    wells["Metadata_Batch"] = "batch " + wells["Metadata_Plate"].str[-1]
    wells["Metadata_Section"] = "s" + (
        wells["Metadata_Compound"].map({n: str(i % 4) for i, n in enumerate(names)}).fillna("0")
    )
    wells.to_csv(path, index=False)
    return folder


@pytest.mark.parametrize("name", ["image2omics", "scaffold", "plate-out"])
def test_a_protocol_runs_through_the_command_and_its_scores_are_recomputed(bench: Run, two_plates, name):
    words = (
        "run",
        "-f",
        "intensity",
        "--controls",
        "cell-count",
        "-d",
        "demo",
        "--layer",
        "transcripts",
        "-j",
        1,
    )
    done = bench(*words, "--store", "store", "--protocol", name, "--json", cwd=two_plates)
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    (board,) = shown["boards"]
    assert board["board"]["protocol"] == name
    rows = {row["label"]: row for row in board["rows"]}
    assert rows["intensity"]["skill"] is not None
    assert rows["intensity"]["skill_low"] is None
    assert rows["training mean"]["skill"] == 0.0
    told = " ".join(board["notes"])
    assert f"error rates under '{name}' have not been measured" in told
    assert ("median p < 0.05" in told) == (name == "image2omics")
    verified = bench("verify", rows["intensity"]["run"], "--store", "store", cwd=two_plates)
    assert verified.returncode == 0, verified.stderr
