"""The server's clock: asked once a minute, and kept while the server is away."""

from __future__ import annotations

from datetime import timedelta

import pytest

from jobkit.clock import RELOOK_SECONDS, ServerClock
from jobkit.errors import DatabaseUnavailable
from tests.stage import MONDAY


class Server:
    """A server whose date is a literal, and which may be away."""

    def __init__(self) -> None:
        self.is_away = False
        self.asked = 0
        self.seconds = 0.0
        self.takes = 0.0
        self.clock = ServerClock(self.answer)
        self.clock.elapsed = lambda: self.seconds  # type: ignore[method-assign]

    def answer(self) -> object:
        self.asked += 1
        if self.is_away:
            raise DatabaseUnavailable("away")
        answer = MONDAY + timedelta(seconds=self.seconds)
        self.seconds += self.takes
        return answer


def test_the_server_is_asked_once_a_minute() -> None:
    server = Server()
    for server.seconds in (0.0, 10.0, 59.0):
        assert server.clock.now() == MONDAY + timedelta(seconds=server.seconds)
    assert server.asked == 1
    server.seconds = RELOOK_SECONDS + 1
    assert server.clock.now() == MONDAY + timedelta(seconds=server.seconds)
    assert server.asked == 2


def test_while_the_server_is_away_its_last_answer_holds_and_it_is_not_asked_each_time() -> None:
    server = Server()
    server.clock.now()
    server.is_away = True
    for server.seconds in (RELOOK_SECONDS + 1, RELOOK_SECONDS + 2, RELOOK_SECONDS + 3):
        assert server.clock.now() == MONDAY + timedelta(seconds=server.seconds)
    assert server.asked == 2


def test_a_server_that_never_answered_has_no_date() -> None:
    server = Server()
    server.is_away = True
    with pytest.raises(DatabaseUnavailable):
        server.clock.now()
    server.is_away = False
    assert server.clock.now() == MONDAY


def test_an_answer_that_is_long_on_its_way_puts_the_clock_never_ahead() -> None:
    server = Server()
    server.takes = 2.0
    assert server.clock.now() <= MONDAY + timedelta(seconds=server.seconds)
