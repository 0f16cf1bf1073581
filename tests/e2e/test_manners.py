"""The command line's manners: light help, plans without pixels, settings that come back, JSON that parses."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.e2e.support import QUICK, Run

HEAVY = ("torch", "duckdb", "pandas", "skimage")


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["leaderboard", "--help"]])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys\nfrom bench.__main__ import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        f"heavy = [m for m in {HEAVY!r} if m in sys.modules]\nassert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_leaderboard_command_imports_no_torch(scored: Path) -> None:
    code = (
        "import sys\nfrom bench.__main__ import main\n"
        "try:\n    main(['leaderboard', '--store', sys.argv[1]])\nexcept SystemExit:\n    pass\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(scored)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_command_has_help(bench: Run, tmp_path: Path) -> None:
    from bench.__main__ import COMMANDS

    for name in COMMANDS:
        done = bench(name, "--help", cwd=tmp_path)
        assert done.returncode == 0, (name, done.stderr)
        assert "Usage" in done.stdout


def test_a_line_of_a_dry_run_breaks_between_words_and_says_what_it_does_not_know() -> None:
    from bench.cli import ui
    from bench.forecast import Forecast, Line

    note = "once per outer fold of the first repeat"
    step = Line("resnet18-triplet[tiny, 60 steps]: fit and features", 0, 1, float("nan"), "", note)
    line, total = Forecast([step]).lines()
    shown = ui.wrapped(line, 80).splitlines()
    assert all(len(part) <= 80 for part in shown)
    assert shown[1] == "    for an unknown time  once per outer fold of the first repeat"
    assert " ".join(" ".join(shown).split()) == (
        "resnet18-triplet[tiny, 60 steps]: fit and features 0 stored 1 to do for an unknown time "
        "once per outer fold of the first repeat"
    )
    assert total.endswith("about 0 s and the unknown")
    assert ui.wrapped(line) == line, "a file takes a line as it is"


def test_a_dry_run_computes_nothing_and_counts_what_is_stored(
    bench: Run, screen: Path, scored: Path, tmp_path: Path
) -> None:
    fresh = bench(*QUICK, "--dataset", screen, "--store", "none", "--dry-run", "--json", cwd=tmp_path)
    assert fresh.returncode == 0, fresh.stderr
    assert all(step["stored"] == 0 for step in json.loads(fresh.stdout)["steps"])
    assert not (tmp_path / "none").exists()
    known = bench(*QUICK, "--dataset", screen, "--store", scored, "--dry-run", "--json", cwd=tmp_path)
    assert all(step["missing"] == 0 for step in json.loads(known.stdout)["steps"]), known.stdout


def test_printed_settings_are_a_settings_file_and_flags_win_over_it(bench: Run, tmp_path: Path) -> None:
    words = ("run", "-f", "mae", "--set", "mae.steps=3", "--seed", "7", "--print-config")
    printed = bench(*words, cwd=tmp_path).stdout
    (tmp_path / "settings.toml").write_text(printed, encoding="utf-8")
    again = bench("run", "settings.toml", "--print-config", cwd=tmp_path).stdout
    assert again == printed
    changed = bench("run", "settings.toml", "--seed", "8", "--print-config", cwd=tmp_path).stdout
    assert tomllib.loads(changed) == tomllib.loads(printed) | {"seed": 8}


def test_an_unknown_setting_names_the_file_and_the_nearest(bench: Run, tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text('featurizer = ["mae"]\n', encoding="utf-8")
    done = bench("run", "settings.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert "settings.toml" in done.stderr
    assert "did you mean 'featurizers'" in done.stderr


@pytest.mark.parametrize("form", ["markdown", "csv", "json"])
def test_boards_are_written_in_every_form(
    bench: Run, screen: Path, scored: Path, tmp_path: Path, form: str
) -> None:
    words = ("leaderboard", "--store", scored, "--format", form, "--out", "board")
    done = bench(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "intensity" in (tmp_path / "board").read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [80, 120])
def test_a_board_is_no_wider_than_the_terminal(bench: Run, scored: Path, tmp_path: Path, width: int) -> None:
    done = bench("leaderboard", "--store", scored, cwd=tmp_path, COLUMNS=str(width))
    assert max(len(line) for line in done.stdout.splitlines()) <= width


def test_runs_under_different_protocols_stand_on_different_boards_and_the_optimistic_one_says_so(
    bench: Run, screen: Path, tmp_path: Path
) -> None:
    common = (*QUICK, "--dataset", screen, "--store", "store")
    assert bench(*common, cwd=tmp_path).returncode == 0
    assert bench(*common, "--protocol", "random-wells", cwd=tmp_path).returncode == 0
    done = bench("leaderboard", "--store", "store", "--json", cwd=tmp_path)
    boards = {board["board"]["protocol"]: board for board in json.loads(done.stdout)}
    assert set(boards) == {"nested-cv", "random-wells"}
    assert "optimistic" in boards["random-wells"]["banner"].lower()
    assert not boards["nested-cv"]["banner"]
