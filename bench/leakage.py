"""The audit of problems and features before any fit: what of a dataset it is given to look at."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

from bench import featurize, inputs, runs

if TYPE_CHECKING:
    import pandas as pd

    from bench.datasets import Dataset
    from bench.entrants import Entrant
    from bench.problem import Problem
    from bench.store import Store
    from bench.supply import Features
    from tasks.protocol import Protocol


class Audit:
    """The audits of one session, which looks once at which images belong to a problem's wells."""

    def __init__(self, dataset: Dataset, store: Store) -> None:
        self.dataset = dataset
        self.store = store

    def findings(
        self, protocol: Protocol, problem: Problem, entrant: Entrant, own: Features
    ) -> list[dict[str, Any]]:
        """Return the findings on an entrant and a problem, each as plain values.

        ``about`` is the entrant's label where it concerns its features, else empty. The features of controls
        are not looked into: that plate positions give the position away is no news.

        Raises
        ------
        LeakageError
            For a refusal, which stops the session, because every other number would share it.
        """
        from tasks.audit import audit

        look = functools.partial(
            audit,
            problem.data,
            protocol,
            problem.folds,
            fit_scope=entrant.fit_scope,
            supplier="per-fold" if own.fits or (own.parts and None not in own.parts) else "one-matrix",
            images=self._images(problem),
        )
        shared = look()
        findings = [dataclasses.asdict(f) | {"about": ""} for f in shared]
        # blocks beside each other are looked at apart, and a predictor has no features
        if entrant.role == "entrant" and entrant.inputs != inputs.BOTH and own.fits is None:
            if own.parts:
                X = runs.aligned(str(self.store.root), next(iter(own.parts.values())), problem.data)
            else:
                X = inputs.aligned(self.store, own.omics, problem.data.wells)
            findings += [
                dataclasses.asdict(f) | {"about": entrant.label} for f in look(X=X) if f not in shared
            ]
        return findings

    @functools.cache  # noqa: B019  # it lives as long as its command
    def _images(self, problem: Problem) -> pd.DataFrame | None:
        """Return which image contents belong to which well of the problem; None without images."""
        import pandas as pd

        if self.dataset.images is None:
            return None
        wells = problem.data.wells
        place = {
            key: i for i, key in enumerate(zip(wells["Metadata_Plate"], wells["Metadata_Well"], strict=True))
        }
        seen = []
        with featurize.content_hashes(self.store) as content_hash:
            for plate in featurize.plates(self.dataset):
                content = featurize.plate_content(self.dataset, plate, ("pixels",), content_hash)
                seen += [
                    (place[plate, image["well"]], image["sha256"] + image.get("region", ""))
                    for image in content["images"]
                    if (plate, image["well"]) in place and image["sha256"] != featurize.UNREADABLE
                ]
        return pd.DataFrame(seen, columns=["well", "digest"])
