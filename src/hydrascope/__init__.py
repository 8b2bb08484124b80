"""Knock out any part of a language model and account exactly for what the rest does about it.

import hydrascope as hs

model = hs.load("gpt2")
ledger = hs.knock_out(model, hs.load_prompts("world"), components="attn,mlp", ablation=hs.Resample(donors=15))
ledger.repair()
ledger.who_repairs("attn.9")
ledger.report("report.html")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hydrascope.ablations import Counterfactual, Mean, Noise, Optimal, Resample, Zero
    from hydrascope.anatomy import Model, load
    from hydrascope.errors import HydrascopeError
    from hydrascope.knockout import knock_out
    from hydrascope.prompts import Prompt, PromptSet
    from hydrascope.prompts import load as load_prompts
    from hydrascope.results import Ledger
    from hydrascope.task import Options

_HOMES = {
    "Counterfactual": "ablations",
    "HydrascopeError": "errors",
    "Ledger": "results",
    "Mean": "ablations",
    "Model": "anatomy",
    "Noise": "ablations",
    "Optimal": "ablations",
    "Options": "task",
    "PositionMean": "ablations",
    "Prompt": "prompts",
    "PromptSet": "prompts",
    "Resample": "ablations",
    "Zero": "ablations",
    "knock_out": "knockout",
    "load": "anatomy",
    "load_prompts": "prompts.load",
}

__all__ = [
    "Counterfactual",
    "HydrascopeError",
    "Ledger",
    "Mean",
    "Model",
    "Noise",
    "Optimal",
    "Options",
    "PositionMean",
    "Prompt",
    "PromptSet",
    "Resample",
    "Zero",
    "knock_out",
    "load",
    "load_prompts",
]


def __getattr__(name: str) -> Any:  # torch takes seconds to import; `hydrascope --help` should not wait for it
    if name not in _HOMES:
        raise AttributeError(f"module 'hydrascope' has no attribute '{name}'")
    home, _, inner = _HOMES[name].partition(".")
    return getattr(import_module(f"hydrascope.{home}"), inner or name)


def __dir__() -> list[str]:
    return sorted(__all__)
