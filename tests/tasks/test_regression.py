"""Regression scores: an oracle of explicit loops, weights per perturbation, and what is undefined."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tasks import evaluate, folds
from tasks.base import FoldId, TaskError
from tasks.heads.mean import Mean
from tasks.heads.ridge import Ridge
from tasks.protocol import load
from tasks.regression import Regression

NESTED, RANDOM = load("nested-cv").with_settings(repeats=2), load("random-wells").with_settings(repeats=2)


def spoilt(values, place, value):
    """A copy with one entry, counted along rows, replaced."""
    copy = values.copy()
    copy.reshape(-1)[place] = value
    return copy


def scored(own, protocol, data=None, head=Ridge):
    data = own.data if data is None else data
    table = folds.make(data, protocol)
    results = evaluate.run(data, own.features, protocol, table, head)
    return table, results, Regression().score(data, table, results)


def oracle(data, results, keep=None):
    """The definitions of docs/protocols.md, one readout, repeat, perturbation and row at a time."""
    rows = []
    names = sorted(set(data.groups[~data.control]))
    for t, readout in enumerate(data.readouts):
        e, e0, sm, r2, rho = [], [], [], [], []
        units, perturbations = set(), set()
        for r in sorted({result.id.repeat for result in results}):
            for name in names:
                own = []
                for result in results:
                    for i, u in enumerate(result.rows):
                        y, p, f = (
                            float(v) for v in (data.Y[u, t], result.prediction[i, t], result.floor[i, t])
                        )
                        here = result.id.repeat == r and data.groups[u] == name and (keep is None or keep[u])
                        if here and not np.isnan([y, p, f]).any():
                            smape = 0.0 if abs(y) + abs(p) == 0 else 100 * abs(p - y) / (abs(y) + abs(p))
                            own.append(((p - y) ** 2, (f - y) ** 2, smape))
                            units.add(u)
                            perturbations.add(name)
                if own:
                    for total, values in zip((e, e0, sm), zip(*own, strict=True), strict=True):
                        total.append(float(np.float32(sum(values) / len(values))))
        for result in results:
            pairs = [
                (data.Y[u, t], result.prediction[i, t])
                for i, u in enumerate(result.rows)
                if (keep is None or keep[u])
                and not np.isnan([data.Y[u, t], result.prediction[i, t], result.floor[i, t]]).any()
            ]
            y, p = np.array(pairs, float).reshape(-1, 2).T
            if len(y) >= 3 and np.ptp(y) > 0 and np.ptp(p) > 0:
                r2.append(stats.pearsonr(y, p).statistic ** 2)
                rho.append(stats.spearmanr(y, p).statistic)
        named = {"e": e, "e0": e0, "sm": sm, "r2": r2, "rho": rho}
        mean = {k: np.mean(v) if v else np.nan for k, v in named.items()}
        skill = 1 - sum(e) / sum(e0) if sum(e0) > 0 else np.nan
        smape = mean["sm"] if data.scale in ("counts", "ratio") else np.nan
        rows.append(
            (
                readout,
                len(units),
                len(perturbations),
                skill,
                mean["e"],
                mean["e0"],
                mean["r2"],
                mean["rho"],
                smape,
            )
        )
    columns = [
        "readout",
        "n_units",
        "n_perturbations",
        "r2",
        "mse",
        "mse0",
        "pearson_r2",
        "spearman",
        "smape",
    ]
    return pd.DataFrame(rows, columns=columns)


def uneven(screen, **settings):
    """Gaps, a constant and an unobserved readout, a unit without features, perturbations of unequal size."""
    own = screen(perturbations=13, doses=2, T=7, **settings)
    Y = own.data.Y.copy()
    Y[np.random.default_rng(0).random(Y.shape) < 0.15] = np.nan
    Y[:, 4], Y[:, 5] = 0.1, np.nan
    Y[own.data.groups != "cpd02", 6] = np.nan
    drop = np.flatnonzero(
        np.isin(own.data.groups, ["cpd03", "cpd04"]) & (own.data.units["Metadata_Dose"] == 1)
    )
    data = replace(own.data, Y=Y, control=own.data.control | np.isin(np.arange(len(Y)), drop))
    own.X[np.flatnonzero(data.groups == "cpd05")[0]] = np.nan
    return replace(own, data=data)


@pytest.mark.parametrize("protocol", [NESTED, RANDOM], ids=lambda p: p.name)
@pytest.mark.parametrize("scale", ["z", "counts"])
def test_scores_equal_explicit_loops(screen, protocol, scale):
    own = uneven(screen)
    data = replace(own.data, scale=scale, score_by=("Metadata_Dose",))
    if scale == "counts":
        data = replace(data, Y=np.exp(data.Y / 3).astype(np.float32))
    _, results, out = scored(own, protocol, data)
    dose = data.units["Metadata_Dose"].to_numpy()
    strata = {"all": None, "Metadata_Dose=0": dose == 0, "Metadata_Dose=1": dose == 1}
    assert list(out.scores["stratum"].unique()) == list(strata)
    for name, keep in strata.items():
        expected = oracle(data, results, keep)
        found = out.scores[out.scores["stratum"] == name].drop(columns=["stratum", "noise_ceiling"])
        found = found.reset_index(drop=True)
        # The loops' own float32 rounding of a mean may differ in the last place.
        pd.testing.assert_frame_equal(found, expected, check_dtype=False, rtol=3e-6, atol=1e-9)


def test_anyone_recomputes_the_scores_from_the_stored_summands(screen):
    _, _, out = scored(uneven(screen), NESTED)
    e, e0 = (a.astype(np.float64).reshape(-1, len(out.readouts)) for a in (out.e, out.e0))
    whole = out.scores[out.scores["stratum"] == "all"]
    with np.errstate(invalid="ignore", divide="ignore"):
        again = 1 - np.nansum(e, axis=0) / np.nansum(e0, axis=0)
    known = whole["r2"].notna().to_numpy()
    np.testing.assert_array_equal(whole["r2"].to_numpy()[known], again[known])


def test_summands_are_shaped_and_placed_by_repeat_and_perturbation(screen):
    own = uneven(screen)
    table, results, out = scored(own, NESTED)
    data = own.data
    assert out.perturbations == tuple(sorted(set(data.groups[~data.control])))
    assert out.e.shape == out.e0.shape == (2, 13, 7)
    assert out.e.dtype == out.e0.dtype == np.float32
    for (repeat, name), own_folds in table.groupby(["repeat", "perturbation"])["fold"]:
        assert out.folds[repeat, out.perturbations.index(name)] == own_folds.iloc[0]
    result = results[0]
    name = data.groups[result.rows[0]]
    place = np.flatnonzero(data.groups[result.rows] == name)
    expected = np.nanmean((result.prediction[place, 0] - data.Y[result.rows[place], 0]) ** 2)
    np.testing.assert_allclose(out.e[0, out.perturbations.index(name), 0], expected, rtol=1e-5)


def test_every_perturbation_weighs_the_same_however_many_wells_it_has(screen):
    own = screen(perturbations=12, plates=1)
    table = folds.make(own.data, NESTED)
    results = evaluate.run(own.data, own.features, NESTED, table, Ridge)
    once = Regression().score(own.data, table, results)
    twin = np.flatnonzero(own.data.groups == "cpd01")
    n = len(own.data.Y)
    more = np.concatenate([np.arange(n), np.repeat(twin, 5)])
    data = replace(
        own.data, units=own.data.units.iloc[more].reset_index(drop=True), Y=own.data.Y[more],
        groups=own.data.groups[more], control=own.data.control[more],
    )  # fmt: skip
    extra = table[table["unit"].isin(twin)].loc[lambda f: f.index.repeat(5)].copy()
    extra["unit"] = list(range(n, n + 5)) * 2
    wide = []
    for r in results:
        copies = np.flatnonzero(np.isin(r.rows, twin)).repeat(5)
        pick = np.concatenate([np.arange(len(r.rows)), copies])
        rows = np.concatenate([r.rows, n + np.arange(len(copies))])
        wide.append(replace(r, rows=rows, prediction=r.prediction[pick], floor=r.floor[pick]))
    many = Regression().score(data, pd.concat([table, extra]), wide)
    np.testing.assert_allclose(many.scores["r2"], once.scores["r2"], rtol=1e-6)


def test_the_floor_has_skill_zero_and_no_correlation(screen):
    _, _, out = scored(screen(), NESTED, head=Mean)
    np.testing.assert_allclose(out.scores["r2"], 0, atol=1e-9)
    assert out.scores[["pearson_r2", "spearman"]].isna().all(axis=None)


def test_a_perfect_head_has_skill_one_and_a_bad_one_is_not_clipped(screen):
    own = screen()
    table, results, _ = scored(own, NESTED, head=Mean)
    perfect = [replace(r, prediction=own.data.Y[r.rows]) for r in results]
    np.testing.assert_array_equal(Regression().score(own.data, table, perfect).scores["r2"], 1.0)
    bad = [replace(r, prediction=r.floor + 100) for r in results]
    assert (Regression().score(own.data, table, bad).scores["r2"] < -10).all()


def test_signal_is_found_and_null_readouts_are_not(screen):
    _, _, out = scored(screen(perturbations=30, doses=2, T=40, null=20, noise=0.3), NESTED)
    r2 = out.scores["r2"].to_numpy()
    assert r2[:20].mean() > 0.7
    assert r2[20:].mean() < 0.01


def test_permuted_readouts_have_no_skill(screen):
    own = screen(perturbations=30, doses=2, T=20, null=0, noise=0.3)
    data = evaluate.permuted(own.data, 0)
    table = folds.make(own.data, NESTED)
    results = evaluate.run(own.data, own.features, NESTED, table, Ridge, permute_seed=0)
    assert Regression().score(data, table, results).scores["r2"].mean() < 0.03


def test_random_wells_flatter_what_knows_only_the_perturbation(screen):
    own = screen(perturbations=20, doses=1, plates=4, null=0)
    names, code = np.unique(own.data.groups, return_inverse=True)
    X = np.eye(len(names), dtype=np.float32)[code]  # the identity of the perturbation and nothing else
    own = replace(own, X=X)
    assert scored(own, NESTED)[2].scores["r2"].mean() < 0.05
    assert scored(own, RANDOM)[2].scores["r2"].mean() > 0.5


def test_undefined_readouts_are_kept_and_score_nan(screen):
    own = uneven(screen)
    assert Regression().prepare(own.data) is own.data
    scores = scored(own, NESTED)[2].scores.set_index("readout")
    assert scores.loc[["gene4", "gene5", "gene6"], "r2"].isna().all()
    assert scores.loc["gene4", "n_perturbations"] == 13
    assert scores.loc["gene5", "n_units"] == 0
    assert np.isfinite(scores.loc["gene0", "r2"])


def test_a_part_of_the_folds_can_be_scored(screen):
    own = screen()
    table = folds.make(own.data, NESTED)
    results = evaluate.run(own.data, own.features, NESTED, table, Ridge, [FoldId(0, 0), FoldId(0, 3)])
    out = Regression().score(own.data, table, results)
    assert out.e.shape[0] == 1
    assert set(np.unique(out.folds)) == {-1, 0, 3}
    np.testing.assert_array_equal(np.isnan(out.e[:, :, 0]), out.folds == -1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: replace(d, scale="sqrt"), "declares scale 'sqrt'"),
        (lambda d: replace(d, scale="counts"), "is negative"),
        (lambda d: replace(d, Y=spoilt(d.Y, 7, np.inf)), "'gene2' of unit row 1 is infinite"),
        (lambda d: replace(d, readouts=("a", "b", "a", "c", "d")), "readout 'a' stands twice"),
        (lambda d: replace(d, readouts=("a",)), "1 readouts"),
        (lambda d: replace(d, groups=spoilt(d.groups, np.argmin(d.control), "nan")), "has no perturbation"),
        (lambda d: replace(d, control=np.ones_like(d.control)), "negative controls only"),
        (lambda d: replace(d, fit_by=("Metadata_Cell",)), "fit_by names 'Metadata_Cell'"),
        (lambda d: replace(d, score_by=("Metadata_Cell",)), "score_by names 'Metadata_Cell'"),
        (lambda d: replace(d, Y=d.Y[:, :0], readouts=()), "nothing to predict"),
    ],
)  # fmt: skip
def test_a_wrong_layer_is_refused_in_one_sentence(screen, change, message):
    with pytest.raises(TaskError, match=message):
        Regression().prepare(change(screen().data))


def test_results_of_another_split_are_refused(screen):
    own = screen()
    table, results, _ = scored(own, NESTED)
    with pytest.raises(TaskError, match="twice"):
        Regression().score(own.data, table, [*results, results[0]])
    with pytest.raises(TaskError, match="not those of the fold table"):
        Regression().score(own.data, folds.make(own.data, NESTED.with_settings(seed=1)), results)
