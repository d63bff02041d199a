"""Runs a Python kernel that listens on no TCP port: `python private_kernel.py -f CONNECTION_FILE`.

By itself ipykernel takes what forked children print over a port of this machine. Here that is a
file as well, beside the kernel's other sockets.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

PIPE = "forked"


def main() -> None:
    """Be the kernel of a connection file."""
    del sys.path[0]  # this folder; the working folder is added by the kernel
    import zmq
    from ipykernel.iostream import IOPubThread
    from ipykernel.kernelapp import launch_new_instance
    from zmq.eventloop.zmqstream import ZMQStream

    address = f"ipc://{Path(sys.argv[sys.argv.index('-f') + 1]).parent / PIPE}"

    def pipe_in(thread: Any) -> None:
        thread._pipe_uuid = os.urandom(16)
        socket = thread.socket.context.socket(zmq.PULL)
        socket.linger = 0
        socket.bind(address)
        thread._pipe_in = ZMQStream(socket, thread.io_loop)
        thread._pipe_in.on_recv(thread._handle_pipe_msg)

    def pipe_out(_thread: Any) -> tuple[Any, Any]:
        context = zmq.Context()  # a fork needs its own
        socket = context.socket(zmq.PUSH)
        socket.linger = 3000
        socket.connect(address)
        return context, socket

    IOPubThread._setup_pipe_in = pipe_in  # type: ignore[method-assign]
    IOPubThread._setup_pipe_out = pipe_out  # type: ignore[method-assign]
    launch_new_instance()


if __name__ == "__main__":
    main()
