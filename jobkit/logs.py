"""What programs that stay write: lines for people, or objects of JSON with what they are about.

Only jobkit's own loggers have the level that is set; libraries are heard from warnings on.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from jobkit.text import clean

OURS = ("jobkit", "portal")
_ABOUT: ContextVar[dict[str, Any]] = ContextVar("about", default={})  # noqa: B039 - never changed
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@contextmanager
def about(**ids: Any) -> Iterator[None]:
    """Say what the block is about: `run_id`, `attempt`, `job`, `worker` or `scheduler`.

    JSON has them with whatever this thread logs in it, by any logger.
    """
    token = _ABOUT.set(_ABOUT.get() | ids)
    try:
        yield
    finally:
        _ABOUT.reset(token)


class Lines(logging.Formatter):
    """A line for a person: nobody's name or error begins another one."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging asks for it
        """Write the line; a traceback follows in lines of its own."""
        return _CONTROL.sub(lambda found: repr(found[0])[1:-1], super().formatMessage(record))


class Objects(logging.Formatter):
    """An object of JSON in a line: ts, level, logger, message, what it is about, traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Write the line."""
        moment = datetime.fromtimestamp(record.created, UTC).replace(tzinfo=None)
        said = {
            "ts": moment.isoformat(timespec="milliseconds") + "Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_ABOUT.get(),
        }
        if record.exc_info:
            said["traceback"] = self.formatException(record.exc_info)
        line = clean(json.dumps(said, ensure_ascii=False, default=str))
        return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


def begin(form: str, level: str) -> None:
    """Log to stderr from now on: `text` or `json`, from a level on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Objects() if form == "json" else Lines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.captureWarnings(True)
    for name in OURS:
        logging.getLogger(name).setLevel(level.upper())
