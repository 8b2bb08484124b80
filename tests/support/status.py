"""The status of every family the library knows, as a table.

python -m tests.support.status --write docs/families.md
"""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers

import hydrascope as hs
from hydrascope.anatomy import Model, examine
from hydrascope.engine import Engine, choose_engine
from hydrascope.errors import HydrascopeError
from hydrascope.prompts import Prompt, load
from tests.support import registry

UNITS = ("head", "kv", "neuron", "expert")


@dataclass(frozen=True)
class Status:
    """How one model type fares.

    Attributes:
        model_type: the library's name of it.
        outcome: `exact`, `refused` or `not built`.
        engine: the engine's name, the check that refuses it, or why it was not built.
        parts: what can be knocked out.
    """

    model_type: str
    outcome: str
    engine: str
    parts: str = ""

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """What the table says and a machine's rounding does not change."""
        return self.model_type, self.outcome, self.engine, self.parts


@dataclass(frozen=True)
class Met:
    """A status, and the model when there is one to go on with."""

    status: Status
    model: Model | None = None
    engine: Engine | None = None


def meet(model_type: str) -> Met:
    """Build a type's tiny model, take it apart and choose its engine."""
    transformers.logging.set_verbosity_error()
    try:
        network = registry.build(model_type)
        with torch.no_grad():
            network(input_ids=torch.tensor([[1, 2, 3, 4]]), use_cache=False)
    except Exception as error:  # whatever a configuration's own code finds wrong with the shrunk sizes
        return Met(Status(model_type, "not built", _short(f"{type(error).__name__}: {error}")))
    try:
        model = examine(network, None, name=model_type)
        engine = choose_engine(model)
    except HydrascopeError as refusal:
        return Met(Status(model_type, "refused", str(getattr(refusal, "check", type(refusal).__name__))))
    units = model.anatomy.inventory.units
    kinds = [kind for kind in ("attn", "mixer", "mlp", *UNITS) if units.get(kind)]
    return Met(Status(model_type, "exact", engine.strategy.name, ", ".join(kinds)), model, engine)


def table(statuses: list[Status], numbers: dict[str, tuple[float, float]]) -> str:
    """Markdown: what runs exactly, what is refused by which check, what could not be built."""
    exact = [status for status in statuses if status.outcome == "exact"]
    lines = [
        "# Families",
        "",
        "Printed by `python -m tests.support.status`: tiny random models of every causal language model in the "
        f"registry of transformers {transformers.__version__}, built from shrunk default configurations, none of "
        "them named. Their writers, units, final norm and head are found by experiment and proved; the engine is the "
        "first that passes its checks. `tests/engine/test_registry.py` holds each one's knock-outs against plain "
        "float64 forwards "
        "(1e-4 of a logit) and this table against what it finds.",
        "",
        f"**{len(exact)} exact**, {sum(s.outcome == 'refused' for s in statuses)} refused by a check, "
        f"{sum(s.outcome == 'not built' for s in statuses)} not built this way (which says nothing about them).",
        "",
        "| model type | outcome | engine, or check that refuses it, or why not built | can be knocked out "
        "| closing error | difference from the untouched model |",
        "|---|---|---|---|---|---|",
    ]
    for status in statuses:
        measured = numbers.get(status.model_type)
        shown = ("", "") if measured is None else tuple(f"{number:.0e}" for number in measured)
        lines.append("| " + " | ".join((*status.cells, *shown)) + " |")
    return "\n".join(lines) + "\n"


def read_table(text: str) -> list[tuple[str, ...]]:
    """The machine-independent cells of a written table."""
    body = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| model type")]
    return [tuple(cell.strip() for cell in line.strip().strip("|").split("|")[:4]) for line in body]


def measure(model: Model) -> tuple[float, float]:
    """Closing error and parity of a small run."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, registry.VOCABULARY, (3, 8), generator=generator).tolist()
    prompts = load([Prompt(input_ids=tuple(one)) for one in ids], name="random")
    ledger = hs.knock_out(model, prompts, ablation=hs.Zero(), options=hs.Options(target="top", null_draws=0))
    return ledger.dataset.attrs["closing_error"], ledger.dataset.attrs["parity_error"]


def _short(message: str) -> str:
    """The first line, without memory addresses or characters that end a cell."""
    return re.sub(r"0x[0-9a-f]+", "", message.splitlines()[0]).replace("|", "/")[:90].strip()


def main() -> None:
    """Print the table, or write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="file that takes the table")
    to = parser.parse_args().write
    torch.set_num_threads(1)
    statuses, numbers = [], {}
    for model_type in registry.model_types():
        met = meet(model_type)
        statuses.append(met.status)
        if met.model is not None:
            numbers[model_type] = measure(met.model)
    text = table(statuses, numbers)
    print(text) if to is None else to.write_text(text)


if __name__ == "__main__":
    main()
