"""A list of what a Kit handed out: as it was when it was asked for, with a card and a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from jobkit import frames
from jobkit.cards import Card

if TYPE_CHECKING:
    from polars import DataFrame

Handle = TypeVar("Handle")


class Listing(list[Handle]):
    """A list that shows itself as a card."""

    handle: type[Any]

    def card(self) -> Card:
        """Return what is shown of it."""
        raise NotImplementedError

    @property
    def df(self) -> DataFrame:
        """The list as a polars DataFrame, a row for each; documents are JSON text."""
        return frames.of(self.handle, self)

    def __repr__(self) -> str:
        return self.card().text

    def _repr_html_(self) -> str:
        return self.card().html
