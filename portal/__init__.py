"""The portal: what jobkit does, in a browser. Flask renders, htmx keeps the pages fresh."""

from portal.app import create_app
from portal.reports.reporter import Reporter
from portal.server import Server, serve

__all__ = ["Reporter", "Server", "create_app", "serve"]
