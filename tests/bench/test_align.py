"""Rows by well in the order of other wells."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bench.align import to_wells


def wells(*names: str) -> pd.DataFrame:
    return pd.DataFrame([name.split("/") for name in names], columns=["Metadata_Plate", "Metadata_Well"])


def test_rows_follow_plate_and_well_and_a_well_without_a_row_has_nan() -> None:
    X = np.arange(6, dtype=np.float32).reshape(3, 2)
    found = to_wells(wells("P1/A01", "P2/A01", "P1/B01"), X, wells("P2/A01", "P3/A01", "P1/B01", "P2/A01"))
    np.testing.assert_array_equal(found, [[2, 3], [np.nan, np.nan], [4, 5], [2, 3]])
    assert found.dtype == np.float32


def test_no_row_at_all_leaves_every_well_nan() -> None:
    found = to_wells(wells(), np.zeros((0, 3), np.float32), wells("P1/A01"))
    assert found.shape == (1, 3)
    assert np.isnan(found).all()
