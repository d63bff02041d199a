"""Cards: how things look in a notebook, as HTML and as the same in plain text.

The HTML is static and carries its own style: it reads in light and in dark, survives saving and
nbconvert, and asks for no trust. Below 20 KB whatever it is made of.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from jobkit.terminal import without_sequences

MOST_BYTES = 20_000
SHOWN = (20, 8, 3, 1, 0)
"""How many rows and lines are shown: fewer where they are long."""
LEAST_SHOWN = 1
"""Where no more rows than these fit, facts are cut as cells are."""
SHOWN_LINES = 10
"""So many last lines of an output."""
LONGEST_TITLE = 200
LONGEST_FACT = 400
LONGEST_CELL = 60
LONGEST_LINE = 200

_BOX = (
    "border:1px solid rgba(128,128,128,0.4);border-radius:6px;padding:8px 12px;margin:4px 0;"
    "max-width:900px;overflow-x:auto"
)
_LEFT = "text-align:left;padding:1px 12px 1px 0;vertical-align:top;white-space:normal"
_PRE = (
    "border-left:3px solid rgba(128,128,128,0.4);padding:2px 8px;margin:6px 0;"
    "white-space:pre-wrap;background:transparent;color:inherit"
)
_COLOURS = {
    "PENDING": "#b8860b",
    "IN_PROGRESS": "#2a7ae2",
    "COMPLETED": "#2e9e4f",
    "FAILED": "#d9483b",
    "TIMEOUT": "#d9483b",
    "MISSED": "#b8860b",
    "SUCCESS": "#2e9e4f",
    "FAILURE": "#d9483b",
    "ERROR": "#d9483b",
    "LOST": "#d9483b",
    "IDLE": "#2e9e4f",
    "BUSY": "#2a7ae2",
    "DRAINING": "#b8860b",
}
_GREY = "#888888"


def plain(said: object, most: int = LONGEST_FACT) -> str:
    """Say it on one line that no terminal and no page takes for anything else, cut where long."""
    line = "".join(map(_printable, without_sequences(str(said)[: 4 * most])))
    return line if len(line) <= most else line[: most - 1] + "…"


def last_lines(printed: str, most: int = SHOWN_LINES) -> list[str]:
    """Return the last lines of an output; of a line that overwrites itself, what is left of it."""
    lines = printed.rstrip().rsplit("\n", most)[-most:]
    return [line.rstrip("\r").rsplit("\r", 1)[-1] for line in lines if line]


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    return " " if character.isspace() else "�"


@dataclass(frozen=True)
class Table:
    """Rows under headers."""

    columns: tuple[str, ...]
    rows: Sequence[Sequence[object]]
    total: int | None = None
    """How many there are, where these are not all."""

    def left_out(self, most: int) -> str:
        """Say how many rows there are beyond the first `most`."""
        more = (len(self.rows) if self.total is None else self.total) - min(most, len(self.rows))
        return f"and {more:,} more" if more > 0 else ""


@dataclass(frozen=True)
class Card:
    """What is shown of one thing: its title and state first, then facts, rows, lines and notes."""

    title: str
    state: str = ""
    """A status word of a run, an attempt or a worker."""
    facts: Sequence[tuple[str, object]] = ()
    """Names and values; those without a value are left out."""
    bar: float | None = None
    """How much of it is done, 0 to 1."""
    table: Table | None = None
    lines: Sequence[str] = ()
    """The end of an output."""
    notes: Sequence[str] = ()

    @property
    def html(self) -> str:
        """The card as a fragment of HTML."""
        for most in SHOWN:
            made = "".join(self._pieces(most))
            if len(made.encode("utf-8", "replace")) < MOST_BYTES:
                break
        return made

    def _pieces(self, most: int) -> Iterator[str]:
        longest = LONGEST_FACT if most > LEAST_SHOWN else LONGEST_CELL
        yield f'<div style="{_BOX}"><div><strong>{_text(self.title, LONGEST_TITLE)}</strong>'
        if self.state:
            colour = _COLOURS.get(self.state, _GREY)
            yield f' <span style="color:{colour}">●</span> {_text(self.state, LONGEST_CELL)}'
        yield "</div>"
        if facts := self._facts():
            yield "<table><tbody>"
            for name, value in facts[:20]:
                yield f'<tr><th style="{_LEFT}">{_text(name, LONGEST_CELL)}</th>'
                yield f'<td style="{_LEFT}">{_text(value, longest)}</td></tr>'
            yield "</tbody></table>"
        if self.bar is not None:
            yield _bar(self.bar)
        if self.table is not None:
            yield from _rows(self.table, most)
        if self.lines and most:
            shown = "\n".join(_text(line, LONGEST_LINE) for line in self.lines[-most:])
            yield f'<pre style="{_PRE}">{shown}</pre>'
        for note in self.notes[:10]:
            yield f"<div><small>{_text(note, longest)}</small></div>"
        yield "</div>"

    @property
    def text(self) -> str:
        """The same in plain text."""
        return "\n".join(self._text_lines(SHOWN[0]))

    def _text_lines(self, most: int) -> Iterator[str]:
        state = f": {plain(self.state, LONGEST_CELL)}" if self.state else ""
        yield plain(self.title, LONGEST_TITLE) + state
        facts = self._facts()
        facts = [(plain(name, LONGEST_CELL), value) for name, value in facts]
        width = max((len(name) for name, _ in facts), default=0)
        for name, value in facts:
            yield f"  {name.ljust(width)}  {plain(value)}"
        if self.bar is not None:
            done = round(20 * _share(self.bar))
            yield f"  [{'#' * done}{'.' * (20 - done)}] {_share(self.bar):.0%}"
        if self.table is not None:
            yield from _text_rows(self.table, most)
        for line in self.lines[-most:]:
            yield f"  | {plain(line, LONGEST_LINE)}"
        for note in self.notes:
            yield f"  {plain(note)}"

    @property
    def bundle(self) -> dict[str, str]:
        """Both, as IPython takes them."""
        return {"text/plain": self.text, "text/html": self.html}

    def _facts(self) -> list[tuple[str, object]]:
        return [(name, value) for name, value in self.facts if value not in (None, "", [], {}, ())]


def _text(said: object, most: int = LONGEST_FACT) -> str:
    return escape(plain(said, most))


def _share(done: float) -> float:
    return min(max(done, 0.0), 1.0)


def _bar(done: float) -> str:
    inner = f"width:{_share(done):.0%};height:6px;background-color:#2a7ae2;border-radius:3px"
    outer = "height:6px;background-color:rgba(128,128,128,0.3);border-radius:3px;margin:6px 0"
    return f'<div style="{outer}"><div style="{inner}"></div></div>'


def _rows(table: Table, most: int) -> Iterator[str]:
    if table.rows and most:
        heads = "".join(
            f'<th style="{_LEFT}">{_text(name, LONGEST_CELL)}</th>' for name in table.columns
        )
        yield f"<table><thead><tr>{heads}</tr></thead><tbody>"
        for row in table.rows[:most]:
            cells = "".join(f'<td style="{_LEFT}">{_cell(value)}</td>' for value in row)
            yield f"<tr>{cells}</tr>"
        yield "</tbody></table>"
    if left_out := table.left_out(most):
        yield f"<div><small>{left_out}</small></div>"


def _cell(value: object) -> str:
    said = _text("" if value is None else value, LONGEST_CELL)
    colour = _COLOURS.get(str(value))
    return said if colour is None else f'<span style="color:{colour}">●</span> {said}'


def _text_rows(table: Table, most: int) -> Iterator[str]:
    rows = [
        [plain("" if value is None else value, LONGEST_CELL) for value in row]
        for row in table.rows[:most]
    ]
    if rows:
        grid = [[plain(name, LONGEST_CELL) for name in table.columns], *rows]
        widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
        for row in grid:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            yield f"  {'  '.join(cells)}".rstrip()
    if left_out := table.left_out(most):
        yield f"  {left_out}"
