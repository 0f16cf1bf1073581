import json

import pytest

from bench.__main__ import main

GOOD = """
import dataclasses
from featurizers.cell_count import CellCount

class Granules(CellCount):
    card = dataclasses.replace(CellCount.card, name="granules", title="[bold]Granules[/bold]", role="entrant")
"""


@pytest.fixture
def call(capsys):
    """Run the command line; return exit code, standard output and standard error."""

    def run(*words):
        with pytest.raises(SystemExit) as stop:
            main([str(w) for w in words])
        captured = capsys.readouterr()
        return stop.value.code or 0, captured.out, captured.err

    return run


@pytest.fixture
def good(tmp_path):
    path = tmp_path / "gränules and more.py"
    path.write_text(GOOD)
    return path


def test_featurizers_are_listed_with_their_card_and_origin(call):
    code, out, _ = call("featurizers", "--json")
    assert code == 0
    rows = {row["name"]: row for row in json.loads(out)}
    row = rows["intensity"]
    assert (row["role"], row["fit_scope"], row["needs"]) == ("control", "pretrained", ["pixels", "objects"])
    assert row["available"] is True
    assert row["origin"].startswith("wellbench ")
    assert rows["oracle"]["role"] == "ceiling"


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_the_terminal_and_keeps_every_name(call, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    code, out, _ = call("featurizers")
    assert code == 0
    assert max(map(len, out.splitlines())) <= width
    for name in ("cell-count", "intensity", "mae", "oracle", "position", "untrained"):
        assert any(line.split()[:1] == [name] for line in out.splitlines())


def test_a_broken_plugin_is_shown_with_its_reason_beside_the_others(call, tmp_path):
    bad = tmp_path / "bad.py"
    bad.write_text("raise RuntimeError('no [licence] here')")
    code, out, _ = call("featurizers", "--plugin", bad)
    assert code == 0
    assert "RuntimeError: no [licence] here" in out.replace("\n", " ")
    assert any(line.split()[:1] == ["intensity"] for line in out.splitlines())


def test_a_plugin_file_is_listed_by_its_name_alone_and_in_full_as_json(call, good):
    code, out, _ = call("featurizers", "--plugin", good)
    assert code == 0
    assert "gränules" in out
    rows = json.loads(call("featurizers", "--plugin", good, "--json")[1])
    assert next(r for r in rows if r["name"] == "granules")["origin"].startswith(f"{good} (sha256 ")


def test_one_name_shows_the_whole_card_settings_and_presets(call, good):
    code, out, _ = call("featurizers", "position")
    assert code == 0
    for text in ("channel rule", "reads no channel", "plate = hashed-plate", "(hashed-plate | none)", "1536"):
        assert text in out
    assert "[bold]Granules[/bold]" in call("featurizers", "granules", "--plugin", good)[1]


def test_a_whole_card_is_printed_as_json(call):
    facts = json.loads(call("featurizers", "intensity", "--json")[1])
    assert facts["settings"][0] == {
        "name": "regions",
        "type": "(image | objects), …",
        "default": ["image", "objects"],
    }
    assert facts["presets"]["mean"]["percentiles"] == []
    assert facts["licence"] == "BSD-3-Clause"


def test_an_unknown_name_is_wrong_usage(call):
    code, _, err = call("featurizers", "postion")
    assert code == 2
    assert "did you mean 'position'?" in err


@pytest.mark.parametrize(("command", "name"), [("heads", "ridge"), ("tasks", "regression")])
def test_heads_and_tasks_are_listed_and_shown(call, command, name):
    rows = json.loads(call(command, "--json")[1])
    row = next(r for r in rows if r["name"] == name)
    assert row["available"] is True
    assert row["summary"]
    code, out, _ = call(command, name)
    assert code == 0
    assert row["version"] in out
    assert call(command, "nothing-like-it")[0] == 2


def test_a_dataset_says_why_an_entrant_is_unavailable(call, monkeypatch):
    import pandas as pd

    from bench.cli import entrants

    class Profiles:
        images, latent, layers = None, None, ()
        wells = pd.DataFrame({"Metadata_Plate": ["P1"], "Metadata_Well": ["A01"]})

    monkeypatch.setattr(entrants, "_dataset", lambda path: Profiles())
    rows = {r["name"]: r for r in json.loads(call("featurizers", "--dataset", "x", "--json")[1])}
    assert rows["intensity"]["reason"] == "the dataset has no images"
    assert rows["position"]["available"] is True
