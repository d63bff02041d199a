"""What a Kit lists: all there is of a noun, and lists of it as it was when it was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from jobkit import frames
from jobkit.cards import Card
from jobkit.errors import JobkitError

if TYPE_CHECKING:
    from polars import DataFrame

    from jobkit.kit import Kit

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


class Collection:
    """All there is of a noun: shown as it is now, or by its name while the database is away."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def overview(self) -> Card:
        """Return what is shown of all."""
        raise NotImplementedError

    def __repr__(self) -> str:
        try:
            return self.overview().text
        except JobkitError:
            return f"<{type(self).__name__} on {self._kit.url}>"

    def _repr_html_(self) -> str | None:
        try:
            return self.overview().html
        except JobkitError:
            return None
