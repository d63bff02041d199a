"""The questions of the reports as SQL over the plain tables, for three engines."""

from __future__ import annotations

import re

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
w AS (SELECT worker_id AS worker, slots FROM worker_registration), g AS ({tags})"""


TAGS = {
    "sqlite": "SELECT s.id AS job_id, e.value AS tag FROM scheduled_jobs s, json_each(s.tags) e",
    "postgresql": """SELECT s.id AS job_id, e AS tag
        FROM scheduled_jobs s, jsonb_array_elements_text(s.tags::jsonb) e""",
}
TAGGED = """, {0}_tagged AS (SELECT {0}.*, g.tag FROM {0} LEFT JOIN g ON g.job_id = {0}.job_id)"""

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


def by_tag(sql: str) -> str:
    """Ask of the rows of jobs with several tags several times."""
    return re.sub(r"\bFROM ([ar])\b", r"FROM \1_tagged \1", sql)


def tables(engine: str) -> str:
    return _tables(engine) + TAGGED.format("a") + TAGGED.format("r")


def _tables(engine: str) -> str:
    if engine == "duckdb":
        return ", ".join(f"{name} AS (SELECT * FROM {name}_rows)" for name in "arwg")
    made = SQLITE_US if engine == "sqlite" else POSTGRES_US
    names = (
        "queued_at",
        "claimed_at",
        "started_at",
        "finished_at",
        "scheduled_for",
        "completed_at",
    )
    instants = {name: made.format(f"t.{name}") for name in names}
    return TABLES.format(**instants, tags=TAGS[engine])


def without_digits(column: str) -> str:
    for digit in range(10):
        column = f"replace({column}, '{digit}', '~')"
    for long in (8, 4, 2, 2):
        column = f"replace({column}, '{'~' * long}', '~')"
    return f"replace({column}, '~', 'N')"
