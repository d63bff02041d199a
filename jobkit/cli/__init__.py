"""The command line: thin over Kit. Exit codes: 0 done, 1 it did not succeed, 2 bad input."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from jobkit.errors import BadInput, JobkitError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `jobkit`."""
    from jobkit.cli.commands import app

    _run(app, "jobkit", arguments)


def admin_main(arguments: Sequence[str] | None = None) -> None:
    """Run `job-admin`: some of the commands under names that people know."""
    from jobkit.cli.admin import app

    _run(app, "job-admin", arguments)


def _run(app: object, name: str, arguments: Sequence[str] | None) -> None:
    try:
        app(None if arguments is None else list(arguments), prog_name=name)  # type: ignore[operator]
    except JobkitError as error:
        print(f"Error: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2 if isinstance(error, BadInput) else 1)
    except BrokenPipeError:  # `jobkit runs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
