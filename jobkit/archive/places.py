"""Where archive files lie: a folder or a bucket, written once and never over."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, unquote

from jobkit.artifacts import open_bucket, sync_folder, translated
from jobkit.errors import ArchiveUnavailable, BadInput, NotFound

PIECE = 1 << 20
HALF = ".half-"
_KEY = re.compile(
    r"(?:runs|attempts|rollups/\w+)/month=\d{4}-\d\d/part-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\.parquet"
)


@dataclass(frozen=True)
class Thing:
    """What lies in a place: its key, and when it was written."""

    key: str
    written_at: datetime


class Place(ABC):
    """Keeps files under keys; their addresses begin with `url`."""

    url: str

    def address(self, key: str) -> str:
        """Return the address of what lies under a key, as the manifest names it."""
        return f"{self.url}/{quote(key, safe='/=')}"

    def put(self, key: str, file: Path) -> None:
        """Keep a file under a key that is not taken; half a file is never seen there.

        ArchiveUnavailable when the place does not answer, has no room, or the key is taken.
        """
        with self._told(f"{self.address(key)} cannot be written"):
            self._put(key, file)

    def fetch(self, key: str, to: Path) -> None:
        """Copy what lies under a key; NotFound when nothing does."""
        with self._told(f"{self.address(key)} cannot be read"):
            try:
                self._fetch(key, to)
            except FileNotFoundError:
                raise NotFound(
                    f"{self.address(key)} is not there.",
                    "Bring it back from a copy; jobkit archive verify names all that are missing.",
                ) from None

    def things(self) -> list[Thing]:
        """Return the archive files that lie here, listed in a manifest or not."""
        with self._told(f"{self.url} cannot be listed"):
            return [thing for thing in self._things() if _KEY.fullmatch(thing.key)]

    def delete(self, key: str) -> None:
        """Delete an archive file; what is gone already is no fault, and nothing else is touched."""
        if _KEY.fullmatch(key):
            with self._told(f"{self.address(key)} cannot be deleted"):
                self._delete(key)

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ArchiveUnavailable(f"{what}: {error}.", f"Look at {self.url}.") from error

    @abstractmethod
    def _put(self, key: str, file: Path) -> None: ...

    @abstractmethod
    def _fetch(self, key: str, to: Path) -> None: ...

    @abstractmethod
    def _things(self) -> Iterator[Thing]: ...

    @abstractmethod
    def _delete(self, key: str) -> None: ...


def open_place(url: str) -> Place:
    """Open a folder or `s3://bucket/prefix`; BadInput for anything else. Nothing is asked yet."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return Folder(Path(url).expanduser().absolute())
    if scheme == "file" and rest.startswith("/"):
        return Folder(Path(unquote(rest)))
    if scheme == "s3" and rest.strip("/"):
        return Bucket(url.rstrip("/"))
    raise BadInput(
        f"JOBKIT_ARCHIVE_URL={url!r} is no place for an archive.",
        "Name a folder, or s3://bucket/prefix.",
    )


def split(address: str) -> tuple[str, str]:
    """Take an address of the manifest apart: its place and the key there; BadInput for others."""
    for part in ("/runs/month=", "/attempts/month=", "/rollups/"):
        base, found, rest = address.rpartition(part)
        key = unquote(f"{part}{rest}".removeprefix("/"))
        if found and _KEY.fullmatch(key):
            return base, key
    raise BadInput(f"{address!r} is no archive file.", "jobkit archive verify names what is wrong.")


def fetch(address: str, to: Path) -> None:
    """Copy the archive file at an address of the manifest.

    NotFound when it is not there, ArchiveUnavailable when its place does not answer.
    """
    base, key = split(address)
    open_place(base).fetch(key, to)


def local_path(address: str) -> Path | None:
    """Return where an archive file lies if that is a folder of this machine: no copy is needed."""
    base, key = split(address)
    place = open_place(base)
    return place.path(key) if isinstance(place, Folder) else None


def sha256(file: Path) -> str:
    """Return the hash of a file's bytes."""
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while piece := opened.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


class Folder(Place):
    """A folder that only its owner reads."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self.url = base.as_uri()

    def path(self, key: str) -> Path:
        return self._base.joinpath(*key.split("/"))

    def _put(self, key: str, file: Path) -> None:
        target = self.path(key)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        half = target.parent / f"{HALF}{secrets.token_hex(8)}"
        try:
            with file.open("rb") as source, half.open("xb") as copy:
                shutil.copyfileobj(source, copy, PIECE)
                copy.flush()
                os.fsync(copy.fileno())
            _move_new(half, target)
        finally:
            half.unlink(missing_ok=True)
        sync_folder(target.parent)

    def _fetch(self, key: str, to: Path) -> None:
        shutil.copyfile(self.path(key), to)

    def _things(self) -> Iterator[Thing]:
        for path in sorted(self._base.glob("**/*.parquet")):
            with suppress(FileNotFoundError):
                written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
                yield Thing(path.relative_to(self._base).as_posix(), written)

    def _delete(self, key: str) -> None:
        path = self.path(key)
        path.unlink(missing_ok=True)
        with suppress(OSError):  # not empty yet
            path.parent.rmdir()


def _move_new(half: Path, target: Path) -> None:
    """Give a file its name unless that is taken: FileExistsError then."""
    try:
        target.hardlink_to(half)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if target.exists():
            raise FileExistsError(target) from None
        half.rename(target)


class Bucket(Place):
    """A bucket of S3 or of what speaks like it; keys, region and endpoint as `AWS_…` says."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._obstore, self._bucket = open_bucket(url)

    def _put(self, key: str, file: Path) -> None:
        with translated(self._obstore):
            # One request: only that is refused as a whole when the key is taken.
            self._obstore.put(self._bucket, key, file, mode="create", use_multipart=False)

    def _fetch(self, key: str, to: Path) -> None:
        with translated(self._obstore), to.open("wb") as copy:
            for piece in self._obstore.get(self._bucket, key).stream(min_chunk_size=PIECE):
                copy.write(piece)

    def _things(self) -> Iterator[Thing]:
        with translated(self._obstore):
            for batch in self._obstore.list(self._bucket):
                for item in batch:
                    yield Thing(item["path"], item["last_modified"])

    def _delete(self, key: str) -> None:
        with translated(self._obstore):
            self._obstore.delete(self._bucket, key)
