"""Every page of the portal: its addresses come from the URL map, so that none is forgotten."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Thread
from typing import Any
from urllib.parse import quote

from flask import Flask

import jobkit
from portal import create_app, serve
from portal.analytics import QUESTIONS
from tests.worlds import World

TOKEN = "the-token"
NOT_PAGES = {
    "static": "files of the portal itself",
    "sso.begin": "a way to another site",
    "sso.finish": "a way back from another site",
    "health.healthz": "for machines",
    "metrics.show": "for machines",
    "overview.counts": "a part of every page",
    "coverage.worst": "a part of the overview",
    "definitions.preview": "a part of the form of a job",
    "output.more": "a part of the page of a run",
    "output.download": "a file",
    "analytics.notebook": "a file",
    "artifacts.download": "a file",
    "artifacts.picture": "a picture",
}
"""What answers GET and is no page, and what it is instead."""
WISHES = {"jobs": ("pause", "run"), "runs": ("cancel", "retry")}


def places(app: Flask, world: World | None) -> list[str]:
    """Return the address of every page for what is in a world; without one, for what is not there.

    RuntimeError for a page with a part in its address that nothing here fills in.
    """
    rules = [rule for rule in app.url_map.iter_rules() if "GET" in (rule.methods or ())]
    pages = [rule for rule in rules if _is_page(rule.endpoint)]
    found = [address for rule in pages for address in _filled(app, rule, world)]
    others = world.others if world else []
    return [*dict.fromkeys(found), *map(_quoted, others), "/nowhere"]


def _is_page(endpoint: str) -> bool:
    return endpoint not in NOT_PAGES and not endpoint.startswith("api.")


def _filled(app: Flask, rule: Any, world: World | None) -> Iterator[str]:
    noun = rule.endpoint.partition(".")[0]
    values: dict[str, tuple[Any, ...]] = {
        "run_id": (world.run if world else 1,),
        "attempt": (1,),
        "wish": WISHES.get(noun, ()),
        "name": (world.job if world else "nobody",),
        "worker_id": ("etl-1",),
    }
    if noun == "artifacts":
        values["name"] = tuple(world.files) if world else ("none.csv",)
    if noun == "analytics":
        values["name"] = tuple(QUESTIONS)[: 3 if world else 1]  # one template shows them all
    missing = set(rule.arguments) - values.keys()
    if missing:
        raise RuntimeError(f"{rule.rule}: tests/places.py knows no value for {missing}.")
    bound = app.url_map.bind("localhost")
    for given in _combined({name: values[name] for name in sorted(rule.arguments)}):
        yield bound.build(rule.endpoint, given, method="GET")


def _combined(values: Mapping[str, tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    """Yield one set for each of the value that has the most, with the first of all others."""
    most = max(map(len, values.values()), default=1)
    for number in range(most):
        yield {name: some[number % len(some)] for name, some in values.items()}


def _quoted(address: str) -> str:
    return quote(address, safe="/?&=%:")


@contextmanager
def portal(url: str, *, token: str | None = TOKEN) -> Iterator[tuple[str, Flask]]:
    """Serve a database, with a token or for its users; gives the address and the application."""
    with jobkit.connect(url) as kit:
        app = create_app(kit, token=token)
        server = serve(app, "127.0.0.1", 0)
        thread = Thread(target=server.run)
        thread.start()
        try:
            yield server.url, app
        finally:
            server.close()
            thread.join(10)
