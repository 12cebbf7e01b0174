"""Episodes as one looks at them: what was paid, what is learned, and what was to be seen."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize

from sb3_tare import LearnedReward
from sb3_tare.analysis.trajectories import Trajectories, collect, learned_rewards

FRAME_SIZE = 320
"""Longest side of a kept frame, in pixels: a thousand of them take 300 MB."""


@dataclass(frozen=True)
class Episode:
    """A whole episode of T steps; rewards are in the environment's own units.

    :param extrinsic: ``[T]`` as the environment paid them
    :param learned: ``[T]``
    :param actions: ``[T, ...]`` as the policy drew them
    :param undistorted: ``[T]`` what steps earned beneath a delay or noise, or None where the environment does not tell
    :param frames: pictures ``[height, width, 3]`` uint8 of what the actions of these steps, from 0, were chosen in
    """

    extrinsic: NDArray[np.float64]
    learned: NDArray[np.float64]
    actions: NDArray[Any]
    undistorted: NDArray[np.float64] | None = None
    frames: Mapping[int, NDArray[np.uint8]] = field(default_factory=dict)

    def rewards(self) -> dict[str, NDArray[np.float64]]:
        """All ``[T]`` rewards that there are, by name."""
        undistorted = {} if self.undistorted is None else {"undistorted": self.undistorted}
        return {"extrinsic": self.extrinsic, **undistorted, "learned": self.learned}


@dataclass(frozen=True)
class Recording:
    """Steps of whole episodes, and the learned reward that looks at them.

    :param reward: what was learned
    :param steps: their rewards as that reward sees them
    :param frames: pictures of the first episode, by step
    """

    reward: LearnedReward
    steps: Trajectories
    frames: Mapping[int, NDArray[np.uint8]]

    def episodes(self) -> list[Episode]:
        """The episodes as one looks at them; the first one has the frames."""
        steps = self.steps
        learned = self.reward.in_environment_units(learned_rewards(self.reward, steps))
        undistorted = None if np.isnan(steps.undistorted_rewards).any() else steps.undistorted_rewards
        begins, lengths = steps.episodes.begins.tolist(), steps.episodes.lengths.tolist()
        return [
            Episode(
                steps.original_rewards[rows],
                learned[rows],
                steps.actions.numpy()[rows],
                None if undistorted is None else undistorted[rows],
                {} if rows.start else self.frames,
            )
            for rows in (slice(begin, begin + length) for begin, length in zip(begins, lengths, strict=True))
        ]


def watch(
    model: Any,
    env: VecEnv,
    n_episodes: int = 1,
    reward: Any = None,
    deterministic: bool = False,
    film: bool | Container[int] = False,
) -> Recording:
    """Let a model act before its learned reward.

    :param model: its policy acts
    :param env: of one copy; its observations normalised as in training, where they were, its rewards or not
    :param n_episodes: whole episodes
    :param reward: a :class:`~sb3_tare.LearnedReward`, or a :class:`~sb3_tare.RewardLearner` that has a model; None: the
        model's own
    :param deterministic: leave the policy's exploration out
    :param film: keep frames of the first episode, of all steps or of those given; needs ``render_mode="rgb_array"``
    :raises TypeError: if there is no learned reward
    :raises ValueError: if the environment has several copies, or cannot be filmed
    """
    if env.num_envs != 1:
        raise ValueError(f"episodes are recorded in a single environment, got {env.num_envs} copies")
    if film and env.render_mode != "rgb_array":
        raise ValueError(f"film needs an environment with render_mode='rgb_array', got {env.render_mode!r}")
    frames: dict[int, NDArray[np.uint8]] = {}
    steps_so_far = count()

    def look(episode: int) -> None:
        step = next(steps_so_far)
        if episode == 0 and (film if isinstance(film, bool) else step in film):
            frames[step] = _shrunk(env.get_images()[0])

    learned_reward = reward if isinstance(reward, LearnedReward) else _of(model if reward is None else reward, model, env)
    steps = collect(model, env, n_episodes, deterministic, look)
    return Recording(learned_reward, replace(steps, rewards=learned_reward.as_seen(steps.original_rewards)), frames)


def record(
    model: Any,
    env: VecEnv,
    n_episodes: int = 1,
    reward: Any = None,
    deterministic: bool = False,
    film: bool | Container[int] = False,
) -> list[Episode]:
    """Episodes of :func:`watch`, which has the same arguments, as one looks at them."""
    return watch(model, env, n_episodes, reward, deterministic, film).episodes()


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
