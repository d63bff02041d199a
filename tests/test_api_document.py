"""The API keeps to its own document: what it is sent at random, right and wrong, breaks nothing."""

from __future__ import annotations

import warnings
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import booleans

import jobkit
from portal import create_app
from portal.api.document import document
from portal.api.operations import OPERATIONS, Operation
from tests.stage import Stage

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import schemathesis
    from schemathesis import GenerationMode
    from schemathesis.checks import (
        content_type_conformance,
        not_a_server_error,
        response_schema_conformance,
        status_code_conformance,
    )
    from schemathesis.core.failures import FailureGroup

CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
)
EXAMPLES = 8


THERE = {"name": "sales", "run_id": 1, "attempt": 1}
"""What is there, for half of the cases; the others ask for what is not."""


def test_nothing_that_is_sent_breaks_an_operation(stage: Stage) -> None:
    secret = stage.kit.tokens.add("fuzz", "admin")
    described = document(OPERATIONS.values())
    del described["security"]  # another test is about who may
    schema = schemathesis.openapi.from_dict(described)
    schema.app, schema.location = create_app(stage.kit, token=None), "/api/v1/openapi.json"
    seen: Counter[int] = Counter()
    for name in OPERATIONS:
        set_up(stage)
        operation = schema.find_operation_by_id(name)
        for mode in modes(OPERATIONS[name]):
            seen += try_out(operation, mode, secret)
    assert {200, 201, 204, 400, 404, 409, 422} <= set(seen), seen
    assert [finding.breaches for finding in stage.kit.verify() if finding.breaches] == []


def modes(operation: Operation) -> tuple[GenerationMode, ...]:
    """Return how to ask: as the document says, and as it does not where there is a way."""
    if operation.places or operation.query or operation.body:
        return GenerationMode.POSITIVE, GenerationMode.NEGATIVE
    return (GenerationMode.POSITIVE,)


def set_up(stage: Stage) -> None:
    """See to it that there is a job, and of its runs one that has ended and one that waits."""
    if "sales" in stage.kit.jobs:
        return
    stage.job("sales", every="1h", overlap="allow")
    stage.kit.submit("sales")
    stage.finish(stage.claim_one(), exit_code=1)
    stage.kit.submit("sales")


def try_out(operation: Any, mode: GenerationMode, secret: str) -> Counter[int]:
    seen: Counter[int] = Counter()

    @given(case=operation.as_strategy(generation_mode=mode), is_there=booleans())
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def run(case: Any, is_there: bool) -> None:
        if is_there:
            for place in case.path_parameters:
                case.path_parameters[place] = THERE[place]
            if isinstance(case.body, dict) and "target" in case.body:
                case.body["source"] = "print(1)"  # no script of a random name is there
        headers = {"Authorization": f"Bearer {secret}"}
        seen[case.call_and_validate(headers=headers, checks=list(CHECKS)).status_code] += 1

    run()
    return seen


def test_a_fault_in_an_operation_is_seen(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobkit.Kit, "stats", lambda *_: 1 / 0)
    app = create_app(stage.kit, token=None)
    schema = schemathesis.openapi.from_dict(document(OPERATIONS.values()))
    schema.app, schema.location = app, "/api/v1/openapi.json"
    secret = stage.kit.tokens.add("fuzz", "admin")
    with pytest.raises((FailureGroup, ZeroDivisionError)):
        try_out(schema.find_operation_by_id("show_stats"), GenerationMode.POSITIVE, secret)
