"""Real screens through the installed command: a weak signal is found, a plate of four treatments refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd
import pytest

from tests.bench.small import dataset_toml, layer
from tests.e2e.support import Run

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(
        not os.environ.get("WELLBENCH_REALDATA"),
        reason="WELLBENCH_REALDATA names no folder; docs/datasets.md says where the sets come from",
    ),
]


@pytest.fixture
def data() -> Path:
    """The folder of public data sets."""
    return Path(os.environ["WELLBENCH_REALDATA"])


PREPARED = "signatures as published with CMEA"
DATASET = dataset_toml(layer("l1000", table="genes.parquet", scale="z", prepared=PREPARED), name="cdrp-l1000")


def test_cell_painting_profiles_predict_some_l1000_genes_and_permuted_ones_none(
    bench: Run, data: Path, tmp_path: Path
) -> None:
    folder = data / "cdrp_l1000_cmea"
    names = {"broad_id": "Metadata_Compound"}
    genes = pd.read_parquet(folder / "expression_162x978.parquet").rename(columns=names)
    genes.to_parquet(tmp_path / "genes.parquet", index=False)
    genes[["Metadata_Compound"]].assign(Metadata_pert_type="trt").to_csv(tmp_path / "wells.csv", index=False)
    (tmp_path / "dataset.toml").write_text(DATASET, encoding="utf-8")
    table = folder / "morphology_162x812.parquet"
    rename = "broad_id=Metadata_Compound"
    words = ("features", "import", table, "--name", "cellprofiler", "--rename", rename, "--store", "store")
    assert bench(*words, cwd=tmp_path).returncode == 0
    done = bench("run", "-f", "cellprofiler", "--store", "store", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {"position", "cell-count", "intensity", "untrained", "oracle"} == set(report["unavailable"])
    skill = {row["role"]: row["skill"] for row in report["boards"][0]["rows"]}
    assert skill["entrant"] > skill["permuted"]
    query = "select run, count(*) filter (r2 > 0.1) as found, count(*) as readouts from scores group by run"
    counts = bench("store", "sql", query, "--store", "store", "--json", cwd=tmp_path)
    found = {row["run"]: row["found"] for row in json.loads(counts.stdout)}
    of = {row["role"]: found[row["run"]] for row in report["boards"][0]["rows"]}
    assert of["entrant"] >= 10
    assert of["permuted"] <= 2


def test_four_treatments_are_refused_by_nested_cv_and_shown_as_optimistic_by_random_wells(
    bench: Run, data: Path, tmp_path: Path
) -> None:
    plate = data / "images_gastruloid_plate"
    made = bench(
        *("dataset", "from", "regex", plate / "images", "--out", "screen", "--channels", "BF,GFP"),
        *("--pattern", r"(?P<col>\d\d)(?P<row>[A-H])\.tif$", "--bit-depth", 8, "--imaging", "foreground"),
        *("--wells", plate / "metadata.csv", "--wells-as", "colrow", "--map", "colrow=Metadata_Well"),
        *("--map", "treatment=Metadata_Compound", "--negative", "control"),
        *("--readouts", plate / "objects.csv", "--map", "Metadata_colrow=Metadata_Well"),
        *("--exclude", "ImageNumber,ObjectNumber,FileName_raw,PathName_raw"),
        cwd=tmp_path,
    )
    assert made.returncode == 0, made.stderr
    words = ("run", "-f", "mae", "--set", "mae.scale=0.2", "--set", "mae.steps=5", "--dataset", "screen")
    refused = bench(*words, cwd=tmp_path)
    assert refused.returncode == 1
    assert "random-wells" in refused.stderr
    done = bench(*words, "--protocol", "random-wells", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (board,) = json.loads(done.stdout)["boards"]
    assert "OPTIMISTIC" in board["banner"]
    assert any("in one column share their perturbation" in note for note in board["notes"])
    assert {"mae", "intensity", "position", "cell-count", "untrained"} <= {
        row["name"] for row in board["rows"]
    }
