"""Knock out any part of a language model and account exactly for what the rest does about it.

import hydrascope as hs

model = hs.load("gpt2")
ledger = hs.knock_out(model, hs.load_prompts("world"), components="attn,mlp", ablation=hs.Resample(donors=15))
ledger.repair()
ledger.who_repairs("attn.9")
ledger.report("report.html")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hydrascope._lazy import lazily

if TYPE_CHECKING:
    from hydrascope.ablation import Ablation, Counterfactual, Mean, Noise, Optimal, PositionMean, Resample, Zero
    from hydrascope.analysis.verdict import Verdict
    from hydrascope.anatomy import Model, load
    from hydrascope.errors import (
        AblationError,
        AnatomyRefused,
        ComponentError,
        DetailDropped,
        EmptyPrompts,
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
    from hydrascope.knockout import freeze, knock_out
    from hydrascope.prompts import Cut, Document, Prompt, PromptSet, cut, documents
    from hydrascope.prompts import load as load_prompts
    from hydrascope.results import Ledger
    from hydrascope.run import Options

_HOMES = {
    "Ablation": "ablation",
    "AblationError": "errors",
    "AnatomyRefused": "errors",
    "ComponentError": "errors",
    "Counterfactual": "ablation",
    "Cut": "prompts",
    "DetailDropped": "errors",
    "Document": "prompts",
    "EmptyPrompts": "errors",
    "HookDidNotFire": "errors",
    "HydrascopeError": "errors",
    "Ledger": "results",
    "LedgerDoesNotClose": "errors",
    "MalformedPrompt": "errors",
    "Mean": "ablation",
    "MissingCounterfactual": "errors",
    "Model": "anatomy",
    "ModelError": "errors",
    "Noise": "ablation",
    "NonFinite": "errors",
    "NotCausalLM": "errors",
    "Optimal": "ablation",
    "Options": "run",
    "OutOfBudget": "errors",
    "OutputError": "errors",
    "PickleRefused": "errors",
    "PositionMean": "ablation",
    "Prompt": "prompts",
    "PromptError": "errors",
    "PromptSet": "prompts",
    "PromptTooLong": "errors",
    "RemoteCodeRefused": "errors",
    "Resample": "ablation",
    "RunError": "errors",
    "SettingsChanged": "errors",
    "TargetError": "errors",
    "TooFewDonors": "errors",
    "UnknownModel": "errors",
    "Verdict": "analysis.verdict",
    "Zero": "ablation",
    "cut": "prompts",
    "documents": "prompts",
    "freeze": "knockout",
    "knock_out": "knockout",
    "load": "anatomy",
    "load_prompts": "prompts:load",
}

__all__ = [
    "Ablation",
    "AblationError",
    "AnatomyRefused",
    "ComponentError",
    "Counterfactual",
    "Cut",
    "DetailDropped",
    "Document",
    "EmptyPrompts",
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
    "RemoteCodeRefused",
    "Resample",
    "RunError",
    "SettingsChanged",
    "TargetError",
    "TooFewDonors",
    "UnknownModel",
    "Verdict",
    "Zero",
    "cut",
    "documents",
    "freeze",
    "knock_out",
    "load",
    "load_prompts",
]

__getattr__ = lazily(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted(__all__)
