"""Does a predictor keep the contract of :class:`featurizers.base.Predictor`?"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featurizers.base import (
    Channel,
    FeaturizerError,
    Field,
    FitContext,
    Predictor,
    Progress,
    silent,
)
from featurizers.conformance import static
from featurizers.conformance.subject import CheckResult, NotApplicable, Status, Violation, quiet
from featurizers.synthetic import PAINTING, FieldList, restricted, synthetic_fields

if TYPE_CHECKING:
    from numpy.typing import NDArray

CELLS = (4, 3, 6, 3, 5, 2, 3, 4)
"""Cells of each field: two fields for each of four units, units of two perturbations."""

UNIT = np.array([0, 0, 1, 1, 2, 2, 3, 3])
READOUTS = 3
RGB = tuple(Channel(name) for name in "RGB")


class _Kill(BaseException):
    """Stands in for a killed process: nothing may catch it."""


@dataclass(slots=False)
class PredictorSubject:
    """A predictor under test: ``make`` returns a new one, ``cls`` is its class."""

    make: Callable[[], Predictor]
    cls: type[Predictor]
    channels: tuple[Channel, ...]
    device: str = "cpu"
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="conformance-")))

    @cached_property
    def fields(self) -> FieldList:
        """The fields of four units, stripped to what the card needs."""
        made = synthetic_fields(self.channels, CELLS)
        return FieldList([restricted(f, self.cls.card.needs) for f in made])

    @property
    def targets(self) -> NDArray[np.float32]:
        """Readouts of the four units; one value and one whole readout are missing."""
        made = np.random.default_rng(0).normal(2, 1, (4, READOUTS)).astype(np.float32)
        made[1, 0], made[:, 2] = np.nan, np.nan
        return made

    @cached_property
    def ready(self) -> Predictor:
        """A fitted predictor."""
        return self.train("ready")

    def train(self, workdir: str, report: Callable[[Progress], None] = silent) -> Predictor:
        """Fit a new one on the four units, seed 0."""
        import pandas as pd

        table = pd.DataFrame([dict(f.metadata) for f in self.fields]).drop(columns="Metadata_Site")
        table = table.drop_duplicates(["Metadata_Plate", "Metadata_Well"], ignore_index=True)
        table["perturbation"] = table["Metadata_Compound"]
        path = self.folder / workdir
        path.mkdir(exist_ok=True)
        made = self.make()
        context = FitContext(path, seed=0, device=self.device, report=report)
        made.fit(self.fields, UNIT.copy(), self.targets, table, context)
        return made

    def predict(self, predictor: Predictor, chosen: Sequence[int], unit: Sequence[int], n: int) -> Any:
        """Predict from the fields at these places."""
        if not chosen:
            chosen = [0]
        shown = FieldList([self.fields[k] for k in chosen])
        return np.asarray(predictor.predict(shown, np.array(unit, np.int64), n))


def card(subject: PredictorSubject) -> str:
    """The card is complete and says that the predictor is refitted in every fold."""
    said = static.card(subject)  # type: ignore[arg-type]
    found = subject.cls.card
    if found.fit_scope != "inductive":
        raise Violation(f"card.fit_scope is {found.fit_scope!r}; a predictor learns readouts: 'inductive'")
    if "readouts" not in found.learns_from:
        raise Violation('card.learns_from lacks "readouts", which a predictor is fitted on')
    return said


def predicts(subject: PredictorSubject) -> str:
    """``predict`` gives one finite float32 row per unit, for every readout that was seen in training."""
    made = subject.predict(subject.ready, range(8), UNIT.tolist(), 4)
    if made.shape != (4, READOUTS) or made.dtype != np.float32:
        raise Violation(f"predict returns {made.dtype} of shape {made.shape}; return float32 (4, {READOUTS})")
    if not np.isfinite(made[:, :2]).all():
        raise Violation("a prediction of an observed readout is not finite; mask missing targets in fit")
    return f"{made.shape[0]} units, {made.shape[1]} readouts"


def missing_unit(subject: PredictorSubject) -> str:
    """A unit without a field is predicted NaN."""
    made = subject.predict(subject.ready, [0, 1], [1, 1], 2)
    if not np.isnan(made[0]).all() or not np.isfinite(made[1, :2]).all():
        raise Violation("a unit without a field must be NaN and the others finite")
    return "NaN"


def unit_invariant(subject: PredictorSubject) -> str:
    """A unit's prediction does not depend on which others are asked for."""
    whole = subject.predict(subject.ready, range(8), UNIT.tolist(), 4)
    worst = 0.0
    for unit in range(4):
        alone = subject.predict(subject.ready, [2 * unit, 2 * unit + 1], [0, 0], 1)[0, :2]
        gap = np.abs(alone - whole[unit, :2]) / (np.abs(whole[unit, :2]) + 1.0)
        worst = max(worst, float(gap.max()))
    if worst > 1e-5:
        raise Violation(f"a unit's prediction differs by {worst:.1e} when it is asked for alone")
    return f"largest relative difference {worst:.0e}"


def deterministic(subject: PredictorSubject) -> str:
    """Two fits with the same seed predict the same bytes."""
    first = subject.predict(subject.ready, range(8), UNIT.tolist(), 4)
    second = subject.predict(subject.train("again"), range(8), UNIT.tolist(), 4)
    if first.tobytes() != second.tobytes():
        raise Violation("two fits with one seed predict differently; seed everything from context.seed")
    return "same bytes"


def pure(subject: PredictorSubject) -> str:
    """``fit`` changes neither pixels nor targets."""
    before = [None if f.pixels is None else f.pixels.copy() for f in subject.fields]
    targets = subject.targets
    given = targets.copy()
    made, path = subject.make(), subject.folder / "pure"
    path.mkdir()
    import pandas as pd

    table = pd.DataFrame([dict(f.metadata) for f in subject.fields]).drop_duplicates("Metadata_Well")
    table["perturbation"] = table["Metadata_Compound"]
    made.fit(subject.fields, UNIT.copy(), given, table, FitContext(path, device=subject.device))
    if not np.array_equal(targets, given, equal_nan=True):
        raise Violation("fit changes its targets; copy them")
    for old, own in zip(before, subject.fields, strict=True):
        if old is not None and own.pixels is not None and not np.array_equal(old, own.pixels):
            raise Violation("fit changes the pixels of a field; copy them")
    return "inputs unchanged"


def blind(subject: PredictorSubject) -> str:
    """Names in the metadata of tested fields do not change a prediction."""
    whole = subject.predict(subject.ready, range(8), UNIT.tolist(), 4)

    def renamed(shown: Field) -> Field:
        changed = {"Metadata_Compound": "other", "Metadata_Well": "H12"}
        return replace(shown, metadata={**shown.metadata, **changed})

    others = FieldList([renamed(own) for own in subject.fields])
    if subject.ready.predict(others, UNIT.copy(), 4).tobytes() != whole.tobytes():
        raise Violation("predictions depend on the names of compound or well; use pixels only")
    return "blind to Metadata_Compound, Metadata_Well"


def resume(subject: PredictorSubject) -> str:
    """A fit killed half-way through each of its stages, called again each time, predicts the same bytes."""
    killed: dict[str, str] = {}

    def die(step: Progress) -> None:
        if step.stage not in killed and step.done * 2 >= step.total:
            killed[step.stage] = f"{step.stage} {step.done} of {step.total}"
            raise _Kill

    resumed = None
    while resumed is None:
        try:
            resumed = subject.train("killed", die)
        except _Kill:
            continue
    if not killed:
        raise NotApplicable("the fit never reported to be half-way, so it was not interrupted")
    one, two = (subject.predict(p, range(8), UNIT.tolist(), 4) for p in (subject.ready, resumed))
    if one.tobytes() != two.tobytes():
        raise Violation("a killed and resumed fit predicts other bytes; keep all state in the checkpoint")
    return f"killed at {', '.join(killed.values())}"


CHECKS: tuple[tuple[str, Callable[[Any], str]], ...] = (
    ("card", card),
    ("config", static.config),
    ("presets", static.presets),
    ("import", static.cheap_import),
    ("predicts", predicts),
    ("missing-unit", missing_unit),
    ("unit-invariant", unit_invariant),
    ("deterministic", deterministic),
    ("pure", pure),
    ("blind", blind),
    ("resume", resume),
)


def _refuses(predictor: Predictor, channels: Sequence[Channel]) -> bool:
    try:
        predictor.check(channels)
    except FeaturizerError:
        return True
    return False


def check_predictor(
    predictor: type[Predictor] | Callable[[], Predictor],
    *,
    channels: Sequence[Channel] | None = None,
    device: str = "cpu",
) -> list[CheckResult]:
    """Return one result per check of the contract, on eight small synthetic fields of four units.

    Parameters
    ----------
    predictor
        A class, or a function that returns a new instance: give one with a tiny config. It is fitted up to
        once per reported stage and three times more.
    channels
        Channels of the images. None takes all five of Cell Painting, or red, green and blue where the
        predictor refuses those.
    """
    try:
        with quiet():
            made = predictor()
            cls = type(made)
            if channels is None:
                channels = RGB if _refuses(made, PAINTING) else PAINTING
    except Exception as error:  # noqa: BLE001  # a factory may raise anything; it is the result
        return [CheckResult("card", "failed", f"it cannot be made: {error}")]
    subject = PredictorSubject(predictor, cls, tuple(channels), device)
    results: list[CheckResult] = []
    try:
        for name, run in CHECKS:
            status: Status = "passed"
            if any(r.name == "predicts" and r.status == "failed" for r in results):
                results.append(CheckResult(name, "skipped", "says nothing before predicts passes"))
                continue
            try:
                with quiet():
                    message = run(subject)
            except NotApplicable as error:
                status, message = "skipped", str(error)
            except Violation as error:
                status, message = "failed", str(error)
            except FeaturizerError as error:
                status, message = "failed", f"refused with: {error}"
            except Exception as error:  # noqa: BLE001  # a predictor may raise anything; it is the result
                status, message = "failed", f"raised {type(error).__name__}: {error}"
            results.append(CheckResult(name, status, message))
    finally:
        shutil.rmtree(subject.folder, ignore_errors=True)
    return results
