"""Where attempts are put together: what a worker executes with, by its own configuration."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from jobkit.artifacts import Store, store_for
from jobkit.errors import CannotStart
from jobkit.executors import kinds, process, secrets, source, target
from jobkit.executors.kinds import Launch, Task
from jobkit.executors.nursery import Nursery
from jobkit.executors.process import Command
from jobkit.executors.provenance import Recorder, Subject
from jobkit.executors.target import Target
from jobkit.placeholders import Occasion, fill
from jobkit.settings import Settings
from jobkit.store.claims import Claim
from jobkit.worker.desk import Desks


@dataclass(frozen=True)
class Prepared:
    """All that an attempt is started with."""

    command: Command
    python: str
    """The interpreter that runs it, if one does."""
    modules: tuple[str, ...]
    """What a forked interpreter should have imported before."""
    artifacts: Path
    """The folder in which the script may leave files."""
    secrets: tuple[str, ...]
    """Values to be masked in its output."""
    subject: Subject


def keeps_kernel(definition: Mapping[str, Any]) -> bool:
    """Say whether a kernel is to be kept after a cell that failed."""
    return bool(definition.get("keep_kernel_seconds"))


class Workshop:
    """Puts attempts together for one worker; safe for many threads.

    The worker's own settings have the last word: what the database names outside of them is not
    run, and CannotStart says why.
    """

    def __init__(self, settings: Settings, database_url: str) -> None:
        self._settings = settings
        self._roots = [root.expanduser().absolute() for root in settings.script_roots]
        self._inherited = process.inheritable(os.environ, settings.env_allow)
        # What scripts may not inherit they may not ask for as a secret either.
        self._secrets = self._inherited | {
            name: value for name, value in os.environ.items() if name.startswith("JOBKIT_SECRET_")
        }
        self._desks = Desks(settings.spool_dir.expanduser() / "attempts")
        self._sources = settings.spool_dir.expanduser() / "sources"
        self.nursery = Nursery(self._inherited, settings.preload)
        self.recorder = Recorder(self._inherited, settings.script_text_limit)
        self.store: Store = store_for(database_url, settings.artifacts_url)

    def tidy(self) -> None:
        """Remove what a worker of this machine left that was killed."""
        self._desks.tidy()
        for folder in Path(tempfile.gettempdir()).glob("jobkit-*-*"):
            pid = folder.name.split("-")[1]
            if pid.isdigit() and not psutil.pid_exists(int(pid)):
                shutil.rmtree(folder, ignore_errors=True)  # of kernels; another user's stays

    def close(self) -> None:
        """End what waits for attempts: hosts, zygotes, folders."""
        self.nursery.close()
        self._desks.close()

    @contextmanager
    def prepared(self, claim: Claim, definition: Mapping[str, Any]) -> Iterator[Prepared]:
        """Make what an attempt starts with, and a folder that is its own until it has ended.

        1. Find what it runs: the text that the job carries, or a file below a script root.
        2. Let its kind say how, with an interpreter that this worker allows.
        3. Resolve its secrets; make its folder.
        4. Put its environment together.
        """
        script, function = target.split_function(definition["script_path"])
        found = self._target(definition, script)
        allowed = self._settings.kinds or None
        kind = kinds.kind_of(definition["script_path"], definition.get("kind"), allowed)
        arguments = target.split_arguments(definition.get("script_args"))
        python = self._python(definition.get("python"), found)
        params = _params(claim, definition)
        task = Task(found, tuple(arguments), params, python, function)
        launch = kind.launch(task)
        named: Sequence[str] = definition.get("secrets") or ()
        values = secrets.resolve(named, self._secrets, self._settings.secrets_dir)
        with self._desks.take() as desk:
            if values:
                secrets.place(values, desk.secrets)
            # A secret is a variable only where the job asks for that.
            inherited = {k: v for k, v in self._inherited.items() if k not in values}
            environment = process.child_environment(
                inherited
                | dict(launch.env)
                | (definition.get("variables") or {})
                | secrets.variables(named, values)
                | {
                    "JOBKIT_ARTIFACTS": str(desk.artifacts),
                    "JOBKIT_SECRETS": str(desk.secrets),
                }
                | ({"JOBKIT_KEEP_KERNEL": "1"} if keeps_kernel(definition) else {}),
                run_id=claim.run_id,
                attempt=claim.attempt,
                scheduled_for=claim.scheduled_for,
                worker_id=claim.worker_id,
                params=params,
            )
            if (limit := definition.get("cell_timeout_seconds")) is not None:
                environment["JOBKIT_CELL_TIMEOUT"] = str(limit)
            command = self._command(definition, found, launch, environment)
            subject = Subject(
                file=found.path,
                script=found.path if definition.get("source") is None else Path(found.name),
                sha256=found.sha256,
                kind=kind.name,
                isolation="warm" if command.warm else "fresh",
                interpreter=str(python) if kind.name not in ("shell", "program") else None,
                params=params,
                variables=tuple(environment),
            )
            modules = launch.warm.preload if launch.warm else ()
            yield Prepared(
                command, launch.argv[0], modules, desk.artifacts, tuple(values.values()), subject
            )

    def _target(self, definition: Mapping[str, Any], script: str) -> Target:
        text = definition.get("source")
        if text is None:
            return target.resolve(script, self._roots)
        return source.target(text, script, self._sources, self._roots[0].resolve())

    def _python(self, named: str | None, found: Target) -> Path:
        """Return the interpreter that a job names, if this worker allows it."""
        if named is None:
            return Path(sys.executable)
        path = found.cwd / Path(named).expanduser()
        for allowed in self._settings.interpreters:
            if allowed == "*" or path.is_relative_to(Path(allowed).expanduser().absolute()):
                return path
        if path == Path(sys.executable):
            return path
        raise CannotStart(
            f"The job wants the interpreter {path}, which this worker does not allow.",
            "Name it, or its virtual environment, in the worker's JOBKIT_INTERPRETERS.",
        )

    def _command(
        self,
        definition: Mapping[str, Any],
        found: Target,
        launch: Launch,
        environment: dict[str, str],
    ) -> Command:
        identity = found.identity
        is_warm = launch.warm is not None and definition.get("isolation") != "fresh"
        return Command(
            list(launch.argv),
            self._working_dir(definition.get("working_dir"), found),
            environment,
            warm=(str(launch.warm.script), *launch.warm.arguments)
            if is_warm and launch.warm
            else None,
            nice=definition.get("nice") or 0,
            memory_limit=definition.get("memory_limit_bytes"),
            identity=(
                str(found.path),
                identity.device,
                identity.inode,
                identity.mtime_ns,
                identity.size,
            ),
        )

    def _working_dir(self, named: str | None, found: Target) -> Path:
        if named is None:
            return found.cwd
        path = (found.cwd / named).resolve()
        if not any(path.is_relative_to(root.resolve()) for root in self._roots):
            raise CannotStart(
                f"The working directory {path} lies outside the script roots.",
                "Name a folder below one of them.",
            )
        if not path.is_dir():
            raise CannotStart(f"The working directory {path} does not exist.", "Make it.")
        return path


def _params(claim: Claim, definition: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of an attempt, with what their placeholders stand for."""
    occasion = Occasion(
        claim.scheduled_for or claim.created_at or claim.available_at,
        claim.run_id,
        claim.attempt,
        definition.get("name") or "",
        definition.get("timezone") or "UTC",
    )
    return fill(claim.params or {}, occasion)
