"""A small screen with transcriptomes, and a config as small as the real thing gets."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pandas as pd

from featurizers.tide import TideConfig
from tests.featurizers.dino.test_dino_loss import CONFIG as DINO
from tests.featurizers.training.fields import Source, make_field

CONFIG = TideConfig(
    **{k: v for k, v in asdict(DINO).items() if k != "pooling"},
    pairs=4,
    cells=2,
    codebook_dim=8,
    projection_hidden=16,
    bits=128,
    transcriptome_hidden=8,
    transcriptome_dim=4,
    teacher_hidden=8,
    student_hidden=8,
    decoder_dim=8,
    decoder_heads=2,
)

SMILES = {"ethanol": "CCO", "benzene": "c1ccccc1", "aspirin": "CC(=O)Oc1ccccc1C(=O)O"}


def screen(periods=(4.0, 6.0, 10.0), wells=2, cells=4, genes=5):
    """Wells of three drugs at doses 1, 10, ..., told apart by their stripes and genes, and two of DMSO."""
    drugs = list(SMILES)[: len(periods)]
    names = [drug for drug in drugs for _ in range(wells)] + ["DMSO"] * 2
    period = [p for p in periods for _ in range(wells)] + [20.0] * 2
    fields = [make_field(k, cells=cells, period=p) for k, p in enumerate(period)]
    table = pd.DataFrame([f.metadata for f in fields]).drop(columns="Metadata_Site")
    table["Metadata_Concentration"] = [10.0 ** (k % wells) for k in range(len(drugs) * wells)] + [0.0] * 2
    table["Metadata_SMILES"] = [SMILES.get(name, "") for name in names]
    table["perturbation"] = names
    table["control"] = [name == "DMSO" for name in names]
    rng = np.random.default_rng(0)
    centre = {name: rng.normal(0, 3, genes) for name in sorted(set(names))}
    table[[f"gene-{g}" for g in range(genes)]] = [centre[n] + rng.normal(0, 0.3, genes) + 8 for n in names]
    return Source(fields), table
