"""Spatial expression: what a spot of a tissue section expresses, predicted from its image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tasks.base import TaskError
from tasks.folds import unit_column
from tasks.regression import Regression

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.base import TaskData


@dataclass(frozen=True)
class SpatialConfig:
    """Columns of :class:`Spatial`.

    Parameters
    ----------
    section, patient
        Which section a spot is on, and which patient the section is of; the patient may be unknown.
    """

    section: str = "Metadata_Section"
    patient: str = "Metadata_Patient"


class Spatial(Regression):
    """Regression of expression per spot, with patients or sections as the unit of inference.

    Neighbouring spots share tissue, so a spot is no replicate. Spots are grouped by patient where there are
    several patients, else by section, whatever the dataset calls its perturbation; e, e⁰ and every estimand
    are those of :class:`~tasks.regression.Regression` with that group in the perturbation's place. The name
    of the layer says what a score speaks of:

    ``between-patients``
        Several patients: a patient's sections are tested by models of other patients.
    ``within-patient``
        All sections of one patient: nothing is said about another patient.
    ``between-sections``
        Nothing tells which patient a section is of, so it may be either.

    Run it under ``section-out``. The floor is the mean over training spots; the entrant that must be beaten
    is colour statistics (``intensity``).
    """

    name = "spatial"
    version = "1"

    def __init__(self, config: SpatialConfig | None = None) -> None:
        self.config = SpatialConfig() if config is None else config

    def problems(self, data: TaskData) -> tuple[TaskData, ...]:
        """Return the layer grouped by patient or section; its name says which transfer is measured.

        Raises
        ------
        TaskError
            As :meth:`Regression.prepare`, and when nothing says which section a spot is on.
        """
        section = unit_column(data, self.config.section, "task 'spatial'")
        patient = self._patients(data)
        tested = ~data.control
        patients = 0 if patient is None else len(np.unique(patient[tested]))
        sections = len(np.unique(section[tested]))
        if patient is not None and patients > 1:
            groups, kind = patient, "between-patients"
            note = f"Spots are grouped by patient: {patients} patients with {sections} sections."
        elif patient is not None:
            groups, kind = section, "within-patient"
            note = (
                f"Within-patient: all {sections} sections are of one patient, so the scores say nothing "
                "about another patient."
            )
        else:
            groups, kind = section, "between-sections"
            note = (
                f"Nothing says which patient the {sections} sections are of ({self.config.patient}); if they "
                "share patients, the scores are within-patient."
            )
        named = replace(
            data,
            groups=np.where(data.control, data.groups, groups).astype(np.str_),
            layer=f"{data.layer}:{kind}",
            notes=(*data.notes, note),
        )
        return (self.prepare(named),)

    def _patients(self, data: TaskData) -> NDArray[np.str_] | None:
        """Return the patient of each unit, or None where the column is absent or empty for every spot."""
        if not any(self.config.patient in frame.columns for frame in (data.units, data.wells)):
            return None
        frame = data.units if self.config.patient in data.units.columns else data.wells
        known = frame[self.config.patient].fillna("").astype(str).str.strip()
        if (known == "").all():
            return None
        patient = unit_column(data, self.config.patient, "task 'spatial'")
        if not self._nested(data, patient):
            raise TaskError(
                f"layer {data.layer!r}: a section has spots of several patients; correct "
                f"{self.config.patient}"
            )
        return patient

    def _nested(self, data: TaskData, patient: NDArray[np.str_]) -> bool:
        section = unit_column(data, self.config.section, "task 'spatial'")
        pairs = {(s, p) for s, p, c in zip(section, patient, data.control, strict=True) if not c}
        return len({s for s, _ in pairs}) == len(pairs)
