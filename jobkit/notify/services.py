"""Mail, chats and all else that Apprise speaks to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from jobkit.notify.channels import Channel
from jobkit.notify.undelivered import Undelivered

SECONDS = 60
_TYPES = {"info": "info", "warning": "warning", "critical": "failure"}


def send(channel: Channel, notice: Any, link: str, files: Sequence[Path] = ()) -> None:
    """Send a notice by Apprise, with files; Undelivered when the service did not take it."""
    try:
        import apprise
    except ImportError:
        raise Undelivered("this needs the extra notify: pip install 'jobkit[notify]'") from None
    asset = apprise.AppriseAsset(
        app_id="jobkit", app_desc="jobkit", app_url="", storage_mode="memory", secure_logging=True
    )
    sender = apprise.Apprise(asset=asset)
    if not sender.add(channel.url):
        raise Undelivered("Apprise does not know this sort of address, or finds it incomplete")
    result = sender.notify(
        title=notice.subject,
        body="\n\n".join(filter(None, (notice.text or notice.subject, link))),
        body_format="text",
        notify_type=_TYPES[notice.severity],
        attach=[str(file) for file in files] or None,
        timeout=SECONDS,
    )
    if not result:
        said = "; ".join(dict.fromkeys(str(entry.message) for entry in result.logs()))
        raise Undelivered(masked(said or "the service did not take it", channel.url))


def masked(text: str, url: str) -> str:
    """Return words without the address and whatever of it may be a secret."""
    rest = url.partition("://")[2]
    cuts = rest
    for mark in "/?&=:@#,":
        cuts = cuts.replace(mark, "\n")
    parts = {part for part in cuts.split("\n") if len(part) >= 4}
    secrets = {url, rest} | parts | {unquote(part) for part in parts}
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text
