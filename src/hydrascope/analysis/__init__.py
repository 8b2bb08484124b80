"""Pure functions from a ledger to tables: what was lost, who answered, and how sure we can be.

Every function takes the ledger's `xarray.Dataset` and returns a `pandas.DataFrame` (or a small
frozen dataclass). Nothing here needs a model, and nothing is stored: the ledger is the record.

    closing      does total = own + others + norm hold
    repair       per knock-out: what was lost, what came back, how linear it is
    responders   which writer answers which knock-out, and how concentrated the answer is
    erasure      what late MLPs take away, and how much of it they let go
    quantity     what it is all of: the logit of a token, or a difference of two
    findings     all of these for one ledger, each computed once
    verdict      the findings in plain sentences, made from the numbers
"""
