"""Bemis–Murcko scaffolds of compounds: what a split that asks for new chemistry keeps together.

The scaffold of a molecule is its ring systems and the linkers between them [1]_, as RDKit's
``MurckoScaffold`` gives it, of the largest fragment of the SMILES (counter-ions are left out). A molecule
without a ring has none; such a compound stands by itself, under its own SMILES (our reading: pooling all of
them would put unrelated molecules into one fold).

References
----------
.. [1] Bemis & Murcko, The properties of known drugs. 1. Molecular frameworks, J. Med. Chem. 1996.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from tasks.base import TaskError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.base import TaskData


@lru_cache(maxsize=1 << 16)  # every outer fold asks for the same compounds
def scaffold(smiles: str) -> str | None:
    """Return the canonical SMILES of a molecule's scaffold, or of an acyclic molecule itself.

    None for what is not a SMILES of at least one atom.
    """
    from rdkit import Chem, rdBase
    from rdkit.Chem.MolStandardize import rdMolStandardize
    from rdkit.Chem.Scaffolds import MurckoScaffold

    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles)
        if molecule is None or molecule.GetNumAtoms() == 0:
            return None
        largest = rdMolStandardize.LargestFragmentChooser().choose(molecule)
        frame = MurckoScaffold.GetScaffoldForMol(largest)  # type: ignore[no-untyped-call]
        return str(Chem.MolToSmiles(frame if frame.GetNumAtoms() else largest))


def of_units(data: TaskData, column: str) -> NDArray[np.str_]:
    """Return (n,) the scaffold of each unit's perturbation; a control keeps its own name.

    Raises
    ------
    TaskError
        When the column is absent or empty, a SMILES cannot be read, or the units of one perturbation have
        several scaffolds.
    """
    from tasks.folds import unit_column

    smiles = unit_column(data, column, "a split by scaffold")
    found = {text: scaffold(text) for text in np.unique(smiles[~data.control])}
    wrong = [text for text, own in found.items() if own is None]
    if wrong:
        row = int(np.flatnonzero((smiles == wrong[0]) & ~data.control)[0])
        raise TaskError(
            f"layer {data.layer!r}: {column} of unit row {row} ({str(data.groups[row])!r}) is "
            f"{str(wrong[0])!r}, which is no SMILES ({len(wrong)} such values); correct it or drop the rows"
        )
    named = [
        str(group) if control else str(found[text])
        for text, group, control in zip(smiles, data.groups, data.control, strict=True)
    ]
    out = np.array(named, dtype=np.str_)
    for group in np.unique(data.groups[~data.control]):
        own = np.unique(out[(data.groups == group) & ~data.control])
        if len(own) > 1:
            raise TaskError(
                f"layer {data.layer!r}: perturbation {str(group)!r} has {len(own)} scaffolds ({own[0]}, "
                f"{own[1]}); give it one {column}"
            )
    return out
