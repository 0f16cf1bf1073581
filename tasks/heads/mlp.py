"""Multilayer perceptrons of all readouts at once; every inner fold and grid member trains in one batched
program.

Four hidden layers, dropout 0.2, Adam at 1e-4; masked squared error with tanh for abundances, masked log loss
with ReLU for calls (the Cell Painting proteomics poster). The poster does not give the width, the batch or
the stopping rule: 512 (named ``width``), 64 and the rule below are our reading. For rows i of a batch and
observed readouts O,

    minimise over the weights:  Σ_{(i, t) ∈ O} L(y_it, f_t(x_i)) / |O|

with readouts standardised on the training rows under the squared error. The N nets (inner folds × weight
decays) have their weights stacked, so that one step of all is four products of (N, batch, in) by (N, in, out)
and their gradients. All start from the same weights and see rows in an order of their own.

*Early stopping.* Every ``check`` steps each net is scored on the validation rows of its inner fold. The
weight decay and the number of steps with the smallest loss, summed over inner folds and averaged over
readouts relative to the mean's, are taken and one net is trained for as many steps on all rows. Training ends
when no weight decay has improved for ``patience`` checks. A readout whose inner loss there is no smaller than
the mean's is predicted its mean, as with every other head. Readouts share the net, so that nothing else is
chosen for them one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tasks.base import Head, TaskError
from tasks.folds import assign
from tasks.heads.logit import log_loss
from tasks.heads.mean import observed_mean
from tasks.heads.menu import Loss, finite, resolve_loss, squared_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.protocol import Protocol

Activation = Literal["auto", "tanh", "relu"]


@dataclass(frozen=True)
class MlpConfig:
    """Settings of :class:`Mlp`.

    Parameters
    ----------
    width, layers
        Units of a hidden layer (our reading) and hidden layers.
    dropout, rate
        Share of hidden units left out in training; Adam's learning rate.
    activation
        ``auto`` is tanh under the squared error and ReLU under the log loss.
    loss
        ``squared``, ``logistic``, or ``auto``: logistic where every observed value is 0 or 1.
    decays
        Menu of weight decays (AdamW's, decoupled); the poster has none, and each costs a net per inner fold.
    batch, steps, check, patience
        Rows per step; most steps; steps between two looks at the validation rows; looks without improvement
        after which training ends.
    inner_folds, seed
        Inner folds; what seeds them, the weights, the order of rows and the dropout.
    """

    width: int = 512
    layers: int = 4
    dropout: float = 0.2
    rate: float = 1e-4
    activation: Activation = "auto"
    loss: Loss = "auto"
    decays: tuple[float, ...] = (0.0,)
    batch: int = 64
    steps: int = 2000
    check: int = 50
    patience: int = 6
    inner_folds: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"width": 1, "layers": 1, "batch": 1, "steps": 1, "check": 1, "patience": 1}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise TaskError(f"mlp: {name} must be at least {value}, not {getattr(self, name)}")
        if not 0.0 <= self.dropout < 1.0 or not self.decays:
            raise TaskError("mlp: dropout must lie in [0, 1) and decays must name at least one weight decay")


class Mlp(Head):
    """Four hidden layers for all readouts; weight decay and steps by the loss on grouped inner validation
    rows.

    Deterministic by its seed, on one number of threads. A readout without an observed row is predicted NaN.

    Attributes
    ----------
    chosen_
        ``decay`` and ``steps``: (T,), the same for every readout with the net; infinite decay and 0 steps
        where the mean is predicted.
    inner_loss_
        (T,) inner loss of that choice, NaN where no inner fold could be scored.
    """

    name = "mlp"
    version = "2"
    saved = ("mean_", "weights_", "tanh_", "logistic_", "_live", "_kept", "_shift", "_scale")
    first_repeat_only = True
    cost = (
        "trains one net per inner fold for up to 2,000 steps and one on all rows, per normalisation and "
        "outer fold of the first repeat: minutes per fold on a CPU"
    )

    def __init__(self, config: MlpConfig | None = None) -> None:
        self.config = MlpConfig() if config is None else config

    @classmethod
    def for_protocol(cls, protocol: Protocol) -> Mlp:
        """Return the head with the protocol's inner folds and its own menu."""
        return cls(MlpConfig(inner_folds=protocol.inner_folds, seed=protocol.seed))

    def fit(
        self,
        X: NDArray[np.floating[Any]],
        Y: NDArray[np.floating[Any]],
        mask: NDArray[np.bool_],
        groups: NDArray[np.str_],
    ) -> Mlp:
        """Choose weight decay and steps in the inner folds and train one net on all rows."""
        from tasks.heads.nets import Nets

        finite(X, self.name)
        config, T = self.config, Y.shape[1]
        self.logistic_ = resolve_loss(config.loss, Y, mask)
        self.mean_ = observed_mean(Y, mask)
        spread = np.sqrt(observed_mean(np.where(mask, Y - np.nan_to_num(self.mean_), 0.0) ** 2, mask))
        live = (spread > 0) & np.isfinite(spread)  # constant and unobserved readouts get their mean
        self.inner_loss_ = np.full(T, np.nan)
        self.chosen_ = {"decay": np.full(T, np.inf), "steps": np.zeros(T)}
        self._live = np.flatnonzero(live)
        self.weights_: dict[str, NDArray[np.float32]] = {}
        self.tanh_, self._kept = False, np.zeros(T, bool)
        self._shift, self._scale = np.zeros(live.sum()), np.ones(live.sum())
        fold = assign(groups, config.inner_folds, config.seed)
        present = np.unique(fold)
        if not live.any() or len(present) < 2:
            return self
        if not self.logistic_:
            self._shift, self._scale = self.mean_[live], spread[live]
        seen = mask[:, live]
        target = ((np.where(seen, Y[:, live], 0.0) - self._shift) / self._scale).astype(np.float32)
        x = np.asarray(X, np.float32)
        jobs = [(np.flatnonzero(fold != k), decay) for k in present for decay in config.decays]
        nets = Nets(x, target, seen, jobs, config, self.logistic_, self.device)
        best, floor = np.inf, self._floor(target, seen, fold)
        waited, choice, own = 0, (0, 0), floor[0]
        while nets.done < config.steps and waited < config.patience:
            nets.train(min(config.check, config.steps - nets.done))
            losses = self._losses(nets, x, target, seen, fold)  # (decays, live)
            usable = (floor[0] > 0) & floor[1]
            share = (
                (losses[:, usable] / floor[0][usable]).mean(axis=1) if usable.any() else np.full(1, np.inf)
            )
            waited += 1
            if share.min() < best:
                best, waited, choice = share.min(), 0, (int(share.argmin()), nets.done)
                own = losses[choice[0]]
        if not choice[1]:  # no loss was finite: the mean is predicted, and its loss is what that costs
            self.inner_loss_[live] = np.where(floor[1], floor[0] * self._scale**2, np.nan)
            return self
        loss, counted = np.where(own < floor[0], own, floor[0]), floor[1]
        self.inner_loss_[live] = np.where(counted, loss * self._scale**2, np.nan)
        self._kept[self._live] = counted & (own < floor[0])
        self.chosen_["decay"][self._kept] = config.decays[choice[0]]
        self.chosen_["steps"][self._kept] = choice[1]
        if self._kept.any():
            everything = np.arange(len(x))
            final = Nets(
                x, target, seen, [(everything, config.decays[choice[0]])], config, self.logistic_, self.device
            )
            final.train(choice[1])
            self.weights_, self.tanh_ = final.take(0), final.tanh
        return self

    def predict(self, X: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Return (k, T) float32 predictions for X (k, D); under the log loss chances of a 1."""
        from scipy.special import expit

        out = np.tile(self.mean_.astype(np.float32), (len(X), 1))
        if self.weights_:
            h = np.asarray(X, np.float32)
            for layer in range(0, len(self.weights_), 2):
                h = h @ self.weights_[str(layer)] + self.weights_[str(layer + 1)]
                if layer + 2 < len(self.weights_):
                    h = np.tanh(h) if self.tanh_ else np.maximum(h, 0.0)
            z = h * self._scale + self._shift
            kept = self._kept[self._live]
            out[:, self._live[kept]] = (expit(z) if self.logistic_ else z)[:, kept]
        return out

    def _floor(
        self, target: NDArray[np.float32], seen: NDArray[np.bool_], fold: NDArray[np.int16]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Loss of the training mean summed over inner folds, and the readouts that had one to score."""
        loss, counted = np.zeros(target.shape[1]), np.zeros(target.shape[1], bool)
        for k in np.unique(fold):
            valid = fold == k
            usable = self._usable(seen, valid)
            mean = observed_mean(target[~valid], seen[~valid])
            if self.logistic_:
                mean = mean.clip(1e-6, 1.0 - 1e-6)
                mean = np.log(mean) - np.log1p(-mean)
            loss += np.where(usable, self._loss(np.nan_to_num(mean)[None], target[valid], seen[valid]), 0.0)
            counted |= usable
        return loss, counted

    def _losses(
        self,
        nets: Any,
        x: NDArray[np.float32],
        target: NDArray[np.float32],
        seen: NDArray[np.bool_],
        fold: NDArray[np.int16],
    ) -> NDArray[np.float64]:
        """Losses (decays, t) of the nets as they are, summed over the inner folds."""
        decays = len(self.config.decays)
        total = np.zeros((decays, target.shape[1]))
        for i, k in enumerate(np.unique(fold)):
            valid = fold == k
            usable = self._usable(seen, valid)
            for j in range(decays):
                z = nets.predict(i * decays + j, x[valid])
                total[j] += np.where(usable, self._loss(z, target[valid], seen[valid]), 0.0)
        return total

    @staticmethod
    def _usable(seen: NDArray[np.bool_], valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return np.asarray(seen[valid].any(axis=0) & seen[~valid].any(axis=0))

    def _loss(
        self, z: NDArray[np.floating[Any]], y: NDArray[np.float32], seen: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        z64 = np.broadcast_to(np.asarray(z, np.float64), y.shape)
        loss = log_loss(z64, y, seen) if self.logistic_ else squared_error(y, z64, seen)
        # What a diverged net does not predict would not count, and so look free.
        return np.asarray(np.where(np.isfinite(z64).all(axis=0), loss, np.inf))
