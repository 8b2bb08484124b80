"""Opens a Hugging Face model, finds its writers by experiment, and proves the result."""

from hydrascope.anatomy.model import Model, Source
from hydrascope.anatomy.opening import examine, load
from hydrascope.anatomy.places import Place, Site
from hydrascope.anatomy.proof import Check, prove_anatomy, require
from hydrascope.anatomy.readout import Directions, directions
from hydrascope.anatomy.spec import Anatomy, ExpertSite, HeadSite, Link, NeuronSite, Tail, Writer

__all__ = [
    "Anatomy",
    "Check",
    "Directions",
    "ExpertSite",
    "HeadSite",
    "Link",
    "Model",
    "NeuronSite",
    "Place",
    "Site",
    "Source",
    "Tail",
    "Writer",
    "directions",
    "examine",
    "load",
    "prove_anatomy",
    "require",
]
