"""Roll-ups that are kept beside each part of the archive, as the SQL that makes them.

`{runs}` and `{attempts}` are relations with the columns of the tables and the rows of one part.
Hours are in UTC, spans are whole microseconds, so that sums of roll-ups equal sums of rows exactly.
"""

from __future__ import annotations

HOUR_US = 3_600_000_000

SPANS = """
SELECT worker_id, s, greatest(s, e) AS e FROM (
    SELECT worker_id, epoch_us(claimed_at) AS s,
        epoch_us(coalesce(finished_at, started_at, claimed_at)) AS e
    FROM {attempts}
)"""
"""When attempts held a slot of a worker: from the claim to the end."""

PIECES = """
SELECT worker_id, s - s % {unit} AS unit, s, e FROM spans WHERE e <= s - s % {unit} + {unit}
UNION ALL
SELECT worker_id, unit, greatest(s, unit) AS s, least(e, unit + {unit}) AS e FROM (
    SELECT worker_id, s, e, unnest(range(s - s % {unit}, e, {unit})) AS unit
    FROM spans WHERE e > s - s % {unit} + {unit}
)"""
"""Spans cut at the borders of equal units of time."""

BUSY = """
SELECT unit, worker_id, count(*) AS pieces, sum(e - s)::BIGINT AS work_us,
    sum(greatest(0, e - greatest(s, coalesce(reached, s))))::BIGINT AS busy_us
FROM (
    SELECT unit, worker_id, s, e, max(e) OVER (
        PARTITION BY unit, worker_id ORDER BY s, e
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS reached
    FROM pieces
)
GROUP BY unit, worker_id"""
"""For each unit and worker: time in attempts, and time in at least one attempt."""

PEAKS = """
SELECT unit, max(level)::BIGINT AS peak FROM (
    SELECT unit, sum(step) OVER (
        PARTITION BY unit ORDER BY moment, step
        ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS level
    FROM (
        SELECT unit, s AS moment, 1 AS step FROM pieces
        UNION ALL SELECT unit, e AS moment, -1 AS step FROM pieces
    )
)
GROUP BY unit"""
"""For each unit: the most attempts at one instant; one that ends makes room before one begins."""


def pieces_of(attempts: str, where: str = "TRUE") -> str:
    """Return WITH clauses for the time of attempts, a relation, cut at hours; `where` of pieces."""
    spans, cut = SPANS.replace("{attempts}", attempts), PIECES.replace("{unit}", str(HOUR_US))
    return f"WITH spans AS ({spans}), pieces AS (SELECT * FROM ({cut}) WHERE {where})"  # noqa: S608


def _over_pieces(question: str) -> str:
    return f"{pieces_of('{attempts}')} {question}"


ROLLUPS = {
    "ended": """
SELECT epoch_us(completed_at) - epoch_us(completed_at) % 3600000000 AS unit, job_id, queue,
    trigger, worker_id, status, count(*) AS runs
FROM {runs} GROUP BY ALL""",
    "outcomes": """
SELECT epoch_us(completed_at) - epoch_us(completed_at) % 3600000000 AS unit, queue, trigger,
    status, count(*) AS runs
FROM {runs} GROUP BY ALL""",
    "busy": _over_pieces(BUSY),
    "peaks": _over_pieces(PEAKS),
}
"""What is kept: name -> SELECT, which is also the `kind` in the manifest.

`ended`: runs by the hour of their end; `outcomes`: the same without job and worker, which is far
less where many runs end in an hour; `busy`: each worker's hours; `peaks`: most at once, an hour.
`unit` is the start of the hour in microseconds since 1970.
"""
