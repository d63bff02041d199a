"""The portal's server: waitress, which runs everywhere that Python does."""

from __future__ import annotations

import logging
import threading
from typing import Any

import waitress
from flask import Flask

THREADS = 8


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
        """Stop serving, from any thread; a repeat does nothing."""
        if not self._closing.is_set():
            self._closing.set()
            self._server.trigger.pull_trigger(self._end_loop)

    def _end_loop(self) -> None:
        # The loop goes on while it has connections: browsers keep theirs open.
        for channel in list(self._server.active_channels.values()):
            channel.handle_close()
        self._server.close()


def serve(app: Flask, host: str, port: int) -> Server:
    """Open a port, any free one for 0; OSError when it is taken."""
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    server = waitress.create_server(
        app,
        host=host,
        port=port,
        ipv4=":" not in host,
        ipv6=":" in host,
        threads=THREADS,
        ident="jobkit",
        clear_untrusted_proxy_headers=True,
    )
    return Server(server, host)
