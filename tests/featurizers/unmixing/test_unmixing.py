"""Least squares without a bend, planted bleed-through, gradients, what enters a fit, resume, bad input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from featurizers.base import Channel, FeaturizerError, Field, FitContext, silent
from featurizers.conformance import check_featurizer, failures
from featurizers.synthetic import FieldList
from featurizers.training.files import checkpoints
from featurizers.training.targets import Targets
from featurizers.unmixing import Unmixing, UnmixingConfig
from featurizers.unmixing.config import PRESETS
from featurizers.unmixing.model import Regression, squared_error, start
from featurizers.unmixing.pixels import SCALED, binned, sampled, scale
from featurizers.unmixing.train import Steps, collect, of_table, train

CHANNELS = (Channel("A"), Channel("B"))
BLEED = np.array([[1.0, 0.6], [0.5, 1.0]])
"""Row: a dye; column: the share of its light that a channel gets."""

CPU = torch.device("cpu")
SMALL = UnmixingConfig(binning=1, pixels=64, steps=6, batch=4)


def stained(dyes, well, site=1, plate="P1", channels=CHANNELS, masks=None):
    """A 16-bit field of dyes (K, H, W) in [0, 1] through the bleed-through."""
    levels = np.einsum("khw,kc->chw", dyes, BLEED)
    metadata = {"Metadata_Plate": plate, "Metadata_Well": f"W{well:03d}", "Metadata_Site": str(site)}
    pixels = np.round(levels * 30_000).clip(0, 65535).astype(np.uint16)
    return Field(metadata, channels, pixels, masks=masks or {})


def spotted(wells, seed=0, size=24):
    """Wells whose two dyes have the same mean everywhere, in few bright spots or in many dim ones.

    The readout is the share of pixels that hold the first dye; the second dye's share is independent.
    """
    rng = np.random.default_rng(seed)
    shares = rng.uniform(0.1, 0.6, (wells, 2))
    fields = []
    for well, share in enumerate(shares):
        count = np.round(share * size**2).astype(int)
        dyes = np.zeros((2, size * size))
        for k in range(2):
            dyes[k, rng.permutation(size**2)[: count[k]]] = 0.06 * size**2 / count[k]
        dyes += 0.02 + rng.normal(0, 0.002, dyes.shape)
        fields.append(stained(dyes.reshape(2, size, size), well))
    y = (shares[:, 0] - 0.35) + rng.normal(0, 0.005, wells)
    return FieldList(fields), tabled(fields, y[:, None])


def tabled(fields, readouts):
    """A row per well, as the harness gives it."""
    table = pd.DataFrame([f.metadata for f in fields]).drop(columns="Metadata_Site").drop_duplicates()
    table["perturbation"] = [f"drug-{k // 2}" for k in range(len(table))]
    table["control"] = False
    for k in range(readouts.shape[1]):
        table[f"gene-{k}"] = readouts[:, k]
    return table


def noise(wells=12, sites=1, genes=3, seed=0, size=8):
    """Wells whose dyes and readouts are random, the readouts linear in the dyes up to noise."""
    rng = np.random.default_rng(seed)
    level = rng.uniform(0.1, 0.5, (wells, 2))
    fields = [
        stained(rng.uniform(0.5, 1.5, (2, size, size)) * level[well][:, None, None], well, site)
        for well in range(wells)
        for site in range(sites)
    ]
    weights = rng.normal(size=(2, genes))
    return FieldList(fields), tabled(fields, level @ weights + rng.normal(0, 0.1, (wells, genes)))


def folder(tmp_path, name):
    path = tmp_path / name
    path.mkdir()
    return path


def fitted(config, fields, table, work, seed=0):
    featurizer = Unmixing(config)
    featurizer.fit(fields, table, FitContext(work, seed=seed))
    return featurizer


def weights(featurizer):
    return {name: value.numpy().tobytes() for name, value in featurizer._trained.network.state_dict().items()}


def explained(rows, y, train):
    """R² on the other wells of least squares on the rows of ``train``."""
    X = np.c_[rows, np.ones(len(rows))].astype(np.float64)
    made = X[~train] @ np.linalg.lstsq(X[train], y[train], rcond=None)[0]
    return 1 - ((y[~train] - made) ** 2).sum() / ((y[~train] - y[train].mean()) ** 2).sum()


@pytest.mark.parametrize("bend", ["identity", "relu", "softplus", "tanh"])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_forward_pass_is_that_of_a_loop_over_pixels(bend, count):
    torch.manual_seed(0)
    config = UnmixingConfig(nonlinearity=bend, concentrations=count)
    network = Regression(config, 3, 2, 0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn_like(parameter))
        network.mean.copy_(torch.randn(count))
        network.whiten.copy_(torch.randn(count, count))
    network.unmixer.set_scale(torch.rand(3), torch.tensor([0.5, 2.0, float("inf")]))
    x, unit = torch.rand(4, 5, 3), torch.tensor([0, 1, 1, 0])
    g = {
        "identity": lambda v: v,
        "relu": lambda v: max(v, 0.0),
        "softplus": lambda v: np.log1p(np.exp(v)),
        "tanh": np.tanh,
    }[bend]
    U, b = (p.detach().double().numpy() for p in (network.unmixer.unmixing, network.unmixer.bias))
    m = network.unmixer.median.double().numpy()
    found = network(x, unit, 2).detach().numpy()
    for u in range(2):
        h = np.zeros(count)
        for f in (f for f in range(4) if unit[f] == u):
            for pixel in x[f].double().numpy():
                z = (pixel - m) / [0.5, 2.0, np.inf]
                h += [g(z @ U[:, k] + b[k]) / 5 / 2 for k in range(count)]
        row = (h - network.mean.double().numpy()) @ network.whiten.double().numpy()
        expected = row @ network.weight.detach().double().numpy() + network.intercept.detach().numpy()
        np.testing.assert_allclose(found[u], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bend", ["identity", "relu", "softplus", "tanh"])
def test_gradients_of_the_unmixing_are_those_of_finite_differences(bend):
    torch.manual_seed(1)
    network = Regression(UnmixingConfig(nonlinearity=bend, concentrations=2), 3, 2, 0).double()
    with torch.no_grad():
        network.weight.normal_()
        network.unmixer.unmixing.normal_()
    x, unit = torch.rand(3, 4, 3, dtype=torch.float64), torch.tensor([0, 0, 1])
    target, observed = torch.randn(2, 2, dtype=torch.float64), torch.tensor([[True, True], [False, True]])

    def loss(unmixing, bias, weight):
        given = {"unmixer.unmixing": unmixing, "unmixer.bias": bias, "weight": weight}
        made = torch.func.functional_call(network, given, (x, unit, 2))
        return squared_error(made, target, observed)

    chosen = (network.unmixer.unmixing, network.unmixer.bias, network.weight)
    assert torch.autograd.gradcheck(loss, [p.detach().clone().requires_grad_() for p in chosen])


def test_without_a_bend_training_reaches_least_squares_on_mean_intensities(tmp_path):
    """Whatever the unmixing: a linear read-out of rows that are linear in the mean is linear in the mean."""
    fields, table = noise(wells=40, sites=2)
    config = replace(SMALL, nonlinearity="identity", pixels=0, steps=200, batch=40, lr=0.05)
    work = folder(tmp_path, "work")
    featurizer = fitted(config, fields, table, work)
    y = Targets.of(table.iloc[:, -3:].to_numpy(np.float32)).values
    levels = np.stack([f.pixels.reshape(2, -1).mean(axis=1) / 65535 for f in fields])
    X = np.c_[levels.reshape(40, 2, 2).mean(axis=1), np.ones(40)]
    best = ((y - X @ np.linalg.lstsq(X, y, rcond=None)[0]) ** 2).mean()
    losses = pq.read_table(work / "metrics.parquet")["loss"].to_pylist()
    assert losses[0] == pytest.approx((y**2).mean(), rel=1e-5), "it begins at the training mean"
    assert best * (1 - 1e-5) <= losses[-1] < 1.001 * best
    rows = featurizer.embed(fields).values.reshape(40, 2, 2).mean(axis=1)
    R = np.c_[rows, np.ones(40)].astype(np.float64)
    own = ((y - R @ np.linalg.lstsq(R, y, rcond=None)[0]) ** 2).mean()
    assert own == pytest.approx(best, rel=1e-4), "the stored rows span what the mean intensities span"


def test_planted_bleed_through_is_unmixed_where_mean_intensities_and_the_start_are_blind(tmp_path):
    fields, table = spotted(120)
    train_on = np.arange(120) < 80
    config = UnmixingConfig(binning=1, pixels=576, steps=300, batch=80, lr=0.02)
    featurizer = fitted(config, fields, table[train_on], folder(tmp_path, "fit"))
    y = table["gene-0"].to_numpy()
    learnt = explained(featurizer.embed(fields).values, y, train_on)
    begun = fitted(replace(config, steps=1, lr=1e-9), fields, table[train_on], folder(tmp_path, "start"))
    start_rows = explained(begun.embed(fields).values, y, train_on)
    levels = np.stack([f.pixels.reshape(2, -1) for f in fields]) / 65535
    mean = explained(levels.mean(axis=2), y, train_on)
    bent = np.maximum(levels - np.median(levels), 0).mean(axis=2)
    assert learnt > 0.95
    assert mean < 0.1
    assert max(start_rows, explained(bent, y, train_on)) < 0.8
    # what a pixel of each dye adds to each concentration; mixed channels have a spill of a half or more
    network = featurizer._trained.network
    light = np.abs(BLEED @ (network.unmixing.detach() * network.inverse_spread[:, None]).numpy())
    assert (light.min(axis=0) / light.max(axis=0)).min() < 0.15


def test_fields_of_other_wells_and_their_readouts_change_no_weight(tmp_path):
    """Held-out images and readouts, poisoned before the fit."""
    fields, table = noise(sites=2)
    held = table["perturbation"].isin(["drug-0", "drug-3"]).to_numpy()
    clean = fitted(SMALL, fields, table[~held], folder(tmp_path, "clean"))
    out = set(table.loc[held, "Metadata_Well"])
    poisoned = [
        replace(f, pixels=np.full_like(f.pixels, 65535)) if f.metadata["Metadata_Well"] in out else f
        for f in fields
    ]
    other = table.copy()
    other.loc[held, ["gene-0", "gene-1", "gene-2"]] = 1e6
    again = fitted(SMALL, FieldList(poisoned), other[~held], folder(tmp_path, "poisoned"))
    assert weights(again) == weights(clean)
    without = [f for f in fields if f.metadata["Metadata_Well"] not in out]
    assert weights(fitted(SMALL, FieldList(without), table[~held], folder(tmp_path, "none"))) == weights(
        clean
    )
    seen = fitted(SMALL, fields, other, folder(tmp_path, "seen"))
    assert weights(seen) != weights(clean), "given to the fit, the same rows do change it"


def test_negative_controls_and_wells_without_readouts_are_not_trained_on():
    _, table = noise()
    table.loc[table.index[:2], "control"] = True
    table.loc[table.index[2], ["gene-0", "gene-1", "gene-2"]] = np.nan
    table.loc[table.index[3], "gene-0"] = np.nan
    wells = of_table(table)
    assert [name for _, name in wells.names] == [f"W{k:03d}" for k in range(3, 12)]
    assert wells.targets.observed[0].tolist() == [False, True, True]
    assert wells.targets.observed[1:].all()


def test_missing_readouts_are_not_trained_on(tmp_path):
    fields, table = noise()
    table.loc[table.index[:6], "gene-0"] = np.nan
    work = folder(tmp_path, "work")
    fitted(replace(SMALL, batch=12, steps=1), fields, table, work)
    y = table.iloc[:, -3:].to_numpy(np.float64)
    z = (y - np.nanmean(y, axis=0)) / np.nanstd(y, axis=0, ddof=1)
    (loss,) = pq.read_table(work / "metrics.parquet")["loss"].to_pylist()
    assert loss == pytest.approx(np.nansum(z**2) / (~np.isnan(z)).sum(), rel=1e-5)
    other = table.assign(empty=np.nan)
    fitted(SMALL, fields, other, folder(tmp_path, "empty"))  # a readout that no well has is no obstacle


def test_shares_of_processes_sum_to_the_gradient_of_one(monkeypatch):
    from featurizers.training import parallel

    fields, table = noise(sites=2)
    wells = of_table(table)

    def gradients():
        network = Regression(SMALL, 2, 3, 0)
        steps = Steps(network, SMALL, 0, *collect(fields, wells, SMALL, silent), wells.targets, CPU)
        steps.prepare(["A", "B"])
        torch.nn.init.ones_(network.weight)
        loss = steps.accumulate(1)["loss"]
        return loss, {n: p.grad for n, p in network.named_parameters() if p.grad is not None}

    loss, whole = gradients()
    assert set(whole) == {"unmixer.unmixing", "unmixer.bias", "weight", "intercept"}
    for count in (2, 5):  # five processes share four wells
        monkeypatch.setattr(parallel, "size", lambda count=count: count)
        parts = []
        for rank in range(count):
            monkeypatch.setattr(parallel, "rank", lambda rank=rank: rank)
            parts.append(gradients())
        torch.testing.assert_close(sum(p[0] for p in parts), loss)
        for name, value in whole.items():
            torch.testing.assert_close(sum(p[1][name] for p in parts if name in p[1]), value)


def test_whitened_rows_of_the_start_have_unit_covariance_and_constant_directions_are_left_out():
    network = Regression(UnmixingConfig(), 3, 2, 0)
    rows = torch.randn(50, 3) @ torch.tensor([[1.0, 0.9, 0], [0.9, 1.0, 0], [0, 0, 0]]) + 5
    network.set_whitening(rows)
    made = (rows - network.mean) @ network.whiten
    torch.testing.assert_close(made.mean(dim=0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(made.T @ made / 50, torch.diag(torch.tensor([1.0, 1, 0])), atol=1e-3, rtol=0)
    network.set_whitening(rows[:1])
    assert not network.whiten.any(), "one well has no spread"


def test_the_unmixing_begins_without_bleed_through():
    assert torch.equal(start(UnmixingConfig(), 3, 0), torch.eye(3))
    wide = start(UnmixingConfig(concentrations=5), 3, 0)
    assert torch.equal(wide[:, :3], torch.eye(3))
    for config in (
        UnmixingConfig(concentrations=5),
        UnmixingConfig(concentrations=2),
        UnmixingConfig(start="random"),
    ):
        found = start(config, 3, 0)
        assert found.shape == (3, config.concentrations or 3)
        torch.testing.assert_close(found.norm(dim=0), torch.ones(found.shape[1]))
        assert torch.equal(found, start(config, 3, 0))
    random = UnmixingConfig(start="random")
    assert not torch.equal(start(random, 3, 0), start(random, 3, 1))


def test_at_the_start_a_row_is_the_mean_light_above_the_median(tmp_path):
    fields, table = noise()
    config = replace(SMALL, pixels=0, steps=1, lr=1e-12)
    rows = fitted(config, fields, table, tmp_path).embed(fields).values
    levels = np.stack([f.pixels.reshape(2, -1) for f in fields]) / 65535
    flat = levels.transpose(1, 0, 2).reshape(2, -1)
    median = np.median(flat, axis=1)[:, None]
    mad = 1.4826 * np.median(np.abs(flat - median), axis=1)[:, None]
    np.testing.assert_allclose(
        rows, np.maximum((levels - median) / mad, 0).mean(axis=2), rtol=1e-4, atol=1e-5
    )


def test_intensities_are_means_of_blocks_on_a_lattice_and_their_logarithm():
    (field,) = FieldList([stained(np.random.default_rng(0).uniform(0, 1, (2, 13, 11)), 0)])
    levels = field.pixels / 65535
    blocks = levels[:, :12, :10].reshape(2, 6, 2, 5, 2).mean(axis=(2, 4))
    np.testing.assert_array_equal(binned(levels, 2), blocks)
    whole = sampled(field, UnmixingConfig(pixels=0))
    np.testing.assert_allclose(whole, blocks.reshape(2, -1).T, rtol=1e-6)
    few = sampled(field, UnmixingConfig(pixels=4))
    np.testing.assert_allclose(few, blocks[:, [1, 4]][:, :, [1, 3]].reshape(2, -1).T, rtol=1e-6)
    assert sampled(field, UnmixingConfig()).shape == (1024, 2)  # more than there are: some twice
    logs = sampled(field, UnmixingConfig(pixels=0, intensity="log1p"))
    np.testing.assert_allclose(logs, np.log(1 + 65535 * blocks.reshape(2, -1).T), rtol=1e-6)


def test_objects_are_the_pixels_inside_any_mask_and_without_one_the_image():
    dyes = np.random.default_rng(0).uniform(0, 1, (2, 8, 8))
    inside = np.zeros((8, 8), np.int32)
    inside[2:4, 1:6] = 7
    config = replace(SMALL, pixels=9, region="objects")
    cut, empty = (stained(dyes, 0, masks={"cells": mask}) for mask in (inside, 0 * inside))
    own = (cut.pixels / 65535)[:, 2:4, 1:6].reshape(2, -1).T
    chosen = ((np.arange(9) + 0.5) * 10 / 9).astype(int)  # of ten pixels, nine
    np.testing.assert_allclose(sampled(cut, config), own[chosen], rtol=1e-6)
    np.testing.assert_array_equal(sampled(empty, config), sampled(empty, replace(config, region="image")))
    with pytest.raises(FeaturizerError, match="needs object masks"):
        sampled(stained(dyes, 0), config)
    with pytest.raises(FeaturizerError, match="region=objects set pixels"):
        replace(config, pixels=0)


def test_median_and_spread_are_robust_and_a_constant_channel_is_infinitely_wide():
    x = np.random.default_rng(0).normal(3, 2, (10, 100, 4)).astype(np.float32)
    x[..., 1] = 5.0
    x[:, :80, 2] = 0.0
    x[0, :20, 3] = 1e6
    median, spread = scale(x)
    np.testing.assert_allclose(median[[0, 1, 2]], [np.median(x[..., 0]), 5, 0])
    usual = 1.4826 * np.median(np.abs(x[..., 0] - median[0]))
    np.testing.assert_allclose(spread[:3], [usual, np.inf, x[..., 2].std(dtype=float)], rtol=1e-5)
    assert 1.8 < spread[3] < 2.2


@pytest.mark.parametrize("period", [3, 4, 31, 32])
def test_a_pattern_as_long_as_a_stride_does_not_mislead_median_and_spread(monkeypatch, period):
    """On a lattice of 31 or 32 columns a stride of so many pixels sees one column of every field."""
    monkeypatch.setattr("featurizers.unmixing.pixels.SCALED", 4096)
    x = np.random.default_rng(0).normal(1, 0.1, (32 * period, 128, 1)).astype(np.float32)
    flat = x.reshape(-1)
    flat[::period] += 4
    assert len(flat) == 4096 * period, "every so-manieth would be a bright one"
    median, spread = scale(x)
    exact = np.median(flat)
    assert median[0] == pytest.approx(exact, abs=0.02)
    assert spread[0] == pytest.approx(1.4826 * np.median(np.abs(flat - exact)), rel=0.1)


def test_the_pixels_that_scale_are_all_of_few_and_of_many_a_draw_that_follows_the_seed(monkeypatch):
    x = np.random.default_rng(0).normal(size=(10, 100, 1)).astype(np.float32)
    assert x.size < SCALED
    assert scale(x)[0] == scale(x, 1)[0] == np.median(x)
    monkeypatch.setattr("featurizers.unmixing.pixels.SCALED", 99)
    assert scale(x) == scale(x)
    assert scale(x) != scale(x, 1)


class Stop(Exception):
    pass


def test_a_killed_training_ends_in_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr("featurizers.training.loop.REPORT_SECONDS", 0.0)
    fields, table = noise(sites=2)
    whole, parts = folder(tmp_path, "whole"), folder(tmp_path, "parts")
    train(fields, table, SMALL, FitContext(whole))
    for stop in (2, 5):

        def die(progress, stop=stop):
            if progress.stage == "train" and progress.done >= stop:
                raise Stop

        with pytest.raises(Stop):
            train(fields, table, SMALL, FitContext(parts, report=die), checkpoint_seconds=0)
    train(fields, table, SMALL, FitContext(parts))
    for path in checkpoints(whole)[-1].iterdir():
        assert path.read_bytes() == (checkpoints(parts)[-1] / path.name).read_bytes(), path.name
    table.iloc[0, -1] += 1
    with pytest.raises(FeaturizerError, match="belongs to a training with other settings"):
        train(fields, table, SMALL, FitContext(parts))


def test_saved_weights_give_the_same_rows(tmp_path):
    fields, table = noise()
    featurizer = fitted(SMALL, fields, table, folder(tmp_path, "work"))
    saved = folder(tmp_path, "saved")
    featurizer.save(saved)
    reader = Unmixing(SMALL)
    reader.load(saved)
    np.testing.assert_array_equal(reader.embed(fields).values, featurizer.embed(fields).values)
    given = Unmixing(replace(SMALL, weights=str(saved)))
    np.testing.assert_array_equal(given.embed(fields).values, reader.embed(fields).values)
    assert given.given.perturbations == tuple(sorted(set(table["perturbation"])))
    with pytest.raises(FeaturizerError, match="was trained with nonlinearity=relu, not tanh"):
        Unmixing(replace(SMALL, nonlinearity="tanh")).load(saved)


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_preset_gives_a_column_per_concentration(tmp_path, preset):
    config = replace(PRESETS[preset], steps=2, pixels=16)
    fields, table = noise(size=8)
    fields = FieldList([replace(f, masks={"cells": np.ones((8, 8), np.int32)}) for f in fields])
    rows = fitted(config, fields, table, tmp_path).embed(fields).values
    names = Unmixing(config).columns(CHANNELS)
    assert rows.shape == (12, len(names))
    assert np.isfinite(rows).all()
    assert names[0] == "unmixing_000"


def test_it_keeps_the_contract():
    results = check_featurizer(lambda: Unmixing(replace(SMALL, steps=4)))
    assert failures(results) == []
    assert {"resume", "fit-deterministic", "blind"} <= {r.name for r in results if r.status == "passed"}


def test_a_constant_channel_is_left_out_and_said(tmp_path):
    fields, table = noise()
    flat = FieldList([replace(f, pixels=np.stack([f.pixels[0], 0 * f.pixels[1] + 700])) for f in fields])
    with pytest.warns(UserWarning, match="channel B has one value in all training pixels"):
        featurizer = fitted(SMALL, flat, table, tmp_path)
    rows = featurizer.embed(flat).values
    assert np.isfinite(rows).all()
    loud = FieldList([replace(f, pixels=np.stack([f.pixels[0], f.pixels[1]])) for f in fields])
    np.testing.assert_array_equal(featurizer.embed(loud).values, rows)


def test_without_readouts_there_is_nothing_to_learn_from(tmp_path):
    fields, table = noise()
    metadata = table.loc[:, :"control"]
    gone = table.copy()
    gone[["gene-0", "gene-1", "gene-2"]] = np.nan
    infinite = table.copy()
    infinite.loc[infinite.index[1], "gene-1"] = np.inf
    for wrong, reason in (
        (None, "the training table has none; name a layer"),
        (metadata, "the training table has none; name a layer"),
        (gone, "no training well of a perturbation has one"),
        (infinite, "value 1 of well P1/W001 is infinite"),
        (table.assign(Metadata_Plate="P2"), "no training well with a readout has an image"),
    ):
        with pytest.raises(FeaturizerError, match=reason):
            Unmixing(SMALL).fit(fields, wrong, FitContext(tmp_path))


def test_wrong_images_are_refused_with_their_place(tmp_path):
    fields, table = noise()
    uneven = [*fields[:-1], stained(np.full((2, 9, 8), 0.3), 11)]
    with pytest.raises(FeaturizerError, match="every field must have the same size"):
        fitted(replace(SMALL, pixels=0), FieldList(uneven), table, tmp_path)
    with pytest.raises(FeaturizerError, match="plate P1 well W000 site 0: an image of 8 × 8 pixels holds no"):
        sampled(fields[0], replace(SMALL, binning=9))
    dark = replace(fields[0], pixels=-np.ones((2, 8, 8), np.float32))
    assert sampled(dark, SMALL).min() == -1
    with pytest.raises(FeaturizerError, match="pixels below 0 have no logarithm; set intensity=linear"):
        sampled(dark, replace(SMALL, intensity="log1p"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"concentrations": -1}, "concentrations is -1; it must be 1 or more, or 0 for one per channel"),
        ({"binning": 0}, "binning is 0; it must be positive"),
        ({"nonlinearity": "sigmoid"}, "choose one of identity, relu, softplus, tanh"),
        ({"lr": 0.0}, "lr is 0.0"),
        ({"concentrations": 1025}, "concentrations is 1,025; it must be at most 1,024, because every pixel"),
        ({"concentrations": 2 * 10**9}, "concentrations is 2,000,000,000; it must be at most 1,024"),
        (
            {"pixels": 1025**2},
            r"pixels is 1,050,625; it must be at most 1,048,576 \(1,024 × 1,024\), because",
        ),
        ({"pixels": 1000}, "pixels is 1,000, no square number, .* square lattice; set 961 or 1,024"),
        ({"pixels": 2, "region": "objects"}, "pixels is 2, no square number, .*; set 1 or 4"),
    ],
)
def test_a_wrong_setting_is_refused(change, reason):
    with pytest.raises(FeaturizerError, match=reason):
        replace(SMALL, **change)


def test_the_largest_settings_and_every_square_are_taken():
    largest = replace(SMALL, concentrations=1024, pixels=1024**2)
    assert largest.pixels == 1_048_576
    for edge in (1, 2, 3, 31, 32, 1023):
        assert sampled(noise(wells=1)[0][0], replace(SMALL, pixels=edge**2)).shape == (edge**2, 2)


@pytest.mark.parametrize("place", ["featurizers.unmixing.train.sampled", "featurizers.unmixing.train.scale"])
@pytest.mark.parametrize("numbers", [lambda *_: torch.empty(1 << 50), lambda *_: np.empty(1 << 50)])
def test_where_memory_ends_the_settings_that_help_are_named(tmp_path, monkeypatch, place, numbers):
    fields, table = noise()
    monkeypatch.setattr(place, numbers)
    with pytest.raises(
        FeaturizerError, match=r"before the first step; lower batch, pixels or concentrations"
    ):
        fitted(SMALL, fields, table, tmp_path)


def test_where_a_step_is_too_large_for_the_device_the_settings_that_help_are_named(tmp_path, monkeypatch):
    def ended(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    fields, table = noise()
    monkeypatch.setattr(Steps, "accumulate", ended)
    with pytest.raises(FeaturizerError, match=r"memory ended in step 1 of 6; lower batch, pixels or conc"):
        fitted(SMALL, fields, table, tmp_path)
