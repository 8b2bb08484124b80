"""Every figure of the report is a method of `ledger.plot`, and a file that fits a paper."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from playwright.sync_api import sync_playwright

import hydrascope as hs
from hydrascope.analysis import Findings
from hydrascope.errors import ComponentError, DetailDropped, OutputError
from hydrascope.figures import Picture, chart_data, slopes_shown
from hydrascope.report import Plots, plots
from hydrascope.report._page import SECTIONS
from hydrascope.report._run import Run
from tests.report.test_browser import DEBIAN, FOUND
from tests.support.synthetic import divided, synthetic_ledger
from tests.support.texts import tiny_ledger

DRAWS = 100
HEADS = [f"head.{layer}.{unit}" for layer in range(4) for unit in range(4)]


def _small(**options: Any) -> xr.Dataset:
    return synthetic_ledger(n_prompts=12, n_layers=4, **options)


def _scaled(ds: xr.Dataset, dose: float) -> xr.Dataset:
    parts = ("change", "own_change", "norm_effect", "total_effect")
    return ds.assign({name: ds[name] * dose for name in parts}).assign_attrs(dose=dose)


def _with_companions() -> Findings:
    ds = _small().assign_attrs(ablation="resample", dose=1.0)
    other = _small(seed=1).assign_attrs(ablation="zero", dose=1.0)
    return Findings(ds, DRAWS, also={"zero": other, "dose-0.5": _scaled(ds, 0.5)})


LEDGERS: dict[str, Callable[[], Findings]] = {
    "layers": _with_companions,
    "heads": lambda: Findings(_small(ablated=HEADS), DRAWS),
    "neurons": lambda: Findings(divided(_small(), ["attn.2", "mlp.2", "mlp.3"], width=8), DRAWS),
    "texts": lambda: Findings(tiny_ledger("kinds").dataset, DRAWS),
}


@pytest.fixture(scope="module", params=LEDGERS)
def drawn(request: pytest.FixtureRequest) -> Plots:
    return plots(LEDGERS[request.param]())


@pytest.fixture(scope="module")
def layers() -> hs.Ledger:
    return hs.Ledger(_small())


def _every(found: Plots) -> Iterator[tuple[str, alt.TopLevelMixin]]:
    for name, given in found._variants():
        yield name, found._draw(name, **given)


def _described(run: Run) -> set[str]:
    """What the charts of the report say of themselves."""
    sections = [made for section in SECTIONS if (made := section(run)) is not None]
    return {panel.description for section in sections for panel in section.panels}


def test_every_figure_of_the_report_is_a_method_and_makes_a_picture(drawn: Plots) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        described = set()
        for name, chart in _every(drawn):
            described.add(str(chart.to_dict()["description"]))  # Altair checks it, as a notebook does
            picture = Picture.of(chart)
            assert picture.inches[0] == pytest.approx(3.25, abs=0.02), name
            assert not re.search("undefined|NaN|…<", picture.svg), name
    assert described >= _described(drawn._run)


@pytest.mark.browser
@pytest.mark.skipif(not FOUND and not os.environ.get("CI"), reason="no chromium on this machine")
def test_no_text_of_a_single_column_is_cut() -> None:
    """Measured by a browser: every text lies inside the picture, and no two labels of an axis lie on each other."""
    flags = ["--no-sandbox", "--disable-gpu"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=FOUND or str(DEBIAN), args=flags)
        page = browser.new_page()
        for made in LEDGERS.values():
            for name, chart in _every(plots(made())):
                page.set_content(f'<body style="margin:0">{Picture.of(chart).svg}</body>')
                assert page.evaluate(_CUT) == [], name
                assert page.evaluate(_COLLIDING) == [], name
        browser.close()


_CUT = """() => {
    const frame = document.querySelector('svg').getBoundingClientRect();
    return [...document.querySelectorAll('svg text')].filter(text => {
        const box = text.getBoundingClientRect();
        return box.width && (box.left < frame.left - 0.5 || box.right > frame.right + 0.5
            || box.top < frame.top - 0.5 || box.bottom > frame.bottom + 0.5);
    }).map(text => text.textContent);
}"""
_COLLIDING = """() => [...document.querySelectorAll('svg .role-axis-label')].flatMap(axis => {
    const read = name => text => text.getAttribute(name) ?? '';
    const level = [...axis.querySelectorAll('text')].filter(text => text.textContent
        && !read('transform')(text).includes('rotate') && read('opacity')(text) !== '0');
    const boxes = level.map(text => text.getBoundingClientRect());
    return level.filter((text, i) => boxes.some((other, j) => j < i && boxes[i].left < other.right - 0.5
        && other.left < boxes[i].right - 0.5 && boxes[i].top < other.bottom - 2 && other.top < boxes[i].bottom - 2))
        .map(text => text.textContent);
})"""


def test_the_tab_key_offers_what_the_run_has(layers: hs.Ledger) -> None:
    offered = {name for name in dir(layers.plot) if not name.startswith("_")}
    assert {"balance", "compensation_matrix", "slope_by_layer", "save", "save_all"} <= offered
    assert not {"norm_ratio", "head_grid", "dose_curves", "neuron_scatter"} & offered
    for name in offered:
        assert getattr(layers.plot, name).__doc__
    with pytest.raises(DetailDropped, match="no figure head_grid: no heads were knocked out"):
        layers.plot.head_grid()


def test_a_chosen_knockout_is_the_one_that_is_drawn(layers: hs.Ledger) -> None:
    for name in ("balance", "prompt_views", "compensation_by_prompt"):
        svg = Picture.of(getattr(layers.plot, name)("mlp.1")).svg
        assert re.search("<(text|tspan)[^>]*>Without mlp.1[<,]", svg), name
    with pytest.raises(ComponentError, match=r"no knock-out 'attn\.99'; it has attn\.0"):
        layers.plot.balance("attn.99")


def test_all_figures_are_files_with_their_numbers_beside(layers: hs.Ledger, tmp_path: Path) -> None:
    written = layers.plot.save_all(tmp_path / "paper", "pdf", columns=2)
    assert sorted(written) == sorted((tmp_path / "paper").iterdir())
    pages = [path for path in written if path.suffix == ".pdf"]
    assert len(pages) == len(list(layers.plot._variants()))
    for page in pages:
        [box] = re.findall(rb"MediaBox ?\[0 0 ([\d.]+) ", page.read_bytes())
        assert float(box) == pytest.approx(6.75 * 72, abs=1)
        assert page.with_suffix(".csv").is_file()
    table = pd.read_csv(tmp_path / "paper" / "slope_by_layer-slope.csv").set_index("ablated")["slope"]
    repair = layers.repair()
    expected = repair.assign(slope=repair["slope"].where(slopes_shown(repair))).set_index("ablated")["slope"]
    np.testing.assert_allclose(table, expected.loc[table.index], rtol=1e-3)


@pytest.mark.parametrize("form", ["svg", "png", "html"])
def test_one_figure_is_saved_by_its_ending(layers: hs.Ledger, tmp_path: Path, form: str) -> None:
    path, *tables = layers.plot.save(layers.plot.balance(), tmp_path / "new" / f"a.{form}")
    assert path.stat().st_size > 2000
    assert [table.name for table in tables] == ["a.csv"]
    beginning = {"svg": b"<svg width=", "png": b"\x89PNG", "html": b"<!DOCTYPE html>"}[form]
    assert path.read_bytes().startswith(beginning)
    if form == "html":
        assert not re.search(r'<script src|href="http', path.read_text()), "it loads nothing"


def test_what_cannot_be_saved_is_said_in_a_sentence(layers: hs.Ledger, tmp_path: Path) -> None:
    chart = layers.plot.balance()
    with pytest.raises(OutputError, match="does not end in one of pdf, svg, png, html"):
        layers.plot.save(chart, tmp_path / "a.jpeg")
    with pytest.raises(OutputError, match="1 or 2 columns wide, not 3"):
        layers.plot.save(chart, tmp_path / "a.pdf", columns=3)
    with pytest.raises(OutputError, match="no form 'eps' of a figure"):
        layers.plot.save_all(tmp_path, "eps")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        layers.plot.save(chart, tmp_path / "file" / "a.pdf")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_title_of_ones_own_is_wrapped_and_none_is_left_out(layers: hs.Ledger) -> None:
    long = "A title that a single column of a paper has no room for in one line, however small"
    chart: Any = layers.plot.balance()
    lines = re.findall(
        "<(?:text|tspan)[^>]*>(A title[^<]*|[^<]*however small)<", Picture.of(chart.properties(title=long)).svg
    )
    assert " ".join(lines) == long
    bare = chart.copy()
    bare.title = alt.Undefined
    assert "Without" not in Picture.of(bare).svg


def test_the_table_that_says_most_of_a_row_comes_first(layers: hs.Ledger) -> None:
    first, *others = chart_data(layers.plot.prompt_views())
    assert "value" in first and all(len(other.columns) <= len(first.columns) for other in others)
