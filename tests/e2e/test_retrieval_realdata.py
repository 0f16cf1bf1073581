"""Published retrieval on BBBC021 and a LINCS plate, through the installed command."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
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


def import_and_run(bench: Run, folder: Path, *words: str) -> dict[str, dict[str, float]]:
    """Scores by board and role, after `features import`, `run` and `verify`."""
    imported = bench(
        *("features", "import", "profiles.parquet", "--name", "cellprofiler", "--store", "store"),
        *("--nonfinite", "drop-columns"),
        cwd=folder,
    )
    assert imported.returncode == 0, imported.stderr
    done = bench("run", "-f", "cellprofiler", *words, "--store", "store", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    verified = bench("verify", "all", "--store", "store", "--json", cwd=folder)
    assert verified.returncode == 0, verified.stderr
    boards = json.loads(done.stdout)["boards"]
    return {
        board["board"]["layer"]: {row["role"]: row["skill"] for row in board["rows"]}
        | {"notes": " ".join(board["notes"])}
        | {"readouts": next(row["readouts"] for row in board["rows"] if row["role"] == "entrant")}
        for board in boards
    }


def test_bbbc021_mechanisms_are_found_as_often_as_published(bench: Run, data: Path, tmp_path: Path) -> None:
    folder = data / "bbbc021_profiles"
    profiles = pd.read_csv(folder / "ljosa_jbiomolscreen_2013_per_well_mean.csv.gz")
    profiles = profiles.rename(columns=lambda c: c.removeprefix("Image_") if "Metadata" in c else c)
    profiles.to_parquet(tmp_path / "profiles.parquet", index=False)
    images = pd.read_csv(folder / "BBBC021_v1_image.csv.gz")
    wells = images.rename(columns=lambda c: c.removeprefix("Image_").removesuffix("_DAPI"))
    keys = ["Metadata_Plate", "Metadata_Well"]
    wells = wells[[*keys, "Metadata_Compound", "Metadata_Concentration"]].drop_duplicates(keys)
    moa = pd.read_csv(folder / "BBBC021_v1_moa.csv")
    moa.columns = ["Metadata_Compound", "Metadata_Concentration", "Metadata_MOA"]
    wells = wells.merge(profiles[keys]).merge(moa, how="left")
    control = wells["Metadata_Compound"] == "DMSO"
    wells["Metadata_pert_type"] = np.where(control, "negcon", "trt")
    wells.loc[control, ["Metadata_MOA", "Metadata_Concentration"]] = None
    wells["Metadata_Batch"] = wells["Metadata_Plate"].str.partition("_")[0]
    wells.to_csv(tmp_path / "wells.csv", index=False)
    (tmp_path / "dataset.toml").write_text(dataset_toml(name="bbbc021"), encoding="utf-8")

    found = import_and_run(bench, tmp_path, "-t", "retrieval", "--controls", "position")
    near = found["Metadata_MOA:1-nn"]
    assert near["readouts"] == 103
    assert 84 <= round(near["entrant"] * 103) <= 85
    assert near["floor"] == pytest.approx(0.060, abs=0.001)
    assert near["control"] < 0.1
    other = found["Metadata_MOA:1-nn-other-batch"]
    assert other["readouts"] == 92
    assert 0.6 < other["entrant"] < near["entrant"]
    assert "11 of 103 treatments have no treatment of another perturbation and batch" in other["notes"]
    assert found["Metadata_MOA:consistency"]["entrant"] > 0.6
    assert "scores no higher than position" in found["wells:activity"]["notes"]  # replicates share a position


def test_a_lincs_plate_is_active_and_has_too_few_compounds_per_target(
    bench: Run, data: Path, tmp_path: Path
) -> None:
    frame = pd.read_csv(data / "lincs_a549" / "SQ00015054_normalized_feature_select.csv.gz")
    features = [c for c in frame.columns if not c.startswith("Metadata_")]
    keys = ["Metadata_Plate", "Metadata_Well"]
    frame[[*keys, *features]].to_parquet(tmp_path / "profiles.parquet", index=False)
    control = frame["Metadata_pert_type"] == "control"
    compound = frame["Metadata_pert_id"].where(~control, "DMSO")
    wells = frame[keys].assign(
        Metadata_Compound=compound,
        Metadata_Concentration=frame["Metadata_mmoles_per_liter"].where(~control).round(4),
        Metadata_pert_type=np.where(control, "negcon", "trt"),
        Metadata_MOA=frame["Metadata_moa"],
    )
    wells.to_csv(tmp_path / "wells.csv", index=False)
    targets = frame[~control].assign(Metadata_Compound=compound).drop_duplicates("Metadata_Compound")
    table = targets.set_index("Metadata_Compound")["Metadata_target"].fillna("").str.get_dummies("|")
    table.reset_index().to_csv(tmp_path / "targets.csv", index=False)
    text = dataset_toml(layer("targets", "target", scale="z"), name="lincs")
    (tmp_path / "dataset.toml").write_text(text, encoding="utf-8")

    words = ("-t", "retrieval", "--labels", "Metadata_MOA", "--controls", "position")
    found = import_and_run(bench, tmp_path, *words)
    active = found["wells:activity-any-dose"]
    assert active["readouts"] == 58
    assert active["entrant"] > active["floor"] + 0.1
    assert "scores no higher than position" in active["notes"]  # the doses of a compound stand side by side
    assert found["Metadata_MOA:1-nn"]["entrant"] > found["Metadata_MOA:1-nn"]["floor"]
    refused = bench("run", "-f", "cellprofiler", "-t", "target", "--store", "store", cwd=tmp_path)
    assert refused.returncode == 1
    assert "too few perturbations per target" in refused.stderr
    assert "is hit by 3 and not hit by" in refused.stderr
    assert "5 of each are needed" in refused.stderr
