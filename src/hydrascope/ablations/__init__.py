"""What replaces an ablated output: one subclass of `Ablation` a file.

Every ablation names the runs whose activations it needs (`donate`), turns them into replacement values (`replace`),
and declares the rest: whether it learns, needs extra runs, donors or means, and its words in a report. Every draw
costs an intervention; noise and counterfactuals also take extra runs, and learning takes about 180 times a run with
one donor.
"""

from importlib import import_module
from pkgutil import iter_modules

from hydrascope.ablations._base import REGISTRY, Ablation, Basis, Donation, ExtraRun, Learning
from hydrascope.ablations._counterfactual import Counterfactual
from hydrascope.ablations._mean import Mean, PositionMean
from hydrascope.ablations._named import named_ablation, named_ablations
from hydrascope.ablations._noise import Noise
from hydrascope.ablations._optimal import Optimal
from hydrascope.ablations._resample import Resample, with_donors
from hydrascope.ablations._zero import Zero

__all__ = [
    "REGISTRY",
    "Ablation",
    "Basis",
    "Counterfactual",
    "Donation",
    "ExtraRun",
    "Learning",
    "Mean",
    "Noise",
    "Optimal",
    "PositionMean",
    "Resample",
    "Zero",
    "named_ablation",
    "named_ablations",
    "with_donors",
]

for _module in iter_modules(__path__):  # being here is all the registration there is
    import_module(f"{__name__}.{_module.name}")
