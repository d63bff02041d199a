"""Statements run by the driver do what the same statements do when Core runs them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from jobkit.db import Database, OneOf, Prepared, Utc, prepared
from jobkit.errors import DatabaseUnavailable
from jobkit.kit import Kit
from jobkit.models import attempts, jobs, runs, workers
from tests.stage import Stage

AT = datetime(2026, 3, 2, 6, 0, 0, 123456, tzinfo=UTC)
WORKER = {"worker_id": "w", "started_at": AT, "last_heartbeat": AT}


def test_rows_have_the_names_and_values_that_core_gives(kit: Kit) -> None:
    kit.add_job("sales", "hello.py", daily="07:30", tz="Europe/Paris", params={"région": ["nord"]})
    statement = sa.select(jobs).where(jobs.c.name == sa.bindparam("of"))
    with kit.database.read() as connection:
        (ours,) = Prepared(statement).rows(connection, {"of": "sales"})
        theirs = connection.execute(statement, {"of": "sales"}).one()
    assert ours._asdict() == theirs._asdict()
    assert ours.next_run.tzinfo is UTC
    assert ours.params == {"région": ["nord"]}


def test_one_text_serves_every_number_of_ids(stage: Stage) -> None:
    stage.job(overlap="allow")
    made = stage.kit.submit_many("sales", [{}] * 5)
    found = Prepared(sa.select(runs.c.id).where(OneOf(runs.c.id, "ids")).order_by(runs.c.id))
    with stage.kit.database.read() as connection:
        for ids in ([], made[:1], made):
            assert [row.id for row in found.rows(connection, {"ids": ids})] == ids


def test_an_update_sets_what_its_parameters_name(kit: Kit) -> None:
    kit.add_job("sales", "hello.py")
    change = Prepared(jobs.update().where(jobs.c.name == sa.bindparam("of")))
    with kit.database.write() as connection:
        assert change.count(connection, {"of": "sales", "queue": "gpu"}) == 1
        assert change.count(connection, {"of": "sales", "priority": 7, "params": {"a": 1}}) == 1
        assert change.count(connection, {"of": "nobody", "priority": 9}) == 0
    job = kit.job("sales")
    assert (job.queue, job.priority, job.params) == ("gpu", 7, {"a": 1})


def test_columns_that_are_not_given_get_their_defaults(kit: Kit) -> None:
    with kit.database.write() as connection:
        Prepared(workers.insert()).count(connection, WORKER)
    (worker,) = kit.workers()
    assert (worker.status, worker.slots, worker.jobs_processed) == ("IDLE", 1, 0)


def test_many_sets_of_values_are_one_call(kit: Kit) -> None:
    many = [WORKER | {"worker_id": f"w{number}"} for number in range(3)]
    with kit.database.write() as connection:
        Prepared(workers.insert()).each(connection, many)
        Prepared(workers.insert()).each(connection, [])
    assert sorted(worker.worker_id for worker in kit.workers()) == ["w0", "w1", "w2"]


def test_the_first_column_of_no_row_is_none(kit: Kit) -> None:
    latest = Prepared(sa.select(attempts.c.id).where(attempts.c.status == "SUCCESS"))
    instant = Prepared(sa.select(sa.literal(AT, Utc())))
    with kit.database.read() as connection:
        assert latest.scalar(connection) is None
        assert instant.scalar(connection) == AT


def test_an_error_is_the_one_that_core_raises(kit: Kit) -> None:
    insert = Prepared(workers.insert())
    with kit.database.write() as connection:
        insert.count(connection, WORKER)
    with kit.database.write() as connection, pytest.raises(sa.exc.IntegrityError):
        insert.count(connection, WORKER)


def test_a_value_that_is_missing_is_named(kit: Kit) -> None:
    named = Prepared(sa.select(jobs.c.id).where(jobs.c.name == sa.bindparam("of")))
    with pytest.raises(KeyError, match="of"), kit.database.read() as connection:
        named.rows(connection, {})


def test_who_listens_to_the_engine_hears_of_each_statement(kit: Kit) -> None:
    heard: list[str] = []

    def hear(_connection: Any, _cursor: Any, sql: str, *_: Any) -> None:
        heard.append(sql)

    sa.event.listen(kit.database.engine, "before_cursor_execute", hear)
    sa.event.listen(kit.database.engine, "after_cursor_execute", hear)
    with kit.database.read() as connection:
        Prepared(sa.select(jobs.c.id)).rows(connection)
    assert len(heard) == 2
    assert heard[0].startswith("SELECT scheduled_jobs.id")
    assert heard[0] == heard[1]


def test_a_connection_that_was_ended_is_not_used_again(postgres_database: str) -> None:
    database = Database(postgres_database)
    one = Prepared(sa.text("SELECT 1"))
    with database.read() as connection:
        mine = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    other = Database(postgres_database)
    with other.write() as ending:
        ending.exec_driver_sql(f"SELECT pg_terminate_backend({mine}, 5000)")
    with pytest.raises(DatabaseUnavailable), database.read() as connection:
        one.count(connection, {})
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one() != mine
    database.close()
    other.close()


def test_postgresql_keeps_a_plan_for_a_second(
    postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(postgres_database)
    found = Prepared(sa.select(jobs.c.id).where(jobs.c.name == sa.bindparam("of")))
    kept = "SELECT statement FROM pg_prepared_statements WHERE statement LIKE '%%scheduled_jobs%%'"
    with database.read() as connection:
        for moment in (10.0, 10.9, 11.0):
            monkeypatch.setattr(prepared, "stopwatch", lambda moment=moment: moment)
            for name in ("sales", "stock"):
                assert found.rows(connection, {"of": name}) == []
        plans = connection.exec_driver_sql(kept).scalars().all()
    assert sorted(plan.rpartition("-- ")[2] for plan in plans) == ["10.0", "11.0"]
    database.close()
