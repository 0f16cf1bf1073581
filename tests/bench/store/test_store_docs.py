"""The examples of docs/store.md run as they stand there."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[3]


def test_the_python_examples_of_the_store_page_run(tmp_path, monkeypatch, capsys, part):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "store.md").read_text("utf-8"), flags=re.S)
    assert len(blocks) == 3
    shutil.copytree(ROOT / "tests" / "golden" / "store" / "v1", tmp_path / "wellbench-store")
    monkeypatch.chdir(tmp_path)
    names = {"wells_key": part("P1").key}
    for block in blocks:
        exec(compile(block, "docs/store.md", "exec"), names)
    printed = capsys.readouterr().out
    assert names["X"].shape == (3, 4)
    assert names["X"].dtype == np.float32
    assert names["wells"]["plate"].tolist() == ["P1", "a/b", "ü x"]
    assert names["wells"]["wells"].tolist() == [3, 3, 3]
    assert names["features"].columns[0] == "DNA_mean"
    assert "DNA_mean" in printed
    assert "<script>" in printed
