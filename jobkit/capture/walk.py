"""From a function to all that it reads, name by name, until nothing is left to read."""

from __future__ import annotations

import ast
import builtins
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jobkit.capture import literals, meaning, origins, reads, texts
from jobkit.capture.refusal import Refusal, type_name
from jobkit.capture.script import Piece
from jobkit.capture.ways import shown_by, way_out

SKIPPED = {"__name__", "__file__", "__doc__", "__class__", "__builtins__", "__debug__"}
HISTORY = {"In", "Out", "_", "__", "___", "_i", "_ii", "_iii", "_oh", "_ih", "_dh"}


class Walk:
    """All that one function reads: pieces of the script, its imports, and what is refused.

    `given`: requirements that the author names; modules that they bring need no other.
    """

    def __init__(self, given: Sequence[str] | None) -> None:
        self.given = given
        self.pieces: dict[str, Piece] = {}
        self.imports: dict[str, str] = {}
        """The line that binds a name; dotted modules by themselves."""
        self.requirements: set[str] = set()
        self.refusals: dict[tuple[str, str], Refusal] = {}
        self.is_future = False
        self._values: dict[str, Any] = {}
        self._written: set[str] = set()
        self._undefined: list[tuple[str, str]] = []

    def whole(self, function: Callable[..., Any]) -> str:
        """Walk from the function that is the job; returns its name in the script."""
        name = function.__name__
        self.bind(name, function, {}, name, ())
        for missing, reader in self._undefined:
            if missing not in self._written:
                self.refuse(missing, None, reader, "it is not defined", "Define it, or import it")
        for piece in self.pieces.values():
            if piece.name in self.imports or piece.name.startswith("_jobkit_"):
                self.refuse(
                    piece.name, self._values[piece.name], name, "the script needs that name itself",
                    f"Rename {piece.name}",
                )  # fmt: skip
            if piece.members:
                pairs = ", ".join(f"{attr}={name}" for attr, name in sorted(piece.members.items()))
                piece.text = f"{piece.name} = _types.SimpleNamespace({pairs})\n"
                piece.early = tuple(sorted(piece.members.values()))
        return name

    def refuse(self, name: str, value: Any, reader: str, why: str, way: str = "") -> None:
        """Note what cannot travel; told of once for each reader."""
        kind = "nothing" if why == "it is not defined" else type_name(value)
        found = Refusal(name, kind, reader, why, (way or way_out(value, name)).rstrip(".") + ".")
        self.refusals.setdefault((name, reader), found)

    def bind(
        self,
        name: str,
        value: Any,
        namespace: Mapping[str, Any],
        reader: str,
        chains: Sequence[tuple[str, ...]],
    ) -> None:
        """Have the script bind a name to what this value is."""
        value = meaning.underlying(value)
        is_known = name in self._values and self._values[name] is value
        if is_known and isinstance(value, types.ModuleType):
            self._module(name, value, namespace, reader, chains)
            return
        if name in self._values:
            if not meaning.is_same(self._values[name], value):
                self.refuse(
                    name, value, reader, "the script has another thing of that name already",
                    f"Rename one of the two {name}",
                )  # fmt: skip
            return
        self._values[name] = value
        if isinstance(value, types.ModuleType):
            self._module(name, value, namespace, reader, chains)
        elif name in HISTORY or meaning.is_of_ipython(value):
            self.refuse(name, value, reader, "it is the notebook's own", shown_by(name))
        elif not self._import(name, value, namespace, reader):
            self._make(name, value, namespace, reader)

    # Modules

    def _module(
        self,
        name: str,
        module: types.ModuleType,
        namespace: Mapping[str, Any],
        reader: str,
        chains: Sequence[tuple[str, ...]],
    ) -> None:
        full = origins.module_name(module)
        mine = [chain for chain in chains if chain[0] == name]
        if origins.of(full).kind == "local" and not self._is_given(full):
            self._local_module(name, module, reader, mine)
            return
        if not self._require(full, reader, name, module):
            return
        if full == name:
            self.imports[name] = f"import {name}"
            self._submodules(name, mine)
        elif "." in full or full != name:
            self.imports[name] = f"import {full} as {name}"

    def _submodules(self, name: str, chains: Sequence[tuple[str, ...]]) -> None:
        """Import what is read of a package as its submodule: `concurrent.futures`."""
        for chain in chains:
            for count in range(2, len(chain) + 1):
                dotted = ".".join(chain[:count])
                found = sys.modules.get(dotted)
                if found is not None and found.__name__ == dotted:
                    self.imports[dotted] = f"import {dotted}"

    def _local_module(
        self, name: str, module: types.ModuleType, reader: str, chains: Sequence[tuple[str, ...]]
    ) -> None:
        """Take what is read of a module beside the notebook, and give it the module's name."""
        if any(len(chain) < 2 for chain in chains) or hasattr(module, "__path__") or not chains:
            self.refuse(
                name, module, reader, "it is no file of an installed package",
                f"Write `from {module.__name__} import ...` for what you need of it, or install it"
                " as a package",
            )  # fmt: skip
            return
        self.imports["_types"] = "import types as _types"
        piece = self.pieces.setdefault(name, Piece(name, "", is_constant=True))
        for attribute in dict.fromkeys(chain[1] for chain in sorted(chains)):
            if not hasattr(module, attribute):
                self.refuse(f"{name}.{attribute}", None, reader, "it is not defined", "Define it")
                continue
            self.bind(attribute, getattr(module, attribute), vars(module), name, ())
            piece.members[attribute] = attribute

    def _require(self, module: str, reader: str, name: str, value: Any) -> bool:
        """Note the package that brings a module; False when there is none, which is refused."""
        origin = origins.of(module)
        if origin.kind == "standard" or self._is_given(module):
            return True
        if origin.kind == "package":
            self.requirements.add(origin.requirement)
            return True
        why = {
            "editable": f"{origin.package} is installed from a folder of this machine",
            "local": f"the module {module} belongs to no installed package",
            "missing": f"the module {module} is not installed here",
        }[origin.kind]
        way = f'Name what brings it: dependencies=["{origin.package or module}"]'
        self.refuse(name, value, reader, why, f"{way}, or dependencies=[] if workers have it")
        return False

    def _is_given(self, module: str) -> bool:
        """Say whether the author answers for where a module comes from."""
        if self.given is None or module == "__main__":
            return False
        origin = origins.of(module)
        return origin.kind != "local" or module.partition(".")[0] in {
            item.partition("=")[0].partition("[")[0].partition(">")[0].strip().replace("-", "_")
            for item in self.given
        }

    # Imports

    def _import(self, name: str, value: Any, namespace: Mapping[str, Any], reader: str) -> bool:
        """Bind a name by an import if its value comes from an installed module."""
        home = meaning.written_import(name, value, namespace) or meaning.defined_home(name, value)
        if home is None:
            return False
        module, attribute = home
        if origins.of(module).kind == "local" and not self._is_given(module):
            return False
        if self._require(module, reader, name, value):
            alias = "" if attribute == name else f" as {name}"
            self.imports[name] = f"from {module} import {attribute}{alias}"
        return True

    # Functions, classes and values

    def _make(self, name: str, value: Any, namespace: Mapping[str, Any], reader: str) -> None:
        if isinstance(value, type):
            self._class(name, value, reader)
        elif (inner := meaning.undecorated(name, value)) is not None:
            self._function(name, inner, value, reader)
        else:
            self._constant(name, value, reader)

    def _function(self, name: str, inner: types.FunctionType, value: Any, reader: str) -> None:
        if hasattr(value, "registry") and hasattr(value, "dispatch"):
            self.refuse(name, value, reader, "what was registered with it stands elsewhere")
            return
        found = texts.function(inner.__code__)
        if found is None:
            self.refuse(name, value, reader, "its text is not to be found")
            return
        text, node = found
        if texts.is_stale(inner.__code__, text):
            self.refuse(
                name, value, reader, f"{inner.__code__.co_filename} was changed since it was read",
                "Import it again, or restart the kernel",
            )  # fmt: skip
            return
        around = meaning.names_around(inner)
        if isinstance(node, ast.Lambda):
            written = f"{name} = {texts.piece(text, node)}\n"
            self._piece(name, written, inner, around)
            return
        assert isinstance(node, texts.Definition)
        written = texts.piece(text, node, meaning.own_decorators(node, around))
        self._values.setdefault(node.name, value)
        if node.name == name or meaning.is_same(self._values[node.name], value):
            self._piece(node.name, written, inner, around)
            if node.name != name:
                self._alias(name, node.name)
        else:
            self.refuse(
                name, value, reader, f"it is called {node.name} where it is defined, and the script"
                " has another thing of that name", f"Rename one of the two {node.name}",
            )  # fmt: skip

    def _alias(self, name: str, of: str) -> None:
        self.pieces[name] = Piece(name, f"{name} = {of}\n", (of,), is_constant=True)

    def _class(self, name: str, value: type, reader: str) -> None:
        if "<locals>" in value.__qualname__:
            self.refuse(name, value, reader, "the class is made within a function",
                        "Define it at the top level of a cell")  # fmt: skip
            return
        found = texts.class_(value)
        if found is None and issubclass(value, tuple) and hasattr(value, "_field_defaults"):
            self._namedtuple(name, value, reader)
            return
        if found is None:
            self.refuse(name, value, reader, "its text is not to be found",
                        "Define it with a `class` statement in a cell or a file")  # fmt: skip
            return
        text, node = found
        module = sys.modules.get(value.__module__)
        around = {**vars(builtins), **(vars(module) if module else {})}
        if older := meaning.older_base(node, value, around):
            self.refuse(
                name,
                value,
                reader,
                f"it was made from an earlier {older}",
                f"Run the cell of {name} again",
            )
            return
        written = texts.piece(text, node, meaning.own_decorators(node, around))
        self._values.setdefault(node.name, value)
        self._piece(node.name, written, meaning.a_method(value), around)
        if node.name != name:
            self._alias(name, node.name)

    def _namedtuple(self, name: str, value: Any, reader: str) -> None:
        """Write what `collections.namedtuple` made; it has no text."""
        defaults = list(value._field_defaults.values())
        try:
            text, modules = literals.write(defaults, lambda part: str(part.__name__))
        except literals.CannotWrite as problem:
            self.refuse(name, value, reader, str(problem))
            return
        self.imports |= {f"_{item}": f"import {item} as _{item}" for item in modules}
        self.imports["_collections"] = "import collections as _collections"
        with_defaults = f", defaults={text}" if defaults else ""
        made = f"_collections.namedtuple({value.__name__!r}, {value._fields!r}{with_defaults})"
        self.pieces[name] = Piece(name, f"{name} = {made}\n", is_constant=True)

    def _piece(
        self, name: str, written: str, code: types.FunctionType | None, around: Mapping[str, Any]
    ) -> None:
        """Add a definition, and go on with what it reads."""
        is_future = code is not None and bool(texts.future(code.__code__))
        self.is_future |= is_future
        read = reads.of(written, is_future)
        self._written |= read.written
        self.pieces[name] = Piece(name, written, read.early, (*read.late, *read.soft))
        chains = tuple(sorted(read.chains))
        for needed in (*read.early, *read.late, *read.soft):
            value = around.get(needed, meaning.MISSING)
            if needed == name or needed in SKIPPED:
                continue
            if value is meaning.MISSING:
                if needed not in read.soft:
                    self._undefined.append((needed, name))
            elif getattr(builtins, needed, meaning.MISSING) is not value or meaning.is_of_ipython(
                value
            ):
                self.bind(needed, value, around, name, chains)
        for module, is_tried in read.imports:
            self._inner_import(module, is_tried, name)

    def _inner_import(self, module: str, is_tried: bool, reader: str) -> None:
        origin = origins.of(module) if not module.startswith(".") else origins.Origin("local")
        if origin.kind == "missing" and is_tried:
            return
        if origin.kind == "local" and not self._is_given(module):
            self.refuse(
                module, sys, reader, "it belongs to no installed package and is imported within",
                "Import what you need of it at the top of the notebook, outside of the function",
            )  # fmt: skip
            return
        self._require(module, reader, module, sys)

    def _constant(self, name: str, value: Any, reader: str) -> None:
        early: list[str] = []

        def named(part: Any) -> str:
            own = part.__name__
            if getattr(builtins, own, None) is not part:
                self.bind(own, part, {}, reader, ())
                early.append(own)
            return str(own)

        try:
            text, modules = literals.write(value, named)
        except literals.CannotWrite as problem:
            self.refuse(name, value, reader, str(problem))
            return
        for module in sorted(modules):
            self.imports[f"_{module}"] = f"import {module} as _{module}"
        needed = tuple(item for item in dict.fromkeys(early) if item not in self.imports)
        self.pieces[name] = Piece(name, f"{name} = {text}\n", needed, is_constant=True)
