"""Do trained featurizers bring replicates of unseen compounds together better than an untrained network?

    python -m benchmarks.heldout_retrieval [--dataset DEMO] [--entrants mae,dino,cloome:tiny] [--seeds 3]

Per seed, a quarter of the compounds is held out. Each entrant is fitted on the wells of the others and of the
negative controls, with that seed, and embeds the wells of held-out compounds and controls: mean over cells of
a field, over fields of a well, then standardised per plate to the controls. Every well of a held-out compound
asks for the other wells of its compound (all doses, all plates) among all held-out wells, by cosine; mAP is
the mean average precision over these questions. Entrants that learn from structures or readouts are given
those of the wells they are fitted on (``--omics`` names the layer). ``untrained`` and ``intensity`` answer
the same questions; chance is the mean over random orders. Writes one row per entrant and seed as CSV.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench import learning
from bench.datasets import Dataset, load
from bench.datasets.joins import well_data
from bench.embed import aggregated
from bench.entrants import Spec
from bench.imaging import field_source
from bench.problem import Problem
from featurizers.base import Featurizer, FitContext
from tasks.ranking import average_precision

BY = ["Metadata_Plate", "Metadata_Well"]
HELD_OUT = 0.25
BATCH = 16  # fields embedded at once


def main() -> None:
    """Print a CSV row as soon as an entrant has answered."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dataset", type=Path, default=Path("wellbench-demo"))
    parser.add_argument("--entrants", default="intensity,untrained,mae,dino,resnet18-triplet")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--omics", default="transcripts")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    dataset = load(given.dataset)
    table = csv.writer(sys.stdout)
    table.writerow(["entrant", "seed", "mAP", "chance", "questions", "fit_cpu_s", "embed_cpu_s"])
    for seed in range(given.first_seed, given.first_seed + given.seeds):
        trained_on, asked = split(dataset, seed)
        for name in given.entrants.split(","):
            featurizer = built(name, seed)
            started = time.process_time()
            if featurizer.trainable:
                fit(featurizer, dataset, trained_on, seed, given)
            fitted = time.process_time()
            rows = embedded(featurizer, dataset, asked)
            spent = [fitted - started, time.process_time() - fitted]
            found, chance, count = score(rows, dataset.perturbation, seed)
            figures = [f"{found:.4f}", f"{chance:.4f}", count, *(f"{s:.0f}" for s in spent)]
            table.writerow([featurizer.label(), seed, *figures])
            sys.stdout.flush()


def built(name: str, seed: int) -> Featurizer:
    """Return the entrant; the seed of ``untrained`` is a setting of its own."""
    plain, _, preset = name.partition(":")
    overrides = (("seed", seed),) if plain == "untrained" else ()
    return Spec(plain, preset or "default", overrides).build()


def split(dataset: Dataset, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the wells to train on and those that are asked about, controls in both."""
    wells = dataset.wells
    control = wells["Metadata_pert_type"] == "negcon"
    compounds = np.sort(wells.loc[~control, dataset.perturbation].unique())
    order = np.random.default_rng(seed).permutation(len(compounds))
    out = wells[dataset.perturbation].isin(compounds[order[: round(HELD_OUT * len(compounds))]])
    return wells[control | ~out], wells[control | out]


def fit(
    featurizer: Featurizer, dataset: Dataset, wells: pd.DataFrame, seed: int, given: argparse.Namespace
) -> None:
    """Train as the harness does; an entrant that learns from labels is given those of ``wells`` alone."""
    seen, table = wells, wells[BY]
    if featurizer.card.fit_scope == "inductive":
        data = well_data(dataset, wells)
        trained = pd.DataFrame({"unit": np.flatnonzero(~data.control)})
        problem = Problem("", data, trained, "")
        readouts = learning.paired(featurizer.card, dataset, problem, given.omics)
        table = learning.paired_table(problem, readouts)
        seen = wells.merge(table[BY])
    with tempfile.TemporaryDirectory() as folder:
        fields = field_source(dataset, seen, featurizer.card.needs)
        featurizer.fit(fields, table, FitContext(Path(folder), seed, given.device))


def embedded(featurizer: Featurizer, dataset: Dataset, wells: pd.DataFrame) -> pd.DataFrame:
    """Return one row per well, standardised per plate to the negative controls, indexed by the well."""
    fields = list(field_source(dataset, wells, featurizer.card.needs))
    of_well: dict[tuple[str, str], list[Any]] = {}
    for start in range(0, len(fields), BATCH):
        some = fields[start : start + BATCH]
        found = featurizer.embed(some)
        for k, field in enumerate(some):
            own = found.values[found.field == k]
            if len(own):
                key = (field.metadata["Metadata_Plate"], field.metadata["Metadata_Well"])
                of_well.setdefault(key, []).append(own)
    keys = sorted(of_well)
    rows = pd.DataFrame(
        [aggregated(of_well[key], "field-mean") for key in keys],
        index=pd.MultiIndex.from_tuples(keys, names=BY),
    )
    known = wells.set_index(BY).loc[rows.index]
    for plate in sorted(set(rows.index.get_level_values(0))):
        here = rows.index.get_level_values(0) == plate
        controls = rows[here & (known["Metadata_pert_type"] == "negcon").to_numpy()]
        spread = controls.std(ddof=0).replace(0.0, 1.0)
        rows.loc[here] = ((rows[here] - controls.mean()) / spread).astype(np.float32)
    return rows.join(known[["Metadata_pert_type", dataset.perturbation]])


def score(rows: pd.DataFrame, perturbation: str, seed: int) -> tuple[float, float, int]:
    """Return mAP, its mean over random orders, and the number of questions."""
    treated = rows[rows["Metadata_pert_type"] != "negcon"]
    label = treated[perturbation].to_numpy()
    X = treated.drop(columns=["Metadata_pert_type", perturbation]).to_numpy(np.float64)
    X /= np.linalg.norm(X, axis=1, keepdims=True).clip(1e-12)
    wanted = (label[:, None] == label[None]).astype(np.float64)
    others = ~np.eye(len(label), dtype=bool)  # (candidate, question): a well is no answer to its own
    rng = np.random.default_rng(seed)
    random = [average_precision(wanted, rng.random(wanted.shape), others) for _ in range(50)]
    return float(average_precision(wanted, X @ X.T, others).mean()), float(np.mean(random)), len(label)


if __name__ == "__main__":
    main()
