"""What the checks share: the featurizer under test, its fields, and the two ways a check can end early."""

from __future__ import annotations

import contextlib
import io
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from featurizers.base import (
    Channel,
    Embedding,
    Featurizer,
    FeaturizerError,
    Field,
    FitContext,
    Progress,
    silent,
)
from featurizers.synthetic import FieldList, restricted, synthetic_fields

Status = Literal["passed", "failed", "skipped"]

CELLS = (4, 0, 6, 3)
EMPTY = 1
"""Cells of each field, and the index of the field without one."""

TRAINING_CELLS = (4, 0, 6, 3, 5, 2, 3, 4)
"""Cells of each field that a featurizer is trained on: two wells of each of two perturbations."""


class Violation(Exception):  # noqa: N818  # it is the finding of a check, not an error of this package
    """The promise is broken; the message says what was seen and what to do."""


class NotApplicable(Exception):  # noqa: N818  # likewise
    """The check does not apply; the message says why."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What became of one check.

    Parameters
    ----------
    name
        Name of the check, e.g. ``"batch-invariant"``.
    message
        What was measured when it passed, what is wrong and what to do when it failed, why it was skipped.
    """

    name: str
    status: Status
    message: str


@dataclass(frozen=True)
class Subject:
    """A featurizer under test.

    Parameters
    ----------
    make
        Returns a new, untrained featurizer; called many times.
    cls
        Its class.
    channel_sets
        Channels of the synthetic images; most checks use the last set.
    """

    make: Callable[[], Featurizer]
    cls: type[Featurizer]
    channel_sets: tuple[tuple[Channel, ...], ...]
    device: str = "cpu"
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="conformance-")))

    def fields(self, channels: Sequence[Channel], bit_depth: int = 16) -> FieldList:
        """Return the fields with these channels, stripped to what the card needs."""
        made = synthetic_fields(channels, CELLS, bit_depth=bit_depth)
        return FieldList([restricted(f, self.cls.card.needs) for f in made])

    @property
    def usual(self) -> FieldList:
        """The fields that most checks use: the last channel set, 16 bit."""
        return self.fields(self.channel_sets[-1])

    @cached_property
    def ready(self) -> Featurizer:
        """A featurizer that can embed: a new one, or one trained on the usual fields."""
        featurizer = self.make()
        if self.cls.trainable:
            self.train(featurizer, "ready")
        return featurizer

    def train(
        self, featurizer: Featurizer, workdir: str, report: Callable[[Progress], None] = silent
    ) -> Featurizer:
        """Fit on two wells of each of two perturbations, seed 0.

        The table is as the harness gives it: a row per well with its metadata, its compound's SMILES among
        them, ``perturbation`` and readouts.
        """
        import pandas as pd

        made = synthetic_fields(self.channel_sets[-1], TRAINING_CELLS)
        fields = FieldList([restricted(f, self.cls.card.needs) for f in made])
        table = pd.DataFrame([dict(f.metadata) for f in fields]).drop(columns="Metadata_Site")
        table = table.drop_duplicates(["Metadata_Plate", "Metadata_Well"], ignore_index=True)
        table["perturbation"] = table["Metadata_Compound"]
        table["Metadata_SMILES"] = table["Metadata_Compound"].map({"A": "CCO", "B": "c1ccccc1"})
        table[["Readout_A", "Readout_B"]] = np.random.default_rng(0).normal(size=(len(table), 2))
        path = self.folder / workdir
        path.mkdir(exist_ok=True)
        featurizer.fit(fields, table, FitContext(path, seed=0, device=self.device, report=report))
        return featurizer

    def new_folder(self, name: str) -> Path:
        """Return a new, empty folder."""
        path = self.folder / name
        path.mkdir()
        return path


def embedded(featurizer: Featurizer, fields: Sequence[Field]) -> Embedding:
    """Return ``featurizer.embed(fields)`` with a check of the type alone."""
    found = featurizer.embed(fields)
    if not isinstance(found, Embedding):
        raise Violation(f"embed returned a {type(found).__name__}; return a featurizers.base.Embedding")
    return found


def distance(found: Embedding, expected: Embedding, tolerance: float) -> float:
    """Return the largest difference in units of ``|expected| + RMS of its column``; refuse above tolerance.

    The column's root mean square stands in where a value is next to zero and a relative error means nothing.
    """
    if found.values.shape != expected.values.shape or not np.array_equal(found.field, expected.field):
        raise Violation(
            f"{len(expected.values)} rows of fields {expected.field.tolist()} became {len(found.values)} "
            f"rows of fields {found.field.tolist()}"
        )
    if not expected.values.size:
        return 0.0
    reference = expected.values.astype(np.float64)
    scale = np.abs(reference) + np.sqrt(np.mean(reference**2, axis=0))
    gap = np.abs(found.values - reference)
    relative = np.where(gap == 0, 0.0, gap / np.where(scale > 0, scale, 1.0))
    worst = float(np.max(relative, initial=0.0, where=~np.isnan(relative)))
    if worst > tolerance:
        row, column = np.unravel_index(int(np.nanargmax(relative)), relative.shape)
        raise Violation(
            f"column {column} of field {expected.field[row]} differs by {worst:.1e} (relative); "
            f"at most {tolerance:.0e} is allowed"
        )
    return worst


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep a featurizer's warnings and prints out of the report."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def refuses(action: Callable[[], object]) -> bool:
    """Return whether ``action`` raises a :class:`FeaturizerError`."""
    try:
        action()
    except FeaturizerError:
        return True
    return False
