"""What the verdict says of responders that were held at their clean output."""

from __future__ import annotations

import pandas as pd

from hydrascope.analysis.question import Row
from hydrascope.analysis.telling import Told
from hydrascope.analysis.wording import Reading, percent, spread


def tell_confirmation(told: Told, table: pd.DataFrame) -> None:
    """How much of the repair hung on its strongest responder, and on others."""
    here = table[(table["ablated"] == told.ablated) & table["meaningful"]]
    held, whole = (_row(here, "responder", measure) for measure in ("attention", "with_norm"))
    if held is None or held["repair"] < 0:
        return
    told.number("held_responder", str(held["held"]))
    removed = told.reading("held_removed", told.column("removed", held))
    sentence = f"Holding {held['held']} at its clean output {_removes(removed)} of what later attention gave back"
    if (others := _row(here, "controls", "attention")) is not None:
        usual = told.reading("held_removed_control", told.column("removed", others))
        beyond = told.reading("held_removed_minus_control", told.column("removed_minus_control", held))
        sentence += f"; holding another layer ({others['held']}) {spread(usual, form=percent)}"
        sentence += "" if beyond.sign > 0 else ", so it is not shown to matter more than any other"
    else:
        sentence += ", as it must, being the only attention layer behind it"
    told.say(f"{sentence}.")
    if whole is not None and whole["repair"] > 0:
        removed = told.reading("held_removed_with_norm", told.column("removed", whole))
        told.detail(
            f"Of all that was given back, MLPs and final norm included, holding {held['held']} {_removes(removed)}; "
            "where this is less than its answer, others gave back more instead."
        )


def _row(table: pd.DataFrame, role: str, measure: str) -> Row | None:
    found = table[(table["role"] == role) & (table["measure"] == measure)]
    return None if found.empty else found.iloc[0]


def _removes(removed: Reading) -> str:
    share = spread(removed, form=percent)
    return f"removes {share}" if removed.sign > 0 else f"does not clearly remove any (measured: {share})"
