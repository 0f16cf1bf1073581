"""Gradient-boosted trees, one model per readout: a reference from another family, and dear.

LightGBM (Ke et al., LightGBM: A highly efficient gradient boosting decision tree, NeurIPS 2017) with fixed
settings: nothing is chosen, because each candidate would cost as much again. The inner folds are fitted all
the same, for the loss by which the normalisation is chosen, and so that a readout that is predicted no better
than by its mean gets its mean, as with every other head.

There is no product of matrices to share: N readouts cost N times the work of one, (inner folds + 1) models
for each normalisation and outer fold. So by default only the first repeat is run, and no more than ``panel``
readouts: evenly spaced in the order in which they are given, whatever their values. The others are predicted
NaN, which lowers the run's coverage, and the board does not rank it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.base import Head
from tasks.folds import assign
from tasks.heads.mean import observed_mean
from tasks.heads.menu import Loss, finite, resolve_loss

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.protocol import Protocol


@dataclass(frozen=True)
class LightgbmConfig:
    """Settings of :class:`Lightgbm`.

    Parameters
    ----------
    trees, rate, leaves, least
        Trees of a model, their weight, most leaves of one, and fewest rows of a leaf.
    features
        Share of the features that a tree may use.
    panel
        Most readouts that are fitted.
    loss
        ``squared``, ``logistic``, or ``auto``: logistic where every observed value is 0 or 1.
    inner_folds, seed
        Inner folds; what seeds them and the choice of features.
    """

    trees: int = 100
    rate: float = 0.05
    leaves: int = 15
    least: int = 10
    features: float = 0.3
    panel: int = 25
    loss: Loss = "auto"
    inner_folds: int = 4
    seed: int = 0


class Lightgbm(Head):
    """Boosted trees with fixed settings; the mean instead where the inner folds show no gain over it.

    Attributes
    ----------
    chosen_
        ``trees``: (T,) trees of the model, 0 for the mean, NaN for a readout outside the panel.
    inner_loss_
        (T,) squared error or log loss over inner validation rows; NaN outside the panel.
    models_
        Readout's place to LightGBM's text of its model.
    """

    name = "lightgbm"
    version = "1"
    saved = ("mean_", "panel_", "models_")
    first_repeat_only = True
    cost = (
        "fits one model per readout, at most 25 readouts evenly spaced in order, (inner folds + 1) times "
        "per normalisation and outer fold of the first repeat: about a second per model at 1,000 rows × 500 "
        "features"
    )

    def __init__(self, config: LightgbmConfig | None = None) -> None:
        self.config = LightgbmConfig() if config is None else config

    @classmethod
    def for_protocol(cls, protocol: Protocol) -> Lightgbm:
        """Return the head with the protocol's inner folds and its own settings."""
        return cls(LightgbmConfig(inner_folds=protocol.inner_folds, seed=protocol.seed))

    def fit(
        self,
        X: NDArray[np.floating[Any]],
        Y: NDArray[np.floating[Any]],
        mask: NDArray[np.bool_],
        groups: NDArray[np.str_],
    ) -> Lightgbm:
        """Fit every readout of the panel."""
        finite(X, self.name)
        T = Y.shape[1]
        self.logistic_ = resolve_loss(self.config.loss, Y, mask)
        self.mean_ = observed_mean(Y, mask)
        self.inner_loss_ = np.full(T, np.nan)
        self.panel_ = panel(T, self.config.panel)
        trees = np.full(T, np.nan)
        trees[self.panel_] = 0.0
        self.models_: dict[int, str] = {}
        fold = assign(groups, self.config.inner_folds, self.config.seed)
        for t in self.panel_:
            rows = mask[:, t]
            y, own = Y[rows, t].astype(np.float64), fold[rows]
            if not rows.any() or (y == y[0]).all():
                continue
            x = np.asarray(X[rows], np.float32)
            loss, floor = self._inner(x, y, own)
            self.inner_loss_[t] = min(loss, floor)
            if loss < floor:
                self.models_[int(t)] = self._train(x, y)
                trees[t] = self.config.trees
        self.chosen_ = {"trees": trees}
        return self

    def predict(self, X: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Return (k, T) float32 predictions for X (k, D); NaN outside the panel."""
        out = np.full((len(X), len(self.mean_)), np.nan, np.float32)
        out[:, self.panel_] = self.mean_[self.panel_]
        for t, model in self.models_.items():
            out[:, t] = predict(model, np.asarray(X, np.float32))
        return out

    def restored(self) -> None:
        """Read the models' places as numbers again."""
        self.models_ = {int(t): model for t, model in self.models_.items()}

    def _inner(
        self, x: NDArray[np.float32], y: NDArray[np.float64], fold: NDArray[np.int16]
    ) -> tuple[float, float]:
        """Losses of the trees and of the mean over the inner folds that have something to learn from; NaN if
        none.
        """
        losses = []
        for k in np.unique(fold):
            train, valid = fold != k, fold == k
            if train.any() and not (y[train] == y[train][0]).all():
                p = predict(self._train(x[train], y[train]), x[valid])
                mean = np.full(valid.sum(), y[train].mean())
                losses.append((self._loss(y[valid], p), self._loss(y[valid], mean)))
        if not losses:
            return np.nan, np.nan
        return float(sum(own for own, _ in losses)), float(sum(floor for _, floor in losses))

    def _loss(self, y: NDArray[np.float64], p: NDArray[np.float64]) -> float:
        if not self.logistic_:
            return float(((y - p) ** 2).sum())
        p = p.clip(1e-12, 1.0 - 1e-12)
        return float(-(y * np.log(p) + (1.0 - y) * np.log1p(-p)).sum())

    def _train(self, x: NDArray[np.float32], y: NDArray[np.float64]) -> str:
        import lightgbm

        config = self.config
        settings = {
            "objective": "binary" if self.logistic_ else "regression",
            "learning_rate": config.rate,
            "num_leaves": config.leaves,
            "min_data_in_leaf": config.least,
            "feature_fraction": config.features,
            "seed": config.seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": 1,
            "verbosity": -1,
        }
        booster = lightgbm.train(settings, lightgbm.Dataset(x, y), num_boost_round=config.trees)
        text: str = booster.model_to_string()
        return text


def panel(readouts: int, size: int) -> NDArray[np.int64]:
    """Return at most ``size`` places out of ``readouts``, evenly spaced from the first to the last."""
    return np.unique(np.linspace(0, readouts - 1, min(size, readouts)).round().astype(np.int64))


def predict(model: str, x: NDArray[np.float32]) -> NDArray[np.float64]:
    """Predict by LightGBM's text of a model."""
    import lightgbm

    values: NDArray[np.float64] = lightgbm.Booster(model_str=model).predict(x, num_threads=1)
    return values
