"""Channels: a name that everybody sees, and an address with its secrets that nobody does."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from jobkit.errors import BadInput

WEBHOOKS = ("webhook+https", "webhook+http")
MAIL = ("mailto", "mailtos")
_WRITTEN = re.compile(r"(?:(?P<name>[\w.-]{1,64})=)?(?P<url>(?P<scheme>[a-z][a-z0-9+.-]*)://\S+)")


@dataclass(frozen=True)
class Channel:
    """A way to tell people something."""

    name: str
    url: str = field(repr=False)

    @property
    def scheme(self) -> str:
        return self.url.partition("://")[0].lower()

    @property
    def is_webhook(self) -> bool:
        return self.scheme in WEBHOOKS

    @property
    def is_mail(self) -> bool:
        return self.scheme in MAIL


def channels(written: Sequence[str]) -> tuple[Channel, ...]:
    """Read the channels of JOBKIT_NOTIFY_URLS; BadInput, which shows no address, for a wrong one.

    One that has no name is called by its scheme and a hash of its address.
    """
    read = tuple(_channel(number, text) for number, text in enumerate(written, start=1))
    names = [channel.name for channel in read]
    for name in names:
        if names.count(name) > 1:
            raise BadInput(
                f"Two channels of JOBKIT_NOTIFY_URLS are called {name!r}.", "Name them apart."
            )
    return read


def _channel(number: int, text: str) -> Channel:
    found = _WRITTEN.fullmatch(text)
    if found is None:
        raise BadInput(
            f"Channel {number} of JOBKIT_NOTIFY_URLS is no address.",
            "Write Apprise URLs or webhook+https://..., with a name if you like: "
            "ops=mailtos://user:password@example.com, separated by spaces.",
        )
    if found["scheme"].startswith("webhook") and found["scheme"] not in WEBHOOKS:
        raise BadInput(
            f"Channel {number} of JOBKIT_NOTIFY_URLS is a webhook by {found['scheme']!r}.",
            "Write webhook+https://...",
        )
    short = hashlib.sha256(found["url"].encode()).hexdigest()[:8]
    return Channel(found["name"] or f"{found['scheme']}-{short}", found["url"])
