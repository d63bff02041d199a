"""Event loops of tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


def in_a_loop(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run `main()` in a loop in a thread: the browser of other tests keeps one in the main one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(main())).result()
