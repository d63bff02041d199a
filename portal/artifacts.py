"""`/runs/<id>/artifacts`: the files that a run left, to download and to look at."""

from __future__ import annotations

from pathlib import PurePosixPath

from flask import Blueprint, Response, abort, current_app, render_template, send_file
from flask.typing import ResponseReturnValue
from htmx_flask import request

import jobkit
from portal import history
from portal.pages import page
from portal.previews import IMAGE_LIMIT, can_preview, picture_type, pretty, preview

blueprint = Blueprint("artifacts", __name__, url_prefix="/runs/<int:run_id>")

# Should a browser show it all the same, it has no scripts, no origin and no cookies.
STRICT = {
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
}


blueprint.add_app_template_test(can_preview, "previewed")
blueprint.add_app_template_filter(pretty, "pretty")


def _artifact(run_id: int, attempt: int, name: str) -> jobkit.Artifact:
    kit: jobkit.Kit = current_app.config["KIT"]
    return kit.artifact(run_id, name, attempt)


@blueprint.get("/artifacts/<int:attempt>/<path:name>")
def download(run_id: int, attempt: int, name: str) -> ResponseReturnValue:
    """Give an artifact as a file, never as a page."""
    return as_file(_artifact(run_id, attempt, name))


def as_file(artifact: jobkit.Artifact) -> Response:
    """Answer with an artifact as a file, never as a page."""
    answer = send_file(
        artifact.open(),
        mimetype="application/octet-stream",
        as_attachment=True,
        download_name=PurePosixPath(artifact.name).name,
    )
    answer.headers.update(STRICT)
    return answer


@blueprint.get("/pictures/<int:attempt>/<path:name>")
def picture(run_id: int, attempt: int, name: str) -> ResponseReturnValue:
    """Give an artifact as the picture that its bytes are; 404 when they are none."""
    artifact = _artifact(run_id, attempt, name)
    if artifact.size > IMAGE_LIMIT:
        abort(404)
    data = artifact.read()
    kind = picture_type(data)
    if kind is None:
        abort(404)
    return Response(data, mimetype=kind, headers=STRICT)


@blueprint.get("/previews/<int:attempt>/<path:name>")
def look(run_id: int, attempt: int, name: str) -> str:
    """Show an artifact: a part of the run's page, or a page of its own."""
    artifact = _artifact(run_id, attempt, name)
    shown = preview(
        artifact,
        lambda: history.ask_anew("table", run_id=run_id, attempt=attempt, artifact=name),
    )
    if request.htmx:
        return render_template("artifacts/preview.html", artifact=artifact, preview=shown)
    return page("artifacts/show.html", poll=False, artifact=artifact, preview=shown)
