"""Headless Chromium (Debian's) and a report with everything in it, built once."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from leaderboard import Leaderboard
from leaderboard.figures.wells import plates
from leaderboard.report import BoardMaterial, Material, write
from tests.leaderboard.conftest import build_screen

EVIL = "<img src=x onerror=\"document.title='owned'\">"
CLOSING = "</script><script>document.title='owned'</script>"
LONG = "a very long name " * 12


@dataclass
class Page:
    """A page, and what it said and asked for."""

    page: object
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


def material(entries):
    rng = np.random.default_rng(0)
    names = entries[0].readouts
    parts = [
        pd.DataFrame(
            {
                "run": "run-vits-imagenet",
                "readout": name,
                "unit": [CLOSING, *(f"unit {i}" for i in range(39))],
                "measured": rng.normal(size=40),
                "predicted": rng.normal(size=40),
            }
        )
        for name in names[:8]
    ]
    wells = pd.DataFrame(
        {
            "plate": EVIL,
            "well": [f"{r}{c:02d}" for r in "ABCD" for c in range(1, 7)],
            "value": np.arange(24.0),
        }
    )
    board = BoardMaterial(
        facts={"protocol: repeats": "5"},
        audit=pd.DataFrame(
            {"severity": ["warning"], "about": [EVIL], "message": ["plates can be told apart"]}
        ),
        predictions=pd.concat(parts, ignore_index=True),
        panel=names[:8],
    )
    return Material(
        title="A test report",
        boards={0: board},
        figures=[plates(wells, "plates", "Plates", "cells", "A plate.")],
        annotation=pd.DataFrame({"Location": [EVIL]}, index=[EVIL]),
        commands=[("Recompute", "bench verify all")],
        versions=[("numpy", "2")],
    )


@pytest.fixture(scope="session")
def report(tmp_path_factory):
    """Two boards over 400 readouts whose names are markup, scripts, formulas and very long."""
    entries = build_screen()
    names = (EVIL, CLOSING, "=1+1", LONG, *entries[0].readouts[4:])
    first = [replace(e, readouts=names, label=f"{EVIL}" if e.label == "stains" else e.label) for e in entries]
    second = [replace(e, layer="proteins", run=f"{e.run}-p") for e in first]
    path = tmp_path_factory.mktemp("report") / "report.html"
    write(Leaderboard([*first, *second]), path, material(first))
    return path


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    binary = shutil.which("chromium") or shutil.which("chromium-browser")
    if binary is None:
        pytest.skip("chromium is not installed; apt-get install chromium")
    with playwright.sync_playwright() as running:
        found = running.chromium.launch(
            executable_path=binary, args=["--no-sandbox", "--disable-background-networking"]
        )
        yield found
        found.close()


@pytest.fixture
def opened(browser, report):
    """Open the report in a window of the given size; closed after the test."""
    contexts = []

    def open_page(path: Path = report, width: int = 1300, height: int = 900, **options) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": height}, accept_downloads=True, **options
        )
        contexts.append(context)
        own = Page(context.new_page())
        own.page.on("console", lambda message: own.messages.append(message.text))
        own.page.on("pageerror", lambda error: own.messages.append(str(error)))
        own.page.on("request", lambda request: own.requests.append(request.url))
        own.page.goto(path.as_uri())
        own.page.wait_for_selector("html[data-ready=yes]", state="attached", timeout=20000)
        return own

    yield open_page
    for context in contexts:
        context.close()
