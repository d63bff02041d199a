"""The reference: pages that are made from the code whenever the site is built."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import jobkit
from jobkit import models, settings
from jobkit.cli.admin import app as admin
from jobkit.cli.commands import app
from portal.api.document import document
from portal.api.routes import OPERATIONS

MADE = "Made from the code of this version."


def commands() -> str:
    """Write the page of the command line."""
    parts = ["# Commands", MADE]
    for name, program in (("jobkit", app), ("job-admin", admin)):
        for words, command in _leaves(name, typer.main.get_command(program)):
            arguments = [it for it in command.params if it.param_type_name == "argument"]
            options = [it for it in command.params if it.param_type_name == "option"]
            usage = " ".join((words, *(_argument(it) for it in arguments)))
            parts += [f"## {words}", f"```text\n{usage}{' [OPTIONS]' if options else ''}\n```"]
            parts.append(_sentences(command.help))
            if options:
                rows = (f"| `{_option(it)}` | {_cell(it.help)} |" for it in options)
                parts.append("\n".join(("| option | what it does |", "|---|---|", *rows)))
    return _page(parts)


def _leaves(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    for word, below in getattr(command, "commands", {}).items():
        yield from _leaves(f"{name} {word}", below)
    if not getattr(command, "commands", None):
        yield name, command


def _argument(parameter: Any) -> str:
    name = (parameter.metavar or parameter.name).upper().strip("{}[]")
    name += "..." if parameter.nargs == -1 else ""
    return name if parameter.required else f"[{name}]"


def _option(parameter: Any) -> str:
    names = ", ".join((*parameter.opts, *parameter.secondary_opts))
    return f"{names} {parameter.metavar}" if parameter.metavar else names


def settings_page() -> str:
    """Write the page of the settings."""
    said = "From the environment, `.env` or `jobkit.toml`; the command line wins."
    return _page(["# Settings", MADE, said, settings.table()])


def tables() -> str:
    """Write the page of the tables: what a row is, and its columns."""
    parts = ["# Tables", MADE]
    source = ast.parse(inspect.getsource(models))
    for node in source.body:
        table = getattr(getattr(models, getattr(node, "name", ""), None), "__table__", None)
        if not isinstance(node, ast.ClassDef) or table is None:
            continue
        said = _attributes(node)
        rows = [
            f"| `{column.name}` | {_kind(column)} | {_cell(said.get(column.name, ''))} |"
            for column in table.columns
        ]
        parts += [f"## {table.name}", _sentences(ast.get_docstring(node))]
        parts.append("\n".join(("| column | type | what it says |", "|---|---|---|", *rows)))
    return _page(parts)


def _attributes(node: ast.ClassDef) -> dict[str, str]:
    """Return what is written below each attribute of a class."""
    found = {}
    for first, second in zip(node.body, node.body[1:], strict=False):
        is_text = isinstance(second, ast.Expr) and isinstance(second.value, ast.Constant)
        if isinstance(first, ast.AnnAssign) and isinstance(first.target, ast.Name) and is_text:
            found[first.target.id] = str(second.value.value)  # type: ignore[attr-defined]
    return found


def _kind(column: Any) -> str:
    name = type(column.type).__name__
    known = {"Utc": "instant", "JsonText": "JSON", "AutoString": "text", "BigInteger": "integer"}
    word = known.get(name, name.lower())
    return word + ("" if column.nullable and not column.primary_key else ", not null")


def python() -> str:
    """Write the page of the package's public names."""
    parts = ["# Python", MADE, "`import jobkit` gives these names, each loaded when it is used."]
    for name in jobkit.__all__:
        found = getattr(jobkit, name)
        parts += [f"## {name}", f"```text\n{_signature(name, found)}\n```"]
        parts.append(_sentences(inspect.getdoc(found)))
        if inspect.isclass(found):
            parts += _members(found)
    return _page(parts)


def _members(kind: type) -> Iterator[str]:
    fields = {it.name for it in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else ()
    for name, member in inspect.getmembers_static(kind):
        wanted = isinstance(member, (property, types.FunctionType)) or hasattr(member, "func")
        said = inspect.getdoc(getattr(member, "fget", None) or getattr(member, "func", member))
        if name.startswith("_") or name in fields or not wanted or not said:
            continue
        is_call = isinstance(member, types.FunctionType)
        yield f"### {kind.__name__}.{name}"
        yield f"```text\n{_signature(name, member) if is_call else name}\n```"
        yield _sentences(said)


def _signature(name: str, found: Any) -> str:
    if inspect.isclass(found):  # made by a Kit, or raised: nobody calls it
        return f"class {name}"
    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError):
        return name
    kept = [it for it in signature.parameters.values() if it.name != "self"]
    text = f"{name}{signature.replace(parameters=kept)}"
    return re.sub(r"(: |-> )'([^']*)'", r"\1\2", text)  # annotations are texts


def api() -> str:
    """Write the page of the portal's API, by its OpenAPI document."""
    parts = ["# API", MADE, "A portal gives the whole document at `/api/v1/openapi.json`."]
    rows = ["| operation | role | what it does |", "|---|---|---|"]
    for path, methods in document(OPERATIONS.values())["paths"].items():
        for method, item in methods.items():
            role = item["description"].removeprefix("Needs the role ").rstrip(".")
            rows.append(f"| `{method.upper()} {path}` | {role} | {_cell(item['summary'])} |")
    return _page([*parts, "\n".join(rows)])


def decisions() -> str:
    """Write the list of the decisions."""
    found = sorted((Path(__file__).parent / "decisions").glob("*.md"))
    titles = {path.name: path.read_text("utf-8").splitlines()[0].lstrip("# ") for path in found}
    lines = (f"- [{title}](../decisions/{name})" for name, title in titles.items())
    return _page(
        ["# Decisions", "What a newcomer would question, and why it is so.", "\n".join(lines)]
    )


PAGES: dict[str, Callable[[], str]] = {
    "commands.md": commands,
    "settings.md": settings_page,
    "tables.md": tables,
    "python.md": python,
    "api.md": api,
    "decisions.md": decisions,
}


def _sentences(text: str | None) -> str:
    """Return a docstring as Markdown, where a `<` begins no tag."""
    return inspect.cleandoc(text or "").replace("<", "&lt;")


def _cell(text: str | None) -> str:
    return " ".join(_sentences(text).split()).replace("|", "\\|")


def _page(parts: list[str]) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Write links that leave the folder as text (a hook of MkDocs): the site has no such page."""
    return re.sub(r"\[([^\]]*)\]\((?:\.\./(?!decisions/)|deploy/)[^)]*\)", r"\1", markdown)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages to those of the folder (a hook of MkDocs)."""
    for name, write in PAGES.items():
        files.append(File.generated(config, f"reference/{name}", content=write()))
    return files
