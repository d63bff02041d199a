"""A proxy before PostgreSQL that breaks things as networks do."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

COMMIT = b"COMMIT\0"


class FaultProxy:
    """Listens on a port of this machine and passes everything to a server's socket, or does not.

    `is_holding`: nothing is passed on, and nobody is told (a black hole). `is_refusing`: new
    connections are closed at once. `drop_commit` and `drop_answer` cut the next connection that
    commits: before the server has seen it, or before the client has heard of it.
    """

    def __init__(self, folder: Path, user: str = "jobkit") -> None:
        self.lead_to(folder)
        self._user = user
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._flows = threading.Event()
        self._flows.set()
        self._cut_next: str | None = None
        self.is_refusing = False
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, name: str) -> str:
        return f"postgresql+psycopg://{self._user}@{self.address}/{name}?sslmode=disable"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def lead_to(self, folder: Path) -> None:
        """Connect to the server of that socket folder from the next connection on."""
        self._server = str(folder / ".s.PGSQL.5432")

    def hold(self) -> None:
        """Pass nothing on from now, in silence."""
        self._flows.clear()

    def release(self, *, cut: bool = True) -> None:
        """Pass things on again; `cut`: what was open then is gone."""
        if cut:
            self.cut()
        self._flows.set()

    def cut(self) -> None:
        """Close every connection."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            _close(pair)

    def drop_commit(self) -> None:
        """Cut the next connection that commits; the server does not see the COMMIT."""
        self._cut_next = "commit"

    def drop_answer(self) -> None:
        """Cut the next connection that commits; the server commits, nobody hears of it."""
        self._cut_next = "answer"

    def close(self) -> None:
        self.is_refusing = True
        self._listener.close()
        self.release()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._join(client)

    def _join(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            if self.is_refusing:
                raise OSError("refused")
            server.connect(self._server)
        except OSError:
            _close((client, server))
            return
        pair = (client, server)
        with self._lock:
            self._pairs.append(pair)
        for source, target, look in (
            (client, server, self._look_at_request),
            (server, client, _pass),
        ):
            arguments = (pair, source, target, look)
            threading.Thread(target=self._pump, args=arguments, daemon=True).start()

    def _pump(
        self, pair: Any, source: socket.socket, target: socket.socket, look: Callable[..., bool]
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                self._flows.wait()
                if not look(data, source, target):
                    break
        _close(pair)

    def _look_at_request(self, data: bytes, client: socket.socket, server: socket.socket) -> bool:
        """Pass a client's bytes on, unless they commit and are to be lost."""
        how = self._cut_next
        if how is None or COMMIT not in data:
            return _pass(data, client, server)
        self._cut_next = None
        self.cuts += 1
        if how == "answer":
            client.shutdown(socket.SHUT_RDWR)
            _pass(data, client, server)
            server.shutdown(socket.SHUT_WR)  # it reads all that came, then sees the end
            threading.Event().wait(0.2)
        return False


def _pass(data: bytes, _source: socket.socket, target: socket.socket) -> bool:
    target.sendall(data)
    return True


def _close(pair: tuple[socket.socket, socket.socket]) -> None:
    for end in pair:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
