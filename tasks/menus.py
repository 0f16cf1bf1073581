"""Tables of a protocol's settings: the penalty grid, the shares of a random split, feature selection."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from tasks.base import TaskError

OPERATIONS = (
    "variance_threshold",
    "frequency_threshold",
    "correlation_threshold",
    "drop_na_columns",
    "drop_outliers",
    "blocklist",
)
"""Operations of feature selection."""


@dataclass(frozen=True)
class LogGrid:
    """``num`` values from ``start`` to ``stop``, equally spaced in their logarithm, both ends included."""

    start: float = 1e-3
    stop: float = 1e6
    num: int = 20

    def __post_init__(self) -> None:
        whole("penalties.num", self.num, 1)
        for name in ("start", "stop"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
                raise TaskError(f"protocol setting penalties.{name} must be a positive number, not {value!r}")
        if self.stop < self.start:
            raise TaskError(
                f"protocol setting penalties.stop ({self.stop}) is below penalties.start ({self.start})"
            )


@dataclass(frozen=True)
class Shares:
    """Shares of the perturbations that a random split trains on, sets aside and tests; they sum to 1."""

    train: float = 0.7
    validation: float = 0.1
    test: float = 0.2

    def __post_init__(self) -> None:
        for name in ("train", "validation", "test"):
            share(f"shares.{name}", getattr(self, name), 0.0 if name == "validation" else 1e-9)
        if abs(self.train + self.validation + self.test - 1.0) > 1e-9:
            raise TaskError("protocol settings shares.train, shares.validation and shares.test must sum to 1")


@dataclass(frozen=True)
class Selection:
    """Feature selection inside the fold, as in :mod:`tasks.select`; no operation keeps every feature.

    Parameters
    ----------
    operations
        Names of operations, in the order in which they are applied; pycytominer's names and defaults.
    na_cutoff
        ``drop_na_columns``: share of missing training rows above which a feature goes.
    min_variance
        ``variance_threshold``: a feature whose variance is not above it goes.
    freq_cut, unique_cut
        ``frequency_threshold``: smallest ratio of the second most common value's count to the most
        common's, and of distinct values to rows.
    corr_threshold
        ``correlation_threshold``: Pearson correlation above which the feature of the pair goes that is more
        correlated with all others.
    outlier_cutoff
        ``drop_outliers``: absolute value above which a feature goes.
    blocklist
        ``blocklist``: names or patterns (``Nuclei_Correlation_Manders_*``) of features that go.
    """

    operations: tuple[str, ...] = ()
    na_cutoff: float = 0.05
    min_variance: float = 1e-6
    freq_cut: float = 0.05
    unique_cut: float = 0.01
    corr_threshold: float = 0.9
    outlier_cutoff: float = 500.0
    blocklist: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for value in self.operations:
            one_of("selection.operations", value, OPERATIONS)
        if len(set(self.operations)) < len(self.operations):
            raise TaskError("protocol setting selection.operations names an operation twice")
        for name in ("na_cutoff", "freq_cut", "unique_cut", "corr_threshold"):
            share(f"selection.{name}", getattr(self, name), 0.0)
        for name in ("min_variance", "outlier_cutoff"):
            share(f"selection.{name}", getattr(self, name), 0.0, float("inf"))
        if not all(isinstance(pattern, str) and pattern for pattern in self.blocklist):
            raise TaskError("protocol setting selection.blocklist must be a list of names or patterns")
        if ("blocklist" in self.operations) != bool(self.blocklist):
            raise TaskError(
                "protocol setting selection: the operation 'blocklist' and the list blocklist go together; "
                "give both or neither"
            )


def hint(word: str, choices: tuple[str, ...]) -> str:
    """Return what a sentence about an unknown word ends in: the nearest choice, or all of them."""
    near = difflib.get_close_matches(word, choices, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(choices)}"


def one_of(key: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise :class:`TaskError` when a setting is none of its choices."""
    if not isinstance(value, str) or value not in choices:
        raise TaskError(f"protocol setting {key} cannot be {value!r}{hint(str(value), choices)}")


def whole(key: str, value: object, least: int) -> None:
    """Raise :class:`TaskError` when a setting is no whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise TaskError(f"protocol setting {key} must be a whole number of at least {least}, not {value!r}")


def share(key: str, value: object, least: float, most: float = 1.0) -> None:
    """Raise :class:`TaskError` when a setting is no number from ``least`` to ``most``."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        limits = f"from {least:g} to {most:g}" if most < float("inf") else f"of at least {least:g}"
        raise TaskError(f"protocol setting {key} must be a number {limits}, not {value!r}")
