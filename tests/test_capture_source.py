"""Functions become scripts that run the same elsewhere; what cannot travel is refused by name."""

# ruff: noqa: E501 - a case is a line

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import subprocess
import sys
import textwrap
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobkit.capture import CannotTravel, Captured, capture, literals
from tests.loops import in_a_loop

Write = Callable[..., types.ModuleType]


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Write]:
    """Write a file that belongs to no package and import it."""
    made: list[str] = []

    def module(source: str, name: str = "desk") -> types.ModuleType:
        path = tmp_path / f"{name}.py"
        path.write_text(textwrap.dedent(source), "utf-8")
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        loaded = importlib.util.module_from_spec(spec)
        sys.modules[name] = loaded
        made.append(name)
        spec.loader.exec_module(loaded)
        return loaded

    yield module
    for name in made:
        sys.modules.pop(name, None)


def others() -> list[str]:
    """Return interpreters of other versions that are installed here."""
    found = []
    for minor in (12, 13, 14):
        if (3, minor) != sys.version_info[:2]:
            folders = sorted(Path("~/.pyenv/versions").expanduser().glob(f"3.{minor}.*/bin/python"))
            found += [str(path) for path in folders[-1:]]
    return found


def execute(captured: Captured, python: str, folder: Path, **params: Any) -> Any:
    captured.check()
    path = folder / "captured.py"
    path.write_text(captured.text, "utf-8")
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [python, "-I", str(path)],
        env=env | {"JOBKIT_PARAMS": json.dumps(params)},
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr + captured.text
    told = [line for line in done.stdout.splitlines() if line.startswith("::result ")]
    return json.loads(told[-1].removeprefix("::result ")) if told else None


SAME = {
    "a literal": """
        RATES = {"eur": 1.0, "usd": [1.1, None, True, (1,), {3, 2, 1}, b"x"]}
        def job(): return str(sorted(RATES["usd"][4])) + str(RATES["eur"])
        """,
    "dates, decimals, paths, patterns": """
        import datetime as dt, re, zoneinfo
        from decimal import Decimal
        from fractions import Fraction
        from pathlib import Path
        START = dt.datetime(2026, 3, 2, 6, tzinfo=zoneinfo.ZoneInfo("Europe/Paris"))
        UTC, STEP, DAY, AT = dt.timezone.utc, dt.timedelta(days=1, seconds=3), dt.date(2026, 1, 2), dt.time(6, 30)
        PRICE, SHARE, FOLDER, DIGITS = Decimal("1.10"), Fraction(1, 3), Path("a") / "b", re.compile(r"\\d+", re.I)
        def job():
            return [str(x) for x in (START.astimezone(UTC), STEP, DAY, AT, PRICE, SHARE)] + [
                FOLDER.as_posix(), DIGITS.findall("a1b22")]
        """,
    "nothing": """
        NOTHING, EMPTY, OFF = None, (), False
        def job(): return [NOTHING, EMPTY, OFF]
        """,
    "infinities": """
        LOW, HIGH, Z = float("-inf"), float("inf"), 2 + 3j
        def job(): return [LOW < 0 < HIGH, abs(Z) > 3]
        """,
    "helpers of helpers": """
        def one(x): return two(x) + 1
        def two(x): return three(x) * 2
        def three(x): return x - BASE
        BASE = 7
        def job(): return one(9)
        """,
    "mutual recursion": """
        def even(n): return True if n == 0 else odd(n - 1)
        def odd(n): return False if n == 0 else even(n - 1)
        def job(): return even(10)
        """,
    "itself": """
        def job(n: int = 5): return 1 if n < 2 else n * job(n - 1)
        """,
    "a dataclass with a field of another class": """
        from dataclasses import dataclass, field
        import enum
        class Color(enum.Enum):
            RED = "r"
            BLUE = "b"
        @dataclass(frozen=True, order=True)
        class Inner:
            x: int = 1
        @dataclass
        class Row:
            color: Color
            inner: Inner = Inner(4)
            more: list[int] = field(default_factory=list)
        FAVOURITE = Color.BLUE
        def job(): return [repr(Row(Color.RED)), FAVOURITE.name]
        """,
    "a base class and super": """
        class Base:
            scale = 3
            def value(self): return self.scale
        class Child(Base):
            def value(self): return super().value() + helper()
        def helper(): return Child.scale
        def job(): return Child().value()
        """,
    "defaults, decorators and annotations": """
        import functools
        DEFAULT = [1, 2]
        def twice(function):
            @functools.wraps(function)
            def inner(*args, **kwargs): return combine(function(*args, **kwargs))
            return inner
        def combine(x): return (x, x)
        class Kind: pass
        @twice
        def helper(x=DEFAULT) -> "Kind": return sum(x)
        def job(*, y: "list[Kind] | None" = None) -> int: return list(helper())
        """,
    "a decorator that does not say what it wraps": """
        def loud(function):
            def inner(*args): return function(*args).upper()
            return inner
        @loud
        def greet(name): return f"hello {name}"
        def job(): return greet("you")
        """,
    "lambdas": """
        square, key = lambda x: x * RATE, lambda item: (item[1], "a b")
        RATE = 3
        def job(): return [square(4), sorted({1: 2, 0: 5}.items(), key=key)]
        """,
    "comprehensions, walrus, match, nested functions": """
        WORDS, LIMIT, POINT = ["a", "bb", "ccc"], 2, (1, 2)
        def job():
            def inner(x): return [n + LIMIT for n in range(x) if (m := n) >= 0 and m < LIMIT]
            match POINT:
                case (1, second): return [inner(4), second, {w: len(w) for w in WORDS}, any(len(w) > LIMIT for w in WORDS)]
        """,
    "a global that it makes itself": """
        COUNT = 1
        def step():
            global COUNT, MADE
            COUNT += 1
            MADE = COUNT
        def job():
            step()
            return [COUNT, MADE]
        """,
    "imports with aliases and submodules": """
        import json as j, os.path, xml.etree.ElementTree as ET, concurrent.futures
        from os import path as p, environ, sep
        from math import pi, sqrt as root
        from collections import OrderedDict, defaultdict as dd
        import collections.abc
        def job():
            with concurrent.futures.ThreadPoolExecutor() as pool:
                done = pool.submit(root, 16).result()
            return [j.loads("1"), os.path.basename("a/b"), p.join("a", "b") == "a" + sep + "b", ET.fromstring("<a/>").tag, done,
                    round(pi, 2), type(environ).__name__, list(OrderedDict(a=1)), dd(list)["x"], isinstance([], collections.abc.Sequence)]
        """,
    "an import of its own": """
        def job():
            import statistics
            return statistics.mean([1, 2, 3])
        """,
    "a cached function and a partial": """
        import functools
        @functools.lru_cache(maxsize=None)
        def slow(x): return x + OFFSET
        OFFSET = 10
        add = functools.partial(slow, 5)
        def job(): return add()
        """,
    "what a closure closes over": """
        def make(n):
            label = f"n={n}"
            def job():
                text = \"\"\"Text that
            is not indented as the code is.\"\"\"
                return [n, label, text]
            return job
        job = make(3)
        """,
    "an async function": """
        import asyncio
        async def helper(): return PAUSE
        PAUSE = 0
        async def job():
            await asyncio.sleep(await helper())
            return "done"
        """,
    "type aliases": """
        from typing import Literal, Optional, Any
        Region, Rows = Literal["eu", "us"], dict[str, list[int]]
        def job(region: Region = "eu", rows: Optional[Rows] = None, any: Any = None) -> Rows: return {region: [1]}
        """,
    "annotations of the future": """
        from __future__ import annotations
        from dataclasses import dataclass
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            from nowhere import Missing
        @dataclass
        class Node:
            next: Node | None = None
        def job(x: Missing | None = None) -> Missing: return repr(Node(Node()))
        """,
    "TypedDict, NamedTuple, abstract classes": """
        import abc
        from typing import NamedTuple, TypedDict
        class Point(NamedTuple):
            x: int
            y: int = 2
        class Options(TypedDict, total=False):
            size: int
        class Shape(abc.ABC):
            @abc.abstractmethod
            def area(self): ...
            @property
            def double(self): return 2 * self.area()
            @classmethod
            def make(cls): return cls()
        class Unit(Shape):
            def area(self): return 1
        def job(): return [Point(1), Options(size=1), Unit.make().double]
        """,
    "generic classes and named tuples": """
        from collections import namedtuple
        from typing import Generic, TypeVar
        T = TypeVar("T")
        Pair = namedtuple("Pair", "x y", defaults=[2])
        class Box(Generic[T]):
            def __init__(self, x: T): self.x = x
        def job(): return [Box[int](3).x, Pair(1)]
        """,
    "functions in a dictionary": """
        from math import sqrt
        def one(x): return x + STEP
        STEP = 1
        STEPS = {"one": one, "len": len, "root": sqrt}
        def job(): return [STEPS["one"](1), STEPS["len"]([1]), STEPS["root"](4)]
        """,
    "context managers, loggers, a logger's name": """
        import logging
        from contextlib import contextmanager
        log = logging.getLogger(__name__)
        @contextmanager
        def told(x):
            log.warning("to stderr")
            yield x
        def job():
            with told(3) as x: return [x, log.name]
        """,
    "another job and a decorator below jobkit's": """
        import functools, jobkit
        def more(function):
            @functools.wraps(function)
            def inner(*a, **k): return function(*a, **k) + 1
            return inner
        @jobkit.job(every="1h")
        def other(x: int = 1): return x
        @jobkit.job
        @more
        def job(): return other(3)
        """,
    "another name for a function": """
        def original(x): return x + 1
        alias = original
        def job(): return alias(1) + original(1)
        """,
    "a class that reads a function while it is made": """
        def prefix(): return NAME.upper()
        NAME = "ab"
        class Config:
            label = prefix() + "".join(part for part in [NAME])
            def show(self): return job.__name__ + self.label
        def job(config=Config()): return config.show()
        """,
    "lines joined by a backslash": """
        def helper(a,
                   b = 2):   # a comment
            x = a + \\
                b
            # another
            return x
        def job(): return helper(1)
        """,
}


@pytest.mark.parametrize("source", SAME.values(), ids=SAME)
def test_a_script_returns_what_the_function_returns(
    write: Write, tmp_path: Path, source: str
) -> None:
    job = write(source).job
    captured, again = capture(job), capture(job)
    expected = job()
    if inspect.iscoroutine(expected):
        coroutine = expected
        expected = in_a_loop(lambda: coroutine)
    assert execute(captured, sys.executable, tmp_path) == json.loads(json.dumps(expected))
    assert again.sha256 == captured.sha256


def test_every_script_runs_on_other_pythons_as_well(write: Write, tmp_path: Path) -> None:
    pythons = others()
    if not pythons:
        pytest.skip("no other Python (3.12 to 3.14) is installed below ~/.pyenv/versions")
    for name, source in SAME.items():
        job = write(source).job
        captured = capture(job)
        expected = execute(captured, sys.executable, tmp_path)
        for python in pythons:
            found = execute(captured, python, tmp_path)
            if "TYPE" not in source:
                assert found == expected, (name, python)


def test_the_text_stays_as_it_was_written(write: Write) -> None:
    text = capture(
        write(
            """
            LIMIT = 3
            def helper( x ):    # odd spacing
                # a comment
                return  x+LIMIT

            def job():
                '''Say it.'''

                return helper( 1 )
            """
        ).job
    ).text
    assert text.startswith('# /// script\n# requires-python = ">=3.11"\n# ///\n\nLIMIT = 3\n\n\n')
    assert "def helper( x ):    # odd spacing\n    # a comment\n    return  x+LIMIT\n" in text
    assert "def job():\n    '''Say it.'''\n\n    return helper( 1 )\n" in text
    assert text.index("def helper") < text.index("def job()")
    assert text.endswith("    _jobkit_keep(job(**_jobkit_params(job)))\n")


REFUSED = {
    "a DataFrame": ("import polars\ndf = polars.DataFrame({'a': [1]})\ndef job(): return df.height", "df", "polars.DataFrame", "inside the function"),
    "a connection": ("import sqlite3\ncon = sqlite3.connect(':memory:')\ndef job(): return con", "con", "sqlite3.Connection", "Open it inside the function"),
    "an open file": ("import os\nlog = open(os.devnull)\nlog.close()\ndef job(): return log.read()", "log", "_io.TextIOWrapper", "Open the file inside"),
    "a generator": ("rows = (x for x in [1])\ndef job(): return list(rows)", "rows", "generator", "Make it inside"),
    "a lock": ("import threading\nlock = threading.Lock()\ndef job(): return lock", "lock", "_thread.lock", "inside the function"),
    "an object": ("class A: pass\na = A()\ndef job(): return a", "a", "desk.A", "inside the function"),
    "a list that holds itself": ("loop = []\nloop.append(loop)\ndef job(): return loop", "loop", "list", "inside"),
    "a list with an object in it": ("a = [1, object()]\ndef job(): return a", "a", "list", "inside"),
    "a lambda in a dictionary": ("F = {1: lambda: 1}\ndef job(): return F[1]()", "F", "dict", "inside"),
    "a class of an earlier base": ("class A: v = 1\nclass B(A): pass\nclass A: v = 2\ndef job(): return B.v", "B", "type", "Run the cell of B again"),
    "members of a Flag together": ("import enum\nclass F(enum.Flag):\n    A, B = 1, 2\nX = F.A | F.B\ndef job(): return X", "X", "desk.F", "inside"),
    "a lambda without text": ("f = eval('lambda x: x')\ndef job(): return f(1)", "f", "function", "Define it with `def`"),
    "a class without text": ("C = type('C', (), {})\ndef job(): return C()", "C", "type", "class"),
    "a class of a function": ("def make():\n    class C: pass\n    return C\nC = make()\ndef job(): return C()", "C", "type", "top level"),
    "what is not defined": ("def job(): return nothing_here", "nothing_here", "nothing", "Define it"),
    "two things of one name": ("def make(n):\n    def f(): return n\n    return f\na, b = make(1), make(2)\ndef job(): return a() + b()", "b", "function", "Rename"),
    "a method of an object": ("class A:\n    def m(self): return 1\nm = A().m\ndef job(): return m()", "m", "method", "def"),
    "a singledispatch": ("import functools\n@functools.singledispatch\ndef f(x): return 1\ndef job(): return f(1)", "f", "function", "def"),
    "too much of a literal": ("big = list(range(100_000))\ndef job(): return len(big)", "big", "list", "inside the function"),
    "a generator function": ("def job():\n    yield 1", "job", "function", "Return a list"),
    "a module of this machine": ("import jobkit\ndef job(): return jobkit.__version__", "jobkit", "module", "dependencies="),
    "a module that is not there": ("def job():\n    import not_there_at_all\n    return 1", "not_there_at_all", "module", "dependencies="),
}  # fmt: skip


@pytest.mark.parametrize(("source", "name", "kind", "way"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_travel_is_refused_with_the_way_out(
    write: Write, source: str, name: str, kind: str, way: str
) -> None:
    captured = capture(write(source).job)
    (refusal,) = captured.refusals
    assert refusal.name == name
    assert kind in refusal.type
    assert way in refusal.way_out
    with pytest.raises(CannotTravel, match=f"job cannot travel(.|\n)*{name}"):
        captured.check()


def test_all_refusals_come_at_once(write: Write) -> None:
    source = "import threading\na, b = object(), threading.Lock()\ndef helper(): return b, c\ndef job(): return a, helper()"
    found = capture(write(source).job).refusals
    assert {(item.name, item.reader) for item in found} == {
        ("a", "job"),
        ("b", "helper"),
        ("c", "helper"),
    }


def test_a_module_beside_the_notebook_gives_what_is_read_of_it(
    write: Write, tmp_path: Path
) -> None:
    write(
        "import math\nSCALE = 2\ndef grow(x): return math.floor(x * SCALE)\ndef unused(): return object_",
        "beside",
    )
    job = write(
        "import beside\nfrom beside import grow as bigger\ndef job(): return [beside.grow(1.5), beside.SCALE, bigger(2)]"
    ).job
    captured = capture(job)
    assert execute(captured, sys.executable, tmp_path) == [3, 2, 4]
    assert "unused" not in captured.text


def test_a_module_beside_the_notebook_is_refused_as_a_whole(write: Write) -> None:
    write("A = 1", "beside")
    job = write("import beside\ndef job(): return vars(beside)").job
    (refusal,) = capture(job).refusals
    assert "from beside import ..." in refusal.way_out


def test_a_file_that_was_changed_is_read_again_first(write: Write, tmp_path: Path) -> None:
    job = write("def job(): return 1").job
    (tmp_path / "desk.py").write_text("def job(): return 222", "utf-8")
    (refusal,) = capture(job).refusals
    assert "was changed since it was read" in refusal.why


def test_imports_of_packages_are_pinned_dependencies(write: Write) -> None:
    source = "import polars as pl\nimport json\ndef job():\n    import sqlalchemy\n    return pl.DataFrame()"
    job = write(source).job
    captured = capture(job)
    import polars
    import sqlalchemy

    assert set(captured.dependencies) == {
        f"polars=={polars.__version__}",
        f"SQLAlchemy=={sqlalchemy.__version__}",
    }
    assert f'# dependencies = [\n#     "SQLAlchemy=={sqlalchemy.__version__}",\n' in captured.text
    assert "import polars as pl\n" in captured.text


def test_dependencies_that_are_named_stand_for_those_found(write: Write) -> None:
    job = write("import polars\nimport jobkit\ndef job(): return polars, jobkit").job
    assert capture(job, dependencies=["polars>2"]).dependencies == ("polars>2",)
    assert "dependencies" not in capture(job, dependencies=[]).text


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.dates()
    | st.datetimes()
    | st.timedeltas()
    | st.decimals(allow_nan=False),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner)
        | st.frozensets(st.integers() | st.text())
    ),
    max_leaves=12,
)  # fmt: skip


@given(VALUES)
def test_a_literal_is_the_same_value_again(value: Any) -> None:
    text, modules = literals.write(value, lambda part: part.__name__)
    again = eval(text, {f"_{name}": __import__(name) for name in modules})
    assert again == value
    assert type(again) is type(value)
    assert literals.write(again, lambda part: part.__name__)[0] == text
