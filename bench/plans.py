"""Which runs a problem takes: the floor, every entrant with every head, and the same on permuted labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bench import heads, inputs
from bench.entrants import Entrant, known
from bench.predictors import OWN_HEAD
from bench.problem import labels_differ
from bench.supply import Features

if TYPE_CHECKING:
    from bench.inputs import Omics
    from bench.problem import Problem
    from bench.settings import Settings

NO_HEAD = "none"
"""Head of a run whose task scores features as they are."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One run to be: who, with which head, on permuted labels or not. ``features`` is None for the floor."""

    entrant: Entrant
    head: str
    features: Features | None
    permute_seed: int | None = None


def planned(
    settings: Settings,
    entrants: Sequence[Entrant],
    omics: Omics | None,
    task: str,
    problem: Problem,
    features: Mapping[tuple[str, str], Features],
) -> list[Planned]:
    """Return the runs of one problem: floor, then every entrant with every head, then permuted labels.

    Controls and ceilings read images only, whatever the inputs. Labels that are the same for every
    perturbation are not permuted, and a predictor is refitted on permuted labels only when asked to.

    Parameters
    ----------
    omics
        The layer that is put in where the settings ask for it.
    features
        By entrant label and problem key; an entrant that has none takes no part.
    """
    about = known(settings.plugins).get("tasks", task)
    names = heads.of_task(settings, about) if about.needs_head else (NO_HEAD,)
    floor = Entrant("mean", about.floor_label, "floor", "pretrained", "default")
    todo = [Planned(floor, about.floor if about.needs_head else NO_HEAD, None)]
    asked = inputs.asked(settings, about)
    taking_part = []
    for entrant in entrants:
        own = features.get((entrant.label, problem.key))
        if own is None:
            continue
        if entrant.role != "entrant" or inputs.IMAGE in asked:
            taking_part.append((entrant, own))
        beside = entrant.role == "entrant" and not entrant.is_predictor
        if omics is not None and beside and inputs.BOTH in asked:
            taking_part.append((inputs.beside(entrant, omics.layer), replace(own, omics=omics.folder)))
    if omics is not None and inputs.OMICS in asked:
        taking_part.append((inputs.alone(omics.layer), Features("", omics=omics.folder)))
    permutable = labels_differ(problem)
    for entrant, own in taking_part:
        by = "predictors" if entrant.is_predictor else "heads"
        for head in (OWN_HEAD,) if entrant.is_predictor else names:
            todo.append(Planned(entrant, head, own))
            if entrant.role == "entrant" and permutable and settings.permutes(by):
                todo.append(Planned(entrant, head, own.under(settings.seed), settings.seed))
    return todo
