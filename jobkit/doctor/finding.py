"""What a check found, and all that an examination found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from jobkit.cards import Card

OK, WARNING, PROBLEM = "ok", "warning", "problem"
_ORDER = (PROBLEM, WARNING, OK)


@dataclass(frozen=True)
class Finding:
    """What was seen, how bad it is, and what to do about it."""

    check: str
    grade: str
    """`ok`, `warning` or `problem`."""
    words: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.words} {self.advice}".rstrip()


@dataclass(frozen=True)
class Examination:
    """The findings of one examination."""

    name: str
    """Of the database."""
    findings: tuple[Finding, ...]
    """The worst first."""

    @classmethod
    def of(cls, name: str, findings: Iterable[Finding]) -> Examination:
        """Put findings in order."""
        return cls(name, tuple(sorted(findings, key=lambda item: _ORDER.index(item.grade))))

    @property
    def is_well(self) -> bool:
        """Whether there is no problem; a warning is none."""
        return not self.graded(PROBLEM)

    def graded(self, grade: str) -> list[Finding]:
        """Return the findings of a grade."""
        return [finding for finding in self if finding.grade == grade]

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    @property
    def summary(self) -> str:
        """Return the counts in words: `1 problem, 2 warnings, 14 ok`."""
        counted = {grade: len(self.graded(grade)) for grade in _ORDER}
        counts = [_count(counted[PROBLEM], PROBLEM), _count(counted[WARNING], WARNING)]
        return ", ".join([*filter(None, counts), f"{counted[OK]} ok"])

    def card(self) -> Card:
        """Return what is seen at the first glance: what is wrong, and what to do."""
        told = [item for item in self if item.grade != OK]
        fine = ", ".join(dict.fromkeys(item.check for item in self.graded(OK)))
        return Card(
            f"Doctor on {self.name}: {self.summary}",
            facts=[(f"{item.grade}: {item.check}", str(item)) for item in told],
            notes=[f"Fine: {fine}."] if fine else [],
        )

    def __repr__(self) -> str:
        return self.card().text

    def _repr_html_(self) -> str:
        return self.card().html


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'s' * (number != 1)}" if number else ""
