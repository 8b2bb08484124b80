"""Every number on a page is one of the tables': one value, one interval, one sign."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hydrascope.analysis import TABLES, Findings
from hydrascope.errors import HydrascopeError
from hydrascope.figures._chart import DIGITS
from hydrascope.figures._compensation import CONVENTIONS
from hydrascope.report import render
from tests.report.test_report import Parsed
from tests.support.synthetic import divided, synthetic_ledger
from tests.support.texts import tiny_ledger

KEYS = ("ablated", "writer", "selection", "mechanism")
SIGNED = r"([−+]?[\d,]*\.?\d+(?:e[−+]?\d+)?)"
BRACKET = re.compile(rf"{SIGNED} ?(%)?[^\[\]−+\d]{{0,12}}\[{SIGNED} ?%?, {SIGNED} ?%?\]")
CELL = re.compile(rf"<td data-value=[^>]*>{SIGNED} ?(%)?<small>{SIGNED} ?%? to {SIGNED} ?%?</small></td>")
LOSSES = {"own_change", "total_effect", "direct_effect"}
"""Told as what is lost, with the other sign, where a sentence says so."""


@dataclass(frozen=True)
class Reported:
    """One page with the tables it is made of."""

    tables: dict[str, pd.DataFrame]
    html: str
    page: Parsed


def _reported(findings: Findings) -> Reported:
    tables = {}
    for name in TABLES:
        try:
            tables[name] = getattr(findings, name)
            tables[f"{name} by layer"] = getattr(findings.by_layer, name)
        except HydrascopeError:  # not recorded by this run
            continue
    html = render(findings)
    return Reported(tables, html.replace("\u202f", " ").replace("\xa0", " "), Parsed(html))


@cache
def reported(which: str) -> Reported:
    if which == "texts":
        return _reported(Findings(tiny_ledger("full").dataset, 60))
    ds = synthetic_ledger()
    return _reported(Findings(divided(ds, ["attn.6", "attn.7"], width=4) if which == "heads" else ds))


PAGES = ("layers", "heads", "texts")


def triples(tables: dict[str, pd.DataFrame]) -> Iterator[tuple[str, float, float, float]]:
    """Every number of the tables that has an interval: its column, value and ends."""
    for table in tables.values():
        for name in table.columns:
            if f"{name}_lo" in table:
                for value, low, high in table[[name, f"{name}_lo", f"{name}_hi"]].to_numpy(dtype=np.float64):
                    if np.isfinite([value, low, high]).all():
                        yield str(name), float(value), float(low), float(high)


def numeral(text: str) -> tuple[float, float]:
    """A number as written, and half a unit of its last place."""
    mantissa, _, exponent = text.replace("−", "-").replace(",", "").partition("e")
    unit = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    return float(f"{mantissa}e{exponent or 0}"), 0.5 * unit * 1.001


def is_told(written: tuple[str, ...], share: bool, known: np.ndarray[Any, np.dtype[np.float64]]) -> bool:
    """Whether one of the known triples is written like this."""
    near = np.ones(len(known), bool)
    for text, column in zip(written, known.T * (100 if share else 1), strict=True):
        value, half = numeral(text)
        near &= np.abs(column - value) <= half
    return bool(near.any())


@pytest.mark.parametrize("which", PAGES)
def test_every_number_with_an_interval_is_one_of_the_tables(which: str) -> None:
    it = reported(which)
    found = list(triples(it.tables))
    known = np.array([row[1:] for row in found])
    turned = np.array([(-row[1], -row[3], -row[2]) for row in found if row[0] in LOSSES])
    cells, sentences = CELL.findall(it.html), BRACKET.findall(" ".join(it.page.text.split()).replace("\u202f", " "))
    assert len(cells) > 10 or which == "texts"
    assert sentences
    for value, percent, low, high in cells:
        assert is_told((value, low, high), bool(percent), known), (value, low, high)
    for value, percent, low, high in sentences:
        written = (value, low, high)
        assert is_told(written, bool(percent), np.concatenate([known, turned])), written


@pytest.mark.parametrize("which", PAGES)
def test_tables_agree_wherever_they_tell_of_one_quantity(which: str) -> None:
    """Only `r2` has two meanings: of a line through compensation, and of one through total effects."""
    seen: dict[tuple[Any, ...], tuple[float, str]] = {}
    shared = 0
    for table_name, table in it_keyed(reported(which).tables):
        if table_name.endswith("by layer"):
            continue
        keys = [key for key in KEYS if key in table]
        for row in table.to_dict("records"):
            key = tuple((name, row[name]) for name in keys)
            for name, value in ((str(name), value) for name, value in row.items()):
                if not isinstance(value, float) or name.startswith("r2") or np.isnan(value):
                    continue
                other, where = seen.setdefault((key, name), (value, table_name))
                shared += where != table_name
                assert other == pytest.approx(value, rel=1e-6, abs=1e-9), (key, name, where, table_name)
    assert shared > 10


def it_keyed(tables: dict[str, pd.DataFrame]) -> Iterator[tuple[str, pd.DataFrame]]:
    """Tables with one row for each of their keys."""
    for name, table in tables.items():
        keys = [key for key in KEYS if key in table]
        if keys and not table.duplicated(keys).any():
            yield name, table


DRAWN: dict[str, tuple[str, ...]] = {
    "effects": ("layer_effects",),
    "agreement": ("layer_effects",),
    "compensation": ("repair",),
    "responders": ("who_repairs",),
    "erasure": ("late_mlps",),
    "self-repair": ("self_repair",),
}
"""Sections whose charts name columns as tables do, and the tables, of whole layers."""


@pytest.mark.parametrize("which", PAGES)
def test_charts_draw_the_numbers_of_the_tables(which: str) -> None:
    it, compared = reported(which), set()
    tables = dict(it_keyed(it.tables))
    for chart, spec in it.page.charts().items():
        section, place, _ = chart.rsplit("-", 2)
        for data in spec["datasets"].values():
            drawn = pd.DataFrame({name: _unpacked(values) for name, values in data["columns"].items()})
            drawn["selection"] = {"1": "top", "2": "all"}.get(place)
            for name in DRAWN.get(section, ()):
                table = tables.get(f"{name} by layer", tables[name])
                keys = [key for key in KEYS if key in table]
                names = [name for name in drawn.columns if name in table and name not in keys]
                if not set(keys) <= set(drawn.columns) or drawn.duplicated(keys).any():
                    continue
                both = drawn.merge(table, on=keys, suffixes=("_drawn", ""), validate="one_to_one")
                assert len(both) == len(drawn)
                for column in both[names].select_dtypes("float"):
                    shown, kept = both[f"{column}_drawn"].to_numpy(float), both[column].to_numpy(float)
                    known = np.isfinite(shown)
                    np.testing.assert_allclose(shown[known], kept[known], rtol=10.0 ** (1 - DIGITS))
                    compared |= {(section, column)} if known.any() else set()
    expected = {
        "layers": {("effects", "drop_lo"), ("compensation", "slope_hi"), ("responders", "change_lo")},
        "heads": {("responders", "change"), ("compensation", "r2_lo")},
        "texts": {("self-repair", "self_repair_lo"), ("self-repair", "own_change")},
    }
    assert expected[which] <= compared


def test_the_balance_and_the_shares_are_those_of_the_table() -> None:
    """Bars and shares are drawn under names of their own, so each is looked up by what it stands for."""
    it = reported("layers")
    table = it.tables["repair"].set_index("ablated")
    charts = it.page.charts()
    parts = {"attention": "compensation_attn", "MLPs": "compensation_mlp", "final norm": "norm_effect"}
    parts |= {"own change": "own_change", "total effect": "total_effect"}
    for chart in ("balance-1-spec", "kinds-1-spec", "kinds-2-spec"):
        for row in _rows(charts[chart], "part"):
            assert row["value"] == pytest.approx(table.loc[row["ablated"], parts[row["part"]]], rel=1e-3, abs=1e-4)
    conventions = {label: column for column, label in CONVENTIONS.items()}
    for chart in ("kinds-3-spec", "kinds-4-spec"):
        for row in _rows(charts[chart], "convention"):
            for end in ("", "_lo", "_hi"):
                kept = table.loc[row["ablated"], conventions[row["convention"]] + end]
                assert row[f"share{end}"] == pytest.approx(kept, rel=1e-3, abs=1e-4)


def _rows(spec: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Rows of the one dataset of a chart that has such a column."""
    [columns] = [data["columns"] for data in spec["datasets"].values() if name in data["columns"]]
    lists = {key: _unpacked(values) for key, values in columns.items()}
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


def _unpacked(values: Any) -> list[Any]:
    return [values["levels"][code] for code in values["codes"]] if isinstance(values, dict) else values
