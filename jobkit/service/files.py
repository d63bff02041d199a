"""Files that jobkit writes for others to read, and knows again: what somebody edited is his."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from jobkit.errors import BadInput

_MARK = re.compile(r"^(?:# |<!-- )Written by jobkit service install, sha256 ([0-9a-f]{64})")


@dataclass(frozen=True)
class File:
    """A file as it is to be; its first comment says what the rest was when jobkit wrote it."""

    path: Path
    text: str
    mode: int = 0o644
    comment: str = "# {}"
    encoding: str = "utf-8"
    owner: str | None = None
    """Whose it is, where that is not who writes it."""
    is_settings: bool = False
    """Whether it is for people to edit, and so is kept when it is there."""

    @property
    def marked(self) -> str:
        """The text with the mark, below the line that XML begins with."""
        first, rest = "", self.text
        if rest.startswith("<?xml"):
            first, _, rest = rest.partition("\n")
            first += "\n"
        mark = f"Written by jobkit service install, sha256 {_digest(self.text)}"
        return f"{first}{self.comment.format(mark)}\n{rest}"

    def standing(self) -> str:
        """Say how it stands.

        `missing`; `current`; `outdated`: jobkit wrote another text; `edited`: somebody did since;
        `foreign`: jobkit did not write it.
        """
        try:
            found = self.path.read_text(self.encoding)
        except FileNotFoundError:
            return "missing"
        except UnicodeError:
            return "foreign"
        except OSError as error:
            raise _cannot("read", self.path, error) from None
        return "current" if found == self.marked else _standing(found)

    def write(self) -> None:
        """Put it in its place at once and whole; BadInput where that may not be done."""
        aside = self.path.with_name(f"{self.path.name}.new")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            aside.unlink(missing_ok=True)
            handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, self.mode)
            with os.fdopen(handle, "wb") as opened:
                opened.write(self.marked.encode(self.encoding))
            aside.chmod(self.mode)
            if self.owner is not None:
                shutil.chown(aside, self.owner)
            aside.replace(self.path)
        except (OSError, LookupError) as error:
            aside.unlink(missing_ok=True)
            raise _cannot("write", self.path, error) from None

    def remove(self) -> None:
        """Remove it; BadInput where that may not be done."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise _cannot("remove", self.path, error) from None


def _standing(found: str) -> str:
    lines = found.split("\n")
    for number, line in enumerate(lines[:2]):
        if mark := _MARK.match(line):
            del lines[number]
            return "outdated" if _digest("\n".join(lines)) == mark[1] else "edited"
    return "foreign"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _cannot(do: str, path: Path, error: Exception) -> BadInput:
    said = getattr(error, "strerror", None) or str(error)
    hint = "Services of the machine are root's: use sudo." if said == "Permission denied" else ""
    return BadInput(f"jobkit cannot {do} {path}: {said}.", hint)
