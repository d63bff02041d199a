"""The audit: what is recorded of whom by which face, and a chain that shows what was touched."""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

import jobkit
from jobkit import chain, cli, migrations, passwords
from jobkit.db import Database
from jobkit.errors import BadInput, Conflict
from jobkit.models import audit as table
from jobkit.store import audit
from portal import create_app
from tests.people import SAME_ORIGIN, add_people, bearer, enter
from tests.stage import MONDAY, Stage


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "COST", 4)


def done(kit: jobkit.Kit) -> list[tuple[str, str]]:
    """Return what was done, oldest first."""
    return [(deed.what, deed.about) for deed in reversed(kit.audit(limit=1000))]


def test_whatever_is_asked_of_a_kit_is_recorded(stage: Stage) -> None:
    kit = stage.kit
    stage.job(every="1h")
    kit.edit("sales", priority=2)
    kit.pause("sales")
    kit.pause("sales")  # it is already, so nothing is done
    kit.resume("sales")
    first = kit.submit("sales", token="not-for-the-audit")
    many = kit.submit_many("sales", [{}, {}])
    first.cancel()
    first.cancel()
    again = kit.retry(first.id)
    reset = kit.reset(first.id)
    kit.search.cancel([again.id, reset.id])
    kit.search.retry([again.id])
    slots = kit.backfill("sales", MONDAY - timedelta(hours=2), MONDAY)
    kit.backfill("sales", MONDAY - timedelta(hours=2), MONDAY, dry_run=True)
    stage.register("w1")
    kit.drain("w1")
    kit.delete("sales")
    ids = [first.id, many[0], many[1], again.id, reset.id]
    assert done(kit) == [
        ("added a job", "sales, version 1"),
        ("edited a job", "sales, version 2"),
        ("paused a job", "sales, version 3"),
        ("resumed a job", "sales, version 4"),
        ("submitted a run", f"run {ids[0]} of sales"),
        ("submitted runs", f"runs {ids[1]}, {ids[2]} of sales"),
        ("cancelled a run", f"run {ids[0]}"),
        ("ran a run again", f"run {ids[0]} as run {ids[3]}"),
        ("reset a run", f"run {ids[0]} as run {ids[4]}"),
        ("cancelled a run", f"run {ids[3]}"),
        ("cancelled a run", f"run {ids[4]}"),
        ("ran a run again", f"run {ids[3]} as run {ids[4] + 1}"),
        (
            "backfilled a job",
            f"sales: 3 runs, 2026-03-02T04:00:00Z to 2026-03-02T06:00:00Z, {slots.id}",
        ),
        ("drained workers", "w1 (1)"),
        ("deleted a job", "sales, version 5"),
    ]
    assert {(deed.who, deed.face, deed.address) for deed in kit.audit()} == {
        (kit.who, "python", "")
    }
    assert kit.who.startswith(f"{kit.user}@")


def test_what_is_not_done_is_not_recorded(stage: Stage) -> None:
    stage.job()
    with pytest.raises(Conflict):
        stage.job()
    with suppress(InterruptedError), stage.kit.database.write() as connection:
        audit.note(connection, stage.clock.now(), who="anna", what="tried")
        raise InterruptedError
    assert [what for what, _ in done(stage.kit)] == ["added a job"]


def test_each_face_says_which_it_is(stage: Stage, database: str) -> None:
    add_people(stage.kit)
    app = create_app(stage.kit, token=None)
    with pytest.raises(SystemExit):
        cli.main(["--db", database, "job", "add", "loads", "hello.py"])
    operator = enter(app, "operator")
    operator.post("/jobs/loads/runs", headers=SAME_ORIGIN)
    shown = bearer(stage.kit, "operator")
    answer = app.test_client().post("/api/v1/jobs/loads/runs", json={}, headers=shown)
    assert answer.status_code == 201, answer.text
    operator.post("/logout", headers=SAME_ORIGIN)
    who = stage.kit.who
    found = [(deed.who, deed.what, deed.face, deed.address) for deed in stage.kit.audit(limit=6)]
    assert found == [
        ("operator", "signed out", "portal", "127.0.0.1"),
        ("token of operator", "submitted a run", "API", "127.0.0.1"),
        (who, "made a token", "python", ""),
        ("operator", "submitted a run", "portal", "127.0.0.1"),
        ("operator", "signed in", "portal", "127.0.0.1"),
        (who, "added a job", "command line", ""),
    ]


def test_what_the_portal_does_without_words_of_its_own_is_recorded_by_its_address(
    stage: Stage,
) -> None:
    add_people(stage.kit)
    stage.job()
    stage.kit.pause("sales")
    operator = enter(create_app(stage.kit, token=None), "operator")
    operator.post("/jobs/sales/pause", headers=SAME_ORIGIN)
    deed = stage.kit.audit(limit=1)[0]
    assert (deed.who, deed.what, deed.about) == ("operator", "did", "POST /jobs/sales/pause")


# The chain


@pytest.fixture
def sealed(stage: Stage) -> Stage:
    """A stage whose audit has five sealed rows."""
    for number in range(5):
        stage.clock.turn(timedelta(minutes=1))
        stage.kit.audit.note("did", f"thing {number + 1}", who="anna")
    assert stage.kit.audit.seal() == 5
    return stage


WORDS = "who, what, about, address"
TOUCHED = (
    "UPDATE portal_audit SET about = 'another thing' WHERE number = 3",
    "UPDATE portal_audit SET who = 'bob' WHERE sha256 IS NULL",
    "UPDATE portal_audit SET sha256 = 'x' WHERE sha256 IS NULL",
    f"UPDATE portal_audit SET sha256 = '{'a' * 64}' WHERE sha256 IS NULL",
    "UPDATE portal_audit SET sha256 = NULL, number = NULL",
    "UPDATE portal_audit SET number = 9 WHERE number = 5",
    "DELETE FROM portal_audit WHERE number = 3",
    "DELETE FROM portal_audit WHERE sha256 IS NULL",
    "UPDATE audit_head SET number = 2",
    "DELETE FROM audit_head",
    f"INSERT INTO portal_audit (at, {WORDS}, number) VALUES ('2026-03-02', 'x', 'x', 'x', 'x', 6)",
)
REPLACED = (
    f"REPLACE INTO portal_audit (id, at, {WORDS}) VALUES (3, '2026-03-02', 'x', 'x', 'x', 'x')",
    f"UPDATE OR REPLACE portal_audit SET number = 3, sha256 = '{'a' * 64}' WHERE number IS NULL",
    "INSERT OR REPLACE INTO audit_head VALUES (1, 2, 'x')",
)


@pytest.mark.parametrize("statement", [*TOUCHED, *REPLACED, "TRUNCATE portal_audit"])
def test_the_database_refuses_to_change_what_was_recorded(sealed: Stage, statement: str) -> None:
    sealed.kit.audit.note("did", "what is not sealed yet")
    is_sqlite = sealed.kit.database.is_sqlite
    if (statement in REPLACED and not is_sqlite) or (statement.startswith("TRUNC") and is_sqlite):
        pytest.skip("the other database's words")
    before = done(sealed.kit)
    with (
        pytest.raises(sa.exc.DBAPIError, match="only added"),
        sealed.kit.database.write() as connection,
    ):
        connection.execute(sa.text(statement))
    assert done(sealed.kit) == before


def test_a_program_of_before_still_records(sealed: Stage) -> None:
    statement = (
        "INSERT INTO portal_audit (at, who, what, about, address) "
        "VALUES ('2026-03-02 07:00:00', 'bob', 'signed in', '', '10.0.0.1')"
    )
    with sealed.kit.database.write() as connection:
        connection.execute(sa.text(statement))
    assert sealed.kit.audit.seal() == 1
    assert sealed.kit.audit.verify().fault == ""


def force(stage: Stage, *statements: str) -> None:
    """Change rows as the owner of the database can, who puts the triggers aside."""
    with stage.kit.database.write() as connection:
        if stage.kit.database.is_sqlite:
            asked = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'audit%'"
            for name in list(connection.scalars(sa.text(asked))):
                connection.execute(sa.text(f"DROP TRIGGER {name}"))
        else:
            for name in ("portal_audit", "audit_head"):
                connection.execute(sa.text(f"ALTER TABLE {name} DISABLE TRIGGER USER"))
        for statement in statements:
            connection.execute(sa.text(statement))


@pytest.mark.parametrize("column", ["who", "what", "about", "face", "address", "sha256"])
def test_a_word_that_was_changed_is_found(sealed: Stage, column: str) -> None:
    force(sealed, f"UPDATE portal_audit SET {column} = 'x' WHERE number = 3")
    assert sealed.kit.audit.verify().fault.startswith("row 3 is not what was written")


FORCED = {
    "an instant": (
        "UPDATE portal_audit SET at = '2026-03-01 00:00:00' WHERE number = 2",
        "row 2 is not what was written",
    ),
    "one that is gone": ("DELETE FROM portal_audit WHERE number = 3", "row 3 is missing"),
    "the first is gone": ("DELETE FROM portal_audit WHERE number = 1", "row 1 is missing"),
    "the last is gone": ("DELETE FROM portal_audit WHERE number = 5", "ends with row 4"),
    "all are gone": ("DELETE FROM portal_audit", "ends with row 0"),
    "two changed places": (
        "UPDATE portal_audit SET number = 8 - number WHERE number = 3 OR number = 5",
        "row 3 is not what was written",
    ),
}


@pytest.mark.parametrize("case", FORCED)
def test_what_is_out_of_its_place_is_found_and_breaks_law_8(sealed: Stage, case: str) -> None:
    statement, words = FORCED[case]
    if case == "two changed places":  # through a number that nobody has
        statement = "UPDATE portal_audit SET number = 9 WHERE number = 3"
        force(
            sealed,
            statement,
            "UPDATE portal_audit SET number = 3 WHERE number = 5",
            "UPDATE portal_audit SET number = 5 WHERE number = 9",
        )
    else:
        force(sealed, statement)
    assert words in sealed.kit.audit.verify().fault
    (finding,) = [found for found in sealed.kit.verify() if found.broken]
    assert finding.law == 8
    assert "the audit" in finding.breaches[0]


def test_the_schedulers_seal_what_was_recorded(stage: Stage) -> None:
    from jobkit import scheduler

    assert "seal the audit" in scheduler.DUTIES
    stage.job()
    verdict = stage.kit.audit.verify()
    assert (verdict.rows, verdict.unsealed) == (0, 1)
    with stage.kit.database.write() as connection:
        duty = scheduler.DUTIES["seal the audit"]
        assert not duty.work(connection, stage.clock.now(), stage.kit.settings).again
    verdict = stage.kit.audit.verify()
    assert (verdict.rows, verdict.unsealed, verdict.fault) == (1, 0, "")


def test_many_that_record_and_several_that_seal_make_one_chain(kit: jobkit.Kit) -> None:
    kit.add_job("any", "hello.py", overlap="allow")
    over = threading.Event()
    failed: list[Exception] = []

    def guarded(work: Any) -> threading.Thread:
        def run() -> None:
            try:
                work()
            except Exception as error:  # noqa: BLE001 - told below
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def submit() -> None:
        for _ in range(25):
            kit.submit("any")

    def seal() -> None:
        while not over.is_set():
            kit.audit.seal()

    sealers = [guarded(seal) for _ in range(3)]
    for thread in [guarded(submit) for _ in range(4)]:
        thread.join()
    over.set()
    for thread in sealers:
        thread.join()
    kit.audit.seal()
    verdict = kit.audit.verify()
    assert failed == []
    assert (verdict.rows, verdict.unsealed, verdict.fault) == (101, 0, "")


def test_nobody_waits_for_a_transaction_that_goes_on_and_its_row_is_not_left_out(
    postgres_database: str,
) -> None:
    with jobkit.connect(postgres_database) as kit:
        with kit.database.write() as open_one:
            audit.note(open_one, kit.clock.now(), who="slow", what="did")
            kit.audit.note("did", who="fast")
            assert kit.audit.seal() == 1
            with kit.database.write() as sealing:
                assert audit.seal(sealing) == 0
                head = sa.text("SELECT * FROM audit_head FOR UPDATE")
                sealing.execute(head)
                assert kit.audit.seal() == 0, "somebody else seals: there is nothing to wait for"
        assert kit.audit.seal() == 1
        assert [(deed.who, deed.number) for deed in kit.audit()] == [("fast", 1), ("slow", 2)]
        assert kit.audit.verify().fault == ""


def test_rows_of_before_are_chained_by_the_upgrade(empty_database: str) -> None:
    migrations.upgrade(empty_database, to="0011")
    opened = Database(empty_database)
    with opened.write() as connection:
        for who in ("anna", "bob"):
            connection.execute(
                sa.text(
                    "INSERT INTO portal_audit (at, who, what, about, address) "
                    "VALUES ('2026-03-02 06:00:00.25', :who, 'did', 'POST /é', '::1')"
                ),
                {"who": who},
            )
    opened.close()
    migrations.upgrade(empty_database)
    with jobkit.connect(empty_database) as kit:
        assert [(deed.who, deed.number) for deed in kit.audit()] == [("bob", 2), ("anna", 1)]
        verdict = kit.audit.verify()
        assert (verdict.rows, verdict.unsealed, verdict.fault) == (2, 0, "")


# The export


def check_offline(lines: list[str]) -> str:
    """Follow an export by its description alone; return the last hash."""
    previous = "0" * 64
    for line in lines:
        row = json.loads(line)
        said, own = row.pop("previous"), row.pop("sha256")
        text = json.dumps(row, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        assert said == previous
        assert own == hashlib.sha256((previous + text).encode()).hexdigest()
        previous = own
    return previous


def test_an_export_is_checked_without_jobkit(sealed: Stage) -> None:
    sealed.kit.audit.note("did", 'schöne Grüße ␀ \n\t"quoted" 🦉', who="ʻokina")
    lines = list(sealed.kit.audit.export())
    assert len(lines) == 6, "what was not sealed yet is now"
    assert check_offline(lines) == sealed.kit.audit.verify().sha256
    assert list(sealed.kit.audit.export(after=4)) == lines[4:]
    assert set(json.loads(lines[0])) == {*chain.HASHED, "previous", "sha256"}
    with pytest.raises(AssertionError):
        check_offline([*lines[:2], lines[2].replace("thing 3", "thing 4"), *lines[3:]])


def test_an_export_shows_that_the_whole_chain_was_written_anew(sealed: Stage) -> None:
    lines = list(sealed.kit.audit.export())
    assert sealed.kit.audit.verify(lines).fault == ""
    assert sealed.kit.audit.verify(lines[2:]).fault == ""
    changed = "UPDATE portal_audit SET about = 'nothing' WHERE number = 3"
    anew = "UPDATE portal_audit SET sha256 = NULL, number = NULL"
    force(sealed, changed, anew, f"UPDATE audit_head SET number = 0, sha256 = '{chain.ORIGIN}'")
    assert sealed.kit.audit.seal() == 5
    assert sealed.kit.audit.verify().fault == "", "the chain alone cannot know"
    assert sealed.kit.audit.verify(lines).fault == "row 3 is not what was exported"


def test_an_export_that_was_touched_is_told_from_rows_that_were(sealed: Stage) -> None:
    lines = list(sealed.kit.audit.export())
    verify = sealed.kit.audit.verify
    other = [*lines[:3], lines[3].replace('"anna"', '"bob"'), lines[4]]
    assert verify(other).fault.startswith("the export: row 4 is not what was written")
    assert verify([*lines[:2], *lines[3:]]).fault.startswith("the export: row 3 is missing")
    for line in ("nonsense", "[]", '{"number": 1}', "{}"):
        with pytest.raises(BadInput, match="Line 2 is not of an export"):
            verify([lines[0], line])


def test_the_command_line_lists_exports_and_verifies(
    sealed: Stage, database: str, capsys: pytest.CaptureFixture[str], workplace: Path
) -> None:
    def ask(*words: str) -> tuple[int, str]:
        code = 0
        try:
            cli.main(["--db", database, "audit", *words])
        except SystemExit as ended:
            code = int(ended.code or 0)
        return code, capsys.readouterr().out

    code, said = ask("list", "--who", "ann", "--limit", "2", "--json")
    assert (code, [deed["about"] for deed in json.loads(said)]) == (0, ["thing 5", "thing 4"])
    assert "thing 1" in ask("list")[1]
    assert ask("export", "kept.jsonl") == (0, "")
    lines = (workplace / "kept.jsonl").read_text("utf-8").splitlines()
    assert len(lines) == 5
    assert ask("export", "--after", "3")[1].splitlines() == lines[3:]
    code, said = ask("verify", "kept.jsonl")
    assert code == 0
    assert "5 rows are as they were written" in said
    assert check_offline(lines) in said
    assert ask("verify", "missing.jsonl")[0] == 2
    force(sealed, "DELETE FROM portal_audit WHERE number = 2")
    code, said = ask("verify")
    assert code == 1
    assert "row 2 is missing" in said


def test_the_check_in_the_documents_finds_what_was_touched(sealed: Stage, workplace: Path) -> None:
    text = (Path(__file__).parent.parent / "docs" / "audit.md").read_text("utf-8")
    code = text.split("```python\n")[1].split("```")[0]
    lines = list(sealed.kit.audit.export())
    (workplace / "audit.jsonl").write_text("\n".join(lines), "utf-8")
    exec(code, {})
    (workplace / "audit.jsonl").write_text("\n".join(lines).replace("thing 2", "thing 7"), "utf-8")
    with pytest.raises(AssertionError, match="thing 7"):
        exec(code, {})


# The page


@pytest.fixture
def app(sealed: Stage) -> Flask:
    add_people(sealed.kit)
    return create_app(sealed.kit, token=None)


def test_the_page_of_the_audit_is_filtered_by_its_address(app: Flask, sealed: Stage) -> None:
    admin = enter(app, "admin")
    text = admin.get("/audit?who=ann&about=thing 3").text
    assert "thing 3" in text
    assert "thing 2" not in text
    assert 'value="thing 3"' in text
    assert "signed in" in admin.get("/audit?face=portal").text
    assert "thing" not in admin.get("/audit?face=portal").text.split("</form>")[-1]
    assert "Nothing matches" in admin.get("/audit?until=2026-01-01").text
    assert admin.get("/audit?since=yesterday").status_code == 400
    assert "not sealed yet" in admin.get("/audit?what=signed").text


def test_the_page_of_the_audit_goes_back_page_by_page(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    from portal import audit as page

    monkeypatch.setattr(page, "MOST_LISTED", 2)
    admin, seen, address = enter(app, "admin"), [], "/audit?who=anna"
    while address:
        text = admin.get(address).text
        seen += [number for number in range(1, 6) if f"thing {number}<" in text]
        onward = [line for line in text.split("<a ") if line.startswith('rel="next"')]
        address = onward[0].split('href="')[1].split('"')[0].replace("&amp;", "&") if onward else ""
    assert seen == [4, 5, 2, 3, 1]


def test_only_admins_see_the_audit(app: Flask) -> None:
    assert enter(app, "editor").get("/audit").status_code == 403
    assert "/audit" not in enter(app, "editor").get("/").text
    assert 'href="/audit"' in enter(app, "admin").get("/").text


def test_filters_match_text_and_not_patterns(sealed: Stage) -> None:
    sealed.kit.audit.note("did", "100% of a_b")
    assert [deed.about for deed in sealed.kit.audit(about="0% of A_")] == ["100% of a_b"]
    assert sealed.kit.audit(about="_hing") == []
    assert [deed.about for deed in sealed.kit.audit(since="3m", until="1m", who="anna")] == [
        "thing 3", "thing 2",
    ]  # fmt: skip
    for limit in (0, 1001):
        with pytest.raises(BadInput):
            sealed.kit.audit(limit=limit)


def test_a_long_word_is_cut_and_a_strange_one_cleaned(stage: Stage) -> None:
    stage.kit.audit.note("d" * 5000, "a\0\ud800" + "b" * 5000)
    (deed,) = stage.kit.audit()
    assert len(deed.what) == audit.LONGEST
    assert len(deed.about) == audit.LONGEST_ABOUT
    assert deed.about.startswith("a␀�b")
    stage.kit.audit.seal()
    assert stage.kit.audit.verify().fault == ""
    with stage.kit.database.read() as connection:
        assert connection.scalar(sa.select(table.c.number)) == 1
