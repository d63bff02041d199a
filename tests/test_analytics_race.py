"""Readers count each run once while a writer adds runs and an archiver dies at any step."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import jobkit
from jobkit.errors import DatabaseUnavailable
from jobkit.kit import Kit
from jobkit.testing import ManualClock
from tests.archives import NOW, live
from tests.test_artifacts import bucket, s3

__all__ = ["bucket", "s3"]

ROUNDS = 8
READS = 6
"""At least so many by each reader, however fast the others are."""
STEPS = 20
BOTH = "SELECT count(*) AS rows, count(DISTINCT run_id) AS runs FROM runs"


class Died(Exception):
    """The archiver ended here."""


def dying(rng: random.Random) -> Callable[[str], None]:
    """Return what ends a pass at one of its steps, or after all of them."""
    left = rng.randrange(1, STEPS)

    def reached(_step: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Died

    return reached


@contextmanager
def another(url: str, cache: Path) -> Iterator[Kit]:
    """Open a database as one more program does, at the instant of the history."""
    with jobkit.connect(url, cache_dir=cache) as kit:
        kit.clock = kit.database.clock = ManualClock(NOW)
        yield kit


class Race:
    """What all who take part share: how many runs there are for sure, and at most."""

    def __init__(self, url: str, place: str, known: int) -> None:
        self.url, self.place = url, place
        self.least = self.most = known
        self.over = threading.Event()
        self.faults: list[object] = []
        self.passes = 0

    def write(self) -> None:
        with another(self.url, Path("cache-writer")) as kit:
            while not self.over.is_set():
                self.most += 3
                kit.submit_many("extra", [{}] * 3)
                self.least += 3
                time.sleep(0.005)

    def archive(self) -> None:
        rng = random.Random(4)
        with another(self.url, Path("cache-archiver")) as kit:
            while self.passes < ROUNDS:
                try:
                    kit.archive.run(to=self.place, reached=dying(rng))
                    held = kit.archive.months()
                    if held:
                        kit.archive.restore(rng.choice(held).month, reached=dying(rng))
                except (Died, DatabaseUnavailable, jobkit.BadInput):
                    pass
                self.passes += 1

    def read(self, cache: Path) -> None:
        with another(self.url, cache) as kit:
            done = 0
            while done < READS or not self.over.is_set():
                self._count(kit)
                done += 1

    def read_afresh(self, folder: Path) -> None:
        """Read all of it each time, as a machine does that knows nothing yet."""
        done = 0
        while done < READS or not self.over.is_set():
            with another(self.url, folder / str(done)) as kit:
                self._count(kit)
            done += 1

    def _count(self, kit: Kit) -> None:
        least = self.least
        row = kit.log(None).sql(BOTH).df.row(0)
        if row[0] != row[1] or not least <= row[0] <= self.most:
            self.faults.append((least, row, self.most))

    def guarded(self, work: Callable[[], None]) -> threading.Thread:
        def run() -> None:
            try:
                work()
            except Exception as error:  # noqa: BLE001 - the test shows it
                self.faults.append(error)
                self.over.set()

        thread = threading.Thread(target=run)
        thread.start()
        return thread


@pytest.mark.parametrize("where", ["folder", "s3"])
def test_while_all_race_no_run_is_lost_or_counted_twice(
    database: str, where: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    place = str(tmp_path / "archive") if where == "folder" else request.getfixturevalue("bucket")
    with another(database, tmp_path / "cache") as kit:
        live(kit)
        kit.add_job("extra", "hello.py", overlap="allow")
        known = kit.log(None).sql(BOTH).df.row(0)[0]
        race = Race(database, place, known)
        others = [
            race.guarded(race.write),
            race.guarded(lambda: race.read(tmp_path / "shared")),
            race.guarded(lambda: race.read_afresh(tmp_path / "fresh")),
        ]
        archiver = race.guarded(race.archive)
        archiver.join(120)
        race.over.set()
        for thread in others:
            thread.join(60)
        assert race.faults == []
        assert race.passes == ROUNDS
        kit.archive.run(to=place)
        assert kit.log(None).sql(BOTH).df.row(0) == (race.least, race.least)
        assert kit.archive.verify().faults == ()
        assert sum(month.runs for month in kit.archive.months()) > 100
