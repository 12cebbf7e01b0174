"""Seconds that were spent in some places and not in others."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Counts while it runs; what it counted stays until :meth:`reset`."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Stop, and begin at zero."""
        self._counted = 0.0
        self._since: float | None = None

    @property
    def seconds(self) -> float:
        """Counted so far."""
        return self._counted + (0.0 if self._since is None else time.perf_counter() - self._since)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count meanwhile; then go on as before."""
        with self._switched(on=True):
            yield

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count meanwhile; then go on as before."""
        with self._switched(on=False):
            yield

    @contextmanager
    def _switched(self, on: bool) -> Iterator[None]:
        was_on = self._since is not None
        self._switch(on)
        try:
            yield
        finally:
            self._switch(was_on)

    def _switch(self, on: bool) -> None:
        self._counted = self.seconds
        self._since = time.perf_counter() if on else None
