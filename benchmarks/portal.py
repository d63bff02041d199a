"""What the portal costs: polls, pages, many viewers, a first load and memory.

    uv run python -m benchmarks.portal --on sqlite
    uv run python -m benchmarks.portal --on postgresql --jobs 1000 --runs 100000

The portal runs as its own program, with users who sign in; it is asked over connections that stay
open. The baseline is an empty answer of Flask through the same server, in the same run. Pages and
filters are asked for again and again with a commit before each, as on a database that works;
`first` is the very first answer. Viewers each ask for their page every 2 s and for the counts every
4 s, once of a database at rest and once while 5 transactions are committed a second.
"""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
import re
import socket
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import psutil
import sqlalchemy as sa

import jobkit
from benchmarks.stand import chosen, database, opened, running
from jobkit.db import copy_rows, ensure_partitions, without_indexes
from jobkit.kit import Kit
from jobkit.models import attempts, jobs, runs, versions, workers

WORKERS, SESSIONS, POLLS, TIMES, FILTERED = 50, 16, 400, 40, 12
FEWEST, LONGEST_SECONDS = 5, 8
"""How often a slow page is asked for at least, and for how long."""
COMMITS_A_SECOND = 5
PASSWORD = "a long enough one"
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
RUN = (
    "id",
    "job_id",
    "status",
    "created_at",
    "claimed_at",
    "completed_at",
    "worker_id",
    "error_message",
    "scheduled_for",
    "trigger",
    "available_at",
    "attempt",
    "params",
    "job_version",
    "queue",
    "retry_count",
    "lost_count",
)
ATTEMPT = (
    "job_id",
    "dispatch_id",
    "attempt",
    "status",
    "run_time",
    "queued_at",
    "claimed_at",
    "started_at",
    "finished_at",
    "scheduled_for",
    "log_output",
    "worker_id",
    "exit_code",
)
BARE = """
import sys
from flask import Flask
from portal.server import serve
app = Flask("bare")
app.add_url_rule("/", "bare", lambda: ("", 204))
serve(app, "127.0.0.1", int(sys.argv[1])).run()
"""
PAGES = {
    "overview": "/",
    "jobs": "/jobs",
    "jobs, the last page": "/jobs?at={last}",
    "jobs, by text": "/jobs?text=job+0099",
    "jobs, by tag": "/jobs?tag=t7",
    "jobs, by next slot": "/jobs?sort=next",
    "jobs that failed last": "/jobs?state=FAILED",
    "a job": "/jobs/job%2000007",
    "runs": "/runs",
    "a run": "/runs/{run}",
    "workers": "/workers",
    "coverage, 7 days": "/coverage",
    "coverage, a day": "/coverage?window=1d",
    "analytics, 7 days": "/analytics",
    "throughput": "/analytics/throughput?window=1d",
}
FILTERS: dict[str, dict[str, str]] = {
    "status": {"status": "FAILED"},
    "status that none has": {"status": "TIMEOUT"},
    "job": {"job": "job 00007"},
    "tag": {"tag": "t7"},
    "worker": {"worker": "w07"},
    "trigger": {"trigger": "manual"},
    "dates": {"since": "3d", "until": "2d"},
    "parameter": {"param": "region=7"},
    "text of the error": {"text": "no such table"},
    "text that none has": {"text": "never said"},
    "job and status": {"job": "job 00007", "status": "FAILED"},
}


def fill(kit: Kit, many: int, total: int) -> int:
    """Write hourly jobs, workers, and their last runs; returns the id of one run that failed."""
    now = kit.clock.now()
    kit.add_job("template", "any.py", cron="0 * * * *", retries=0)
    with kit.database.write(takes_long=True) as connection:
        ids = write_jobs(connection, many, now)
        connection.execute(workers.insert(), [worker(number, now) for number in range(WORKERS)])
    hours = max(total // many, 1)
    start = (now - hours * HOUR - HOUR).replace(minute=0, second=0, microsecond=0)
    with kit.database.filling(), kit.database.write(takes_long=True) as connection:
        for week in range(hours // 168 + 2):
            ensure_partitions(connection, start + week * 168 * HOUR)
        with without_indexes(connection, runs, attempts):
            for hour in range(hours):
                made = list(
                    lives(
                        ids,
                        start + hour * HOUR,
                        hour,
                        now,
                    )
                )
                copy_rows(connection, runs, RUN, [run for run, _ in made])
                copy_rows(connection, attempts, ATTEMPT, [tried for _, tried in made if tried])
    with kit.database.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(sa.text("ANALYZE"))
    return int(kit.runs(status="failed", limit=1)[0].id)


def write_jobs(connection: Any, many: int, now: datetime) -> list[int]:
    """Write as many jobs as are wanted, like the first one; their ids."""
    job = dict(connection.execute(sa.select(jobs)).one()._mapping)
    version = dict(connection.execute(sa.select(versions)).one()._mapping)
    began = now - timedelta(days=60)
    listed = [
        job
        | {
            "id": job["id"] + number,
            "name": f"job {number:05d}",
            "cron": f"{number % 60} * * * *",
            "tags": [f"t{number % 40}", "all"],
            "queue": ("default", "gpu")[number % 10 == 0],
            "is_active": number % 50 != 0,
            "slots_until": now,
            "next_run": now + HOUR + number % 60 * MINUTE,
            "created_at": began,
        }
        for number in range(many)
    ]
    connection.execute(versions.delete())
    connection.execute(jobs.delete())
    connection.execute(jobs.insert(), listed)
    made = [
        {
            **{name: value for name, value in version.items() if name != "id"},
            "job_id": one["id"],
            "changed_at": began,
            "definition": version["definition"] | {"name": one["name"], "cron": one["cron"]},
        }
        for one in listed
    ]
    connection.execute(versions.insert(), made)
    return [one["id"] for one in listed]


def worker(number: int, now: datetime) -> dict[str, Any]:
    return {
        "worker_id": f"w{number:02d}",
        "hostname": f"host-{number:02d}",
        "platform": "Linux",
        "started_at": now - HOUR,
        "last_heartbeat": now,
        "status": "BUSY" if number % 2 else "IDLE",
        "queues": "default",
        "slots": 4,
        "process_id": 1000 + number,
        "version": jobkit.__version__,
    }


def lives(ids: list[int], hour: datetime, nth: int, now: datetime) -> Iterator[tuple[Any, Any]]:
    """Yield the rows of each job's run in an hour, and of its attempt."""
    written = [(hour + minute * MINUTE) for minute in range(62)]
    for number, job_id in enumerate(ids):
        run_id, slot = nth * len(ids) + number + 1, written[number % 60]
        status, error, ended = "COMPLETED", None, slot + timedelta(seconds=1 + number % 50)
        if (run_id * 7919) % 53 == 0:
            status, error = "FAILED", "exit code 1: no such table: sales"
        elif (run_id * 7919) % 211 == 0:
            status = "MISSED"
        has_run = status != "MISSED"
        row = (
            run_id, job_id, status, iso(slot), iso(slot) if has_run else None, iso(ended),
            f"w{number % WORKERS:02d}" if has_run else None, error, iso(slot),
            "schedule", iso(slot), int(has_run),
            json.dumps({"region": number % 100}), 1, "default", 0, 0,
        )  # fmt: skip
        tried = (
            job_id, run_id, 1, "SUCCESS" if status == "COMPLETED" else "FAILURE",
            iso(slot), iso(slot), iso(slot), iso(slot), iso(ended), iso(slot), error or "done",
            f"w{number % WORKERS:02d}", int(status != "COMPLETED"),
        )  # fmt: skip
        yield row, tried if has_run else None


def iso(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M:%S}.{instant.microsecond:06d}"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Client:
    """A connection to a portal that stays open, and the process behind it."""

    def __init__(self, port: int, process: int, cookie: str = "") -> None:
        self.port, self.cookie = port, cookie
        self.process = psutil.Process(process)
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def get(self, path: str, **headers: str) -> tuple[float, Any, bytes]:
        """Ask for an address; returns the milliseconds, the answer and its body."""
        shown = {"Cookie": self.cookie, "Accept-Encoding": "gzip"}
        shown |= {name.replace("_", "-"): value for name, value in headers.items()}
        began = time.perf_counter()
        self._connection.request("GET", path, headers=shown)
        answer = self._connection.getresponse()
        body = answer.read()
        return (time.perf_counter() - began) * 1000, answer, body

    def cpu(self) -> float:
        """Seconds of processor time that the server took so far."""
        times = self.process.cpu_times()
        return float(times.user + times.system)


@contextmanager
def portal(url: str, folder: Path, cookie: str) -> Iterator[Client]:
    """Run a portal."""
    port = free_port()
    command = [sys.executable, "-m", "jobkit", "portal", "--port", str(port)]
    with running(command, folder, JOBKIT_DB_URL=url, JOBKIT_CACHE_DIR=str(folder)) as process:
        yield ready(Client(port, process, f"jobkit-{port}={cookie}"))


@contextmanager
def bare(folder: Path) -> Iterator[Client]:
    """Run the same server with an empty answer."""
    port = free_port()
    root = str(Path(__file__).parent.parent)
    with running([sys.executable, "-c", BARE, str(port)], folder, PYTHONPATH=root) as process:
        yield ready(Client(port, process))


def ready(client: Client) -> Client:
    """Wait until a server listens."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", client.port), 1).close()
            return client
        except OSError:
            time.sleep(0.1)
    raise TimeoutError("the portal does not listen")


def p95(taken: list[float]) -> float:
    return statistics.quantiles(taken, n=20, method="inclusive")[-1]


def said(name: str, words: str) -> None:
    print(f"{name:34} {words}", flush=True)


def time_polls(name: str, client: Client, path: str, **headers: str) -> None:
    """Print what polls that find nothing new cost: wall, the server's processor time, bytes."""
    answer = client.get(path, **headers)[1]
    taken, began = [], client.cpu()
    for _ in range(POLLS):
        took, answer, body = client.get(path, **headers)
        if "X_Have" in headers:  # twice a minute the clock alone makes it another state
            headers["X_Have"] = answer.headers["X-Have"]
        taken.append(took)
        assert answer.status in (200, 204), answer.status
    spent = (client.cpu() - began) / POLLS * 1000
    size = len(f"HTTP/1.1 {answer.status} {answer.reason}\r\n{answer.headers}".encode()) + len(body)
    said(
        name,
        f"p50 {statistics.median(taken):.2f}, p95 {p95(taken):.2f} ms; {spent:.2f} ms of CPU; "
        f"{size} bytes; {'stays open' if not answer.will_close else 'is closed'}",
    )


def commit(kit: Kit) -> None:
    """Let a worker beat, as any of fifty does five times a second."""
    now = kit.clock.now()
    beats = workers.update().where(workers.c.worker_id == f"w{now.microsecond % WORKERS:02d}")
    with kit.database.write(lazily=True) as connection:
        connection.execute(beats.values(last_heartbeat=now))


def time_page(kit: Kit, client: Client, name: str, path: str, times: int) -> None:
    """Print how long a page takes: the first answer, and those after a commit each."""
    taken: list[float] = []
    spent = 0.0
    until = time.monotonic() + LONGEST_SECONDS
    while len(taken) <= FEWEST or (len(taken) <= times and time.monotonic() < until):
        commit(kit)
        began = client.cpu()
        took, answer, body = client.get(path)
        spent += client.cpu() - began
        assert answer.status == 200, f"{path}: {answer.status}"
        taken.append(took)
    first, *later = taken
    said(
        name,
        f"p50 {statistics.median(later):6.1f}, p95 {p95(later):6.1f}, first {first:6.0f} ms; "
        f"{spent / len(taken) * 1000:.0f} ms of CPU; "
        f"{len(body) / 1024:.1f} KB",
    )


def load_first(client: Client, path: str) -> None:
    """Print what a browser fetches for its first page."""
    _, answer, body = client.get(path)
    text = (
        gzip.decompress(body) if answer.headers["Content-Encoding"] == "gzip" else body
    ).decode()
    found = re.findall(r'<(?:link|script)[^>]*(?:href|src)="(/[^"]*)"', text)
    sizes = [len(body)] + [len(client.get(path)[2]) for path in found]
    said("first load, bar 60 KB", f"{sum(sizes) / 1024:.1f} KB in {len(sizes)} requests")


class Viewers:
    """Browsers that look on: what their polls cost the server, and how long they wait."""

    def __init__(self, client: Client, cookies: list[str], count: int) -> None:
        self._client, self._cookies, self._count = client, cookies, count
        self._paths = [PAGES[name] for name in ("overview", "jobs", "runs", "workers")]
        self._have: list[dict[str, str]] = [{} for _ in range(count)]
        self.taken: list[float] = []
        self.changed = self.received = 0

    def watch(self, name: str, seconds: float, kit: Kit | None = None) -> None:
        """Let them look on for a while; `kit`: commit meanwhile."""
        asyncio.run(self._watch(3, kit))
        self.taken, self.changed, self.received = [], 0, 0
        began, spent = time.monotonic(), self._client.cpu()
        asyncio.run(self._watch(seconds, kit))
        spent, lasted = self._client.cpu() - spent, time.monotonic() - began
        said(
            name,
            f"{spent / lasted:.1%} of a core; {len(self.taken) / lasted:.0f} polls a second, "
            f"p50 {statistics.median(self.taken):.1f}, p95 {p95(self.taken):.1f} ms; "
            f"{self.changed / len(self.taken):.0%} brought something, "
            f"{self.received / len(self.taken):.0f} bytes each",
        )

    async def _watch(self, seconds: float, kit: Kit | None) -> None:
        until = time.monotonic() + seconds
        looks = [self._look(number, until) for number in range(self._count)]
        await asyncio.gather(*looks, *([self._commit(kit, until)] if kit else []))

    async def _commit(self, kit: Kit, until: float) -> None:
        while time.monotonic() < until:
            await asyncio.to_thread(commit, kit)
            await asyncio.sleep(1 / COMMITS_A_SECOND)

    async def _look(self, number: int, until: float) -> None:
        cookie = f"jobkit-{self._client.port}={self._cookies[number % len(self._cookies)]}"
        path, have = self._paths[number % len(self._paths)], self._have[number]
        await asyncio.sleep(2 * number / self._count)
        turn, line = 0, None
        while time.monotonic() < until:
            began = time.monotonic()
            for asked in (path, "/counts")[: 1 + turn % 2]:
                line = await self._poll(line, asked, cookie, have)
            turn += 1
            await asyncio.sleep(max(0, began + 2 - time.monotonic()))
        if line is not None:
            line[1].close()

    async def _poll(self, line: Any, path: str, cookie: str, have: dict[str, str]) -> Any:
        """Ask once; returns the connection, None when it was closed."""
        began = time.monotonic()
        reader, writer = line or await asyncio.open_connection("127.0.0.1", self._client.port)
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._client.port}\r\nHX-Request: true\r\n"
            f"Accept-Encoding: gzip\r\nCookie: {cookie}\r\n"
            f"X-Have: {have.get(path, '-')}\r\n\r\n".encode()
        )
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        told = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        size = int(told.get("content-length", 0))
        await reader.readexactly(size)
        have[path] = told["x-have"]
        self.taken.append((time.monotonic() - began) * 1000)
        self.changed += " 200 " in head
        self.received += len(head) + size
        if told.get("connection") == "close":
            writer.close()
            return None
        return reader, writer


def main() -> None:
    """Measure."""
    given = chosen(__doc__, jobs=10_000, runs=1_000_000, viewers=200, seconds=20)
    with database(given.on) as (url, folder), opened(url, folder) as kit:
        began = time.monotonic()
        failed = fill(kit, given.jobs, given.runs)
        kit.users.add("vera", PASSWORD, "operator")
        cookies = [kit.users.sign_in("vera", PASSWORD) for _ in range(SESSIONS)]
        said(
            "made", f"{given.jobs:,} jobs, {given.runs:,} runs in {time.monotonic() - began:.0f} s"
        )
        with bare(folder) as client:
            time_polls("baseline: an empty answer", client, "/")
        with portal(url, folder, cookies[0]) as client:
            measure(kit, client, Viewers(client, cookies, given.viewers), given, failed)


def measure(kit: Kit, client: Client, viewers: Viewers, given: Any, failed: int) -> None:
    """Print all there is to know of a portal."""
    last = max(given.jobs - 50, 0)
    for name, path in PAGES.items():
        time_page(kit, client, name, path.format(last=last, run=failed), TIMES)
    for name, asked in FILTERS.items():
        path = f"/runs?{urlencode(asked, quote_via=quote)}"
        time_page(kit, client, f"runs, by {name}", path, FILTERED)
    for path in ("/", "/jobs", "/runs", "/counts"):
        have = client.get(path, HX_Request="true", X_Have="-")[1].headers["X-Have"]
        time_polls(f"unchanged poll of {path}", client, path, HX_Request="true", X_Have=have)
    load_first(client, "/")
    viewers.watch("viewers, a database at rest", given.seconds)
    viewers.watch("viewers, 5 commits a second", given.seconds, kit)
    said("memory (PSS)", f"{client.process.memory_full_info().pss / 2**20:.0f} MB")


if __name__ == "__main__":
    main()
