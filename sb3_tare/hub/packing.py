"""All that goes to the hub, in a folder."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import stable_baselines3
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecEnv

from sb3_tare import RewardLearner
from sb3_tare.analysis.drawing import write_figure
from sb3_tare.analysis.environments import check_plain, environment_of
from sb3_tare.analysis.figures import timeline
from sb3_tare.analysis.loading import make_env, trained_behind_vec_normalize
from sb3_tare.analysis.recording import record
from sb3_tare.analysis.zoo_runs import named
from sb3_tare.hub.card import model_card
from sb3_tare.hub.evaluating import evaluate
from sb3_tare.hub.naming import CARD, CONFIG, PICTURE, RESULTS, check_repo_id, model_name
from sb3_tare.hub.zoo_files import write_zoo_files
from sb3_tare.utils.checks import check_count
from sb3_tare.utils.files import reward_path, write_json, write_text
from sb3_tare.utils.generators import undisturbed_generators
from sb3_tare.utils.numbered import written_in
from sb3_tare.utils.vec_normalize import OF_THE_HUB, find_statistics

DPI = 150


def package(
    model: Any,
    folder: str | Path,
    repo_id: str,
    env_id: str | None = None,
    learner: RewardLearner | None = None,
    *,
    env_kwargs: Mapping[str, Any] | None = None,
    vec_normalize: str | Path | None = None,
    n_eval_episodes: int = 10,
    deterministic: bool = True,
    seed: int = 0,
    run: Path | None = None,
) -> Path:
    """Write a model, its learned reward and all that is told of them into a folder, whole or not at all.

    The names are those of ``huggingface_sb3`` and rl-zoo3, whose functions load the model too.

    :param model: of this package, SB3 or sb3-contrib
    :param folder: new or empty
    :param repo_id: repository that the card is for: ``"me/tare_ppo-Hopper-v5"``
    :param env_id: environment to evaluate in, registered with Gymnasium; None: the one that the model has, with the arguments
        and wrappers that it was made with
    :param learner: that learned the reward of a model which has none of its own; it is saved beside the model
    :param env_kwargs: arguments of the environment that ``env_id`` names, before those of ``run``
    :param vec_normalize: file of the statistics that ``VecNormalize.save`` wrote; None takes those of the model's environment
    :param n_eval_episodes: episodes for the card's results
    :param deterministic: leave the policy's exploration out of them
    :param seed: of the episodes
    :param run: folder of the run of rl-zoo3 that trained the model, whose settings and curves go along, and which tells how
        the environment was made; any other is passed over
    :return: the model's file
    :raises ValueError: if the folder is not empty, ``repo_id`` is none, there is no ``env_id``, its spaces are not the
        model's, the model's environment cannot be made again, or the statistics of ``VecNormalize`` are missing
    :raises TypeError: if no reward can be learned for ``model`` and there is a ``learner``
    """
    check_repo_id(repo_id)
    check_count("n_eval_episodes", n_eval_episodes, least=1)
    if env_id is None and env_kwargs:
        raise ValueError(f"env_kwargs are of the environment that env_id names, and there is none; got {dict(env_kwargs)}")
    folder, environment = Path(folder), environment_of(model) if env_id is None else named(env_id, env_kwargs, run)
    check_plain(environment)
    env_id = environment.env_id
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"folder must be new or empty, as all in it goes to the hub, and {folder} is not")
    if learner is None:
        learner = getattr(model, "reward_learner", None)
    else:
        learner.attach(model)
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary, model_name(model, env_id).filename)
        statistics = _save(model, file, learner, vec_normalize)
        env = make_env(environment, model, statistics)
        with _seeded(env, seed):
            results = evaluate(model, env, n_eval_episodes, deterministic)
        write_json(file.with_name(RESULTS), results.as_written())
        system, _ = stable_baselines3.get_system_info(print_info=False)
        write_json(file.with_name(CONFIG), {**written_in(file), "system_info": system})
        if learner is not None:
            with _seeded(env, seed):  # so that the first of these episodes is drawn
                (episode,) = record(model, env, 1, learner, deterministic)
            write_figure(file.with_name(PICTURE), timeline(episode, env_id), dpi=DPI)
        env.close()
        card = model_card(model, repo_id, environment, learner, results, statistics is not None)
        write_text(file.with_name(CARD), str(card))
        write_zoo_files(file, environment, statistics is not None, run)
        shutil.copytree(temporary, folder, dirs_exist_ok=True)
    return folder / file.name


def _save(model: Any, file: Path, learner: RewardLearner | None, vec_normalize: str | Path | None) -> Path | None:
    """Save a model, what its learner has learned, and its statistics of ``VecNormalize``.

    :return: the file of the statistics, if it has some
    """
    model.save(file)
    holder = file
    if learner is not None and not hasattr(model, "reward_learner"):
        holder = reward_path(file)
        learner.save(holder, file)
    statistics = file.with_name(OF_THE_HUB)
    if vec_normalize is not None:
        shutil.copyfile(vec_normalize, statistics)
        return statistics
    if model.get_vec_normalize_env() is not None:
        model.get_vec_normalize_env().save(str(statistics))
        return statistics
    was_used = None if learner is None else trained_behind_vec_normalize(holder)
    return find_statistics(file, was_used, "with vec_normalize")  # which complains, as there is none


@contextmanager
def _seeded(env: VecEnv, seed: int) -> Iterator[None]:
    """Let episodes be those of a seed, and training go on as if there had been none."""
    with undisturbed_generators():
        set_random_seed(seed)
        env.seed(seed)
        yield
