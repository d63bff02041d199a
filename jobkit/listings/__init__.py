"""Jobs, runs and workers as a Kit lists them; each has the verbs and the queries of its noun."""

from jobkit.listings.board import Board, Line, Span
from jobkit.listings.jobs import Jobs
from jobkit.listings.runs import Runs
from jobkit.listings.search import Done, Page, Search, Searching
from jobkit.listings.workers import Workers

__all__ = [
    "Board",
    "Done",
    "Jobs",
    "Line",
    "Page",
    "Runs",
    "Search",
    "Searching",
    "Span",
    "Workers",
]
