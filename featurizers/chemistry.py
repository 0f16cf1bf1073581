"""Structures of compounds as vectors: circular fingerprints, and whose structure a training table has.

RDKit is imported by the functions that need it.

References
----------
.. [1] Rogers & Hahn, Extended-connectivity fingerprints, J. Chem. Inf. Model. 2010 (Morgan's algorithm; ECFP6
   is radius 3, FCFP takes pharmacophoric atom classes instead of elements).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from featurizers.base import FeaturizerError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SMILES = "Metadata_SMILES"
"""Column of the wells table that holds a compound's structure; empty where there is none."""

PERTURBATION = "perturbation"
"""Column of a training table that names what a well was treated with."""

Kind = Literal["ecfp", "fcfp"]


def fingerprints(
    smiles: Sequence[str],
    radius: int = 3,
    bits: int = 1024,
    chiral: bool = True,  # noqa: FBT001, FBT002 - RDKit's own name and place
    *,
    kind: Kind = "ecfp",
    names: Sequence[str] | None = None,
) -> NDArray[np.float32]:
    """Return Morgan fingerprints, folded: bit b is 1 where a circular substructure hashes to b.

    Parameters
    ----------
    smiles
        n structures. All fragments of a salt count, as in the file.
    radius
        Bonds from an atom that a substructure may reach, 0 or more.
    bits
        Length of the fingerprint.
    chiral
        Whether stereocentres tell substructures apart.
    kind
        What an atom is told by: element and connectivity (``"ecfp"``) or its pharmacophoric class
        (``"fcfp"``).
    names
        n names of the compounds, for messages.

    Returns
    -------
    (n, bits) float32 of 0 and 1.

    Raises
    ------
    FeaturizerError
        For a radius, length or kind that does not exist, and at the first text that is no SMILES of at least
        one atom, with its row and compound.

    Notes
    -----
    Source: [1]_; defaults as in the published CLOOME preprocessing.
    """
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdFingerprintGenerator

    if radius < 0 or bits < 1 or kind not in get_args(Kind):
        msg = (
            f"fingerprints: radius={radius}, bits={bits}, kind={kind!r}; radius must be 0 or more, bits "
            f"positive and kind one of {', '.join(get_args(Kind))}"
        )
        raise FeaturizerError(msg)
    invariants = rdFingerprintGenerator.GetMorganFeatureAtomInvGen() if kind == "fcfp" else None
    generator = rdFingerprintGenerator.GetMorganGenerator(
        radius=radius, fpSize=bits, includeChirality=chiral, atomInvariantsGenerator=invariants
    )
    out = np.zeros((len(smiles), bits), np.float32)
    with rdBase.BlockLogs():  # RDKit writes parse errors to the terminal besides
        for row, text in enumerate(smiles):
            molecule = Chem.MolFromSmiles(text) if isinstance(text, str) else None
            if molecule is None or molecule.GetNumAtoms() == 0:
                whose = f" ({names[row]})" if names is not None else ""
                msg = f"row {row}{whose}: {text!r} is no SMILES; correct it, or leave it empty to do without"
                raise FeaturizerError(msg)
            out[row] = generator.GetFingerprintAsNumPy(molecule)
    return out


def structures(table: Any, name: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the SMILES of each perturbation of a training table, and the perturbations without one.

    Parameters
    ----------
    table
        Data frame, one row per well, with ``perturbation`` and ``Metadata_SMILES``.
    name
        The entrant that asks, for messages.

    Returns
    -------
    (dict, tuple)
        Perturbation to SMILES, and the names without; both in order of name.

    Raises
    ------
    FeaturizerError
        When a column is absent, no perturbation has a SMILES, or one has several.
    """
    columns = () if table is None else tuple(map(str, table.columns))
    missing = [column for column in (PERTURBATION, SMILES) if column not in columns]
    if missing:
        have = ", ".join(columns[:8]) or "no table"
        msg = (
            f"{name} learns from the structures of compounds, and the training table has no "
            f"{' and no '.join(missing)} (it has {have}); add a column {SMILES} to the wells table"
        )
        raise FeaturizerError(msg)
    found: dict[str, str] = {}
    for compound, own in sorted(table.groupby(table[PERTURBATION].astype(str))[SMILES]):
        given = sorted({str(text).strip() for text in own.dropna()} - {""})
        if len(given) > 1:
            msg = (
                f"{name}: perturbation {compound!r} has {len(given)} SMILES ({given[0]}, {given[1]}); "
                f"give it one in {SMILES}"
            )
            raise FeaturizerError(msg)
        found[str(compound)] = given[0] if given else ""
    known = {compound: text for compound, text in found.items() if text}
    if not known:
        msg = f"{name}: {SMILES} is empty for all {len(found)} perturbations; fill it in"
        raise FeaturizerError(msg)
    return known, tuple(compound for compound, text in found.items() if not text)
