"""A ledger as one HTML file that needs nothing else, and its figures one by one.

write_report(ds, path)   writes the file, all at once or not at all
render(ds)               returns the text of the file
plots(findings)          has every figure of the file as a method
"""

from hydrascope.report._page import render, write_report
from hydrascope.report._plots import Plots, plots

__all__ = ["Plots", "plots", "render", "write_report"]
