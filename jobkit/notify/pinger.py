"""Pings of an outside URL, so that somebody hears when no scheduler is there any more."""

from __future__ import annotations

import http.client
import logging
import threading
import urllib.error
import urllib.request

from jobkit.errors import BadInput

log = logging.getLogger("jobkit.scheduler")

SECONDS = 10.0


class Pinger:
    """Speaks the protocol of Healthchecks, beside the loop: at most one ping at a time.

    Whether it is heard changes nothing for the scheduler; that it is not is one warning.
    """

    def __init__(self, url: str | None, name: str) -> None:
        if url is not None and not url.startswith(("https://", "http://")):
            raise BadInput("JOBKIT_PING_URL is no address.", "Write https://...")
        self._url, self._name = url, name
        self._thread: threading.Thread | None = None
        self._is_heard = True

    def ping(self, signal: str = "", *, wait: bool = False) -> None:
        """Say that a scheduler is there, or `start`, or `fail`; unless the last ping still goes on.

        `wait`: for that one, and until this one is heard or given up, each 10 s at most.
        """
        if self._thread is not None and wait:
            self._thread.join(SECONDS)
        if self._url is None or (self._thread is not None and self._thread.is_alive()):
            return
        whole = f"{self._url.rstrip('/')}/{signal}" if signal else self._url
        self._thread = threading.Thread(
            target=self._send, args=(whole,), name="pinger", daemon=True
        )
        self._thread.start()
        if wait:
            self._thread.join(SECONDS)

    def _send(self, url: str) -> None:
        request = urllib.request.Request(url, self._name.encode(), method="POST")  # noqa: S310 - checked
        try:
            with urllib.request.urlopen(request, timeout=SECONDS):  # noqa: S310
                pass
        except urllib.error.HTTPError as error:
            self._note(False, f"it answered {error.code}")
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._note(False, getattr(error, "reason", None) or error)
        else:
            self._note(True, "")

    def _note(self, is_heard: bool, said: object) -> None:
        if is_heard != self._is_heard:
            self._is_heard = is_heard
            if is_heard:
                log.info("pings of JOBKIT_PING_URL are heard again")
            else:
                log.warning("a ping of JOBKIT_PING_URL failed: %s; runs go on", said)
