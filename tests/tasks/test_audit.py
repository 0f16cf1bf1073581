"""The leakage audit: each check catches its planted leak and passes a clean screen."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from tasks import folds
from tasks.audit import audit
from tasks.base import LeakageError
from tasks.protocol import load

NESTED, RANDOM = load("nested-cv"), load("random-wells")


def codes(found):
    return [finding.code for finding in found]


def clean(screen, **settings):
    return screen(perturbations=30, doses=1, plates=3, D=20, T=8, noise=1.0, **settings)


def test_a_clean_screen_passes_without_a_word(screen):
    own = clean(screen)
    digests = pd.DataFrame({"well": range(len(own.X)), "digest": [f"d{i}" for i in range(len(own.X))]})
    assert audit(own.data, NESTED, folds.make(own.data, NESTED), own.X, images=digests) == []


def test_a_perturbation_on_both_sides_is_refused(screen):
    own = clean(screen)
    table = folds.make(own.data, NESTED)
    place = table.index[(table["perturbation"] == "cpd07") & (table["repeat"] == 2)][0]
    table.loc[place, "fold"] = (table.loc[place, "fold"] + 1) % 5
    with pytest.raises(LeakageError, match=r"1 of 30 perturbations .* 'cpd07'"):
        audit(own.data, NESTED, table)


def test_under_an_optimistic_protocol_the_refusal_is_a_banner(screen):
    own = clean(screen)
    found = audit(own.data, RANDOM, folds.make(own.data, RANDOM), own.X)
    assert codes(found) == ["perturbation-split"]
    assert (found[0].severity, found[0].figure) == ("banner", 1.0)


def share_a_well(data, first, second):
    """Give the first unit of one perturbation half of its features from a well of another."""
    a, b = (np.flatnonzero(data.groups == name)[0] for name in (first, second))
    members = data.members.tolil()
    members[a] = 0
    members[a, a] = members[a, b] = 0.5
    return replace(data, members=sparse.csr_matrix(members))


def test_a_well_in_units_of_training_and_test_perturbations_is_refused(screen):
    own = clean(screen)
    data = share_a_well(own.data, "cpd03", "cpd04")
    table = folds.make(data, NESTED)
    well = data.wells.iloc[np.flatnonzero(data.groups == "cpd04")[0]]
    with pytest.raises(LeakageError, match=f"well {well['Metadata_Plate']} {well['Metadata_Well']}"):
        audit(data, NESTED, table)


def test_controls_may_be_shared(screen):
    own = clean(screen)
    data = share_a_well(own.data, "cpd03", "DMSO")
    assert audit(data, NESTED, folds.make(data, NESTED)) == []


def test_a_well_shared_by_the_units_of_one_perturbation_is_no_leak(screen):
    own = clean(screen)
    a, b = np.flatnonzero(own.data.groups == "cpd03")[:2]
    members = own.data.members.tolil()
    members[a, a] = members[a, b] = 0.5
    data = replace(own.data, members=sparse.csr_matrix(members))
    assert audit(data, NESTED, folds.make(data, NESTED)) == []


def test_the_same_image_in_two_perturbations_is_refused_unless_one_is_a_control(screen):
    own = clean(screen)
    table = folds.make(own.data, NESTED)
    first, second, control = (np.flatnonzero(own.data.groups == g)[0] for g in ("cpd00", "cpd01", "DMSO"))
    digests = pd.DataFrame({"well": range(len(own.X)), "digest": [f"d{i}" for i in range(len(own.X))]})
    home = table[table["repeat"] == 0].set_index("perturbation")["fold"].groupby(level=0).first()
    other = next(g for g in home.index if home[g] != home["cpd00"])
    second = np.flatnonzero(own.data.groups == other)[0]
    leak = digests.assign(digest=digests["digest"].where(digests["well"] != second, f"d{first}"))
    with pytest.raises(LeakageError, match="1 images are byte for byte the same"):
        audit(own.data, NESTED, table, images=leak)
    fine = digests.assign(digest=digests["digest"].where(digests["well"] != control, f"d{first}"))
    assert audit(own.data, NESTED, table, images=fine) == []


def test_one_structure_under_two_names_in_different_folds_is_warned_of(screen):
    own = clean(screen)
    table = folds.make(own.data, NESTED)
    of = dict(zip(own.data.members.indices, own.data.groups[own.data.members.tocoo().row], strict=True))
    names = pd.Series([of.get(w, "") for w in range(len(own.data.wells))])
    apart = replace(own.data, wells=own.data.wells.assign(Metadata_SMILES="C" + names))
    assert audit(apart, NESTED, table) == []
    same = apart.wells["Metadata_SMILES"].replace({"Ccpd05": "Ccpd04", "Ccpd06": ""})
    data = replace(apart, wells=apart.wells.assign(Metadata_SMILES=same))
    (found,) = audit(data, NESTED, table)
    assert (found.severity, found.code) == ("warning", "structure-shared")
    assert found.figure == pytest.approx(2 / 30)
    assert "'cpd04' and 'cpd05'" in found.message
    together = table.assign(fold=table["fold"].where(~table["perturbation"].isin(["cpd04", "cpd05"]), 0))
    assert audit(data, NESTED, together) == []


def test_an_encoder_fitted_on_all_labels_is_refused_and_one_per_fold_is_not(screen):
    own = clean(screen)
    table = folds.make(own.data, NESTED)
    with pytest.raises(LeakageError, match="refit it inside each outer fold"):
        audit(own.data, NESTED, table, fit_scope="inductive")
    assert audit(own.data, NESTED, table, fit_scope="inductive", supplier="per-fold") == []
    assert audit(own.data, NESTED, table, fit_scope="transductive") == []
    banner = audit(own.data, RANDOM, folds.make(own.data, RANDOM), fit_scope="inductive")
    assert codes(banner) == ["perturbation-split", "fitted-on-test"]


@pytest.mark.parametrize(
    ("place", "wells"),
    [
        ("column", lambda number, replicate: f"{chr(65 + replicate)}{number % 24 + 1:02d}"),
        ("row", lambda number, replicate: f"{chr(65 + number % 16)}{replicate + 1:02d}"),
    ],
)
def test_treatments_confined_to_a_row_or_column_are_warned_of(screen, place, wells):
    own = clean(screen)
    number = np.array([int(g[3:]) if g != "DMSO" else 0 for g in own.data.groups])
    replicate = own.data.wells["Metadata_Plate"].str[1:].astype(int)
    named = [wells(n, r) for n, r in zip(number, replicate, strict=True)]
    data = replace(own.data, wells=own.data.wells.assign(Metadata_Well=named))
    (found,) = audit(data, NESTED, folds.make(data, NESTED))
    assert (found.code, found.figure, found.severity) == (f"confounded-{place}", 1.0, "warning")
    assert "a random layout: " in found.message


def test_treatments_confined_to_a_plate_are_warned_of(screen):
    own = clean(screen)
    number = np.array([int(g[3:]) % 3 if g != "DMSO" else 0 for g in own.data.groups])
    data = replace(own.data, wells=own.data.wells.assign(Metadata_Plate=[f"P{n}" for n in number]))
    assert codes(audit(data, NESTED, folds.make(data, NESTED))) == ["confounded-plate"]


def test_treatments_laid_out_in_blocks_of_columns_are_warned_of(screen):
    own = clean(screen)
    number = np.array([int(g[3:]) if g != "DMSO" else 0 for g in own.data.groups])
    wells = [f"{chr(65 + i % 8)}{3 * (n % 8) + 1 + i % 3:02d}" for i, n in enumerate(number)]
    few = np.array([f"drug{n % 8}" for n in number])
    data = replace(own.data, wells=own.data.wells.assign(Metadata_Well=wells), groups=few)
    (found,) = [f for f in audit(data, NESTED, folds.make(data, RANDOM)[:0]) if f.code == "confounded-column"]
    assert found.figure == 1.0
    assert "pairs of wells in one column share their perturbation" in found.message


def test_the_chance_of_a_random_layout_equals_its_simulation():
    from tasks.layout import _all_alike

    rng = np.random.default_rng(0)
    sizes = np.array([3.0, 5.0, 12.0])
    labels = np.repeat(np.arange(3), sizes.astype(int))
    draws = [len(set(rng.choice(labels, 3, replace=False))) == 1 for _ in range(20000)]
    assert _all_alike(sizes, 3) == pytest.approx(np.mean(draws), abs=0.01)


def test_features_that_tell_plates_apart_are_warned_of(screen):
    own = clean(screen)
    shift = own.data.wells["Metadata_Plate"].str[1:].astype(int).to_numpy()
    X = own.X.copy()
    X[:, 3:6] += 20 * np.eye(3)[shift]
    (found,) = audit(own.data, NESTED, folds.make(own.data, NESTED), X)
    assert found.code == "plate-decodable"
    assert found.figure > 0.9


def slow_share(Y, plate):
    """Adjusted share of variance between plates, one readout at a time."""
    shares = []
    for y in Y.T:
        known = ~np.isnan(y)
        y, of = y[known].astype(float), plate[known]
        within = sum(((y[of == name] - y[of == name].mean()) ** 2).sum() for name in set(of))
        shares.append(1 - (within / (len(y) - len(set(of)))) / y.var(ddof=1))
    return np.mean(shares)


def test_plates_that_shift_the_readouts_are_warned_of(screen):
    own = clean(screen)
    plate = own.data.wells["Metadata_Plate"].to_numpy()
    Y = own.data.Y + 0.8 * (plate == "P1")[:, None] - 0.8 * (plate == "P2")[:, None]
    Y[::7, 2] = np.nan
    data = replace(own.data, Y=Y.astype(np.float32))
    (found,) = [f for f in audit(data, NESTED, folds.make(data, NESTED)) if f.severity == "warning"]
    treated = ~data.control
    assert found.code == "plate-in-readouts"
    assert found.figure == pytest.approx(slow_share(Y[treated], plate[treated]), rel=1e-5)
    one = replace(data, wells=data.wells.assign(Metadata_Plate="P0"))
    assert "plate-in-readouts" not in codes(audit(one, NESTED, folds.make(one, NESTED)))


def test_features_that_give_the_position_away_are_warned_of(screen):
    own = clean(screen)
    X = own.X.copy()
    X[:, 3] += 2 * own.data.wells["Metadata_Well"].str[1:].astype(int)
    (found,) = audit(own.data, NESTED, folds.make(own.data, NESTED), X)
    assert found.code == "position-decodable"
    assert "column" in found.message
    assert 0.5 < found.figure <= 1


def test_equal_rows_of_different_perturbations_are_warned_of(screen):
    own = clean(screen)
    a, b = (np.flatnonzero(own.data.groups == g)[0] for g in ("cpd00", "cpd01"))
    X = own.X.copy()
    X[b] = X[a]
    (found,) = audit(own.data, NESTED, folds.make(own.data, NESTED), X)
    assert found.code == "identical-rows"
    assert found.figure == pytest.approx(2 / (~own.data.well_control).sum())
    same = own.X.copy()
    same[np.flatnonzero(own.data.groups == "cpd00")] = 1.0  # replicates of one perturbation may coincide
    assert audit(own.data, NESTED, folds.make(own.data, NESTED), same) == []
    count = own.X[:, :1].round()
    assert "identical-rows" not in codes(audit(own.data, NESTED, folds.make(own.data, NESTED), count))


def test_readouts_measured_on_the_images_are_warned_of(screen):
    own = clean(screen)
    Y = own.data.Y.copy()
    Y[:, 2] = 7 - 3 * own.X[:, 5]
    Y[np.random.default_rng(0).random(len(Y)) < 0.3, 2] = np.nan
    data = replace(own.data, Y=Y)
    (found,) = audit(data, NESTED, folds.make(data, NESTED), own.X)
    assert found.code == "readout-from-image"
    assert "'gene2'" in found.message
    assert found.figure == pytest.approx(1 / 8)


def test_readouts_that_are_a_monotone_function_of_a_feature_are_warned_of(screen):
    own = clean(screen)
    Y = own.data.Y.copy()
    Y[:, 2] = np.exp(-3 * own.X[:, 5] / own.X[:, 5].std())
    Y[np.random.default_rng(0).random(len(Y)) < 0.1, 2] = np.nan
    data = replace(own.data, Y=Y)
    (found,) = audit(data, NESTED, folds.make(data, NESTED), own.X)
    assert (found.code, found.figure) == ("readout-from-image", pytest.approx(1 / 8))
    r = [abs(np.corrcoef(own.X[:, d], np.nan_to_num(Y[:, 2]))[0, 1]) for d in range(20)]
    assert max(r) < 0.9  # what a linear check would have seen


def gappy(X, seed=0):
    """Leave every well without some feature, and one feature without a value."""
    X = X.copy()
    rng = np.random.default_rng(seed)
    X[np.arange(len(X)), rng.integers(0, X.shape[1], len(X))] = np.nan
    X[rng.random(len(X)) < 0.05] = np.nan
    return np.column_stack([X, np.full(len(X), np.nan, X.dtype)])


def test_missing_features_do_not_silence_a_copied_readout(screen):
    own = clean(screen)
    Y = own.data.Y.copy()
    Y[:, 2] = 7 - 3 * own.X[:, 5]
    data = replace(own.data, Y=Y)
    (found,) = audit(data, NESTED, folds.make(data, NESTED), gappy(own.X))
    assert (found.code, found.figure) == ("readout-from-image", pytest.approx(1 / 8))


def test_missing_features_do_not_silence_plates_and_positions(screen):
    own = clean(screen)
    plate = pd.factorize(own.data.wells["Metadata_Plate"])[0]
    column = own.data.wells["Metadata_Well"].str[1:].astype(int).to_numpy()
    table = folds.make(own.data, NESTED)
    for extra, code in (
        ((plate[:, None] == range(3)) * 9.0, "plate-decodable"),
        (column[:, None] * 2.0, None),
    ):
        X = gappy(np.column_stack([own.X, extra]).astype(np.float32))
        found = audit(own.data, NESTED, table, X)
        assert codes(found) == [code or "position-decodable"]
    assert audit(own.data, NESTED, table, gappy(own.X)) == []


@pytest.mark.parametrize("gaps", [0.0, 0.3])
def test_correlation_with_the_nearest_feature_equals_a_loop(gaps):
    from tasks.audit import _largest_correlation

    rng = np.random.default_rng(0)
    U, y = rng.normal(size=(40, 9)), rng.normal(size=(40, 5))
    U = (U - U.mean(axis=0)) / U.std(axis=0)
    y[rng.random(y.shape) < 0.3] = np.nan
    U[rng.random(U.shape) < gaps] = np.nan
    for t in range(5):
        expected = 0.0
        for d in range(9):
            own = ~np.isnan(y[:, t]) & ~np.isnan(U[:, d])
            expected = max(expected, abs(np.corrcoef(U[own, d], y[own, t])[0, 1]))
        assert _largest_correlation(U, y)[t] == pytest.approx(expected)


def test_a_panel_picked_by_a_score_is_flagged(screen):
    own = clean(screen)
    table = folds.make(own.data, NESTED)
    assert codes(audit(own.data, NESTED, table, panel="score-selected")) == ["panel-selected"]
    assert audit(own.data, NESTED, table, panel="named") == []


def test_wells_without_features_position_or_plate_are_no_error(screen):
    own = clean(screen)
    X = own.X.copy()
    X[::7] = np.nan
    table = folds.make(own.data, NESTED)
    assert audit(own.data, NESTED, table, X) == []
    bare = replace(own.data, wells=pd.DataFrame(index=range(len(X))))
    assert audit(bare, NESTED, table, X) == []
    odd = replace(own.data, wells=own.data.wells.assign(Metadata_Well="well-1"))
    assert audit(odd, NESTED, table, X) == []
