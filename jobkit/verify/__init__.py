"""`jobkit verify`: audits the laws on any jobkit database, reading only.

Each module holds the checks of one law: a check states what must hold and tells what it looked at
and what breaks it. Runs that an older system left name no version; what their history would need
was never recorded, so checks of attempts leave them out.
"""

from jobkit.verify.auditor import audit, narrowed
from jobkit.verify.inspection import SETTLED, Finding, Scope

__all__ = ["SETTLED", "Finding", "Scope", "audit", "narrowed"]
