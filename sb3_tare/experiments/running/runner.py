"""Runs what is missing of a study, writes results as they come, and shows how far it is."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from rich.console import Console

from sb3_tare.experiments.running.checkpoints import checkpoint_path
from sb3_tare.experiments.running.display import display
from sb3_tare.experiments.running.engines import Done, Engine, Failed, Steps
from sb3_tare.experiments.running.jobs import Job
from sb3_tare.experiments.running.keeping import write_files
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
    with display(jobs, todo, console) as shown, closing(engine(todo)) as updates:  # type: ignore[type-var]
        for update in updates:
            match update:
                case Steps(job, steps):
                    shown.advance(job, steps)
                    continue
                case Done(job, result, _) if result["versions"] != versions():
                    failures.append(Failed(job, f"it ran with other versions than are here: {result['versions']}"))
                case Done(job, result, files):
                    write_files(folder, job, files or {})  # first, as the result says that a job is finished
                    write(folder, job, result)
                    checkpoint_path(folder, job).unlink(missing_ok=True)
                case Failed():
                    failures.append(update)
            shown.end(update.job, "failed" if failures and failures[-1].job == update.job else "finished")
    return failures
