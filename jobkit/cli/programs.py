"""The programs that stay: scheduler, worker, portal, and `up`, which is all three."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import sys
import threading
import webbrowser
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobkit.cli import options as o
from jobkit.errors import BadInput

if TYPE_CHECKING:
    from jobkit.kit import Kit
    from portal import Server

log = logging.getLogger("jobkit")

UP_GRACE = timedelta(seconds=5)
OTHER_PORTS = 20

Host = Annotated[str | None, typer.Option("--host", help="The address to listen on.")]
Port = Annotated[int | None, typer.Option("--port", help="The port to listen on.")]
Proxy = Annotated[
    str | None,
    typer.Option(
        "--trusted-proxy",
        metavar="ADDRESS",
        help="The TLS proxy before the portal, like 127.0.0.1.",
    ),
]
Slots = Annotated[int | None, typer.Option("--slots", help="Runs side by side.")]
Queues = Annotated[str | None, typer.Option("--queues", help="Queues, the preferred one first.")]
MetricsPort = Annotated[
    int | None,
    typer.Option("--metrics-port", metavar="N", help="Show metrics of this process on a port."),
]


class Services:
    """Programs that run together: when one ends or a signal comes, all end."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._enders: list[Callable[[], Any]] = []
        self._failure: BaseException | None = None

    def start(self, name: str, work: Callable[[], Any], end: Callable[[], Any]) -> None:
        """Start a program in a thread of its own; `end` asks it to end."""

        def guarded() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - told by `wait`, which ends the process
                self._failure = self._failure or error
            finally:
                self._stop.set()

        self._enders.append(end)
        thread = threading.Thread(target=guarded, name=name)
        self._threads.append(thread)
        thread.start()

    def wait(self) -> None:
        """Wait until a program ends or a signal comes; then end all and raise what failed.

        The first signal asks the programs to end, each further one asks again.
        """
        previous = {name: signal.signal(name, self._signalled) for name in _signals()}
        try:
            while not self._stop.wait(0.5):
                pass
            self.end()
            for thread in self._threads:
                while thread.is_alive():
                    thread.join(0.5)
        finally:
            for name, handler in previous.items():
                signal.signal(name, handler)
        if self._failure is not None:
            raise self._failure

    def end(self) -> None:
        """Ask every program to end."""
        self._stop.set()
        for end in self._enders:
            end()

    def _signalled(self, *_: object) -> None:
        if self._stop.is_set():
            self.end()
        else:
            log.info("stopping; once more to stop at once")
            self._stop.set()


def _signals() -> list[signal.Signals]:
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    return [getattr(signal, name) for name in names if hasattr(signal, name)]


def scheduler(metrics_port: MetricsPort = None) -> None:
    """Make runs of due slots; any number of schedulers may run at once."""
    from jobkit.scheduler import Scheduler

    _log_to_stderr()
    with o.open_kit(waits=True, metrics_port=metrics_port) as kit, ExitStack() as open_ports:
        told: dict[str, Any] = {}
        if kit.settings.metrics_port is not None:
            from jobkit import exporter

            ticks = exporter.Ticks()
            open_ports.enter_context(exporter.served(ticks.registry, kit.settings))
            told["told"] = ticks.add
        made = Scheduler(kit.database, kit.settings, **told)
        services = Services()
        services.start("scheduler", made.run, made.stop.set)
        log.info("%s on %s", made.name, kit.url)
        services.wait()


def worker(
    queues: Queues = None,
    slots: Slots = None,
    name: Annotated[str | None, typer.Option("--name", help="A name; the host's if unset.")] = None,
    drain: Annotated[bool, typer.Option("--drain", help="End when nothing waits.")] = False,
    metrics_port: MetricsPort = None,
) -> None:
    """Execute runs; start one on each machine that shall work."""
    from jobkit.worker import Worker

    _log_to_stderr()
    given = {"queues": queues, "slots": slots, "metrics_port": metrics_port}
    with o.open_kit(waits=True, **given) as kit, ExitStack() as open_ports:
        made = Worker(kit.database, kit.settings, name=name, until_idle=drain)
        if kit.settings.metrics_port is not None:
            from jobkit import exporter

            work = exporter.Work(made.doings)
            open_ports.enter_context(exporter.served(work.registry, kit.settings))
        services = Services()
        services.start("worker", made.run, made.stop)
        log.info("%s on %s", made.worker_id, kit.url)
        services.wait()


def portal(host: Host = None, port: Port = None, trusted_proxy: Proxy = None) -> None:
    """Serve the portal: for this machine alone by a token, for others once there are users."""
    _log_to_stderr()
    with o.open_kit(waits=True, host=host, port=port, trusted_proxy=trusted_proxy) as kit:
        server, address = _portal(kit, exact_port=port is not None)
        services = Services()
        services.start("portal", server.run, server.close)
        print(address, flush=True)  # noqa: T201
        services.wait()


def up(
    demo: Annotated[bool, typer.Option("--demo", help="With sample jobs to look at.")] = False,
    port: Port = None,
    host: Host = None,
    slots: Slots = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Open no browser.")] = False,
) -> None:
    """Scheduler, worker and portal over one database; Ctrl-C ends all three."""
    from jobkit.scheduler import Scheduler
    from jobkit.worker import Worker

    _log_to_stderr()
    is_set = "JOBKIT_SHUTDOWN_GRACE_SECONDS" in os.environ
    grace: dict[str, Any] = {} if is_set else {"shutdown_grace": UP_GRACE}
    with o.open_kit(host=host, port=port, slots=slots, **grace) as kit:
        server, address = _portal(kit, exact_port=port is not None)
        if demo:
            from jobkit import demo as demonstration

            demonstration.install(kit)
        scheduler, worker = (
            Scheduler(kit.database, kit.settings),
            Worker(kit.database, kit.settings),
        )
        services = Services()
        services.start("scheduler", scheduler.run, scheduler.stop.set)
        services.start("worker", worker.run, worker.stop)
        services.start("portal", server.run, server.close)
        worker.ready.wait(10)
        print(f"jobkit is up on {kit.url}. Ctrl-C ends it.\n{address}", flush=True)  # noqa: T201
        if not no_browser and sys.stdout.isatty() and _has_browser():
            webbrowser.open(address)
        services.wait()


def _has_browser() -> bool:
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY"))


def _portal(kit: Kit, *, exact_port: bool) -> tuple[Server, str]:
    """Open the portal's port: the one that was asked for, or the next free one."""
    from portal import Reporter, create_app, serve

    chosen, token = kit.settings, _token(kit)
    app = create_app(
        kit,
        token=token,
        host=chosen.host,
        trusted_hosts=chosen.trusted_hosts,
        reports=Reporter(kit),
    )
    ports = [chosen.port] if exact_port else [*range(chosen.port, chosen.port + OTHER_PORTS), 0]
    for port in ports:
        try:
            server = serve(app, chosen.host, port, trusted_proxy=chosen.trusted_proxy)
        except OSError as error:
            reason = error.strerror or str(error)
        else:
            return server, f"{server.url}/?token={token}" if token else f"{server.url}/"
    raise BadInput(
        f"The portal cannot listen on {chosen.host}:{chosen.port}: {reason}.",
        "Choose another: --port N, or --port 0 for any.",
    )


def _token(kit: Kit) -> str | None:
    """Return the token that opens the portal; None where people sign in by name.

    A portal that other machines reach, by its address or through a proxy, has users or is refused.
    """
    from portal.origin import is_loopback

    chosen = kit.settings
    is_private = is_loopback(chosen.host) and chosen.trusted_proxy is None
    if chosen.oidc_issuer is None and not kit.users.any_active():
        if is_private:
            return chosen.token or secrets.token_urlsafe(24)
        raise BadInput(
            f"The portal on {chosen.host} can be reached from other machines, and has no users.",
            "Add one first: jobkit user add NAME --role admin",
        )
    if chosen.token is not None:
        log.warning("JOBKIT_TOKEN opens nothing: this portal has users, who sign in by name.")
    if not is_loopback(chosen.host) and chosen.trusted_proxy is None:
        log.warning("passwords travel in the clear: put a TLS proxy before it (--trusted-proxy)")
    return None


def _log_to_stderr() -> None:
    from jobkit import logs, settings

    chosen = settings.load(db_url=o.chosen.url)
    logs.begin(chosen.log_format, chosen.log_level)
    if chosen.dispatch_lock_duration is not None:
        log.warning("DISPATCH_LOCK_DURATION does nothing: slots are unique in the database.")
