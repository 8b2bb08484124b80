"""Opens a Hugging Face model and finds its parts by experiment.

`load` opens a model by name or folder, `examine` takes one in memory; both prove its `Anatomy` and return a `Model`.
Its `places` say where a component's value is read and replaced, `directions` how a logit is read off the residual
stream, and `hooked` gives hooks that count their calls and are always removed.
"""

from hydrascope.anatomy._anatomy import Anatomy, ExpertSite, HeadSite, Link, NeuronSite, Tail, Writer
from hydrascope.anatomy._device import UNTESTED
from hydrascope.anatomy._discover import random_ids
from hydrascope.anatomy._experts import (
    RoutedCall,
    expert_writes,
    experts_of_last_token,
    routed_call,
    run_experts,
    with_routing,
)
from hydrascope.anatomy._hooks import (
    Arguments,
    Hooks,
    first_tensor,
    hidden_argument,
    hooked,
    replace_first_tensor,
)
from hydrascope.anatomy._load import examine, load
from hydrascope.anatomy._model import Model, ModelSource
from hydrascope.anatomy._precision import CLOSING, precision
from hydrascope.anatomy._proof import Check, prove_anatomy, require
from hydrascope.anatomy._readout import Directions, directions
from hydrascope.anatomy._sites import Place, Site
from hydrascope.anatomy._tail import probe_norm
from hydrascope.anatomy._weights import FLOAT_DTYPES, device_of, input_dtype, weights_loaded

__all__ = [
    "CLOSING",
    "FLOAT_DTYPES",
    "UNTESTED",
    "Anatomy",
    "Arguments",
    "Check",
    "Directions",
    "ExpertSite",
    "HeadSite",
    "Hooks",
    "Link",
    "Model",
    "ModelSource",
    "NeuronSite",
    "Place",
    "RoutedCall",
    "Site",
    "Tail",
    "Writer",
    "device_of",
    "directions",
    "examine",
    "expert_writes",
    "experts_of_last_token",
    "first_tensor",
    "hidden_argument",
    "hooked",
    "input_dtype",
    "load",
    "precision",
    "probe_norm",
    "prove_anatomy",
    "random_ids",
    "replace_first_tensor",
    "require",
    "routed_call",
    "run_experts",
    "weights_loaded",
    "with_routing",
]
