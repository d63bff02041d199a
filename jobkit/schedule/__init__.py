"""Schedules: from a definition to its slots, and what a tick does with slots that passed. Pure."""

from jobkit.schedule import clocks
from jobkit.schedule.misfire import MISFIRE_POLICIES, Gap, Rest, look
from jobkit.schedule.slots import SCHEDULE_TYPES, Schedule

__all__ = ["MISFIRE_POLICIES", "SCHEDULE_TYPES", "Gap", "Rest", "Schedule", "clocks", "look"]
