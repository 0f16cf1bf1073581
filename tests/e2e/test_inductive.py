"""An entrant that learns from labels is refitted in every outer fold and never sees a tested perturbation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.support import Run

PLUGIN = '''
import json
from dataclasses import dataclass

import numpy as np

from featurizers.base import Card, Embedding, Featurizer


@dataclass(frozen=True)
class Config:
    pass


class Scale(Featurizer):
    """Mean grey level, scaled by what it saw; remembers whom it saw."""

    card = Card(
        name="scale", version="1", title="mean grey level", citation="none", licence="none",
        channel_rule="any", input_size="any", trained_on="training perturbations",
        needs=("pixels",), fit_scope="inductive",
    )
    Config = Config
    presets = {"default": Config()}
    trainable = True

    def columns(self, channels):
        return tuple(f"Mean_{c.name}" for c in channels)

    def fit(self, fields, table, context):
        self.seen = sorted(set(table["perturbation"]))
        self.wells = sorted(table["Metadata_Well"])
        self.fields = sorted(f.metadata["Metadata_Well"] for f in fields)
        self.unit = float(np.mean([f.pixels.mean() for f in fields]))

    def save(self, folder):
        (folder / "seen.json").write_text(json.dumps(vars(self) | {"config": {}}))

    def load(self, folder):
        self.unit = json.loads((folder / "seen.json").read_text())["unit"]

    def embed(self, fields):
        values = np.stack([f.pixels.mean(axis=(1, 2)) for f in fields]) / self.unit
        return Embedding(values.astype(np.float32), np.arange(len(fields)))
'''


@pytest.fixture(scope="module")
def store(bench: Run, screen: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import shutil

    import pandas as pd

    home = tmp_path_factory.mktemp("inductive")
    own = Path(shutil.copytree(screen, home / "screen"))
    readouts = pd.read_parquet(own / "transcripts.parquet")
    readouts.iloc[3, -1] = float("nan")
    readouts.to_parquet(own / "transcripts.parquet", index=False)
    plugin = home / "scale.py"
    plugin.write_text(PLUGIN, encoding="utf-8")
    words = (
        "run",
        "-f",
        "scale",
        "--plugin",
        plugin,
        "--layer",
        "transcripts",
        "--controls",
        "none",
        "-j",
        1,
    )
    done = bench(*words, "--dataset", own, "--store", "store", cwd=home)
    assert done.returncode == 0, done.stderr
    return home / "store"


def test_one_fit_per_outer_fold_of_the_first_repeat(store: Path) -> None:
    assert len(list(store.glob("weights/key=*/seen.json"))) == 5


def test_no_fit_sees_a_perturbation_well_or_image_that_its_fold_tests(store: Path) -> None:
    import pandas as pd

    folds = pd.read_parquet(next(store.glob("folds/key=*/folds.parquet")))
    first = folds[folds["repeat"] == 0]
    everyone = set(first["perturbation"])
    tested = {frozenset(own["perturbation"]) for _, own in first.groupby("fold")}
    fits = [json.loads(path.read_text()) for path in store.glob("weights/key=*/seen.json")]
    assert {frozenset(everyone - set(fit["seen"])) for fit in fits} == tested
    assert all(fit["fields"] == fit["wells"] for fit in fits)


def test_the_board_says_inductive_and_ranks_it_on_the_folds_it_has(bench: Run, store: Path) -> None:
    done = bench("leaderboard", "--store", store, "--json", cwd=store.parent)
    (board,) = json.loads(done.stdout)
    own = next(row for row in board["rows"] if row["label"] == "scale")
    assert own["fit_scope"] == "inductive"
    assert own["rank"] == 1
