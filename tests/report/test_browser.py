"""The report in a real browser: opened from disk, everything drawn, nothing asked of the network."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import sync_playwright

import hydrascope as hs
from hydrascope.analysis import repair, who_repairs
from hydrascope.figures import DARK, LIGHT
from hydrascope.report import write_atlas, write_report
from hydrascope.report._numbers import fixed
from hydrascope.results import Ledger
from tests.analysis.test_atlas import survey
from tests.support.synthetic import synthetic_ledger
from tests.support.texts import tiny_ledger

DEBIAN = Path("/usr/bin/chromium")
FOUND = str(DEBIAN) if DEBIAN.exists() else shutil.which("chromium")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not FOUND and not os.environ.get("CI"), reason="no chromium on this machine"),
]

VIEWS = {
    "light": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light"},
}
DRAWN = "document.documentElement.dataset.drawn === '{}'"
MARKS = """charts => charts.map(chart => {
    const svg = chart.querySelector('svg');
    const marks = svg ? svg.querySelectorAll('.mark-symbol path, .mark-rect path, .mark-line path').length : 0;
    return {id: chart.id, marks, width: svg ? svg.getBoundingClientRect().width : 0, text: chart.innerText};
})"""


class Visit:
    """A page that was opened, and what it complained about."""

    def __init__(self, page: Any, path: Path, theme: str) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        page.goto(path.as_uri())
        self.wait(theme)

    def wait(self, theme: str) -> None:
        self.page.wait_for_function(DRAWN.format(theme), timeout=60_000)

    def charts(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.page.locator(".chart").evaluate_all(MARKS)
        return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=FOUND or str(DEBIAN), args=flags)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    ds = synthetic_ledger()
    ds.attrs["model_name"] = "</script><b>model</b>"
    long = np.array(["a very long prompt " * 12 + text for text in ds["text"].values], dtype=object)
    ds = ds.assign_coords(text=("prompt", long))
    return write_report(ds, tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture(scope="module")
def text_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_ledger("kinds").report(tmp_path_factory.mktemp("texts") / "report.html")


@pytest.mark.parametrize("view", VIEWS)
def test_a_report_of_texts_is_drawn_without_a_complaint(browser: Any, text_report: Path, view: str) -> None:
    page = browser.new_page(**VIEWS[view])
    visit = Visit(page, text_report, "dark" if view == "dark" else "light")
    charts = visit.charts()
    assert len(charts) == 6
    assert all(chart["marks"] and chart["width"] and "could not" not in chart["text"] for chart in charts)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert visit.complaints == []
    assert all(request.startswith(("file:", "data:")) for request in visit.requests)
    page.close()


@pytest.mark.parametrize("view", VIEWS)
def test_every_chart_is_drawn_and_nothing_is_asked_of_the_network(browser: Any, report: Path, view: str) -> None:
    page = browser.new_page(**VIEWS[view])
    visit = Visit(page, report, "dark" if view == "dark" else "light")
    charts = visit.charts()
    assert len(charts) == 18
    for chart in charts:
        assert chart["marks"] > 0, chart
        assert chart["width"] > 200, chart
        assert "NaN" not in chart["text"]
    assert visit.complaints == []
    assert [url for url in visit.requests if not url.startswith("data:")] == [report.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= visit.page.viewport_size["width"]
    assert page.locator("h1").inner_text() == "</script><b>model</b>"
    page.close()


def test_no_chart_sticks_out_of_a_phone(browser: Any, report: Path) -> None:
    visit = Visit(browser.new_page(**VIEWS["phone"]), report, "light")
    wide = visit.page.locator(".chart svg text").evaluate_all(
        "texts => texts.filter(t => t.getBoundingClientRect().right > 391).map(t => t.textContent)"
    )
    assert wide == []
    scrolls = visit.page.locator("#numbers .scroller").evaluate("box => box.scrollWidth > box.clientWidth")
    assert scrolls
    visit.page.close()


def test_switching_the_theme_recolours_the_charts_and_keeps_what_was_chosen(browser: Any, report: Path) -> None:
    visit = Visit(browser.new_page(**VIEWS["light"]), report, "light")
    page = visit.page
    page.locator("#knocked").select_option("mlp.2")
    page.wait_for_function("document.querySelector('#balance svg').textContent.includes('Without mlp.2')")

    def bars(colour: str) -> int:
        count: int = page.locator(f"#balance svg path[fill='{colour}']").count()
        return count

    assert (bars(LIGHT.attn), bars(DARK.attn)) == (1, 0)
    page.locator("#toggle").press("Enter")
    visit.wait("dark")
    assert (bars(LIGHT.attn), bars(DARK.attn)) == (0, 1)
    assert "Without mlp.2" in page.locator("#balance svg").text_content()
    assert page.locator("#knocked").input_value() == "mlp.2"
    assert visit.complaints == []
    page.close()


def test_a_link_leads_to_a_choice_and_a_choice_is_in_the_address(browser: Any, report: Path) -> None:
    page = browser.new_page(**VIEWS["light"])
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(f"{report.as_uri()}#ablated=mlp.2")
    page.wait_for_function(DRAWN.format("light"), timeout=60_000)
    assert "Without mlp.2" in page.locator("#balance svg").text_content()
    assert page.locator("#knocked").input_value() == "mlp.2"
    page.locator("#knocked").select_option("attn.1")
    page.wait_for_function("location.hash === '#ablated=attn.1'")
    page.evaluate("location.hash = '#ablated=attn.3'")
    page.wait_for_function("document.querySelector('#balance svg').textContent.includes('Without attn.3')")
    assert "Without attn.3" in page.locator("#compensation svg").first.text_content()
    page.evaluate("location.hash = '#ablated=nothing.9'")
    page.evaluate("location.hash = '#numbers'")
    assert "Without attn.3" in page.locator("#balance svg").text_content()
    assert complaints == []
    page.close()


def _most(ablated: str, writer: str) -> list[list[str]]:
    """Number, answer and change of the three prompts on which a writer changes most."""
    here = synthetic_ledger().sel(ablated=ablated, writer=writer)
    order = np.abs(here["change"].values).argsort()[::-1][:3]
    return [[str(i), str(here["target"].values[i]).strip(), fixed(float(here["change"].values[i]), 3)] for i in order]


def _behind(page: Any) -> list[list[str]]:
    rows: list[list[str]] = page.locator("#cell tbody tr").evaluate_all(
        "rows => rows.map(row => [0, 2, 3].map(i => row.cells[i].textContent))"
    )
    return rows


def test_a_press_on_a_cell_of_the_matrix_shows_its_prompts_and_chooses_its_knockout(browser: Any, report: Path) -> None:
    visit = Visit(browser.new_page(**VIEWS["light"]), report, "light")
    page = visit.page
    assert _behind(page) == _most("attn.4", "attn.6")
    page.locator("#all-prompts th button", has_text="total effect").click()  # the prompts in another order
    # one with a dot, one without, one of the knocked-out part itself
    for chart, ablated, writer in ((2, "mlp.2", "mlp.3"), (1, "attn.1", "attn.7"), (2, "mlp.5", "mlp.5")):
        tile = page.evaluate_handle(
            f"""() => [...document.querySelectorAll('#responders-{chart} .mark-rect path')].find(
                ({{__data__: {{datum}}}}) => datum.ablated === '{ablated}' && datum.writer === '{writer}')"""
        )
        tile.as_element().click(timeout=5000)
        assert _behind(page) == _most(ablated, writer)
        assert f"Without {ablated}, {writer} changes most" in page.locator("#cell").inner_text()
        assert page.locator("#knocked").input_value() == ablated
        assert page.locator("#cell select").evaluate_all("lists => lists.map(one => one.value)") == [ablated, writer]
    assert visit.complaints == []
    page.close()


def test_the_prompts_behind_a_cell_are_reached_by_keyboard_and_follow_the_picker(browser: Any, report: Path) -> None:
    visit = Visit(browser.new_page(**VIEWS["light"]), report, "light")
    page = visit.page
    part, writer = page.locator("#cell select.part"), page.locator("#cell select.writer")
    part.focus()
    page.keyboard.type("mlp.2")
    answers = who_repairs(synthetic_ledger()).query("ablated == 'mlp.2' and not is_own").set_index("writer")["change"]
    assert _behind(page) == _most("mlp.2", str(answers.abs().idxmax()))
    page.keyboard.press("Tab")
    page.keyboard.type("attn.5")
    assert _behind(page) == _most("mlp.2", "attn.5")
    later = [f"{kind}.{layer}" for layer in range(3, 8) for kind in ("attn", "mlp")]
    assert sorted(writer.locator("option").all_inner_texts()) == sorted(["mlp.2", *later])
    page.locator("#knocked").select_option("attn.4")
    assert _behind(page) == _most("attn.4", "attn.6")
    assert visit.complaints == []
    page.close()


def test_a_choice_is_told_alike_by_chart_sentence_equation_caption_and_prompts(browser: Any, report: Path) -> None:
    visit = Visit(browser.new_page(**VIEWS["light"]), report, "light")
    page, table = visit.page, repair(synthetic_ledger()).set_index("ablated")
    for name in ("mlp.2", "attn.1"):
        page.locator("#knocked").select_option(name)
        for chart in ("balance", "compensation"):
            page.wait_for_function(f"document.querySelector('#{chart} svg').textContent.includes('Without {name}')")
        total, own = (fixed(float(table[column][name]), 3) for column in ("total_effect", "own_change"))
        said = page.locator("#sentence").inner_text()
        assert f"Without {name} " in said and total in said and own in said
        terms = page.locator(".hero .equation dd").all_inner_texts()
        assert (terms[0], terms[-1]) == (own, f"= {total}")
        assert f"for {name};" in page.locator(".hero figcaption").inner_text()
        assert page.locator("#all-prompts .chosen").inner_text() == name
        here = synthetic_ledger().sel(ablated=name)
        cells = page.locator("#all-prompts tbody tr td:last-child").evaluate_all(
            "cells => cells.map(cell => Number(cell.dataset.value))"
        )
        np.testing.assert_allclose(cells, here["total_effect"].values, atol=5.1e-4)
    assert visit.complaints == []
    page.close()


@pytest.mark.parametrize("which", ["report", "text_report"])
def test_the_top_is_no_longer_than_a_screen(browser: Any, request: pytest.FixtureRequest, which: str) -> None:
    path = request.getfixturevalue(which)
    visit = Visit(browser.new_page(viewport={"width": 1400, "height": 900}), path, "light")
    foot = visit.page.locator("ul.verdict").evaluate("list => list.getBoundingClientRect().bottom")
    assert foot <= 900
    visit.page.close()


def test_prompts_are_found_by_their_words(browser: Any, report: Path) -> None:
    visit = Visit(browser.new_page(**VIEWS["light"]), report, "light")
    rows, words = visit.page.locator("#all-prompts tbody tr"), str(synthetic_ledger()["text"].values[7])
    visit.page.locator("#search").fill(words.upper())
    shown = [row.inner_text() for row in rows.all() if row.is_visible()]
    assert shown and all(words in text for text in shown) and len(shown) < rows.count()
    assert visit.page.locator("#found").inner_text() == f"{len(shown)} of {rows.count()}"
    visit.page.locator("#search").fill("")
    assert all(row.is_visible() for row in rows.all())
    assert visit.complaints == []
    visit.page.close()


def test_every_chart_can_be_downloaded_in_three_forms(browser: Any, report: Path) -> None:
    visit = Visit(browser.new_page(**VIEWS["light"]), report, "light")
    page = visit.page
    assert page.locator(".downloads").count() == page.locator(".chart").count()
    begins = {"SVG": b"<svg", "PNG": b"\x89PNG", "CSV": b"ablated,part,value"}
    for form, start in begins.items():
        with page.expect_download() as found:
            page.locator("#balance .downloads button", has_text=form).press("Enter")
        assert found.value.suggested_filename == f"balance-1.{form.lower()}"
        content = Path(found.value.path()).read_bytes()
        assert content.startswith(start)
    assert content.count(b"\n") == 5
    assert visit.complaints == []
    assert all(url.startswith(("file:", "data:", "blob:")) for url in visit.requests)
    page.close()


def test_a_comparison_is_drawn_and_its_charts_can_be_downloaded(browser: Any, tmp_path: Path) -> None:
    runs = [synthetic_ledger(seed=seed).assign_attrs(model_name=f"model-{seed}") for seed in (0, 1)]
    path = hs.compare(*map(Ledger, runs)).report(tmp_path / "comparison.html")
    visit = Visit(browser.new_page(**VIEWS["light"]), path, "light")
    charts = visit.charts()
    assert len(charts) > 4
    assert all(chart["marks"] and "could not" not in chart["text"] for chart in charts)
    with visit.page.expect_download() as found:
        visit.page.locator(".downloads button", has_text="SVG").first.click()
    assert Path(found.value.path()).read_bytes().startswith(b"<svg")
    assert visit.complaints == []
    assert all(url.startswith(("file:", "data:", "blob:")) for url in visit.requests)
    visit.page.close()


@pytest.mark.parametrize("view", VIEWS)
def test_a_page_of_several_tasks_is_drawn_without_a_complaint(browser: Any, tmp_path: Path, view: str) -> None:
    tasks = [
        synthetic_ledger(seed=seed).assign_attrs(prompts_name=name, prompts_digest=name)
        for seed, name in enumerate(
            ("a task with a name that is long enough", "another task with a long name", "short")
        )
    ]
    path = hs.context(*map(Ledger, tasks)).report(tmp_path / "context.html")
    visit = Visit(browser.new_page(**VIEWS[view]), path, "dark" if view == "dark" else "light")
    charts = visit.charts()
    drawn = ["variance-1", "shares-1", "task-agreement-1", "effects-by-task-1"]
    assert [chart["id"] for chart in charts] == drawn
    assert all(chart["marks"] and chart["width"] > 200 and "NaN" not in chart["text"] for chart in charts)
    assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert visit.page.locator(".downloads").count() == len(charts)
    assert visit.complaints == []
    assert all(request.startswith(("file:", "data:")) for request in visit.requests)
    visit.page.close()


@pytest.mark.parametrize("view", VIEWS)
def test_an_atlas_is_drawn_with_runs_controls_and_links(browser: Any, tmp_path: Path, view: str) -> None:
    found, page = survey(), tmp_path / "atlas.html"
    write_atlas(found, page, tmp_path)
    visit = Visit(browser.new_page(**VIEWS[view]), page, "dark" if view == "dark" else "light")
    charts = visit.charts()
    assert len(charts) == 8  # claims, shares with and without norm, size, and two of each kind of part over depth
    assert all(chart["marks"] and "could not" not in chart["text"] for chart in charts)
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= visit.page.viewport_size["width"]
    tiles = visit.page.locator("#claims-1 .mark-rect path").count()
    assert tiles == found.claims["value"].notna().sum()
    cut = visit.page.locator("svg text").evaluate_all("texts => texts.filter(t => t.textContent.includes('…')).length")
    assert cut == 0
    links = visit.page.locator("#claims td a").evaluate_all("links => links.map(link => link.getAttribute('href'))")
    assert set(links) == {f"{name}/report.html" for name in "abcde"}
    assert visit.page.locator(".downloads").count() == len(charts)
    assert visit.complaints == []
    assert all(url.startswith(("file:", "data:", "blob:")) for url in visit.requests)
    visit.page.close()


def test_a_heading_sorts_the_table_with_missing_values_last(browser: Any, report: Path) -> None:
    visit = Visit(browser.new_page(**VIEWS["light"]), report, "light")
    head = visit.page.locator("thead th", has_text="restored with norm")
    column = head.evaluate("cell => cell.cellIndex")

    def values() -> list[float | None]:
        found: list[float | None] = visit.page.locator("#numbers tbody tr").evaluate_all(
            f"rows => rows.map(row => row.cells[{column}].dataset.value).map(v => v === 'nan' ? null : Number(v))"
        )
        return found

    before = [value for value in values() if value is not None]
    for direction, reverse in (("descending", True), ("ascending", False)):
        head.locator("button").press("Enter")
        assert head.get_attribute("aria-sort") == direction
        after = values()
        assert after[: len(before)] == sorted(before, reverse=reverse)
        assert set(after[len(before) :]) == {None}
    visit.page.close()


def test_the_numbers_begin_with_what_loses_most_and_say_so(browser: Any, report: Path) -> None:
    visit = Visit(browser.new_page(**VIEWS["light"]), report, "light")
    names = visit.page.locator("#numbers tbody th").all_inner_texts()
    assert names == list(repair(synthetic_ledger()).sort_values("own_change", kind="stable")["ablated"])
    head = visit.page.locator("#numbers th[aria-sort]")
    assert (head.inner_text().split(" ")[:2], head.get_attribute("aria-sort")) == (["own", "change"], "ascending")
    head.locator("button").press("Enter")
    assert visit.page.locator("#numbers tbody th").all_inner_texts()[0] == names[-1]
    assert "lose most come first" in visit.page.locator("#numbers > p").inner_text()
    visit.page.close()


def test_paper_is_light_and_has_no_controls(browser: Any, report: Path) -> None:
    visit = Visit(browser.new_page(**VIEWS["dark"]), report, "dark")
    page = visit.page
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print", color_scheme="dark")
    visit.wait("light")
    assert page.locator(f"#balance svg path[fill='{LIGHT.attn}']").count() == 1
    assert page.locator("body").evaluate("body => getComputedStyle(body).backgroundColor") == "rgb(255, 255, 255)"
    for control in ("select", "#toggle", ".contents"):
        assert not any(found.is_visible() for found in page.locator(control).all()), control
    page.emulate_media(media="screen", color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    visit.wait("dark")
    assert visit.complaints == []
    page.close()


@pytest.mark.parametrize(
    "options",
    [{"ablated": [f"head.{layer}.{unit}" for layer in range(8) for unit in range(4)]}, {"n_prompts": 1}],
    ids=["heads", "one prompt"],
)
def test_thin_ledgers_draw_every_chart_they_have(browser: Any, tmp_path: Path, options: dict[str, Any]) -> None:
    visit = Visit(
        browser.new_page(**VIEWS["light"]), write_report(synthetic_ledger(**options), tmp_path / "r.html"), "light"
    )
    assert all(chart["marks"] > 0 for chart in visit.charts())
    assert visit.complaints == []
    visit.page.close()
