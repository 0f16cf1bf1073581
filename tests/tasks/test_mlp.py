"""Perceptrons: the batched program against torch's own modules, one net at a time."""

import numpy as np
import pytest
import torch

from tasks.base import TaskError
from tasks.heads.mlp import Mlp, MlpConfig
from tasks.heads.nets import Nets

SMALL = MlpConfig(width=8, layers=4, dropout=0.0, rate=1e-2, batch=16)


def data(m=40, D=5, T=3, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(m, D)).astype(np.float32)
    y = np.tanh(x @ rng.normal(size=(D, T))).astype(np.float32)
    return x, y, rng.random((m, T)) > 0.2


def loop(x, y, seen, rows, decay, nets, steps, *, logistic):
    """One net by torch.nn and torch.optim, from the same weights and over the same batches."""
    layers = []
    for weight, bias in zip(nets.weights[::2], nets.weights[1::2], strict=True):
        layer = torch.nn.Linear(weight.shape[1], weight.shape[2])
        layer.weight.data, layer.bias.data = weight[0].detach().T.clone(), bias[0, 0].detach().clone()
        layers += [layer, torch.nn.ReLU() if logistic else torch.nn.Tanh()]
    model = torch.nn.Sequential(*layers[:-1])
    matrices = [p for p in model.parameters() if p.ndim == 2]
    biases = [p for p in model.parameters() if p.ndim == 1]
    adam = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": decay}, {"params": biases, "weight_decay": 0.0}], lr=SMALL.rate
    )
    other = Nets(x, y, seen, [(rows, decay)], SMALL, logistic)
    for _ in range(steps):
        own = other._batch(0)
        z, target, use = (
            model(torch.from_numpy(x[own])),
            torch.from_numpy(y[own]),
            torch.from_numpy(seen[own]),
        )
        lost = (
            torch.nn.functional.binary_cross_entropy_with_logits if logistic else torch.nn.functional.mse_loss
        )
        loss = lost(z[use], target[use])
        adam.zero_grad()
        loss.backward()
        adam.step()
    return model(torch.from_numpy(x)).detach().numpy()


@pytest.mark.parametrize("logistic", [False, True], ids=["squared", "log loss"])
def test_every_net_of_the_program_is_the_net_that_torch_trains_alone(logistic):
    x, y, seen = data()
    y = (y > 0).astype(np.float32) if logistic else y
    jobs = [(np.arange(30), 0.0), (np.arange(10, 40), 0.5), (np.arange(0, 40, 2), 0.1)]
    nets = Nets(x, y, seen, jobs, SMALL, logistic)
    expected = [loop(x, y, seen, rows, decay, nets, 12, logistic=logistic) for rows, decay in jobs]
    start = nets.predict(0, x)
    nets.train(12)
    for n, own in enumerate(expected):
        np.testing.assert_allclose(nets.predict(n, x), own, rtol=1e-3, atol=1e-4)
    assert np.abs(nets.predict(0, x) - start).max() > 0.01


def test_dropout_leaves_out_a_fifth_and_keeps_the_mean():
    x, y, seen = data()
    nets = Nets(x, y, seen, [(np.arange(40), 0.0)], MlpConfig(width=8), logistic=False)
    factors = nets._keep(torch.Size((300, 300)))
    assert set(np.unique(factors)) == {np.float32(0.0), np.float32(1.25)}
    assert abs(float((factors == 0).float().mean()) - 0.2) < 0.01
    h = torch.ones(1, 40, 5)
    assert not torch.equal(nets._forward(h, training=True), nets._forward(h, training=False))


def test_four_hidden_layers_of_the_named_width():
    x, y, seen = data()
    nets = Nets(x, y, seen, [(np.arange(40), 0.0)], MlpConfig(), logistic=False)
    assert [tuple(w.shape[1:]) for w in nets.weights[::2]] == [
        (5, 512),
        (512, 512),
        (512, 512),
        (512, 512),
        (512, 3),
    ]
    assert nets.tanh
    assert not Nets(x, y > 0, seen, [(np.arange(40), 0.0)], MlpConfig(), logistic=True).tanh


def test_a_nonlinear_readout_is_learned_and_the_number_of_steps_is_chosen():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(240, 3))
    Y = np.stack([X[:, 0] * X[:, 1], rng.normal(size=240)], axis=1)
    groups = np.array([f"g{i // 2}" for i in range(240)])
    config = MlpConfig(width=32, rate=5e-3, steps=300, check=50, dropout=0.0, decays=(0.0, 0.1))
    head = Mlp(config).fit(X, Y, np.ones(Y.shape, bool), groups)
    assert head.inner_loss_[0] < 0.5 * (Y[:, 0] ** 2).sum()
    assert 0 < head.chosen_["steps"][0] <= 300
    assert head.chosen_["steps"][0] % 50 == 0
    Z = rng.normal(size=(200, 3))
    assert np.corrcoef(head.predict(Z)[:, 0], Z[:, 0] * Z[:, 1])[0, 1] > 0.7


def test_settings_that_make_no_net_are_refused():
    with pytest.raises(TaskError, match="width"):
        MlpConfig(width=0)
    with pytest.raises(TaskError, match="dropout"):
        MlpConfig(dropout=1.0)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_nets_that_diverge_cost_what_the_mean_costs_and_never_look_free():
    x, y, seen = data()
    groups = np.array([f"g{i}" for i in range(len(x))])
    head = Mlp(MlpConfig(width=8, steps=4, check=2, activation="relu")).fit(x * 1e38, y, seen, groups)
    assert (head.chosen_["steps"] == 0).all()
    assert (head.inner_loss_ > 0).all()
    np.testing.assert_allclose(head.predict(x[:2]), np.tile(head.mean_, (2, 1)), rtol=1e-6)
