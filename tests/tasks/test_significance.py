"""Image2Omics' test per readout against a loop over SciPy, and its place among the scores."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, wilcoxon

from tasks import evaluate, folds, significance
from tasks.heads.mean import Mean
from tasks.heads.ridge import Ridge
from tasks.protocol import load
from tasks.regression import Regression


@pytest.mark.parametrize("m", [5, 9, 20, 60])
def test_both_tests_are_scipys_readout_by_readout(m):
    rng = np.random.default_rng(m)
    own, floor = rng.gamma(2.0, size=(2, m, 12))
    own[:, :4] *= 0.5
    own[:2, 5], floor[:2, 5] = 1.0, 2.0  # tied differences
    floor[0, 6] = own[0, 6]  # a zero
    mask = rng.random((m, 12)) < 0.9
    mask[:, :8] = True
    signed, ranked = significance.one_sided(own, floor, mask)
    for t in range(12):
        a, b = own[mask[:, t], t], floor[mask[:, t], t]
        assert signed[t] == pytest.approx(wilcoxon(a, b, alternative="less").pvalue, abs=1e-12)
        assert ranked[t] == pytest.approx(mannwhitneyu(a, b, alternative="less").pvalue, abs=1e-12)


def test_equal_predictions_are_no_evidence_though_they_differ_in_rounding():
    floor = np.random.default_rng(0).gamma(2.0, size=(12, 3))
    own = floor * (1 + 1e-8 * np.random.default_rng(1).normal(size=floor.shape))
    signed, ranked = significance.one_sided(own, floor, np.ones(floor.shape, bool))
    assert (signed == 1).all()
    assert (ranked == 1).all()
    signed, _ = significance.one_sided(own, floor, np.zeros(floor.shape, bool))
    assert np.isnan(signed).all()


def scored(screen, scale, head=Ridge, **settings):
    own = screen(perturbations=40, T=6, null=2, noise=0.3)
    Y = np.exp(own.data.Y / 4) if scale == "counts" else own.data.Y
    data = replace(own.data, Y=Y.astype(np.float32), scale=scale)
    protocol = load("image2omics").with_settings(**settings)
    table = folds.make(data, protocol)
    results = evaluate.run(data, own.features, protocol, table, head)
    return data, results, Regression().score(data, table, results).scores


def test_random_splits_give_p_values_and_medians_per_readout(screen):
    data, results, scores = scored(screen, "counts")
    assert len(results) == 10
    assert (scores["splits"] == 10).all()
    assert set(scores["error"]) == {"smape"}
    by_hand = []
    for result in results:
        y = data.Y[result.rows, 0].astype(float)
        a, b = (
            100 * np.abs(own[:, 0].astype(float) - y) / (np.abs(own[:, 0]) + y)
            for own in (result.prediction, result.floor)
        )
        by_hand.append(wilcoxon(a, b, alternative="less").pvalue)
    assert scores["p_wilcoxon"][0] == pytest.approx(np.median(by_hand))
    assert scores["p_wilcoxon_high"][0] == pytest.approx(np.quantile(by_hand, 0.975))
    linked, unlinked = scores["p_wilcoxon"][:4], scores["p_wilcoxon"][4:]
    assert (linked < 0.05).all()
    assert (unlinked > 0.05).all()
    assert np.isfinite(scores[["smape_median", "pearson_r2_median", "p_mann_whitney"]]).all(axis=None)
    assert significance.share(scores["p_wilcoxon"].to_numpy()) == pytest.approx(4 / 6)
    assert significance.share(scores["p_wilcoxon"].to_numpy(), total=40) == pytest.approx(0.1)


def test_signed_scales_are_tested_by_absolute_error_and_have_no_smape(screen):
    _, _, scores = scored(screen, "z", repeats=3)
    assert set(scores["error"]) == {"absolute"}
    assert scores["smape_median"].isna().all()
    assert np.isfinite(scores["p_wilcoxon"]).all()


def test_the_floor_against_itself_has_p_1(screen):
    _, _, scores = scored(screen, "z", Mean, repeats=3)
    assert (scores[["p_wilcoxon", "p_mann_whitney"]] == 1).all(axis=None)


def test_cross_validation_has_no_such_columns(screen):
    own = screen(perturbations=16)
    protocol = load("nested-cv").with_settings(repeats=1)
    table = folds.make(own.data, protocol)
    results = evaluate.run(own.data, own.features, protocol, table, Mean)
    assert not significance.applies(table)
    assert "p_wilcoxon" not in Regression().score(own.data, table, results).scores


def test_the_published_denominators_give_the_published_shares():
    for found, total, percent in ((4927, 26317, 18.72), (422, 4986, 8.46), (697, 4986, 13.98)):
        p = np.concatenate([np.zeros(found), np.ones(200)])
        assert 100 * significance.share(p, total=total) == pytest.approx(percent, abs=0.005)


def test_perturbations_that_no_split_tested_are_not_scored(screen):
    data, results, scores = scored(screen, "z", repeats=1)
    table = folds.make(data, load("image2omics").with_settings(repeats=1))
    out = Regression().score(data, table, results)
    tested = out.folds[0] == 0
    assert tested.sum() == 8
    assert np.isnan(out.e[0][~tested]).all()
    assert np.isfinite(out.e[0][tested]).all()
    assert (scores["n_perturbations"] == 8).all()
