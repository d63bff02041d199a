"""A worker's end of the line to a host: what to run goes one way, output and report the other."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from jobkit.clock import stopwatch
from jobkit.errors import CannotStart
from jobkit.executors.windows import PipeLink

FOLDER = Path(__file__).parent
READ_BYTES = 64 << 10


@dataclass(frozen=True)
class Breed:
    """What a zygote is: an interpreter, and the modules it has imported."""

    python: str
    modules: tuple[str, ...] = ()


class Link(Protocol):
    """What a child and a nursery ask of a host, which runs one attempt at a time."""

    is_cut: bool

    @property
    def pid(self) -> int:
        """The process id of the host."""

    @property
    def breed(self) -> Breed | None:
        """The zygote it was forked from; none for one that was started by itself."""

    def order(self, order: Mapping[str, Any]) -> None:
        """Hand over what to run; CannotStart when the host is gone."""

    def listen(self, seconds: float) -> tuple[bytes, bytes]:
        """Wait so long for output, or a piece of the report; when the host is gone, it is cut."""

    def rest(self, seconds: float) -> Iterator[bytes]:
        """Yield the output that still comes when the report is there; waits so long at most."""

    def tell(self, message: Mapping[str, Any]) -> None:
        """Send a message for the attempt that runs; one that is over needs none."""

    def kill(self) -> None:
        """End a host that may be stopped."""

    def close(self) -> None:
        """Let the host end, and with it what it runs."""


class SocketLink:
    """A socket to a host on Linux and macOS; each attempt's output has a pipe of its own."""

    def __init__(
        self,
        end: socket.socket,
        pid: int,
        breed: Breed | None = None,
        process: subprocess.Popen[bytes] | None = None,
    ) -> None:
        self._end = end
        self.pid = pid
        self.breed = breed
        self._process = process
        self._output: int | None = None
        self.is_cut = False

    def order(self, order: Mapping[str, Any]) -> None:
        data = json.dumps(order).encode() + b"\n"
        self._output, output = os.pipe()
        try:
            sent = socket.send_fds(self._end, [data], [output])
            self._end.sendall(data[sent:])
        except OSError as error:
            self._let_go()
            raise CannotStart(f"The host is gone: {error}.", "Try again.") from error
        finally:
            os.close(output)

    def listen(self, seconds: float) -> tuple[bytes, bytes]:
        sources = [self._end.fileno()] + ([] if self._output is None else [self._output])
        ready = select.select(sources, [], [], seconds)[0]
        return (
            self._read() if self._output in ready else b"",
            self._receive() if self._end.fileno() in ready else b"",
        )

    def rest(self, seconds: float) -> Iterator[bytes]:
        until = stopwatch() + seconds
        while self._output is not None and (left := until - stopwatch()) > 0:
            if not select.select([self._output], [], [], left)[0]:
                break
            yield self._read()
        self._let_go()

    def tell(self, message: Mapping[str, Any]) -> None:
        with suppress(OSError):
            self._end.sendall(json.dumps(message).encode() + b"\n")

    def kill(self) -> None:
        if not self.is_cut:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        self._end.close()
        if self._process is not None:
            self._process.wait()

    def _receive(self) -> bytes:
        try:
            data = self._end.recv(1 << 16)
        except OSError:
            data = b""
        self.is_cut = self.is_cut or not data
        return data

    def _read(self) -> bytes:
        data = b"" if self._output is None else os.read(self._output, READ_BYTES)
        if not data:
            self._let_go()
        return data

    def _let_go(self) -> None:
        if self._output is not None:
            os.close(self._output)
            self._output = None


def start_host() -> Link:
    """Start a host of its own, by this interpreter; CannotStart when no process can be started."""
    if os.name == "nt":
        return PipeLink()
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-I", "-S", str(FOLDER / "host.py"), str(theirs.fileno())]
    process = start_program(command, theirs, {})
    return SocketLink(ours, process.pid, process=process)


def start_program(
    command: Sequence[str], theirs: socket.socket, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start a host or zygote, which inherits the end of a socket; CannotStart when it cannot be."""
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
            env=dict(environment),
            cwd="/",
        )
    except OSError as error:
        raise CannotStart(f"No process could be started: {error}.", "Free memory.") from error
    finally:
        theirs.close()
