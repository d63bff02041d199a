"""Where modules come from: the standard library, an installed package, or a file beside."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal


@dataclass(frozen=True)
class Origin:
    """What a worker needs to import a module."""

    kind: Literal["standard", "package", "editable", "local", "missing"]
    requirement: str = ""
    """Of a package, pinned to what is installed: `polars==2.1.0`."""
    package: str = ""
    """Its name as it is listed: `polars`."""


def of(module: str) -> Origin:
    """Say where a module comes from, by its full name."""
    top = module.partition(".")[0]
    if top == "__main__":
        return Origin("local")
    if top in sys.stdlib_module_names:
        return Origin("standard")
    if names := _distributions_of(top):
        return _package(_the_one(names, module))
    try:
        return _package(importlib.metadata.distribution(top))
    except importlib.metadata.PackageNotFoundError:
        pass
    return Origin("local" if _is_there(top) else "missing")


def _is_there(top: str) -> bool:
    try:
        return top in sys.modules or importlib.util.find_spec(top) is not None
    except (ImportError, ValueError):
        return False


@functools.cache  # reading the lists of all packages takes a tenth of a second
def _tops() -> dict[str, list[str]]:
    return {top: sorted(set(names)) for top, names in _packages_distributions().items()}


def _packages_distributions() -> Any:
    return importlib.metadata.packages_distributions()


def _distributions_of(top: str) -> list[str]:
    if top not in _tops() and _is_there(top):
        _tops.cache_clear()  # installed since
    return _tops().get(top, [])


def _the_one(names: Iterable[str], module: str) -> importlib.metadata.Distribution:
    """Choose the package that brings a module: several may share its first name."""
    found = [importlib.metadata.distribution(name) for name in names]
    path = module.replace(".", "/")
    while "/" in path and len(found) > 1:
        for distribution in found:
            if any(str(file).startswith((f"{path}/", f"{path}.")) for file in _files(distribution)):
                return distribution
        path = path.rpartition("/")[0]
    return found[0]


def _files(distribution: importlib.metadata.Distribution) -> Iterable[object]:
    return distribution.files or ()


def _package(distribution: importlib.metadata.Distribution) -> Origin:
    name = distribution.metadata["Name"]
    pinned = f"{name}=={distribution.version.partition('+')[0]}"
    given = distribution.read_text("direct_url.json")
    if not given:
        return Origin("package", pinned, name)
    direct: dict[str, Any] = json.loads(given)
    url = direct["url"]
    if "vcs_info" in direct:
        vcs = direct["vcs_info"]
        return Origin("package", f"{name} @ {vcs['vcs']}+{url}@{vcs['commit_id']}", name)
    if url.startswith("file:"):
        return Origin("editable", pinned, name)
    return Origin("package", f"{name} @ {url}", name)


def public_home(value: Any, name: str) -> tuple[str, str] | None:
    """Return the module, the shortest that has it, and the name under which a value is found."""
    module = getattr(value, "__module__", None)
    if not isinstance(module, str):
        return None
    own = getattr(value, "__qualname__", name)
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        home = sys.modules.get(".".join(parts[:count]))
        for candidate in dict.fromkeys((name, own)):
            if home is not None and getattr(home, candidate, None) is value:
                return ".".join(parts[:count]), candidate
    return None


def module_name(module: ModuleType) -> str:
    """Return the name by which to import a module; `os.path` goes by many."""
    return "os.path" if module is sys.modules.get("os.path") else module.__name__
