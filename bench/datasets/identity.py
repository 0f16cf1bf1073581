"""Which perturbation a well received: the identity that folds must not split."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bench.datasets.tables import PERT_TYPE

if TYPE_CHECKING:
    import pandas as pd

INCHIKEY = "Metadata_InChIKey"
NEGATIVE = "negcon"
_INCHIKEY = re.compile(r"([A-Z]{14})-[A-Z]{10}-[A-Z]")
_BLOCK = re.compile(r"([A-Z]{14})")


def identities(wells: pd.DataFrame, perturbation: str) -> list[str]:
    """Return one name per row of ``wells``.

    It is the first block of the InChIKey where ``Metadata_InChIKey`` holds a key or its first block, or the
    ``perturbation`` column a key, so that two salts or two vendors' names of one compound stay together;
    else the value of the ``perturbation`` column; a negative control without a name is ``negcon``;
    otherwise ``""``.
    """
    keys = wells[INCHIKEY] if INCHIKEY in wells.columns else [""] * len(wells)
    types = wells[PERT_TYPE] if PERT_TYPE in wells.columns else [""] * len(wells)
    return [_identity(n, k, t) for n, k, t in zip(wells[perturbation], keys, types, strict=True)]


def _identity(name: str, inchikey: str, pert_type: str) -> str:
    match = _INCHIKEY.fullmatch(inchikey) or _BLOCK.fullmatch(inchikey) or _INCHIKEY.fullmatch(name)
    if match:
        return match[1]
    return name or (NEGATIVE if pert_type == NEGATIVE else "")
