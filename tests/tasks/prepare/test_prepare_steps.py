"""Preparation steps, each by hand."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from tasks.base import TaskError
from tasks.prepare import STEPS, Readouts, build, prepare
from tasks.prepare.counts import size_factors

COUNTS = np.array(
    [[10, 0, 30, 7, 100], [20, 5, 60, 14, 0], [5, 1, 15, 3, 50], [0, 2, 90, 21, 300]], dtype=float
)


def readouts(values, scale="counts", plates=None, control=None, **columns):
    m, T = values.shape
    rows = pd.DataFrame({"Metadata_Plate": plates or ["A"] * m, **columns}, dtype=object)
    return Readouts(values, tuple(f"g{t}" for t in range(T)), rows, control, scale)


def test_size_factors_are_deseq2s_medians_of_ratios_computed_by_hand():
    complete = COUNTS[:, [2, 3]]  # the only readouts above zero everywhere
    geometric = complete.prod(axis=0) ** (1 / 4)
    expected = [np.exp(np.median(np.log(row / geometric))) for row in complete]
    np.testing.assert_allclose(size_factors(COUNTS), expected, rtol=1e-12)
    # Doubling a row's counts doubles its factor relative to the others.
    doubled = COUNTS.copy()
    doubled[1] *= 2
    ratio = size_factors(doubled) / size_factors(COUNTS)
    np.testing.assert_allclose(ratio[1] / ratio[0], 2.0, rtol=1e-12)


def test_poscounts_leaves_zeros_out_of_the_reference_and_factors_multiply_to_one():
    reference = [np.exp(np.log(column[column > 0]).sum() / 4) for column in COUNTS.T]
    raw = [np.median([k / r for k, r in zip(row, reference, strict=True) if k > 0]) for row in COUNTS]
    # The median of an even number of ratios is taken of their logarithms.
    log = [np.median([np.log(k / r) for k, r in zip(row, reference, strict=True) if k > 0]) for row in COUNTS]
    expected = np.exp(np.array(log) - np.mean(log))
    factors = size_factors(COUNTS, "poscounts")
    np.testing.assert_allclose(factors, expected, rtol=1e-12)
    assert np.prod(factors) == pytest.approx(1.0)
    assert np.argsort(factors).tolist() == np.argsort(raw).tolist()


def test_a_row_without_counts_becomes_missing_when_asked_and_changes_no_other_rows_proportions():
    with_empty = np.vstack([COUNTS, np.zeros(5)])
    out, sentence = prepare(
        readouts(with_empty), [build("size-factors", {"reference": "poscounts", "empty": "missing"})]
    )
    assert np.isnan(out.values[4]).all()
    assert "1 without counts became missing" in sentence[0]
    assert np.nanprod(size_factors(with_empty, "poscounts", "missing")) == pytest.approx(1.0)


def test_scaled_copies_of_one_row_have_equal_normalised_counts():
    base = np.random.default_rng(0).integers(1, 200, 30).astype(float)
    given = readouts(base * np.array([1.0, 3.0, 0.5])[:, None])
    out, _ = prepare(given, [build("size-factors", {})])
    np.testing.assert_allclose(out.values, np.tile(out.values[0], (3, 1)), rtol=1e-12)
    assert out.scale == "counts"


@pytest.mark.parametrize(
    ("values", "settings", "message"),
    [
        (COUNTS[:, :2], {}, 'set reference = "poscounts"'),
        (np.zeros((2, 3)), {"reference": "poscounts"}, "no readout is above zero"),
        (np.array([[1.0, 2], [0, 0]]), {"reference": "poscounts"}, "row 2 has no count above zero"),
        (-COUNTS, {}, "below 0 on scale 'counts'"),
    ],
)
def test_counts_without_size_factors_are_refused(values, settings, message):
    with pytest.raises(TaskError, match=message):
        prepare(readouts(values), [build("size-factors", settings)])


def test_the_low_expression_filter_counts_rows_above_zero_on_every_plate():
    seen = np.zeros((8, 4))
    seen[:3, 0] = seen[4:7, 0] = 1  # 3 of 4 on both plates
    seen[:4, 1] = seen[4, 1] = 1  # 4 and 1
    seen[:2, 2] = seen[4:6, 2] = 1  # 2 and 2
    given = readouts(seen, plates=["A"] * 4 + ["B"] * 4)
    names = {
        (3, 0.0, "every"): ("g0",), (3, 0.0, "any"): ("g0", "g1"), (2, 0.0, "every"): ("g0", "g2"),
        (50, 0.75, "every"): ("g0",), (50, 0.5, "every"): ("g0", "g2"), (1, 0.0, "every"): ("g0", "g1", "g2"),
    }  # fmt: skip
    for (wells, share, plates), kept in names.items():
        step = build("low-expression", {"min_wells": wells, "min_share": share, "plates": plates})
        out, sentence = prepare(given, [step])
        assert out.names == kept
        assert f"{len(kept)} of 4 readouts kept" in sentence[0]


def test_image2omics_filter_keeps_what_is_seen_in_50_of_384_wells():
    seen = np.zeros((768, 2))
    plates = ["A"] * 384 + ["B"] * 384
    seen[:50, 0] = seen[384:434, 0] = 3.0
    seen[:49, 1] = seen[384:434, 1] = 3.0
    assert prepare(readouts(seen, plates=plates), [build("low-expression", {})])[0].names == ("g0",)


def test_a_plate_with_fewer_rows_than_the_filter_asks_for_is_named():
    with pytest.raises(TaskError, match="plate A has 4 rows, fewer than min_wells = 50; set min_share"):
        prepare(readouts(COUNTS), [build("low-expression", {})])
    with pytest.raises(TaskError, match="keeps none of 5"):
        prepare(readouts(COUNTS * 0), [build("low-expression", {"min_share": 0.5})])


def test_plate_centring_subtracts_each_plates_controls_and_nothing_else():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(8, 3)) + np.repeat([[0.0], [10.0]], 4, axis=0)
    values[0, 2], values[1, 2] = np.nan, np.nan
    control = np.array([True, True, False, False] * 2)
    given = readouts(values, "log", ["A"] * 4 + ["B"] * 4, control)
    out, sentence = prepare(given, [build("plate-centre", {})])
    for own in (slice(0, 4), slice(4, 8)):
        np.testing.assert_allclose(
            out.values[own][:, :2], values[own][:, :2] - values[own][:2, :2].mean(axis=0)
        )
    assert np.isnan(out.values[:4, 2]).all()  # no control of plate A has it
    assert "2 values without a control" in sentence[0]
    poisoned = values.copy()
    poisoned[~control] = 1e9
    again, _ = prepare(readouts(poisoned, "log", ["A"] * 4 + ["B"] * 4, control), [build("plate-centre", {})])
    assert out.values[control].tobytes() == again.values[control].tobytes()


def test_plate_centring_without_enough_controls_is_refused():
    given = readouts(COUNTS, "log", control=np.array([True, False, False, False]))
    with pytest.raises(TaskError, match="plate A has 1 negative-control rows"):
        prepare(given, [build("plate-centre", {})])
    with pytest.raises(TaskError, match="needs to know which rows are negative controls"):
        prepare(readouts(COUNTS, "log"), [build("plate-centre", {})])


def drawn(order, **settings):
    values = np.arange(36, dtype=float).reshape(12, 3)
    gene = np.repeat(["TP53", "MYC", "none"], [5, 5, 2])
    given = readouts(
        values[order],
        plates=["A"] * 12,
        Metadata_Gene=gene[order],
        Metadata_Well=np.array([f"w{i}" for i in order]),
    )
    step = build("draw-replicates", {"by": ["Metadata_Gene"], "seed": 3, **settings})
    return values, gene, prepare(given, [step])


def test_labels_are_averages_of_drawn_rows_of_the_group_whatever_the_order_of_rows():
    values, gene, (out, sentence) = drawn(np.arange(12))
    assert out.rows.to_numpy().tolist() == [[g, d] for g in ("MYC", "TP53", "none") for d in "12"]
    pairs = {
        name: {tuple((a + b) / 2) for a, b in combinations(values[gene == name], 2)} for name in set(gene)
    }
    for row, own in zip(out.rows["Metadata_Gene"], out.values, strict=True):
        assert tuple(own) in pairs[row]
    shuffled = drawn(np.random.default_rng(0).permutation(12))[2][0]
    assert shuffled.values.tobytes() == out.values.tobytes()
    other = drawn(np.arange(12), seed=4)[2][0]
    assert other.values.tobytes() != out.values.tobytes()
    assert "3 groups by Metadata_Gene, 2 of a group's rows averaged, 2 draws (seed 3)" in sentence[0]
    assert "1 groups have fewer rows" in drawn(np.arange(12), wells=3)[2][1][0]


def test_missing_values_are_left_out_of_a_label():
    values = np.array([[1.0, np.nan], [3.0, np.nan]])
    given = readouts(values, Metadata_Gene=["x", "x"])
    out, _ = prepare(given, [build("draw-replicates", {"by": ["Metadata_Gene"], "draws": 1})])
    np.testing.assert_array_equal(out.values, [[2.0, np.nan]])


def test_a_panel_is_named_hashed_and_flagged_when_a_score_picked_it():
    step = build("panel", {"title": "two genes", "readouts": ["g3", "g1"]})
    out, sentence = prepare(readouts(COUNTS), [step])
    assert (out.names, out.panel) == (("g1", "g3"), "named")
    assert step.hash == build("panel", {"title": "same", "readouts": ["g1", "g3"]}).hash
    assert step.hash[:12] in sentence[0]
    picked = build("panel", {"title": "best", "readouts": ["g3"], "selected_by": "R² on this screen"})
    out, sentence = prepare(readouts(COUNTS), [picked])
    assert out.panel == "score-selected"
    assert "selected by a score (R² on this screen)" in sentence[0]
    with pytest.raises(TaskError, match="no readout 'g9'"):
        prepare(readouts(COUNTS), [build("panel", {"title": "x", "readouts": ["g9"]})])


def test_steps_follow_the_scale():
    chain = [build("low-expression", {"min_share": 0.5}), build("size-factors", {}), build("log", {})]
    out, sentences = prepare(readouts(COUNTS), chain)
    assert out.scale == "log"
    assert len(sentences) == 3
    np.testing.assert_allclose(out.values, np.log2(COUNTS / size_factors(COUNTS)[:, None] + 1))
    with pytest.raises(TaskError, match="'size-factors' takes counts, but the readouts are on scale 'log'"):
        prepare(readouts(COUNTS), [build("log", {}), build("size-factors", {})])
    with pytest.raises(TaskError, match="is 0, which has no logarithm"):
        prepare(readouts(COUNTS, "ratio"), [build("log", {"pseudocount": 0})])


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("size-factor", {}, "did you mean 'size-factors'"),
        ("log", {"pseudo": 1}, "no setting 'pseudo'; did you mean 'pseudocount'"),
        ("log", {"pseudocount": -1.0}, "a number of at least 0"),
        ("low-expression", {"min_wells": 2.5}, "a whole number"),
        ("low-expression", {"plates": "all"}, "plates cannot be 'all'"),
        ("draw-replicates", {}, "by must name"),
        ("draw-replicates", {"by": "Metadata_Gene"}, "a list of texts"),
        ("panel", {"title": "x", "readouts": ["a", "a"]}, "'a' twice"),
        ("panel", {}, "needs a title"),
    ],
)
def test_a_wrong_step_is_one_sentence(name, settings, message):
    with pytest.raises(TaskError, match=message):
        build(name, settings)


def test_a_column_that_is_absent_or_empty_is_named():
    step = build("low-expression", {"plate_column": "Metadata_OmicsPlate", "min_wells": 1})
    with pytest.raises(
        TaskError, match="needs column Metadata_OmicsPlate among the layer's rows, which have: Meta"
    ):
        prepare(readouts(COUNTS), [step])
    with pytest.raises(TaskError, match="Metadata_Plate is empty in row 2"):
        prepare(readouts(COUNTS, plates=["A", "", "A", "A"]), [build("low-expression", {"min_wells": 1})])


def test_every_step_says_what_it_takes():
    assert set(STEPS) == {"low-expression", "size-factors", "log", "plate-centre", "draw-replicates", "panel"}
