"""``bench predict``: a model's predictions for the wells of a dataset that needs images only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench import featurize
from bench.align import to_wells
from bench.datasets.identity import NEGATIVE
from bench.embed import Failure
from bench.entrants import Spec, known
from bench.errors import BenchError
from bench.execute import Executor
from bench.models import folder

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from bench.cli.ui import Ticker
    from bench.datasets import Dataset
    from bench.models.folder import Opened
    from bench.settings import Settings
    from bench.store import FeatureSet, Store

DOMAIN, FLAG = "domain_share", "out_of_domain"


@dataclass(frozen=True, eq=False)
class Predicted:
    """Predictions and what stands beside them.

    Parameters
    ----------
    wells
        One row per well (and condition, see :func:`_conditions`): its metadata, ``domain_share``,
        ``out_of_domain``, then one column per readout.
    readouts
        The evidence for the readouts given, in the order of the columns.
    withheld
        Readouts whose skill is not established, and that were therefore left out.
    failures
        What of the images could not be used.
    without_features, without_model
        Rows without a prediction: wells without features, and of a condition (``fit_by``) that the model was
        not fitted on.
    """

    wells: pd.DataFrame
    readouts: pd.DataFrame
    withheld: tuple[str, ...]
    failures: tuple[Failure, ...]
    without_features: int = 0
    without_model: int = 0


def predict(
    model: Path,
    dataset: Dataset,
    store: Store,
    settings: Settings,
    tick: Ticker,
    *,
    all_readouts: bool = False,
) -> Predicted:
    """Embed every well of the dataset as the run's entrant did, and predict.

    Raises
    ------
    BenchError
        When the folder is no sound model, no readout is established and ``all_readouts`` is not asked for,
        channels differ, or no well has features.
    """
    import pandas as pd

    from tasks import final

    opened = folder.read(model, lambda name: known(settings.plugins).get("heads", name))
    evidence = opened.readouts
    given = evidence if all_readouts else evidence[evidence["established"].astype(bool)]
    if given.empty:
        protocol = opened.saved.protocol
        unknown = protocol.get("settings", {}).get("variance") == "unmeasured"
        why = ", whose error rates are unknown" if unknown else ""
        raise BenchError(
            f"{model}: the skill of none of the {len(evidence)} readouts is established (run "
            f"{opened.saved.run}, protocol {protocol['name']}{why}); --all-readouts predicts them "
            "all the same"
        )
    known_as = dataset.wells.reset_index(drop=True)
    conditions = _conditions(opened, known_as, dataset.name)
    features, failures = _features(opened, dataset, store, settings, tick)
    X, control = to_wells(features.wells, features.X, known_as), _controls(known_as)
    found = [opened.model.predict(own, control, X) for own in conditions]
    wells = pd.concat(conditions, ignore_index=True)
    values, share = (np.concatenate(parts) for parts in zip(*found, strict=True))
    place = {name: i for i, name in enumerate(opened.model.readouts)}
    columns = values[:, [place[name] for name in given["readout"]]]
    about = wells[[c for c in wells.columns if c.startswith("Metadata_")]]
    domain = pd.DataFrame({DOMAIN: share, FLAG: share < final.LEVEL})
    clash = sorted(set(given["readout"]) & {*about.columns, DOMAIN, FLAG})
    if clash:
        raise BenchError(
            f"{model}: readout {clash[0]!r} has the name of a column of the wells; rename that column"
        )
    frame = pd.concat([about, domain, pd.DataFrame(columns, columns=list(given["readout"]))], axis=1)
    absent = np.tile(~np.isfinite(X).any(axis=1), len(conditions))
    withheld = tuple(evidence.loc[~evidence["readout"].isin(given["readout"]), "readout"])
    return Predicted(
        frame,
        given.reset_index(drop=True),
        withheld,
        tuple(failures),
        without_features=int(absent.sum()),
        without_model=int((np.isnan(share) & ~absent).sum()),
    )


def _conditions(opened: Opened, wells: pd.DataFrame, name: str) -> list[pd.DataFrame]:
    """Return the wells once, or once per condition where the condition stands in the readouts only.

    A model that was fitted apart by the values of a column (``fit_by``), such as a stimulus that the images
    do not know, has a prediction of every well under each of them; the column says which.
    """
    lacking = [column for column in opened.model.fit_by if column not in wells.columns]
    if not lacking:
        return [wells]
    if len(opened.model.fit_by) > 1:
        raise BenchError(
            f"dataset {name!r}: the model was fitted apart by {', '.join(opened.model.fit_by)}, and its "
            f"wells have no column {lacking[0]}; add it to the wells table"
        )
    values = [stratum.removeprefix(f"{lacking[0]}=") for stratum in opened.model.strata]
    return [wells.assign(**{lacking[0]: value}) for value in values]


def _controls(wells: pd.DataFrame) -> NDArray[np.bool_]:
    """Return which wells are negative controls, by their ``Metadata_pert_type``."""
    if "Metadata_pert_type" not in wells.columns:
        return np.zeros(len(wells), bool)
    return (wells["Metadata_pert_type"] == NEGATIVE).to_numpy(bool)


def _features(
    opened: Opened, dataset: Dataset, store: Store, settings: Settings, tick: Ticker
) -> tuple[FeatureSet, list[Failure]]:
    """Return the dataset's features, computed where the store lacks them."""
    from bench.store import read_parts

    saved = opened.saved
    if saved.channels and [c.name for c in dataset.channels] != saved.channels:
        raise BenchError(
            f"dataset {dataset.name!r} has the channels {', '.join(c.name for c in dataset.channels)}, the "
            f"model was fitted on {', '.join(saved.channels)}"
        )
    if saved.spec is None:
        return _profiles(saved.entrant, dataset, store), []
    spec = Spec(
        saved.spec["name"],
        saved.spec["preset"],
        tuple((name, value) for name, value in saved.spec["overrides"]),
        settings.plugins,
        saved.spec["aggregate"],
    )
    job = featurize.job_of(spec, dataset, saved.weights, opened.weights, saved.fold, settings.device)
    with Executor(settings.processes) as executor:
        result = featurize.ensure(store, dataset, [job], executor, tick)[job.work.key]
    if not result.parts:
        reason = result.failures[0].reason if result.failures else "its wells have no field"
        raise BenchError(f"dataset {dataset.name!r}: no plate has features ({reason})")
    return read_parts(store, [result.parts[plate] for plate in sorted(result.parts)]), result.failures


def _profiles(name: str, dataset: Dataset, store: Store) -> FeatureSet:
    """Return the table of ready-made profiles of the model's name."""
    from bench.datasets.importing import store_profiles
    from bench.store import read_parts

    table = next((t for t in dataset.features if t.name == name), None)
    if table is None:
        raise BenchError(
            f"dataset {dataset.name!r} has no table of profiles {name!r}, on which the model was fitted; "
            "name it so in [features] of its dataset.toml"
        )
    parts = store_profiles(store, dataset, table).parts
    return read_parts(store, [parts[plate] for plate in sorted(parts)])
