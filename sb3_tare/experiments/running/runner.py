"""Runs what is missing of a study, writes results as they come, and shows how far it is."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from sb3_tare.experiments.running.engines import Done, Engine, Failed, Steps
from sb3_tare.experiments.running.jobs import Job
from sb3_tare.experiments.running.provenance import versions
from sb3_tare.experiments.running.results import missing, read_all, write

_PLAIN: dict[str, Any] = {"highlight": False, "markup": False, "soft_wrap": True}
"""Arguments for printing text that may hold anything."""


def run(jobs: list[Job], folder: Path, engine: Engine, console: Console) -> list[Failed]:
    """Give every job a result file in ``folder``; those that have one are not run again.

    :param engine: what runs them
    :return: the jobs that failed; the others have their results
    :raises ValueError: if the folder holds results of another study, of other settings, or of other versions
    """
    results, damaged = read_all(folder)
    for error in damaged:
        ours = any(job.filename == error.path.name for job in jobs)
        console.print(f"{error}; {'its run is made again' if ours else 'it is of no run asked for'}", style="yellow", **_PLAIN)
    todo = missing(jobs, results, versions())
    console.print(f"{len(jobs) - len(todo)} of {len(jobs)} runs are finished in {folder}", **_PLAIN)
    if not todo:
        return []
    failures = []
    with _Display(jobs, todo, console) as display, closing(engine(todo)) as updates:  # type: ignore[type-var]
        for update in updates:
            match update:
                case Steps(job, steps):
                    display.advance(job, steps)
                    continue
                case Done(job, result) if result["versions"] != versions():
                    failures.append(Failed(job, f"it ran with other versions than are here: {result['versions']}"))
                case Done(job, result):
                    write(folder, job, result)
                case Failed():
                    failures.append(update)
            display.end(update.job)
    return failures


class _Display:
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

    def __enter__(self) -> _Display:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def advance(self, job: Job, steps: int) -> None:
        if job.filename not in self.running:
            self.running[job.filename] = self.progress.add_task(job.title, total=job.steps)
        self.progress.update(self.running[job.filename], completed=min(steps, job.steps))

    def end(self, job: Job) -> None:
        if job.filename in self.running:
            self.progress.remove_task(self.running.pop(job.filename))
        self.progress.advance(self.study)
