"""Shares what is expensive to start between several tests, on one event loop.

The control connection runs on any loop, so tests that start their own tor just use `asyncio.run`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

T = TypeVar("T")


@contextlib.contextmanager
def kept(resource: AbstractAsyncContextManager[T]) -> Iterator[tuple[asyncio.Runner, T]]:
    """Enter `resource`, yield it with the runner of its loop, and leave it."""
    with asyncio.Runner() as runner:
        stack = contextlib.AsyncExitStack()
        try:
            yield runner, runner.run(stack.enter_async_context(resource))
        finally:
            runner.run(stack.aclose())
