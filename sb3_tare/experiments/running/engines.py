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

from sb3_tare.experiments.running.checkpoints import Checkpointing
from sb3_tare.experiments.running.jobs import Job
from sb3_tare.experiments.running.keeping import files_of
from sb3_tare.experiments.running.results import Result
from sb3_tare.experiments.running.training import train


class Steps(NamedTuple):
    """A job runs and has made so many steps."""

    job: Job
    steps: int


class Done(NamedTuple):
    """A job has ended.

    :param files: what it leaves beside its result, by suffix (:mod:`~sb3_tare.experiments.running.keeping`)
    """

    job: Job
    result: Result
    files: dict[str, bytes] | None = None


class Failed(NamedTuple):
    """A job has raised, or its process has died."""

    job: Job
    why: str


Update = Steps | Done | Failed
Engine = Callable[[Sequence[Job]], Iterator[Update]]
"""Yields one :class:`Done` or :class:`Failed` for every job. Closing the stream ends what still runs."""


def local(
    jobs: Sequence[Job], processes: int, keep_models: bool = False, checkpointing: Checkpointing | None = None
) -> Iterator[Update]:
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
                process = context.Process(target=_work, args=(job, theirs, keep_models, checkpointing), daemon=True)
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
    except (EOFError, OSError):  # it ended between two messages, or within one
        process.join()
        return Failed(job, f"its process ended with exit code {process.exitcode}")


def _work(job: Job, connection: Connection, keep_models: bool, checkpointing: Checkpointing | None) -> None:
    """A process's whole life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent alone decides what ends
    with suppress(BrokenPipeError):  # the parent was killed: nobody is left who could write a result
        connection.send(attempt(job, lambda steps: connection.send(Steps(job, steps)), keep_models, checkpointing))


def attempt(
    job: Job,
    report: Callable[[int], None] = lambda steps: None,
    keep_models: bool = False,
    checkpointing: Checkpointing | None = None,
) -> Done | Failed:
    """Run a job; what it raises becomes data. Beside what training gives, the result tells how it was ``made``."""
    try:
        trained = train(job, report, checkpointing)
        result = {**trained.result, "made": trained.made}
        json.dumps(result, allow_nan=False)  # a return that is not finite is this job's failure and not the study's
        return Done(job, result, files_of(trained.model) if keep_models else None)
    except BrokenPipeError:
        raise
    except Exception:
        return Failed(job, traceback.format_exc())
