"""Questions that pages ask of the history: of a process of its own, and kept for a while."""

from __future__ import annotations

from typing import Any

from flask import current_app

import jobkit
from portal.answers import Answers
from portal.reports.questions import Reports


def ask(name: str, /, **given: Any) -> Any:
    """Answer a question as JSON has it, by an answer that is kept if one is good."""
    kit: jobkit.Kit = current_app.config["KIT"]
    reports: Reports = current_app.config["REPORTS"]
    answers, pulse = _answers(), kit.pulse

    def anew() -> Any:
        return reports.ask(name, (answers.edition, pulse.read()), **given)

    return answers.get((name, *given.items()), pulse.read, anew)


def ask_anew(name: str, /, **given: Any) -> Any:
    """Answer a question as JSON has it, as things are now."""
    kit: jobkit.Kit = current_app.config["KIT"]
    reports: Reports = current_app.config["REPORTS"]
    return reports.ask(name, (_answers().edition, kit.pulse.read()), **given)


def forget() -> None:
    """Ask for everything anew, as what it tells of was changed here."""
    _answers().forget()


def _answers() -> Answers:
    answers: Answers = current_app.config["ANSWERS"]
    return answers
