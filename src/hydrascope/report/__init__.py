"""A ledger as one HTML file that needs nothing else.

write_report(ds, path)   writes the file, all at once or not at all
render(ds)               returns the text of the file
write_stress_report(found, path), render_stress(found)   of a stress test
"""

from hydrascope.report._page import render, write_report
from hydrascope.report._stress import render_stress, write_stress_report

__all__ = ["render", "render_stress", "write_report", "write_stress_report"]
