"""What is known of the demo screen tests the harness: ceilings are reached, nulls are not predicted."""

from __future__ import annotations

import pandas as pd
import pytest

from tests.e2e.support import Run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def truth_and_boards(bench: Run, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Return one row per run and readout of the full demo screen, with the truth beside it."""
    from bench import entries
    from bench.store import Store
    from leaderboard import Leaderboard

    home = tmp_path_factory.mktemp("truth")
    done = bench("run", "-f", "intensity", "--store", "store", cwd=home, timeout=1200)
    assert done.returncode == 0, done.stderr
    truth = pd.read_parquet(home / "wellbench-demo" / "truth.parquet")
    store = Store(home / "store", create=False)
    frames = []
    for board in Leaderboard(
        [entries.load_entry(store, run) for run in entries.run_identifiers(store)]
    ).boards:
        rows = board.readouts.merge(board.rows[["run", "name", "role"]], on="run")
        frames.append(rows.merge(truth[truth["layer"] == board.entries[0].layer], on="readout"))
    return pd.concat(frames, ignore_index=True)


def test_the_oracle_reaches_the_ceiling(truth_and_boards: pd.DataFrame) -> None:
    own = truth_and_boards.query("name == 'oracle' and not null")
    by_layer = own.groupby("layer")[["skill", "ceiling"]].mean()
    assert len(by_layer) == 2
    assert ((by_layer["ceiling"] - by_layer["skill"]).between(-0.02, 0.06)).all(), by_layer


def test_the_oracle_predicts_nearly_every_linked_readout(truth_and_boards: pd.DataFrame) -> None:
    own = truth_and_boards.query("name == 'oracle' and not null")
    assert own["predictable"].mean() > 0.9


def test_null_readouts_are_called_predictable_at_no_more_than_the_stated_rate(
    truth_and_boards: pd.DataFrame,
) -> None:
    called = truth_and_boards[truth_and_boards["predictable"].astype(bool)]
    assert len(called) > 100
    assert called["null"].mean() <= 0.05


def test_plate_position_and_the_floor_predict_nothing(truth_and_boards: pd.DataFrame) -> None:
    own = truth_and_boards[truth_and_boards["name"].isin(["position", "mean"])]
    assert not own["predictable"].astype(bool).any()
    assert own["skill"].mean() <= 0


def test_replicate_wells_give_the_noise_ceiling_and_pooled_treatments_none(
    truth_and_boards: pd.DataFrame,
) -> None:
    own = truth_and_boards.query("name == 'oracle'")
    wells, pooled = (own[own["layer"] == layer] for layer in ("transcripts", "proteins"))
    # Null readouts repeat what the hidden programmes say, 0.4 of their variance; linked ones more than that.
    assert wells.loc[wells["null"], "noise_ceiling"].mean() == pytest.approx(0.4, abs=0.03)
    linked = wells[~wells["null"]]
    assert linked["noise_ceiling"].corr(linked["ceiling"]) > 0.9
    assert (linked["noise_ceiling"].mean() - linked["skill"].mean()) > 0
    assert pooled["noise_ceiling"].isna().all()
