"""What all charts share: the drawing, its words for those who do not see it, its table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from html import escape
from typing import Any

from jobkit.errors import BadInput

WIDTH = 640
LEFT, RIGHT, TOP, BOTTOM = 64, 8, 26, 20  # the longest label of an axis is like "1 min 40 s"
COLOURS = 6
MOST_TABLE_ROWS = 200

# Okabe and Ito's colours, which people of any colour vision tell apart.
STYLE = (
    "<style>.jk{--jk-1:#0072b2;--jk-2:#d55e00;--jk-3:#009e73;--jk-4:#cc79a7;--jk-5:#b58900;"
    "--jk-6:#56b4e9;color:var(--jk-ink,#24292f);font:11px system-ui,sans-serif}"
    ".jk text{fill:currentColor}.jk .g{stroke:var(--jk-grid,currentColor);stroke-opacity:.15}"
    "@media(prefers-color-scheme:dark){.jk{--jk-1:#4aa8e0;--jk-2:#ff9147;--jk-3:#2fc79b;"
    "--jk-4:#e39bc5;--jk-5:#e6c34a;--jk-6:#8fd0f5;color:var(--jk-ink,#e6edf3)}}</style>"
)


FITS = ' style="max-width:100%;height:auto"'


@dataclass(frozen=True)
class Chart:
    """A drawing and the numbers it was made of."""

    title: str
    said: str
    """What it shows, in words."""
    svg: str
    columns: tuple[str, ...]
    """Names of the numbers: the first is the axis along the bottom or the side."""
    rows: Sequence[tuple[Any, ...]] = field(repr=False)
    kind: str = "line"

    @property
    def unstyled(self) -> str:
        """The drawing for a page that brings the rules of STYLE itself, and lets no other in."""
        return self.svg.replace(STYLE, "").replace(FITS, "")

    def _repr_svg_(self) -> str:
        return self.svg

    def _repr_html_(self) -> str:
        return f"<figure>{self.svg}{self.table}</figure>"

    @property
    def table(self) -> str:
        """The numbers as an HTML table that opens at a click; of many the first 200."""
        head = "".join(f'<th scope="col">{escape(name)}</th>' for name in self.columns)
        shown = self.rows[:MOST_TABLE_ROWS]
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(said(value))}</td>" for value in row) + "</tr>"
            for row in shown
        )
        more = len(self.rows) - len(shown)
        rest = f"<p>and {more} more rows</p>" if more else ""
        return (
            f"<details><summary>Numbers of {escape(self.title)}</summary><table><thead><tr>{head}"
            f"</tr></thead><tbody>{body}</tbody></table>{rest}</details>"
        )

    @property
    def altair(self) -> Any:
        """The same as an Altair chart, to be changed further; BadInput without altair."""
        try:
            import altair
        except ImportError:
            raise BadInput(
                "This needs altair.", "Install it: pip install 'jobkit[notebook]'."
            ) from None
        axis, *names = self.columns
        values = [
            {"axis": said(row[0]), "series": name, "value": value}
            for row in self.rows
            for name, value in zip(names, row[1:], strict=True)
        ]
        base = altair.Chart(altair.InlineData(values=values), title=self.title)
        is_time = bool(self.rows) and isinstance(self.rows[0][0], datetime)
        x = altair.X("axis", type="temporal" if is_time else "nominal", title=axis, sort=None)
        y = altair.Y("value", type="quantitative", title=None)
        colour = altair.Color("series", type="nominal", title=None)
        if self.kind == "cells":
            return base.mark_rect().encode(
                x=x,
                y=altair.Y("series", type="nominal"),
                color=altair.Color("value", type="nominal"),
            )
        if self.kind == "bars":
            return base.mark_bar().encode(
                y=altair.Y("axis", type="nominal", title=axis, sort=None),
                x=altair.X("value", type="quantitative", title=None),
                color=colour,
            )
        mark = base.mark_line() if self.kind == "line" else base.mark_bar()
        return mark.encode(x=x, y=y, color=colour)


def said(value: object) -> str:
    """Write a value of a table: instants in ISO 8601, numbers with four digits."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def drawing(title: str, words: str, height: int, parts: Sequence[str], width: int = WIDTH) -> str:
    """Return an SVG image with a title and a description that screen readers tell."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="jk" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" aria-label="{escape(title)}. '
        f'{escape(words)}"{FITS}><title>{escape(title)}</title>'
        f"<desc>{escape(words)}</desc>{STYLE}"
        f'<text x="0" y="12" font-weight="600">{escape(title)}</text>{"".join(parts)}</svg>'
    )


def colour(number: int) -> str:
    """Return the colour of a series."""
    return f"var(--jk-{number % COLOURS + 1})"


def legend(names: Sequence[str], dashes: Mapping[int, str] | None = None) -> str:
    """Name the series at the top right."""
    parts, x = [], float(WIDTH - RIGHT)
    for number, name in reversed(list(enumerate(names))):
        x -= 6.2 * len(name)
        parts.append(f'<text x="{x:.0f}" y="12">{escape(name)}</text>')
        dash = f' stroke-dasharray="{dashes[number]}"' if dashes and number in dashes else ""
        parts.append(
            f'<path d="M{x - 16:.0f} 8h12" stroke="{colour(number)}" stroke-width="3"{dash}/>'
        )
        x -= 26
    return "".join(parts)
