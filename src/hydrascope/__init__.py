"""Knock out any part of a language model and account exactly for what the rest does about it.

import hydrascope as hs

model = hs.load("gpt2")
ledger = hs.knock_out(model, hs.load_prompts("world"), components="attn,mlp", ablation=hs.Resample(donors=15))
ledger.repair()
ledger.who_repairs("attn.9")
ledger.report("report.html")
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from hydrascope._lazy import lazily

if TYPE_CHECKING:
    from hydrascope.ablations import Ablation, Counterfactual, Mean, Noise, Optimal, PositionMean, Resample, Zero
    from hydrascope.analysis import Summary
    from hydrascope.anatomy import Model, load
    from hydrascope.atlases import Atlas, atlas
    from hydrascope.checking import Checks, check
    from hydrascope.comparison import Compared, compare
    from hydrascope.contexts import Context, context
    from hydrascope.errors import (
        AblationError,
        AnatomyRefused,
        ComponentError,
        DetailDropped,
        EmptyPrompts,
        ExportRefused,
        HookDidNotFire,
        HydrascopeError,
        LedgerDoesNotClose,
        MalformedPrompt,
        MissingCounterfactual,
        ModelError,
        NonFinite,
        NotCausalLM,
        OutOfBudget,
        OutputError,
        PickleRefused,
        PromptError,
        PromptTooLong,
        RemoteCodeRefused,
        RunError,
        SettingsChanged,
        TargetError,
        TooFewDonors,
        UnknownModel,
    )
    from hydrascope.exporting import Exported, export
    from hydrascope.faults import Stress, stress
    from hydrascope.knockout import freeze, knock_out
    from hydrascope.prompts import Cut, Document, Prompt, PromptSet, cut, documents
    from hydrascope.prompts import load as load_prompts
    from hydrascope.pruning import Prune, prune
    from hydrascope.ranking import Rank, rank
    from hydrascope.results import Ledger
    from hydrascope.run import Options
    from hydrascope.sweeping import Sweep, sweep

__version__ = version("hydrascope")

__all__ = [
    "Ablation",
    "AblationError",
    "AnatomyRefused",
    "Atlas",
    "Checks",
    "Compared",
    "ComponentError",
    "Context",
    "Counterfactual",
    "Cut",
    "DetailDropped",
    "Document",
    "EmptyPrompts",
    "ExportRefused",
    "Exported",
    "HookDidNotFire",
    "HydrascopeError",
    "Ledger",
    "LedgerDoesNotClose",
    "MalformedPrompt",
    "Mean",
    "MissingCounterfactual",
    "Model",
    "ModelError",
    "Noise",
    "NonFinite",
    "NotCausalLM",
    "Optimal",
    "Options",
    "OutOfBudget",
    "OutputError",
    "PickleRefused",
    "PositionMean",
    "Prompt",
    "PromptError",
    "PromptSet",
    "PromptTooLong",
    "Prune",
    "Rank",
    "RemoteCodeRefused",
    "Resample",
    "RunError",
    "SettingsChanged",
    "Stress",
    "Summary",
    "Sweep",
    "TargetError",
    "TooFewDonors",
    "UnknownModel",
    "Zero",
    "atlas",
    "check",
    "compare",
    "context",
    "cut",
    "documents",
    "export",
    "freeze",
    "knock_out",
    "load",
    "load_prompts",
    "prune",
    "rank",
    "stress",
    "sweep",
]

__getattr__ = lazily(
    __name__,
    {
        "ablations": "Ablation Counterfactual Mean Noise Optimal PositionMean Resample Zero",
        "analysis": "Summary",
        "anatomy": "Model load",
        "atlases": "Atlas atlas",
        "checking": "Checks check",
        "comparison": "Compared compare",
        "contexts": "Context context",
        "errors": "AblationError AnatomyRefused ComponentError DetailDropped EmptyPrompts ExportRefused HookDidNotFire "
        "HydrascopeError LedgerDoesNotClose MalformedPrompt MissingCounterfactual ModelError NonFinite NotCausalLM "
        "OutOfBudget OutputError PickleRefused PromptError PromptTooLong RemoteCodeRefused RunError SettingsChanged "
        "TargetError TooFewDonors UnknownModel",
        "exporting": "Exported export",
        "faults": "Stress stress",
        "pruning": "Prune prune",
        "ranking": "Rank rank",
        "knockout": "freeze knock_out",
        "prompts": "Cut Document Prompt PromptSet cut documents load_prompts=load",
        "results": "Ledger",
        "run": "Options",
        "sweeping": "Sweep sweep",
    },
)


def __dir__() -> list[str]:
    return sorted(__all__)
