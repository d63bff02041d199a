"""Jobs, runs and workers as a Kit lists them; each has the verbs and the queries of its noun."""

from jobkit.listings.alerts import Alert, Alerts, Mute
from jobkit.listings.audit import Audit
from jobkit.listings.board import Board, Line, Span
from jobkit.listings.jobs import JobList, Jobs
from jobkit.listings.notices import Notice, Notices
from jobkit.listings.runlist import RunList
from jobkit.listings.runs import Runs
from jobkit.listings.search import Done, Page, Search, Searching
from jobkit.listings.tokens import Tokens
from jobkit.listings.traces import Traces
from jobkit.listings.users import Users
from jobkit.listings.workers import WorkerList, Workers

__all__ = [
    "Alert",
    "Alerts",
    "Audit",
    "Board",
    "Done",
    "JobList",
    "Jobs",
    "Line",
    "Mute",
    "Notice",
    "Notices",
    "Page",
    "RunList",
    "Runs",
    "Search",
    "Searching",
    "Span",
    "Tokens",
    "Traces",
    "Users",
    "WorkerList",
    "Workers",
]
