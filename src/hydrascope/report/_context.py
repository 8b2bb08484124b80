"""The page of a model on several tasks."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from hydrascope import figures
from hydrascope.analysis import SIGNIFICANT, Closing, Findings, quantity, reads_each
from hydrascope.analysis import listed as in_words
from hydrascope.report import _facts
from hydrascope.report._context_figures import ONE_TASK, STILL, UNSURE, several, sure, varies
from hydrascope.report._facts import Pairs
from hydrascope.report._html import filled, write
from hydrascope.report._listing import Cell, Columns, Listing, listed, named, named_value, proportion
from hydrascope.report._listing import estimate as estimated
from hydrascope.report._literature import SCOPE
from hydrascope.report._numbers import fixed, summands, tied
from hydrascope.report._of_ledgers import NO_INTERVALS
from hydrascope.report._page import Page
from hydrascope.report._section import Draft, Section
from hydrascope.significance import Contexts, told_context

LISTED = 200
"""Most rows of a table."""
PROMPTS = 3
"""Most prompts that are shown for a part in a task."""
LONG = ("Left out", "Example")
"""What a run's own page says of its prompts at length."""

WORDS = (
    ("effect", "total effect of a part’s loss on the answer’s logit; here its mean over tasks, each counted once"),
    ("between tasks", "how much of the variance of single effects lies between the means of tasks"),
    ("between groups", "between the groups of prompts of one task, such as templates or relations"),
    ("between prompts", "between the prompts of one group"),
    ("by donors", "between the replacement values of one prompt"),
    ("matters", f"the effect differs from zero at a false discovery rate of {SIGNIFICANT:.0%}"),
    ("idle", "the whole interval lies within a quarter of what the part clearly does elsewhere"),
    ("Kendall’s W", "agreement of rankings: 1 where all order the parts alike"),
)


def write_context_report(found: Contexts, path: Path, folders: Sequence[str] = ()) -> Path:
    """Write the page of a model on several tasks.

    Args:
        found: its tables.
        path: path of the HTML file.
        folders: names of the runs' folders, where they have some.

    Raises:
        OutputError: the file cannot be written.
    """
    return write(render_context(found, folders), path)


def render_context(found: Contexts, folders: Sequence[str] = ()) -> str:
    """The page of a model on several tasks as the text of one HTML file.

    Args:
        found: its tables.
        folders: names of the runs' folders, where they have some.
    """
    said, first = told_context(found), next(iter(found.ledgers.values()))
    closed, versions, names = _worst_closing(found), _facts.versions(first), folders or ["RUN"] * len(found.ledgers)
    return filled(
        "page.html.j2",
        page=Page(
            model=str(first.attrs["model_name"]),
            headline=tied(said.headline),
            facts=_headline_facts(found),
            leading=tuple(map(tied, said.sentences)),
            details=(),
            hero=_variance(found),
            sections=tuple(made(found) for made in (_intervals, _agreement, _effects)),
            table=_numbers(found),
            run=_run_facts(found),
            closes=closed.closes,
            closing=_facts.closing_sentence(closed, "token" if reads_each(first) else "prompt"),
            caveats=_caveats(found),
            command="\n".join([*(str(ds.attrs["command"]) for ds in found.ledgers.values()), _command(names)]),
            versions=", ".join(f"{name} {version}" for name, version in versions.items()) + ".",
            opening=_opening(names),
            scope=SCOPE,
            version=versions.get("hydrascope", ""),
        ),
    )


def _variance(found: Contexts) -> Section:
    draft, table = Draft("variance", "What the importance of a part depends on"), found.variance
    if not varies(found):
        return draft.absent(f"{STILL}.", WORDS)
    draft.add(figures.variance_shares(table), "wide")
    costliest = table.iloc[int(table["effect"].abs().argmax())]
    terms = {said: float(costliest[level]) for level, said in figures.LEVEL_LABELS.items()}
    terms = {said: share * costliest["sd"] ** 2 for said, share in terms.items() if not math.isnan(share)}
    summed = zip(terms, summands(list(terms.values())), strict=True)
    return draft.finished(
        "A bar is a part, the costliest on average first; its colours say how the variance of single effects splits "
        "into differences between tasks, between groups of prompts within a task, between prompts within a group, and "
        "between the replacement values of a prompt.",
        [f"The sum: the variance of {costliest['part']}’s effect on single prompts and donors, in squared logits."],
        equation=(*summed, ("variance", f"= {fixed(costliest['sd'] ** 2)}")),
        words=WORDS,
    )


def _intervals(found: Contexts) -> Section:
    draft = Draft("shares", "How sure the shares are")
    if not sure(found):
        return draft.absent(f"{UNSURE}.")
    draft.add(figures.share_intervals(found.variance), "wide")
    return draft.finished(
        "The shares of the costliest parts one by one, with 95 % intervals. A few tasks leave a wide interval for the "
        "share of tasks, however many prompts they have.",
        [
            "Effect on a single prompt with a single donor = mean + task + group + prompt + donor; the variance of "
            "a term over the sum of all of them is its share."
        ],
    )


def _agreement(found: Contexts) -> Section:
    draft, table = Draft("task-agreement", "How far tasks agree"), found.agreement
    if not several(found):
        return draft.absent(f"{ONE_TASK}.")
    draft.add(figures.task_agreement(table), "wide")
    noisy = int(table["agreement"].isna().sum())
    return draft.finished(
        "Filled: Kendall’s W of the rankings by size of the effect, freed of the noise of the measurement, with its "
        "95 % interval; the ring is W as measured. The upright stroke is where rankings come to lie that have nothing "
        "in common.",
        [
            "W = 12 S / (m² (n³ − n)): S is how much the rank sums of n parts over m tasks vary, as a sum of squares; "
            "equal ranks are allowed for.",
            f"{noisy} of {len(table)} are too noisy to be freed and have no interval." if noisy else "",
        ],
    )


def _effects(found: Contexts) -> Section:
    draft, table = Draft("effects-by-task", "Parts that matter only somewhere"), found.somewhere
    if not several(found):
        return draft.absent(f"{ONE_TASK}.")
    draft.add(figures.effects_by_task(found.effects, found.parts), "wide")
    rows = table.drop_duplicates(["part", "task"])
    shown = {key: _prompts(some) for key, some in table.groupby(["part", "task"], sort=False)}
    columns: Columns = {
        "lost": named(rows, "part"),
        "matters in": named_value("task"),
        "effect there": lambda row: Cell(fixed(row["effect"]), row["effect"]),
        "idle in": named_value("idle_in"),
        "most on the prompt": lambda row: shown[row["part"], row["task"]],
    }
    return draft.finished(
        "Purple: the answer loses without the part; dots mark effects that differ from zero. A row with a dot in one "
        "task and next to nothing in another is a part that matters only somewhere.",
        ["" if len(table) else "No part matters in one task and is idle in another."],
        listing=listed(
            rows.head(LISTED),
            columns,
            "Parts that matter in one task and are idle in another, with the prompts that their loss moves most, in "
            "logits; the table “somewhere” has more of them.",
            "Where they matter, and on which prompts",
        )
        if len(table)
        else None,
    )


def _prompts(rows: pd.DataFrame) -> Cell:
    """The prompt that a part's loss moves most, the next ones in small print."""
    said = [f"{' '.join(str(row['text']).split())} ({fixed(row['on_prompt'])})" for row in rows.to_dict("records")]
    return Cell(said[0], float(rows["on_prompt"].iloc[0]), "; ".join(said[1:PROMPTS]))


def _numbers(found: Contexts) -> Listing:
    wide = found.effects.pivot(index="part", columns="task")
    table = found.variance.set_index("part", drop=False)
    for place, task in enumerate(found.ledgers):
        for end in ("", "_lo", "_hi"):
            table[f"in {place}{end}"] = wide[f"effect{end}", task]
    table = table.loc[table["effect"].abs().nlargest(LISTED).index]
    columns: Columns = {
        "part": named(table, "part"),
        "mean effect": lambda row: Cell(fixed(row["effect"]), row["effect"]),
        "sd": lambda row: Cell(fixed(row["sd"]), row["sd"]),
        **{said: proportion(level) for level, said in figures.LEVEL_LABELS.items() if table[level].notna().any()},
        **{task: estimated(f"in {place}") for place, task in enumerate(found.ledgers) if several(found)},
    }
    return listed(
        table,
        columns,
        f"Effects in {quantity(next(iter(found.ledgers.values()))).axis}; sd is the standard deviation of a single "
        "effect. 95 % intervals in small print. Press a heading to sort.",
    )


def _headline_facts(found: Contexts) -> Pairs:
    ledgers = list(found.ledgers.values())
    kept = "tokens" if reads_each(ledgers[0]) else "prompts"
    said = [f"{name} ({ds.sizes['prompt']:,} {kept})" for name, ds in found.ledgers.items()]
    of_all = ("Replaced by", "Layers", "Parameters", "Date")
    rest = tuple(fact for fact in _facts.headline_facts(ledgers[0]) if fact[0] in of_all)
    return (("Task" if len(said) == 1 else "Tasks", in_words(said)), ("Parts", f"{len(found.parts):,}"), *rest)


def _run_facts(found: Contexts) -> Pairs:
    """What all runs have in common, then what each has of its own."""
    facts = {task: _facts.run_facts(ds) for task, ds in found.ledgers.items()}
    common = [fact for fact in next(iter(facts.values())) if all(fact in of_run for of_run in facts.values())]
    own = {
        task: ". ".join(
            f"{name}: {value}" for name, value in of_run if (name, value) not in common and name not in LONG
        )
        for task, of_run in facts.items()
    }
    return (*(fact for fact in common if fact[0] not in LONG), *((task, said) for task, said in own.items() if said))


def _worst_closing(found: Contexts) -> Closing:
    return max((Findings(ds).closing for ds in found.ledgers.values()), key=lambda one: one.error / one.tolerance)


def _caveats(found: Contexts) -> tuple[str, ...]:
    said = [
        "Shares are those of a random-effects model: tasks, groups and prompts count as drawn from more of their kind, "
        "and each group counts once.",
        "Intervals hold one at a time. What is called clear among many parts and tasks has a false discovery rate of "
        f"{SIGNIFICANT:.0%}.",
    ]
    few = [name for name, one in found.rated.items() if not one.resampling.conclusive]
    if len(few) == len(found.rated):
        said.append(NO_INTERVALS)
    elif few:
        said.append(f"{in_words(few)} {'has' if len(few) == 1 else 'have'} too few independent groups for intervals.")
    return tuple(said)


def _command(names: Sequence[str]) -> str:
    return f"hydrascope context {shlex.join(names)}"


def _opening(names: Sequence[str]) -> str:
    runs = ", ".join(map(repr, names))
    return f"import hydrascope as hs\nfound = hs.context({runs})\nfound.variance(), found.somewhere()"
