"""The end of a run: twelve lines at most, of which the account is two."""

from __future__ import annotations

import shlex
from pathlib import Path

from rich.console import Console
from rich.text import Text

from hydrascope.analysis import Summary, reads_each
from hydrascope.cli._streams import say
from hydrascope.results import Ledger

LINES = 12
"""Most lines on a terminal, the path of the report included."""
SENTENCES = 3
_ACCOUNT = {
    "own_change": "own change",
    "compensation_attn": "attention",
    "compensation_mlp": "MLPs",
    "compensation_mixer": "mixers",
    "repair_attn": "attention",
    "repair_mlp": "MLPs",
    "repair_mixer": "mixers",
    "repair_bias": "biases",
    "norm_effect": "final norm",
    "repair_norm": "final norm",
    "total_effect": "total effect",
}
"""Column of a run's main table to a part of the account, in the order in which they are summed."""


def show_ending(ledger: Ledger, page: Path, console: Console) -> None:
    """Print headline, account, at most three sentences, and where the rest is.

    Args:
        ledger: a finished run that has a report.
        page: path of its report.
        console: where to print.
    """
    summary, attributes = ledger.summary(), ledger.dataset.attrs
    more = len(summary.sentences) - SENTENCES
    closing = f"The ledger closes to {ledger.closing().error:.1e}; {attributes['seconds']:.1f} s. "
    closing += f"{more} more sentences: " if more > 0 else "Again: "
    closing += f"hydrascope show {shlex.quote(str(page.parent))}"
    said = [Text(summary.headline, "bold"), *account(ledger, summary)]
    last = [Text(closing, "dim")]
    room = LINES - 1 - sum(_height(text, console) for text in (*said, *last))
    for sentence in summary.leading[:SENTENCES]:
        text = Text(f"- {sentence}")
        room -= _height(text, console)
        said += [text] if room >= 0 else []
    for text in (*said, *last):
        console.print(text)
    say(page)  # unwrapped and last, so that it can be clicked or piped


def account(ledger: Ledger, summary: Summary) -> list[Text]:
    """The total effect of the knock-out that the headline is about, part by part, in two lines."""
    if reads_each(ledger.dataset):
        table, where = ledger.self_repair().query("selection == 'top'"), ", top tokens"
    else:
        table, where = ledger.findings.by_layer.repair, ""
    row = table.set_index("ablated").loc[summary.focus]
    parts = {label: f"{row[name]:+.2f}" for name, label in _ACCOUNT.items() if name in row and row[name] == row[name]}
    first = f"without {summary.focus}{where}"
    heads = "  ".join(f"{label:>{max(len(label), len(parts[label]))}}" for label in parts)
    values = "  ".join(f"{value:>{max(len(label), len(value))}}" for label, value in parts.items())
    return [Text(f"{'logits':<{len(first)}}  {heads}", "dim"), Text(f"{first}  {values}")]


def _height(text: Text, console: Console) -> int:
    return 1 if console.soft_wrap else len(text.wrap(console, console.width))
