"""`python -m jobkit.worker`: the same as `jobkit worker`."""

import sys

from jobkit.cli import main

main(["worker", *sys.argv[1:]])
