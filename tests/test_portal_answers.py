"""What answers cost: one that is dear is asked for once, kept for a while, and renewed aside."""

from __future__ import annotations

import threading

import pytest

from portal import answers
from portal.answers import Answers


class Watch:
    """A stopwatch that a test turns, and a question that takes some of its seconds."""

    def __init__(self, takes: float) -> None:
        self.now, self.takes, self.asked = 1000.0, takes, 0
        self.pulse = "p0"
        self.done = threading.Event()

    def read(self) -> float:
        return self.now

    def ask(self) -> int:
        self.now += self.takes
        self.asked += 1
        self.done.set()
        return self.asked

    def get(self, kept: Answers) -> int:
        value: int = kept.get("question", lambda: self.pulse, self.ask)
        return value


@pytest.fixture
def dear(monkeypatch: pytest.MonkeyPatch) -> Watch:
    return watch(monkeypatch, 2.0)


def watch(monkeypatch: pytest.MonkeyPatch, takes: float) -> Watch:
    made = Watch(takes)
    monkeypatch.setattr(answers, "stopwatch", made.read)
    return made


def test_an_answer_stays_while_nothing_is_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap, kept = watch(monkeypatch, 0.01), Answers()
    assert [cheap.get(kept), cheap.get(kept)] == [1, 1]
    cheap.pulse = "p1"
    assert cheap.get(kept) == 2


def test_a_dear_answer_stays_a_minute_whatever_is_committed(dear: Watch) -> None:
    kept = Answers()
    assert dear.get(kept) == 1
    dear.pulse = "p1"
    dear.now += 59
    assert dear.get(kept) == 1


def test_a_dear_answer_that_is_old_is_shown_while_it_is_asked_for_anew(dear: Watch) -> None:
    kept = Answers()
    dear.get(kept)
    dear.pulse = "p1"
    dear.now += 61
    dear.done.clear()
    assert dear.get(kept) == 1
    assert dear.done.wait(10)
    for renewing in threading.enumerate():
        if renewing.name == answers.RENEWING:
            renewing.join(10)
    assert (dear.get(kept), dear.asked) == (2, 2)


def test_an_answer_that_nobody_asked_for_in_ten_minutes_is_not_shown(dear: Watch) -> None:
    kept = Answers()
    dear.get(kept)
    dear.now += 601
    assert dear.get(kept) == 2


def test_what_was_changed_here_is_seen_at_once(dear: Watch) -> None:
    kept = Answers()
    dear.get(kept)
    kept.forget()
    assert dear.get(kept) == 2


def test_questions_without_an_answer_are_not_kept(dear: Watch) -> None:
    def fail() -> None:
        raise LookupError("nobody")

    kept = Answers()
    for name in ("a", "b"):
        with pytest.raises(LookupError):
            kept.get(name, lambda: "p0", fail)
    assert not kept._asking
