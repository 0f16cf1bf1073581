"""What a screen can be short of, each once through the command: one sentence, or scored with its coverage."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.bench.shelf import command
from tests.bench.small import dataset_toml, layer, profiles

pytestmark = pytest.mark.slow

N = 20


class Small:
    """Tables of a small screen of ready-made profiles that a case may spoil before they are written."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        names = [f"c{i:02d}" for i in range(N)]
        self.wells = pd.DataFrame({"Metadata_Compound": names, "Metadata_pert_type": "trt"})
        self.X = pd.DataFrame(rng.normal(size=(N, 5))).add_prefix("f")
        self.Y = pd.DataFrame(self.X.to_numpy() @ rng.normal(size=(5, 4))).add_prefix("g")
        self.kind, self.key, self.more = "abundance", ["Metadata_Compound"], {"scale": "z"}
        self.text = ""

    def calls(self) -> None:
        """Turn readouts into calls of both directions."""
        self.kind, self.more, self.Y = "regulation", {}, np.sign(self.Y.round()).astype(int)

    def write(self, folder: Path) -> Path:
        """Write the dataset; ``text`` in the place of a table of readouts is CurveCurator's file."""
        folder.mkdir()
        self.wells.to_csv(folder / "wells.csv", index=False)
        about = [c for c in self.wells if c not in ("Metadata_pert_type", "Metadata_Family")]
        self.wells[about].join(self.X).to_csv(folder / "profiles.csv", index=False)
        table = "curves.txt" if self.text else "genes.csv"
        if self.text:
            (folder / table).write_text(self.text)
        else:
            self.wells[self.key].join(self.Y).drop_duplicates(self.key).to_csv(folder / table, index=False)
        readouts = layer("genes", self.kind, table=table, key=tuple(self.key), **self.more)
        (folder / "dataset.toml").write_text(dataset_toml(profiles("cp"), readouts))
        return folder


def spoil_few(own: Small) -> None:
    """Two perturbations for five folds."""
    own.wells["Metadata_Compound"] = [f"c{i % 2}" for i in range(N)]
    own.wells.insert(0, "Metadata_Well", [f"A{i + 1:02d}" for i in range(N)])
    own.wells.insert(0, "Metadata_Plate", "P1")


def spoil_controls(own: Small) -> None:
    """Negative controls only."""
    own.wells["Metadata_pert_type"] = "negcon"


def spoil_infinite(own: Small) -> None:
    """An infinite feature."""
    own.X.iloc[3, 1] = np.inf


def spoil_group(own: Small) -> None:
    """A perturbation's name is missing; its well takes no part and is named."""
    own.wells.insert(0, "Metadata_Well", [f"A{i + 1:02d}" for i in range(N)])
    own.wells.insert(0, "Metadata_Plate", "P1")
    own.wells.loc[4, "Metadata_Compound"] = ""
    own.key = ["Metadata_Plate", "Metadata_Well"]


def spoil_no_group(own: Small) -> None:
    """The column that names perturbations is absent."""
    spoil_group(own)
    own.wells = own.wells.drop(columns="Metadata_Compound")


def spoil_curves(own: Small) -> None:
    """CurveCurator's file was cut off."""
    own.kind, own.more = "regulation", {"join": "broadcast"}
    rows = [f"c{i:02d}\tG{t}\t{'up' if (i + t) % 3 else 'not'}" for i in range(N) for t in range(3)]
    own.text = "\n".join(["Metadata_Compound\tGenes\tCurve Regulation", *rows])[:-2]


REFUSED: list[tuple[Callable[[Small], None], tuple[str, ...], str]] = [
    (spoil_few, (), "no number of folds works with so few"),
    (spoil_controls, (), "negative controls only"),
    (spoil_infinite, (), "f1"),
    (spoil_no_group, (), "Metadata_Compound"),
    (lambda _: None, ("--protocol", "scaffold"), "Metadata_SMILES"),
    (spoil_curves, ("-t", "classification"), "curves.txt"),
    (lambda _: None, ("--head", "logistic"), "head logistic takes readouts of 0 and 1"),
]


@pytest.mark.parametrize(("spoil", "words", "said"), REFUSED)
def test_it_is_refused_in_one_sentence(spoil, words, said, tmp_path, capsys) -> None:
    own = Small()
    spoil(own)
    folder = own.write(tmp_path / "small")
    words = ("run", "-f", "cp", "--controls", "none", *words, "-d", folder, "--store", tmp_path / "st")
    status, out, err = command(capsys, *words, "-j", "1", "--json")
    told = [line for line in err.splitlines() if line.strip()]
    if status == 3:  # one entrant failed: what it was is in the report
        told = ["bench: " + failure["reason"] for failure in json.loads(out)["failures"]]
    assert status in (1, 2, 3), out
    assert len(told) == 1, told
    assert said in told[0]


def lone(own: Small) -> None:
    """A readout that is measured in one perturbation only."""
    own.Y["g3"] = np.where(np.arange(N) == 2, 1.0, np.nan)


def wide(own: Small) -> None:
    """Fifty times more features than wells."""
    rng = np.random.default_rng(1)
    own.X = own.X.join(pd.DataFrame(rng.normal(size=(N, 50 * N))).add_prefix("w"))


def twice(own: Small) -> None:
    """Every feature stands twice."""
    own.X = own.X.join(own.X.add_suffix("-again"))


def scarce(own: Small) -> None:
    """Calls of which one readout has a single positive: most folds are without one."""
    own.calls()
    own.Y["g3"] = np.where(np.arange(N) == 2, 1, 0)


def separable(own: Small) -> None:
    """Calls that one feature separates perfectly."""
    own.calls()
    own.Y["g0"] = (own.X["f0"] > 0).astype(int)


def doses(own: Small) -> None:
    """Features by well and dose, labels by compound: every dose is a unit of its compound."""
    half = np.repeat([f"c{i:02d}" for i in range(N // 2)], 2)
    own.wells["Metadata_Compound"] = half
    own.wells.insert(0, "Metadata_Concentration", np.tile([1.0, 10.0], N // 2))
    own.wells.insert(0, "Metadata_Well", [f"A{i + 1:02d}" for i in range(N)])
    own.wells.insert(0, "Metadata_Plate", "P1")


SCORED: list[tuple[Callable[[Small], None], tuple[str, ...], int, str]] = [
    (lone, (), 3, "1 of 4 readouts has no defined skill"),
    (wide, (), 4, ""),
    (twice, (), 4, ""),
    (scarce, ("-t", "classification"), 4, ""),
    (separable, ("-t", "classification"), 4, ""),
    (doses, (), 4, ""),
    (spoil_group, (), 4, "1 treated well names no perturbation (P1/A05)"),
]


@pytest.mark.parametrize(("spoil", "words", "readouts", "said"), SCORED)
def test_it_is_scored_with_its_coverage_and_what_is_missing_is_said(
    spoil, words, readouts, said, tmp_path, capsys
) -> None:
    own = Small()
    spoil(own)
    folder = own.write(tmp_path / "small")
    words = ("run", "-f", "cp", "--controls", "none", *words, "-d", folder, "--store", tmp_path / "st")
    status, out, err = command(capsys, *words, "-j", "1", "--json")
    assert status == 0, json.loads(out)["failures"] if out else err
    board = json.loads(out)["boards"][0]
    entrant = next(row for row in board["rows"] if row["role"] == "entrant")
    assert entrant["coverage"] == 1.0
    assert entrant["skill"] is not None
    assert entrant["readouts"] == readouts
    assert said in " ".join(board["notes"])
