"""The command that a report prints for a model's sibling: the same kind of run, and only its own folder left out."""

from __future__ import annotations

import pytest
import typer
import xarray as xr

from hydrascope.cli import app
from hydrascope.report.sibling import FLAGS, same_of_sibling


def ledger(command: str, sibling: str = "iolaus") -> xr.Dataset:
    return xr.Dataset(attrs={"command": command, "sibling": sibling})


@pytest.mark.parametrize(
    ("command", "same"),
    [
        ("run", "run iolaus"),
        ("run lerna", "run iolaus"),
        ("run --protocol text --texts 24", "run iolaus --protocol text --texts 24"),
        ("run --no-confirm lerna --seed=3 --donors 2", "run iolaus --no-confirm --seed=3 --donors 2"),
        ("run --prompts lerna --json lerna", "run iolaus --prompts lerna"),
        ("run lerna --out runs/a --overwrite --dose 0.5,1", "run iolaus --dose 0.5,1"),
        (
            "run lerna --out=runs/a --components 'head.1.*,attn.0->mlp.2'",
            "run iolaus --components 'head.1.*,attn.0->mlp.2'",
        ),
    ],
)
def test_all_choices_but_the_folder_are_kept(command: str, same: str) -> None:
    assert same_of_sibling(ledger(f"hydrascope {command}")) == f"hydrascope {same}"


def test_without_a_command_or_a_sibling_there_is_none() -> None:
    assert same_of_sibling(ledger("hydrascope.knock_out(...)")) == ""
    assert same_of_sibling(ledger("hydrascope run lerna", "")) == ""


def test_the_options_without_a_value_are_those_of_the_command_line() -> None:
    run = typer.main.get_command(app).commands["run"]  # type: ignore[attr-defined]
    named = {name for option in run.params if getattr(option, "is_flag", False) for name in option.opts}
    named |= {name for option in run.params if getattr(option, "is_flag", False) for name in option.secondary_opts}
    assert named == FLAGS
