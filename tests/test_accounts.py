"""Users, sessions, tokens and guesses, on a literal clock and both databases."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
import sqlalchemy as sa

from jobkit import models, passwords
from jobkit.db import Database
from jobkit.errors import BadInput, Conflict, NotFound, Refused
from jobkit.listings.users import IDLE, LONGEST
from jobkit.store.guesses import LONGEST_WAIT, wait_after
from tests.stage import Stage

PASSWORD = "correct horse"


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "COST", 4)


@pytest.fixture
def anna(stage: Stage) -> Stage:
    """A stage with a user."""
    stage.kit.users.add("anna", PASSWORD, "operator")
    return stage


def sign_in(stage: Stage, password: str = PASSWORD, address: str = "10.0.0.1") -> str:
    return stage.kit.users.sign_in("anna", password, address=address, browser="Firefox")


def refused(stage: Stage, password: str = "wrong horse", address: str = "10.0.0.1") -> str:
    with pytest.raises(Refused) as error:
        sign_in(stage, password, address)
    return str(error.value)


def everything(database: Database) -> str:
    """Return all that the tables of accounts hold, as text."""
    tables = (models.users, models.sessions, models.tokens, models.guesses, models.audit)
    with database.read() as connection:
        return repr([connection.execute(sa.select(table)).all() for table in tables])


def test_a_user_signs_in_and_is_who_they_are(anna: Stage) -> None:
    who = anna.kit.users.signed_in(sign_in(anna))
    assert who is not None
    assert (who.name, who.role, who.user) == ("anna", "operator", "anna")
    assert anna.kit.users.signed_in("something else") is None
    assert anna.kit.users.signed_in("") is None


def test_nothing_that_opens_a_door_is_stored(anna: Stage) -> None:
    secret, token = sign_in(anna), anna.kit.tokens.add("nightly")
    refused(anna, "some password or other")
    held = everything(anna.kit.database)
    for word in (secret, token, PASSWORD, "some password or other"):
        assert word not in held


def test_a_session_ends_when_nobody_used_it_and_when_it_is_old(anna: Stage) -> None:
    users, secret = anna.kit.users, sign_in(anna)
    anna.clock.turn(IDLE - timedelta(minutes=1))
    assert users.signed_in(secret) is not None
    anna.clock.turn(IDLE - timedelta(minutes=1))
    assert users.signed_in(secret) is not None, "it was used meanwhile"
    anna.clock.turn(IDLE + timedelta(minutes=1))
    assert users.signed_in(secret) is None
    secret = sign_in(anna)
    for _ in range(int(LONGEST / timedelta(hours=6))):
        anna.clock.turn(timedelta(hours=6))
        users.signed_in(secret)
    assert users.signed_in(secret) is not None
    anna.clock.turn(timedelta(minutes=1))
    assert users.signed_in(secret) is None
    sign_in(anna)
    assert len(users.sessions("anna")) == 1


def test_signing_out_ends_one_session_or_all(anna: Stage) -> None:
    users = anna.kit.users
    one, two, three = sign_in(anna), sign_in(anna), sign_in(anna)
    who = users.signed_in(one)
    assert who is not None
    users.sign_out(who)
    assert [users.signed_in(secret) is None for secret in (one, two, three)] == [True, False, False]
    other = users.signed_in(two)
    assert other is not None
    users.sign_out(other, everywhere=True)
    assert [users.signed_in(secret) for secret in (two, three)] == [None, None]


def test_sessions_end_with_the_password_the_role_and_the_right_to_enter(anna: Stage) -> None:
    users = anna.kit.users
    users.add("root", PASSWORD, "admin")
    changes = (
        lambda: users.set_password("anna", "another horse"),
        lambda: users.set_role("anna", "viewer"),
        lambda: users.disable("anna"),
    )
    for change in changes:
        users.enable("anna")
        users.set_password("anna", PASSWORD)
        secret = sign_in(anna)
        assert users.signed_in(secret) is not None
        change()
        assert users.signed_in(secret) is None
    refused(anna, PASSWORD)
    anna.clock.turn(timedelta(hours=1))
    users.enable("anna")
    secret = sign_in(anna)
    users.remove("anna")
    assert users.signed_in(secret) is None
    assert [user.name for user in users] == ["root"]


def test_one_s_own_new_password_takes_the_old_one_and_keeps_this_session(anna: Stage) -> None:
    users, here, there = anna.kit.users, sign_in(anna), sign_in(anna)
    who = users.signed_in(here)
    assert who is not None
    with pytest.raises(Refused):
        users.change_password(who, "wrong horse", "another horse")
    users.change_password(who, PASSWORD, "another horse")
    assert users.signed_in(here) is not None
    assert users.signed_in(there) is None
    refused(anna, PASSWORD)
    sign_in(anna, "another horse")


def test_a_password_is_sealed_anew_when_the_parameters_change(
    anna: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "COST", 5)
    sign_in(anna)
    assert "scrypt$5$8$1$" in everything(anna.kit.database)
    sign_in(anna)


def test_after_five_wrong_passwords_the_next_waits_and_longer_each_time(anna: Stage) -> None:
    """The words are the same whatever is wrong, so that they tell nothing."""
    said = {refused(anna) for _ in range(5)}
    said.add(refused(anna, PASSWORD))
    assert len(said) == 1
    anna.clock.turn(timedelta(seconds=1.1))
    said.add(refused(anna))
    anna.clock.turn(timedelta(seconds=1.1))
    said.add(refused(anna, PASSWORD))
    with pytest.raises(Refused) as unknown:
        anna.kit.users.sign_in("nobody", PASSWORD, address="10.0.0.9")
    assert said == {str(unknown.value)}
    anna.clock.turn(timedelta(seconds=1.1))
    sign_in(anna)
    assert [wait_after(tries, 5).total_seconds() for tries in (4, 5, 6, 9, 60)] == [
        0, 1, 2, 16, LONGEST_WAIT.total_seconds(),
    ]  # fmt: skip


def test_a_guesser_elsewhere_does_not_lock_a_user_out(anna: Stage) -> None:
    for _ in range(8):
        refused(anna, address="10.6.6.6")
    refused(anna, PASSWORD, address="10.6.6.6")
    sign_in(anna, address="10.0.0.1")


def test_an_address_that_tries_many_names_waits_too(anna: Stage) -> None:
    for number in range(20):
        with pytest.raises(Refused):
            anna.kit.users.sign_in(f"user{number}", "wrong horse", address="10.6.6.6")
    refused(anna, PASSWORD, address="10.6.6.6")
    sign_in(anna, address="10.0.0.1")


def test_a_right_password_forgives_and_a_day_forgets(anna: Stage) -> None:
    for _ in range(4):
        refused(anna)
    sign_in(anna)
    for _ in range(4):
        refused(anna)
    anna.clock.turn(timedelta(days=1, minutes=1))
    for _ in range(4):
        refused(anna)
    sign_in(anna)
    with anna.kit.database.read() as connection:
        left = connection.execute(sa.select(models.guesses.c.tries)).scalars().all()
    assert max(left, default=0) <= 8


def test_guesses_at_the_same_time_count_each(anna: Stage) -> None:
    outcome: list[str] = []

    def guess() -> None:
        try:
            sign_in(anna, "wrong horse")
        except Refused as error:
            outcome.append(str(error))

    threads = [threading.Thread(target=guess) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcome) == 8
    with anna.kit.database.read() as connection:
        tries = connection.execute(sa.select(models.guesses.c.tries)).scalars().all()
    assert set(tries) == {5}, "the sixth was refused before it was looked at"


def test_the_last_admin_stays(anna: Stage) -> None:
    users = anna.kit.users
    users.add("root", PASSWORD, "admin")
    for change in (
        lambda: users.disable("root"),
        lambda: users.remove("root"),
        lambda: users.set_role("root", "viewer"),
    ):
        with pytest.raises(Conflict, match="last admin"):
            change()
    users.set_role("anna", "admin")
    users.disable("root")
    assert not users["root"].is_active


@pytest.mark.parametrize("name", ["", "an na", "-x", "a/b", "a\x00", "ä", "x" * 65, "<b>"])
def test_names_that_are_none_are_refused(stage: Stage, name: str) -> None:
    with pytest.raises(BadInput, match="cannot name a user"):
        stage.kit.users.add(name, PASSWORD)
    with pytest.raises(Refused):
        stage.kit.users.sign_in(name, PASSWORD)


def test_mistakes_are_named(anna: Stage) -> None:
    users = anna.kit.users
    with pytest.raises(Conflict, match="'anna' exists"):
        users.add("anna", PASSWORD)
    with pytest.raises(BadInput, match="'boss' is no role"):
        users.add("bob", PASSWORD, "boss")
    with pytest.raises(BadInput, match="'boss' is no role"):
        users.set_role("anna", "boss")
    for act in (users.disable, users.enable, users.remove, users.sessions):
        with pytest.raises(NotFound, match="no user named 'bob'"):
            act("bob")
    with pytest.raises(BadInput, match="10 characters"):
        users.set_password("anna", "short")


def test_a_token_is_good_until_it_ends_or_is_revoked(anna: Stage) -> None:
    tokens = anna.kit.tokens
    secret = tokens.add("nightly", "operator", expires=timedelta(hours=1))
    assert secret.startswith("jk_")
    who = tokens.shown(secret)
    assert who is not None
    assert (who.name, who.role, who.user) == ("token nightly", "operator", None)
    anna.clock.turn(timedelta(minutes=59))
    assert tokens.shown(secret) is not None
    (listed,) = tokens
    assert listed.used_at == anna.clock.now()
    anna.clock.turn(timedelta(minutes=1))
    assert tokens.shown(secret) is None
    tokens.revoke("nightly")
    fresh = tokens.add("nightly", "viewer", expires=None)
    assert tokens.shown(fresh) is not None
    tokens.revoke("nightly")
    assert tokens.shown(fresh) is None
    for wrong in ("", "jk_", "jk_wrong", secret[3:], secret.upper()):
        assert tokens.shown(wrong) is None


def test_a_token_of_a_user_may_no_more_than_they_and_goes_with_them(anna: Stage) -> None:
    kit = anna.kit
    kit.users.add("root", PASSWORD, "admin")
    kit.users.set_role("anna", "editor")
    secret = kit.tokens.add("script", "admin", user="anna")
    who = kit.tokens.shown(secret)
    assert who is not None
    assert (who.name, who.role) == ("anna", "editor")
    kit.users.set_role("anna", "viewer")
    who = kit.tokens.shown(secret)
    assert who is not None
    assert who.role == "viewer"
    kit.users.disable("anna")
    assert kit.tokens.shown(secret) is None
    kit.users.enable("anna")
    assert kit.tokens.shown(secret) is not None
    with pytest.raises(NotFound, match="No token named 'script'"):
        kit.tokens.revoke("script", user="root")
    kit.users.remove("anna")
    assert kit.tokens.shown(secret) is None
    assert list(kit.tokens) == []


def test_mistakes_with_tokens_are_named(anna: Stage) -> None:
    tokens = anna.kit.tokens
    tokens.add("nightly")
    with pytest.raises(Conflict, match="'nightly' is in use"):
        tokens.add("nightly")
    with pytest.raises(BadInput, match="cannot name a token"):
        tokens.add("<script>")
    with pytest.raises(BadInput, match="no role"):
        tokens.add("x", "boss")
    with pytest.raises(BadInput, match="cannot live"):
        tokens.add("x", expires=timedelta(0))
    with pytest.raises(NotFound, match="no user named 'bob'"):
        tokens.add("x", user="bob")


def test_who_acts_is_recorded_with_what_they_do(stage: Stage) -> None:
    stage.job()
    as_anna = stage.kit.acting_as("anna", source="portal")
    run = as_anna.submit("sales")
    assert run.requested_by == "anna"
    assert run.cancel().reason == "cancelled by anna"
    assert run.retry().requested_by == "anna"
    as_anna.job("sales").edit(priority=3)
    (edited, _) = stage.kit.versions("sales")
    assert edited.changed_by == "anna"
    assert edited.changed_from.startswith("portal on ")
    assert stage.kit.submit("sales").requested_by == stage.kit.user != "anna"


def test_threads_that_act_as_different_people_do_not_mix(stage: Stage) -> None:
    stage.job()
    names = [f"user{number}" for number in range(6)]
    made: dict[str, list[str | None]] = {}

    def work(name: str) -> None:
        kit = stage.kit.acting_as(name)
        made[name] = [kit.submit("sales").requested_by for _ in range(5)]

    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == {name: [name] * 5 for name in names}


def test_a_kit_that_acts_as_somebody_shares_what_the_first_one_opened(stage: Stage) -> None:
    with stage.kit.acting_as("anna").acting_as("bob") as kit:
        assert kit.database is stage.kit.database
        assert kit.store is stage.kit.store
        assert kit._shelf is stage.kit._shelf
    stage.kit.check()  # it is still open


def test_what_was_done_is_recorded(anna: Stage) -> None:
    sign_in(anna)
    refused(anna)
    anna.kit.acting_as("root").users.set_role("anna", "viewer")
    anna.kit.tokens.add("nightly")
    deeds = anna.kit.audit()
    assert [(deed.who, deed.what, deed.about, deed.address) for deed in deeds] == [
        (anna.kit.who, "made a token", "nightly, viewer", ""),
        ("root", "set a role", "anna, viewer", ""),
        ("nobody", "was refused to sign in", "", "10.0.0.1"),
        ("anna", "signed in", "", "10.0.0.1"),
        (anna.kit.who, "added a user", "anna, operator", ""),
    ]
