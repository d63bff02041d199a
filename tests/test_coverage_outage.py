"""The scheduler stands still for three hours over one job of each misfire policy: every slot."""

from __future__ import annotations

from collections import Counter

from tests.stage import Stage, at
from tests.test_coverage import POLICIES, covered, marks, outage, reasons, work

__all__ = ["outage"]

SLOTS = ("06:30", "07:00", "07:30", "08:00", "08:30", "09:00", "09:30", "10:00", "10:30", "11:00")
GAP = SLOTS[2:8]
NOBODY = ("missed", "passed while nobody looked")
GONE = {
    "latest": [NOBODY] * 5 + [("late", None)],
    "all": [("late", "caught up")] * 5 + [("late", None)],
    "skip": [NOBODY] * 6,
}


def test_each_slot_has_its_mark_and_its_reason(outage: Stage) -> None:
    found = covered(outage)
    for policy in POLICIES:
        told = {slot: (marks(found, policy)[slot], reasons(found, policy)[slot]) for slot in SLOTS}
        around = dict.fromkeys(set(SLOTS) - set(GAP), ("on time", None))
        assert told == around | dict(zip(GAP, GONE[policy], strict=True)), policy
        assert len(marks(found, policy)) == len(found.df.filter(found.df["job"] == policy))


def test_a_fill_makes_every_hole_once_and_nothing_else(outage: Stage) -> None:
    found = covered(outage)
    holes = {(job, slot) for job, slots in found.holes().items() for slot in slots}
    wanted = {(1, at(slot)) for slot in GAP[:5]} | {(3, at(slot)) for slot in GAP}
    assert holes == wanted
    before = {run.id for run in outage.kit.runs(limit=500)}
    found.fill()
    made = [run for run in outage.kit.runs(limit=500) if run.id not in before]
    assert Counter((run.job_id, run.scheduled_for) for run in made) == dict.fromkeys(wanted, 1)
    assert {run.trigger for run in made} == {"backfill"}
    work(outage)
    outage.clock.turn_to(at("11:05"))
    after = covered(outage)
    assert after.holes() == {}
    for job, name in ((1, "latest"), (3, "skip")):
        filled = [slot for slot, mark in marks(after, name).items() if mark == "filled"]
        assert filled == [f"{slot:%H:%M}" for owner, slot in sorted(wanted) if owner == job]
