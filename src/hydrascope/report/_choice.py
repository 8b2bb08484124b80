"""The page's one picker: what sentence, equation and caption say of each knock-out that can be chosen."""

from __future__ import annotations

import base64
import json
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hydrascope import figures
from hydrascope.report._account import decomposed
from hydrascope.report._listing import Row, in_words
from hydrascope.report._numbers import fixed, percent, tied
from hydrascope.report._run import Run

_OUTCOMES = {
    "repaired": "repaired on the whole",
    "made worse": "made worse",
    "norm": "given back by the final norm alone",
    "open": "a clear loss, neither repaired nor made worse for certain",
    "": "no clear loss",
}


@dataclass(frozen=True)
class Choice:
    """One knock-out in the picker.

    Attributes:
        name: its address.
        sentence: what was lost, what came back, what became of it.
        terms: values of the equation's terms.
        caption: what the equation is a mean of, and by how much it misses.
    """

    name: str
    sentence: str
    terms: tuple[str, ...] = ()
    caption: str = ""


@dataclass(frozen=True)
class Choices:
    """The picker.

    Attributes:
        shown: address that is chosen first.
        every: the knock-outs, in the order of the run.
    """

    shown: str
    every: tuple[Choice, ...]

    @property
    def first(self) -> Choice:
        """The one that is chosen first."""
        return next(one for one in self.every if one.name == self.shown)

    @property
    def payload(self) -> str:
        """JSON for the page's script: address to what is said of it."""
        said = {one.name: [one.sentence, one.terms, one.caption] for one in self.every}
        return json.dumps(said, separators=(",", ":"))


def choices(run: Run) -> Choices:
    """The knock-outs that a reader can choose, each with what the page says of it."""
    names = run.strongest(figures.BALANCED)
    rows = run.losses.set_index("ablated", drop=False)
    steps = None if run.of_tokens else figures.balance_steps(rows)
    return Choices(run.focus, tuple(_choice(run, rows.loc[name].to_dict(), steps) for name in names))


def _choice(run: Run, row: Row, steps: pd.DataFrame | None) -> Choice:
    name = str(row["ablated"])
    where, moved = (" on its top tokens", "target’s logit") if run.of_tokens else ("", run.quantity.answer)
    sentence = tied(
        f"Without {name}{where} the own change is {_mean(row, 'own_change')}, all that comes after it adds "
        f"{_mean(row, 'self_repair')}, and the {moved} moves by {_mean(row, 'total_effect')} logits: "
        f"{_OUTCOMES[str(row['outcome'])]}{_share(row)}."
    )
    if steps is None:
        return Choice(name, sentence)
    equation, caption = decomposed(run, steps[steps["ablated"] == name])
    return Choice(name, sentence, tuple(value for _, value in equation), caption)


def _mean(row: Row, name: str) -> str:
    low, high = row[f"{name}_lo"], row[f"{name}_hi"]
    ends = f" [{fixed(low, 3)}, {fixed(high, 3)}]" if math.isfinite(high - low) else ""
    return f"{fixed(row[name], 3)}{ends}"


def _share(row: Row) -> str:
    name = "restored" if "restored_with_norm" not in row else "restored_with_norm"
    if not (row["meaningful"] and row["outcome"]):
        return ""
    low, high = row[f"{name}_lo"], row[f"{name}_hi"]
    ends = f" [{percent(low)}, {percent(high)}]" if math.isfinite(high - low) else ""
    return f", {percent(row[name])}{ends} of the loss restored"


@dataclass(frozen=True)
class PromptTable:
    """All prompts of a run, for a table that can be searched.

    Attributes:
        rows: number, text, answer and group of each prompt.
        payload: JSON with own changes and total effects of every choice, packed as integers.
        shown: own change and total effect of each prompt under the first choice, in words.
        dropped: prompts left out: number, text, and the reason.
    """

    rows: tuple[tuple[str, ...], ...]
    payload: str
    shown: tuple[tuple[str, str], ...]
    dropped: tuple[tuple[str, ...], ...]


def all_prompts(run: Run, found: Choices) -> PromptTable | None:
    """The table of all prompts; none on ordinary text, where a row is a token."""
    if run.of_tokens:
        return None
    ds = run.tables.ds
    names = [one.name for one in found.every]
    some = ds.isel(ablated=[list(map(str, ds["ablated"].values)).index(name) for name in names])
    values = np.stack([some[name].transpose("ablated", "prompt").values for name in ("own_change", "total_effect")])
    places = 3 if np.abs(values).max(initial=0) < 32 else 1
    whole = np.round(values.astype(np.float64) * 10**places).clip(-32767, 32767).astype("<i2")
    packed = {"names": names, "places": places, "values": base64.b64encode(whole.tobytes()).decode()}
    first = whole[:, names.index(found.shown)] / 10**places
    group = ds["group"].values if "group" in ds.coords else ds["prompt"].values
    columns = (ds["prompt"].values, ds["text"].values, ds["target"].values, group)
    left = json.loads(str(ds.attrs.get("left_out", "[]")))
    return PromptTable(
        tuple((*in_words(*prompt), str(g)) for *prompt, g in zip(*columns, strict=True)),
        json.dumps(packed, separators=(",", ":")),
        tuple((fixed(own, places), fixed(total, places)) for own, total in first.T),
        tuple((str(row["index"]), " ".join(row["text"].split()), str(row["target"]), _reason(row)) for row in left),
    )


def _reason(row: Row) -> str:
    return str(row["why"]) + ("" if row["said"] is None else f": “{row['said']}”")
