"""What a notebook shows of a run without being asked: short views, and bars of HTML."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from types import ModuleType
from typing import Any

import pytest

import hydrascope as hs
from hydrascope import progress
from tests.support.synthetic import synthetic_ledger
from tests.support.texts import tiny_model


class _Seen(HTMLParser):
    """Text of a piece of HTML in which every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def _views() -> Iterator[tuple[Any, set[str]]]:
    ledger = hs.Ledger(synthetic_ledger(n_prompts=20))
    headline = ledger.summary().headline
    yield ledger, {"Ledger of synthetic", "capitals, 20 of 27 kept", "16 parts, by resample", headline}
    yield ledger.summary(), {headline, *ledger.summary().leading}
    prompts = tuple(hs.Prompt("x" * 300 + f"<b>{i}", target=" a", group=f"g{i % 3}") for i in range(1200))
    yield hs.PromptSet("<mine>", prompts), {"<mine>", "1,200 in 3 groups", "… " + "x" * 116 + "<b>0", " a"}
    context = hs.context(hs.Ledger(synthetic_ledger(n_prompts=20)))
    yield context, {context.summary().headline, *context.summary().sentences[:3], ", ".join(context.TABLES)}
    yield tiny_model(), {"tiny", "4 of width 16, 8 writers proved", "float32 on cpu"}


def test_views_are_short_and_escaped() -> None:
    for found, told in _views():
        view = found._repr_html_()
        assert told <= set(_Seen(view).words), found
        assert len(view) < 3000


def test_at_a_prompt_a_result_says_what_was_found() -> None:
    context = hs.context(hs.Ledger(synthetic_ledger(n_prompts=20)))
    assert repr(context) == f"Context: {context.summary().headline}\nTables: variance, agreement, effects, somewhere"


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A notebook's cell: what has been shown in it, one state after the other."""
    shown: list[str] = []

    class Handle:
        def update(self, found: Any) -> None:
            shown.append(found._repr_html_())

    def display(found: Any, display_id: bool) -> Handle:
        shown.append(found._repr_html_())
        return Handle()

    module = ModuleType("IPython.display")
    module.display = display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    return shown


def test_bars_grow_below_a_cell(notebook: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_EVERY", -1.0)
    with progress.bars() as told:
        for done in range(3):
            told("clean", done, 2)
        told("knock-outs", 1, 2000)
    assert notebook[0] == ""
    assert 'value="2" max="2"' in notebook[-1] and "knock-outs 1 / 2,000" in notebook[-1]
    before = len(notebook)
    monkeypatch.setattr(progress, "_EVERY", 1e9)
    with progress.bars() as told:
        told("clean", 1, 1000)
        told("clean", 2, 1000)
        told("clean", 1000, 1000)
    assert len(notebook) == before + 2, "changes that nobody could see are not sent"


def test_nobody_is_told_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.bars() as told:
        told("clean", 1, 2)
    progress.loading()
    assert capsys.readouterr() == ("", "")


def test_a_terminal_says_at_once_that_a_model_is_opened(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    progress.loading()
    progress.loading(quiet=True)
    assert capsys.readouterr().err == "loading the model ...\n"
