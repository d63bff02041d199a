"""The laws in virtual time: histories on a seed, and mistakes that must be found."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from jobkit.models import runs
from tests.mistakes import MISTAKES
from tests.simulation import CALM, Plan, World, simulate

SHORT = Plan(hours=0.5)


def told(world: World) -> str:
    """Return what a failing seed prints."""
    words = [f"seed {world.seed} breaks a law:", *world.breaches()[:10]]
    return "\n".join([*words, *world.history[-100:]])


@pytest.mark.parametrize("seed", range(1, 21))
def test_an_hour_of_faults_breaks_no_law(seed: int) -> None:
    world = simulate(seed)
    assert not world.breaches(), told(world)
    assert world.counts["kills"] > 20
    assert world.counts["answers lost"] > 20
    assert world.counts["outages"] > 10
    assert world.counts["pauses"] > 20
    assert len(world.ledger) > 2500


def test_a_calm_day_of_fifty_jobs_misses_and_doubles_nothing() -> None:
    world = simulate(1, Plan(**{**vars(CALM), "hours": 24.0}))
    assert not world.breaches(), told(world)
    with world.database.read() as connection:
        counted = sa.select(runs.c.status, sa.func.count()).group_by(runs.c.status)
        assert {status: count for status, count in connection.execute(counted)} == {
            "COMPLETED": 50 * 24 * 60
        }


def test_a_seed_has_one_history() -> None:
    one, other = simulate(7, SHORT), simulate(7, SHORT)
    assert one.history == other.history
    assert one.history != simulate(8, SHORT).history


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_of_others_is_found_within_ten_seeds(mistake: str) -> None:
    assert any(is_found(seed, mistake) for seed in range(1, 11))


def is_found(seed: int, mistake: str) -> bool:
    try:
        return bool(simulate(seed, SHORT, mistake).breaches())
    except sa.exc.IntegrityError:
        return True  # a constraint of the database was faster


def test_a_crash_between_insert_and_advance_doubles_nothing_while_slots_are_unique() -> None:
    world = simulate(1, SHORT, "lost advance")
    assert not world.breaches(), told(world)
