"""A run: knock out parts of a model on prompts or texts, batch by batch, and write the ledger."""

from hydrascope.run._estimate import Estimate, estimate
from hydrascope.run._runner import Progress
from hydrascope.run.execution import execute, versions
from hydrascope.run.family import belonging, doses, execute_belonging

__all__ = ["Estimate", "Progress", "belonging", "doses", "estimate", "execute", "execute_belonging", "versions"]
