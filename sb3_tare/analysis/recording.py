"""Episodes as one looks at them: what was paid, what is learned, and what was to be seen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize

from sb3_tare import LearnedReward
from sb3_tare.analysis.trajectories import collect, learned_rewards

FRAME_SIZE = 320
"""Longest side of a kept frame, in pixels: a thousand of them take 300 MB."""


@dataclass(frozen=True)
class Episode:
    """A whole episode of T steps; rewards are in the environment's own units.

    :param extrinsic: ``[T]`` as the environment paid them
    :param learned: ``[T]``
    :param actions: ``[T, ...]`` as the policy drew them
    :param undistorted: ``[T]`` what steps earned beneath a delay or noise, or None where the environment does not tell
    :param frames: T pictures ``[height, width, 3]`` uint8 of what each action was chosen in, or none
    """

    extrinsic: NDArray[np.float64]
    learned: NDArray[np.float64]
    actions: NDArray[Any]
    undistorted: NDArray[np.float64] | None = None
    frames: tuple[NDArray[np.uint8], ...] = ()

    def rewards(self) -> dict[str, NDArray[np.float64]]:
        """All ``[T]`` rewards that there are, by name."""
        undistorted = {} if self.undistorted is None else {"undistorted": self.undistorted}
        return {"extrinsic": self.extrinsic, **undistorted, "learned": self.learned}


def record(
    model: Any,
    env: VecEnv,
    n_episodes: int = 1,
    reward: Any = None,
    deterministic: bool = False,
    film: bool = False,
) -> list[Episode]:
    """Let a model act and see what its learned reward says.

    :param model: its policy acts
    :param env: of one copy; its observations normalised as in training, where they were, its rewards or not
    :param n_episodes: whole episodes
    :param reward: a :class:`~sb3_tare.LearnedReward`, or a :class:`~sb3_tare.RewardLearner` that has a model; None: the
        model's own
    :param deterministic: leave the policy's exploration out
    :param film: keep frames of the first episode; needs ``render_mode="rgb_array"``
    :raises TypeError: if there is no learned reward
    :raises ValueError: if the environment has several copies, or cannot be filmed
    """
    if env.num_envs != 1:
        raise ValueError(f"episodes are recorded in a single environment, got {env.num_envs} copies")
    if film and env.render_mode != "rgb_array":
        raise ValueError(f"film=True needs an environment with render_mode='rgb_array', got {env.render_mode!r}")
    frames: list[NDArray[np.uint8]] = []

    def watch(episode: int) -> None:
        if film and episode == 0:
            frames.append(_shrunk(env.get_images()[0]))

    learned_reward = reward if isinstance(reward, LearnedReward) else _of(model if reward is None else reward, model, env)
    steps = collect(model, env, n_episodes, deterministic, watch)
    steps = replace(steps, rewards=learned_reward.as_seen(steps.original_rewards))
    learned = learned_reward.in_environment_units(learned_rewards(learned_reward, steps))
    undistorted = steps.undistorted_rewards
    tells = not np.isnan(undistorted).any()
    actions = steps.actions.numpy()
    begins, lengths = steps.episodes.begins.tolist(), steps.episodes.lengths.tolist()
    return [
        Episode(
            steps.original_rewards[rows], learned[rows], actions[rows], undistorted[rows] if tells else None, tuple(film_of)
        )
        for rows, film_of in (
            (slice(begin, begin + length), () if begin else frames) for begin, length in zip(begins, lengths, strict=True)
        )
    ]


def _of(learner: Any, model: Any, env: VecEnv) -> LearnedReward:
    """The reward with the training's statistics where the model has them, else the environment's, which then are those."""
    trained_in, watched_in = model.get_vec_normalize_env(), unwrap_vec_normalize(env)
    if trained_in is not None and trained_in.norm_obs and (watched_in is None or not watched_in.norm_obs):
        raise ValueError("the model was trained with VecNormalize's observations: wrap env in one with the same statistics")
    return LearnedReward.of(learner, watched_in if trained_in is None else None)


def _shrunk(frame: Any) -> NDArray[np.uint8]:
    image = Image.fromarray(np.asarray(frame, dtype=np.uint8))
    image.thumbnail((FRAME_SIZE, FRAME_SIZE))
    return np.asarray(image.convert("RGB"))
