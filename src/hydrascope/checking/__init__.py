"""What a team expects of its model's parts, judged by the intervals of a run."""

from hydrascope.checking._check import Checks, check, record
from hydrascope.checking._expectations import Expectation, Expectations, read_expectations
from hydrascope.checking._judge import Judged
from hydrascope.checking._junit import junit

__all__ = ["Checks", "Expectation", "Expectations", "Judged", "check", "junit", "read_expectations", "record"]
