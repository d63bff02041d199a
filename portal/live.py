"""The live part of a page: what a poll gets, which is nothing while nothing changed.

1. A poll says by `X-Have` what its page shows: the state it was made from, and its digest.
2. When nothing was committed since, and no quarter of a minute has passed, it is answered 204
   without a look at a table.
3. Else the part is rendered once for all who look at the same page at the same time: whoever asks
   while it is rendered gets the one before.
4. When it is the same to the letter, the answer is 204 as well, with the new `X-Have`.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass

from flask import Flask, Response, g
from htmx_flask import request

import jobkit
from jobkit.clock import stopwatch

HAVE = "X-Have"
BUCKET_SECONDS = 15
"""What is late or gone is so by the clock: it is said at most so long after."""
SHARED_SECONDS = 1.0
MOST_KEPT = 200
ALONE = ("account", "users", "api")
"""What is not the same for all of a role: it is never shared, nor asked for news."""


@dataclass(frozen=True)
class Part:
    """A live part as it was rendered, for everybody who may see it."""

    state: str
    at: float
    digest: str
    body: str


class Parts:
    """The live parts that were rendered last, by their address and who may see them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parts: OrderedDict[tuple[str, str], Part] = OrderedDict()
        self._in_work: set[tuple[str, str]] = set()

    def get(self, key: tuple[str, str]) -> Part | None:
        """Return a part, however old."""
        with self._lock:
            return self._parts.get(key)

    def keep(self, key: tuple[str, str], part: Part) -> None:
        """Keep a part; the oldest of too many go."""
        with self._lock:
            self._parts[key] = part
            self._parts.move_to_end(key)
            while len(self._parts) > MOST_KEPT:
                self._parts.popitem(last=False)

    def begin(self, key: tuple[str, str]) -> bool:
        """Take it on to render a part; False while somebody else does."""
        with self._lock:
            is_free = key not in self._in_work
            self._in_work.add(key)
            return is_free

    def end(self, key: tuple[str, str]) -> None:
        """Say that a part was rendered, or could not be."""
        with self._lock:
            self._in_work.discard(key)


def is_poll() -> bool:
    """Whether this request is a page's question for its own news."""
    is_shared = request.blueprint not in ALONE
    return is_shared and bool(request.htmx) and HAVE in request.headers


def have() -> str:
    """Return what a page that is rendered now is to say in its first poll."""
    state: str = g.get("state", "")
    return state


def install(app: Flask, kit: jobkit.Kit) -> None:
    """Answer polls; to be installed after those who decide who may look."""
    pulse, parts = kit.pulse, Parts()

    def before() -> Response | None:
        if request.method != "GET" or request.endpoint == "static":
            return None
        bucket = int(stopwatch() // BUCKET_SECONDS)
        g.state = f"{g.get('pulse') or pulse.read()}.{bucket}"
        return _known(parts) if is_poll() else None

    def after(answer: Response) -> Response:
        # What says what it is was rendered before: to keep it again would make it look fresh.
        is_fresh = HAVE not in answer.headers
        if is_poll() and answer.status_code == 200 and "state" in g and is_fresh:
            body = answer.get_data(as_text=True)
            part = Part(g.state, stopwatch(), _digest(body), body)
            parts.keep(_key(), part)
            return _answer(part, request.headers[HAVE].partition("-")[2], answer)
        return answer

    def end(_: BaseException | None) -> None:
        if (key := g.pop("in_work", None)) is not None:
            parts.end(key)

    app.before_request(before)
    app.after_request(after)
    app.teardown_request(end)


def _known(parts: Parts) -> Response | None:
    """Answer a poll with what is known; None when it is to be rendered for it."""
    state, _, digest = request.headers[HAVE].partition("-")
    if state == g.state:
        return _nothing_new(f"{state}-{digest}")
    key = _key()
    part = parts.get(key)
    if part is not None and _is_good(part, g.state, stopwatch()):
        return _answer(part, digest)
    if parts.begin(key):
        g.in_work = key
        return None
    return None if part is None else _answer(part, digest)


def _key() -> tuple[str, str]:
    return request.full_path, str(g.get("role", ""))


def _is_good(part: Part, state: str, now: float) -> bool:
    return part.state == state or now - part.at < SHARED_SECONDS


def _digest(body: str) -> str:
    return hashlib.blake2b(body.encode(), digest_size=8).hexdigest()


def _answer(part: Part, digest: str, answer: Response | None = None) -> Response:
    said = f"{part.state}-{part.digest}"
    if part.digest == digest:
        return _nothing_new(said)
    answer = answer or Response(part.body)
    answer.headers[HAVE] = said
    return answer


def _nothing_new(said: str) -> Response:
    answer = Response(status=204, headers={HAVE: said})
    del answer.headers["Content-Type"]
    return answer
