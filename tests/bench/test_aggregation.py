"""From the rows of a well's fields to the row of the well."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from bench.embed import _embed_all, aggregated
from bench.entrants import AGGREGATIONS, DEFAULT_AGGREGATION, Spec, entrant, feature_document
from bench.errors import UsageError
from bench.settings import Settings
from bench.start import check_names
from featurizers.base import Embedding, Field

RNG = np.random.default_rng(0)
FIELDS = [RNG.normal(size=(n, 3)).astype(np.float32) for n in (1, 4, 7)]


def test_every_rule_is_its_definition():
    cells = [row for own in FIELDS for row in own]
    loops = {
        "field-mean": [np.mean([np.mean([r[j] for r in own]) for own in FIELDS]) for j in range(3)],
        "cell-mean": [np.mean([r[j] for r in cells]) for j in range(3)],
        "cell-median": [sorted(float(r[j]) for r in cells)[5:7] for j in range(3)],
    }
    loops["cell-median"] = [sum(pair) / 2 for pair in loops["cell-median"]]
    assert set(loops) == set(AGGREGATIONS)
    for rule, wanted in loops.items():
        np.testing.assert_allclose(aggregated(FIELDS, rule), wanted, rtol=1e-6)
        assert aggregated(FIELDS, rule).dtype == np.float32
    with pytest.raises(ValueError, match="'mode' is no aggregation"):
        aggregated(FIELDS, "mode")


def test_the_rule_and_kept_cells_reach_the_rows_of_a_well():
    def embed(fields):
        own = [FIELDS[int(f.metadata["Metadata_Site"])] for f in fields]
        owner = np.repeat(np.arange(len(own)), [len(rows) for rows in own])
        numbers = np.concatenate([np.arange(1, len(rows) + 1) for rows in own]).astype(np.int32)
        return Embedding(np.concatenate(own), owner, numbers)

    featurizer = SimpleNamespace(
        card=SimpleNamespace(name="three", needs=("pixels",)), columns=lambda _: ("a", "b", "c"), embed=embed
    )
    fields = [
        Field({"Metadata_Plate": "P", "Metadata_Well": "A01", "Metadata_Site": str(i)}, ()) for i in range(3)
    ]
    dataset = SimpleNamespace(channels=())
    rows = _embed_all(
        featurizer, dataset, fields, ["A01"], [], Spec("three", aggregate="cell-median", cells=True)
    )
    np.testing.assert_array_equal(rows.values[0], aggregated(FIELDS, "cell-median"))
    assert [(c.well, c.site, c.ids.tolist()) for c in rows.cell_rows] == [
        ("A01", str(i), list(range(1, len(own) + 1))) for i, own in enumerate(FIELDS)
    ]
    for kept, own in zip(rows.cell_rows, FIELDS, strict=True):
        np.testing.assert_array_equal(kept.values, own)
    plain = _embed_all(featurizer, dataset, fields, ["A01"], [], Spec("three"))
    assert plain.cell_rows == []
    np.testing.assert_array_equal(plain.values[0], aggregated(FIELDS, DEFAULT_AGGREGATION))


def test_the_rule_is_on_the_board_and_in_the_key():
    dataset = SimpleNamespace(channels=(), imaging={}, bit_depth=16)
    usual = entrant("position", Settings(), named=True)
    median = entrant("position", Settings(aggregate="cell-median", keep_cells=True), named=True)
    assert median.label == f"{usual.label}, cell-median"
    documents = [feature_document(e.spec, e.spec.build(), dataset, None, None) for e in (usual, median)]
    assert [d["aggregation"] for d in documents] == ["field-mean", "cell-median"]
    assert "cells" not in documents[0]
    assert documents[1]["cells"] is True


def test_an_unknown_rule_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match="cell-median"):
        check_names(Settings(featurizers=("intensity",), aggregate="cell-medan"))
