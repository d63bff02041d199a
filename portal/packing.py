"""Answers in fewer bytes: pages go packed to browsers that unpack.

What is secret in a page is another text in each (`origin.form_token`), so that the length of the
packed ones tells nobody what it is.
"""

from __future__ import annotations

import gzip
from functools import lru_cache

from flask import Flask, Response

from portal.assets import takes_gzip

LEAST_BYTES = 600
LEVEL = 5
KEPT = 64


def install(app: Flask) -> None:
    """Pack the pages of an application; to be installed before whatever else changes answers."""
    app.after_request(_pack)


def _pack(answer: Response) -> Response:
    if answer.mimetype != "text/html" or answer.is_streamed or "Content-Encoding" in answer.headers:
        return answer
    answer.vary.add("Accept-Encoding")
    if answer.status_code == 200 and takes_gzip():
        body = answer.get_data()
        if len(body) >= LEAST_BYTES:
            answer.set_data(_packed(body))
            answer.headers["Content-Encoding"] = "gzip"
    return answer


@lru_cache(KEPT)
def _packed(body: bytes) -> bytes:
    """Pack; a part that many look at is packed once."""
    return gzip.compress(body, LEVEL, mtime=0)
