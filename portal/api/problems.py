"""Errors of the API: problem+json with a message and the next step."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from flask import Response, request

PREFIX = "/api/"
TYPE = "application/problem+json"


def is_api() -> bool:
    """Whether a program asks, and not a page."""
    return request.path.startswith(PREFIX)


def problem(code: int, message: str, hint: str = "", **more: Any) -> Response:
    """Answer with a problem (RFC 9457); `detail` says what is wrong, `hint` what to do."""
    document = {
        "type": "about:blank",
        "title": HTTPStatus(code).phrase,
        "status": code,
        "detail": message,
        "hint": hint,
        **more,
    }
    return Response(json.dumps(document), code, mimetype=TYPE)
