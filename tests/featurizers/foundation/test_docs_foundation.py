"""The worked example of docs/foundation.md, run as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOC = Path(__file__).parents[3] / "docs" / "foundation.md"


@pytest.mark.slow
def test_the_worked_example_keeps_the_contract(tmp_path):
    text = DOC.read_text(encoding="utf-8")
    files = re.findall(r"<!-- file: (\S+) -->\n```python\n(.*?)```", text, re.DOTALL)
    assert [name for name, _ in files] == ["make_weights.py", "tinynet.py"]
    for name, code in files:
        (tmp_path / name).write_text(code, encoding="utf-8")
    commands = re.findall(r"^\$ (.*)$", text, re.MULTILINE)[:2]
    assert commands[1].startswith("bench plugin test tinynet.py")
    here = {"python": sys.executable, "bench": str(Path(sys.executable).with_name("bench"))}
    for command in commands:
        program, *words = command.split()
        done = subprocess.run(
            [here[program], *words], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert "0 failed" in done.stdout
