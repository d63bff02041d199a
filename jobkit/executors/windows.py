"""The line to a host on Windows: pipes, which threads read, as there is no waiting for many.

Written by the documentation of Windows and tried on Linux with its functions imitated; it has not
been run on Windows yet.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from jobkit.clock import stopwatch
from jobkit.errors import CannotStart

PROGRAM = Path(__file__).with_name("windows_host.py")
READ_BYTES = 64 << 10
MOST_WAITING = 16
# The host gets a console that nobody sees: Ctrl-C in the worker's reaches no script, and the
# host can send CTRL_BREAK to its script also where the worker is a service without a console.
CREATE_NO_WINDOW = 0x08000000
NEEDED = ("SYSTEMROOT", "PATH")
"""Variables without which an interpreter may not start."""


class PipeLink:
    """Starts a host for one attempt; CannotStart when no process can be started.

    Its face is that of `link.Link`.
    """

    breed = None

    def __init__(self) -> None:
        # In a virtual environment `sys.executable` only starts another program and waits for it.
        python = getattr(sys, "_base_executable", sys.executable)
        try:
            self._process = subprocess.Popen(
                [python, "-I", "-S", str(PROGRAM)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                creationflags=CREATE_NO_WINDOW,
                env={name: os.environ[name] for name in NEEDED if name in os.environ},
            )
        except OSError as error:
            raise CannotStart(f"No process could be started: {error}.", "Free memory.") from error
        self.pid = self._process.pid
        self.is_cut = False
        self._has_output = True
        self._heard: queue.Queue[tuple[bool, bytes]] = queue.Queue(MOST_WAITING)
        for is_report, pipe in ((True, self._process.stdout), (False, self._process.stderr)):
            threading.Thread(target=self._pump, args=(pipe, is_report), daemon=True).start()

    def order(self, order: Mapping[str, Any]) -> None:
        try:
            self._send(order)
        except OSError as error:
            raise CannotStart(f"The host is gone: {error}.", "Try again.") from error

    def listen(self, seconds: float) -> tuple[bytes, bytes]:
        try:
            is_report, data = self._heard.get(timeout=seconds)
        except queue.Empty:
            return b"", b""
        if is_report:
            self.is_cut = self.is_cut or not data
            return b"", data
        self._has_output = bool(data)
        return data, b""

    def rest(self, seconds: float) -> Iterator[bytes]:
        until = stopwatch() + seconds
        while self._has_output and (left := until - stopwatch()) > 0:
            yield self.listen(left)[0]

    def tell(self, message: Mapping[str, Any]) -> None:
        with suppress(OSError):
            self._send(message)

    def kill(self) -> None:
        self._process.kill()  # and with it, all that is in its job

    def close(self) -> None:
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
        self._process.wait()

    def _send(self, message: Mapping[str, Any]) -> None:
        if self._process.stdin is not None:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()

    def _pump(self, pipe: IO[bytes], is_report: bool) -> None:
        with pipe:
            while data := os.read(pipe.fileno(), READ_BYTES):
                self._heard.put((is_report, data))
        self._heard.put((is_report, b""))
