"""Structures of the demo's compounds: valid, different, alike within a mechanism, several scaffolds each."""

from __future__ import annotations

import numpy as np
import pytest

from bench.demo import Settings
from bench.demo.population import draw
from bench.demo.structures import CONTROL_SMILES, HEADS, LINKERS, RINGS, structures
from featurizers.chemistry import fingerprints
from tasks.scaffold import scaffold

SIZES = [
    {},
    {"compounds": 352, "doses": 1, "seed": 1},
    {"compounds": 2, "doses": 1},
    {"compounds": 11, "doses": 1},
]


@pytest.mark.parametrize("sizes", SIZES)
def test_every_compound_is_another_molecule_that_rdkit_reads_without_repair(sizes):
    from rdkit import Chem

    settings = Settings(**sizes)
    smiles = structures(settings, draw(settings))
    canonical = {Chem.MolToSmiles(Chem.MolFromSmiles(text)) for text in smiles}
    assert len(smiles) == settings.compounds == len(canonical)
    assert Chem.MolToSmiles(Chem.MolFromSmiles(CONTROL_SMILES)) not in canonical


def test_a_mechanism_has_three_scaffolds_and_shares_none():
    settings = Settings()
    population = draw(settings)
    frames = np.array([scaffold(text) for text in structures(settings, population)])
    per_mechanism = [set(frames[population.mechanism == m]) for m in range(20)]
    assert [len(own) for own in per_mechanism] == [3] * 20
    assert len(set().union(*per_mechanism)) == 60


def test_every_pair_of_head_and_linker_makes_another_scaffold():
    ring = RINGS[0].format("C")
    assert len({scaffold(head.format(link + ring)) for head in HEADS for link in LINKERS}) == 96


def test_compounds_of_one_mechanism_have_the_more_similar_fingerprints():
    settings = Settings()
    population = draw(settings)
    bits = fingerprints(structures(settings, population))
    common = bits @ bits.T
    tanimoto = common / (bits.sum(1)[:, None] + bits.sum(1)[None, :] - common)
    same = population.mechanism[:, None] == population.mechanism[None, :]
    others = ~np.eye(len(bits), dtype=bool)
    assert tanimoto[same & others].mean() > 2 * tanimoto[~same].mean()


def test_a_seed_gives_the_same_structures_and_another_seed_others():
    first, again, other = (structures(s, draw(s)) for s in (Settings(), Settings(), Settings(seed=1)))
    assert first == again
    assert len(set(first) & set(other)) < 8
