"""A run: knock out parts of a model on prompts or texts, batch by batch, and write the ledger."""

from hydrascope.run.base import Progress
from hydrascope.run.execution import execute, versions
from hydrascope.run.family import belonging, doses, execute_belonging

__all__ = ["Progress", "belonging", "doses", "execute", "execute_belonging", "versions"]
