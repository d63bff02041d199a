"""What cannot travel with a function, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jobkit.errors import BadInput


@dataclass(frozen=True)
class Refusal:
    """One thing that a function reads and that cannot go with it."""

    name: str
    type: str
    """Of its value, as people write it: `polars.DataFrame`."""
    reader: str
    """The function or class that reads it."""
    why: str
    way_out: str

    def __str__(self) -> str:
        return f"{self.name} ({self.type}), read by {self.reader}: {self.why}. {self.way_out}"


class CannotTravel(BadInput):
    """A function reads what cannot go with it to a worker; `refusals` names each thing."""

    def __init__(self, function: str, refusals: Sequence[Refusal]) -> None:
        self.refusals = tuple(refusals)
        listed = "\n".join(f"  - {refusal}" for refusal in self.refusals)
        super().__init__(f"{function} cannot travel to a worker:\n{listed}")


def type_name(value: object) -> str:
    """Return the type of a value as people write it: `int`, `polars.DataFrame`."""
    kind = type(value)
    top = kind.__module__.partition(".")[0]
    return kind.__qualname__ if top in ("builtins", "__main__") else f"{top}.{kind.__qualname__}"
