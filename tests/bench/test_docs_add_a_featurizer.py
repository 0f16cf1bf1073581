"""The page's commands are run, and what it shows is what they print."""

import re
import shlex
from pathlib import Path

import pytest

from bench.__main__ import main

PAGE = (Path(__file__).parents[2] / "docs" / "add-a-featurizer.md").read_text(encoding="utf-8")
HEAVY = ("demo", "run")


def commands():
    """Yield each ``$`` line of the page's console blocks with the lines that stand below it."""
    for block in re.findall(r"```console\n(.*?)```", PAGE, flags=re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, *shown = part.rstrip().splitlines()
            yield shlex.split(line), shown


def call(words):
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert not stop.value.code, words


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """An empty working folder in a terminal of 100 columns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


def write_the_page_s_files(folder):
    for path, text in re.findall(r"<!-- file: (\S+) -->\n```python\n(.*?)```", PAGE, flags=re.DOTALL):
        (folder / path).write_text(text)


def test_the_page_shows_what_its_commands_print(desk, capsys):
    ran = 0
    for words, shown in commands():
        if words[0] != "bench" or words[1] in HEAVY or "mae" in words:
            continue
        call(words[1:])
        printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
        assert not shown or printed == shown
        if words[1:3] == ["plugin", "new"]:
            write_the_page_s_files(desk)
        ran += 1
    assert ran == 3


def test_without_its_guard_the_page_s_example_fails_as_the_page_says(desk, capsys):
    call(["plugin", "new", "featurizer", "granules"])
    write_the_page_s_files(desk)
    module = desk / "wellbench-granules" / "wellbench_granules.py"
    module.write_text(module.read_text().replace("max(x[inside].sum(), 1e-12)", "x[inside].sum()"))
    with pytest.raises(SystemExit):
        main(["plugin", "test", str(module), "--json"])
    said = re.search(r"`(a channel in which .*?)`", PAGE, flags=re.DOTALL)[1]
    assert " ".join(said.split()) in capsys.readouterr().out


@pytest.mark.slow
def test_the_page_s_example_reaches_the_board(desk, capsys):
    for words, _ in commands():
        if words[0] == "bench" and "mae" not in words:
            call(words[1:])
        if words[1:3] == ["plugin", "new"]:
            write_the_page_s_files(desk)
        if words[1] == "run":
            assert re.search(r"^ +1 +granules", capsys.readouterr().out, flags=re.MULTILINE)
