"""From a planned run to what executes it: its spec, the document behind its key, the facts of its record."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import predictors, runs
from bench.entrants import known
from bench.plans import NO_HEAD, Planned
from bench.predictors import OWN_HEAD
from bench.problem import outer_folds
from bench.runs import RunSpec

if TYPE_CHECKING:
    from bench.datasets import Dataset
    from bench.problem import Problem
    from bench.settings import Settings
    from bench.store import Store
    from bench.supply import Features
    from tasks.protocol import Protocol


class Specs:
    """The specs of one session's runs; nothing is computed or committed."""

    def __init__(self, settings: Settings, dataset: Dataset, store: Store, protocol: Protocol) -> None:
        self.settings = settings
        self.dataset = dataset
        self.store = store
        self.protocol = protocol

    def of(
        self, task: str, problem: Problem, plan: Planned, warnings: Sequence[Mapping[str, Any]] = ()
    ) -> tuple[RunSpec, Mapping[str, Any]]:
        """Return the spec of a run and the facts of its record; ``warnings`` are its audit's findings."""
        from bench.store import digest

        entrant, head, own, permute_seed = plan.entrant, plan.head, plan.features, plan.permute_seed
        about = known(self.settings.plugins).get("tasks", task)
        protocol: Protocol = about().rules(self.protocol)
        learns = head not in (NO_HEAD, OWN_HEAD)
        dear = learns and known(self.settings.plugins).get("heads", head).first_repeat_only
        folds = outer_folds(problem, first_repeat_only=dear or predictors.folds_once(entrant))
        document: dict[str, Any] = {
            "kind": "run",
            "schema": 1,
            "role": entrant.role,
            "problem": problem.key,
            **self._code(task, head),
            "protocol": protocol.hash,
            "features": None
            if own is None or own.fits is not None
            else {
                "name": entrant.name,
                "key": own.key,
                "parts": [[str(fold), [p.folder for p in parts]] for fold, parts in own.parts.items()],
            },
            "permute_seed": permute_seed,
            "folds": [list(f) for f in folds],
        }
        if own is not None and own.omics:
            document["omics"] = own.omics
        if own is not None and own.fits is not None:
            document["predictor"] = {**own.fits, "cut": predictors.VERSION}
        spec = RunSpec(
            run=digest(document)[:16],
            store=str(self.store.root),
            problem=problem.key,
            task=task,
            head=head,
            protocol=protocol,
            features=tuple(own.parts.items()) if own is not None else (),
            folds=tuple(folds),
            permute_seed=permute_seed,
            plugins=self.settings.plugins,
            omics=own.omics if own is not None else "",
            predictor=entrant.spec if entrant.is_predictor else None,
            device=self.settings.device,
        )
        facts = {
            "key_document": document,
            "name": entrant.name,
            "label": entrant.label if permute_seed is None else f"{entrant.label}, permuted labels",
            "role": entrant.role if permute_seed is None else "permuted",
            "permutes": entrant.label if permute_seed is not None else None,
            "fit_scope": entrant.fit_scope,
            "preset": entrant.preset,
            "card": entrant.card,
            "inputs": entrant.inputs,
            "metric": about().called(problem.data),
            "notes": list(problem.data.notes),
            "dataset": {"name": self.dataset.name, "version": self.dataset.version},
            "layer": problem.data.layer,
            "folds_hash": problem.folds_hash,
            "audit": list(warnings),
            "cost": self._cost(own),
            "asked": self._asked(),
        }
        if own is not None and own.learned:
            facts["learned"] = own.learned
        return spec, facts

    @functools.cache  # noqa: B019  # they live as long as their command
    def _asked(self) -> dict[str, Any]:
        """Return what makes this session again: settings, protocol, and which dataset from where.

        It is provenance: other settings can lead to the same run, and paths are of this machine.
        """
        from bench.datasets.tables import is_remote

        given = self.settings.dataset or str(self.dataset.root)
        return {
            "settings": dataclasses.asdict(self.settings),
            "protocol": self.protocol.settings,
            "dataset": given if is_remote(given) else str(Path(given).resolve()),
            "tables": self.dataset.digest(),
        }

    @functools.cache  # noqa: B019  # they live as long as their command
    def _code(self, task: str, head: str) -> dict[str, Any]:
        """Return what code scores a run: the task's, and the head's or that of the bare features."""
        from bench.store import code_digest
        from tasks import embedding, evaluate

        about = known(self.settings.plugins).get("tasks", task)
        own = {"name": head}
        if about.needs_head and head != OWN_HEAD:
            used = known(self.settings.plugins).get("heads", head)
            own |= {"version": used.version, "code": code_digest(used)}
        how = code_digest(evaluate if about.needs_head else embedding)
        return {
            "task": {"name": task, "code": code_digest(about)},
            "head": own,
            "evaluation": {"code": how, "alignment": runs.ALIGNMENT},
        }

    def _cost(self, own: Features | None) -> dict[str, float]:
        """Return what the features cost when they were computed: seconds over all processes, and memory."""
        folders = (
            [] if own is None else [p.folder for parts in own.parts.values() for p in parts] + own.weights
        )
        spent = [self.store.manifest(folder)["provenance"] for folder in folders]
        return {
            "seconds": sum(s.get("seconds", 0.0) for s in spent),
            "peak_memory_mb": max((s.get("peak_memory_mb", 0.0) for s in spent), default=0.0),
        }
