"""Judges a file of expectations, and writes one from what a run shows today."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from hydrascope.checking._expectations import CHANGE, OF_PARTS, SECURE, Expectation, Expectations, read_expectations
from hydrascope.checking._judge import Judged, judged_change, judged_part, judged_secure, with_ends
from hydrascope.comparison import compare
from hydrascope.errors import OutputError, SettingsChanged
from hydrascope.faults import Stress
from hydrascope.ledger import write_text
from hydrascope.resilience import ALLOWED
from hydrascope.results import Ledger
from hydrascope.run import Progress, execute_runs, open_request, prepare_runs
from hydrascope.run_directory import folder_named

FAILED, UNDECIDED = 1, 3
"""Exit codes; 2 is for what cannot be judged."""

RECORDED = ("own change", "total effect", "restored share")


@dataclass(frozen=True)
class Checks:
    """Expectations, judged.

    Attributes:
        judged: one by one, in the order of the file.
    """

    judged: tuple[Judged, ...]

    @property
    def exit_code(self) -> int:
        """0 if all hold, 1 if one fails, 3 if none fails and one is undecided."""
        outcomes = {one.outcome for one in self.judged}
        return FAILED if "fails" in outcomes else UNDECIDED if "undecided" in outcomes else 0

    @property
    def headline(self) -> str:
        """How many hold, fail and are undecided."""
        count = Counter(one.outcome for one in self.judged)
        return f"{count['holds']} of {len(self.judged)} hold, {count['fails']} fail, {count['undecided']} undecided"

    def table(self) -> pd.DataFrame:
        """A row for each expectation."""
        return pd.DataFrame(
            [
                {"expectation": one.expectation.name, "outcome": one.outcome, "found": one.said, "base": one.beside}
                for one in self.judged
            ]
        )


def check(
    file: str | os.PathLike[str],
    *,
    base: str | os.PathLike[str] | None = None,
    trust_remote_code: bool = False,
    progress: Progress = lambda stage, done, total: None,
) -> Checks:
    """Judge what a file expects of a model's parts, by the 95 % intervals of a run.

    A run that is not finished is made or continued first, where the file says how.

    Args:
        file: a TOML file with a run and expectations.
        base: folder of a finished run that each value is compared with, prompt by prompt.
        trust_remote_code: run code that comes with the weights.
        progress: takes stage, number done and total.

    Raises:
        HydrascopeError: the file or the run cannot be judged.
    """
    asked = read_expectations(folder_named(file))
    ledger = _ledger(asked, trust_remote_code, progress)
    repair = ledger.repair()
    stress = None if asked.stress is None else Stress.open(asked.stress)

    def judge(expected: Expectation) -> Judged:
        if expected.quantity == SECURE:
            assert stress is not None
            return judged_secure(expected, stress.single_faults(), ALLOWED)
        if expected.quantity == CHANGE:
            return judged_change(expected, ledger.who_repairs(str(expected.part)))
        return judged_part(expected, repair)

    found = tuple(map(judge, asked.expected))
    return Checks(found if base is None else tuple(_beside(found, Ledger.open(base), ledger)))


def record(run: str | os.PathLike[str], file: str | os.PathLike[str]) -> Path:
    """Write what a finished run shows today as expectations of tomorrow.

    Of every clear loss: own change, total effect and restored share, each within twice today's interval, and the writer
    that answers most as one of the first two, where today's intervals tell that it is.

    Args:
        run: folder of the run.
        file: the file to write; it must not be there.

    Raises:
        OutputError: the file is there, or cannot be written.
    """
    folder, path = folder_named(run), folder_named(file)
    if path.exists():
        raise OutputError(f"'{path}' is there; give another name, or delete it")
    ledger = Ledger.open(folder)
    repair = ledger.repair()
    lines = ["[run]", f"folder = {_quoted(os.path.relpath(folder, path.parent))}"]
    for row in repair[repair["lost"].astype(bool)].to_dict("records"):
        part = str(row["ablated"])
        for quantity in RECORDED:
            value, low, high = with_ends(row, OF_PARTS[quantity])
            if high - low > 0:
                ends = f"[{2 * low - value:.4g}, {2 * high - value:.4g}]"
                lines += [
                    "",
                    "[[expect]]",
                    f"part = {_quoted(part)}",
                    f"quantity = {_quoted(quantity)}",
                    f"between = {ends}",
                ]
        answers = ledger.who_repairs(part)
        clear = answers.query("significant and not is_own and change > 0").sort_values("change", ascending=False)
        if len(clear):
            first = Expectation(part=part, responder=str(clear["writer"].iloc[0]), among=2)
            if judged_change(first, answers).outcome == "holds":
                lines += ["", "[[expect]]", f"part = {_quoted(part)}"]
                lines += [f"responder = {_quoted(str(first.responder))}", "among = 2"]
    write_text(path, "\n".join([*lines, ""]))
    return path


def _ledger(asked: Expectations, trust_remote_code: bool, progress: Progress) -> Ledger:
    if asked.request is None:
        return Ledger.open(asked.folder)
    runs = prepare_runs(asked.request, *open_request(asked.request, trust_remote_code=trust_remote_code))
    try:
        dataset, directory = execute_runs(runs, asked.folder, overwrite=False, progress=progress)
    except SettingsChanged as error:
        differing = str(error).rpartition("; ")[0]
        raise SettingsChanged(
            f"{differing}; below [run] give the options that it was made with, the folder alone, or another folder"
        ) from error
    return Ledger(dataset, None if directory is None else directory.path)


def _beside(found: Iterable[Judged], base: Ledger, ledger: Ledger) -> Iterable[Judged]:
    differences = compare(base, ledger)
    parts, answers = differences.knockouts(), differences.responders()
    for one in found:
        expected = one.expectation
        rows = parts[parts["ablated"] == expected.part]
        if expected.quantity == CHANGE:
            rows = answers[(answers["ablated"] == expected.part) & (answers["writer"] == expected.responder)]
        column = OF_PARTS.get(expected.quantity, CHANGE)
        if rows.empty or f"{column}_lo" not in rows:
            yield one
            continue
        value, low, high = with_ends(dict(rows.iloc[0]), column)
        yield replace(one, beside=f"{value:+.3g} [{low:+.3g}, {high:+.3g}]")


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
