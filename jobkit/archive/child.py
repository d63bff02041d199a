"""The archiver of a scheduler: a process of its own, so that no tick waits for it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

from jobkit.settings import Settings, setting_names

log = logging.getLogger("jobkit.archive")

OF_THE_ARCHIVE = ("db_url", "archive_url", "archive_after_days", "archive_keep_runs")


class Child:
    """At most one `jobkit archive` at a time; ending it at any point does no harm."""

    def __init__(self, url: str, settings: Settings) -> None:
        self._url, self._settings = url, settings
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin a pass, unless one still runs."""
        if self._process is not None and self._process.poll() is None:
            return
        log.info("archiving to %s", self._settings.archive_url)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "jobkit", "archive", "--json"],
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    def look(self) -> None:
        """Hear how the last pass ended; what it said is on stderr."""
        if self._process is not None and (code := self._process.poll()) is not None:
            self._process = None
            if code != 0:
                log.warning("the archive pass ended with %d; the next one goes on", code)

    def stop(self) -> None:
        """End a pass that runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _environment(self) -> dict[str, str]:
        values = self._settings.model_copy(update={"db_url": self._url})
        names = setting_names()
        given = {names[field]: getattr(values, field) for field in OF_THE_ARCHIVE}
        return os.environ | {name: str(value) for name, value in given.items()}
