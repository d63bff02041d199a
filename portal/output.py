"""`/runs/<id>/output`: what attempts printed, as it comes, searched, and as a file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from flask import Blueprint, Response, current_app, render_template, url_for
from flask.typing import ResponseReturnValue
from htmx_flask import request
from markupsafe import Markup

import jobkit
from jobkit.terminal import plain
from portal.ansi import Pen, changed, to_html
from portal.pages import page

blueprint = Blueprint("output", __name__, url_prefix="/runs/<int:run_id>")

MOST_SHOWN = 200_000
MOST_FOUND = 500
AROUND = 200
"""How many lines are shown before and after one that was found."""


@dataclass(frozen=True)
class Tail:
    """What came since the last look, and where to look next."""

    html: Markup
    attempt: int
    title: str
    """What to write above it; nothing when it goes on with what is there."""
    is_cut: bool
    omitted_bytes: int
    onward: str | None
    """The address of what comes next; None when nothing will."""


@dataclass(frozen=True)
class Line:
    """A line of output, by its number from 1."""

    number: int
    html: Markup


def _kit() -> jobkit.Kit:
    kit: jobkit.Kit = current_app.config["KIT"]
    return kit


def chosen_attempt() -> int | None:
    """Return the attempt that the address names."""
    chosen: int | None = request.args.get("attempt", None, type=int)
    return chosen


@blueprint.get("/output")
def more(run_id: int) -> ResponseReturnValue:
    """Show what an attempt printed after a numbered chunk; 204 while there is nothing new."""
    attempt, after = chosen_attempt() or 1, request.args.get("after", -1, type=int)
    follows, pen = "follow" in request.args, request.args.get("pen", "")
    tail = read_tail(_kit().run(run_id), attempt, after=after, follows=follows, pen=pen)
    if not tail.html and tail.onward == _address(run_id, attempt, after, follows, pen):
        return "", 204
    return render_template("runs/more.html", tail=tail)


@blueprint.get("/output.txt")
def download(run_id: int) -> ResponseReturnValue:
    """Give the whole of what is kept of an attempt's output."""
    output = _kit().output(run_id, chosen_attempt())
    name = f"run-{run_id}-attempt-{output.attempt}.txt"
    headers = {"Content-Disposition": f"attachment; filename={name}"}
    return Response(output.text, mimetype="text/plain", headers=headers)


@blueprint.get("/lines")
def search(run_id: int) -> str:
    """Find lines in all that is kept of an attempt's output, or show those around one."""
    run = _kit().run(run_id)
    output = run.output(chosen_attempt())
    lines = plain(output.text).split("\n")
    wanted, at = request.args.get("q", ""), request.args.get("at", None, type=int)
    numbers = around(lines, at) if at is not None else find(lines, wanted)
    return page(
        "runs/lines.html",
        poll=not output.is_complete,
        run=run,
        attempt=output.attempt,
        wanted=wanted,
        at=at,
        count=len(numbers),
        total=len(lines),
        lines=[Line(number, marked(lines[number - 1], wanted)) for number in numbers[:MOST_FOUND]],
    )


def find(lines: Sequence[str], wanted: str) -> list[int]:
    """Return the numbers of the lines that hold a text, whatever its case."""
    if not wanted:
        return []
    folded = wanted.casefold()
    return [number for number, line in enumerate(lines, 1) if folded in line.casefold()]


def around(lines: Sequence[str], at: int) -> list[int]:
    """Return the numbers of the lines around one."""
    return list(range(max(at - AROUND, 1), min(at + AROUND, len(lines)) + 1))


def marked(line: str, wanted: str) -> Markup:
    """Return a line in which each place that holds a text is marked."""
    if not wanted:
        return Markup("{}").format(line)
    parts = re.split(f"({re.escape(wanted)})", line, flags=re.IGNORECASE)
    return Markup("").join(
        Markup("<mark>{}</mark>").format(part) if index % 2 else part
        for index, part in enumerate(parts)
    )


def read_tail(
    run: jobkit.Run, attempt: int, *, after: int = -1, follows: bool = False, pen: str = ""
) -> Tail:
    """Read an attempt's output after a chunk; with `follows` the next attempt's comes after it.

    `pen`: how the output before it left the terminal, as the numbers that say so.
    """
    output = run.output(attempt, after)
    printed, last = output.text, output.last_seq
    is_done = output.is_complete
    if is_done:
        # It may have ended between the two questions, what it printed and whether it has ended.
        rest = run.output(attempt, last)
        printed, last = printed + rest.text, rest.last_seq
    html, left = to_html(printed[-MOST_SHOWN:], changed(Pen(), pen) if pen else None)
    onward = None
    if not is_done:
        onward = _address(run.id, attempt, last, follows, left.code)
    elif follows and not run.is_final:
        onward = _address(run.id, attempt + 1, -1, True, "")
    starts = follows and after < 0 and attempt > 1 and printed
    return Tail(
        html=html,
        attempt=attempt,
        title=f"attempt {attempt}" if starts else "",
        is_cut=len(printed) > MOST_SHOWN,
        omitted_bytes=output.omitted_bytes,
        onward=onward,
    )


def _address(run_id: int, attempt: int, after: int, follows: bool, pen: str) -> str:
    return url_for(
        "output.more",
        run_id=run_id,
        attempt=attempt,
        after=after,
        follow=1 if follows else None,
        pen=pen or None,
    )
