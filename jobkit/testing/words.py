"""What the attempts of a made-up history print, how they fail, and what they ran on."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass

SUBJECTS = (
    "sales", "stock", "orders", "customers", "invoices", "prices", "visits", "clicks", "returns",
    "payments", "forecast", "churn", "leads", "tickets", "sensors", "shipments", "budget",
)  # fmt: skip
VERBS = ("load", "clean", "join", "score", "report", "export", "check")
_LINE = "%(stamp)s INFO {verb}: "
_STEPS = (
    "connected to warehouse",
    "read %(rows)d rows of {subject}",
    "dropped %(some)d rows without a key",
    "joined with customers on customer_id",
    "wrote partition day=%(day)s",
    "compared with yesterday: %(some)d rows differ",
)
_TRACE = """Traceback (most recent call last):
  File "/srv/jobs/{script}", line {end}, in <module>
    main()
  File "/srv/jobs/{script}", line {line}, in {function}
    {code}
{library}{error}
"""
_LIBRARY = """  File "/srv/venv/lib/python3.11/{module}.py", line {line}, in {function}
    {code}
"""


@dataclass(frozen=True)
class Failure:
    """A way to fail: the exception, and where in the script and the library it comes up."""

    error: str
    function: str
    line: int
    code: str
    library: tuple[str, int, str, str] | None = None


FAILURES = (
    Failure(
        'psycopg.OperationalError: connection to server at "{host}", port 5432 failed: '
        "Connection timed out",
        "connect",
        31,
        "return psycopg.connect(DSN)",
        ("psycopg/connection", 117, "connect", "raise last_ex.with_traceback(None)"),
    ),
    Failure(
        "KeyError: 'customer_id'",
        "join",
        58,
        'keys = frame["customer_id"]',
    ),
    Failure(
        "ValueError: could not convert string to float: '{some},50'",
        "parse",
        74,
        "amount = float(text)",
    ),
    Failure(
        "httpx.ReadTimeout: The read operation timed out",
        "fetch",
        22,
        "page = client.get(url, timeout=30)",
        ("httpx/_transports/default", 118, "map_httpcore_exceptions", "raise mapped_exc(message)"),
    ),
    Failure(
        "FileNotFoundError: [Errno 2] No such file or directory: '/data/{subject}/{day}.csv'",
        "read",
        17,
        "with open(path) as file:",
    ),
    Failure("MemoryError", "pivot", 91, "wide = frame.pivot(on='day', index='sku')"),
    Failure(
        "AssertionError: {some} rows, expected more than 1000",
        "check",
        103,
        'assert len(frame) > 1000, f"{len(frame)} rows, expected more than 1000"',
    ),
)
PACKAGES = (
    {"polars": "2.0.1", "psycopg": "3.3.1", "httpx": "0.29.0"},
    {"polars": "2.1.0", "psycopg": "3.3.2", "httpx": "0.29.0"},
)


def package_hash(index: int) -> str:
    """Return the hash by which a provenance names one of the sets of packages."""
    return hashlib.sha256(json.dumps(PACKAGES[index], sort_keys=True).encode()).hexdigest()


class Voice:
    """What one job says: lines of output, results, and records of what it ran on."""

    def __init__(self, script: str, subject: str, verb: str, length: int) -> None:
        self._script, self._subject, self._verb = script, subject, verb
        lines = [_LINE + step for step in _STEPS]
        while lines and sum(map(len, lines)) > length * 1.2:
            lines.pop()
        spoken = [line.format(verb=verb, subject=subject) + "\n" for line in lines if length]
        self._success, self._start = "".join(spoken), "".join(spoken[:1])
        self._documents: dict[tuple[int, int], str] = {}
        self._commits: dict[int, str] = {}

    def success(self, at: str, rows: int) -> str:
        """Return what an attempt printed until an instant, written as the databases keep it."""
        return self._say(self._success, at, rows)

    def start(self, at: str, rows: int) -> str:
        return self._say(self._start, at, rows)

    def failure(self, failure: Failure, at: str, rows: int) -> str:
        """Return the output of an attempt that ends with a traceback."""
        library = ""
        if failure.library is not None:
            module, line, function, code = failure.library
            library = _LIBRARY.format(module=module, line=line, function=function, code=code)
        told = failure.error
        for mark, value in (
            ("{some}", rows % 97), ("{day}", at[:10]), ("{subject}", self._subject),
            ("{host}", f"db{rows % 3}.example.org"),
        ):  # fmt: skip
            told = told.replace(mark, str(value))
        trace = _TRACE.format(
            script=self._script,
            end=failure.line + 40,
            line=failure.line,
            function=failure.function,
            code=failure.code,
            library=library,
            error=told,
        )
        return self._say(self._start, at, rows) + trace

    def _say(self, template: str, at: str, rows: int) -> str:
        facts = {"stamp": at[:19], "day": at[:10], "rows": rows, "some": rows % 97}
        return template % facts

    def provenance(self, version: int, host: str, week: int, packages: int) -> str:
        """Return the record of what an attempt ran on: a new commit each week, one of a version."""
        known = self._documents.get((version, packages))
        if known is None:
            known = self._documents[version, packages] = self._document(version, packages)
        commit = self._commits.get(week)
        if commit is None:
            digest = hashlib.sha1(str(week).encode(), usedforsecurity=False)
            commit = self._commits[week] = digest.hexdigest()
        return known % (commit, host)

    def _document(self, version: int, packages: int) -> str:
        digest = hashlib.sha256(f"{self._script} {version}".encode()).hexdigest()
        return json.dumps(
            {
                "script": f"/srv/jobs/{self._script}",
                "sha256": digest,
                "kind": "python",
                "isolation": "warm",
                "git": {"commit": "%s", "branch": "main", "dirty": False},
                "params": {},
                "host": "%s",
                "platform": "Linux-6.1-x86_64",
                "variables": ["LANG", "PATH"],
                "python": {
                    "version": "3.11.9",
                    "implementation": "CPython",
                    "path": "/srv/venv/bin/python",
                },
                "packages": package_hash(packages),
            }
        )


def lengths(rng: random.Random) -> list[float]:
    """Return factors that durations are drawn from: lognormal, with one in five hundred far out."""
    factors = [rng.lognormvariate(0, 0.4) for _ in range(4090)]
    return factors + [rng.uniform(6, 14) for _ in range(8)]
