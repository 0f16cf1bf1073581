"""From the training table to images paired with transcriptomes, and the drugs of the codebook."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featurizers.base import FeaturizerError
from featurizers.chemistry import PERTURBATION, structures
from featurizers.tide.config import NAME, TideConfig
from featurizers.training.table import PLATE, WELL, check_finite, controls, readouts

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """W wells whose images meet one of R profiles of T values, K drugs, B contexts.

    Parameters
    ----------
    drugs, smiles
        Names and structures of the codebook's rows, in order of name; structures are empty without them.
    wells
        Plate and name of each paired well.
    drug
        (W,) int64, each well's row of the codebook.
    dose
        (W, 2) float32, each image's dose: standardised log10, and whether it is known.
    context
        (W,) int64, each well's row of ``basal``.
    candidates
        Rows of ``profiles`` that each well may meet.
    profiles
        (R, T) float32, standardised over the training profiles, 0 where missing.
    profile_dose
        (R, 2) float32.
    basal
        (B, T) float32, mean standardised profile of each context's negative controls; 0 without any.
    """

    drugs: tuple[str, ...]
    smiles: tuple[str, ...]
    wells: tuple[tuple[str, str], ...]
    drug: NDArray[np.int64]
    dose: NDArray[np.float32]
    context: NDArray[np.int64]
    candidates: tuple[NDArray[np.int64], ...]
    profiles: NDArray[np.float32]
    profile_dose: NDArray[np.float32]
    basal: NDArray[np.float32]

    def digest(self) -> str:
        """Return the sha256 of everything that a training sees of the table."""
        sha = hashlib.sha256(repr((self.drugs, self.smiles, self.wells)).encode())
        for values in (self.drug, self.dose, self.context, self.profiles, self.profile_dose, self.basal):
            sha.update(np.ascontiguousarray(values).tobytes())
        for rows in self.candidates:
            sha.update(rows.tobytes() + b"\x1e")
        return sha.hexdigest()


def of_table(table: pd.DataFrame | None, config: TideConfig, file: Path | None = None) -> Pairs | None:
    """Return the pairs of a training table, or None, with a warning that says why, when there are none.

    Parameters
    ----------
    table
        Rows that name no perturbation are of images alone, as are controls: they are in no pair and give the
        codebook no row.
    file
        Embeddings that stand in the place of the table's readouts.

    Raises
    ------
    FeaturizerError
        When the table lacks a column that the settings name, a readout is infinite, no drug has a structure
        though the codebook is to begin with them, or the codebook would have a single row.
    """
    if table is None or PERTURBATION not in table.columns:
        _zero("the training table names no perturbation")
        return None
    values = readouts(table) if file is None else embedded(table, file)
    check_finite(NAME, table, values)
    control = controls(table)
    measured = ~np.isnan(values).all(axis=1) if values.shape[1] else np.zeros(len(table), bool)
    named = ~control & table[PERTURBATION].notna().to_numpy()
    if not (measured & named).any():
        _zero("no training well has a readout" if values.shape[1] else "the training table has no readouts")
        return None
    name = table[PERTURBATION].astype(str).to_numpy()
    known = _structures(table[named], config)
    number_of = {own: k for k, own in enumerate(known)}
    drug = np.array([number_of.get(n, -1) if t else -1 for n, t in zip(name, named, strict=True)], np.int64)
    context = _context(table, config)
    rows = np.flatnonzero(measured & (drug >= 0))
    candidates = {
        int(w): rows[(drug[rows] == drug[w]) & (context[rows] == context[w])]
        if config.pairing == "intervention"
        else rows[rows == w]
        for w in np.flatnonzero(drug >= 0)
    }
    own = [w for w, some in candidates.items() if len(some)]
    if not own:
        _zero("no training drug with a structure has a readout")
        return None
    if len(known) < 2:
        msg = (
            f"{NAME}: {next(iter(known))!r} is the only training intervention, and a distribution over one "
            "says nothing; train on two or more"
        )
        raise FeaturizerError(msg)
    number = np.full(len(table), -1)
    number[rows] = np.arange(len(rows))
    scaled, mean_of_controls = _standardised(values, rows, control & measured, context)
    dose = _doses(table, config, rows)
    return Pairs(
        drugs=tuple(known),
        smiles=tuple(known.values()),
        wells=tuple((str(table[PLATE].iloc[w]), str(table[WELL].iloc[w])) for w in own),
        drug=drug[own],
        dose=dose[own],
        context=context[own],
        candidates=tuple(number[candidates[w]].astype(np.int64) for w in own),
        profiles=scaled[rows],
        profile_dose=dose[rows],
        basal=mean_of_controls,
    )


def unpaired(table: pd.DataFrame | None) -> tuple[str, ...]:
    """Return plate and name of the treated wells that name no perturbation, in order."""
    if table is None or PERTURBATION not in table.columns:
        return ()
    own = table[~controls(table) & table[PERTURBATION].isna()]
    return tuple(sorted(f"{plate}/{well}" for plate, well in zip(own[PLATE], own[WELL], strict=True)))


def embedded(table: pd.DataFrame, file: Path) -> NDArray[np.float64]:
    """Return (n, T) of a file's numbers for the rows of the table; NaN where the file has no row.

    The file's ``Metadata_*`` columns and ``perturbation`` are its key, and the table must have them.

    Raises
    ------
    FeaturizerError
        When the file cannot be read, has no key or no number, has a key twice, or meets no row.
    """
    import pandas as pd

    try:
        found = pd.read_parquet(file) if file.suffix == ".parquet" else pd.read_csv(file)
    except (OSError, ValueError) as error:
        msg = f"{NAME}: {file} cannot be read as {'Parquet' if file.suffix == '.parquet' else 'CSV'}: {error}"
        raise FeaturizerError(msg) from error
    key = [c for c in found.columns if c == PERTURBATION or str(c).startswith("Metadata_")]
    lost = [c for c in key if c not in table.columns]
    numbers = [c for c in found.columns if c not in key]
    text = [c for c in numbers if found[c].dtype.kind not in "biuf"]
    if not key or lost or not numbers or text:
        wrong = (
            f"key column {lost[0]!r} is not in the training table"
            if lost
            else f"column {text[0]!r} holds no numbers"
            if text
            else "it needs key columns (perturbation, Metadata_*) and columns of numbers"
        )
        msg = f"{NAME}: {file}: {wrong}"
        raise FeaturizerError(msg)
    keyed = found.set_index(_keys(found, key))[numbers]
    twice = keyed.index[keyed.index.duplicated()]
    if len(twice):
        msg = f"{NAME}: {file}: {twice[0]} stands there twice; keep one row per {', '.join(key)}"
        raise FeaturizerError(msg)
    values = keyed.reindex(_keys(table, key)).to_numpy(np.float64)
    if np.isnan(values).all():
        msg = f"{NAME}: {file}: no row meets the training table on {', '.join(key)}"
        raise FeaturizerError(msg)
    return values


def _keys(frame: pd.DataFrame, key: list[str]) -> pd.Index[Any]:
    """Join the key's columns as text; whole numbers read the same as text and as floats."""
    import pandas as pd

    def plain(value: object) -> str:
        return f"{value:g}" if isinstance(value, float | int | np.number) else str(value)

    return pd.Index(["/".join(map(plain, row)) for row in frame[key].itertuples(index=False, name=None)])


def _structures(treated: pd.DataFrame, config: TideConfig) -> dict[str, str]:
    """Return the codebook's drugs with their structures; with random rows every drug, without any."""
    if config.codebook_start == "random":
        return dict.fromkeys(sorted(set(treated[PERTURBATION].astype(str))), "")
    try:
        known, without = structures(treated, NAME)
    except FeaturizerError as error:
        msg = f"{error}; or begin the codebook without structures: codebook_start=random"
        raise FeaturizerError(msg) from error
    if without:
        some = ", ".join(without[:3]) + (", ..." if len(without) > 3 else "")
        warnings.warn(
            f"{NAME}: {len(without)} of {len(known) + len(without)} training perturbations have no structure "
            f"({some}); their images are trained on without transcriptomes",
            stacklevel=4,
        )
    return known


def _context(table: pd.DataFrame, config: TideConfig) -> NDArray[np.int64]:
    """Return (n,) the number of each row's context."""
    if not config.context:
        return np.zeros(len(table), np.int64)
    if config.context not in table.columns:
        msg = f"{NAME}: the training table has no column {config.context!r}, which context names"
        raise FeaturizerError(msg)
    return np.unique(table[config.context].astype(str), return_inverse=True)[1].astype(np.int64)


def _standardised(
    values: NDArray[np.float64],
    rows: NDArray[np.int64],
    control: NDArray[np.bool_],
    context: NDArray[np.int64],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scale values to mean 0 and deviation 1 over the profiles ``rows``; average the controls per context.

    What is missing, or does not vary, is 0: the mean.
    """
    own = values[rows]
    seen = ~np.isnan(own)
    count = np.maximum(seen.sum(axis=0), 1)
    mean = np.where(seen, own, 0.0).sum(axis=0) / count
    std = np.sqrt((np.where(seen, own - mean, 0.0) ** 2).sum(axis=0) / count)
    flat = std <= 1e-6 * np.abs(mean)
    z = (values - mean) / np.where(flat, 1.0, std)
    z = np.where(np.isnan(z) | flat, 0.0, z).astype(np.float32)
    basal = np.zeros((int(context.max()) + 1, values.shape[1]), np.float32)
    for k in range(len(basal)):
        if (control & (context == k)).any():
            basal[k] = z[control & (context == k)].mean(axis=0)
    return z, basal


def _doses(table: pd.DataFrame, config: TideConfig, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return (n, 2): log10 of the concentration, standardised over ``rows``, and whether it is known."""
    import pandas as pd

    out = np.zeros((len(table), 2), np.float32)
    if config.dose not in table.columns:
        return out
    dose = pd.to_numeric(table[config.dose], errors="coerce").to_numpy(np.float64)
    known = np.isfinite(dose) & (dose > 0)
    level = np.log10(dose, out=np.zeros(len(dose)), where=known)
    own = level[rows][known[rows]]
    mean, std = (own.mean(), own.std()) if len(own) else (0.0, 0.0)
    out[:, 0] = np.where(known, (level - mean) / (std if std > 1e-9 else 1.0), 0.0)
    out[:, 1] = known
    return out


def _zero(why: str) -> None:
    warnings.warn(
        f"{NAME}: {why}, so there are zero pairs of image and transcriptome: what is trained is the "
        "self-supervised term alone",
        stacklevel=3,
    )
