"""Short views of objects in a notebook: a name, and lines of what is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape


def card(title: str, facts: Mapping[str, object], sentences: Sequence[str] = ()) -> str:
    """HTML of a view that follows the notebook's own colours.

    Args:
        title: text above.
        facts: names and values; values that are empty are left out.
        sentences: lines below.
    """
    rows = "".join(
        f'<tr><td style="text-align:left;opacity:.65">{escape(name)}</td>'
        f'<td style="text-align:left">{escape(str(value))}</td></tr>'
        for name, value in facts.items()
        if str(value)
    )
    said = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    table = f"<table>{rows}</table>" if rows else ""
    return f"<div><strong>{escape(title)}</strong>{table}{f'<ul>{said}</ul>' if said else ''}</div>"
