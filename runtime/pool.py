"""The thread pool that the models of a process share."""

from __future__ import annotations

import os
import threading
import weakref

from ._native import Library


class Pool:
    """Threads for running models: at most `threads`, at most what this process may use (0: as many as that allows).

    The threads live as long as a model uses the pool, and run code of the artifact that was the first to use it. So
    that artifact stays mapped until the last model that uses the pool is closed.
    """

    def __init__(self, threads: int = 0) -> None:
        if threads < 0:
            raise ValueError(f"threads: expected 0 or more, got {threads}")
        self._threads = threads
        self._lock = threading.Lock()
        self._host: Library | None = None
        self._native: int | None = None
        self._users = 0
        _pools.add(self)

    def renew_lock(self) -> None:
        """In the child of a fork: the thread that may have held the lock is not there."""
        self._lock = threading.Lock()

    def attach(self, library: Library) -> int:
        """The native pool, for one more user. Raises `MemoryError`."""
        with self._lock:
            native = self._native
            if native is None:
                native = library.pool_create(self._threads)
                if not native:
                    raise MemoryError("thread pool")
                self._native, self._host = native, library
            self._users += 1
            return native

    def detach(self) -> None:
        """One user less; the last one ends the threads."""
        with self._lock:
            self._users -= 1
            if self._users or self._host is None:
                return
            host, native = self._host, self._native
            self._host = self._native = None
        host.pool_destroy(native)


_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


def _after_fork() -> None:
    for pool in list(_pools):
        pool.renew_lock()


os.register_at_fork(after_in_child=_after_fork)

shared = Pool()
"""The pool of `load` when none is given."""
