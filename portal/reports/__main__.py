"""`python -m portal.reports`: answers the questions on stdin until none come; see `reporter`."""

from __future__ import annotations

import gc
import json
import logging
import os
import queue
import signal
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any

import jobkit
from portal.reports.questions import Desk
from portal.reports.reporter import ERRORS

THREADS = 4
YOUNGEST = 200_000
"""Objects between two collections: rows come by the million, and none refers to another."""

log = logging.getLogger("jobkit.reports")


class Answering:
    """Answers questions at the same time, and writes each answer as a line."""

    def __init__(self, desk: Desk, out: IO[str]) -> None:
        self._desk = desk
        self._out = out
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(THREADS)
        self._open = 0

    @property
    def is_busy(self) -> bool:
        """Whether somebody waits for an answer."""
        with self._lock:
            return self._open > 0

    def take(self, asked: Mapping[str, Any]) -> None:
        """Begin to answer a question."""
        with self._lock:
            self._open += 1
        self._pool.submit(self._answer, asked)

    def _answer(self, asked: Mapping[str, Any]) -> None:
        line = json.dumps({"id": asked["id"], **self._said(asked)})
        with self._lock:
            self._open -= 1
            self._out.write(line + "\n")
            self._out.flush()

    def _said(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        edition, pulse = asked["state"]
        try:
            return {"answer": self._desk.ask(asked["name"], (edition, pulse), **asked["given"])}
        except jobkit.JobkitError as error:
            kind = next(kind for kind in ERRORS if isinstance(error, ERRORS[kind]))
            return {"error": {"kind": kind, "message": error.message, "hint": error.hint}}
        except Exception as error:
            log.exception("%s could not be answered", asked["name"])
            return {"error": {"kind": type(error).__name__}}


def main() -> None:
    """Answer until stdin ends, or nobody has asked for a while."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the portal, and this ends with it
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s")
    gc.set_threshold(YOUNGEST)
    opening = json.loads(sys.stdin.readline())
    answering = Answering(Desk(lambda: _open(**opening["settings"])), out)
    questions: queue.SimpleQueue[Mapping[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(questions,), daemon=True).start()
    while True:
        try:
            answering.take(questions.get(timeout=opening["idle_seconds"]))
        except queue.Empty:
            if not answering.is_busy:
                os._exit(0)


def _listen(questions: queue.SimpleQueue[Mapping[str, Any]]) -> None:
    for line in sys.stdin:
        questions.put(json.loads(line))
    os._exit(0)  # whoever asked is gone: nobody waits for an answer, however far it is


def _open(db_url: str, **settings: Any) -> jobkit.Kit:
    return jobkit.connect(db_url, **settings | {"wakeups": False})


if __name__ == "__main__":
    main()
