"""N perceptrons of one shape trained as one batched program: their weights stacked, a step of all at a
time.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.heads.mlp import MlpConfig


class Nets:
    """N perceptrons, each with training rows and a weight decay of its own.

    Parameters
    ----------
    x
        (m, D) float32 features.
    target, seen
        (m, T) float32 readouts and which of them are observed.
    jobs
        N pairs of training rows and weight decay.
    config
        Widths, dropout, rate, batch and seed.
    logistic
        Log loss instead of squared error.
    device
        Where, for torch.

    Notes
    -----
    Net n's weight matrices are (D, width), (width, width) …, (width, T); all start from the same draw,
    uniform in ±1/√in like torch's. Adam (Kingma & Ba 2015, eqs. of algorithm 1) with decoupled weight decay
    (Loshchilov & Hutter 2019); matrices decay, biases do not. Everything random comes from generators seeded
    by the config and the net's place, drawn on the CPU, so that a net alone and the same net among others see
    the same numbers.
    """

    def __init__(
        self,
        x: NDArray[np.float32],
        target: NDArray[np.float32],
        seen: NDArray[np.bool_],
        jobs: list[tuple[NDArray[np.int64], float]],
        config: MlpConfig,
        logistic: bool,  # noqa: FBT001
        device: str = "cpu",
    ) -> None:
        self.config, self.logistic, self.device, self.done = config, logistic, device, 0
        self.tanh = config.activation == "tanh" or (config.activation == "auto" and not logistic)
        self.rows = [rows for rows, _ in jobs]
        self._order = [np.empty(0, np.int64) for _ in jobs]
        self._rng = [np.random.default_rng([config.seed, 1]) for _ in jobs]
        self._noise = torch.Generator().manual_seed(config.seed)
        self.x, self.y = self._put(x), self._put(target)
        self.seen = self._put(seen.astype(np.float32))
        sizes = [x.shape[1], *[config.width] * config.layers, target.shape[1]]
        draw = torch.Generator().manual_seed(config.seed)
        self.weights: list[torch.Tensor] = []
        for fan_in, fan_out in itertools.pairwise(sizes):
            for shape in ((fan_in, fan_out), (1, fan_out)):
                one = (torch.rand(shape, generator=draw) * 2.0 - 1.0) / np.sqrt(fan_in)
                self.weights.append(one.expand(len(jobs), *shape).contiguous().to(device).requires_grad_())
        # One pass over weights, gradients and both moments in place of nine: they outweigh a small batch.
        self._adam = torch.optim.Adam(self.weights, lr=config.rate, fused=True)
        self.decay = torch.tensor([d for _, d in jobs], dtype=torch.float32, device=device)[:, None, None]
        self._decays = any(d for _, d in jobs)

    def train(self, steps: int) -> None:
        """Take that many steps with every net."""
        for _ in range(steps):
            rows = torch.from_numpy(np.stack([self._batch(n) for n in range(len(self.rows))])).to(self.device)
            z = self._forward(self.x[rows], training=True)  # (N, batch, T)
            y, seen = self.y[rows], self.seen[rows]
            if self.logistic:
                terms = functional.binary_cross_entropy_with_logits(z, y, reduction="none")
            else:
                terms = (z - y) ** 2
            # Each net's own mean: the sum leaves their gradients apart.
            loss = ((terms * seen).sum(dim=(1, 2)) / seen.sum(dim=(1, 2)).clamp(min=1.0)).sum()
            self._step(torch.autograd.grad(loss, self.weights))

    def predict(self, net: int, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return (k, T) outputs of one net for x (k, D), without dropout."""
        with torch.no_grad():
            h = self._put(x)
            for layer in range(0, len(self.weights), 2):
                h = h @ self.weights[layer][net] + self.weights[layer + 1][net]
                if layer + 2 < len(self.weights):
                    h = self._activate(h)
        return np.asarray(h.cpu().numpy(), np.float64)

    def take(self, net: int) -> dict[str, NDArray[np.float32]]:
        """Return one net's matrices (in, out) and biases (1, out) by their place, in the order of the
        layers.
        """
        return {str(i): w[net].detach().cpu().numpy().copy() for i, w in enumerate(self.weights)}

    def _forward(self, h: torch.Tensor, *, training: bool) -> torch.Tensor:
        for layer in range(0, len(self.weights), 2):
            h = torch.baddbmm(self.weights[layer + 1], h, self.weights[layer])  # (N, batch, out)
            if layer + 2 < len(self.weights):
                h = self._activate(h)
                if training and self.config.dropout:
                    h = h * self._keep(h.shape[1:])
        return h

    def _activate(self, h: torch.Tensor) -> torch.Tensor:
        return torch.tanh(h) if self.tanh else torch.relu(h)

    def _keep(self, shape: torch.Size) -> torch.Tensor:
        """Dropout factors 0 or 1 / (1 − p), the same for every net."""
        keep = 1.0 - self.config.dropout
        drawn = torch.rand(shape, generator=self._noise) < keep
        return (drawn.to(torch.float32) / keep).to(self.device)

    def _batch(self, net: int) -> NDArray[np.int64]:
        """The next rows of a net: every row once before any comes again."""
        while len(self._order[net]) < self.config.batch:
            self._order[net] = np.concatenate(
                [self._order[net], self._rng[net].permutation(len(self.rows[net]))]
            )
        taken, self._order[net] = np.split(self._order[net], [self.config.batch])
        return self.rows[net][taken]

    def _step(self, gradients: tuple[torch.Tensor, ...]) -> None:
        self.done += 1
        with torch.no_grad():
            for i, (w, g) in enumerate(zip(self.weights, gradients, strict=True)):
                w.grad = g
                if i % 2 == 0 and self._decays:
                    w.mul_(1.0 - self.config.rate * self.decay)
        self._adam.step()

    def _put(self, array: NDArray[np.float32]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)
