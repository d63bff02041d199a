"""A day over all jobs as SVG: jobs down, time across, a bar a run. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from markupsafe import Markup

from jobkit import Span

MOST_ROWS = 20
PARTS = 6
WIDTH, ROW, BAR, LEAST = 960, 16, 10, 3
"""Units of the drawing: its width, the height of a row and of a bar, the width of the shortest."""
TROUBLE = ("FAILED", "TIMEOUT", "MISSED")
RANK = (*TROUBLE, "IN_PROGRESS", "CANCELLED", "COMPLETED", "PENDING", "SKIPPED")
"""What a bar of several runs shows: the first of these that one of them is."""
TALL = {"FAILED": 14, "TIMEOUT": 14, "MISSED": 14, "SKIPPED": 4, "PENDING": 6}


@dataclass(frozen=True)
class Bar:
    """Runs that are too close to each other to be told apart."""

    x: float
    width: float
    status: str
    runs: tuple[int, ...]
    leads_to: int
    """The run that it shows, the first of the worst."""

    @property
    def words(self) -> str:
        """What is said when it is pointed at."""
        said = self.status.lower().replace("_", " ").replace("in progress", "running")
        if len(self.runs) == 1:
            return f"run {self.runs[0]}: {said}"
        return f"{len(self.runs)} runs, {self.runs[0]} to {self.runs[-1]}; the worst: {said}"


@dataclass(frozen=True)
class Row:
    """The bars of one job, and how many of its runs are in each status."""

    job: str
    bars: tuple[Bar, ...]
    counts: Counter[str]

    @property
    def svg(self) -> Markup:
        """The bars, each a link to the run that it shows."""
        return Markup("").join(
            Markup(
                '<a href="/runs/{}"><rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}"'
                ' height="{}" rx="1.5"><title>{}</title></rect></a>'
            ).format(
                bar.leads_to,
                bar.status.lower(),
                bar.x,
                (ROW - TALL.get(bar.status, BAR)) / 2,
                bar.width,
                TALL.get(bar.status, BAR),
                bar.words,
            )
            for bar in self.bars
        )


@dataclass(frozen=True)
class Timeline:
    """The rows of a window, those with trouble first."""

    start: datetime
    end: datetime
    rows: tuple[Row, ...]
    hidden: int
    """How many jobs with runs have no row."""
    is_cut: bool
    """Whether there are older runs in the window, which are not shown."""

    @property
    def hours(self) -> list[datetime]:
        """The instants to write below the rows, the same distance from each other."""
        return [self.start + (self.end - self.start) * part / PARTS for part in range(PARTS + 1)]


def draw(
    spans: Sequence[Span], start: datetime, end: datetime, now: datetime, *, is_cut: bool = False
) -> Timeline:
    """Draw runs, oldest first, over a window; `is_cut`: there are older ones."""
    by_job: dict[str, list[Span]] = {}
    for span in spans:
        by_job.setdefault(span.job, []).append(span)
    trouble = {job: sum(span.status in TROUBLE for span in own) for job, own in by_job.items()}
    order = sorted(by_job, key=lambda job: (-trouble[job], job))
    blank = Timeline(start, end, (), 0, False)
    rows = tuple(
        Row(
            job,
            tuple(_bars(blank, by_job[job], now)),
            Counter(span.status for span in by_job[job]),
        )
        for job in order[:MOST_ROWS]
    )
    return Timeline(start, end, rows, len(order[MOST_ROWS:]), is_cut)


def _bars(window: Timeline, spans: Iterable[Span], now: datetime) -> Iterator[Bar]:
    """Yield the bars of a job; what would touch is one bar."""
    held: Bar | None = None
    for span in sorted(spans, key=lambda span: span.start):
        left = max(_x(window, span.start), 0.0)
        width = max(_x(window, span.end or now) - left, LEAST)
        if held is not None and left <= held.x + held.width:
            right = max(held.x + held.width, left + width)
            worst = min(held.status, span.status, key=RANK.index)
            leads_to = held.leads_to if worst == held.status else span.run_id
            held = Bar(held.x, right - held.x, worst, (*held.runs, span.run_id), leads_to)
            continue
        if held is not None:
            yield held
        held = Bar(left, min(width, WIDTH - left), span.status, (span.run_id,), span.run_id)
    if held is not None:
        yield held


def _x(window: Timeline, at: datetime) -> float:
    return WIDTH * ((at - window.start) / (window.end - window.start))
