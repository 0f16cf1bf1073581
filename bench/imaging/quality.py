"""Quality of fields: how sharp a channel is and how much of it is saturated; flags by stated thresholds.

Focus is the slope of the power spectrum, the measure CellProfiler calls PowerLogLogSlope (Bray et al. 2012,
doi:10.1177/1087057111420292): with the spectrum P(r) = Σ |F(u, v)|² over r - 1 ≤ √(u² + v²) < r of the
mean-free image, the least-squares slope of log P(r) on log r for r = 2, 3, … < min(H, W) / 8. Blur takes
the high frequencies away, so an unfocused field has a steeper (more negative) slope than the others of its
plate; what is steep depends on stain and objective, so the flag compares with the plate. Saturation is the
share of pixels at full scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

FOCUS, SATURATED = "qc_focus_", "qc_saturated_"
FLAG = "Metadata_QC"
"""Column of the wells: what is wrong with the well's fields, ``focus:DNA x2; blank:ER x1``, or empty."""

FLAGGED = "qc_flagged"
"""Column of the wells: the share of its fields with any flag."""


@dataclass(frozen=True, slots=True)
class Quality:
    """Thresholds of the flags.

    Parameters
    ----------
    focus_mads
        A channel whose slope lies more than this many robust standard deviations (1.4826 MAD) below the
        median of its plate is flagged ``focus``; 0 flags none.
    focus_least
        The robust standard deviation is taken to be at least this, so that a plate of equal fields flags
        none.
    saturated
        A channel with more than this share of its pixels at full scale is flagged ``saturated``.
    """

    focus_mads: float = 5.0
    focus_least: float = 0.05
    saturated: float = 0.01


def measure(pixels: NDArray[Any], names: tuple[str, ...], full_scale: float) -> dict[str, float]:
    """Return ``qc_focus_<channel>`` (NaN for a channel without variation) and ``qc_saturated_<channel>``.

    Parameters
    ----------
    pixels
        (C, H, W) raw grey levels.
    names
        C channel names.
    full_scale
        Grey level of a saturated pixel, 2^b - 1; 1 for float images.
    """
    found = {}
    for name, plane in zip(names, pixels, strict=True):
        found[FOCUS + name] = power_slope(plane)
        found[SATURATED + name] = float(np.mean(plane >= full_scale))
    return found


def power_slope(plane: NDArray[Any]) -> float:
    """Return the slope of log P(r) on log r; NaN for a constant image, 0 for edges below 32 pixels.

    Parameters
    ----------
    plane
        (H, W) grey levels; their scale does not matter.
    """
    from scipy import fft

    top = int(min(plane.shape) / 8)
    if plane.min() == plane.max():
        return float("nan")
    if top < 4:
        return 0.0
    grey = plane.astype(np.float32)
    spectrum = fft.rfft2(grey - grey.mean(dtype=np.float64).astype(np.float32), workers=1)
    # Radii count frequencies 0, 1, 2, … along each axis; rows after the middle are the negative ones.
    rows = np.r_[0:top, -top:0]
    power = np.abs(spectrum[rows, : top + 1].astype(np.complex128)) ** 2
    power[:, 1:] *= 2.0  # of a real image, the half that is not computed is the mirror of this one
    columns = np.arange(top + 1)
    radius = np.floor(np.sqrt(rows[:, None] ** 2 + columns[None] ** 2)).astype(int) + 1
    sums = np.bincount(radius.ravel(), power.ravel())[2:top]
    seen = sums > 0
    if seen.sum() < 2:
        return 0.0
    x = np.log(np.arange(2, top)[seen])
    return float(np.polyfit(x, np.log(sums[seen]), 1)[0])


def measures(table: pd.DataFrame) -> list[str]:
    """Return the columns of a table of fields or wells that hold measures of single channels."""
    return [column for column in table.columns if column.startswith((FOCUS, SATURATED))]


def flags(fields: pd.DataFrame, config: Quality) -> list[list[str]]:
    """Return the flags of each field, ``focus:DNA``, ``saturated:ER`` or ``blank:RNA`` (one grey level only).

    Parameters
    ----------
    fields
        One row per field of one plate with the columns of :func:`measure`.
    config
        Thresholds.
    """
    found: list[list[str]] = [[] for _ in range(len(fields))]
    for column in measures(fields):
        values = fields[column].to_numpy(float)
        name = column.removeprefix(FOCUS).removeprefix(SATURATED)
        if column.startswith(FOCUS):
            marks = {"blank": np.isnan(values), "focus": _steep(values, config)}
        else:
            marks = {"saturated": values > config.saturated}
        for mark, where in marks.items():
            for i in np.flatnonzero(where):
                found[i].append(f"{mark}:{name}")
    return found


def by_well(fields: pd.DataFrame, config: Quality) -> pd.DataFrame:
    """Return one row per well: mean measures, the share of flagged fields and the flags in words.

    Parameters
    ----------
    fields
        One row per field of one plate: ``Metadata_Well`` and the columns of :func:`measure`.
    config
        Thresholds.

    Returns
    -------
    Columns ``Metadata_Well``, ``qc_*``, :data:`FLAGGED` and :data:`FLAG`, sorted by well.
    """
    import pandas as pd

    marks = flags(fields, config)
    names = measures(fields)
    rows = []
    for well in sorted(set(fields["Metadata_Well"])):
        own = np.flatnonzero((fields["Metadata_Well"] == well).to_numpy())
        counts: dict[str, int] = {}
        for i in own:
            for mark in marks[i]:
                counts[mark] = counts.get(mark, 0) + 1
        means = fields[names].iloc[own].mean()
        rows.append(
            {
                "Metadata_Well": well,
                **{c: float(means[c]) for c in names},
                FLAGGED: sum(bool(marks[i]) for i in own) / len(own),
                FLAG: "; ".join(f"{mark} x{counts[mark]}" for mark in sorted(counts)),
            }
        )
    return pd.DataFrame(rows, columns=["Metadata_Well", *names, FLAGGED, FLAG])


def _steep(slopes: NDArray[np.float64], config: Quality) -> NDArray[np.bool_]:
    known = slopes[~np.isnan(slopes)]
    if config.focus_mads == 0 or known.size == 0:
        return np.zeros(len(slopes), np.bool_)
    middle = np.median(known)
    spread = max(1.4826 * float(np.median(np.abs(known - middle))), config.focus_least)
    return np.asarray(slopes < middle - config.focus_mads * spread)
