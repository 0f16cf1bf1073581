"""Small simulated screens: features and readouts of one latent state, on plates with controls."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from tasks.base import TaskData


@dataclass(frozen=True, eq=False)
class Screen:
    data: TaskData
    X: np.ndarray

    def features(self, _id):
        return self.X


def build_screen(
    perturbations=16, doses=1, plates=2, controls=6, D=12, T=5, null=2, noise=0.5, seed=0, **settings
):
    """One unit per well, placed at random; the last ``null`` readouts know nothing of the latent state."""
    rng = np.random.default_rng(seed)
    rows = []
    for plate in range(plates):
        own = [("DMSO", 0, "negcon")] * controls
        own += [(f"cpd{p:02d}", d, "trt") for p in range(perturbations) for d in range(doses)]
        wells = [f"{chr(65 + i // 24)}{i % 24 + 1:02d}" for i in rng.permutation(len(own))]
        rows += [(f"P{plate}", well, *what) for well, what in zip(wells, own, strict=True)]
    columns = ["Metadata_Plate", "Metadata_Well", "Metadata_Compound", "Metadata_Dose", "Metadata_pert_type"]
    wells = pd.DataFrame(rows, columns=columns)
    latent = {name: rng.normal(size=3) for name in wells["Metadata_Compound"].unique()} | {
        "DMSO": np.zeros(3)
    }
    Z = np.array([latent[c] * (1 + d) for c, d in wells[["Metadata_Compound", "Metadata_Dose"]].to_numpy()])
    X = Z @ rng.normal(size=(3, D)) + noise * rng.normal(size=(len(Z), D))
    B = rng.normal(size=(3, T))
    B[:, T - null :] = 0.0
    Y = Z @ B + noise * rng.normal(size=(len(Z), T))
    control = (wells["Metadata_pert_type"] == "negcon").to_numpy()
    data = TaskData(
        wells=wells,
        units=wells.copy(),
        members=sparse.csr_matrix(sparse.eye(len(wells))),
        Y=Y.astype(np.float32),
        readouts=tuple(f"gene{t}" for t in range(T)),
        groups=wells["Metadata_Compound"].to_numpy(np.str_),
        control=control,
        well_control=control.copy(),
        **settings,
    )
    return Screen(data, X.astype(np.float32))


@pytest.fixture(scope="session")
def screen():
    return build_screen
