"""Services: scheduler, portal and workers in the care of systemd, launchd or Windows' scheduler."""

from jobkit.service.installation import Installation
from jobkit.service.plan import SYSTEMS, Plan, Program, make_plan

__all__ = ["SYSTEMS", "Installation", "Plan", "Program", "make_plan"]
