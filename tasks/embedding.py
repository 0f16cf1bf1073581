"""Tasks that score features as they are: no head, nothing fitted to labels.

What stands in place of predictions is the embedding: units (n, D) after one fixed normalisation, from which
every score is computed again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tasks import normalise
from tasks.base import Block, FoldId, FoldResult, Task, TaskData, TaskError
from tasks.evaluate import to_units
from tasks.folds import split
from tasks.protocol import Protocol, load

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from tasks.base import FeatureSupplier

DEFAULT = "nested-cv"
OWN = "retrieval"


class EmbeddingTask(Task):
    """A task without a head, under a protocol with one normalisation.

    Nothing is tuned, because whatever were tuned would be tuned on the labels that are scored.
    """

    needs_head = False
    floor = "none"
    floor_label = "chance"
    default_head = "none"

    def rules(self, protocol: Protocol) -> Protocol:
        """Return the protocol ``retrieval`` in place of the default one, and any other as it is.

        Raises
        ------
        TaskError
            When the protocol leaves a choice of normalisations.
        """
        if protocol == load(DEFAULT):
            return load(OWN)
        if len(protocol.normalisation) != 1:
            raise TaskError(
                f"task {self.name!r} tunes nothing, and protocol {protocol.name!r} lists "
                f"{len(protocol.normalisation)} normalisations to choose from: use --protocol {OWN}, or a "
                "file with one"
            )
        return protocol


def embed_fold(
    data: TaskData,
    features: FeatureSupplier,
    protocol: Protocol,
    folds: pd.DataFrame,
    id: FoldId,  # noqa: A002 the contract's word
) -> FoldResult:
    """Return the normalised embedding of the units that are tested in one outer fold.

    Wells are normalised as the protocol says (``plate-…`` and ``tvn`` on negative controls; ``fold``: every
    feature standardised over the tested units, without their labels; ``none``: as they are) and averaged into
    units. A unit without features has a NaN row; a missing feature is put at 0 after the normalisation. The
    floor of the result is a constant, because an embedding that says nothing is the floor of every such task.

    Raises
    ------
    TaskError
        When the plates lack the controls that the normalisation needs, or the features are wrong.
    """
    given = features(id)
    blocks = [Block("image", np.asarray(given))] if isinstance(given, np.ndarray) else list(given)
    rows = split(folds, id.repeat, id.fold)[0]
    name = protocol.normalisation[0]
    parts = [_units(data, block, name, rows, protocol) for block in blocks]
    absent = np.any([np.isnan(own).all(axis=1) for own in parts], axis=0)
    joined = normalise.balanced([np.nan_to_num(own) for own in parts], np.flatnonzero(~absent))
    joined[absent] = np.nan
    floor = np.zeros((len(rows), 1), np.float32)
    return FoldResult(id, rows, joined.astype(np.float32), floor, {"normalisation": name})


def _units(
    data: TaskData, block: Block, name: str, rows: NDArray[np.int64], protocol: Protocol
) -> NDArray[np.float64]:
    """Tested units of one block, normalised."""
    X = np.asarray(block.X)
    if X.ndim != 2 or len(X) != len(data.wells) or X.shape[1] == 0:
        raise TaskError(
            f"features have shape {X.shape}; {len(data.wells)} rows, one per well, and at least one column "
            "are needed"
        )
    if np.isinf(X).any():
        row, column = np.argwhere(np.isinf(X))[0]
        raise TaskError(f"feature {column} of well row {row} is infinite ({int(np.isinf(X).sum())} in all)")
    if name in ("fold", "none"):
        own = to_units(data, X)[rows]
        return own if name == "none" else normalise.standardise(own, np.arange(len(rows)))
    layout = normalise.plates(data.wells, data.well_control, X)
    if isinstance(layout, str):
        raise TaskError(
            f"protocol {protocol.name!r} normalises to negative controls, and {layout}; a protocol file with "
            'normalisation = ["fold"] does without'
        )
    return to_units(data, normalise.apply(name, X, layout))[rows]
