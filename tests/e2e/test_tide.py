"""tide through the harness: no tested perturbation in its codebook or images, all others' images seen."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.bench.small import QUICK
from tests.e2e.support import Run

pytestmark = pytest.mark.slow

SETTINGS = ("steps=2", "batch=4", "depth=1", "dim=16", "heads=2", "local_crops=0", "pairs=4", "cells=2")


def run(bench: Run, screen: Path, store: Path, *words: str) -> str:
    """Run tide as small as it gets; return what was printed."""
    changed = [w for text in SETTINGS for w in ("--set", f"tide.{text}")]
    done = bench(
        "run", "-f", "tide", *changed, "--controls", "none", "--dataset", screen, "--store", store,
        "-j", 1, "--threads", 1, *words, cwd=store.parent, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def fits(store: Path) -> dict[tuple[int, object], Path]:
    """Return the folder of weights of each outer fold and seed of permuted labels."""
    found = {}
    for path in store.glob("weights/key=*/manifest.json"):
        fold = json.loads(path.read_text())["key_document"]["fold"]
        found[fold["fold"], fold["permute_seed"]] = path.parent
    return found


def held_out(store: Path, fold: int) -> set[str]:
    folds = pd.read_parquet(next(store.glob("folds/key=*/folds.parquet")))
    return set(folds.loc[(folds["repeat"] == 0) & (folds["fold"] == fold), "perturbation"])


def test_no_tested_perturbation_is_in_a_codebook_and_poisoned_ones_change_no_weight(
    bench: Run, screen: Path, tmp_path: Path
) -> None:
    run(bench, screen, tmp_path / "store", "--layer", "transcripts", "--permuted", "none")
    found = fits(tmp_path / "store")
    assert len(found) == 5
    everyone = set(pd.read_csv(screen / "wells.csv")["Metadata_Compound"]) - {"DMSO"}
    for (fold, _), folder in found.items():
        book = json.loads((folder / "interventions.json").read_text())["interventions"]
        assert set(book) == everyone - held_out(tmp_path / "store", fold)
    own = Path(shutil.copytree(screen, tmp_path / "poisoned"))
    out = held_out(tmp_path / "store", 0)
    wells = pd.read_csv(own / "wells.csv", dtype=str, keep_default_na=False)
    poison = wells["Metadata_Compound"].isin(out)
    wells.loc[poison, "Metadata_SMILES"] = "NCCO"
    wells.to_csv(own / "wells.csv", index=False)
    readouts = pd.read_parquet(own / "transcripts.parquet")
    keys = ["Metadata_Plate", "Metadata_Well"]
    rows = pd.MultiIndex.from_frame(readouts[keys].astype(str)).isin(
        pd.MultiIndex.from_frame(wells.loc[poison, keys])
    )
    assert rows.sum() == poison.sum() > 0
    values = readouts.columns.difference(keys)
    readouts.loc[rows, values] = np.float32(1e6)
    readouts.to_parquet(own / "transcripts.parquet", index=False)
    run(bench, own, tmp_path / "other", "--layer", "transcripts", "--permuted", "none")
    again = fits(tmp_path / "other")
    for name in ("weights.safetensors", "interventions.json"):
        same = [(again[key] / name).read_bytes() == (found[key] / name).read_bytes() for key in sorted(found)]
        assert same[0], "nothing of a tested perturbation reaches the weights"
        if name.startswith("weights"):
            assert not any(same[1:]), "in the other folds it is trained on"


def test_images_of_unpaired_compounds_reach_the_self_supervised_term_of_every_fold_and_no_codebook(
    screen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two compounds have no row in the scored layer: every fold sees their wells, and none names them."""
    from bench.settings import Settings
    from bench.start import start
    from featurizers.dino.train import Distillation

    own = Path(shutil.copytree(screen, tmp_path / "screen"))
    proteins = pd.read_parquet(own / "proteins.parquet")
    unpaired = sorted(set(proteins["Metadata_Compound"]) - {"DMSO"})[:2]
    proteins[~proteins["Metadata_Compound"].isin(unpaired)].to_parquet(own / "proteins.parquet", index=False)
    seen: list[set[tuple[str, str]]] = []

    class Spy(Distillation):
        def __init__(self, network, config, seed, crops, *more):
            seen.append({crops.wells[field] for field in np.unique(crops.field)})
            super().__init__(network, config, seed, crops, *more)

    monkeypatch.setattr("featurizers.tide.train.Distillation", Spy)
    (tmp_path / "quick.toml").write_text(QUICK)
    settings = Settings(
        dataset=str(own), store=str(tmp_path / "store"), featurizers=("tide",), layers=("proteins",),
        protocol=str(tmp_path / "quick.toml"), controls="none", permuted="none", processes=0, threads=1,
        overrides={"tide": dict(word.split("=") for word in SETTINGS)},
    )  # fmt: skip
    assert start(settings, lambda *_: None).report.failures == []
    wells = pd.read_csv(own / "wells.csv", dtype=str, keep_default_na=False)
    places = wells.set_index(["Metadata_Plate", "Metadata_Well"])["Metadata_Compound"]
    found = {fold: path for (fold, _), path in fits(tmp_path / "store").items()}
    assert len(seen) == len(found) == 2
    everyone = set(places) - {"DMSO"}
    tested = {fold: held_out(tmp_path / "store", fold) for fold in found}
    unseen = [everyone - set(places[sorted(images)]) for images in seen]
    assert unseen == [tested[0], tested[1]], "every image but those of tested compounds"
    for fold, path in found.items():
        record = json.loads((path / "interventions.json").read_text())
        assert set(record["interventions"]) == everyone - tested[fold] - set(unpaired)
        assert {places[tuple(well.split("/"))] for well in record["unpaired"]} == set(unpaired)
        origin = json.loads((path / "tide.json").read_text())
        assert not set(origin["perturbations"]) & set(unpaired), "nothing but images was learnt"
