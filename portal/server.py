"""The portal's server: waitress, which runs everywhere that Python does."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from typing import Any

import waitress
from flask import Flask
from waitress.channel import HTTPChannel
from waitress.task import WSGITask

from jobkit.clock import nap, stopwatch
from portal.app import MOST_BYTES

THREADS = 8
MOST_BODY = MOST_BYTES + (64 << 10)
"""What waitress takes in before the application says that it is too much."""
MOST_HEADERS = 64 << 10
MOST_CONNECTIONS = 500
IDLE_SECONDS = 60
GRACE_SECONDS = 5
FORWARDED = {"x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port"}


class Task(WSGITask):  # type: ignore[misc]
    """An answer, after which the connection stays open also where it has no body, as a 204 has."""

    def set_close_on_finish(self) -> None:
        wants_end = self.request.headers.get("CONNECTION", "").lower() == "close"
        if self.has_body or wants_end or self.version != "1.1":
            super().set_close_on_finish()


class Channel(HTTPChannel):  # type: ignore[misc]
    """A connection of a browser."""

    task_class = Task


class Server:
    """A portal that listens; `run()` serves until `close()`."""

    def __init__(self, server: Any, host: str) -> None:
        self._server = server
        self._closing = threading.Event()
        shown = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host  # noqa: S104
        shown = f"[{shown}]" if ":" in shown else shown
        self.url = f"http://{shown}:{server.effective_port}"

    def run(self) -> None:
        """Serve until `close()`."""
        try:
            self._server.run()
        except OSError:
            # The end closes sockets that the loop may be waiting for.
            if not self._closing.is_set():
                raise
        self._server.task_dispatcher.shutdown(timeout=1)

    def close(self) -> None:
        """Answer what was asked, for 5 s at most, and stop serving, from any thread."""
        if not self._closing.is_set():
            self._closing.set()
            self._server.trigger.pull_trigger(self._let_nobody_in)
            threading.Thread(target=self._drain, name="portal-drain").start()

    def _let_nobody_in(self) -> None:
        self._server.accepting = False
        for channel in self._channels():
            if not _is_busy(channel):  # browsers keep connections open that they do not use
                channel.handle_close()

    def _drain(self) -> None:
        until = stopwatch() + GRACE_SECONDS
        while any(map(_is_busy, self._channels())) and stopwatch() < until:
            nap(0.02)
        with suppress(OSError):  # the loop may see it, and be over, before it is woken
            self._server.trigger.pull_trigger(self._end_loop)

    def _end_loop(self) -> None:
        # The loop goes on while it has connections.
        for channel in self._channels():
            channel.handle_close()
        self._server.close()

    def _channels(self) -> list[Any]:
        return list(self._server.active_channels.values())


def _is_busy(channel: Any) -> bool:
    return bool(channel.requests or channel.total_outbufs_len)


def serve(app: Flask, host: str, port: int, *, trusted_proxy: str | None = None) -> Server:
    """Open a port, any free one for 0; OSError when it is taken.

    `trusted_proxy`: the address whose word is taken for whom it asks, by TLS or not.
    """
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    proxy = {"trusted_proxy_count": 1, "trusted_proxy_headers": FORWARDED} if trusted_proxy else {}
    server = waitress.create_server(
        app,
        host=host,
        port=port,
        ipv4=":" not in host,
        ipv6=":" in host,
        threads=THREADS,
        ident="jobkit",
        max_request_body_size=MOST_BODY,
        max_request_header_size=MOST_HEADERS,
        connection_limit=MOST_CONNECTIONS,
        channel_timeout=IDLE_SECONDS,
        trusted_proxy=trusted_proxy,
        clear_untrusted_proxy_headers=True,
        **proxy,
    )
    server.channel_class = Channel
    return Server(server, host)
