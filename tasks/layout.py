"""What the plate layout gives away: treatments confined to a place, and places that features can read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tasks.findings import Finding
from tasks.folds import assign
from tasks.heads.ridge import Ridge, RidgeConfig
from tasks.normalise import standardise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.base import TaskData
    from tasks.protocol import Protocol

CONFINED = 0.5
"""Share of perturbations in a single plate, row or column from which the layout is called confounded ..."""

EXCESS = 0.25
"""... if it exceeds by this what a random layout of the same wells would give."""

PLATE_GAIN = 0.2
"""Balanced accuracy above chance, as a share of what is possible, from which plates are called decodable."""

POSITION_R2 = 0.1
"""Out-of-fold R² from which the row or column is called decodable."""

PLATE_SHARE = 0.05
"""Share of readouts' variance between plates, beyond chance, from which plates are said to shift them."""

MAX_WELLS = 600
"""Wells used for decoding, evenly spaced in the table; enough for these thresholds, and a second of work."""

DECODING_FOLDS = 3


def places(wells: pd.DataFrame) -> pd.DataFrame:
    """Return the columns ``plate``, ``row`` and ``column`` of the wells (``B07``: row B, column 7)."""
    found: dict[str, Any] = {}
    if "Metadata_Plate" in wells.columns:
        found["plate"] = wells["Metadata_Plate"].astype(str).to_numpy()
    if "Metadata_Well" in wells.columns:
        parts = wells["Metadata_Well"].astype(str).str.extract(r"^([A-Za-z]{1,2})(\d{1,2})$")
        if parts.notna().all(axis=None):
            found["row"] = parts[0].str.upper().str.rjust(2).to_numpy()  # " B" sorts before "AA"
            found["column"] = parts[1].astype(int).to_numpy()
    return pd.DataFrame(found, index=range(len(wells)))


def treated(data: TaskData) -> pd.DataFrame:
    """Return ``well`` and ``perturbation``, one row per well and perturbation of a unit it is in."""
    links = data.members.tocoo()
    own = pd.DataFrame({"well": links.col, "perturbation": data.groups[links.row]})
    use = (links.data != 0) & ~data.control[links.row] & ~data.well_control[links.col]
    own = own.take(np.flatnonzero(use)).drop_duplicates()
    return own.sort_values(["well", "perturbation"], ignore_index=True)


def confounding(data: TaskData) -> list[Finding]:
    """Warn where place and treatment cannot be told apart.

    ``confounded-…``: most perturbations with several wells stand in one plate, row or column. The figure is
    their share; a random layout of the same wells would give, for a perturbation of k wells,
    Σ_l C(n_l, k) / C(N, k) over places l. Failing that, most pairs of wells in one place share their
    perturbation (blocks of columns, say): the figure is Σ_lp n_lp (n_lp − 1) / Σ_l n_l (n_l − 1), at random
    Σ_p n_p (n_p − 1) / N (N − 1).
    """
    own = treated(data)
    table = places(data.wells).iloc[own["well"]].reset_index(drop=True)
    found = []
    for name in table.columns:
        place = table[name]
        sizes = place.value_counts().to_numpy().astype(np.float64)
        groups = place.groupby(own["perturbation"])
        count = groups.size()
        several = count > 1
        if len(sizes) < 2 or not several.any():
            continue
        share = float((groups.nunique()[several] == 1).mean())
        chance = float(np.mean([_all_alike(sizes, int(k)) for k in count[several]]))
        what = f"of the {int(several.sum())} perturbations with several wells stand in a single {name}"
        if not _confounded(share, chance):
            share, chance = _purity(place, own["perturbation"])
            what = f"of the pairs of wells in one {name} share their perturbation"
        if _confounded(share, chance):
            message = (
                f"{share:.0%} {what} (a random layout: {chance:.0%}): its effect looks like the treatment's"
            )
            found.append(Finding("warning", f"confounded-{name}", message, share))
    return found


def shifted(data: TaskData) -> list[Finding]:
    """Warn where plates shift the readouts: a feature that tells the plate then predicts all of them.

    ``plate-in-readouts``: over units whose wells stand on one plate, the adjusted share of variance between
    plates, 1 - (SS_within / (n - plates)) / (SS / (n - 1)), averaged over readouts; 0 is expected by chance.
    Even where every perturbation stands on every plate it makes readouts predictable that no treatment moves.
    """
    if "Metadata_Plate" not in data.wells.columns:
        return []
    links = data.members.tocoo()
    plate = pd.factorize(data.wells["Metadata_Plate"].astype(str), sort=True)[0]
    place = pd.DataFrame({"unit": links.row, "plate": plate[links.col]})[links.data != 0]
    of = place.groupby("unit")["plate"].agg(["min", "max"])
    of = of[of["min"] == of["max"]]
    of = of[~data.control[of.index.to_numpy()]]
    Y = data.Y[of.index.to_numpy()].astype(np.float64)
    code = np.unique(of["min"].to_numpy(), return_inverse=True)[1]
    plates = int(code.max(initial=0)) + 1
    known = ~np.isnan(Y)
    member = (code == np.arange(plates)[:, None]).astype(np.float64)  # (plates, n)
    count, filled = member @ known, np.where(known, Y, 0.0)
    centre = filled.sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    centred = np.where(known, Y - centre, 0.0)
    total = (centred**2).sum(axis=0)
    means = np.divide(member @ centred, count, out=np.zeros_like(count), where=count > 0)
    within = total - (count * means**2).sum(axis=0)
    n, groups = count.sum(axis=0), (count > 0).sum(axis=0)
    usable = (groups > 1) & (n >= groups + 2 * DECODING_FOLDS) & (total > 0)
    if not usable.any():
        return []
    own = (within / np.maximum(n - groups, 1) / np.maximum(total / np.maximum(n - 1, 1), 1e-300))[usable]
    share = float(np.mean(1.0 - own))
    if share <= PLATE_SHARE:
        return []
    message = (
        f"plates explain {share:.0%} of the variance of the readouts, beyond chance: features that tell the "
        "plate predict them; centre readouts per plate"
    )
    return [Finding("warning", "plate-in-readouts", message, share)]


def _confounded(share: float, chance: float) -> bool:
    return share >= CONFINED and share - chance >= EXCESS


def _purity(place: pd.Series, perturbation: pd.Series) -> tuple[float, float]:
    """Return how many pairs of wells in one place share their perturbation, and how many do anywhere."""

    def pairs(counts: pd.Series) -> float:
        n = counts.to_numpy(np.float64)
        return float((n * (n - 1)).sum())

    together = pairs(place.value_counts())
    same = pairs(pd.DataFrame({"l": place, "p": perturbation}).value_counts())
    return same / together if together else 0.0, pairs(perturbation.value_counts()) / pairs(
        pd.Series([len(place)])
    )


def decodability(data: TaskData, X: NDArray[np.float64], protocol: Protocol) -> list[Finding]:
    """Warn where ridge reads the plate, row or column from features of perturbations that it has not seen.

    ``plate-decodable``: balanced accuracy over plates; ``position-decodable``: out-of-fold R² of the row or
    column. Features are as the featurizer gave them; the plate normalisations of the protocol may well remove
    it. A feature that a well lacks is put at the training mean, as in a run.
    """
    own = treated(data).drop_duplicates("well")
    own = own.take(np.flatnonzero(~np.isnan(X[own["well"]]).all(axis=1)))
    spaced = np.linspace(0, len(own) - 1, min(len(own), MAX_WELLS)).round().astype(int)
    own = own.take(np.unique(spaced))
    groups = own["perturbation"].to_numpy(np.str_)
    table = places(data.wells).iloc[own["well"]].reset_index(drop=True)
    if table.columns.empty or len(np.unique(groups)) < 2 * DECODING_FOLDS**2:
        return []
    targets, names = _targets(table)
    if not names:
        return []
    predicted = _out_of_fold(X[own["well"].to_numpy()], targets, groups, protocol.seed)
    found = []
    plates = [i for i, name in enumerate(names) if name.startswith("plate ")]
    if plates:
        hit = predicted[:, plates].argmax(axis=1) == targets[:, plates].argmax(axis=1)
        accuracy = float(pd.Series(hit).groupby(table["plate"]).mean().mean())
        chance = 1.0 / len(plates)
        noise = 3.0 * np.sqrt(chance * (1.0 - chance) / len(hit))
        if accuracy - chance > max(PLATE_GAIN * (1.0 - chance), noise):
            message = (
                f"features tell {len(plates)} plates apart with balanced accuracy {accuracy:.2f} (chance "
            )
            found.append(Finding("warning", "plate-decodable", f"{message}{chance:.2f})", accuracy))
    for i, name in enumerate(names):
        if name not in ("row", "column"):
            continue
        y = targets[:, i]
        r2 = 1.0 - float(((y - predicted[:, i]) ** 2).sum() / ((y - y.mean()) ** 2).sum())
        if r2 > POSITION_R2:
            message = f"features give a well's {name} away (out-of-fold R² {r2:.2f})"
            found.append(Finding("warning", "position-decodable", message, r2))
    return found


def _targets(table: pd.DataFrame) -> tuple[NDArray[np.float64], list[str]]:
    """One indicator per plate, and row and column as numbers, of those that vary."""
    columns: list[NDArray[np.float64]] = []
    names: list[str] = []
    for name in table.columns:
        codes, levels = pd.factorize(table[name], sort=True)
        if len(levels) < 2:
            continue
        if name == "plate":
            columns += [(codes == i).astype(np.float64) for i in range(len(levels))]
            names += [f"plate {level}" for level in levels]
        else:
            columns.append(codes.astype(np.float64))
            names.append(name)
    return np.stack(columns, axis=1) if columns else np.zeros((len(table), 0)), names


def _out_of_fold(
    X: NDArray[np.float64], Y: NDArray[np.float64], groups: NDArray[np.str_], seed: int
) -> NDArray[np.float64]:
    fold = assign(groups, DECODING_FOLDS, seed)
    out = np.empty(Y.shape)
    for k in range(DECODING_FOLDS):
        train, test = np.flatnonzero(fold != k), fold == k
        Z = standardise(X, train)
        head = Ridge(RidgeConfig(inner_folds=DECODING_FOLDS, seed=seed))
        head.fit(Z[train], Y[train], np.ones((len(train), Y.shape[1]), bool), groups[train])
        out[test] = head.predict(Z[test])
    return out


def _all_alike(sizes: NDArray[np.float64], k: int) -> float:
    """Probability that k wells drawn from places of these sizes stand in one place."""
    step = np.arange(k)
    terms = (sizes[:, None] - step).clip(min=0.0) / (sizes.sum() - step)
    return float(terms.prod(axis=1).sum())
