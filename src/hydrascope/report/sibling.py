"""The command that does to a model's sibling what was done to the model."""

from __future__ import annotations

import shlex

import xarray as xr

FLAGS = frozenset(
    {
        *("--keep-wrong", "--overwrite", "--trust-remote-code", "--json", "--dry-run"),
        *("--distribution", "--no-distribution", "--confirm", "--no-confirm", "--split-attention"),
    }
)
"""Options of `hydrascope run` that take no value: what follows them may be the model."""

_OF_THE_OTHER_RUN = frozenset({"--out", "--overwrite", "--json", "--dry-run"})
"""Options that say where a run goes and how it is shown, not what it is."""


def same_of_sibling(ds: xr.Dataset) -> str:
    """The command, with all choices of the one that made the ledger.

    It is empty where no command made the ledger, or the model has no sibling.

    Args:
        ds: the ledger.
    """
    sibling, words = str(ds.attrs.get("sibling", "")), shlex.split(str(ds.attrs["command"]))
    if not sibling or words[:2] != ["hydrascope", "run"]:
        return ""
    kept, rest = [], iter(words[2:])
    for word in rest:
        name = word.partition("=")[0]
        if not word.startswith("--"):
            continue  # the model, which is not the value of an option
        value = [next(rest, "")] if "=" not in word and word not in FLAGS else []
        if name not in _OF_THE_OTHER_RUN:
            kept += [word, *value]
    return shlex.join(["hydrascope", "run", sibling, *kept])
