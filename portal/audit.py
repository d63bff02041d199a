"""`/audit`: who did what, when and from where."""

from __future__ import annotations

from flask import Blueprint, current_app
from htmx_flask import request

import jobkit
from portal.pages import page

blueprint = Blueprint("audit", __name__)

FILTERS = ("who", "what", "about", "face", "since", "until")
FACES = ("command line", "python", "notebook", "portal", "API")
MOST_LISTED = 100


@blueprint.get("/audit")
def index() -> str:
    """List the rows that match, page after page, the newest first."""
    kit: jobkit.Kit = current_app.config["KIT"]
    given = {name: request.args.get(name, "").strip() for name in FILTERS}
    wanted = {name: words for name, words in given.items() if words}
    before = request.args.get("before", None, type=int)
    found = kit.audit(**wanted, before=before, limit=MOST_LISTED + 1)
    return page(
        "audit.html",
        poll=False,
        deeds=found[:MOST_LISTED],
        onward=found[MOST_LISTED - 1].id if len(found) > MOST_LISTED else None,
        wanted=wanted,
        before=before,
        faces=FACES,
    )
