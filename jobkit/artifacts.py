"""Artifacts: files that attempts leave, kept in a folder or a bucket; no database is known here.

What a script names its files is not trusted, and neither is the address in a row: a store writes
and reads below its own place only.
"""

from __future__ import annotations

import hashlib
import io
import logging
import mimetypes
import os
import re
import secrets
import shutil
import stat
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, unquote, urlsplit

from jobkit.errors import ArtifactsUnavailable, BadInput, NotFound
from jobkit.text import size

log = logging.getLogger("jobkit.artifacts")

MOST_FILES = 1000
MOST_LOOKED_AT = 20_000
LONGEST_NAME = 500
LONGEST_PART = 255
PIECE = 1 << 20
STALE_SECONDS = 86400
RETRY_SECONDS = 20
_BINARY = getattr(os, "O_BINARY", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | _BINARY
_TYPES = mimetypes.MimeTypes(filenames=())  # the machine's own list differs from host to host
for _suffix, _type in {
    ".parquet": "application/vnd.apache.parquet",
    ".ipynb": "application/x-ipynb+json",
    ".jsonl": "application/x-ndjson",
    ".ndjson": "application/x-ndjson",
    ".md": "text/markdown",
    ".sql": "text/plain",
    ".log": "text/plain",
    ".toml": "text/plain",
    ".yaml": "text/plain",
    ".yml": "text/plain",
    ".webp": "image/webp",
}.items():
    _TYPES.add_type(_type, _suffix)


@dataclass(frozen=True)
class Found:
    """A file that an attempt left."""

    name: str
    """Its path in the attempt's folder, with `/` between the parts."""
    path: Path
    size_bytes: int
    sha256: str
    media_type: str


@dataclass(frozen=True)
class Collected:
    """What is to be kept of a folder, and what is not, in one line; empty when all is."""

    files: tuple[Found, ...]
    left_out: str = ""


@dataclass(frozen=True)
class Kept:
    """Where a file is kept, as a row of `job_artifacts` says it."""

    name: str
    size_bytes: int
    sha256: str
    media_type: str
    url: str


def is_safe(name: str) -> bool:
    """Whether a name is one below a folder, whatever system reads it, and can be shown."""
    parts = name.split("/")
    return (
        name.isprintable()
        and "\\" not in name
        and len(name.encode("utf-8", "surrogatepass")) <= LONGEST_NAME
        and all(part not in ("", ".", "..") for part in parts)
        and all(len(part.encode("utf-8", "surrogatepass")) <= LONGEST_PART for part in parts)
    )


def media_type(name: str) -> str:
    """Say what a file is by its name; `application/octet-stream` when that says nothing."""
    guessed, encoding = _TYPES.guess_type(name)
    return guessed if guessed and not encoding else "application/octet-stream"


# What a folder holds


def collect(folder: Path, limit_bytes: int, most_files: int = MOST_FILES) -> Collected:
    """Find what is to be kept of a folder: its regular files, before those of folders in it.

    Links, devices and names that are not safe are left out; so is what comes after `most_files`
    and each file that goes beyond `limit_bytes` with those before it.
    """
    files: list[Found] = []
    too_large: list[str] = []
    odd = too_many = 0
    left = limit_bytes
    for name, path in _entries(folder):
        if not is_safe(name):
            odd += 1
        elif len(files) >= most_files:
            too_many += 1
        elif (found := _found(name, path, left)) is not None:
            files.append(found)
            left -= found.size_bytes
        elif (length := _length(path)) is not None:
            too_large.append(f"{name} ({size(length)})")
        else:
            odd += 1
    return Collected(tuple(files), _left_out(too_large, limit_bytes, too_many, most_files, odd))


def _entries(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield names and paths of what is no folder, at most as many as a person would make."""
    waiting, seen = [("", folder)], 0
    while waiting:
        prefix, at = waiting.pop()
        with suppress(OSError), os.scandir(at) as scanned:
            entries = sorted(islice(scanned, MOST_LOOKED_AT), key=lambda entry: entry.name)
            folders = []
            for entry in entries:
                seen += 1
                if seen > MOST_LOOKED_AT:
                    return
                name = prefix + entry.name
                if entry.is_dir(follow_symlinks=False):
                    if len(name) < LONGEST_NAME:
                        folders.append((f"{name}/", Path(entry.path)))
                else:
                    yield name, Path(entry.path)
            waiting += reversed(folders)


def _found(name: str, path: Path, left: int) -> Found | None:
    """Read a file for its hash; None when it is no regular file or longer than what is left."""
    digest, length = hashlib.sha256(), 0
    try:
        with _open_regular(path) as file:
            while piece := file.read(PIECE):
                length += len(piece)
                if length > left:
                    return None
                digest.update(piece)
    except OSError:
        return None
    return Found(name, path, length, digest.hexdigest(), media_type(name))


def _length(path: Path) -> int | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _open_regular(path: Path) -> BinaryIO:
    """Open a file that is no link and no device; OSError for anything else."""
    descriptor = os.open(path, os.O_RDONLY | _NO_LINK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is no regular file")
    return os.fdopen(descriptor, "rb")


def _left_out(
    too_large: Sequence[str], limit_bytes: int, too_many: int, most_files: int, odd: int
) -> str:
    said = []
    if too_large:
        named = ", ".join(too_large[:3]) + (
            f" and {len(too_large) - 3} more" * (len(too_large) > 3)
        )
        said.append(f"{named}: an attempt may leave {size(limit_bytes)} (JOBKIT_ARTIFACTS_LIMIT)")
    if too_many:
        said.append(f"{too_many} files after the first {most_files}")
    if odd:
        said.append(f"{odd} that are links, cannot be read or have odd names")
    return f"artifacts left out: {'; '.join(said)}" if said else ""


# Where they are kept


def default_url(database_url: str) -> str:
    """Return where a database's artifacts are kept when no setting says so.

    Beside the file of a SQLite database, else in a folder of the user named by the database.
    """
    parts = urlsplit(database_url)
    file = database_url.partition(":///")[2].partition("?")[0]
    if parts.scheme.startswith("sqlite") and file and not file.startswith((":memory:", "file:")):
        return str(Path(file + ".artifacts").absolute())
    named = f"{parts.hostname or ''}:{parts.port or ''}{parts.path}"
    short = hashlib.sha256(named.encode()).hexdigest()[:16]
    return str(Path.home() / ".local" / "share" / "jobkit" / "artifacts" / short)


def open_store(url: str) -> Store:
    """Open the store at a folder or `s3://bucket/prefix`; BadInput for anything else.

    Nothing is made or asked until something is kept.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return FolderStore(Path(url).expanduser().absolute())
    if scheme == "file" and rest.startswith("/"):
        return FolderStore(Path(unquote(rest)))
    if scheme == "s3" and rest.strip("/"):
        return BucketStore(url.rstrip("/"))
    raise BadInput(
        f"JOBKIT_ARTIFACTS_URL={url!r} is no place for artifacts.",
        "Name a folder, or s3://bucket/prefix.",
    )


def store_for(database_url: str, named: str | None) -> Store:
    """Open the store that a setting names, or else the one of a database."""
    return open_store(named or default_url(database_url))


class Store(ABC):
    """Keeps files under `runs/<run>/<attempt>/<name>`; their addresses begin with `url`."""

    url: str

    def put(self, run_id: int, attempt: int, file: Found) -> str:
        """Keep a file and return its address; a repeat overwrites. Half a file is never seen."""
        key = self._key(run_id, attempt, file.name)
        try:
            with _open_regular(file.path) as opened:
                self._write(key, opened)
        except OSError as error:
            raise ArtifactsUnavailable(
                f"{file.name} cannot be kept: {error}.", self._look()
            ) from error
        return f"{self.url}/{quote(key)}"

    def keep(self, run_id: int, attempt: int, files: Iterable[Found]) -> list[Kept]:
        """Keep files; returns what is to be written about each."""
        return [
            Kept(
                file.name,
                file.size_bytes,
                file.sha256,
                file.media_type,
                self.put(run_id, attempt, file),
            )
            for file in files
        ]

    def open(self, url: str) -> BinaryIO:
        """Open what is kept at an address; NotFound when it is not there or not in this store."""
        key = self._key_of(url)
        if key is None:
            raise NotFound(
                f"{url} is not kept in {self.url}.",
                "Set JOBKIT_ARTIFACTS_URL to the store that its worker has.",
            )
        try:
            return self._open(key)
        except FileNotFoundError:
            raise NotFound(
                f"{url} is not there.",
                "It was deleted, or its worker keeps artifacts on another machine: give all of "
                "them one JOBKIT_ARTIFACTS_URL.",
            ) from None
        except OSError as error:
            raise ArtifactsUnavailable(f"{url} cannot be read: {error}.", self._look()) from error

    def read(self, url: str) -> bytes:
        """Return all that is kept at an address."""
        try:
            with self.open(url) as file:
                return file.read()
        except OSError as error:
            raise ArtifactsUnavailable(f"{url} cannot be read: {error}.", self._look()) from error

    def delete(self, urls: Iterable[str]) -> int:
        """Delete what is kept at addresses; returns how many of them are another store's.

        What is gone already is no fault.
        """
        keys = [self._key_of(url) for url in urls]
        try:
            self._delete([key for key in keys if key is not None])
        except OSError as error:
            raise ArtifactsUnavailable(
                f"{self.url} deletes nothing: {error}.", self._look()
            ) from error
        return keys.count(None)

    def drop_runs(self, run_ids: Iterable[int]) -> None:  # noqa: B027 - a bucket has life cycles
        """Delete all that is left of runs, also what was kept for results that never came."""

    def _key(self, run_id: int, attempt: int, name: str) -> str:
        if not is_safe(name):
            raise BadInput(f"{name!r} cannot name an artifact.", "Use letters, digits, - _ and /.")
        return f"runs/{int(run_id)}/{int(attempt)}/{name}"

    def _key_of(self, url: str) -> str | None:
        base, rest = f"{self.url}/runs/", url.removeprefix(f"{self.url}/")
        key = unquote(rest)
        return key if url.startswith(base) and is_safe(key) else None

    def _look(self) -> str:
        return f"Look at {self.url}."

    @abstractmethod
    def _write(self, key: str, file: BinaryIO) -> None: ...

    @abstractmethod
    def _open(self, key: str) -> BinaryIO: ...

    @abstractmethod
    def _delete(self, keys: Sequence[str]) -> None: ...


def sweep(store: Store, run_ids: Iterable[int], urls: Iterable[str]) -> None:
    """Delete what is kept of runs that were cleaned up; a store that is away is logged only."""
    try:
        elsewhere = store.delete(urls)
        store.drop_runs(run_ids)
    except ArtifactsUnavailable as error:
        log.warning("Artifacts of old runs stay. %s", error)
        return
    if elsewhere:
        log.info("%d artifacts of old runs are kept elsewhere and stay there.", elsewhere)


class FolderStore(Store):
    """A folder that only its owner reads."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self.url = base.as_uri()

    def _write(self, key: str, file: BinaryIO) -> None:
        target = self._path(key)
        halves = self._made(self._base / ".halves")
        half = halves / secrets.token_hex(16)
        try:
            descriptor = os.open(half, os.O_CREAT | os.O_EXCL | os.O_WRONLY | _BINARY, 0o600)
            with os.fdopen(descriptor, "wb") as copy:
                shutil.copyfileobj(file, copy, PIECE)
                copy.flush()
                os.fsync(copy.fileno())
            half.replace(self._made(target.parent) / target.name)
        except BaseException:
            half.unlink(missing_ok=True)
            raise
        sync_folder(target.parent)

    def _open(self, key: str) -> BinaryIO:
        path = self._path(key)
        if not path.resolve().is_relative_to(self._base.resolve()):
            raise FileNotFoundError(path)
        return _open_regular(path)

    def _delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            path = self._path(key)
            path.unlink(missing_ok=True)
            with suppress(OSError):  # not empty yet
                for folder in islice(path.parents, len(Path(key).parts) - 2):
                    folder.rmdir()

    def drop_runs(self, run_ids: Iterable[int]) -> None:
        """Delete the folders of runs, and halves of files that nobody goes on writing."""
        for run_id in run_ids:
            folder = self._base / "runs" / str(int(run_id))
            if folder.is_dir():
                shutil.rmtree(folder, ignore_errors=True)
        stale = time.time() - STALE_SECONDS
        for half in (self._base / ".halves").glob("*"):
            with suppress(OSError):
                if half.lstat().st_mtime < stale:
                    half.unlink()

    def _path(self, key: str) -> Path:
        return self._base.joinpath(*key.split("/"))

    def _made(self, folder: Path) -> Path:
        """Make a folder and those above it, each for its owner only."""
        for each in reversed([folder, *folder.parents]):
            if each.is_relative_to(self._base):
                each.mkdir(mode=0o700, exist_ok=True, parents=each == self._base)
        return folder


def sync_folder(folder: Path) -> None:
    if os.name == "posix":  # elsewhere a folder cannot be opened
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class BucketStore(Store):
    """A bucket of S3 or of what speaks like it; keys, region and endpoint as `AWS_…` says."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._obstore, self._bucket = open_bucket(url)

    def _write(self, key: str, file: BinaryIO) -> None:
        with translated(self._obstore):
            self._obstore.put(self._bucket, key, file)

    def _open(self, key: str) -> BinaryIO:
        with translated(self._obstore):
            opened = self._obstore.open_reader(self._bucket, key, buffer_size=PIECE)
        return io.BufferedReader(_Pieces(opened, self), PIECE)

    def _delete(self, keys: Sequence[str]) -> None:
        if keys:
            with translated(self._obstore):
                self._obstore.delete(self._bucket, list(keys))


def in_short(error: Exception) -> str:
    """Say what a bucket said, without the request, its repeats and their XML."""
    said = str(error)
    code = re.search(r"<Code>(.*?)</Code>", said)
    message = re.search(r"<Message>(.*?)</Message>", said)
    if code is not None:
        return f"{code[1]}: {message[1]}" if message is not None else code[1]
    return said.strip().partition("\n")[0]


class _Pieces(io.RawIOBase):
    """Reads an object of a bucket, piece after piece."""

    def __init__(self, opened: Any, store: BucketStore) -> None:
        self._opened = opened
        self._store = store

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with translated(self._store._obstore):
            piece = bytes(self._opened.read(len(buffer)))
        buffer[: len(piece)] = piece
        return len(piece)


@contextmanager
def translated(obstore: Any) -> Iterator[None]:
    """Raise what a bucket says as an OSError, in short; FileNotFoundError for what is missing."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(in_short(error)) from error
    except obstore.exceptions.BaseError as error:
        raise OSError(in_short(error)) from error


def open_bucket(url: str) -> tuple[Any, Any]:
    """Return the library that speaks S3, and a bucket of it; BadInput without the extra s3."""
    try:
        import obstore
        from obstore.store import S3Store
    except ImportError:
        raise BadInput(
            f"{url} needs the extra s3.", "Install it: pip install 'jobkit[s3]'."
        ) from None
    # An endpoint that is named without TLS was named so by the owner of the environment.
    named = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    named = named or os.environ.get("AWS_ENDPOINT", "")
    bucket = S3Store.from_url(
        url,
        client_options={
            "allow_http": named.startswith("http://"),
            "connect_timeout": timedelta(seconds=5),
        },
        retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=RETRY_SECONDS)},
    )
    return obstore, bucket
