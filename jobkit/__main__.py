"""`python -m jobkit`: the same as `jobkit`."""

from jobkit.cli import main

main()
