"""How far a study is: bars on a terminal, plain lines in a log."""

from __future__ import annotations

import time
from datetime import timedelta
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from sb3_tare.experiments.running.jobs import Job


class Display(Protocol):
    """Something that is told what becomes of jobs."""

    def __enter__(self) -> Self: ...
    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None: ...
    def advance(self, job: Job, steps: int) -> None:
        """A job runs and has made so many steps."""

    def end(self, job: Job, how: str) -> None:
        """A job is over, and ``how``: one word."""


def display(jobs: list[Job], todo: list[Job], console: Console) -> Display:
    """Bars where the console is a terminal, lines elsewhere.

    :param jobs: all of the study
    :param todo: those that are not finished
    """
    return (Bars if console.is_terminal else Lines)(jobs, todo, console)


class Bars:
    """A bar for the study and one for each job of which the engine tells."""

    def __init__(self, jobs: list[Job], todo: list[Job], console: Console) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self.progress = Progress(*columns, console=console)
        self.study = self.progress.add_task("runs", total=len(jobs), completed=len(jobs) - len(todo))
        self.running: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def advance(self, job: Job, steps: int) -> None:
        """Move the job's bar."""
        if job.filename not in self.running:
            self.running[job.filename] = self.progress.add_task(job.title, total=job.steps)
        self.progress.update(self.running[job.filename], completed=min(steps, job.steps))

    def end(self, job: Job, how: str) -> None:
        """Take the job's bar away and move the study's."""
        if job.filename in self.running:
            self.progress.remove_task(self.running.pop(job.filename))
        self.progress.advance(self.study)


class Lines:
    """A line when a job begins, at each tenth of its steps, and when it is over; with the time since the beginning."""

    def __init__(self, jobs: list[Job], todo: list[Job], console: Console) -> None:
        self.console, self.total, self.over = console, len(jobs), len(jobs) - len(todo)
        self.tenths: dict[str, int] = {}

    def __enter__(self) -> Self:
        self.began = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def advance(self, job: Job, steps: int) -> None:
        """Say it, if another tenth is done."""
        tenth = 10 * steps // job.steps
        if tenth > self.tenths.get(job.filename, -1):
            self.tenths[job.filename] = tenth
            self._say(f"{job.title}: {steps:,} of {job.steps:,} steps")

    def end(self, job: Job, how: str) -> None:
        """Say it."""
        self.over += 1
        self._say(f"{job.title}: {how}; {self.over} of {self.total} runs are over")

    def _say(self, text: str) -> None:
        since = timedelta(seconds=int(time.monotonic() - self.began))
        self.console.print(f"{since} {text}", highlight=False, markup=False, soft_wrap=True)
