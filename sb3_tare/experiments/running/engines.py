"""Engines, which run jobs: functions from jobs to a stream of what becomes of them."""

from __future__ import annotations

import json
import signal
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import NamedTuple

from sb3_tare.experiments.running.jobs import Job
from sb3_tare.experiments.running.results import Result
from sb3_tare.experiments.running.training import train


class Steps(NamedTuple):
    """A job runs and has made so many steps."""

    job: Job
    steps: int


class Done(NamedTuple):
    """A job has ended."""

    job: Job
    result: Result


class Failed(NamedTuple):
    """A job has raised, or its process has died."""

    job: Job
    why: str


Update = Steps | Done | Failed
Engine = Callable[[Sequence[Job]], Iterator[Update]]
"""Yields one :class:`Done` or :class:`Failed` for every job. Closing the stream ends what still runs."""


def local(jobs: Sequence[Job], processes: int) -> Iterator[Update]:
    """Run each job in a fresh process on this machine, ``processes`` at a time.

    Not a ``ProcessPoolExecutor``, which fails every job when one process is killed, and tells nothing of their progress.
    """
    context = get_context("spawn")
    waiting = deque(jobs)
    running: dict[Connection, tuple[Job, SpawnProcess]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                job = waiting.popleft()
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_work, args=(job, theirs), daemon=True)
                process.start()
                theirs.close()  # so that the pipe ends when the process does
                running[ours] = job, process
                yield Steps(job, 0)
            for connection in wait(list(running)):
                assert isinstance(connection, Connection)
                job, process = running[connection]
                update = _receive(connection, job, process)
                if not isinstance(update, Steps):
                    del running[connection]
                    process.join()
                yield update
    finally:
        for _, process in running.values():
            process.terminate()
        for _, process in running.values():
            process.join()


def _receive(connection: Connection, job: Job, process: SpawnProcess) -> Update:
    try:
        return connection.recv()
    except EOFError:
        process.join()
        return Failed(job, f"its process ended with exit code {process.exitcode}")


def _work(job: Job, connection: Connection) -> None:
    """A process's whole life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent alone decides what ends
    with suppress(BrokenPipeError):  # the parent was killed: nobody is left who could write a result
        connection.send(attempt(job, lambda steps: connection.send(Steps(job, steps))))


def attempt(job: Job, report: Callable[[int], None] = lambda steps: None) -> Done | Failed:
    """Run a job; what it raises becomes data."""
    try:
        result = train(job, report)
        json.dumps(result, allow_nan=False)  # a return that is not finite is this job's failure and not the study's
        return Done(job, result)
    except BrokenPipeError:
        raise
    except Exception:
        return Failed(job, traceback.format_exc())
