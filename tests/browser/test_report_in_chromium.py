"""The report as a reader meets it: sorting, search, themes, small windows, paper, hostile names."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from tests.browser.conftest import CLOSING, EVIL, LONG

pytestmark = pytest.mark.browser


def all_drawn(own):
    own.page.wait_for_selector("html[data-figures=drawn]", state="attached", timeout=60000)


def first_column(page, table):
    return [cell.strip() for cell in page.locator(f"{table} tbody th[scope=row]").all_inner_texts()]


def saved(page, click):
    with page.expect_download() as download:
        click()
    return Path(download.value.path())


def test_every_figure_is_drawn_without_a_message_or_a_request(opened, report):
    own = opened()
    all_drawn(own)
    assert own.messages == []
    assert own.requests == [report.as_uri()]
    assert (
        own.page.locator("[data-figure]").count() == own.page.locator("[data-figure] .chart svg").count() > 8
    )


def test_names_are_text_and_run_nothing(opened):
    own = opened()
    all_drawn(own)
    page = own.page
    page.fill("#q-text", "onerror")
    assert first_column(page, "#q-table") == [EVIL]
    page.click("#q-table tbody button")
    assert page.inner_text("#readout-title") == EVIL
    assert EVIL in page.inner_text("#readout dl")
    page.fill("#q-text", "</script>")
    assert first_column(page, "#q-table") == [CLOSING]
    page.click("#q-table tbody button")
    page.wait_for_selector("#readout .chart svg")
    assert page.locator("img").count() == 0
    assert page.title() == "A test report"
    assert own.messages == []


def test_tooltips_show_names_as_text(opened):
    own = opened()
    all_drawn(own)
    page = own.page
    page.locator("#shared-plates").scroll_into_view_if_needed()
    page.locator("#shared-plates .mark-rect path").nth(3).hover()
    page.wait_for_selector("#vg-tooltip-element.visible")
    assert EVIL in page.inner_text("#vg-tooltip-element")
    assert page.locator("#vg-tooltip-element img").count() == 0


def test_the_ranked_table_sorts_by_its_numbers_from_the_keyboard(opened):
    page = opened().page
    heading = page.locator("#board-1 table.board thead th", has_text="Median")
    heading.locator("button").focus()
    page.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "descending"
    column = heading.evaluate("th => th.cellIndex")

    def values():
        cells = page.locator("#board-1 table.board tbody tr").evaluate_all(
            "(rows, i) => rows.map(r => r.cells[i].dataset.key)", column
        )
        return [float(v) for v in cells if v]

    assert values() == sorted(values(), reverse=True)
    page.keyboard.press("Space")
    assert heading.get_attribute("aria-sort") == "ascending"
    assert values() == sorted(values())


def test_the_search_finds_filters_sorts_and_turns_pages(opened):
    page = opened().page
    assert "400 of 400 readouts, 1 to 50 shown" in page.inner_text("#q-count")
    page.click("#q-next")
    assert "51 to 100" in page.inner_text("#q-count")
    page.fill("#q-text", "gene001")
    assert "10 of 400" in page.inner_text("#q-count")
    page.fill("#q-text", "nothing like it")
    assert "No readout of 400 fits" in page.inner_text("#q-count")
    page.fill("#q-text", "")
    page.select_option("#q-filter", "predictable")
    found = int(page.inner_text("#q-count").split()[0])
    assert 0 < found < 400
    page.select_option("#q-filter", "all")
    page.click("#q-table th[data-column=difference] button")
    texts = page.locator("#q-table tbody td:last-child").all_inner_texts()
    values = [float(t.replace("\u2212", "-")) for t in texts]
    assert values == sorted(values, reverse=True)
    assert page.evaluate("document.activeElement.closest('th')?.dataset.column") == "difference"


def test_a_readout_opens_with_every_run_and_closes_back_to_its_button(opened):
    own = opened()
    page = own.page
    page.fill("#q-text", "a very long")
    button = page.locator("#q-table tbody button")
    button.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#readout .chart svg")
    assert page.inner_text("#readout-title") == LONG.strip()
    assert page.locator("#readout tbody tr").count() == 8
    assert page.evaluate("document.activeElement.id") == "readout"
    assert "Measured against predicted" in page.inner_text("#readout")
    page.click("#readout button:has-text('Close')")
    assert page.evaluate("document.activeElement === document.querySelector('#q-table tbody button')")
    assert own.messages == []


def test_a_readout_outside_the_panel_says_so(opened):
    page = opened().page
    page.fill("#q-text", "gene0200")
    page.click("#q-table tbody button")
    assert "kept for a panel only" in page.inner_text("#readout")


def test_the_other_board_is_searched_when_it_is_chosen(opened):
    page = opened().page
    page.select_option("#q-board", "1")
    page.wait_for_function("document.querySelector('#q-count').textContent.startsWith('400')")
    page.fill("#q-text", "gene0200")
    page.click("#q-table tbody button")
    assert page.locator("#readout tbody tr").count() == 8


def test_two_entrants_are_drawn_against_each_other(opened):
    own = opened()
    own.page.click("#q-draw")
    own.page.wait_for_selector("#q-scatter .chart svg")
    assert "Each of the 400 readouts" in own.page.inner_text("#q-scatter .caption")
    assert own.messages == []


def test_figures_and_tables_are_saved_and_no_spreadsheet_runs_them(opened):
    own = opened()
    all_drawn(own)
    page = own.page
    svg = saved(page, lambda: page.click("#board-1-intervals [data-save=svg]")).read_text()
    assert svg.startswith("<svg")
    assert "currentColor" not in svg
    png = saved(page, lambda: page.click("#board-1-matrix [data-save=png]")).read_bytes()
    assert png.startswith(b"\x89PNG")
    rows = list(csv.reader(io.StringIO(saved(page, lambda: page.click("#q-csv")).read_text())))
    assert len(rows) == 401
    assert "'=1+1" in {row[0] for row in rows}
    assert not [row for row in rows for value in row if value.startswith(("=", "+", "@"))]
    board = list(
        csv.reader(io.StringIO(saved(page, lambda: page.click("[data-table=board] >> nth=0")).read_text()))
    )
    assert {"rank_low", "skill", "skill_low", "skill_high", "above_verdict", "run"} <= set(board[0])
    assert len(board) == 9
    first = dict(zip(board[0], board[1], strict=True))
    assert float(first["skill_low"]) < float(first["skill"]) < float(first["skill_high"])
    assert own.messages == []


@pytest.mark.parametrize("width", [400, 320])
def test_a_narrow_window_breaks_nothing(opened, width):
    own = opened(width=width, height=800)
    all_drawn(own)
    assert own.page.evaluate("document.documentElement.scrollWidth") <= width
    own.page.fill("#q-text", "a very long")
    own.page.click("#q-table tbody button")
    own.page.wait_for_selector("#readout .chart svg")
    assert own.page.evaluate("document.documentElement.scrollWidth") <= width


def contrast(page, selector):
    """WCAG contrast of an element's letters on the page's background."""
    return page.evaluate(
        """selector => {
          const light = (c) => { const [r, g, b] = c.match(/[\\d.]+/g).map(Number).map(v => v / 255)
            .map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
            return .2126*r + .7152*g + .0722*b; };
          const a = light(getComputedStyle(document.querySelector(selector)).color);
          const b = light(getComputedStyle(document.body).backgroundColor);
          return (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
        }""",
        selector,
    )


def test_themes_switch_and_can_be_read(opened):
    own = opened(color_scheme="light")
    page = own.page
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    page.click("#theme")
    page.click("#theme")
    assert page.inner_text("#theme") == "Theme: dark"
    dark = page.evaluate(background)
    assert dark != "rgb(255, 255, 255)"
    for selector in ("h2", "figcaption", "nav a", "caption", "tr.control th"):
        assert contrast(page, selector) >= 4.5, selector
    page.click("#theme")
    assert page.inner_text("#theme") == "Theme: auto"
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    for selector in ("h2", "figcaption", "nav a", "caption", "tr.control th"):
        assert contrast(page, selector) >= 4.5, selector
    assert opened(color_scheme="dark").page.evaluate(background) == dark


def test_the_first_stop_of_the_keyboard_skips_to_the_boards(opened):
    page = opened().page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_everything_is_on_paper(opened, tmp_path):
    own = opened(color_scheme="dark")
    all_drawn(own)
    own.page.emulate_media(media="print")
    background = own.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == "rgb(255, 255, 255)"
    assert not own.page.locator("nav").is_visible()
    assert own.page.evaluate("getComputedStyle(document.querySelector('.chart')).color") == "rgb(0, 0, 0)"
    paper = own.page.pdf(format="A4")
    assert paper.count(b"/Type /Page") > 3


def test_tables_can_be_read_without_scripts(browser, report):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.locator("#board-1 table.board tbody tr").count() == 8
    assert (
        "need them" in page.inner_text("noscript, body > noscript") or page.locator("noscript").count() == 1
    )
    context.close()
