"""Looking at what is watched, one step at a time, and what people are told then."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from jobkit import evaluation
from jobkit.store import alerts, notices
from tests.stage import Stage


@pytest.fixture
def watched(stage: Stage) -> Stage:
    """A stage whose messages go to one channel; a worker is there, and a first look was taken."""
    with stage.kit.database.write() as connection:
        notices.serve(connection, ["team"], stage.clock.now())
    stage.register()
    look(stage)
    return stage


def look(stage: Stage, now: datetime | None = None, *, settings: Any = None) -> None:
    """Do what a scheduler does at an instant, and look at the jobs that are watched."""
    _look(stage, now, evaluation.look_at_jobs, settings)


def look_around(stage: Stage, now: datetime | None = None, *, settings: Any = None) -> None:
    """Do what a scheduler does at an instant, and look at the installation."""
    _look(stage, now, evaluation.look_at_installation, settings)


def _look(stage: Stage, now: datetime | None, act: Any, settings: Any) -> None:
    stage.tick(now)
    with stage.kit.database.write() as connection:
        notices.serve(connection, ["team"], stage.clock.now())
        act(connection, stage.clock.now(), settings or stage.kit.settings)


def told(stage: Stage) -> list[str]:
    """Return the subjects of all messages, oldest first; each look says only what is new."""
    with stage.kit.database.read() as connection:
        return [row.subject for row in reversed(notices.latest(connection, 1000))]


def settings_of(stage: Stage, **changed: Any) -> Any:
    return stage.kit.settings.model_copy(update=changed)


def firing(stage: Stage) -> list[str]:
    with stage.kit.database.read() as connection:
        return [row.kind for row in alerts.opened(connection)]


def run_once(stage: Stage, now: datetime, *, exit_code: int = 0, seconds: float = 1.0) -> None:
    """Let a worker take what is due and end it."""
    stage.tick(now)
    claim = stage.claim_one()
    stage.clock.turn(timedelta(seconds=seconds))
    stage.finish(claim, exit_code=exit_code)


def run_once_by_hand(stage: Stage, *, exit_code: int = 0, seconds: float = 1.0) -> None:
    stage.kit.submit("sales")
    claim = stage.claim_one()
    stage.clock.turn(timedelta(seconds=seconds))
    stage.finish(claim, exit_code=exit_code)
