"""Calls from the demo's regulation layer to two boards of ROC AUC, and back to the stored predictions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.support import Run


def test_up_and_down_are_boards_of_their_own_and_every_number_is_recomputed(
    bench: Run, screen: Path, tmp_path: Path
) -> None:
    words = ("run", "-f", "intensity", "--task", "classification", "--controls", "none", "-j", "2")
    store = tmp_path / "store"
    done = bench(*words, "--dataset", screen, "--store", store, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    boards = json.loads(done.stdout)["boards"]
    assert [board["board"]["layer"] for board in boards] == ["regulation:up", "regulation:down"]
    for board in boards:
        assert board["metric"] == "ROC AUC"
        by_role = {row["role"]: row for row in board["rows"]}
        assert set(by_role) == {"entrant", "permuted", "floor"}
        assert by_role["floor"]["skill"] == pytest.approx(0.5)
        assert 0.3 < by_role["entrant"]["skill"] < 0.9
        assert by_role["entrant"]["skill_low"] < by_role["entrant"]["skill"]
    verified = bench("verify", "all", "--store", store, "--json", cwd=tmp_path)
    assert verified.returncode == 0, verified.stderr
    assert {one["metric"] for one in json.loads(verified.stdout)} == {"roc_auc"}

    for path in store.glob("summands/*/fold-values.parquet"):
        path.write_bytes(path.read_bytes()[:-1])
        break
    broken = bench("verify", "all", "--store", store, cwd=tmp_path)
    assert broken.returncode == 1
    assert "fold-values.parquet" in broken.stderr
