"""A ledger as one HTML file that needs nothing else, and its figures one by one.

write_report(ds, path)   writes the file, all at once or not at all
render(ds)               returns the text of the file
write_stress_report(found, path), render_stress(found)   of a stress test
write_rank_report(found, path), render_rank(found)       of a ranking
write_prune_report(page, path)   of a pruning
write_comparison(...)    writes the page on runs side by side
write_context_report(found, path), render_context(found)   of a model on several tasks
write_atlas(found, path, folder)   writes the page on many runs
plots(findings)          has every figure of the file as a method
StressFigures(found), RankFigures(found), ContextFigures(found), AtlasFigures(found)   those of other results
"""

from hydrascope.report._atlas import write_atlas
from hydrascope.report._atlas_figures import AtlasFigures
from hydrascope.report._comparison import write_comparison
from hydrascope.report._context import render_context, write_context_report
from hydrascope.report._context_figures import ContextFigures
from hydrascope.report._page import render, write_report
from hydrascope.report._plots import Plots, plots
from hydrascope.report._prune import PruningPage, write_prune_report
from hydrascope.report._rank import render_rank, write_rank_report
from hydrascope.report._rank_figures import RankFigures
from hydrascope.report._stress import render_stress, write_stress_report
from hydrascope.report._stress_figures import StressFigures

__all__ = [
    "AtlasFigures",
    "ContextFigures",
    "Plots",
    "PruningPage",
    "RankFigures",
    "StressFigures",
    "plots",
    "render",
    "render_context",
    "render_rank",
    "render_stress",
    "write_atlas",
    "write_comparison",
    "write_context_report",
    "write_prune_report",
    "write_rank_report",
    "write_report",
    "write_stress_report",
]
