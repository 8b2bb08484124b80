"""`python -m hydrascope` is the command line."""

from hydrascope.cli import main

main()
