"""`jobkit doctor`: says what is wrong with an installation before its users do, and what to do.

Each module holds the checks of one thing. A check only looks; it has a few seconds, and one that
fails or takes longer is itself a finding.
"""

from jobkit.doctor.examination import examine
from jobkit.doctor.finding import OK, PROBLEM, WARNING, Examination, Finding

__all__ = ["OK", "PROBLEM", "WARNING", "Examination", "Finding", "examine"]
