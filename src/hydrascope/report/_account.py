"""First section of the page: total effects decomposed, over prompts or by depth."""

from __future__ import annotations

import pandas as pd

from hydrascope import figures
from hydrascope.analysis import TOP_TOKENS, WHOLE, count, noun, self_repair_by_depth
from hydrascope.report._numbers import fixed, number, summands
from hydrascope.report._run import Run
from hydrascope.report._section import Draft, Section, Words

NOTHING_REMOVED = "the replacement left the direct effect of everything that was knocked out as it was."


def balance(run: Run) -> Section | None:
    """One total effect decomposed, in a chart and in numbers."""
    if run.of_tokens:
        return None
    draft = Draft("balance", "The total effect of one knock-out, decomposed")
    draft.add(figures.balance(run.tables.repair, run.focus, unit=run.unit), "wide")
    steps = figures.balance_steps(run.tables.repair)
    equation, caption = decomposed(run, steps[steps["ablated"] == run.focus])
    answer = run.quantity.answer
    return draft.finished(
        "The first bar is the own change: what the knocked-out part itself no longer writes; each bar below starts "
        "where the one above ended, and the last, measured on its own at the model’s output, ends where they end.",
        [caption],
        equation=equation,
        words=(
            (
                "direct effect",
                f"what a part’s output adds to the {answer} when the unembedding reads it, everything else fixed",
            ),
            ("own change", "what the knocked-out part itself writes less once its output is replaced"),
            ("compensation", "what all later attention layers and MLPs write more, or less, than in the clean run"),
            ("final norm", "norm effect: what the last normalisation adds by scaling everything differently"),
            ("total effect", f"how much the {answer} changes in the end: the sum of all of these"),
        ),
    )


def decomposed(run: Run, steps: pd.DataFrame) -> tuple[Words, str]:
    """The terms of one total effect with their values, and the caption below them.

    Args:
        run: the run.
        steps: from `figures.balance_steps`, of one knock-out.
    """
    *parts, total = (float(value) for value in steps["value"])
    counted = count(run.ds.sizes["prompt"], "prompt")
    caption = (
        f"{'Of' if counted.startswith('1 ') else 'Means over'} {counted}, in {run.unit}, for "
        f"{steps['ablated'].iloc[0]}; the sum misses the measured total by {number(abs(sum(parts) - total), 2)}."
    )
    return _sum([str(name) for name in steps["part"]], parts, total), caption


def self_repair(run: Run) -> Section | None:
    """Self-repair over relative depth, on the top tokens and on all."""
    if not run.of_tokens:
        return None
    draft = Draft("self-repair", "Self-repair over depth")
    table, lines = run.tables.self_repair, self_repair_by_depth(run.tables.self_repair, run.layers)
    if lines.empty:
        return draft.absent(NOTHING_REMOVED, _WORDS)
    for selection in figures.SELECTED:
        draft.add(figures.repair_by_depth(table, lines, selection, n_layers=run.layers))
    pooled, many = run.tables.pooled_mechanisms, f"{noun(run.ds)}s"
    kept = int((~run.losses["removed"]).sum())
    left_out = f"{kept} of the {many} {'is' if kept == 1 else 'are'} left out: the replacement did not remove"
    parts = count(int(pooled["parts"].iloc[0]), noun(run.ds)) if len(pooled) else ""
    return draft.finished(
        f"Each point is one of the {many}: above zero the target’s logit falls by less than it directly lost, below "
        f"zero by more; the line joins the means of the layers. Left are {TOP_TOKENS} on which each matters most, "
        "right are all tokens.",
        [
            f"The sum: means over {parts} of the second half, on top tokens, in logits." if parts else "",
            "The two charts have scales of their own."
            + (f" {left_out} {'it' if kept == 1 else 'them'}." if kept else ""),
        ],
        equation=_pooled(run) if parts else (),
        words=_WORDS,
    )


_WORDS: Words = (
    ("target", "the token that the text really goes on with, at every position that was read"),
    (
        "direct effect",
        "what a part’s output adds to the target’s logit when the unembedding reads it, everything else fixed",
    ),
    ("own change", "what the knocked-out part itself writes less once its output is replaced"),
    (
        "self-repair",
        "how much less the target’s logit falls than the part itself takes away: total effect minus own change",
    ),
    ("top tokens", f"{TOP_TOKENS} on which the part’s direct effect is largest, chosen in the clean run"),
)


def _pooled(run: Run) -> Words:
    """Decomposition of the parts of the second half together."""
    rows = run.tables.pooled_mechanisms.query("selection == 'top'").set_index("mechanism")
    own, repaired = float(rows["own_change"].iloc[0]), float(rows["mean"][WHOLE])
    by_giver = rows["mean"].groupby(rows.index.str.split("_").str[0]).sum()
    given = {label: float(by_giver[giver]) for giver, label in figures.GIVERS.items() if giver in by_giver}
    return _sum(["own change", *given, "total effect"], [own, *given.values()], own + repaired)


def _sum(names: list[str], parts: list[float], total: float) -> Words:
    return (*zip(names[:-1], summands(parts, 3), strict=True), (names[-1], f"= {fixed(total, 3)}"))
