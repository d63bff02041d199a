"""Which role each endpoint needs: one table, and what it does not name works for nobody."""

from __future__ import annotations

from collections.abc import Mapping

from flask import Flask

ANYBODY = "anybody"
"""Needs no role at all."""

NEEDED = {
    "static": ANYBODY,
    "login": ANYBODY,
    "enter": ANYBODY,
    "sso.begin": ANYBODY,
    "sso.finish": ANYBODY,
    "theme": "viewer",
    "health.healthz": ANYBODY,
    "metrics.show": "viewer",
    "overview.overview": "viewer",
    "overview.counts": "viewer",
    "jobs.index": "viewer",
    "jobs.show": "viewer",
    "jobs.ask_many": "operator",
    "jobs.do_many": "operator",
    "jobs.form": "operator",
    "jobs.start": "operator",
    "jobs.ask_backfill": "operator",
    "jobs.backfill": "operator",
    "jobs.pause": "operator",
    "jobs.resume": "operator",
    "definitions.new": "editor",
    "definitions.create": "editor",
    "definitions.edit": "editor",
    "definitions.change": "editor",
    "definitions.preview": "editor",
    "runs.index": "viewer",
    "runs.show": "viewer",
    "runs.ask_many": "operator",
    "runs.do_many": "operator",
    "output.more": "viewer",
    "output.download": "viewer",
    "output.search": "viewer",
    "runs.cancel": "operator",
    "runs.retry": "operator",
    "coverage.index": "viewer",
    "coverage.worst": "viewer",
    "coverage.ask": "operator",
    "coverage.fill": "operator",
    "analytics.index": "viewer",
    "analytics.show": "viewer",
    "analytics.notebook": "viewer",
    "artifacts.download": "viewer",
    "artifacts.picture": "viewer",
    "artifacts.look": "viewer",
    "alerts.index": "viewer",
    "alerts.ack": "operator",
    "alerts.mute": "operator",
    "alerts.unmute": "operator",
    "workers.index": "viewer",
    "workers.drain": "operator",
    "account.show": "viewer",
    "account.leave": "viewer",
    "account.leave_everywhere": "viewer",
    "account.set_password": "viewer",
    "account.make_token": "viewer",
    "account.revoke_token": "viewer",
    "audit.index": "admin",
    "users.index": "admin",
    "users.add": "admin",
    "users.set_role": "admin",
    "users.set_password": "admin",
    "users.disable": "admin",
    "users.enable": "admin",
    "users.remove": "admin",
    "users.make_token": "admin",
    "users.revoke_token": "admin",
}


def check(app: Flask, needed: Mapping[str, str]) -> None:
    """Refuse to start with an endpoint that names no role."""
    nameless = sorted({rule.endpoint for rule in app.url_map.iter_rules()} - needed.keys())
    if nameless:
        raise RuntimeError(
            f"{', '.join(nameless)}: no role is named for it. Add it to portal/permissions.py."
        )
