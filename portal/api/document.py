"""The OpenAPI document, made of what the operations declare."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

import jobkit
from portal.api.operations import Operation
from portal.api.problems import TYPE
from portal.api.shapes import Problem

PLACE = "#/components/schemas/{model}"


def document(operations: Iterable[Operation]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of the operations."""
    chosen = list(operations)
    paths: dict[str, dict[str, Any]] = {}
    for item in chosen:
        paths.setdefault(item.template, {})[item.method.lower()] = _described(item)
    return {
        "openapi": "3.1.0",
        "info": {"title": "jobkit", "version": jobkit.__version__},
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": _schemas(chosen),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _described(item: Operation) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": item.name,
        "summary": item.summary,
        "description": f"Needs the role {item.needs}.",
        "parameters": [*_places(item), *_query(item)],
        "responses": {str(item.status): _answer(item)}
        | {str(code): _fault(code) for code in item.faults},
    }
    if item.body is not None:
        found["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _named(item.body)}},
        }
    return found


def _places(item: Operation) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": TypeAdapter(kind).json_schema(),
        }
        for name, kind in item.places.items()
    ]


def _query(item: Operation) -> list[dict[str, Any]]:
    if item.query is None:
        return []
    found = []
    for name, schema in item.query.model_json_schema()["properties"].items():
        described = schema.pop("description", "")
        # What is unset is not given: an address knows no null.
        kinds = [kind for kind in schema.pop("anyOf", []) if kind != {"type": "null"}]
        schema.pop("default", None) if kinds else None
        shown = kinds[0] if kinds else schema
        found.append(
            {"name": name, "in": "query", "required": False, "schema": shown}
            | ({"description": described} if described else {})
        )
    return found


def _answer(item: Operation) -> dict[str, Any]:
    said = HTTPStatus(item.status).phrase
    if item.answers is None:
        return {"description": said}
    if item.answers is bytes:
        return {"description": said, "content": {"application/octet-stream": {"schema": {}}}}
    return {
        "description": said,
        "content": {"application/json": {"schema": _named(item.answers)}},
    }


def _fault(code: int) -> dict[str, Any]:
    return {
        "description": HTTPStatus(code).phrase,
        "content": {TYPE: {"schema": _named(Problem)}},
    }


def _named(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": PLACE.format(model=model.__name__)}


def _schemas(operations: list[Operation]) -> dict[str, Any]:
    taken = {item.body for item in operations if item.body is not None}
    given = {item.answers for item in operations if isinstance(item.answers, type)}
    models = [(model, "validation") for model in taken]
    models += [(model, "serialization") for model in {*given, Problem} - {bytes}]
    ordered = sorted(models, key=lambda pair: pair[0].__name__)
    _, schemas = models_json_schema(ordered, ref_template=PLACE)  # type: ignore[arg-type]
    found: dict[str, Any] = schemas["$defs"]
    return found
