"""A ledger as one HTML file that needs nothing else.

write_report(ds, path)   writes the file, all at once or not at all
render(ds)               returns the text of the file
write_comparison(...)    writes the page on runs side by side
"""

from hydrascope.report._comparison import write_comparison
from hydrascope.report._page import render, write_report

__all__ = ["render", "write_comparison", "write_report"]
