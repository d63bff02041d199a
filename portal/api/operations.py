"""Operations of the API: what a function declares is its route, its checks and its document."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_origin, get_type_hints

from flask import Response, current_app, request
from pydantic import BaseModel, TypeAdapter, ValidationError

import jobkit
from portal.api.problems import problem

BASE = "/api/v1"
WRITES = ("POST", "PATCH", "DELETE")
_PLACE = re.compile(r"{(\w+)(?::(\w+))?}")


@dataclass(frozen=True)
class Operation:
    """One thing that can be asked of the API."""

    name: str
    method: str
    path: str
    """Below the base, with `{name}` for what varies, `{name:path}` where that may hold a `/`."""
    needs: str
    """The role."""
    status: int
    work: Callable[..., Any]
    places: Mapping[str, Any]
    """The type of each place in the path."""
    query: type[BaseModel] | None
    body: type[BaseModel] | None
    answers: Any
    """The model of the answer, `bytes` of a file, None where there is none."""

    @property
    def summary(self) -> str:
        """The first line of what the function says of itself."""
        return (self.work.__doc__ or "").strip().splitlines()[0]

    @property
    def rule(self) -> str:
        """The path as Flask writes it."""
        return BASE + _PLACE.sub(
            lambda found: f"<{found[2]}:{found[1]}>" if found[2] else f"<{found[1]}>", self.path
        )

    @property
    def template(self) -> str:
        """The path as OpenAPI writes it."""
        return BASE + _PLACE.sub(r"{\1}", self.path)

    @property
    def faults(self) -> tuple[int, ...]:
        """The errors that it may answer with."""
        found = {400, 401, 403, 503}
        if self.places:
            found.add(404)
        if self.query is not None:
            found.add(404)
        if self.body is not None:
            found |= {413, 415, 422}
        if self.method in WRITES:
            found |= {409, 422}
        return tuple(sorted(found))

    def __call__(self, **places: str) -> Response:
        """Answer a request: check what was given, do it, write what came of it."""
        kit: jobkit.Kit = current_app.config["KIT"]
        given: dict[str, Any] = {}
        for name, kind in self.places.items():
            try:
                given[name] = TypeAdapter(kind).validate_python(places[name])
            except ValidationError:
                return problem(404, f"There is no {places[name]!r} here.", "See the lists.")
        try:
            if self.query is not None:
                given["query"] = _read_query(self.query)
            elif request.args:
                return problem(400, f"{next(iter(request.args))!r} is no parameter of this.")
        except ValidationError as error:
            return problem(400, *_faults("The query", error))
        if self.body is not None:
            if request.mimetype != "application/json":
                return problem(415, "The body is not JSON.", "Content-Type: application/json")
            try:
                given["body"] = self.body.model_validate_json(request.get_data())
            except ValidationError as error:
                is_json = all(fault["type"] != "json_invalid" for fault in error.errors())
                return problem(422 if is_json else 400, *_faults("The body", error))
        return self._written(self.work(kit, **given))

    def _written(self, found: Any) -> Response:
        if isinstance(found, Response):
            return found
        if found is None:
            return Response(status=self.status)
        return Response(found.model_dump_json(), self.status, mimetype="application/json")


OPERATIONS: dict[str, Operation] = {}
"""All of them, by name, in the order of the document."""


def operation(
    method: str, path: str, *, needs: str, status: int = 200
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare an operation; its function names what it takes and gives."""

    def declare(work: Callable[..., Any]) -> Callable[..., Any]:
        hints = get_type_hints(work, include_extras=True)
        answers = hints.pop("return")
        names = [name for name in inspect.signature(work).parameters if name != "kit"]
        places = {name: hints[name] for name in names if name not in ("query", "body")}
        if set(places) != {found[1] for found in _PLACE.finditer(path)}:
            raise TypeError(f"{work.__name__} takes {sorted(places)}, its path is {path}")
        OPERATIONS[work.__name__] = Operation(
            name=work.__name__,
            method=method,
            path=path,
            needs=needs,
            status=status,
            work=work,
            places=places,
            query=hints.get("query"),
            body=hints.get("body"),
            answers=None if answers is type(None) else answers,
        )
        return work

    return declare


def takes_many(kind: Any) -> bool:
    """Whether a parameter of a query may be given several times."""
    return get_origin(kind) is list or any(takes_many(part) for part in get_args(kind))


def _read_query(model: type[BaseModel]) -> BaseModel:
    given: dict[str, Any] = {}
    for name, values in request.args.to_dict(flat=False).items():
        field = model.model_fields.get(name)
        is_many = field is not None and takes_many(field.annotation)
        given[name] = values if is_many or len(values) > 1 else values[0]
    return model.model_validate(given)


def _faults(what: str, error: ValidationError) -> tuple[str, str]:
    """Say what is wrong with what was given, the first few faults of it."""
    said = []
    for fault in error.errors(include_url=False, include_input=False)[:5]:
        place = ".".join(str(step) for step in fault["loc"])
        said.append(f"{place}: {fault['msg']}" if place else fault["msg"])
    return f"{what} is not as it should be. " + "; ".join(said), f"See {BASE}/openapi.json."
