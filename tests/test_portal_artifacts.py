"""What runs left, in the portal: shown where it is safe, downloaded where it is not."""

from __future__ import annotations

import base64
import json
import re
import struct
import threading
import zlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from axe_playwright_python.sync_playwright import Axe
from flask.testing import FlaskClient
from playwright.sync_api import Browser, Page, expect

from jobkit.store import claims
from jobkit.store.claims import Claim
from portal import create_app, previews, serve
from portal.previews import picture_type
from portal.reports import questions
from tests.stage import Stage, set_stage
from tests.test_keepsakes import PROVENANCE, end, kept_here, leave, parquet
from tests.test_portal import HTMX, TOKEN, body, open_portal, tree, words

__all__ = ["kept_here", "parquet"]

ATTACK = "<script>alert(1)</script>"


def make_png(width: int = 40, height: int = 20) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        sum_ = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + sum_

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress((b"\x00" + b"\x20\x80\xc0" * width) * height)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", pixels), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


PNG = make_png()
NOTEBOOK = {
    "cells": [
        {"cell_type": "markdown", "source": ["# Sales ", ATTACK]},
        {
            "cell_type": "code",
            "execution_count": 1,
            "source": "print(1)",
            "outputs": [
                {"output_type": "stream", "text": ["\x1b[32mgreen\x1b[0m\n", ATTACK]},
                {
                    "output_type": "execute_result",
                    "data": {"text/html": "<b>bold</b>", "text/plain": "plain words"},
                },
                {
                    "output_type": "display_data",
                    "data": {"image/png": base64.encodebytes(PNG).decode(), "text/plain": "x"},
                },
                {"output_type": "display_data", "data": {"image/png": '"><script>', "x": 1}},
                {"output_type": "display_data", "data": {"image/svg+xml": ATTACK}},
            ],
        },
        {
            "cell_type": "code",
            "execution_count": 2,
            "source": "1 / 0",
            "outputs": [
                {"output_type": "error", "traceback": ["\x1b[31mZeroDivisionError\x1b[0m"]}
            ],
        },
    ]
}
FILES = {
    "plots/über sales.png": PNG,
    "page.html": ATTACK.encode(),
    "drawing.svg": f"<svg xmlns='http://www.w3.org/2000/svg'>{ATTACK}</svg>".encode(),
    "fake.png": ATTACK.encode(),
    "rows.csv": b"region,revenue\n" + b"north,12\n" * 800,
    "facts.json": b'{"n": "<b>"}',
    "model.bin": b"\x00\x01",
    "sales.ipynb": json.dumps(NOTEBOOK).encode(),
    "broken.ipynb": b"[1, 2",
    "broken.parquet": b"PAR1 no",
    "a <b>&\"' %41.txt": b"odd",
}


@pytest.fixture
def left(stage: Stage, tmp_path: Path, parquet: bytes) -> Stage:
    """Run 1 has ended and left files of many kinds; run 2 is a notebook that fills in."""
    stage.job("sales", retries=0, overlap="allow")
    stage.kit.submit("sales", day="monday")
    claim = stage.claim_one()
    leave(stage, claim, {**FILES, "result.parquet": parquet}, tmp_path)
    metrics = {"rows": 1200000, "share": 0.17344}
    end(stage, claim, metrics=metrics, result={"say": ATTACK}, provenance=PROVENANCE)
    stage.kit.submit("sales")
    fill_in(stage, stage.claim_one())
    return stage


@pytest.fixture
def client(left: Stage) -> FlaskClient:
    return open_portal(left.kit)


def fill_in(stage: Stage, claim: Claim, share: float = 0.42) -> None:
    """Tell progress and the events of three cells: one done, one failed, one running."""
    told: list[dict[str, Any]] = [
        {"id": "a", "kind": "start", "text": f"load()  # {ATTACK}\nmore"},
        {"id": "a", "kind": "output", "text": "".join(f"line {n}\n" for n in range(9))},
        {"id": "a", "kind": "end", "ok": True, "seconds": 2.5},
        {"id": "b", "kind": "start", "text": "1 / 0"},
        {
            "id": "b",
            "kind": "output",
            "output": "error",
            "text": "\x1b[31mZeroDivisionError\x1b[0m",
        },
        {"id": "b", "kind": "end", "ok": False, "seconds": 0.1},
        {"id": "c", "kind": "start", "text": "train()"},
    ]
    told = [{**event, "index": "abc".index(event["id"]), "of": 5} for event in told]
    now = stage.clock.now()
    chunks = [(seq, now, json.dumps(event) + "\n", "cell") for seq, event in enumerate(told)]
    with stage.kit.database.write() as connection:
        told_of = (share, f"the north {ATTACK}")
        assert claims.write_output(connection, claim, chunks, told_of)


@pytest.mark.parametrize("path", ["/runs/1", "/runs/2"])
def test_the_pages_are_valid_html(client: FlaskClient, path: str) -> None:
    document = body(client, path)
    tree(document)
    assert ATTACK not in document


def test_a_run_shows_metrics_result_and_what_it_ran_on(client: FlaskClient) -> None:
    said = words(body(client, "/runs/1"))
    for part in (
        "rows 1,200,000 share 0.17344",
        'Result { "say": "<script>alert(1)</script>" }',
        "Script /srv/scripts/hello.py SHA-256 abababababab",
        "Kind python, warm",
        "Commit 012345678901 on main with changes",
        "Host laptop Linux-6.1",
        "Python CPython 3.12.1 /usr/bin/python3",
        "Packages cdcdcdcdcdcd",
        "Variables 2 names LANG PATH",
    ):
        assert part in said


def test_progress_is_shown_while_it_runs_and_not_when_it_completed(
    left: Stage, client: FlaskClient
) -> None:
    document = body(client, "/runs/2")
    assert '<progress max="1" value="0.42" aria-label="Progress">42%</progress>' in document
    assert f"42% the north {ATTACK}" in words(document)
    end(left, Claim(**vars_of(left, 2)))
    assert "<progress" not in body(client, "/runs/2")


def vars_of(stage: Stage, run_id: int) -> dict[str, Any]:
    """Return what a claim of a run that is running says."""
    run = stage.kit.run(run_id)
    assert run.claimed_at is not None
    values = {name: getattr(run, name, None) for name in Claim.__dataclass_fields__}
    return values | {"run_id": run.id, "job_id": run.job_id}


def test_cells_of_a_running_notebook_are_listed(client: FlaskClient) -> None:
    for headers in ({}, HTMX):
        said = " ".join(re.sub(r"<[^>]*>", " ", body(client, "/runs/2", **headers)).split())
        assert (
            "1 of 5 ✓ completed load() # &lt;script&gt;alert(1)&lt;/script&gt; 2.5 s line 0" in said
        )
        assert "line 3 …" in said
        assert "line 4" not in said
        assert "2 of 5 ✕ failed 1 / 0 100 ms ZeroDivisionError" in said
        assert "3 of 5 ▶ running train() started 2026-" in said


def test_artifacts_are_listed_with_size_and_download(client: FlaskClient) -> None:
    document = body(client, "/runs/1")
    assert "rows.csv 7.2 kB Download Preview" in words(document)
    assert "model.bin 2 B Download page.html" in words(document)
    assert 'href="/runs/1/artifacts/1/plots/%C3%BCber%20sales.png"' in document


@pytest.mark.parametrize("name", [*FILES, "result.parquet"])
def test_a_download_is_never_a_page(client: FlaskClient, left: Stage, name: str) -> None:
    address = next(
        found
        for found in re.findall(r'href="(/runs/1/artifacts/[^"]*)"', body(client, "/runs/1"))
        if unquote(unescape(found)).endswith(f"/1/{name}")
    )
    with client.get(unescape(address)) as answer:
        assert answer.status_code == 200
        assert answer.data == left.kit.artifact(1, name).read()
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"].startswith("attachment; filename")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    [
        "/runs/1/artifacts/1/gone.csv",
        "/runs/1/artifacts/2/rows.csv",
        "/runs/9/artifacts/1/rows.csv",
        "/runs/1/artifacts/1/..%2f..%2f..%2fjobkit.db",
        "/runs/1/artifacts/1//etc/passwd",
        "/runs/1/pictures/1/fake.png",
        "/runs/1/pictures/1/page.html",
        "/runs/1/pictures/1/drawing.svg",
        "/runs/1/previews/1/gone.csv",
    ],
)
def test_what_is_not_there_or_no_picture_is_not_found(client: FlaskClient, path: str) -> None:
    assert client.get(path, follow_redirects=True).status_code == 404


def test_nothing_is_given_without_the_token(left: Stage) -> None:
    client = create_app(left.kit, token=TOKEN).test_client()
    for kind in ("artifacts", "previews", "pictures"):
        answer = client.get(f"/runs/1/{kind}/1/plots/über sales.png")
        assert answer.status_code == 401
        assert PNG not in answer.data


def test_a_row_that_names_another_file_reads_nothing(left: Stage, client: FlaskClient) -> None:
    import sqlalchemy as sa

    with left.kit.database.write() as connection:
        connection.execute(
            sa.text("UPDATE job_artifacts SET url = 'file:///etc/passwd' WHERE name = 'rows.csv'")
        )
    answer = client.get("/runs/1/artifacts/1/rows.csv")
    assert answer.status_code == 404
    assert "JOBKIT_ARTIFACTS_URL" in answer.text
    assert "root:" not in answer.text
    assert "is not kept in" in words(body(client, "/runs/1/previews/1/rows.csv"))


def look(client: FlaskClient, name: str) -> str:
    """Return the preview of an artifact, as a part of the run's page."""
    part, whole = (body(client, f"/runs/1/previews/1/{name}", **headers) for headers in (HTMX, {}))
    tree(whole)
    assert ATTACK not in part
    assert "<html" not in part
    assert part.strip() in whole
    return part


def test_a_picture_is_shown_as_what_its_bytes_are(client: FlaskClient) -> None:
    part = look(client, "plots/über sales.png")
    (address,) = re.findall(r'<img class="picture" src="([^"]*)" alt="plots/über sales.png">', part)
    answer = client.get(address)
    assert (answer.data, answer.headers["Content-Type"]) == (PNG, "image/png")
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8", "image/webp"),
        (b"<svg", None),
        (b"", None),
    ],
)
def test_pictures_are_told_by_their_first_bytes(data: bytes, kind: str | None) -> None:
    assert picture_type(data) == kind


def test_text_shows_its_beginning(client: FlaskClient) -> None:
    part = look(client, "rows.csv")
    assert part.count("north,12") == 453
    assert "The first 4 KiB of 7.2 kB." in part
    assert "{&#34;n&#34;: &#34;&lt;b&gt;&#34;}" in look(client, "facts.json")
    assert "&lt;script&gt;alert(1)" in look(client, "page.html")


def test_a_table_shows_its_first_rows(
    client: FlaskClient, left: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = " ".join(re.sub(r"<[^>]*>", " ", look(client, "result.parquet")).split())
    assert said == "day rows mon 1 tue 2"
    monkeypatch.setattr(questions, "TABLE_ROWS", 1)
    monkeypatch.setattr(questions, "MOST_COLUMNS", 1)
    said = " ".join(re.sub(r"<[^>]*>", " ", look(client, "result.parquet")).split())
    assert said == "day mon Shown: the first 1 rows, the first 1 of 2 columns."
    monkeypatch.setitem(__import__("sys").modules, "polars", None)
    assert "pip install &#39;jobkit[analytics]&#39;" in look(client, "result.parquet")


def test_a_notebook_shows_text_and_png_and_never_its_html(client: FlaskClient) -> None:
    part = look(client, "sales.ipynb")
    said = " ".join(re.sub(r"<[^>]*>", " ", part).split())
    attack = "&lt;script&gt;alert(1)&lt;/script&gt;"
    assert said == (f"# Sales {attack} print(1) green {attack} plain words 1 / 0 ZeroDivisionError")
    assert part.count("data:image/png;base64,") == 1
    assert base64.b64encode(PNG).decode() in part
    assert part.count('<li class="broken">') == 1
    assert "bold" not in part


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("broken.ipynb", "is not JSON"),
        ("broken.parquet", "cannot be read as a table"),
        ("model.bin", "have no preview"),
    ],
)
def test_what_cannot_be_shown_says_why(client: FlaskClient, name: str, why: str) -> None:
    assert why in look(client, name)


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        {"cells": 3},
        {"cells": [3, {"outputs": 3}, {"outputs": [3, {"data": 3}, {"text": [3]}]}]},
        {"cells": [{"cell_type": "code", "source": 3, "outputs": [{"data": {"image/png": 3}}]}]},
    ],
)
def test_a_notebook_of_any_shape_is_no_error(left: Stage, tmp_path: Path, document: Any) -> None:
    left.kit.submit("sales")
    claim = left.claim_one()
    leave(left, claim, {"odd.ipynb": json.dumps(document).encode()}, tmp_path)
    assert previews.preview(left.kit.artifact(claim.run_id, "odd.ipynb"), dict).kind in (
        "notebook",
        "nothing",
    )


def test_what_is_too_large_is_not_read(left: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("plots/über sales.png", "sales.ipynb", "result.parquet"):
        artifact = replace(left.kit.artifact(1, name), size=10**10, url="file:///nowhere")
        assert "larger than" in previews.preview(artifact, dict).note


# In a browser


@pytest.fixture
def portal(left: Stage) -> Iterator[str]:
    """The address of a portal that listens."""
    server = serve(create_app(left.kit, token=TOKEN), "127.0.0.1", 0)
    thread = threading.Thread(target=server.run)
    thread.start()
    yield server.url
    server.close()
    thread.join(10)


@pytest.fixture
def database(sqlite_database: str) -> str:
    """One database is enough: every page is rendered from what a Kit hands out."""
    return sqlite_database


@pytest.fixture
def stage(database: str) -> Iterator[Stage]:
    opened = set_stage(database)
    yield opened
    opened.kit.close()


def complaints(page: Page) -> list[str]:
    found: list[str] = page.complaints  # type: ignore[attr-defined]
    return found


def test_previews_load_when_they_come_into_view_and_stay_open(page: Page, portal: str) -> None:
    page.goto(f"{portal}/runs/1?token={TOKEN}")
    row = page.locator("[data-key='artifact-1-rows.csv']")
    expect(row.locator("pre")).to_have_count(0)
    row.locator("summary").click()
    expect(row.locator("pre")).to_contain_text("north,12")
    picture = page.locator("[data-key='artifact-1-plots/über sales.png']")
    picture.locator("summary").click()
    expect(picture.locator("img")).to_be_visible()
    assert picture.locator("img").evaluate("image => image.naturalWidth") == 40
    notebook = page.locator("[data-key='artifact-1-sales.ipynb']")
    notebook.locator("summary").click()
    shown = notebook.locator("img")
    expect(shown).to_be_visible()
    assert shown.evaluate("image => image.naturalWidth") == 40
    assert complaints(page) == []


def test_a_running_notebook_is_followed_to_its_end_without_a_reload(
    page: Page, portal: str, left: Stage, tmp_path: Path
) -> None:
    page.goto(f"{portal}/runs/2?token={TOKEN}")
    expect(page.locator("progress")).to_have_attribute("value", "0.42")
    expect(page.locator(".cells > li")).to_have_count(3)
    claim = Claim(**vars_of(left, 2))
    with left.kit.database.write() as connection:
        ended = json.dumps({"id": "c", "kind": "end", "ok": True, "seconds": 3})
        chunk = (7, left.clock.now(), ended + "\n", "cell")
        assert claims.write_output(connection, claim, [chunk], (0.9, "the south"))
    expect(page.locator("progress")).to_have_attribute("value", "0.9")
    expect(page.locator(".cells > li").last).to_contain_text("completed train() 3 s")
    leave(left, claim, {"note.txt": b"found"}, tmp_path)
    page.locator(".artifacts .preview").scroll_into_view_if_needed()
    expect(page.locator(".artifacts .preview pre")).to_have_text("found")
    page.locator(".artifacts summary").click()
    page.wait_for_timeout(2500)  # a poll must not open it again
    expect(page.locator(".artifacts details")).not_to_have_attribute("open", "")
    page.locator(".artifacts summary").click()
    left.clock.turn(timedelta(seconds=9))
    end(left, claim, metrics={"rows": 7}, provenance=PROVENANCE)
    expect(page.locator(".lead")).to_contain_text("completed")
    expect(page.locator("progress")).to_have_count(0)
    expect(page.locator("#live")).to_contain_text("rows")
    expect(page.locator("#about-run")).to_contain_text("012345678901 on main")
    expect(page.locator("#about-run")).to_have_count(1)
    expect(page.locator(".artifacts .preview pre")).to_have_text("found")
    assert complaints(page) == []


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 390)])
def test_the_pages_are_accessible_and_fit(
    browser: Browser, portal: str, scheme: Any, width: int
) -> None:
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 860})
    page = context.new_page()
    page.goto(f"{portal}/?token={TOKEN}")
    found = {}
    names = ("rows.csv", "sales.ipynb", "result.parquet", "model.bin", "plots/über sales.png")
    for path in ("/runs/1", "/runs/2", *(f"/runs/1/previews/1/{name}" for name in names)):
        page.goto(portal + path)
        for summary in page.locator("details:not([open]) > summary").all():
            summary.scroll_into_view_if_needed()
        page.evaluate("document.querySelectorAll('details').forEach(it => it.open = true)")
        for part in page.locator(".preview[hx-get]").all():
            part.scroll_into_view_if_needed()
            expect(part.locator("> a")).to_have_count(0)
        violations = Axe().run(page).response["violations"]
        found[path] = [(item["id"], item["nodes"][0]["html"]) for item in violations]
        assert not page.evaluate("document.documentElement.scrollWidth > innerWidth"), path
    context.close()
    assert {path: list_ for path, list_ in found.items() if list_} == {}
