"""A file of the archive that is gone or harmed is named by every report, and the rest answers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import sqlalchemy as sa

import jobkit
from jobkit.archive import places
from jobkit.kit import Kit
from jobkit.models import archives
from tests.archives import NOW, live
from tests.referee import QUESTIONS, Asked
from tests.test_artifacts import bucket, s3

__all__ = ["bucket", "s3"]

START = NOW.replace(month=1, day=1)
AT = Asked(START, NOW, NOW, "1d", "UTC")


def harm(folder: Path, how: str) -> str:
    """Harm the oldest file of attempts that the window needs; return its name."""
    first, *others = sorted((folder / "attempts").rglob("*.parquet"))
    whole = first.read_bytes()
    if how == "gone":
        first.unlink()
    elif how == "truncated":
        first.write_bytes(whole[: len(whole) // 2])
    elif how == "empty":
        first.write_bytes(b"")
    elif how == "another":
        first.write_bytes(others[-1].read_bytes())
    elif how == "one bit":
        first.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    return first.name


@pytest.mark.parametrize("how", ["gone", "truncated", "empty", "another", "one bit"])
def test_every_report_names_it_and_tells_the_rest(kit: Kit, tmp_path: Path, how: str) -> None:
    live(kit, attempts=300)
    kit.archive.run(NOW, str(tmp_path / "archive"))
    whole = kit.log(None).durations(by=None).df.item(0, "attempts")
    shutil.rmtree(tmp_path / "cache")
    name = harm(tmp_path / "archive", how)
    url = kit.database.url.render_as_string(hide_password=False)
    with jobkit.connect(url) as fresh:
        fresh.clock = fresh.database.clock = kit.clock
        log = fresh.log(None)
        for question in QUESTIONS:
            if question.name == "compare":
                continue  # the whole history has no time before it
            report = question.ask(log, AT)
            assert [Path(item).name for item in report.missing] == [name], question.name
            assert f"NOT READ, so missing here: {report.missing[0]}" in report.caption
            assert name in report._repr_html_()
        left = log.durations(by=None).df.item(0, "attempts")
        assert 0 < left < whole
        free = log.sql("SELECT count(*) AS n FROM attempts")
        assert [Path(item).name for item in free.missing] == [name]
        assert log.throughput(every=None).df.item(0, "ended") == kit.log(None).throughput(
            every=None
        ).df.item(0, "ended")


def test_an_object_of_s3_that_was_deleted_is_named_too(
    kit: Kit, tmp_path: Path, bucket: str
) -> None:
    live(kit, attempts=300)
    kit.archive.run(NOW, bucket)
    whole = kit.log(None).durations(by=None).df.item(0, "attempts")
    with kit.database.read() as connection:
        url: str = connection.scalars(
            sa.select(archives.c.url)
            .where(archives.c.kind == "attempts")
            .order_by(archives.c.first_at)
            .limit(1)
        ).one()
    base, key = places.split(url)
    shutil.rmtree(tmp_path / "cache")
    places.open_place(base).delete(key)
    with jobkit.connect(kit.database.url.render_as_string(hide_password=False)) as fresh:
        fresh.clock = fresh.database.clock = kit.clock
        report = fresh.log(None).durations(by=None)
        assert report.missing == (url,)
        assert url in report.caption
        assert 0 < report.df.item(0, "attempts") < whole
