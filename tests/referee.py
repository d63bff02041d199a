"""The questions of the reports once more: as SQL for three engines, and as polars expressions.

Nothing here knows a view or a rule of jobkit: the SQL reads the plain tables (or frames of their
rows), the buckets of a zone come from walking its calendar, and hard parts are solved another
way: overlaps by sweeping over begins and ends, quantiles by weights of ranks, tracebacks line by
line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import polars as pl
import sqlalchemy as sa

from jobkit import models
from jobkit.analytics.log import Log
from jobkit.analytics.report import Report
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


# The plain tables, with instants as whole microseconds

SQLITE_US = "(CAST(strftime('%s', {0}) AS INTEGER) * 1000000 + CAST(substr({0}, 21, 6) AS INTEGER))"
POSTGRES_US = "CAST(extract(epoch FROM {0}) * 1000000 AS BIGINT)"

TABLES = """
a AS MATERIALIZED (
    SELECT t.id, t.job_id, j.name AS job, t.dispatch_id AS run_id, t.attempt, t.status,
        t.worker_id AS worker, {queued_at} AS queued, {claimed_at} AS claimed,
        {started_at} AS started, {finished_at} AS finished, t.exit_code, t.signal,
        t.error_message AS error, t.log_output AS log, j.script_path AS script, r.queue
    FROM job_execution_logs t JOIN scheduled_jobs j ON j.id = t.job_id
    LEFT JOIN job_dispatch r ON r.id = t.dispatch_id
),
r AS MATERIALIZED (
    SELECT t.id, t.job_id, j.name AS job, t.status, t.trigger AS kind, t.queue,
        t.worker_id AS worker, {scheduled_for} AS slot, {claimed_at} AS claimed,
        {completed_at} AS completed, t.attempt AS tries, t.retry_count AS retries,
        t.lost_count AS lost
    FROM job_dispatch t JOIN scheduled_jobs j ON j.id = t.job_id
),
w AS (SELECT worker_id AS worker, slots FROM worker_registration)"""

LINES = {
    "sqlite": """
split(id, n, line, rest) AS (
    SELECT id, 0, '', log || char(10) FROM failed WHERE log IS NOT NULL
    UNION ALL
    SELECT id, n + 1, substr(rest, 1, instr(rest, char(10)) - 1),
        substr(rest, instr(rest, char(10)) + 1)
    FROM split WHERE rest <> ''
),
lines AS (SELECT id, n, line FROM split WHERE n > 0)""",
    "postgresql": """
lines AS (
    SELECT failed.id, t.n, t.line FROM failed,
        regexp_split_to_table(failed.log, chr(10)) WITH ORDINALITY AS t(line, n)
)""",
    "duckdb": """
lines AS (
    SELECT id, unnest(range(1, len(parts) + 1)) AS n, unnest(parts) AS line
    FROM (SELECT id, string_split(log, chr(10)) AS parts FROM failed WHERE log IS NOT NULL)
)""",
}


class Tables:
    """The rows of a database as frames; instants are whole microseconds since 1970."""

    def __init__(self, kit: Kit) -> None:
        with kit.database.read() as connection:
            self.a = self._frame(connection, ATTEMPTS, A_SCHEMA)
            self.r = self._frame(connection, RUNS, R_SCHEMA)
            self.w = self._frame(connection, WORKERS, W_SCHEMA)
        self.engine = duckdb.connect()
        for name, frame in (("a_rows", self.a), ("r_rows", self.r), ("w_rows", self.w)):
            self.engine.register("given", Stream(frame))
            self.engine.execute(f"CREATE TABLE {name} AS SELECT * FROM given")

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


# SQL


def quantile(percent: int, us: str = "us") -> str:
    """Write a quantile of ranked rows: the two nearest count by how near they are."""
    away = f"abs(100 * n - most * {percent})"
    weighed = f"sum(CASE WHEN {away} < 100 THEN {us} * (100 - {away}) ELSE 0 END)"
    return f"{weighed} / 100.0 / 1000000.0"


RANKED = """
    SELECT {keys}, us, row_number() OVER (PARTITION BY {keys} ORDER BY us) - 1 AS n,
        count(*) OVER (PARTITION BY {keys}) - 1 AS most
    FROM {source}"""
MEASURED = (
    "SELECT {keys}, count(*) AS attempts, sum(us) / 1000000.0 / count(*) AS mean, "
    f"{quantile(50)} AS p50, {quantile(95)} AS p95, {quantile(99)} AS p99, "
    "max(us) / 1000000.0 AS max FROM ({ranked}) x GROUP BY {keys}"
)


def measured(source: str, *keys: str) -> str:
    """Measure the `us` of a source, a group of keys at a time."""
    named = ", ".join(keys)
    return MEASURED.replace("{ranked}", RANKED).replace("{keys}", named).replace("{source}", source)


TOOK = """(
    SELECT a.*, b.low AS bucket, finished - started AS us FROM a
    JOIN b ON finished >= b.low AND finished < b.high
    WHERE status = 'SUCCESS' AND started IS NOT NULL AND finished >= {lo} AND finished < {hi}
) m"""
WAITED = """(
    SELECT a.*, b.low AS bucket, b.hour,
        CASE WHEN claimed > queued THEN claimed - queued ELSE 0 END AS us FROM a
    JOIN b ON claimed >= b.low AND claimed < b.high
    WHERE queued IS NOT NULL AND claimed >= {lo} AND claimed < {hi}
) m"""

ENDED = """
SELECT {keys}, count(*) AS ended,
    sum(CASE WHEN status = 'COMPLETED' THEN 1 ELSE 0 END) AS completed,
    sum(CASE WHEN status IN ('FAILED', 'TIMEOUT') THEN 1 ELSE 0 END) AS failed,
    sum(CASE WHEN status = 'CANCELLED' THEN 1 ELSE 0 END) AS cancelled,
    sum(CASE WHEN status IN ('MISSED', 'SKIPPED') THEN 1 ELSE 0 END) AS not_run
FROM (
    SELECT r.*, b.low AS bucket, b.hour FROM r
    JOIN b ON completed >= b.low AND completed < b.high
    WHERE completed >= {lo} AND completed < {hi}
) x GROUP BY {keys}"""

RATE = """
SELECT {keys}, count(*) AS attempts, sum(bad) AS failures, sum(bad) * 1.0 / count(*) AS rate FROM (
    SELECT x.*, b.low AS bucket FROM (
        SELECT a.*, coalesce(finished, claimed) AS moment,
            CASE WHEN status IN ('FAILURE', 'ERROR', 'TIMEOUT', 'LOST') THEN 1 ELSE 0 END AS bad
        FROM a WHERE status NOT IN ('RELEASED', 'CANCELLED')
    ) x JOIN b ON moment >= b.low AND moment < b.high WHERE moment >= {lo} AND moment < {hi}
) y GROUP BY {keys}"""

SIGNATURES = """
failed AS (
    SELECT a.*, coalesce(finished, claimed) AS moment,
        replace(script, rtrim(script, replace(script, '/', '')), '') AS own
    FROM a WHERE status IN ('FAILURE', 'ERROR', 'TIMEOUT', 'LOST')
        AND coalesce(finished, claimed) >= {lo} AND coalesce(finished, claimed) < {hi}
),
{lines},
frames AS (
    SELECT id, n, substr(line, {strpos}(line, 'File "') + 6,
            {strpos}(line, '", line ') - {strpos}(line, 'File "') - 6) AS path,
        substr(line, {strpos}(line, ', in ') + 5) AS place
    FROM lines WHERE {strpos}(line, 'File "') > 0 AND {strpos}(line, '", line ') > 0
        AND {strpos}(line, ', in ') > 0
),
ours AS (
    SELECT f.id, max(f.n) AS n FROM frames f JOIN failed x ON x.id = f.id
    WHERE {strpos}(f.path || '|', x.own || '|') > 0 GROUP BY f.id
),
theirs AS (
    SELECT id, max(n) AS n FROM frames
    WHERE {strpos}(path, 'site-packages') = 0 AND {strpos}(path, '/lib/python') = 0
        AND {strpos}(path, '<') = 0
    GROUP BY id
),
said AS (
    SELECT l.id, min(l.n) AS n FROM lines l JOIN (
        SELECT id, max(n) AS n FROM frames GROUP BY id
    ) f ON f.id = l.id AND l.n > f.n
    WHERE upper(substr(l.line, 1, 1)) <> lower(substr(l.line, 1, 1)) OR substr(l.line, 1, 1) = '_'
    GROUP BY l.id
),
named AS (
    SELECT x.*, substr(l.line, 1, {strpos}(l.line || ':', ':') - 1) AS exception,
        replace(p.path, rtrim(p.path, replace(p.path, '/', '')), '') || ', ' || p.place AS spot
    FROM failed x
    LEFT JOIN said s ON s.id = x.id LEFT JOIN lines l ON l.id = x.id AND l.n = s.n
    LEFT JOIN ours o ON o.id = x.id LEFT JOIN theirs t ON t.id = x.id
    LEFT JOIN frames p ON p.id = x.id AND p.n = coalesce(o.n, t.n)
)
SELECT job, signature, count(*) AS failures, min(moment) AS first_at, max(moment) AS last_at FROM (
    SELECT job, moment, CASE
        WHEN exception IS NOT NULL AND spot IS NOT NULL THEN exception || ' in ' || spot
        WHEN exception IS NOT NULL THEN exception
        WHEN status = 'LOST' THEN 'worker lost'
        WHEN status = 'TIMEOUT' THEN 'timeout'
        WHEN signal IS NOT NULL THEN 'signal ' || signal
        WHEN status = 'FAILURE' AND exit_code IS NOT NULL THEN 'exit code ' || exit_code
        WHEN error <> '' THEN {no_digits}
        ELSE lower(status) END AS signature
    FROM named
) x GROUP BY job, signature"""

PIECES = """
spans AS (
    SELECT id, worker, CASE WHEN s < {lo} THEN {lo} ELSE s END AS s,
        CASE WHEN e > {upto} THEN {upto} ELSE e END AS e
    FROM (
        SELECT id, worker, claimed AS s, CASE WHEN coalesce(finished, started, claimed) < claimed
            THEN claimed ELSE coalesce(finished, started, claimed) END AS e FROM a
        UNION ALL
        SELECT -id, worker, claimed,
            CASE WHEN claimed > {upto} THEN claimed ELSE {upto} END
        FROM r WHERE status = 'IN_PROGRESS'
    ) t WHERE s < {upto} AND (e > {lo} OR s >= {lo})
),
cut AS (
    SELECT b.low AS bucket, id, worker, CASE WHEN s < b.low THEN b.low ELSE s END AS s,
        CASE WHEN e > b.high THEN b.high ELSE e END AS e
    FROM spans JOIN b ON s < b.high AND (e > b.low OR s >= b.low)
),
turns AS (
    SELECT bucket, worker, id, s AS moment, 1 AS step FROM cut
    UNION ALL SELECT bucket, worker, id, e, -1 FROM cut
)"""

# Between two turns at which a worker has something, it is busy.
BUSY = (
    PIECES
    + """,
levels AS (
    SELECT bucket, worker, moment, step,
        sum(step) OVER (PARTITION BY bucket, worker ORDER BY moment, id, step DESC
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS level,
        lead(moment) OVER (PARTITION BY bucket, worker ORDER BY moment, id, step DESC) AS following
    FROM turns
),
each AS (
    SELECT bucket, worker, sum(CASE WHEN level > 0 THEN following - moment ELSE 0 END) AS busy,
        sum(moment * -step) AS work
    FROM levels GROUP BY bucket, worker
)"""
)
UTILISED = (
    BUSY
    + """
SELECT bucket{worker}, count(*) AS workers, sum(coalesce(slots, 1)) AS slots,
    sum(busy) / 1000000.0 AS busy_seconds, sum(work) / 1000000.0 AS work_seconds,
    sum(busy) * 1.0 / count(*) / max(part) AS busy,
    sum(work) * 1.0 / sum(coalesce(slots, 1)) / max(part) AS utilisation
FROM (
    SELECT each.*, w.slots, (CASE WHEN b.high > {upto} THEN {upto} ELSE b.high END)
        - (CASE WHEN b.low < {lo} THEN {lo} ELSE b.low END) AS part
    FROM each JOIN b ON b.low = bucket LEFT JOIN w ON w.worker = each.worker
) x GROUP BY bucket{worker}"""
)
# So many run at an instant as have begun by then and not ended.
PEAKS = (
    PIECES
    + """,
net AS (SELECT bucket, moment, sum(step) AS step FROM turns GROUP BY bucket, moment),
levels AS (
    SELECT bucket, sum(step) OVER (PARTITION BY bucket ORDER BY moment
        ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS level FROM net
),
peaks AS (SELECT bucket, max(level) AS peak FROM levels GROUP BY bucket),
work AS (SELECT bucket, sum(e - s) AS us FROM cut GROUP BY bucket)
SELECT bucket, peak, us * 1.0 / ((CASE WHEN b.high > {upto} THEN {upto} ELSE b.high END)
        - (CASE WHEN b.low < {lo} THEN {lo} ELSE b.low END)) AS mean
FROM peaks JOIN work USING (bucket) JOIN b ON b.low = bucket"""
)

LATE = (
    """
first AS (SELECT run_id, claimed FROM a WHERE attempt = 1),
slots AS (
    SELECT r.job, r.status, r.slot, coalesce(first.claimed,
        CASE WHEN r.tries <= 1 THEN r.claimed END) AS began
    FROM r LEFT JOIN first ON first.run_id = r.id
    WHERE r.kind = 'schedule' AND r.slot >= {lo} AND r.slot < {hi}
),
counts AS (
    SELECT job, count(*) AS slots,
        sum(CASE WHEN began <= slot + {after} THEN 1 ELSE 0 END) AS on_time,
        sum(CASE WHEN began > slot + {after} THEN 1 ELSE 0 END) AS late,
        sum(CASE WHEN began IS NULL AND status = 'MISSED' THEN 1 ELSE 0 END) AS missed,
        sum(CASE WHEN began IS NULL AND status = 'SKIPPED' THEN 1 ELSE 0 END) AS skipped,
        sum(CASE WHEN began IS NULL AND status = 'PENDING' THEN 1 ELSE 0 END) AS waiting
    FROM slots GROUP BY job
),
behind AS (
    SELECT job, CASE WHEN began > slot THEN began - slot ELSE 0 END AS us
    FROM slots WHERE began IS NOT NULL
)
SELECT counts.*, p50, p95, max FROM counts LEFT JOIN ("""
    + measured("behind", "job")
    + ") q USING (job)"
)

RETRIED = """
SELECT job, count(*) AS runs, sum(tries) AS attempts, sum(again) AS retried,
    sum(CASE WHEN again = 1 AND status = 'COMPLETED' THEN 1 ELSE 0 END) AS recovered,
    sum(CASE WHEN again = 1 AND status IN ('FAILED', 'TIMEOUT') THEN 1 ELSE 0 END) AS gave_up,
    sum(lost) AS lost, sum(again) * 1.0 / count(*) AS share
FROM (SELECT r.*, CASE WHEN retries > 0 OR lost > 0 THEN 1 ELSE 0 END AS again FROM r) x
WHERE tries > 0 AND completed >= {lo} AND completed < {hi} GROUP BY job"""

FLAKY = """
ended AS (
    SELECT job, job_id, completed, id, CASE WHEN status = 'COMPLETED' THEN 1 ELSE 0 END AS fine,
        CASE WHEN retries > 0 OR lost > 0 THEN 1 ELSE 0 END AS again
    FROM r WHERE status IN ('COMPLETED', 'FAILED', 'TIMEOUT')
        AND completed >= {lo} AND completed < {hi}
),
turned AS (
    SELECT e.*, coalesce((SELECT p.fine FROM ended p WHERE p.job_id = e.job_id
        AND (p.completed < e.completed OR (p.completed = e.completed AND p.id < e.id))
        ORDER BY p.completed DESC, p.id DESC LIMIT 1), e.fine) AS before
    FROM ended e
),
judged AS (
    SELECT job, fine, CASE WHEN fine = 1 AND again = 1 THEN 1 ELSE 0 END AS recovered,
        CASE WHEN fine <> before THEN 1 ELSE 0 END AS turned FROM turned
)
SELECT * FROM (
    SELECT job, count(*) AS runs, sum(1 - fine) AS failed, sum(recovered) AS recovered,
        sum(turned) AS turns,
        sum(CASE WHEN recovered = 1 OR turned = 1 THEN 1 ELSE 0 END) AS flaky
    FROM judged GROUP BY job
) x WHERE flaky > 0"""

SLOWEST = (
    """
took AS (
    SELECT a.*, finished - started AS us FROM a
    WHERE started IS NOT NULL AND finished >= {lo} AND finished < {hi}
),
usual AS ("""
    + measured("(SELECT job_id, us FROM took WHERE status = 'SUCCESS') s", "job_id")
    + """)
SELECT t.id, t.job, t.run_id, t.attempt, t.status, t.worker, t.started AS started_at,
    us / 1000000.0 AS seconds, usual.p50 AS usual_seconds
FROM took t LEFT JOIN usual ON usual.job_id = t.job_id
WHERE (SELECT count(*) FROM took o WHERE o.us > t.us OR (o.us = t.us AND o.id < t.id)) < {n}"""
)


def _window(name: str, low: str, high: str) -> str:
    took = f"(SELECT job, us FROM {name} WHERE us IS NOT NULL) s"
    waits = f"(SELECT job, wait AS us FROM {name} WHERE wait IS NOT NULL) s"
    return f"""{name} AS (
    SELECT job,
        CASE WHEN status IN ('FAILURE', 'ERROR', 'TIMEOUT', 'LOST') THEN 1 ELSE 0 END AS bad,
        CASE WHEN status = 'SUCCESS' THEN finished - started END AS us,
        CASE WHEN claimed > queued THEN claimed - queued
            WHEN queued IS NOT NULL THEN 0 END AS wait
    FROM a WHERE finished >= {low} AND finished < {high}
), {name}_took AS ({measured(took, "job")}), {name}_waits AS ({measured(waits, "job")}),
{name}_all AS (
    SELECT c.*, c.failures * 1.0 / c.attempts AS rate, t.p50, t.p95, v.p95 AS wait_p95
    FROM (SELECT job, count(*) AS attempts, sum(bad) AS failures FROM {name} GROUP BY job) c
    LEFT JOIN {name}_took t ON t.job = c.job LEFT JOIN {name}_waits v ON v.job = c.job
)"""


COMPARED = (
    _window("new", "{lo}", "{hi}")
    + ", "
    + _window("old", "{before}", "{lo}")
    + """
SELECT coalesce(n.job, o.job) AS job, coalesce(n.attempts, 0) AS attempts,
    coalesce(n.failures, 0) AS failures, n.rate, n.p50, n.p95, n.wait_p95,
    coalesce(o.attempts, 0) AS attempts_before, coalesce(o.failures, 0) AS failures_before,
    o.rate AS rate_before, o.p50 AS p50_before, o.p95 AS p95_before, o.wait_p95 AS wait_p95_before
FROM new_all n FULL JOIN old_all o ON o.job = n.job"""
)


# The same in polars


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


# The questions


@dataclass(frozen=True)
class Question:
    """One report, the SQL that finds the same in plain tables, and the polars that does."""

    name: str
    ask: Callable[[Log, Asked], Report]
    sql: str
    polars: Callable[[Tables, Asked], pl.DataFrame]
    keys: tuple[str, ...]
    every: str | None = None
    """The buckets that the SQL takes; those that are asked for if None."""
    more: dict[str, Any] = field(default_factory=dict)

    def text(self, engine: str, at: Asked) -> str:
        """Return its SQL for an engine."""
        rows = ", ".join(f"({low}, {high}, {hour})" for low, high, hour in self._buckets(at))
        given = {
            "lo": micros(at.start), "hi": micros(at.end), "upto": micros(min(at.end, at.now)),
            "before": micros(at.start - at.before), "keys": ", ".join(self.keys),
            "strpos": "instr" if engine == "sqlite" else "strpos", "lines": LINES[engine],
            "no_digits": _without_digits("error"), "worker": "", **self.more,
        }  # fmt: skip
        sql = self.sql
        for name, value in given.items():
            sql = sql.replace("{" + name + "}", str(value))
        begins = sql.lstrip().split("(")[0]
        joined = f"WITH RECURSIVE {_tables(engine)}, b(low, high, hour) AS (VALUES {rows})"
        return f"{joined}{', ' if ' AS ' in begins else ' '}{sql}"

    def _buckets(self, at: Asked) -> list[tuple[int, int, int]]:
        return at.buckets(self.every or at.every)


def _tables(engine: str) -> str:
    if engine == "duckdb":
        return (
            "a AS (SELECT * FROM a_rows), r AS (SELECT * FROM r_rows), w AS (SELECT * FROM w_rows)"
        )
    made = SQLITE_US if engine == "sqlite" else POSTGRES_US
    names = (
        "queued_at",
        "claimed_at",
        "started_at",
        "finished_at",
        "scheduled_for",
        "completed_at",
    )
    return TABLES.format(**{name: made.format(f"t.{name}") for name in names})


def _without_digits(column: str) -> str:
    for digit in range(10):
        column = f"replace({column}, '{digit}', '~')"
    for long in (8, 4, 2, 2):
        column = f"replace({column}, '{'~' * long}', '~')"
    return f"replace({column}, '~', 'N')"


AFTER = 60
MOST = 12


def questions() -> Iterable[Question]:
    for every, by in ((True, None), (False, "job"), (False, "queue"), (False, "worker"),
                      (False, "status"), (False, "hour"), (True, "job")):  # fmt: skip
        keys = (*(["bucket"] if every else []), *([by] if by else []))
        yield Question(
            f"throughput {keys}",
            lambda log, at, e=every, b=by: log.throughput(at.every if e else None, b),
            ENDED,
            lambda t, at, k=keys, b=by: ended(t, at, "1h" if b == "hour" else at.every, *k),
            keys,
            every="1h" if by == "hour" else None,
        )
    for every, by in (
        (False, "job"),
        (True, None),
        (True, "job"),
        (False, "worker"),
        (False, "queue"),
    ):
        keys = (*(["bucket"] if every else []), *([by] if by else []))
        yield Question(
            f"durations {keys}",
            lambda log, at, e=every, b=by: log.durations(b, at.every if e else None),
            measured(TOOK, *keys),
            lambda t, at, k=keys: took(t, at, *k),
            keys,
        )
    for every, by in (
        (True, None),
        (False, "job"),
        (False, "worker"),
        (False, "queue"),
        (False, "hour"),
        (True, "worker"),
    ):
        keys = (*(["bucket"] if every else []), *([by] if by else []))
        yield Question(
            f"queue_wait {keys}",
            lambda log, at, e=every, b=by: log.queue_wait(b, at.every if e else None),
            measured(WAITED, *keys),
            lambda t, at, k=keys, b=by: waited(t, at, "1h" if b == "hour" else at.every, *k),
            keys,
            every="1h" if by == "hour" else None,
        )
    yield Question(
        "failures by signature", lambda log, _: log.failures(), SIGNATURES, signatures,
        ("job", "signature"),
    )  # fmt: skip
    for every, by in ((True, None), (False, "job"), (False, "worker"), (True, "job")):
        keys = (*(["bucket"] if every else []), *([by] if by else []))
        yield Question(
            f"failures {keys}",
            lambda log, at, e=every, b=by: log.failures(at.every if e else None, b),
            RATE,
            lambda t, at, k=keys: rates(t, at, *k),
            keys,
        )
    yield Question(
        "utilisation", lambda log, at: log.utilisation(at.every), UTILISED, utilised, ("bucket",)
    )
    yield Question(
        "utilisation of workers", lambda log, at: log.utilisation(at.every, "worker"), UTILISED,
        lambda t, at: utilised(t, at, "worker"), ("bucket", "worker"),
        more={"worker": ", x.worker"},
    )  # fmt: skip
    yield Question(
        "concurrency", lambda log, at: log.concurrency(at.every), PEAKS, peaks, ("bucket",)
    )
    yield Question(
        "late", lambda log, _: log.late(f"{AFTER}s"), LATE,
        lambda t, at: kept(t, at, AFTER * SECOND), ("job",), more={"after": AFTER * SECOND},
    )  # fmt: skip
    yield Question("retries", lambda log, _: log.retries(), RETRIED, retried, ("job",))
    yield Question("flakiest", lambda log, _: log.flakiest(1000), FLAKY, flaky, ("job",))
    yield Question(
        "slowest", lambda log, _: log.slowest(MOST), SLOWEST,
        lambda t, at: slow(t, at, MOST), ("job", "run_id", "attempt", "started_at"),
        more={"n": MOST},
    )  # fmt: skip
    yield Question("compare", lambda log, at: log.compare(at.before), COMPARED, compared, ("job",))


QUESTIONS = tuple(questions())

# Asking

Answer = dict[tuple[Any, ...], dict[str, Any]]
EMPTY = ("ended", "attempts", "workers", "peak")
"""Figures that are 0 in buckets in which nothing was; a question over time tells of them."""


def in_the_database(kit: Kit, question: Question, at: Asked) -> Answer:
    """Ask the database itself."""
    engine = "sqlite" if kit.database.is_sqlite else "postgresql"
    with kit.database.read(takes_long=True) as connection:
        found = connection.exec_driver_sql(question.text(engine, at))
        return _answer(question, [dict(row) for row in found.mappings()])


def in_duckdb(tables: Tables, question: Question, at: Asked) -> Answer:
    """Ask DuckDB over frames of the rows."""
    found = pl.DataFrame(tables.engine.sql(question.text("duckdb", at)))
    return _answer(question, found.to_dicts())


def in_polars(tables: Tables, question: Question, at: Asked) -> Answer:
    """Ask polars over frames of the rows."""
    return _answer(question, question.polars(tables, at).to_dicts())


def in_jobkit(log: Log, question: Question, at: Asked) -> Answer:
    """Ask the report; every bucket of time has a row, and empty ones are left out here."""
    df = question.ask(log, at).df
    if question.keys == ("bucket",):
        assert df.get_column("bucket").to_list() == at.edges(at.every)
    return _answer(question, df.to_dicts())


def _answer(question: Question, rows: list[dict[str, Any]]) -> Answer:
    answer: Answer = {}
    for row in rows:
        plain = {name: _number(value) for name, value in row.items()}
        if question.keys == ("bucket",) and not any(
            plain.get(name) for name in ("ended", "attempts", "workers", "peak", "mean")
        ):
            continue
        key = tuple(plain.pop(name) for name in question.keys)
        assert key not in answer, key
        answer[key] = plain
    return answer


def _number(value: Any) -> Any:
    if isinstance(value, datetime):
        return micros(value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC))
    return value if isinstance(value, str) or value is None else float(value)


def differences(found: Answer, wanted: Answer) -> list[str]:
    """Say in which figures that both have two answers differ."""
    said = [f"{key} is only here: {found[key]}" for key in found.keys() - wanted.keys()]
    said += [f"{key} is only there: {wanted[key]}" for key in wanted.keys() - found.keys()]
    for key in found.keys() & wanted.keys():
        both = found[key].keys() & wanted[key].keys()
        assert both, (found[key], wanted[key])
        said += [
            f"{key} {name}: {found[key][name]} and {wanted[key][name]}"
            for name in sorted(both)
            if not _same(found[key][name], wanted[key][name])
        ]
    return sorted(said)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= 1e-9 * max(1.0, abs(one), abs(other))
    return bool(one == other)
