"""Things that would stop a study, found before its first step."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile

import gymnasium as gym

from sb3_tare.experiments.running.jobs import Job
from sb3_tare.experiments.running.training import make_env


def check(jobs: Sequence[Job], folder: Path) -> None:
    """Make each environment and each variant once, and a file in the folder of results.

    :raises ValueError: if a variant cannot be built, such as for a mistyped argument, or nothing can be written to the folder
    :raises gymnasium.error.Error: for an environment that there is not
    :raises ModuleNotFoundError: if an environment needs an extra
    """
    for env in {job.env for job in jobs}:
        gym.make(env).close()
    for job in {json.dumps([job.name, job.settings["variant"]]): job for job in jobs}.values():
        _check_variant(job)
    _check_folder(folder)


def _check_variant(job: Job) -> None:
    env = make_env(job)
    try:
        job.variant.build(env, job.seed)
    except ModuleNotFoundError:
        raise
    except Exception as error:  # whatever an algorithm says to arguments that it does not take
        raise ValueError(f"variant {job.name} cannot be built on {job.env}: {error}") from error
    finally:
        env.close()


def _check_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(f"--out must be a folder that can be written to, got {folder}: {error}") from error
