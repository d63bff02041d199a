"""What pages are dressed with: served under addresses that say the content, packed once."""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Flask, Response, abort
from htmx_flask import request

from portal.vendor import htmx

FOREVER = "public, max-age=31536000, immutable"
ENDPOINT = "static"
HTMX = "htmx.min.js"
DIGITS = 12


@dataclass(frozen=True)
class Asset:
    """A file as it is sent, plain and packed."""

    body: bytes
    packed: bytes
    digest: str
    kind: str

    @classmethod
    def read(cls, path: Path) -> Asset:
        body = path.read_bytes()
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        digest = hashlib.sha256(body).hexdigest()[:DIGITS]
        return cls(body, gzip.compress(body, 9, mtime=0), digest, kind)


def install(app: Flask) -> None:
    """Serve the files of `static/` and htmx; `url_for("static", filename=...)` says what they hold.

    They are read once: a browser that has one asks for it again when the address is another.
    """
    folder = Path(__file__).parent / "static"
    assets = {path.name: Asset.read(path) for path in folder.iterdir()}
    assets[HTMX] = Asset.read(htmx())

    def say_content(endpoint: str, values: dict[str, Any]) -> None:
        if endpoint == ENDPOINT and values.get("filename") in assets:
            values["v"] = assets[values["filename"]].digest

    def serve(filename: str) -> Response:
        asset = assets.get(filename)
        if asset is None:
            abort(404)
        packed = takes_gzip()
        answer = Response(asset.packed if packed else asset.body, mimetype=asset.kind)
        if packed:
            answer.headers["Content-Encoding"] = "gzip"
        is_named = request.args.get("v") == asset.digest
        answer.headers["Cache-Control"] = FOREVER if is_named else "no-cache"
        answer.vary.add("Accept-Encoding")
        return answer

    app.url_defaults(say_content)
    app.add_url_rule("/static/<path:filename>", ENDPOINT, serve)


def takes_gzip() -> bool:
    """Whether the browser takes what is packed."""
    return bool(request.accept_encodings["gzip"] > 0)
