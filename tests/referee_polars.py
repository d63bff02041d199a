"""The questions of the reports as polars expressions over the rows of the plain tables."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import polars as pl
import sqlalchemy as sa

from jobkit import models
from jobkit.analytics.shelf import Stream
from jobkit.analytics.window import micros
from jobkit.kit import Kit
from tests import figures

FAULTS = ("FAILURE", "ERROR", "TIMEOUT", "LOST")
SECOND = 1_000_000


@dataclass(frozen=True)
class Asked:
    """The window that is asked about, and its buckets."""

    start: datetime
    end: datetime
    now: datetime
    every: str = "1d"
    zone: str = "UTC"
    before: timedelta = timedelta(days=7)

    def edges(self, every: str) -> list[datetime]:
        """Return where the buckets begin."""
        return figures.edges(figures.Facts({}, [], [], {}, self.start, self.end), every, self.zone)

    def buckets(self, every: str) -> list[tuple[int, int, int]]:
        """Return each bucket: begin, end, and the local hour in which it begins."""
        starts = self.edges(every)
        ends = [*starts[1:], self.end + timedelta(days=2)]
        zone = ZoneInfo(self.zone)
        return [
            (micros(low), micros(high), low.astimezone(zone).hour)
            for low, high in zip(starts, ends, strict=True)
        ]


class Tables:
    """The rows of a database as frames; instants are whole microseconds since 1970."""

    def __init__(self, kit: Kit) -> None:
        with kit.database.read() as connection:
            self.a = self._frame(connection, ATTEMPTS, A_SCHEMA)
            self.r = self._frame(connection, RUNS, R_SCHEMA)
            self.w = self._frame(connection, WORKERS, W_SCHEMA)
            tagged = connection.execute(TAGGED).all()
        pairs = [(job, tag) for job, tags in tagged for tag in tags or ()]
        self.g = pl.DataFrame(pairs, schema={"job_id": _N, "tag": _T}, orient="row")
        self.engine = duckdb.connect()
        for name in "arwg":
            self.engine.register("given", Stream(getattr(self, name)))
            self.engine.execute(f"CREATE TABLE {name}_rows AS SELECT * FROM given")

    def by_tag(self) -> Tables:
        """Return the rows once for each tag of their job, and those without any once."""
        made = copy.copy(self)
        made.a, made.r = (rows.join(self.g, on="job_id", how="left") for rows in (self.a, self.r))
        return made

    @staticmethod
    def _frame(connection: Any, asked: Any, schema: dict[str, Any]) -> pl.DataFrame:
        rows = [
            tuple(micros(item) if isinstance(item, datetime) else item for item in row)
            for row in connection.execute(asked)
        ]
        return pl.DataFrame(rows, schema=schema, orient="row")


_t, _j, _r = models.attempts.c, models.jobs.c, models.runs.c
ATTEMPTS = sa.select(
    _t.id, _t.job_id, _j.name, _t.dispatch_id, _t.attempt, _t.status, _t.worker_id, _t.queued_at,
    _t.claimed_at, _t.started_at, _t.finished_at, _t.exit_code, _t.signal, _t.error_message,
    _t.log_output, _j.script_path, _r.queue,
).select_from(
    models.attempts.join(models.jobs, _j.id == _t.job_id).outerjoin(
        models.runs, _r.id == _t.dispatch_id
    )
)  # fmt: skip
RUNS = sa.select(
    _r.id, _r.job_id, _j.name, _r.status, _r.trigger, _r.queue, _r.worker_id, _r.scheduled_for,
    _r.claimed_at, _r.completed_at, _r.attempt, _r.retry_count, _r.lost_count,
).select_from(models.runs.join(models.jobs, _j.id == _r.job_id))  # fmt: skip
TAGGED = sa.select(_j.id, _j.tags)
WORKERS = sa.select(models.workers.c.worker_id, models.workers.c.slots)
_N, _T = pl.Int64, pl.String
A_SCHEMA = {
    "id": _N, "job_id": _N, "job": _T, "run_id": _N, "attempt": _N, "status": _T, "worker": _T,
    "queued": _N, "claimed": _N, "started": _N, "finished": _N, "exit_code": _N, "signal": _N,
    "error": _T, "log": _T, "script": _T, "queue": _T,
}  # fmt: skip
R_SCHEMA = {
    "id": _N, "job_id": _N, "job": _T, "status": _T, "kind": _T, "queue": _T, "worker": _T,
    "slot": _N, "claimed": _N, "completed": _N, "tries": _N, "retries": _N, "lost": _N,
}  # fmt: skip
W_SCHEMA = {"worker": _T, "slots": _N}


def within(moment: str, at: Asked) -> pl.Expr:
    return (pl.col(moment) >= micros(at.start)) & (pl.col(moment) < micros(at.end))


def bucketed(frame: pl.DataFrame, moment: str, every: str, at: Asked) -> pl.DataFrame:
    """Add the beginning of each row's bucket, and its local hour."""
    made = pl.DataFrame(at.buckets(every), schema=["bucket", "high", "hour"], orient="row")
    found = frame.sort(moment).join_asof(made, left_on=moment, right_on="bucket")
    return found.drop("high")


def summed(frame: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    us = pl.col("us")
    return frame.group_by(keys).agg(
        attempts=pl.len(), mean=us.mean() / SECOND, max=us.max() / SECOND,
        **{f"p{n}": us.quantile(n / 100, "linear") / SECOND for n in (50, 95, 99)},
    )  # fmt: skip


def took(t: Tables, at: Asked, *keys: str) -> pl.DataFrame:
    fine = t.a.filter(within("finished", at), status="SUCCESS").drop_nulls("started")
    fine = fine.with_columns(us=pl.col("finished") - pl.col("started"))
    return summed(bucketed(fine, "finished", at.every, at), keys)


def waited(t: Tables, at: Asked, every: str, *keys: str) -> pl.DataFrame:
    taken = t.a.filter(within("claimed", at)).drop_nulls("queued")
    taken = taken.with_columns(us=(pl.col("claimed") - pl.col("queued")).clip(0))
    return summed(bucketed(taken, "claimed", every, at), keys)


def ended(t: Tables, at: Asked, every: str, *keys: str) -> pl.DataFrame:
    done = bucketed(t.r.filter(within("completed", at)), "completed", every, at)
    said = pl.col("status")
    return done.group_by(keys).agg(
        ended=pl.len(), completed=(said == "COMPLETED").sum(),
        cancelled=(said == "CANCELLED").sum(),
        failed=said.is_in(["FAILED", "TIMEOUT"]).sum(),
        not_run=said.is_in(["MISSED", "SKIPPED"]).sum(),
    )  # fmt: skip


def rates(t: Tables, at: Asked, *keys: str) -> pl.DataFrame:
    counted = t.a.filter(~pl.col("status").is_in(["RELEASED", "CANCELLED"]))
    counted = counted.with_columns(moment=pl.coalesce("finished", "claimed"))
    counted = bucketed(counted.filter(within("moment", at)), "moment", at.every, at)
    bad = pl.col("status").is_in(FAULTS)
    return counted.group_by(keys).agg(attempts=pl.len(), failures=bad.sum(), rate=bad.mean())


def signature(row: dict[str, Any]) -> str:
    """Say how an attempt failed, in plain Python, line by line."""
    own, place, exception, inside = row["script"].rpartition("/")[2], None, "", False
    other = None
    for line in (row["log"] or "").split("\n"):
        if match := re.match(r'.*File "(?:.*[/\\])?(.+)", line \d+, in (.+)', line):
            exception, inside = "", True
            spot = f"{match[1]}, {match[2]}"
            if match[1] == own:
                place = spot
            elif "site-packages" not in line and "/lib/python" not in line:
                other = spot
        elif inside and not exception and (match := re.match(r"[A-Za-z_][\w.]*", line)):
            exception = match[0]
    spot = place or other
    if exception:
        return f"{exception} in {spot}" if spot else exception
    if row["status"] in ("LOST", "TIMEOUT"):
        return {"LOST": "worker lost", "TIMEOUT": "timeout"}[row["status"]]
    if row["signal"] is not None:
        return f"signal {row['signal']}"
    if row["status"] == "FAILURE" and row["exit_code"] is not None:
        return f"exit code {row['exit_code']}"
    return re.sub(r"\d+", "N", row["error"] or "") or row["status"].lower()


def signatures(t: Tables, at: Asked) -> pl.DataFrame:
    bad = t.a.filter(pl.col("status").is_in(FAULTS))
    bad = bad.with_columns(moment=pl.coalesce("finished", "claimed")).filter(within("moment", at))
    said = pl.Series("signature", [signature(row) for row in bad.to_dicts()], dtype=pl.String)
    return (
        bad.with_columns(said)
        .group_by("job", "signature")
        .agg(failures=pl.len(), first_at=pl.col("moment").min(), last_at=pl.col("moment").max())
    )


def cut(t: Tables, at: Asked) -> pl.DataFrame:
    """Return what was held of each worker, a bucket at a time."""
    low, upto = micros(at.start), micros(min(at.end, at.now))
    done = t.a.select("worker", s="claimed", e=pl.coalesce("finished", "started", "claimed"))
    open_ = t.r.filter(status="IN_PROGRESS").select("worker", s="claimed", e=pl.lit(upto))
    spans = pl.concat([done, open_]).with_columns(e=pl.max_horizontal("s", "e"))
    s, e = pl.col("s"), pl.col("e")
    spans = spans.filter(s < upto, (e > low) | (s >= low))
    spans = spans.with_columns(s=s.clip(low), e=e.clip(upper_bound=upto))
    made = pl.DataFrame(at.buckets(at.every), schema=["bucket", "high", "hour"], orient="row")
    made = made.with_columns(
        part=pl.col("high").clip(upper_bound=upto) - pl.col("bucket").clip(low)
    )
    crossed = spans.join(made, how="cross").filter(
        s < pl.col("high"), (e > pl.col("bucket")) | (s >= pl.col("bucket"))
    )
    return crossed.with_columns(
        s=pl.max_horizontal("s", "bucket"), e=pl.min_horizontal("e", "high")
    )


def utilised(t: Tables, at: Asked, *more: str) -> pl.DataFrame:
    pieces = cut(t, at).sort("bucket", "worker", "s", "e")
    reached = pl.col("e").cum_max().shift(1).over("bucket", "worker")
    new = (pl.col("e") - pl.max_horizontal("s", reached.fill_null(pl.col("s")))).clip(0)
    each = (
        pieces.with_columns(new=new)
        .group_by("bucket", "worker", "part")
        .agg(busy=pl.col("new").sum(), work=(pl.col("e") - pl.col("s")).sum())
    )
    each = each.join(t.w, on="worker", how="left").with_columns(pl.col("slots").fill_null(1))
    busy, work, part = pl.col("busy").sum(), pl.col("work").sum(), pl.col("part").first()
    return each.group_by("bucket", *more).agg(
        workers=pl.len(), slots=pl.col("slots").sum(), busy_seconds=busy / SECOND,
        work_seconds=work / SECOND, busy=busy / pl.len() / part,
        utilisation=work / pl.col("slots").sum() / part,
    )  # fmt: skip


def peaks(t: Tables, at: Asked) -> pl.DataFrame:
    pieces = cut(t, at)
    begins = pieces.select("bucket", at="s", step=pl.lit(1))
    ends = pieces.select("bucket", at="e", step=pl.lit(-1))
    turns = pl.concat([begins, ends]).sort("bucket", "at", "step")
    levels = turns.with_columns(level=pl.col("step").cum_sum().over("bucket"))
    most = levels.group_by("bucket").agg(peak=pl.col("level").max())
    work = pieces.group_by("bucket").agg(
        mean=(pl.col("e") - pl.col("s")).sum() / pl.col("part").first()
    )
    return most.join(work, on="bucket")


def kept(t: Tables, at: Asked, after: int) -> pl.DataFrame:
    first = t.a.filter(attempt=1).select(id="run_id", first="claimed")
    slots = t.r.filter(within("slot", at), kind="schedule").join(first, on="id", how="left")
    own = pl.when(pl.col("tries") <= 1).then("claimed")
    slots = slots.with_columns(us=pl.coalesce("first", own) - pl.col("slot"))
    us, none = pl.col("us"), pl.col("us").is_null()
    return slots.group_by("job").agg(
        slots=pl.len(), on_time=(us <= after).sum(), late=(us > after).sum(),
        missed=(none & (pl.col("status") == "MISSED")).sum(),
        skipped=(none & (pl.col("status") == "SKIPPED")).sum(),
        waiting=(none & (pl.col("status") == "PENDING")).sum(),
        p50=us.clip(0).quantile(0.5, "linear") / SECOND,
        p95=us.clip(0).quantile(0.95, "linear") / SECOND, max=us.clip(0).max() / SECOND,
    )  # fmt: skip


def retried(t: Tables, at: Asked) -> pl.DataFrame:
    done = t.r.filter(within("completed", at), pl.col("tries") > 0)
    again = pl.col("retries") + pl.col("lost") > 0
    return done.group_by("job").agg(
        runs=pl.len(), attempts=pl.col("tries").sum(), retried=again.sum(), share=again.mean(),
        recovered=(again & (pl.col("status") == "COMPLETED")).sum(),
        gave_up=(again & pl.col("status").is_in(["FAILED", "TIMEOUT"])).sum(),
        lost=pl.col("lost").sum(),
    )  # fmt: skip


def flaky(t: Tables, at: Asked) -> pl.DataFrame:
    done = t.r.filter(
        within("completed", at), pl.col("status").is_in(["COMPLETED", "FAILED", "TIMEOUT"])
    )
    done = done.sort("completed", "id").with_columns(
        fine=pl.col("status") == "COMPLETED", again=pl.col("retries") + pl.col("lost") > 0
    )
    turned = (pl.col("fine") != pl.col("fine").shift(1).over("job_id")).fill_null(value=False)
    recovered = pl.col("fine") & pl.col("again")
    done = done.with_columns(turned=turned, recovered=recovered)
    found = done.group_by("job").agg(
        runs=pl.len(), failed=(~pl.col("fine")).sum(), recovered=pl.col("recovered").sum(),
        turns=pl.col("turned").sum(), flaky=(pl.col("turned") | pl.col("recovered")).sum(),
    )  # fmt: skip
    return found.filter(pl.col("flaky") > 0)


def slow(t: Tables, at: Asked, n: int) -> pl.DataFrame:
    all_ = t.a.filter(within("finished", at)).drop_nulls("started")
    all_ = all_.with_columns(us=pl.col("finished") - pl.col("started"))
    usual = (
        all_.filter(status="SUCCESS")
        .group_by("job_id")
        .agg(usual_seconds=pl.col("us").median() / SECOND)
    )
    first = all_.sort("us", "id", descending=[True, False]).head(n)
    return first.join(usual, on="job_id", how="left").with_columns(
        seconds=pl.col("us") / SECOND, started_at="started"
    )


def compared(t: Tables, at: Asked) -> pl.DataFrame:
    def figures_of(start: datetime, end: datetime) -> pl.DataFrame:
        held = (pl.col("finished") >= micros(start)) & (pl.col("finished") < micros(end))
        bad = pl.col("status").is_in(FAULTS)
        us = pl.col("finished") - pl.col("started")
        us = us.filter(pl.col("status") == "SUCCESS").drop_nulls()
        wait = (pl.col("claimed") - pl.col("queued")).clip(0).drop_nulls()
        return t.a.filter(held).group_by("job").agg(
            attempts=pl.len(), failures=bad.sum(), rate=bad.mean(),
            p50=us.quantile(0.5, "linear") / SECOND, p95=us.quantile(0.95, "linear") / SECOND,
            wait_p95=wait.quantile(0.95, "linear") / SECOND,
        )  # fmt: skip

    new = figures_of(at.start, at.end)
    old = figures_of(at.start - at.before, at.start)
    both = new.join(old, on="job", how="full", coalesce=True, suffix="_before")
    return both.with_columns(
        pl.col("attempts", "failures", "attempts_before", "failures_before").fill_null(0)
    )
