"""Processes that are restarted whenever they die, as an init system does."""

import asyncio
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, AsyncExitStack, suppress
from pathlib import Path
from subprocess import Popen
from typing import TypeVar

from devstack.children import child

T = TypeVar("T")
_LOOK_SECONDS = 0.05


class Parent:
    """A thread that starts all processes. A process that has a parent-death signal dies when the thread that
    started it ends.
    """

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._thread = stack.enter_context(ThreadPoolExecutor(1))

    async def run(self, work: Callable[[], T]) -> T:
        """Run the function in the thread that starts all processes."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def enter(self, manager: AbstractContextManager[T]) -> T:
        """Enter the context manager in the thread that starts all processes, and exit it there at the end of the
        block.
        """
        entered = await self.run(manager.__enter__)
        self._stack.push_async_callback(self.leave, manager)
        return entered

    async def leave(self, manager: AbstractContextManager[T]) -> None:
        """Exit the context manager in the thread that entered it, because the death of that thread would kill the
        process.
        """
        await self.run(lambda: manager.__exit__(None, None, None))


class Supervised:
    """A `resguardo` process. After each restart, the process writes a log file of its own in the directory."""

    def __init__(
        self, parent: Parent, arguments: Sequence[str], environment: Mapping[str, str], directory: Path
    ) -> None:
        self._parent = parent
        self._arguments = arguments
        self._environment = environment
        self._directory = directory
        self._process: Popen[bytes] | None = None
        self.lives = 0

    @property
    def pid(self) -> int | None:
        """Return the process id while the process runs, or None."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    async def run(self) -> None:
        """Run the process until the task is cancelled. The cancellation of the task ends the process."""
        while True:
            self.lives += 1
            life = child(
                "app.cli",
                self._arguments,
                log=self._directory / f"{self._arguments[0]}-{self.lives}.log",
                environment=self._environment,
                ready_url=None,
            )
            self._process = await self._parent.run(life.__enter__)
            try:
                while self._process.poll() is None:  # noqa: ASYNC110 - a process has no event
                    await asyncio.sleep(_LOOK_SECONDS)
            finally:
                await asyncio.shield(self._parent.leave(life))

    def stand_still(self) -> None:
        """Send SIGSTOP. While a process is suspended, it does nothing, but its connections stay open."""
        if self.pid is not None:
            os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Send SIGCONT."""
        if self.pid is not None:
            os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """Send SIGKILL to the process and its children."""
        if self._process is not None and self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
