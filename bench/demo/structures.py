"""Structures of the demo's compounds: made up, valid, and alike within a mechanism.

A compound is head–linker–ring–substituent. Head and linker are its mechanism's own, so that chemistry
says which compounds act alike; the ring is one of the three that the mechanism draws, dealt to its compounds
in turn, so that a mechanism has several Bemis–Murcko scaffolds and a scaffold several compounds. Nothing of
a structure follows from what sets a compound apart within its mechanism.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from bench.demo.population import Population
    from bench.demo.settings import Settings

CONTROL_SMILES = "CS(C)=O"
"""Dimethyl sulfoxide."""

# Each with {} where the next part is attached; heads number their rings 1 and 2, the rings beyond 3.
HEADS = (
    "c1ccc2[nH]cc({})c2c1",  # indole
    "c1ccc2ncc({})cc2c1",  # quinoline
    "c1ccc2[nH]c({})nc2c1",  # benzimidazole
    "c1ccc2sc({})cc2c1",  # benzothiophene
    "c1nc({})c2cn[nH]c2n1",  # pyrazolopyrimidine
    "c1ccc2cc({})ccc2c1",  # naphthalene
    "c1ccc2oc({})cc2c1",  # benzofuran
    "c1ccc2c({})ncnc2c1",  # quinazoline
    "c1ccc2c({})nccc2c1",  # isoquinoline
    "C1COc2ccc({})cc2C1",  # chroman
    "c1ccc2[nH]nc({})c2c1",  # indazole
    "C1Oc2ccc({})cc2O1",  # benzodioxole
)
LINKERS = ("C(=O)N", "S(=O)(=O)N", "CO", "NC(=O)N", "CN", "OCC", "C(=O)NC", "NS(=O)(=O)")
RINGS = (
    "c3ccc({})cc3",  # phenyl
    "c3ccc({})nc3",  # pyridyl
    "c3cnc({})nc3",  # pyrimidyl
    "c3ccc({})s3",  # thienyl
    "c3cnc({})s3",  # thiazolyl
    "c3ccc({})o3",  # furyl
    "C3CCC({})CC3",  # cyclohexyl
    "C3CCC({})C3",  # cyclopentyl
)
SUBSTITUENTS = ("C", "CC", "C(C)C", "OC", "F", "Cl", "C#N", "N(C)C", "C(F)(F)F", "OC(F)F")
RINGS_PER_MECHANISM = 3


def structures(settings: Settings, population: Population) -> tuple[str, ...]:
    """Return the SMILES of each compound, all different.

    96 pairs of head and linker suffice for the 88 mechanisms that the largest screen has, and 10 substituents
    for the 6 compounds of the largest mechanism.
    """
    rng = settings.rng("structures")
    mechanisms = int(population.mechanism.max()) + 1
    pairs = list(product(HEADS, LINKERS))
    frames = [pairs[k] for k in rng.permutation(len(pairs))[:mechanisms]]
    rings = [rng.permutation(len(RINGS))[:RINGS_PER_MECHANISM] for _ in frames]
    substituents = [rng.permutation(len(SUBSTITUENTS)) for _ in frames]
    out, members = [], np.zeros(mechanisms, np.int64)
    for m in population.mechanism.tolist():
        place = int(members[m])
        members[m] += 1
        head, linker = frames[m]
        ring = RINGS[rings[m][place % RINGS_PER_MECHANISM]]
        out.append(head.format(linker + ring.format(SUBSTITUENTS[substituents[m][place]])))
    return tuple(out)
