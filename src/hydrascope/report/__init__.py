"""A ledger as one HTML file that needs nothing else, and its figures one by one.

write_report(ds, path)   writes the file, all at once or not at all
render(ds)               returns the text of the file
write_stress_report(found, path), render_stress(found)   of a stress test
write_prune_report(page, path)   of a pruning
write_comparison(...)    writes the page on runs side by side
plots(findings)          has every figure of the file as a method
"""

from hydrascope.report._comparison import write_comparison
from hydrascope.report._page import render, write_report
from hydrascope.report._plots import Plots, plots
from hydrascope.report._prune import PruningPage, write_prune_report
from hydrascope.report._stress import render_stress, write_stress_report

__all__ = [
    "Plots",
    "PruningPage",
    "plots",
    "render",
    "render_stress",
    "write_comparison",
    "write_prune_report",
    "write_report",
    "write_stress_report",
]
