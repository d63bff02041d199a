"""Databases to look at: a day of a data team, and one where everything that can be is hostile.

Both are made by the steps of real schedulers and workers, on a clock that is turned.
"""

from __future__ import annotations

import io
import json
import random
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from jobkit.store import claims, keepsakes, workers
from jobkit.store.claims import Claim, Result
from tests.stage import Stage, set_stage

DAY = timedelta(hours=25)
STEP = timedelta(minutes=1)
MB = 1 << 20


@dataclass(frozen=True)
class Work:
    """A job of the day: when it runs, how long that usually takes, how often it fails."""

    name: str
    target: str
    seconds: float
    definition: Mapping[str, Any]
    failing: float = 0.0
    error: str = ""


TEAM = (
    Work("ingest orders", "ingest/orders.py", 48, {"every": "15m", "tags": ["ingest", "sales"]},
         0.03, "httpx.ReadTimeout: The read operation timed out"),
    Work("ingest clicks", "ingest/clicks.py", 85, {"every": "10m", "tags": ["ingest"]}),
    Work("currency rates", "ingest/rates.py", 6, {"cron": "5 * * * *", "tags": ["ingest"],
         "retries": 2, "retry_delay": "2m"}, 0.22, "ConnectionError: api.rates.example: 503"),
    Work("warehouse refresh", "warehouse/refresh.sql", 560, {"hourly": 10, "timeout": "15m",
         "tz": "Europe/Berlin", "tags": ["warehouse"], "retries": 1}),
    Work("stock levels", "warehouse/stock.py", 95, {"every": "20m", "tags": ["warehouse"]}),
    Work("data quality", "checks/quality.py:check", 70, {"every": "30m", "tags": ["checks"],
         "retries": 0}, 0.09, "ValueError: 214 orders have no customer_id"),
    Work("daily sales report", "reports/sales.ipynb", 190, {"daily": "06:30",
         "tz": "Europe/Paris", "tags": ["sales", "reports"]}),
    Work("customer segments", "reports/segments.ipynb", 1500, {"cron": "20 */4 * * *",
         "tags": ["reports"]}),
    Work("train forecast", "models/forecast.py", 5400, {"cron": "0 */6 * * *", "queue": "gpu",
         "timeout": "3h", "tags": ["models"], "overlap": "queue"}),
    Work("churn scores", "models/churn.py", 2700, {"cron": "30 */6 * * *", "queue": "gpu",
         "tags": ["models"]}),
    Work("disk report", "ops/disk.sh", 2, {"every": "30m", "tags": ["ops"]}),
    Work("invoice export", "finance/invoices.py", 130, {"weekly": "mon 07:00",
         "tz": "Europe/London", "tags": ["finance"]}),
    Work("month end close", "finance/close.py", 900, {"monthly": "31 18:00", "tags": ["finance"]}),
    Work("reload prices", "finance/prices.py:reload", 240, {"tags": ["finance"], "signature": [
        {"name": "region", "type": "str", "choices": ["eu", "us", "apac"], "required": False,
         "default": "eu", "help": "whose prices"},
        {"name": "day", "type": "date", "required": True, "help": "the first day to load"},
        {"name": "limit", "type": "int", "required": False, "default": 10000},
        {"name": "dry_run", "type": "bool", "required": False, "default": True},
    ]}),
)  # fmt: skip
PACE = {"etl-1": ("default", 4), "etl-2": ("default", 4), "gpu-box": ("gpu", 2)}
"""Workers, the queue of each and its slots."""


@dataclass
class World:
    """A database with something in it, and what of it is worth a look."""

    url: str
    job: str
    run: int
    """It has ended, and left `files`."""
    files: Sequence[str]
    others: list[str] = field(default_factory=list)
    """Further addresses that look different."""


@dataclass
class Held:
    """A run that a worker has, and when it is to end."""

    claim: Claim
    work: Work
    until: datetime


class Team:
    """The workers of a day, who take what waits and end it in time."""

    def __init__(self, stage: Stage, folder: Path, rng: random.Random) -> None:
        self.stage = stage
        self.folder = folder
        self.rng = rng
        self.by_name = {work.name: work for work in TEAM}
        self.held: list[Held] = []

    def begin(self) -> None:
        for name, (queue, slots) in PACE.items():
            row = {
                "worker_id": name, "hostname": f"{name}.example", "platform": "Linux",
                "process_id": 4000 + len(name), "queues": queue, "slots": slots, "version": "0.1.0",
            }  # fmt: skip
            with self.stage.kit.database.write() as connection:
                workers.register(connection, self.stage.clock.now(), row)
        for work in TEAM:
            path = self.folder / work.target.partition(":")[0]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("print('made for the tests')\n", "utf-8")
            self.stage.kit.add_job(work.name, work.target, **work.definition)

    def step(self, *, is_dispatching: bool = True) -> None:
        """Live a minute: make runs, end what is at its end, take what waits."""
        if is_dispatching:
            self.stage.tick()
        now = self.stage.clock.now()
        for held in [held for held in self.held if held.until <= now]:
            self.held.remove(held)
            self._end(held)
        for name, (queue, slots) in PACE.items():
            free = slots - sum(held.claim.worker_id == name for held in self.held)
            for claim in self.stage.claim(name, free, queue) if free else []:
                self._begin(claim)
        self.stage.clock.turn(STEP)

    def beat(self) -> None:
        """Let every worker say that it is alive."""
        for name in PACE:
            mine = [held.claim for held in self.held if held.claim.worker_id == name]
            self.stage.renew(name, *mine)

    def _begin(self, claim: Claim) -> None:
        work = self.by_name[self.stage.kit.run(claim.run_id).job_name]
        seconds = work.seconds * self.rng.lognormvariate(0, 0.22)
        if work.name == "warehouse refresh" and self.rng.random() < 0.12:
            seconds = 5000  # it hangs, until it is ended
        self.held.append(Held(claim, work, claim.claimed_at + timedelta(seconds=seconds)))
        lines = [f"\x1b[36m{work.target}\x1b[0m started on {claim.worker_id}\n"]
        lines += [f"read part {part} of 6: {self.rng.randint(900, 48000):,} rows\n"
                  for part in range(1, 7)]  # fmt: skip
        self.write(claim, "".join(lines), 0)

    def write(self, claim: Claim, text: str, seq: int) -> None:
        with self.stage.kit.database.write() as connection:
            chunk = (seq, self.stage.clock.now(), text, "output")
            assert claims.write_output(connection, claim, [chunk])

    def _end(self, held: Held) -> None:
        work, rng, now = held.work, self.rng, held.until
        limit = timedelta(minutes=15) if work.name == "warehouse refresh" else None
        fails = rng.random() < work.failing
        ended_by, code, error = ("exit", 1, work.error) if fails else ("exit", 0, "")
        if limit and now - held.claim.claimed_at > limit:
            now = held.claim.claimed_at + limit
            ended_by, code, error = "timeout", None, "timed out after 15 min"
        tail = f"\x1b[1;31m{error}\x1b[0m\n" if error else "\x1b[32mdone\x1b[0m\n"
        self.write(held.claim, tail, 1)
        if work.name == "daily sales report" and not error:
            leave(self.stage, held.claim, REPORT, self.folder)
        rows = rng.randint(20_000, 900_000)
        measures = {
            "cpu_seconds": work.seconds * rng.uniform(0.3, 0.8),
            "max_rss_bytes": rng.randint(90, 900) * MB,
            "output_bytes": 380 + len(tail),
            "log_output": tail,
            "metrics": {"rows": rows, "rejected": rows // 2100} if not error else None,
        }
        result = Result(ended_by, held.claim.claimed_at, now, code, error, measures)
        with self.stage.kit.database.write() as connection:
            claims.finish(connection, [(held.claim, result)], now, rng)


def png(width: int = 480, height: int = 160) -> bytes:
    """Draw a picture: twelve bars that grow."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    def pixel(x: int, y: int) -> bytes:
        bar, place = divmod(x * 12, width)
        is_bar = place < width * 0.7 and height - y < height * (0.25 + bar * 0.06)
        return b"\x35\x51\xd1" if is_bar else b"\xff\xff\xff"

    rows = b"".join(
        b"\0" + b"".join(pixel(x, y) for x in range(width)) for y in range(height)
    )  # fmt: skip
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    ends = chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(ends)


NOTEBOOK = {
    "cells": [
        {"cell_type": "markdown", "source": "# Sales of the day\nBy region, in thousands."},
        {"cell_type": "code", "execution_count": 1, "source": "sales = load(day)\nsales.head(2)",
         "outputs": [{"output_type": "execute_result", "data": {
             "text/plain": "region  revenue\nnorth    41200\nsouth    38930"}}]},
        {"cell_type": "code", "execution_count": 2, "source": "sales.plot.bar()", "outputs": []},
    ]
}  # fmt: skip
REPORT = {
    "sales by region.png": png(),
    "sales.csv": b"region,orders,revenue\n"
    + b"".join(b"region %d,%d,%d\n" % (n, n * 31, n * 2210) for n in range(1, 30)),
    "report.ipynb": json.dumps(NOTEBOOK).encode(),
    "summary.json": b'{"orders": 1204, "revenue": 214880}\n',
}


def leave(stage: Stage, claim: Claim, files: Mapping[str, bytes], folder: Path) -> None:
    """Keep files as an attempt's worker does."""
    from jobkit import artifacts

    place = folder / f"left-{claim.run_id}-{claim.attempt}"
    for name, data in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)
    kept = stage.kit.store.keep(
        claim.run_id, claim.attempt, artifacts.collect(place, 1 << 30).files
    )
    with stage.kit.database.write() as connection:
        keepsakes.add_artifacts(
            connection, [((claim.run_id, claim.attempt), kept)], stage.clock.now()
        )


def live_a_day(url: str, folder: Path, now: datetime, *, lasting: timedelta = DAY) -> World:
    """Fill an empty database with a day that ends now; the current folder is `folder`."""
    stage = set_stage(url, (now - lasting).replace(minute=0, second=0, microsecond=0))
    team = Team(stage, folder, random.Random(11))
    team.begin()
    stage.kit.pause("month end close")
    away = now - timedelta(hours=5), now - timedelta(hours=4, minutes=10)
    while stage.clock.now() < now - STEP:
        team.step(is_dispatching=not away[0] < stage.clock.now() < away[1])
        if stage.clock.now().minute == 0:
            stage.kit.submit("reload prices", day="2026-03-01", region="us")
    stage.kit.edit("ingest clicks", timeout="4m", retries=5)
    stage.kit.edit("ingest clicks", every="12m")
    stage.clock.turn_to(now)
    for name in ("customer segments", "train forecast", "churn scores", "churn scores"):
        stage.kit.submit(name)
    team.step()
    stage.clock.turn_to(now)
    for held in team.held:
        if held.work.name == "train forecast":
            tell(stage, held.claim, 0.62, "epoch 31 of 50, loss 0.0412")
        if held.work.name == "customer segments":
            fill_in(stage, held.claim)
    team.beat()
    world = _world(stage, url)
    stage.kit.close()
    return world


def _world(stage: Stage, url: str) -> World:
    (report,) = stage.kit.runs(job="daily sales report", status="COMPLETED", limit=1)
    found = World(url, "ingest orders", report.id, list(REPORT))
    looks = {
        "runs": [stage.kit.runs(status=status, limit=1) for status in ("FAILED", "TIMEOUT")]
        + [stage.kit.runs(job=name, limit=1)
           for name in ("train forecast", "customer segments", "churn scores")],
    }  # fmt: skip
    found.others += [f"/runs/{runs[0].id}" for runs in looks["runs"] if runs]
    found.others += ["/jobs/reload prices", "/jobs/month end close", "/runs?status=FAILED&since=1d"]
    found.others += [
        "/jobs/reload prices/start?param:day=never",
        "/jobs/reload prices/backfill",
        "/jobs/ingest orders/backfill?from=2026-02-20&to=2026-03-02T12:00",
        "/jobs/ingest orders/backfill?from=never&to=2026-03-02",
    ]
    return found


def tell(stage: Stage, claim: Claim, share: float, said: str) -> None:
    """Tell how far a run is."""
    with stage.kit.database.write() as connection:
        assert claims.write_output(connection, claim, [], (share, said))


def fill_in(stage: Stage, claim: Claim, said: str = "") -> None:
    """Tell the events of a notebook's cells: one done, one failed, one running."""
    events: list[dict[str, Any]] = [
        {"id": "a", "kind": "start", "text": f"orders = load_orders(day)  {said}"},
        {"id": "a", "kind": "output", "text": f"read 48,210 orders {said}\n"},
        {"id": "a", "kind": "end", "ok": True, "seconds": 12.5},
        {"id": "b", "kind": "start", "text": "segments = cluster(orders, k=8)"},
        {
            "id": "b",
            "kind": "output",
            "text": f"8 segments, the largest has 9,120 customers{said}\n",
        },
        {"id": "b", "kind": "end", "ok": True, "seconds": 203.1},
        {"id": "c", "kind": "start", "text": "segments.describe().plot()"},
    ]
    told = [{**event, "index": "abc".index(event["id"]), "of": 5} for event in events]
    now = stage.clock.now()
    chunks = [(seq + 10, now, json.dumps(event) + "\n", "cell") for seq, event in enumerate(told)]
    with stage.kit.database.write() as connection:
        claims.write_output(connection, claim, chunks, (0.5, f"cell 3 of 5 {said}"))


SCRIPT = "<script>window.pwned = 1; alert(1)</script>"
IMAGE = '"><img src=x onerror="window.pwned = 1; alert(1)">'
LINK = "javascript:window.pwned=1;alert(1)"
TERMINAL = "\x1b]0;title\x07\x1b[2J\x1b[31mred\x1b]8;;javascript:alert(1)\x1b\\link\x1b]8;;\x1b\\"
TURNED = "\u202egnp.exe\u202c \u2066hidden\u2069"
HOSTILE = "<img src=x onerror=alert(1)> \"' {{ 7*7 }} javascript:alert(1)"
"""The name of a job: without a slash, which none may have."""


def be_hostile(url: str, folder: Path, now: datetime) -> World:
    """Fill an empty database with names, parameters, output and files that mean ill."""
    stage = set_stage(url, now - timedelta(minutes=30))
    (folder / "hello.py").write_text("print('hello')\n", "utf-8")
    note = {"name": "note", "type": "str", "required": False, "default": IMAGE, "help": SCRIPT}
    which = {"name": "which", "type": "str", "choices": [SCRIPT, LINK], "required": False}
    signature = [note, which | {"default": LINK}]
    asked = {"note": SCRIPT + TURNED, "which": LINK}
    stage.kit.add_job(HOSTILE, "hello.py", IMAGE, signature=signature, every="10m", retries=0,
                      tags=["a.b:c"], overlap="allow")  # fmt: skip
    stage.register(SCRIPT)
    stage.tick()
    stage.kit.submit(HOSTILE, **asked)
    claim = stage.claim_one(SCRIPT)
    lines = ["x" * MB, SCRIPT, IMAGE, LINK, TERMINAL, TURNED, "\x1b[" * 2000, "\0\x08\x7f end"]
    with stage.kit.database.write() as connection:
        chunk = (0, stage.clock.now(), "\n".join(lines) + "\n", "output")
        assert claims.write_output(connection, claim, [chunk], (0.5, IMAGE + TURNED))
    files = {"<b>&'.html": SCRIPT.encode(), "drawing.svg": f"<svg onload={LINK!r}/>".encode(),
             "rows.csv": f"{SCRIPT},{LINK}\n{IMAGE},{TURNED}\n".encode(),
             "note.ipynb": json.dumps(_hostile_notebook()).encode(),
             "rows.parquet": _hostile_table()}  # fmt: skip
    leave(stage, claim, files, folder)
    measures = {"log_output": SCRIPT, "metrics": {SCRIPT: 1, LINK: 2.5}, "result": {IMAGE: LINK}}
    failed = Result("exit", claim.claimed_at, stage.clock.now(), 1, SCRIPT + TERMINAL, measures)
    with stage.kit.database.write() as connection:
        claims.finish(connection, [(claim, failed)], stage.clock.now(), random.Random(1))
    stage.clock.turn_to(now)
    stage.tick()
    stage.kit.submit(HOSTILE, **asked)
    filled = stage.claim(SCRIPT, 1)[0]
    fill_in(stage, filled, IMAGE)
    world = World(url, HOSTILE, claim.run_id, list(files), [f"/runs/{filled.run_id}"])
    world.others += [f"/runs/{claim.run_id}/lines?q={SCRIPT}", f"/jobs?text={IMAGE}",
                     f"/runs?text={SCRIPT}&job={IMAGE}", f"/new/job?name={IMAGE}&when={SCRIPT}",
                     f"/nowhere/{SCRIPT}"]  # fmt: skip
    stage.kit.close()
    return world


def _hostile_table() -> bytes:
    import polars

    written = io.BytesIO()
    polars.DataFrame({SCRIPT: [IMAGE, LINK], "turned": [TURNED, TERMINAL]}).write_parquet(written)
    return written.getvalue()


def _hostile_notebook() -> dict[str, Any]:
    shown = {"text/html": SCRIPT, "image/svg+xml": SCRIPT, "text/plain": IMAGE}
    return {"cells": [
        {"cell_type": "markdown", "source": f"[click]({LINK}) {SCRIPT}"},
        {"cell_type": "code", "source": SCRIPT, "outputs": [
            {"output_type": "display_data", "data": shown}]},
    ]}  # fmt: skip
