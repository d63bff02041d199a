"""Cards: HTML that parses, small, with the same in text, and nothing of what people type in it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import html5lib
import pytest

import jobkit
from jobkit import Kit
from jobkit.cards import MOST_BYTES, Card, Table, last_lines, plain
from jobkit.expectation import expectation
from jobkit.handles import Output
from jobkit.store.claims import Result
from jobkit.tracebacks import last_traceback
from tests.stage import MONDAY, Stage

HOSTILE = "<script>alert('&')</script>\x1b[31m\x00\u202e</td>\"' \ufdd0 " + "<b>&" * 200
LONG = "<&>" * 400


def parse(html: str) -> Any:
    """Parse a fragment as strictly as can be: an error of it is an error here."""
    assert len(html.encode()) < MOST_BYTES
    return html5lib.HTMLParser(strict=True).parseFragment(html)


def words(html: str) -> str:
    return "".join(parse(html).itertext())


def test_a_card_says_the_same_in_html_and_in_text() -> None:
    card = Card(
        "Run 1 of sales",
        "IN_PROGRESS",
        [("worker", "box-1"), ("empty", ""), ("attempt", 2)],
        bar=0.25,
        table=Table(("a", "b"), [(1, "x"), (2, None)], total=5),
        lines=["one", "two"],
        notes=["A note."],
    )
    assert card.text.splitlines() == [
        "Run 1 of sales: IN_PROGRESS",
        "  worker   box-1",
        "  attempt  2",
        "  [#####...............] 25%",
        "  a  b",
        "  1  x",
        "  2",
        "  and 3 more",
        "  | one",
        "  | two",
        "  A note.",
    ]
    said = words(card.html)
    for word in ("Run 1 of sales", "IN_PROGRESS", "box-1", "and 3 more", "one\ntwo", "A note."):
        assert word in said
    assert "empty" not in said
    assert "width:25%" in card.html
    assert card.bundle == {"text/plain": card.text, "text/html": card.html}


def test_a_card_stays_small_and_calm_whatever_it_is_made_of() -> None:
    card = Card(
        HOSTILE,
        HOSTILE,
        [(HOSTILE, HOSTILE)] * 20,
        bar=7,
        table=Table((HOSTILE,) * 7, [[LONG] * 7] * 500),
        lines=[LONG] * 500,
        notes=[HOSTILE] * 10,
    )
    tree = parse(card.html)
    assert not tree.findall(".//{*}script")
    assert not tree.findall(".//{*}b")
    assert "\x1b" not in card.text + card.html
    assert "\u202e" not in card.text + card.html
    assert "<script" not in card.html


def test_a_card_asks_for_no_trust() -> None:
    made = Card("t", "FAILED", [("a", 1)], 0.5, Table(("x",), [("FAILED",)]), ["l"], ["n"]).html
    for word in ("<style", "<script", "class=", "id=", "on", "href", "src", "javascript"):
        assert f" {word}" not in made.replace(" on ", "")
        assert "<style" not in made
    assert "color:inherit" in made


def test_one_line_is_one_line() -> None:
    assert plain("a\nb\tc\u2028d\xa0e") == "a b c d e"
    assert plain("\x1b[1;31mred\x1b[0m\x07") == "red�"
    assert plain("x" * 500, 10) == "x" * 9 + "…"
    assert last_lines("a\nb\r\n10%\r20%\r\n") == ["a", "b", "20%"]
    assert last_lines("") == []


# Tracebacks

PLAIN = """start
Traceback (most recent call last):
  File "a.py", line 4, in <module>
    load("xx")
ValueError: no region
  of that name
"""
CHAINED = """Traceback (most recent call last):
  File "a.py", line 1, in f
KeyError: 'x'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "a.py", line 2, in g
ValueError: no
"""
GROUP = """  + Exception Group Traceback (most recent call last):
  |   File "a.py", line 1, in <module>
  | ExceptionGroup: two (1 sub-exception)
  +-+---------------- 1 ----------------
    | ValueError: one
    +------------------------------------
"""
SYNTAX = """  File "/x/a.py", line 1
    foo(
       ^
SyntaxError: '(' was never closed
"""


@pytest.mark.parametrize(
    ("printed", "found"),
    [
        (PLAIN, PLAIN.removeprefix("start\n").rstrip()),
        ("noise\n" + CHAINED, CHAINED.rstrip()),
        (PLAIN + "retry\n" + CHAINED, CHAINED.rstrip()),
        (GROUP, GROUP.rstrip()),
        (SYNTAX, SYNTAX.rstrip()),
        ("all went well\n", None),
        ("", None),
    ],
)
def test_the_last_traceback_is_found(printed: str, found: str | None) -> None:
    assert last_traceback(printed) == found


# Every handle

Take = Callable[[Stage], Any]
HANDLES: dict[str, Take] = {
    "kit": lambda stage: stage.kit,
    "jobs": lambda stage: stage.kit.jobs,
    "runs": lambda stage: stage.kit.runs,
    "workers": lambda stage: stage.kit.workers,
    "job": lambda stage: next(iter(stage.kit.jobs)),
    "job list": lambda stage: stage.kit.jobs[:9],
    "run that failed": lambda stage: stage.kit.runs[1],
    "run that waits": lambda stage: stage.kit.runs[2],
    "run that runs": lambda stage: stage.kit.runs[3],
    "run list": lambda stage: stage.kit.runs(since="30d"),
    "attempt": lambda stage: stage.kit.attempts(1)[0],
    "output": lambda stage: stage.kit.output(1),
    "long output": lambda _: Output(HOSTILE * 9000, 1, 1, False, 7),
    "worker": lambda stage: stage.kit.workers()[0],
    "worker list": lambda stage: stage.kit.workers(),
    "version": lambda stage: stage.kit.versions(next(iter(stage.kit.jobs)).name)[0],
    "backfill": lambda stage: stage.kit.backfill(
        next(iter(stage.kit.jobs)).name, MONDAY - timedelta(days=2), MONDAY, dry_run=True
    ),
    "stats": lambda stage: stage.kit.stats(),
    "expectation": lambda stage: next(iter(stage.kit.jobs)).expectation(),
    "known expectation": lambda _: expectation([1.0, 2.0] * 20),
    "changes": lambda stage: stage.kit.runs[1].changes(),
}


@pytest.fixture
def hostile(stage: Stage) -> Stage:
    """A job whose name, parameters, errors and output are meant to break a page."""
    name = "<b onload='x'>&amp;\"</b> <script>"
    name = name.replace("/", "|")
    stage.job(name, hourly="0", params={"<i>": HOSTILE}, retries=0, overlap="allow")
    stage.kit.edit(name, params={"<u>": HOSTILE})
    stage.register("<box>&-1")
    stage.kit.submit(name)
    claim = stage.claim_one("<box>&-1")
    stage.clock.turn(timedelta(minutes=1))
    said = Result("exit", claim.claimed_at, stage.clock.now(), 1, HOSTILE, {"log_output": HOSTILE})
    with stage.kit.database.write() as connection:
        from random import Random

        from jobkit.store import claims

        chunk = (0, stage.clock.now(), HOSTILE.replace("\x00", ""), "output")
        claims.add_output(connection, [(claim, [chunk])])
        claims.finish(connection, [(claim, said)], stage.clock.now(), Random(1))
    stage.kit.submit(name)
    stage.kit.submit(name, day=HOSTILE)
    stage.claim_one("<box>&-1")
    with stage.kit.database.write() as connection:
        connection.exec_driver_sql("UPDATE job_dispatch SET status = 'PENDING' WHERE id = 2")
        connection.exec_driver_sql("UPDATE job_dispatch SET status = 'IN_PROGRESS' WHERE id = 3")
    return stage


@pytest.mark.parametrize("what", HANDLES)
def test_every_handle_shows_itself(hostile: Stage, what: str) -> None:
    handle = HANDLES[what](hostile)
    tree = parse(handle._repr_html_())
    assert {element.tag.rpartition("}")[2] for element in tree.iter() if element.tag} <= {
        "DOCUMENT_FRAGMENT", "div", "strong", "span", "table", "thead", "tbody", "tr", "th", "td",
        "pre", "small", "p", "ul", "li", "details", "summary",
    }  # fmt: skip
    twin = repr(handle)
    assert twin
    assert "object at 0x" not in twin
    if what not in ("known expectation", "changes"):
        assert "\x1b" not in twin
    assert len(twin) < MOST_BYTES


def test_an_artifact_shows_itself(kit: Kit) -> None:
    from jobkit.handles import Artifact

    made = Artifact(kit, 1, 1, HOSTILE[:100], 12_345, "0" * 64, "text/plain", "file:x", MONDAY)
    assert "12.3 kB" in words(made._repr_html_())
    assert repr(made).startswith("<Artifact <script>")


def test_a_kit_says_its_numbers_first(hostile: Stage) -> None:
    said = repr(hostile.kit).splitlines()
    assert said[1].split() == ["jobs", "1"]
    assert said[2].split() == ["queue", "1", "waiting,", "1", "running"]
    assert said[3].split() == ["workers", "1", "alive,", "4", "slots"]
    assert said[5].startswith("  last failure  run 1 of <b onload")
    hostile.clock.turn(timedelta(minutes=5))
    assert "1 (due for more than a minute)" in repr(hostile.kit)
    assert "0 alive" not in repr(hostile.kit)


def test_what_was_read_is_shown_when_the_database_is_away(stage: Stage, tmp_path: Path) -> None:
    job, run = stage.job(), stage.kit.submit("sales")
    stage.kit.database.close()
    away = jobkit.kit.Database(f"sqlite:///{tmp_path}/gone.db")
    away.clock = stage.clock
    stage.kit.database = away
    assert "The database cannot be asked now" in repr(stage.kit)
    assert "As it was when it was read" in words(run._repr_html_())
    assert "As it was when it was read" in words(job._repr_html_())
    for listing in (stage.kit.jobs, stage.kit.runs, stage.kit.workers):
        assert repr(listing).startswith("<")
        assert listing._repr_html_() is None
    away.close()


def test_importing_and_connecting_loads_nothing_heavy(sqlite_database: str) -> None:
    code = (
        "import sys, jobkit\n"
        "names = {'polars', 'duckdb', 'IPython', 'nbformat', 'obstore'}\n"
        "assert 'sqlalchemy' not in sys.modules\n"
        f"kit = jobkit.connect({sqlite_database!r})\n"
        "repr(kit), kit._repr_html_(), repr(kit.jobs), kit.runs._repr_html_()\n"
        "kit.runs(), dir(kit.jobs)\n"
        "print(sorted(names & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
