"""HER2ST (Andersson et al. 2021): three sections of one patient, colour statistics against the mean."""

import json
import os
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from tests.e2e.support import Run

STEPS = """
[[layers.prepare]]
step = "low-expression"
min_share = 0.9

[[layers.prepare]]
step = "size-factors"
reference = "poscounts"
empty = "missing"

[[layers.prepare]]
step = "log"
"""


def quarter(source: Path, into: Path) -> Path:
    """Copy the sections with images and spots at a quarter of their size: colour statistics need no more."""
    for name in ("images", "spots"):
        (into / name).mkdir(parents=True)
    (into / "counts").symlink_to(source / "counts")
    for path in sorted((source / "images").glob("*.jpg")):
        with Image.open(path) as image:
            image.draft("RGB", (image.width // 4, image.height // 4))
            image.save(into / "images" / path.name, quality=90)
    for path in sorted((source / "spots").glob("*.tsv")):
        spots = pd.read_csv(path, sep="\t")
        spots[["pixel_x", "pixel_y"]] /= 4
        spots.to_csv(into / "spots" / path.name, sep="\t", index=False)
    return into


@pytest.mark.realdata
def test_colour_predicts_expression_within_a_patient_and_the_board_says_within(bench: Run, tmp_path: Path):
    folder = os.environ.get("WELLBENCH_REALDATA")
    if not folder or not (Path(folder) / "her2st").is_dir():
        pytest.skip("WELLBENCH_REALDATA does not name a folder with her2st")
    source = quarter(Path(folder) / "her2st", tmp_path / "her2st")
    words = ("dataset", "from", "spatial", source, "--patient", "^([A-Z])", "--patch", 56, "--out", "her2")
    made = bench(*words, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    with (tmp_path / "her2/dataset.toml").open("a", encoding="utf-8") as settings:
        settings.write(STEPS)
    words = ("run", "-d", "her2", "-f", "intensity", "--task", "spatial", "--protocol", "section-out")
    done = bench(*words, "--controls", "none", "--json", cwd=tmp_path, timeout=600)
    assert done.returncode == 0, done.stderr
    (board,) = json.loads(done.stdout)["boards"]
    assert board["board"]["layer"] == "expression:within-patient"
    rows = {row["label"]: row for row in board["rows"]}
    entrant, permuted = rows["intensity"], rows["intensity, permuted labels"]
    assert entrant["perturbations"] == 3
    assert entrant["readouts"] > 100  # expressed in 90 % of the spots of every section
    assert 0.02 < entrant["skill"] < 0.1
    assert permuted["skill"] < 0.01
    assert entrant["skill_low"] is None
    assert entrant["predictable"] is None  # nothing is tested under a split without known error rates
    told = " ".join(board["notes"])
    assert "nothing about another patient" in told
    assert "readouts kept, above zero" in told


PANEL = """
[[layers.prepare]]
step = "panel"
title = "twelve genes of breast tumours"
readouts = [
    "ACTB", "ACTG1", "B2M", "CD74", "COL1A1", "ERBB2", "FASN", "FTL", "GAPDH", "GNAS", "KRT19", "TMSB10",
]
"""


@pytest.mark.realdata
def test_neural_stain_learning_stands_on_the_board_beside_colour_statistics(bench: Run, tmp_path: Path):
    folder = os.environ.get("WELLBENCH_REALDATA")
    if not folder or not (Path(folder) / "her2st").is_dir():
        pytest.skip("WELLBENCH_REALDATA does not name a folder with her2st")
    source = quarter(Path(folder) / "her2st", tmp_path / "her2st")
    words = ("dataset", "from", "spatial", source, "--patient", "^([A-Z])", "--patch", 56, "--out", "her2")
    made = bench(*words, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    with (tmp_path / "her2/dataset.toml").open("a", encoding="utf-8") as settings:
        settings.write(STEPS + PANEL)
    words = ("run", "-d", "her2", "-f", "intensity", "-f", "stain", "--task", "spatial", "-j", 1)
    small = ("--set", "stain.pixels=256", "--set", "stain.steps=400")
    rules = ("--protocol", "section-out", "--controls", "none", "--permuted", "none", "--json")
    done = bench(*words, *small, *rules, cwd=tmp_path, timeout=900)
    assert done.returncode == 0, done.stderr
    (board,) = json.loads(done.stdout)["boards"]
    assert board["board"]["layer"] == "expression:within-patient"
    rows = {row["label"].partition("[")[0]: row for row in board["rows"]}
    own = rows["stain"]
    assert (own["head"], own["perturbations"], own["readouts"]) == ("own", 3, 12)
    assert own["coverage"] == 1
    assert own["fit_scope"] == "inductive"
    assert own["skill_low"] is None
    assert own["predictable"] is None  # no decision where error rates are unknown
