"""A webhook: JSON, signed as Standard Webhooks (standardwebhooks.com) has it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from datetime import datetime
from typing import Any

from jobkit.notify.channels import Channel
from jobkit.notify.outgoing import Hosts, post
from jobkit.notify.undelivered import Undelivered
from jobkit.settings import Settings
from jobkit.text import iso

PREFIX = "whsec_"


def send(channel: Channel, notice: Any, now: datetime, settings: Settings, link: str) -> None:
    """Post a notice to a webhook; Undelivered when it was not taken."""
    if settings.webhook_secret is None:
        raise Undelivered("a webhook is signed, and JOBKIT_WEBHOOK_SECRET is not set")
    body = document(notice, link)
    headers = {"Content-Type": "application/json", "User-Agent": "jobkit"}
    headers |= signed(settings.webhook_secret, f"notice-{notice.id}", now, body)
    hosts = Hosts(settings.webhook_hosts, settings.webhook_private_hosts)
    post(channel.url.removeprefix("webhook+"), body, headers, hosts)


def document(notice: Any, link: str) -> bytes:
    """Return what is posted."""
    shown = {
        "key": notice.key,
        "subject": notice.subject,
        "text": notice.text,
        "severity": notice.severity,
        "job": notice.job,
        "run_id": notice.run_id,
        "created_at": iso(notice.created_at),
        "url": link or None,
    }
    return json.dumps(shown).encode()


def signed(secret: str, message_id: str, now: datetime, body: bytes) -> dict[str, str]:
    """Return the headers that say which message it is, of when, and that it is ours.

    A repeat has the same id: by it a receiver drops what it has seen.
    """
    stamp = str(int(now.timestamp()))
    content = f"{message_id}.{stamp}.".encode() + body
    digest = hmac.new(_key(secret), content, hashlib.sha256).digest()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": stamp,
        "webhook-signature": "v1," + base64.b64encode(digest).decode(),
    }


def _key(secret: str) -> bytes:
    """Return the key of a secret: `whsec_` and Base64, as the standard has it, or any text."""
    if not secret.startswith(PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        raise Undelivered("JOBKIT_WEBHOOK_SECRET begins with whsec_ and is no Base64") from None
