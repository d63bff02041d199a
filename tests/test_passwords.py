"""What is kept of passwords, and what it tells."""

from __future__ import annotations

import time

import pytest

from jobkit import passwords
from jobkit.errors import BadInput
from jobkit.roles import ROLES, allows, lesser


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "COST", 4)


def test_a_password_matches_what_was_sealed_of_it_and_no_other_does() -> None:
    sealed = passwords.seal("correct horse")
    assert sealed.startswith("scrypt$4$8$1$")
    assert "correct" not in sealed
    assert passwords.matches("correct horse", sealed)
    assert not passwords.matches("correct horsf", sealed)
    assert not passwords.matches("", sealed)
    assert passwords.seal("correct horse") != sealed


@pytest.mark.parametrize("odd", ["pässwörd ☃ 🐎", "x\ud800yzzzzzzzz", "a" * 1024])
def test_any_text_may_be_a_password(odd: str) -> None:
    assert passwords.matches(odd, passwords.seal(odd))


@pytest.mark.parametrize(
    "row", ["", "scrypt", "md5$4$8$1$YQ==$YQ==", "scrypt$x$8$1$YQ==$YQ==", "!"]
)
def test_a_row_that_nobody_here_wrote_lets_nobody_in(row: str) -> None:
    assert not passwords.matches("correct horse", row)


def test_what_was_sealed_under_other_parameters_still_matches_and_is_told_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = passwords.seal("correct horse")
    assert passwords.is_current(before)
    monkeypatch.setattr(passwords, "COST", 5)
    assert passwords.matches("correct horse", before)
    assert not passwords.is_current(before)


def test_nobody_s_password_takes_as_long_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "COST", 14)
    passwords._nobody.cache_clear()
    sealed = passwords.seal("correct horse")
    assert not passwords.matches("warm up, please", None)

    def took(of: str | None) -> float:
        began = time.process_time()
        assert not passwords.matches("wrong horse", of)
        return time.process_time() - began

    theirs = min(took(sealed) for _ in range(5))
    nobodys = min(took(None) for _ in range(5))
    passwords._nobody.cache_clear()
    assert 0.5 < nobodys / theirs < 2


@pytest.mark.parametrize(
    "weak", ["", "short", "anna anna", "a" * 2000, "ababababababab", "12121212121"]
)
def test_a_weak_password_is_refused_without_being_said(weak: str) -> None:
    with pytest.raises(BadInput) as refused:
        passwords.check(weak, "anna")
    assert not weak or weak not in str(refused.value)


def test_the_name_is_no_password() -> None:
    with pytest.raises(BadInput, match="first that anybody would guess"):
        passwords.check("Anna.Example", "anna.example")


def test_each_role_may_what_those_before_it_may() -> None:
    for index, role in enumerate(ROLES):
        assert [allows(role, needed) for needed in ROLES] == [
            position <= index for position in range(len(ROLES))
        ]
    assert not allows("", "viewer")
    assert not allows("admin", "anything")
    assert (lesser("admin", "viewer"), lesser("viewer", "editor")) == ("viewer", "viewer")
