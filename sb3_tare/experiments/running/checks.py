"""Things that would stop a study, found before its first step."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import gymnasium as gym

from sb3_tare.experiments.running.checkpoints import can_be_kept, write_run
from sb3_tare.experiments.running.jobs import Job
from sb3_tare.experiments.running.training import make_env
from sb3_tare.utils.files import check_folder
from sb3_tare.utils.ids import check_id


def check(jobs: Sequence[Job], folder: Path, checkpoints: bool = False) -> None:
    """Make each environment and each variant once, and a file in the folder of results.

    :param checkpoints: whether runs are written down on their way
    :raises ValueError: if a variant cannot be built, such as for a mistyped argument, or nothing can be written to the folder
    :raises gymnasium.error.Error: for an environment that there is not
    :raises ModuleNotFoundError: if an environment needs an extra
    """
    for env in {job.env for job in jobs}:
        check_id(env)
        gym.make(env).close()
    for job in {json.dumps([job.name, job.settings["variant"]]): job for job in jobs}.values():
        _check_variant(job, checkpoints)
    check_folder("--out", folder)


def _check_variant(job: Job, checkpoints: bool) -> None:
    env = make_env(job)
    try:
        model = job.variant.build(env, job.seed)
        if checkpoints and not can_be_kept(model):
            raise ValueError("its learner is a callback, which has no checkpoints: run it without --checkpoint-every")
        if checkpoints:
            with open(os.devnull, "wb") as nowhere:
                write_run({"model": model}, nowhere)
    except ModuleNotFoundError:
        raise
    except Exception as error:  # whatever an algorithm says to arguments that it does not take
        raise ValueError(f"variant {job.name} cannot be built on {job.env}: {error}") from error
    finally:
        env.close()
