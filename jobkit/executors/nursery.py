"""The hosts of a worker: forked from zygotes where that can be done, and used again."""

from __future__ import annotations

import json
import logging
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from jobkit.clock import stopwatch
from jobkit.errors import CannotStart
from jobkit.executors.link import FOLDER, Breed, Link, SocketLink, start_host, start_program

log = logging.getLogger("jobkit.worker")

START_SECONDS = 60.0
HOST_IDLE_SECONDS = 60.0
"""How long a host that nobody needs is kept: another one is forked in milliseconds."""
ZYGOTE_IDLE_SECONDS = 600.0
"""How long a zygote is kept whose forks nobody needs: another one takes a second to start."""
OURS = list(sys.version_info[:2])
COOKIE_ROOM = "JOBKIT_ROOM"
"""Makes room among the variables of a zygote for the cookies that its forks show."""


class Zygote:
    """A process to fork hosts from, as its worker sees it."""

    def __init__(self, breed: Breed, environment: Mapping[str, str]) -> None:
        self.breed = breed
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair()
        self._heard = b""
        command = [breed.python, str(FOLDER / "zygote.py"), str(theirs.fileno()), *breed.modules]
        room = {COOKIE_ROOM: "." * 512}
        self._process = start_program(command, theirs, {**environment, **room})

    def wait(self) -> dict[str, Any]:
        """Wait until it has imported its modules: `ready`, or the module that it `refused`."""
        return self._answer() or {"refused": "", "why": "it ended"}

    def fork(self) -> SocketLink:
        """Fork a host; CannotStart when the zygote is gone."""
        ours, theirs = socket.socketpair()
        with self._lock, theirs:
            try:
                socket.send_fds(self._socket, [b"\n"], [theirs.fileno()])
            except OSError:
                answer = None
            else:
                answer = self._answer()
        if answer is None:
            ours.close()
            raise CannotStart("The process that starts scripts is gone.", "Try again.")
        return SocketLink(ours, answer["host"], self.breed)

    def _answer(self) -> dict[str, Any] | None:
        until = stopwatch() + START_SECONDS
        while b"\n" not in self._heard:
            left = until - stopwatch()
            if left <= 0 or not select.select([self._socket], [], [], left)[0]:
                return None
            if not (data := self._socket.recv(4096)):
                return None
            self._heard += data
        line, _, self._heard = self._heard.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """Let it end, when its hosts have."""
        with self._lock:
            self._socket.close()

    def has_ended(self) -> bool:
        """Say whether its process is gone, and collect it."""
        return self._process.poll() is not None

    def wait_for_end(self, seconds: float) -> None:
        """Wait until it has ended; kill it when it does not."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Nursery:
    """Hands out hosts and takes them back. Safe for many threads.

    `environment`: what zygotes are started with; `preload`: modules for scripts that run by this
    interpreter. Where nothing can be forked, each attempt gets a host of its own.
    """

    def __init__(self, environment: Mapping[str, str], preload: Sequence[str] = ()) -> None:
        self._environment = dict(environment)
        self._usual = Breed(sys.executable, tuple(preload))
        self._lock = threading.Lock()
        self._starting: dict[Breed, threading.Lock] = {}
        self._zygotes: dict[Breed, Zygote | None] = {}
        self._beginning: set[Breed] = set()
        self._idle: list[tuple[Link, float]] = []
        self._used_at: dict[Breed, float] = {}
        self._ending: list[Zygote] = []
        self._is_closed = False

    def warm_up(self) -> None:
        """Start what most attempts will need."""
        with suppress(CannotStart):  # the first attempt says it again
            self.give_back(self.take())

    def take(self, python: str | None = None, modules: Sequence[str] = ()) -> Link:
        """Return a host that is idle; CannotStart when there is none and none can be started.

        It runs whatever it is told. It can fork the interpreter that is asked for, unless that is
        not the worker's own and only begins to be got ready: nobody waits for that.
        """
        breed = self._breed(python, modules)
        with self._lock:
            self._used_at[breed] = stopwatch()
        if breed.python != sys.executable and not self._is_ready(breed):
            return self.take()
        with self._lock:
            if self._is_closed:
                raise CannotStart("The worker has ended.", "Start it again.")
            for index in reversed(range(len(self._idle))):  # so that those too many stay idle
                if self._idle[index][0].breed == breed:
                    return self._idle.pop(index)[0]
        for _ in range(2):  # a zygote that was killed is replaced once
            zygote = self._zygote(breed)
            if zygote is None:
                break
            try:
                return zygote.fork()
            except CannotStart:
                self._lose(zygote)
        return start_host()

    def give_back(self, link: Link) -> None:
        """Keep a host for the next attempt; one that is gone, or nobody's fork, is closed."""
        with self._lock:
            is_kept = not (link.is_cut or link.breed is None or self._is_closed)
            if is_kept and link.breed is not None:
                self._idle.append((link, stopwatch()))
                self._used_at[link.breed] = stopwatch()
        if not is_kept:
            link.close()

    def tidy(self) -> None:
        """End what nobody has needed for a while, but for one host that most attempts use."""
        now = stopwatch()
        with self._lock:
            links = self._take_idle(now - HOST_IDLE_SECONDS)
            self._ending = [zygote for zygote in self._ending if not zygote.has_ended()]
            zygotes = self._take_unused(now - ZYGOTE_IDLE_SECONDS)
            self._ending += zygotes
        for link in links:
            link.close()
        for zygote in zygotes:
            zygote.close()

    def _take_idle(self, before: float) -> list[Link]:
        """Take out the hosts that are idle since before then."""
        usual = [link for link, _ in self._idle if link.breed == self._usual]
        old = [link for link, since in self._idle if since < before and link not in usual[-1:]]
        self._idle = [pair for pair in self._idle if pair[0] not in old]
        return old

    def _take_unused(self, before: float) -> list[Zygote]:
        """Take out the zygotes that nobody has used since; each ends when its last host has."""
        old = [
            breed
            for breed, zygote in self._zygotes.items()
            if zygote is not None and breed != self._usual and self._used_at[breed] < before
        ]
        return [zygote for breed in old if (zygote := self._zygotes.pop(breed)) is not None]

    def close(self) -> None:
        """End all hosts and zygotes, also those that are just being started."""
        with self._lock:
            self._is_closed = True
            turns = list(self._starting.values())
        for turn in turns:
            with turn:
                pass
        with self._lock:
            links, self._idle = [link for link, _ in self._idle], []
            zygotes = [zygote for zygote in self._zygotes.values() if zygote is not None]
            ending, self._ending = self._ending, []
            self._zygotes = {}
        for link in links:
            link.close()
        for zygote in zygotes:
            zygote.close()
        for zygote in (*zygotes, *ending):
            zygote.wait_for_end(5)

    def _breed(self, python: str | None, modules: Sequence[str]) -> Breed:
        if python in (None, sys.executable):
            if not modules:
                return self._usual
            return Breed(sys.executable, tuple(modules))
        return Breed(str(python), tuple(modules))

    def _is_ready(self, breed: Breed) -> bool:
        """Say whether there is a zygote; if nobody has tried to start one, begin to."""
        with self._lock:
            if breed in self._zygotes:
                return self._zygotes[breed] is not None
            if breed in self._beginning or self._is_closed:
                return False
            self._beginning.add(breed)
        threading.Thread(target=self._begin, args=(breed,), name="warm-up", daemon=True).start()
        return False

    def _begin(self, breed: Breed) -> None:
        try:
            with suppress(CannotStart):
                self._zygote(breed)
        finally:
            with self._lock:
                self._beginning.discard(breed)

    def _zygote(self, breed: Breed) -> Zygote | None:
        if sys.platform != "linux":
            return None
        with self._lock:
            turn = self._starting.setdefault(breed, threading.Lock())
        with turn:
            with self._lock:
                if self._is_closed:
                    return None
                if breed in self._zygotes:
                    return self._zygotes[breed]
            zygote = self._start(breed)
            with self._lock:
                self._zygotes[breed] = zygote
            return zygote

    def _start(self, breed: Breed) -> Zygote | None:
        """Start a zygote, without the modules that it refuses; None when none can be had."""
        modules = list(breed.modules)
        while True:
            zygote = Zygote(Breed(breed.python, tuple(modules)), self._environment)
            answer = zygote.wait()
            if answer.get("version", OURS) != OURS:  # what is known of forks is known of ours
                answer = {"refused": "", "why": f"it is Python {answer['version']}, ours {OURS}"}
            if "ready" in answer:
                zygote.breed = breed
                return zygote
            zygote.close()
            zygote.wait_for_end(5)
            refused = answer["refused"]
            log.warning("%s is not preloaded: %s", refused or breed.python, answer["why"])
            if refused not in modules:
                return None
            modules.remove(refused)

    def _lose(self, zygote: Zygote) -> None:
        with self._lock:
            if self._zygotes.get(zygote.breed) is zygote:
                del self._zygotes[zygote.breed]
            left = [link for link, _ in self._idle if link.breed == zygote.breed]
            self._idle = [pair for pair in self._idle if pair[0] not in left]
        for link in left:
            link.close()
        zygote.close()
