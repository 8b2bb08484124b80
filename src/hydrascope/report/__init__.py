"""A ledger as one HTML file that needs nothing else.

write_report(ds, path)   writes the file, all at once or not at all
render(ds)               returns the text of the file
"""

from hydrascope.report._page import render, write_report

__all__ = ["render", "write_report"]
