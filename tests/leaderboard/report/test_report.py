"""The HTML report: its structure, that names stay text, and that packed numbers come back."""

from __future__ import annotations

import base64
import json
import re
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from leaderboard import BoardError, Leaderboard
from leaderboard.folder import write_folder
from leaderboard.report import BoardMaterial, Material, html, page, write
from leaderboard.report.pack import STEP, columnar, quantise
from leaderboard.tables.naming import Absent

EVIL = "<img src=x onerror=alert(1)>"
CLOSING = "</script><script>alert(2)</script>"


class Reader(HTMLParser):
    """Tags with their attributes, and the text of the document script."""

    def __init__(self):
        super().__init__()
        self.tags = []
        self.text = []
        self.script = None
        self.document = ""
        self.heading = False
        self.row_headings = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.script = dict(attrs).get("id", "") if tag == "script" else self.script
        self.heading = tag == "th" and dict(attrs).get("scope") == "row"

    def handle_endtag(self, tag):
        self.script = None if tag == "script" else self.script

    def handle_data(self, data):
        if self.script == "document":
            self.document += data
        elif self.script is None:
            self.text.append(data)
            if self.heading:
                self.row_headings.append(data)
                self.heading = False


def read(text):
    reader = Reader()
    reader.feed(text)
    return reader


@pytest.fixture(autouse=True)
def small_library(monkeypatch):
    """The drawing library is 900 kB and seconds to bundle; the browser tests have the real one."""
    monkeypatch.setattr(page, "drawing_library", lambda: "/* library */")


@pytest.fixture(scope="module")
def ranked(small_screen):
    return Leaderboard(small_screen)


@pytest.fixture(scope="module")
def document(ranked):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "drawing_library", lambda: "")
        return read(html(ranked))


def decoded(board, panel):
    """Columns of every run of a board, as the page's script reads them."""
    raw = zlib.decompress(base64.b64decode(board["block"]))
    size, at, runs = len(panel), 0, []
    for _ in board["runs"]:
        own = {}
        for column in ("skill", "q", "q_controls"):
            codes = np.frombuffer(raw, "<i2", size, at)
            own[column] = np.where(codes == -32768, np.nan, codes * STEP)
            at += 2 * size
        own["flags"] = np.frombuffer(raw, np.uint8, size, at)
        at += size
        runs.append(own)
    assert len(raw) == at + 2 * size
    return runs


def test_every_readout_of_every_run_is_in_the_page(ranked, document):
    data = json.loads(document.document)
    board = data["boards"][0]
    panel = data["panels"][board["panel"]]
    tests = ranked.boards[0].readouts
    for run, own in zip(board["runs"], decoded(board, panel), strict=True):
        expected = tests[tests["run"] == run["run"]].set_index("readout").loc[panel]
        np.testing.assert_allclose(own["skill"], expected["skill"], atol=STEP / 2 + 1e-12)
        np.testing.assert_allclose(own["q"], expected["q"].astype(float), atol=STEP / 2 + 1e-12)
        np.testing.assert_array_equal(own["flags"] & 1, expected["predictable"].astype(int))


def test_numbers_too_large_for_their_code_are_kept_exactly():
    codes, outside = quantise(np.array([0.12344, -3.5, np.nan, 12345.678, np.inf]))
    assert codes[0] == 1234
    assert codes[1] == codes[2] == codes[3] == codes[4] == -32768
    assert outside == {1: -3.5, 3: 12345.7}


def test_columns_give_the_rows_back():
    rows = [{"name": "a" if i % 3 else "b", "x": i / 7, "n": i} for i in range(12)]
    found = columnar(rows)
    assert found["length"] == 12
    name = found["columns"]["name"]
    assert [name["levels"][code] for code in name["codes"]] == [row["name"] for row in rows]
    assert found["columns"]["n"] == list(range(12))
    assert found["columns"]["x"] == pytest.approx([row["x"] for row in rows], rel=1e-4)
    assert columnar([{"x": float("nan")}, {"x": None}])["columns"]["x"] == [None, None]


def test_the_ranked_table_has_the_board_in_its_order(ranked, document):
    text = " ".join(document.text)
    from leaderboard.render.columns import name

    labels = [name(row) for row in ranked.boards[0].rows.itertuples(index=False)]
    assert [t.strip() for t in document.row_headings] == labels
    assert "95 % interval" in text


def test_the_page_is_made_for_keyboards_and_screen_readers(document):
    tags = document.tags
    assert ("html", {"lang": "en", "data-theme": "auto"}) in tags
    assert any(tag == "a" and a.get("href") == "#main" and a.get("class") == "skip" for tag, a in tags)
    identifiers = [a["id"] for _, a in tags if "id" in a]
    assert len(identifiers) == len(set(identifiers))
    for _, attributes in tags:
        for pointer in ("aria-labelledby", "aria-describedby"):
            assert attributes.get(pointer, identifiers[0]) in identifiers
    for tag, attributes in tags:
        if tag == "th":
            assert attributes.get("scope") in ("col", "row")
        if attributes.get("role") == "region":
            assert attributes.get("tabindex") == "0"
        if attributes.get("role") == "img":
            assert attributes.get("aria-labelledby")
    levels = [int(tag[1]) for tag, _ in tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))


def test_nothing_is_loaded_from_anywhere(document):
    policy = next(
        a["content"] for tag, a in document.tags if a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy
    for tag, attributes in document.tags:
        assert tag not in ("iframe", "object", "embed", "base")
        assert not attributes.get("src")
        assert attributes.get("href", "#").startswith(("#", "data:,"))


def evil(entries):
    """Names that would be markup, scripts or formulas if they were not text."""
    first = entries[0]
    readouts = (EVIL, CLOSING, "=1+1", "x" * 200, *first.readouts[4:])
    perturbations = (EVIL, *first.perturbations[1:])
    return [
        replace(
            e,
            readouts=readouts,
            perturbations=perturbations,
            label=f"{EVIL}{e.label}" if i == 0 else e.label,
            layer=CLOSING,
            dataset=f"{EVIL} & co",
            warnings=(EVIL,),
        )
        for i, e in enumerate(entries)
    ]


def test_names_are_text_wherever_they_stand(small_screen):
    board = BoardMaterial(
        facts={EVIL: CLOSING},
        sentences=[EVIL],
        audit=pd.DataFrame({"severity": [EVIL], "message": [CLOSING]}),
        predictions=pd.DataFrame(
            {
                "run": ["run-vits-imagenet"],
                "readout": [EVIL],
                "unit": [CLOSING],
                "measured": [1.0],
                "predicted": [2.0],
            }
        ),
        panel=[EVIL],
        figures=[Absent(EVIL, CLOSING)],
    )
    material = Material(
        title=EVIL,
        boards={0: board},
        commands=[(EVIL, CLOSING)],
        versions=[(EVIL, EVIL)],
        remarks=[CLOSING],
        cite={EVIL: CLOSING},
        annotation=pd.DataFrame({"Location": [EVIL]}, index=[EVIL]),
    )
    text = html(Leaderboard(evil(small_screen)), material)
    reader = read(text)
    assert not [a for tag, a in reader.tags if tag == "img"]
    assert sum(tag == "script" for tag, _ in reader.tags) == 4
    data = text.partition('id="data">')[2].partition("</script>")[0]
    assert "<" not in data
    assert "alert(2)" not in text.replace(reader.document, "").replace(data, "").replace(
        "&lt;/script&gt;&lt;script&gt;alert(2)", ""
    )
    assert EVIL in json.loads(reader.document)["panels"][0]
    assert "<" not in reader.document


def test_a_single_entrant_and_zero_predictable_readouts_are_said(make_entry, make_folds):
    rng = np.random.default_rng(0)
    folds = make_folds(3, 3, 12)
    e0 = rng.random((3, 12, 6)) + 0.5
    text = " ".join(read(html(Leaderboard([make_entry(e0 * 1.3, e0, folds, label="alone")]))).text)
    assert "One entrant only" in text
    assert "Comparison of every pair: fewer than two runs of this board can be compared." in text


def test_columns_that_say_nothing_of_any_run_are_left_out(make_entry, make_folds):
    folds = make_folds(3, 3, 12)
    e0 = np.random.default_rng(0).random((3, 12, 6)) + 0.5
    ranked = Leaderboard([make_entry(e0 * 1.3, e0, folds, role="control", label="alone")])
    found = read(html(ranked))
    heads = [cell["text"] for cell in page.section(ranked.boards[0], 0, ranked.boards, None).headings]
    assert heads[:2] == ["Rank", "Entrant"]
    assert "Time" not in heads
    assert "Median skill" in heads
    assert found.row_headings[0] == "alone (control)"


def test_an_entrant_without_any_score_is_listed_and_does_not_stop_the_report(small_screen):
    nothing = replace(
        small_screen[1], e=np.full_like(small_screen[1].e, np.nan), run="nan", label="all missing"
    )
    text = " ".join(read(html(Leaderboard([*small_screen, nothing]))).text)
    assert "all missing is not ranked: no readout has a defined score" in text
    alone = " ".join(read(html(Leaderboard([nothing]))).text)
    assert "No run has a defined score." in alone
    assert "Top and bottom readouts: no entrant has a defined score." in alone


def test_runs_of_two_versions_stand_on_two_boards_and_the_reason_is_shown(small_screen):
    other = [replace(e, dataset_version="2", run=f"{e.run}-2") for e in small_screen[:3]]
    reader = read(html(Leaderboard([*small_screen, *other])))
    text = " ".join(reader.text)
    assert "the version of the dataset differs (1 and 2)" in text
    assert len(json.loads(reader.document)["boards"]) == 2


@pytest.mark.slow
def test_readouts_that_one_run_lacks_are_blank_there(small_screen):
    short = replace(
        small_screen[2],
        e=small_screen[2].e[:, :, 1:],
        e0=small_screen[2].e0[:, :, 1:],
        readouts=small_screen[2].readouts[1:],
    )
    data = json.loads(read(html(Leaderboard([*small_screen[:2], short, *small_screen[3:]]))).document)
    board, panel = data["boards"][0], data["panels"][0]
    runs = dict(zip([r["label"] for r in board["runs"]], decoded(board, panel), strict=True))
    assert np.isnan(runs["stains"]["skill"][0])
    assert np.isfinite(runs["stains"]["skill"][1:]).all()


@pytest.mark.slow
def test_equal_names_are_sent_once(small_screen):
    second = [replace(e, layer="proteins", run=f"{e.run}-p") for e in small_screen]
    data = json.loads(read(html(Leaderboard([*small_screen, *second]))).document)
    assert len(data["panels"]) == 1
    assert [b["panel"] for b in data["boards"]] == [0, 0]


@pytest.mark.slow
def test_the_same_boards_give_the_same_bytes(small_screen):
    assert html(Leaderboard(small_screen)) == html(Leaderboard(small_screen))


def test_the_example_in_the_docs_runs(small_screen, tmp_path, monkeypatch):
    text = (Path(__file__).parents[3] / "docs" / "report.md").read_text(encoding="utf-8")
    example = text.partition("```python")[2].partition("```")[0]
    monkeypatch.chdir(tmp_path)
    write_folder(small_screen, "runs")
    exec(compile(example, "docs/report.md", "exec"), {})
    assert (tmp_path / "report.html").stat().st_size > 30_000
    assert (tmp_path / "skill.svg").exists()


def test_no_run_and_a_folder_that_is_not_there_get_one_sentence(small_screen, tmp_path):
    with pytest.raises(BoardError, match="no run to report on"):
        write(Leaderboard([]), tmp_path / "r.html")
    with pytest.raises(BoardError, match="cannot be written"):
        write(Leaderboard(small_screen), tmp_path / "none" / "r.html")


@pytest.mark.slow
def test_importing_the_leaderboard_imports_neither_a_drawing_library_nor_torch():
    import subprocess
    import sys

    code = (
        "import sys; from leaderboard import Leaderboard; import leaderboard.render; "
        "print([m for m in ('altair', 'jinja2', 'torch', 'umap', 'bench', 'tasks') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
