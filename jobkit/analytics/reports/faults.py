"""What went wrong: failures by their signature, retries, jobs that come and go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from jobkit.analytics.charts import Chart, bars, line
from jobkit.analytics.report import Report
from jobkit.analytics.reports.grouping import Grouping, arguments

if TYPE_CHECKING:
    from jobkit.analytics.log import Log

FAULTS = "('FAILURE', 'ERROR', 'TIMEOUT', 'LOST')"
ENDED = "coalesce(finished_at, claimed_at)"

FRAMES = r"""regexp_extract_all(log_output, 'File "[^"\n]+", line \d+, in [^\r\n]+')"""
LAST = r"""string_split(log_output, 'File "')[-1]"""
THEIRS = r"site-packages|dist-packages|[/\\]lib[/\\]python\d|<frozen|<string>"
SIGNATURE = rf"""SELECT *, CASE
        WHEN exception <> '' AND place <> '' THEN exception || ' in ' || place
        WHEN exception <> '' THEN exception
        WHEN status = 'LOST' THEN 'worker lost'
        WHEN status = 'TIMEOUT' THEN 'timeout'
        WHEN signal IS NOT NULL THEN 'signal ' || signal
        WHEN status = 'FAILURE' AND exit_code IS NOT NULL THEN 'exit code ' || exit_code
        ELSE coalesce(nullif(regexp_replace(error, '\d+', 'N', 'g'), ''), lower(status))
    END AS signature
FROM (
    SELECT *, coalesce(regexp_extract(frame, '([^/\\"]+)", line', 1) || ', '
        || regexp_extract(frame, ' in (.+)$', 1), '') AS place
    FROM (
        SELECT *, coalesce(
            list_filter(frames, lambda f: contains(f, script || '", line'))[-1],
            list_filter(frames, lambda f: NOT regexp_matches(f, '{THEIRS}'))[-1]
        ) AS frame
        FROM (
            SELECT f.*, regexp_extract(script_path, '[^/\\]*$') AS script, {FRAMES} AS frames,
                CASE WHEN contains(log_output, 'File "') THEN
                    regexp_extract({LAST}, '\n([A-Za-z_][\w.]*)', 1) ELSE '' END AS exception
            FROM failed f LEFT JOIN jobs USING (job_id)
        )
    )
)"""  # noqa: S608
"""The exception of the last traceback, and the last frame of the job's own file."""


def failures(log: Log, every: str | None, by: str | None) -> Report:
    """Group failed attempts by their signature; with `every` or `by`, give their share of all."""
    return _signatures(log) if every is None and by is None else _rate(log, every, by)


def _signatures(log: Log) -> Report:
    sql = f"""WITH failed AS (
        SELECT job_id, run_id, status, signal, exit_code, error, log_output, {ENDED} AS ended_at
        FROM attempts WHERE status IN {FAULTS} AND {log.window.holds(ENDED)}
    )
    SELECT coalesce(j.job, '(job ' || job_id || ')') AS job, signature, failures, first_at,
        last_at, last_run
    FROM (
        SELECT job_id, signature, count(*) AS failures, min(ended_at) AS first_at,
            max(ended_at) AS last_at, max_by(run_id, (ended_at, run_id)) AS last_run
        FROM ({SIGNATURE}) GROUP BY job_id, signature
    ) LEFT JOIN jobs j USING (job_id) ORDER BY failures DESC, job, signature"""  # noqa: S608
    return log.report(
        "failures",
        sql,
        "failures()",
        lambda df: bars(
            "Failures",
            [f"{row['job']}: {row['signature']}" for row in df.to_dicts()],
            df.get_column("failures").to_list(),
        ),
    )


def _rate(log: Log, every: str | None, by: str | None) -> Report:
    grouping = Grouping(log, f"epoch_us({ENDED})", every, by)
    inner = f"""SELECT {grouping.columns}count(*) AS attempts,
        count(*) FILTER (status IN {FAULTS}) AS failures
    FROM {grouping.source("attempts")}
    WHERE status NOT IN ('RELEASED', 'CANCELLED') AND {log.window.holds(ENDED)}
    {grouping.clause}"""  # noqa: S608
    sql = grouping.named(inner, "attempts, failures, failures / nullif(attempts, 0) AS rate")

    def drawn(df: pl.DataFrame) -> Chart:
        if every is None:
            names = df.get_column(by or "").cast(pl.String).fill_null("none").to_list()
            return bars("Share of failures", names, df.get_column("rate").to_list(), unit="share")
        sums = df.group_by("bucket", maintain_order=True).agg(pl.col("attempts", "failures").sum())
        rate = (sums.get_column("failures") / sums.get_column("attempts")).fill_nan(None)
        x = sums.get_column("bucket").to_list()
        shown = {"failures": rate.to_list()}
        return line("Share of failures", x, shown, unit="share", zone=log.window.zone)

    call = f"failures({arguments(every=every, by=by)})"
    filled = grouping.filled(("attempts", "failures"))
    return log.report("failures", sql, call, drawn, filled, joins=grouping.joins)


def retries(log: Log) -> Report:
    """Count, for each job, the runs that ended in the window and needed more than one try."""
    sql = f"""SELECT coalesce(j.job, '(job ' || q.job_id || ')') AS job, q.* EXCLUDE (job_id),
        retried / runs AS share
    FROM (
        SELECT job_id, count(*) AS runs, sum(attempts)::BIGINT AS attempts,
            count(*) FILTER (retries + lost > 0) AS retried,
            count(*) FILTER (retries + lost > 0 AND status = 'COMPLETED') AS recovered,
            count(*) FILTER (retries + lost > 0 AND status IN ('FAILED', 'TIMEOUT')) AS gave_up,
            sum(lost)::BIGINT AS lost
        FROM runs WHERE attempts > 0 AND {log.window.holds("completed_at")} GROUP BY job_id
    ) q LEFT JOIN jobs j USING (job_id) ORDER BY retried DESC, job"""  # noqa: S608
    return log.report(
        "retries",
        sql,
        "retries()",
        lambda df: bars(
            "Runs that were retried", *_pairs(df.filter(pl.col("retried") > 0), "retried")
        ),
    )


def flakiest(log: Log, n: int) -> Report:
    """Rank jobs by how often a run recovered by itself or ended unlike the run before it."""
    sql = f"""SELECT coalesce(j.job, '(job ' || q.job_id || ')') AS job, q.* EXCLUDE (job_id),
        flaky / runs AS flakiness
    FROM (
        SELECT job_id, count(*) AS runs, count(*) FILTER (NOT fine) AS failed,
            count(*) FILTER (recovered) AS recovered, count(*) FILTER (fine <> before) AS turns,
            count(*) FILTER (recovered OR fine <> before) AS flaky
        FROM (
            SELECT job_id, fine, fine AND tried AS recovered,
                lag(fine) OVER (PARTITION BY job_id ORDER BY completed_at, run_id) AS before
            FROM (
                SELECT job_id, run_id, completed_at, status = 'COMPLETED' AS fine,
                    retries + lost > 0 AS tried
                FROM runs WHERE status IN ('COMPLETED', 'FAILED', 'TIMEOUT')
                    AND {log.window.holds("completed_at")}
            )
        ) GROUP BY job_id
    ) q LEFT JOIN jobs j USING (job_id) WHERE flaky > 0
    ORDER BY flakiness DESC, runs DESC, job LIMIT {int(n)}"""  # noqa: S608
    return log.report(
        "flakiest",
        sql,
        f"flakiest({arguments(n=n)})",
        lambda df: bars("Flakiness", *_pairs(df, "flakiness"), unit="share"),
    )


def _pairs(df: pl.DataFrame, figure: str) -> tuple[list[str], list[float]]:
    return df.get_column("job").to_list(), df.get_column(figure).to_list()
