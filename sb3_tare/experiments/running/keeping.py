"""The files that a run leaves beside its result, where they are asked for: its model, its normalisation and its reward."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_tare import RewardLearner
from sb3_tare.experiments.running.jobs import Job, stem_of
from sb3_tare.utils.files import reward_path, write_bytes
from sb3_tare.utils.vec_normalize import OF_A_STUDY

MODEL = ".zip"
"""Suffix beside ``.json``; the reward's is that of :func:`~sb3_tare.utils.files.reward_path`."""


def files_of(model: BaseAlgorithm) -> dict[str, bytes]:
    """Contents of the files that hold a trained model, by suffix; they travel to whoever writes results."""
    normalisation = model.get_vec_normalize_env()
    with TemporaryDirectory() as folder:
        path = Path(folder, f"model{MODEL}")
        model.save(path)
        if normalisation is not None:
            normalisation.save(str(path.with_name(f"model{OF_A_STUDY}")))
        learner = getattr(model, "reward_learner", getattr(model, "learner", None))  # its own, or a callback's
        if isinstance(learner, RewardLearner):
            learner.save(reward_path(path), path)
        return {file.name.removeprefix("model"): file.read_bytes() for file in sorted(Path(folder).iterdir())}


def write_files(folder: Path, job: Job, files: Mapping[str, bytes]) -> None:
    """Write them beside the job's result."""
    for suffix, content in files.items():
        write_bytes(folder / f"{job.stem}{suffix}", content)


def without_model(folder: Path, jobs: list[Job]) -> list[Job]:
    """Those of the jobs that have left no model."""
    return [job for job in jobs if not (folder / f"{job.stem}{MODEL}").exists()]


def with_reward(folder: Path, settings: Mapping[str, Any]) -> Path | None:
    """The file of the model that a run has left with a learned reward beside it, or None.

    :param settings: of the run, as its result holds them
    """
    model = folder / f"{stem_of(settings['env'], settings['name'], settings['seed'])}{MODEL}"
    return model if model.exists() and reward_path(model).exists() else None
