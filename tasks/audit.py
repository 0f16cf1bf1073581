"""Leakage audit, before any fit: what would let test rows reach the training, and what a reader must know.

A refusal raises :class:`~tasks.base.LeakageError`; under a protocol labelled optimistic it becomes a banner.
A warning carries its figure and leaves the decision to the reader.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from tasks.base import LeakageError
from tasks.evaluate import to_units
from tasks.findings import Finding
from tasks.folds import UNUSED, ids, split
from tasks.layout import MAX_WELLS, confounding, decodability, shifted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.base import TaskData
    from tasks.protocol import Protocol

FitScope = Literal["pretrained", "transductive", "inductive"]
Supplier = Literal["one-matrix", "per-fold"]
Panel = Literal["all", "named", "score-selected"]

MIN_FEATURES_FOR_TWINS = 4
"""Fewer features than this (a cell count) coincide by nature, so equal rows mean nothing."""

STRUCTURE = "Metadata_SMILES"
"""Column of the wells that says which molecule a perturbation is."""

COPY = 0.999
"""A readout whose absolute correlation with one feature, or of their ranks, exceeds this is that feature."""

MIN_UNITS_FOR_COPIES = 10
"""Fewer units than this can correlate by chance with one of thousands of features."""


def audit(
    data: TaskData,
    protocol: Protocol,
    folds: pd.DataFrame,
    X: NDArray[np.floating] | None = None,
    fit_scope: FitScope = "pretrained",
    supplier: Supplier = "one-matrix",
    images: pd.DataFrame | None = None,
    panel: Panel | None = None,
) -> list[Finding]:
    """Check splits, features and readouts for leaks.

    Parameters
    ----------
    X
        (N, D) features of the wells; without them only the split is checked.
    fit_scope
        How the features were fitted.
    supplier
        ``per-fold`` when an inductive entrant is refitted inside each outer fold; ``one-matrix`` otherwise.
    images
        Optional columns ``well`` (row of ``data.wells``) and ``digest`` (of the image's bytes).
    panel
        How the readouts were picked; by default as the data say.

    Returns
    -------
    list of Finding
        Banners first, then warnings; empty when there is nothing to say.

    Raises
    ------
    LeakageError
        Under a protocol that is not optimistic, when a perturbation stands in training and test of a fold
        (``perturbation-split``), a well or an image is shared between perturbations of different folds
        (``well-shared``, ``image-shared``), or an inductive entrant gives one matrix for all folds
        (``fitted-on-test``).
    """
    leaks = [_split_perturbations(folds), _shared_wells(data, folds), _fitted_on_test(fit_scope, supplier)]
    if images is not None:
        leaks.append(_shared_images(data, folds, images))
    found = [leak for leak in leaks if leak is not None]
    if found and protocol.label != "optimistic":
        raise LeakageError(found[0].message)
    found += confounding(data) + shifted(data)
    found += [own for own in (_shared_structures(data, folds),) if own is not None]
    if (panel or data.panel) == "score-selected":
        found.append(
            Finding(
                "warning",
                "panel-selected",
                f"the {len(data.readouts)} readouts were picked by a score: a new panel would do worse",
                float(len(data.readouts)),
            )
        )
    if X is not None:
        # An infinite feature is refused at the fit; here it is one that the well does not have.
        values = np.where(np.isfinite(X), X, np.nan).astype(np.float64)
        found += decodability(data, values, protocol)
        found += [own for own in (_twins(data, values), _copies(data, values)) if own is not None]
    return found


def _split_perturbations(folds: pd.DataFrame) -> Finding | None:
    """Perturbations that a fold tests and trains on, whatever its split calls itself."""
    name = dict(zip(folds["unit"], folds["perturbation"], strict=True))
    leaked: set[str] = set()
    for own in ids(folds):
        test, train = split(folds, *own)
        leaked |= {name[u] for u in test} & {name[u] for u in train}
    if not leaked:
        return None
    total = folds.loc[folds["fold"] >= 0, "perturbation"].nunique()
    return Finding(
        "banner",
        "perturbation-split",
        f"{len(leaked)} of {total} perturbations stand in training and test of a fold (first: "
        f"{min(leaked)!r}): scores are optimistic; split by perturbation",
        len(leaked) / total,
    )


def _shared_wells(data: TaskData, folds: pd.DataFrame) -> Finding | None:
    links = data.members.tocoo()
    held = links.data != 0
    frame = pd.DataFrame({"unit": links.row[held], "thing": links.col[held]})
    frame = frame[~data.well_control[frame["thing"]]]
    shared = _across_folds(data, folds, frame)
    if not len(shared):
        return None
    well = data.wells.iloc[int(shared[0])]
    place = " ".join(str(well[c]) for c in ("Metadata_Plate", "Metadata_Well") if c in well.index)
    return Finding(
        "banner",
        "well-shared",
        f"{len(shared)} wells belong to units of perturbations in different folds (first: "
        f"well {place or shared[0]}): they would be trained on and tested; give each well one perturbation",
        float(len(shared)),
    )


def _shared_images(data: TaskData, folds: pd.DataFrame, images: pd.DataFrame) -> Finding | None:
    links = data.members.tocoo()
    held = links.data != 0
    member = pd.DataFrame({"unit": links.row[held], "well": links.col[held]})
    own = images[~data.well_control[images["well"].to_numpy(np.int64)]]
    frame = member.merge(own[["well", "digest"]], on="well").rename(columns={"digest": "thing"})
    shared = _across_folds(data, folds, frame)
    if not len(shared):
        return None
    wells = sorted(frame.loc[frame["thing"] == shared[0], "well"].unique())
    names = [
        " ".join(str(data.wells.iloc[w][c]) for c in ("Metadata_Plate", "Metadata_Well") if c in data.wells)
        or f"row {w}"
        for w in wells[:2]
    ]
    return Finding(
        "banner",
        "image-shared",
        f"{len(shared)} images are byte for byte the same in perturbations of different folds (first: wells "
        f"{' and '.join(names)}): drop the copies",
        float(len(shared)),
    )


def _across_folds(data: TaskData, folds: pd.DataFrame, frame: pd.DataFrame) -> NDArray[np.object_]:
    """Return the things (wells, digests) that units of different perturbations and different folds share."""
    frame = frame.assign(perturbation=data.groups[frame["unit"]])
    owners = frame.groupby("thing")["perturbation"].nunique()
    frame = frame[frame["thing"].isin(owners.index[owners > 1])]
    tested = folds.loc[folds["fold"] > UNUSED, ["repeat", "unit", "fold"]]
    spread = frame.merge(tested, on="unit").groupby(["thing", "repeat"])["fold"].nunique()
    things: NDArray[np.object_] = spread[spread > 1].index.get_level_values("thing").unique().to_numpy()
    return things


def _shared_structures(data: TaskData, folds: pd.DataFrame) -> Finding | None:
    """One molecule under several names, as its ``Metadata_SMILES`` say word for word, in different folds."""
    if STRUCTURE not in data.wells.columns:
        return None
    links = data.members.tocoo()
    written = data.wells[STRUCTURE].fillna("").astype(str).str.strip().to_numpy()
    frame = pd.DataFrame({"unit": links.row, "thing": written[links.col]})
    keep = (links.data != 0) & ~data.control[links.row] & ~data.well_control[links.col]
    frame = frame[keep & (frame["thing"] != "")].drop_duplicates()
    shared = _across_folds(data, folds, frame)
    if not len(shared):
        return None
    own = frame[frame["thing"].isin(shared)]
    names = pd.Series(data.groups[own["unit"]])
    first = sorted({str(name) for name in data.groups[own.loc[own["thing"] == min(shared), "unit"]]})
    return Finding(
        "warning",
        "structure-shared",
        f"{names.nunique()} of {folds['perturbation'].nunique()} perturbations have the structure of another "
        f"in a different fold (first: {' and '.join(map(repr, first[:2]))}): one molecule may be trained on "
        "and tested; give both one Metadata_InChIKey",
        names.nunique() / folds["perturbation"].nunique(),
    )


def _fitted_on_test(fit_scope: FitScope, supplier: Supplier) -> Finding | None:
    if fit_scope != "inductive" or supplier == "per-fold":
        return None
    return Finding(
        "banner",
        "fitted-on-test",
        "the features come from one encoder fitted with the labels of all perturbations, tested ones "
        "included: refit it inside each outer fold",
        1.0,
    )


def _twins(data: TaskData, X: NDArray[np.float64]) -> Finding | None:
    """Equal feature rows in wells of different perturbations."""
    units = data.members.tocoo()
    perturbation = np.full(len(X), "", dtype=object)
    perturbation[units.col] = data.groups[units.row]
    keep = np.flatnonzero((perturbation != "") & ~data.well_control & ~np.isnan(X).all(axis=1))
    if X.shape[1] < MIN_FEATURES_FOR_TWINS or len(keep) < 2:
        return None
    rows = np.ascontiguousarray(X[keep] + 0.0)  # −0 and 0 are one value
    keys = pd.Series(rows.view(np.dtype((np.void, rows.shape[1] * rows.itemsize))).ravel().tolist())
    owners = pd.Series(perturbation[keep]).groupby(keys.to_numpy()).nunique()
    shared = set(owners.index[owners > 1])
    count = int(keys.isin(shared).sum())
    if not count:
        return None
    return Finding(
        "warning",
        "identical-rows",
        f"{count} of {len(keep)} wells have exactly the features of a well with another perturbation",
        count / len(keep),
    )


def _copies(data: TaskData, X: NDArray[np.float64]) -> Finding | None:
    """Readouts that are a linear, or a monotone, function of one of the features.

    Monotone ones (the logarithm of a cell count, say) show in the correlation of ranks, over at most
    :data:`MAX_WELLS` units and for features of many values. A feature that some units lack counts over those
    that have it.
    """
    units = to_units(data, X)
    rows = np.flatnonzero(~np.isnan(units).all(axis=1) & ~data.control)
    if len(rows) < MIN_UNITS_FOR_COPIES:
        return None
    U = _standard(units[rows])
    few = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), MAX_WELLS)).round().astype(int))]
    ranked = pd.DataFrame(units[few])
    ranked = ranked.loc[:, ranked.nunique() > ranked.count() / 2].rank()
    V = _standard(ranked.to_numpy(dtype=np.float64))
    best = np.zeros(len(data.readouts))
    for start in range(0, len(best), 512):
        part = slice(start, start + 512)
        best[part] = _largest_correlation(U, data.Y[rows, part].astype(np.float64))
        y = pd.DataFrame(data.Y[few, part]).rank().to_numpy(dtype=np.float64)
        best[part] = np.maximum(best[part], _largest_correlation(V, y))
    copied = np.flatnonzero(best > COPY)
    if not copied.size:
        return None
    return Finding(
        "warning",
        "readout-from-image",
        f"{copied.size} of {len(best)} readouts are a function of a single feature (first: "
        f"{data.readouts[copied[0]]!r}, |r| {best[copied[0]]:.4f}): were they measured on the images?",
        copied.size / len(best),
    )


def _standard(X: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centre and scale the columns that vary over the rows that have them, and drop the others."""
    known = ~np.isnan(X)
    count = np.maximum(known.sum(axis=0), 1)
    centred = X - np.where(known, X, 0.0).sum(axis=0) / count
    spread = np.sqrt(np.where(known, centred**2, 0.0).sum(axis=0) / count)
    return np.asarray(centred[:, spread > 0] / spread[spread > 0])


def _largest_correlation(U: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (t,) the largest |r| of y (m, t) with a column of U (m, D), over the rows with both."""
    known, mask = ~np.isnan(U), ~np.isnan(y)
    total = mask.sum(axis=0)
    centre = np.where(mask, y, 0.0).sum(axis=0) / np.maximum(total, 1)
    own, m = np.where(mask, y - centre, 0.0), mask.astype(np.float64)
    u = np.where(known, U, 0.0)
    # Sums over the rows with both, (D, t); where U has no gap, those of y do not depend on the feature.
    if known.all():
        count, sum_y, square_y = total.astype(np.float64), np.zeros(len(total)), (own**2).sum(axis=0)
    else:
        k = known.astype(np.float64).T
        count, sum_y, square_y = k @ m, k @ own, k @ own**2
    sum_u, square_u = u.T @ m, (u**2).T @ m
    n = np.maximum(count, 1.0)
    variance_u, variance_y = square_u - sum_u**2 / n, square_y - sum_y**2 / n
    norm = np.sqrt(np.maximum(variance_u, 0.0) * np.maximum(variance_y, 0.0))
    defined = (
        (variance_u > 1e-9 * np.maximum(square_u, 1e-300)) & (norm > 0) & (count >= MIN_UNITS_FOR_COPIES)
    )
    defined &= variance_y > 1e-9 * square_y
    r = np.divide(np.abs(u.T @ own - sum_u * sum_y / n), norm, out=np.zeros_like(norm), where=defined)
    largest: NDArray[np.float64] = r.max(axis=0, initial=0.0)
    return largest
