"""Evaluation: alerts are looked after by schedulers, and what they tell is posted, each once."""

from jobkit.evaluation.installation import (
    is_scheduler_away,
    look_at_installation,
    look_for_scheduler,
)
from jobkit.evaluation.jobs import look_at_jobs

__all__ = ["is_scheduler_away", "look_at_installation", "look_at_jobs", "look_for_scheduler"]
