"""Neural Stain Learning: eleven parameters, the collapse to least squares, gradients, planted stains."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from featurizers.base import Channel, FeaturizerError, Field, FitContext
from featurizers.stain import Stain, StainConfig
from featurizers.stain.model import StainRegressors, losses, optical_density, sampled, stains
from featurizers.stain.train import densities
from featurizers.synthetic import FieldList
from featurizers.training.targets import Targets

RGB = tuple(Channel(name, "H&E") for name in "RGB")
READINGS = [
    StainConfig(learn=learn, nonlinearity=bend, readout=readout)
    for learn in ("stain", "deconvolution")
    for bend in ("identity", "relu", "softplus", "tanh")
    for readout in ("two-stains", "one-stain")
]


def slide(concentrations, seed=0, size=12):
    """H&E fields whose mean concentrations (n, 3) are given, as 16-bit pixels."""
    rng = np.random.default_rng(seed)
    fields = []
    for k, mean in enumerate(concentrations):
        own = np.maximum(mean + 0.2 * rng.normal(size=(size, size, 3)), 0)
        levels = np.exp(-(own @ stains().double().numpy()))
        pixels = np.round(levels.transpose(2, 0, 1) * 65535).astype(np.uint16)
        fields.append(Field({"Metadata_Well": str(k)}, RGB, pixels))
    return FieldList(fields)


@pytest.fixture(scope="module")
def spots():
    """60 spots and two genes: haematoxylin, and noise."""
    rng = np.random.default_rng(1)
    amounts = np.abs(rng.normal([0.6, 0.6, 0.1], [0.3, 0.3, 0.05], (60, 3)))
    fields = slide(amounts)
    genes = np.stack([amounts[:, 0], rng.normal(size=60)], axis=1).astype(np.float32)
    return fields, genes


def fitted(config, fields, genes, folder, seed=0):
    folder.mkdir(exist_ok=True)
    model = Stain(config)
    model.fit(fields, np.arange(len(genes)), genes, None, FitContext(folder, seed=seed))
    return model


@pytest.mark.parametrize("config", READINGS)
def test_eleven_parameters_per_gene(config):
    network = StainRegressors(config, 7)
    assert sum(p.numel() for p in network.parameters()) == 7 * 11


@pytest.mark.parametrize("config", READINGS)
def test_the_forward_pass_is_that_of_a_loop_over_genes_and_pixels(config):
    torch.manual_seed(0)
    network = StainRegressors(config, 3)
    with torch.no_grad():
        network.matrix += 0.1 * torch.randn(3, 3, 3)
        network.readout += torch.randn(3, 2)
    density, unit = torch.rand(4, 5, 3), torch.tensor([0, 1, 1, 0])
    bend = {"identity": lambda c: c, "relu": torch.relu, "tanh": torch.tanh}.get(
        config.nonlinearity, torch.nn.functional.softplus
    )
    found = network(density, unit, 2)
    for gene in range(3):
        matrix = network.matrix[gene]
        unmix = torch.linalg.inv(matrix) if config.learn == "stain" else matrix
        for u in range(2):
            own = [density[f] for f in range(4) if unit[f] == u]
            h = sum(sum(bend(pixel @ unmix) for pixel in field) / len(field) for field in own) / len(own)
            w = network.readout[gene]
            y = w[0] * h[0] + (w[1] * h[1] if config.readout == "two-stains" else w[1])
            torch.testing.assert_close(found[u, gene], y, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("config", READINGS)
def test_gradients_of_matrix_and_readout_are_those_of_finite_differences(config):
    torch.manual_seed(1)
    network = StainRegressors(config, 2).double()
    with torch.no_grad():
        network.readout += torch.randn(2, 2)
    density, unit = torch.rand(3, 4, 3, dtype=torch.float64), torch.tensor([0, 0, 1])
    target = torch.randn(2, 2, dtype=torch.float64)

    def loss(matrix, readout):
        given = {"matrix": matrix, "readout": readout}
        made = torch.func.functional_call(network, given, (density, unit, 2))
        return losses(made, target, torch.ones(2, 2, dtype=torch.bool), config).sum()

    inputs = [p.detach().clone().requires_grad_() for p in (network.matrix, network.readout)]
    assert torch.autograd.gradcheck(loss, inputs)


@pytest.mark.parametrize("readout", ["two-stains", "one-stain"])
def test_without_a_bend_the_best_model_is_least_squares_on_mean_optical_density(spots, readout):
    """Whatever the 11 numbers, the model is linear in the mean density; least squares is one such model."""
    fields, genes = spots
    config = StainConfig(nonlinearity="identity", readout=readout, learn="deconvolution", pixels=0)
    density = densities(fields, config, lambda _: None)
    mean, unit = density.mean(axis=1).astype(np.float64), torch.arange(60)
    X = mean if readout == "two-stains" else np.c_[mean, np.ones(60)]  # only one-stain has an intercept
    scaled = Targets.of(genes)
    slopes = np.linalg.lstsq(X, scaled.values, rcond=None)[0].T  # (genes, 3 or 4)
    torch.manual_seed(0)
    network = StainRegressors(config, 2)
    with torch.no_grad():
        network.matrix += torch.randn(2, 3, 3)
        network.readout += torch.randn(2, 2)
    D, w = network.matrix.detach().numpy(), network.readout.detach().numpy()
    k = 2 if readout == "two-stains" else 1
    flat = np.einsum("nc,gck,gk->ng", mean, D[:, :, :k], w[:, :k])
    flat = flat if readout == "two-stains" else flat + w[:, 1]
    np.testing.assert_allclose(network(torch.from_numpy(density), unit, 60).detach(), flat, atol=1e-4)
    with torch.no_grad():
        network.matrix[:, :, 0] = torch.from_numpy(slopes[:, :3])
        network.readout[:, 0] = 1
        network.readout[:, 1] = torch.from_numpy(slopes[:, 3]) if readout == "one-stain" else 0
    made = network(torch.from_numpy(density), unit, 60)
    np.testing.assert_allclose(made.detach(), X @ slopes.T, atol=1e-4)
    loss = losses(made, torch.from_numpy(scaled.values), torch.from_numpy(scaled.observed), config).sum()
    loss.backward()
    assert network.matrix.grad.abs().max() < 1e-3
    assert network.readout.grad.abs().max() < 1e-3


def test_training_reaches_least_squares(spots, tmp_path):
    fields, genes = spots
    config = StainConfig(
        nonlinearity="identity", learn="deconvolution", steps=200, lr=0.05, batch=60, pixels=4
    )
    made = fitted(config, fields, genes, tmp_path / "fit").predict(fields, np.arange(60), 60)
    X = np.c_[densities(fields, config, lambda _: None).mean(axis=1), np.ones(60)].astype(np.float64)
    best = X @ np.linalg.lstsq(X, genes.astype(np.float64), rcond=None)[0]
    ratio = ((made - genes) ** 2).sum(axis=0) / ((best - genes) ** 2).sum(axis=0)
    assert (ratio >= 1 - 1e-4).all()  # nothing linear in mean density is better
    assert (ratio < 1.02).all()


def test_a_bend_sees_what_mean_colour_does_not(spots, tmp_path):
    """Spots of equal mean density, one even and one of dark and white pixels, differ only after a bend."""
    even = np.full((1, 64, 3), 0.5, np.float32)
    mixed = np.concatenate([np.zeros((1, 32, 3)), np.ones((1, 32, 3))], axis=1).astype(np.float32)
    both, unit = torch.from_numpy(np.concatenate([even, mixed])), torch.tensor([0, 1])
    for bend, differs in (("identity", False), ("tanh", True)):
        network = StainRegressors(StainConfig(nonlinearity=bend), 1)
        torch.nn.init.ones_(network.readout)
        one, two = network(both, unit, 2)[:, 0].tolist()
        assert (abs(one - two) > 1e-3) is differs


def test_a_planted_stain_is_learnt_and_noise_is_not(spots, tmp_path):
    fields, genes = spots
    train, test = np.arange(40), np.arange(40, 60)
    model = fitted(
        StainConfig(learn="deconvolution", steps=200, lr=0.02, batch=40, pixels=16),
        FieldList([fields[k] for k in train]),
        genes[train],
        tmp_path / "fit",
    )
    made = model.predict(FieldList([fields[k] for k in test]), np.arange(20), 20)
    residual = ((made - genes[test]) ** 2).sum(0) / ((genes[test] - genes[train].mean(0)) ** 2).sum(0)
    assert residual[0] < 0.3
    assert residual[1] > 0.8


def test_a_gene_is_trained_as_if_it_were_alone(spots, tmp_path):
    fields, genes = spots
    config = StainConfig(steps=30, batch=16, pixels=16)
    both = fitted(config, fields, genes, tmp_path / "both")
    alone = fitted(config, fields, genes[:, 1:], tmp_path / "alone")
    torch.testing.assert_close(both._network.matrix[1], alone._network.matrix[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(both._network.readout[1], alone._network.readout[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", ["mse", "huber"])
def test_missing_readouts_are_not_trained_on(loss):
    torch.manual_seed(0)
    config, made, wanted = StainConfig(loss=loss), torch.randn(6, 2) * 2, torch.randn(6, 2)
    observed = torch.ones(6, 2, dtype=torch.bool)
    observed[2:, 1] = False
    found = losses(made, wanted, observed, config)
    gap = (made - wanted).abs()
    each = gap**2 if loss == "mse" else torch.where(gap < 1, gap**2 / 2, gap - 0.5)
    torch.testing.assert_close(found, torch.stack([each[:, 0].mean(), each[:2, 1].mean()]))
    assert losses(made, wanted, torch.zeros_like(observed), config).tolist() == [0, 0]


def test_stains_go_through_optical_density_and_back():
    amounts = np.random.default_rng(0).uniform(0, 1.5, (50, 3))
    levels = np.exp(-(amounts @ stains().double().numpy()))
    back = optical_density(levels, 1e-9).astype(np.float64) @ np.linalg.inv(stains().double().numpy())
    np.testing.assert_allclose(back, amounts, atol=1e-5)


def test_the_starting_stains_are_those_of_scikit_image():
    from skimage.color import rgb_from_hed

    theirs = rgb_from_hed / np.linalg.norm(rgb_from_hed, axis=1, keepdims=True)
    np.testing.assert_allclose(stains(), theirs, atol=1e-6)
    np.testing.assert_allclose(optical_density(np.array([1.0, 0.0]), 1 / 255), [0, np.log(256)], rtol=1e-6)


def test_a_number_of_pixels_that_no_lattice_has_is_refused():
    with pytest.raises(FeaturizerError, match=r"stain: pixels is 1,000, no square number, .* 961 or 1,024"):
        StainConfig(pixels=1000)


def test_images_without_red_green_and_blue_are_refused():
    with pytest.raises(FeaturizerError, match="the channels here are DNA, ER"):
        Stain().check([Channel("DNA"), Channel("ER")])
    with pytest.raises(FeaturizerError, match="R, G and B, in that order"):
        Stain().check([Channel(name) for name in "BGR"])
    Stain().check([Channel(name) for name in ("red", "green", "blue")])


def test_the_lattice_has_as_many_pixels_as_asked_for(spots):
    fields, _ = spots
    config = StainConfig()
    assert sampled(fields[0], "stain", replace(config, pixels=16)).shape == (16, 3)
    assert sampled(fields[0], "stain", replace(config, pixels=0)).shape == (144, 3)
    assert sampled(fields[0], "stain", config).shape == (1024, 3)  # more than there are: some twice


def test_targets_are_standardised_with_divisor_n_minus_one():
    rng = np.random.default_rng(0)
    y = rng.normal(5, 2, (30, 3)).astype(np.float32)
    y[:4, 1], y[:, 2] = np.nan, 7.0
    import pandas as pd

    frame, made = pd.DataFrame(y.astype(np.float64)), Targets.of(y)
    np.testing.assert_allclose(made.mean, frame.mean())
    np.testing.assert_allclose(made.std[:2], frame.std()[:2])
    assert made.std[2] == 1  # a constant readout is not blown up
    assert (made.values[:4, 1] == 0).all()
    back = made.undone(made.values)
    np.testing.assert_allclose(back[made.observed], y[made.observed], rtol=1e-6)
    assert np.isnan(Targets.of(np.full((3, 1), np.nan, np.float32)).mean[0])
