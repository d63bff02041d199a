"""Backups of a SQLite database: taken while programs use it, restored when none does.

PostgreSQL has its own, which know it better: pg_dump, pg_basebackup, WAL archives.
"""

from __future__ import annotations

import os
import secrets
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection

from jobkit import artifacts, migrations
from jobkit.artifacts import sync_folder
from jobkit.clock import Clock, SystemClock
from jobkit.db import copies
from jobkit.db.database import parse_url
from jobkit.errors import BackupFailed, BadInput, Conflict
from jobkit.health import POLLS
from jobkit.settings import Settings
from jobkit.states import worker_name
from jobkit.store import audit, claims, duties, history, snapshots, workers

NAMED = 3
DEED = "restored a backup"


@dataclass(frozen=True)
class Backup:
    """A file that holds a whole database of one instant."""

    file: str
    bytes: int
    revision: str | None
    """Of its schema; None of an older system's."""
    runs: dict[str, int]
    """How many there are in each status."""
    beside: tuple[str, ...]
    """What the database names and does not hold, in words."""


@dataclass(frozen=True)
class Restored:
    """A database that holds what a backup held."""

    file: str
    revision: str | None
    needs_upgrade: bool
    former: str | None
    """The file that keeps what it held before."""
    runs: dict[str, int]
    """How many there are in each status."""
    beside: tuple[str, ...]


def back_up(settings: Settings, file: str | Path, *, force: bool = False) -> Backup:
    """Copy the SQLite database to a file, while schedulers and workers go on.

    1. Copy what was committed before it began, to a hidden file beside the one that is named.
    2. Read the copy through and check that it is whole.
    3. Wait until it is on the disk, and only then give it its name.

    Conflict when the file exists, unless `force`; BadInput for PostgreSQL and for what is damaged;
    BackupFailed when the disk takes it not. A file of that name is whole, whenever one looks.
    """
    source = _file(settings, f"pg_dump --format=custom --file {_quoted(file)} {{url}}")
    _check_exists(source)
    target = _place(Path(file), source, force=force)
    with _half(target) as half:
        copies.take(source, half)
        _check_whole(half, source)
        with copies.opened(half) as connection:
            standing, counted = migrations.standing_in(connection), _runs(connection)
        _sync(half)
        _name(half, target, force=force)
    return Backup(str(target), target.stat().st_size, standing.revision, counted, beside(settings))


def restore(
    settings: Settings,
    file: str | Path,
    *,
    force: bool = False,
    by: str = "somebody",
    clock: Clock | None = None,
) -> Restored:
    """Let the SQLite database hold what a backup holds; what it held is kept in a file beside it.

    1. Check that the backup is whole, and of a revision that this program knows.
    2. Refuse while a scheduler or a worker was seen lately, or any program has it open.
    3. Keep what the database holds now.
    4. Put the backup in its place, in one transaction.

    Ids that were given out since the backup are not given again: files of runs bear them. Runs that
    were in progress are LOST attempts, and begin again: whoever held them then may do so still, and
    its further output would not belong to what is there. `force` goes on where step 2 refuses.
    `by`: who is written into its audit. Conflict or BadInput say what is in the way; nothing is
    changed then.
    """
    target = _file(settings, f"pg_restore --clean --if-exists --dbname {{url}} {_quoted(file)}")
    backup = Path(file).expanduser().absolute()
    standing = _check_backup(backup, target)
    now = (clock or SystemClock()).now()
    former = _look(target, now, settings)
    _check_free(former, standing, force=force)
    with _half(target) as half:
        copies.take(backup, half)
        kept = _keep(former, now)
        with copies.opened(half) as connection:
            copies.give_no_id_again(connection, former.ids_given)
            if sa.inspect(connection).has_table("job_history"):
                snapshots.rename(connection, secrets.token_hex(16))
            if standing.is_current or standing.is_ahead:
                claims.take_back_all(connection, now)
                if former.users:
                    # Who executes one of them now knows it by the number that it would get again.
                    claims.hold_back(connection, now + settings.lease)
                about = f"{backup}; what it held before: {kept or 'nothing'}"
                audit.note(connection, now, who=by, what=DEED, about=about, face="command line")
            counted = _runs(connection)
        copies.put_back(half, target)
    return Restored(
        str(target),
        standing.revision,
        not (standing.is_current or standing.is_ahead),
        None if kept is None else str(kept),
        counted,
        beside(settings),
    )


def beside(settings: Settings) -> tuple[str, ...]:
    """Say what a database names and does not hold: it is to be kept beside its backups."""
    left = settings.artifacts_url or artifacts.default_url(settings.db_url)
    kept = [f"files that runs left: {left}"]
    if settings.archive_url:
        kept.append(f"archived months: {settings.archive_url}")
    kept.append(f"results that workers could not deliver yet, on each: {settings.spool_dir}")
    roots = os.pathsep.join(str(root.absolute()) for root in settings.script_roots)
    kept.append(f"scripts: {roots}")
    if settings.secrets_dir is not None:
        kept.append(f"secrets: {settings.secrets_dir}")
    return tuple(kept)


def _file(settings: Settings, instead: str) -> Path:
    """Return the database's file; BadInput, with the command to use instead, where it has none."""
    url = parse_url(settings.db_url)
    if (path := copies.file_of(url)) is not None:
        return path
    if url.get_backend_name() == "postgresql":
        raise BadInput(
            "jobkit copies SQLite files; PostgreSQL has tools of its own.",
            f"Run: {instead.format(url=shlex.quote(_plain(url)))} (see docs/backup.md)",
        )
    raise BadInput("A database in memory has no file.", "Name one in JOBKIT_DB_URL.")


def _quoted(file: str | Path) -> str:
    return shlex.quote(str(file)).replace("{", "{{").replace("}", "}}")


def _plain(url: URL) -> str:
    """Write a URL as PostgreSQL's programs read it; they ask for the password, or ~/.pgpass."""
    bare = URL.create("postgresql", url.username, None, url.host, url.port, url.database, url.query)
    return bare.render_as_string()


def _check_exists(path: Path) -> None:
    if not path.is_file():
        raise BadInput(f"There is no file {path}.", "Check its name.")


def _check_backup(backup: Path, target: Path) -> migrations.Standing:
    """Check that a file is a whole backup of another; return where it stands."""
    _check_exists(backup)
    if target.exists() and backup.samefile(target):
        raise BadInput(f"{backup} is the database itself.", "Name a backup of it.")
    if fault := copies.fault_of(backup):
        raise BadInput(f"{backup} is no whole database: {fault}.", "Take another backup.")
    with copies.opened(backup) as connection:
        standing = migrations.standing_in(connection)
    if standing.is_empty:
        raise BadInput(f"{backup} holds no tables of jobkit.", "Name a file that db backup made.")
    return standing


def _check_whole(copy: Path, source: Path) -> None:
    if fault := copies.fault_of(copy):
        raise BadInput(
            f"The database {source} is damaged, and so would be its copy: {fault}.",
            "Restore an earlier backup: jobkit db restore FILE",
        )


def _place(file: Path, source: Path, *, force: bool) -> Path:
    target = file.expanduser().absolute()
    if not target.parent.is_dir():
        raise BadInput(f"The folder {target.parent} does not exist.", "Create it.")
    if target.exists():
        if target.is_dir() or target.samefile(source):
            raise BadInput(f"{file} is no place for a backup.", "Name a file of its own.")
        if not force:
            raise Conflict(f"{file} exists.", "Name another file, or write over it: --force")
    return target


@contextmanager
def _half(target: Path) -> Iterator[Path]:
    """Make an empty file beside another, for its owner only; it is gone after the block."""
    half = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        os.close(os.open(half, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except OSError as error:
        raise BackupFailed(
            f"Nothing can be written to {target.parent}: {error.strerror}.",
            "Check its permissions and its room.",
        ) from error
    try:
        yield half
    finally:
        for left in (half, half.with_name(half.name + "-journal")):
            left.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    with path.open("rb+") as opened:
        os.fsync(opened.fileno())


def _name(half: Path, target: Path, *, force: bool) -> None:
    """Give a whole file its name; without `force` it takes nobody else's, however late."""
    try:
        if force or not hasattr(os, "link"):
            half.replace(target)
        else:
            _link(half, target)
        sync_folder(target.parent)
    except OSError as error:
        raise BackupFailed(f"{target} cannot be written: {error.strerror}.") from error


def _link(half: Path, target: Path) -> None:
    try:
        os.link(half, target)
    except FileExistsError:
        raise Conflict(f"{target} exists since a moment.", "Name another file.") from None
    except OSError:  # a file system without links
        half.replace(target)


@dataclass(frozen=True)
class _Former:
    """The database that a backup shall replace."""

    path: Path
    is_there: bool = False
    fault: str | None = None
    users: str = ""
    """Which programs use it."""
    is_open: bool = False
    ids_given: dict[str, int] = field(default_factory=dict)


def _look(target: Path, now: datetime, settings: Settings) -> _Former:
    if not target.exists():
        return _Former(target)
    if fault := copies.fault_of(target):
        return _Former(target, is_there=True, fault=fault)
    with copies.opened(target) as connection:
        users, given = _seen(connection, now, settings), copies.ids_given(connection)
    is_open = copies.is_in_use(target)
    if is_open and not users:
        users = "a program, like the portal or a notebook, has it open"
    return _Former(target, is_there=True, users=users, is_open=is_open, ids_given=given)


def _check_free(former: _Former, backup: migrations.Standing, *, force: bool) -> None:
    if former.fault and not force:
        raise Conflict(
            f"The database {former.path} is damaged ({former.fault}), so that nobody can say "
            "who uses it.",
            "End all programs that do; then restore with --force.",
        )
    if former.users and not force:
        raise Conflict(
            f"The database {former.path} is in use: {former.users}.",
            "End all programs first. With --force their runs are given up.",
        )
    if former.is_open and not (backup.is_ahead or backup.lets_others_go_on):
        raise Conflict(
            f"Programs use {former.path}, and the backup is of an earlier schema.",
            "End them first: they cannot go on with it.",
        )


def _seen(connection: Connection, now: datetime, settings: Settings) -> str:
    """Say which programs were seen lately; nothing when none was."""
    if not sa.inspect(connection).has_table("scheduler_duties"):
        return ""
    found = workers.seen_since(connection, now - settings.worker_offline_threshold)
    names = [f"the worker {worker_name(worker_id)}" for worker_id in found[:NAMED]]
    if len(found) > NAMED:
        names.append(f"{len(found) - NAMED} workers more")
    seen_at = duties.last_taken(connection, duties.HEARTBEAT)
    if seen_at is not None and now - seen_at <= POLLS * settings.scheduler_poll_interval:
        names.append("a scheduler")
    return f"{' and '.join(names)} beat a moment ago" if names else ""


def _runs(connection: Connection) -> dict[str, int]:
    if not sa.inspect(connection).has_table("job_dispatch"):
        return {}
    return history.all_counts(connection)


def _keep(former: _Former, now: datetime) -> Path | None:
    """Keep what a database holds beside it; of a damaged one its files, as they are."""
    if not former.is_there:
        return None
    path = former.path
    kept = path.with_name(f"{path.name}.before-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}")
    if former.fault is None:
        with _half(kept) as half:
            copies.take(path, half)
            _sync(half)
            _name(half, kept, force=False)
        return kept
    for ending in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + ending).rename(kept.with_name(kept.name + ending))
    path.rename(kept)
    return kept
