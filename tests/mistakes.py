"""Mistakes that others shipped, to be put into the engine one at a time: each must be found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from unittest import mock

import sqlalchemy as sa

from jobkit import states
from jobkit.db import OneOf, Prepared
from jobkit.models import runs
from jobkit.store import agenda, claims, dispatch

if TYPE_CHECKING:
    from tests.simulation import World

MISTAKES = (
    "no unique slot",
    "no fence",
    "claim race",
    "drifting interval",
    "rescue by age",
    "retry loses its slot",
    "no local kill",
    "local clocks",
)
IN_THE_WORKER = ("claim race", "no local kill", "local clocks")


@contextmanager
def made(mistake: str, world: World) -> Iterator[None]:
    """Make one mistake for a while; none when it has no name."""
    if mistake in ("", *IN_THE_WORKER):
        if mistake == "claim race":
            _execute(world, "DROP INDEX uq_run_lane")
        yield
        return
    makers: dict[str, Any] = {
        "no unique slot": _no_unique_slot,
        "lost advance": _lost_advance,
        "no fence": _no_fence,
        "drifting interval": _drift,
        "rescue by age": _rescue_by_age,
        "retry loses its slot": _lost_slot,
    }
    with makers[mistake](world):
        yield


def _execute(world: World, statement: str) -> None:
    with world.database.write() as connection:
        connection.execute(sa.text(statement))


def _lost_advance(world: World) -> Any:
    """A crash between insert and advance, as if they were two transactions."""
    advance = dispatch._advance

    def sometimes(connection: Any, gaps: Any, now: Any) -> None:
        advance(connection, [gap for gap in gaps if world.rng.random() > 0.02], now)

    return mock.patch.object(dispatch, "_advance", sometimes)


def _no_unique_slot(world: World) -> Any:
    _execute(world, "DROP INDEX uq_run_slot")
    return _lost_advance(world)


def _no_fence(_world: World) -> Any:
    """Results are written by the run's id alone."""
    given = [sa.bindparam(name).is_not(None) for name in ("fence_worker", "fence_attempt")]
    named = runs.update().where(OneOf(runs.c.id, "fence_runs"), *given)
    return mock.patch.object(claims, "_END", Prepared(named.returning(runs.c.id)))


def _drift(_world: World) -> Any:
    """The next slot counts from the clock."""
    look = dispatch.look

    def drifting(schedule: Any, cursor: Any, now: Any, **policy: Any) -> Any:
        gap = look(schedule, cursor, now, **policy)
        late = now + timedelta(seconds=schedule.interval_seconds)
        return replace(gap, run=(now,) if gap.run else (), cursor=now, next_run=late)

    return mock.patch.object(dispatch, "look", drifting)


@contextmanager
def _rescue_by_age(_world: World) -> Iterator[None]:
    """What runs for long is held to be dead, whether its lease is renewed or not."""
    old = sa.select(runs).where(
        runs.c.status == "IN_PROGRESS",
        sa.func.datetime(runs.c.claimed_at, "+60 seconds") < sa.func.datetime(sa.bindparam("at")),
    )
    look = agenda.look

    def suspicious(connection: Any, now: Any, *, grace: Any) -> Any:
        return replace(look(connection, now, grace=grace), has_lapsed=True)

    with (
        mock.patch.object(claims, "_LAPSED", Prepared(old)),
        mock.patch.object(agenda, "look", suspicious),
    ):
        yield


def _lost_slot(_world: World) -> Any:
    pending = states._pending

    def forgetful(*arguments: Any) -> dict[str, Any]:
        return pending(*arguments) | {"scheduled_for": None}

    return mock.patch.object(states, "_pending", forgetful)
