"""Jobs on a Ray cluster: tasks that are tried again where their node dies. The only module that imports Ray."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import ray

from sb3_tare.experiments.running.engines import Done, Failed, Update, attempt
from sb3_tare.experiments.running.jobs import Job

RETRIES = 5
"""Number of times that a job is begun again after its node or process has died."""


def cluster(jobs: Sequence[Job], address: str, cores: float = 1, keep_models: bool = False) -> Iterator[Update]:
    """Every job is a task of ``cores`` cores in a process of its own, on any node that has this package.

    Nodes need no common file system: results come back to the caller. A job that raises is not tried again, as it would
    raise again; one whose node dies is, from its beginning.

    :param keep_models: whether trained models come back with the results
    :param address: of the cluster's head, ``host:port``; ``"auto"`` finds the one of this machine
    """
    ray.init(address=address, log_to_driver=False)
    try:
        task = ray.remote(num_cpus=cores, max_retries=RETRIES, max_calls=1)(_attempt)
        running = {task.remote(job, keep_models): job for job in jobs}
        while running:
            (ended,), _ = ray.wait(list(running))
            yield _receive(ended, running.pop(ended))
    finally:
        ray.shutdown()  # which ends the tasks that still run


def _attempt(job: Job, keep_models: bool) -> Done | Failed:
    return attempt(job, keep_models=keep_models)


def _receive(reference: ray.ObjectRef, job: Job) -> Update:
    try:
        return ray.get(reference)
    except ray.exceptions.RayError as error:
        return Failed(job, f"Ray gave it up after {RETRIES} retries: {error}")
