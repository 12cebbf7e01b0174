"""Replay buffers of SB3 whose rewards are replaced by learned ones, in place.

::

    model = SAC("MlpPolicy", env).learn(10_000)
    print(relabel_replay_buffer(model.replay_buffer, "reward"))
    model.set_env(VecLearnedReward(model.get_env(), "reward"))  # pays it for the steps to come
    model.learn(10_000, reset_num_timesteps=False)
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

from sb3_tare.data.replay import BLOCK, begun_rows, lost_rows, rows_written
from sb3_tare.rewards.learned_reward import LearnedReward
from sb3_tare.rewards.ring_episodes import RingEpisodes
from sb3_tare.utils.checks import check_choice, check_finite, check_number

log = logging.getLogger("sb3_tare")

Group = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
"""Rows ``[n]``, columns ``[n]`` and lengths ``[E]`` of steps that are relabelled at once."""


@dataclass(frozen=True)
class Relabelled:
    """The rewards of a replay buffer before and after, in the environment's units.

    :param n_steps: steps whose reward was replaced
    :param n_left: steps that keep the reward that they had
    :param mean_before: of the steps whose reward was replaced, as are the others
    :param std_before: standard deviation
    :param mean_after: likewise
    :param std_after: likewise
    """

    n_steps: int
    n_left: int
    mean_before: float
    std_before: float
    mean_after: float
    std_after: float

    def __str__(self) -> str:
        left = f", {self.n_left} left as they were" if self.n_left else ""
        return (
            f"{self.n_steps} steps relabelled{left}: rewards of mean {self.mean_before:.4g} and standard deviation "
            f"{self.std_before:.4g} before, {self.mean_after:.4g} and {self.std_after:.4g} after"
        )


def relabel_replay_buffer(
    buffer: ReplayBuffer,
    reward: LearnedReward | str | Path,
    mode: str = "replace",
    coef: float = 1.0,
    unfinished: str = "refuse",
) -> Relabelled:
    """Replace the rewards in a replay buffer of SAC, TD3, DDPG, DQN, TQC, CrossQ or QR-DQN by learned ones, in place.

    All of them are computed before one is replaced. Do it once: a reward network that sees the extrinsic reward would take the
    learned one for it. What was done is returned, and logged by the logger ``sb3_tare``.

    :param buffer: with the spaces that the reward was learned with
    :param reward: it, or the file of one
    :param mode: ``"replace"``, or ``"add"``: the reward that is there plus ``coef`` times the learned one
    :param coef: coefficient in ``add``
    :param unfinished: what becomes of steps of episodes that are not there as a whole, if the reward depends on other steps or
        on the time: ``"refuse"`` to relabel such a buffer, or ``"keep"`` their rewards
    :raises TypeError: if it is no replay buffer of SB3
    :raises ValueError: if it is of a kind that computes rewards itself, is empty, has other spaces or unfinished episodes, or
        if a learned reward is not finite
    """
    check_choice("mode", mode, ("replace", "add"))
    check_number("coef", coef)
    check_choice("unfinished", unfinished, ("refuse", "keep"))
    reward = reward if isinstance(reward, LearnedReward) else LearnedReward.load(reward)
    _check(buffer, reward)
    learned = np.full((buffer.size(), buffer.n_envs), np.nan)
    for rows, columns, lengths in _single_steps(buffer) if _is_of_steps_alone(reward) else _whole_episodes(buffer):
        given = buffer.rewards[rows, columns]
        learned[rows, columns] = reward.relabel(
            _observations(buffer, rows, columns), _taken(buffer, rows, columns), given, lengths
        )
        check_finite(learned[rows, columns], "reward", "the reward network returned", "the buffer is as it was")
    is_new = ~np.isnan(learned)
    n_left = int((~is_new).sum())
    if n_left and unfinished == "refuse":
        raise ValueError(
            f"the reward network {type(reward.network).__name__} looks at other steps or at the time, and {n_left} steps of "
            f"{learned.size} are of episodes that the buffer does not hold from their beginning to their end: "
            "unfinished='keep' lets them keep their rewards"
        )
    before = buffer.rewards[: len(learned)][is_new].astype(np.float64)
    after = learned[is_new] if mode == "replace" else before + coef * learned[is_new]
    buffer.rewards[: len(learned)][is_new] = after
    summary = Relabelled(len(before), n_left, *(float(each) for each in (*_moments(before), *_moments(after))))
    log.info("%s", summary)
    return summary


def _check(buffer: Any, reward: LearnedReward) -> None:
    name = type(buffer).__name__
    if not isinstance(buffer, ReplayBuffer):
        raise TypeError(f"relabel_replay_buffer takes a replay buffer of SB3, such as model.replay_buffer, got a {name}")
    if isinstance(buffer, HerReplayBuffer):
        raise ValueError(f"{name} pays by compute_reward as it samples, so that rewards in it count for little: relabel none")
    if hasattr(buffer, "paid_by"):
        raise ValueError(f"steps of a {name} are paid by {buffer.paid_by}: nothing is to be done")
    reward.check_spaces(buffer.observation_space, buffer.action_space)
    if buffer.size() == 0:
        raise ValueError("the replay buffer is empty: collect steps first")


def _is_of_steps_alone(reward: LearnedReward) -> bool:
    """Whether a step's reward is a function of its state and action; other networks see the time too, or other steps."""
    return reward.context == "step" and not getattr(reward.network, "sees_reward", True)


def _single_steps(buffer: ReplayBuffer) -> Iterator[Group]:
    """All steps, a block at a time, each as an episode of its own."""
    for rows in np.array_split(np.arange(buffer.size()), -(-buffer.size() * buffer.n_envs // BLOCK)):
        n = len(rows) * buffer.n_envs
        yield np.tile(rows, buffer.n_envs), np.repeat(np.arange(buffer.n_envs), len(rows)), np.ones(n, dtype=np.int64)


def _whole_episodes(buffer: ReplayBuffer) -> Iterator[Group]:
    """The episodes that are there from beginning to end, about a block of steps at a time.

    :raises ValueError: if the buffer does not tell where one was broken off
    """
    if buffer.optimize_memory_usage:
        raise ValueError(
            "optimize_memory_usage=True keeps no next observations, by which an episode that was broken off is told from a "
            "whole one, and this reward depends on other steps or on the time: leave it out"
        )
    n_written = rows_written(buffer)
    ring = RingEpisodes(buffer.buffer_size, buffer.n_envs)
    rows = ring.unseen(n_written)
    ended = buffer.dones[rows % buffer.buffer_size].astype(bool)
    ring.extend(n_written, ended, begun_rows(buffer, rows, n_written), lost_rows(buffer, rows))
    blocks = (ring.lengths.cumsum(0) - 1) // BLOCK
    for block in blocks.unique():
        episodes = torch.nonzero(blocks == block).flatten()
        yield *ring.steps(episodes), ring.lengths[episodes].numpy()


def _observations(buffer: Any, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Any:
    stored = buffer.observations
    return {key: each[rows, columns] for key, each in stored.items()} if isinstance(stored, dict) else stored[rows, columns]


def _taken(buffer: ReplayBuffer, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[Any]:
    """Actions ``[n, ...]`` as the environment took them; SB3 keeps those of a Box in units of its bounds, from -1 to 1."""
    space, actions = buffer.action_space, buffer.actions[rows, columns]
    if not isinstance(space, spaces.Box):
        return actions
    actions = actions.reshape(-1, *space.shape)
    return space.low + 0.5 * (actions + 1.0) * (space.high - space.low)


def _moments(rewards: NDArray[np.float64]) -> tuple[float, float]:
    return (float(rewards.mean()), float(rewards.std())) if len(rewards) else (np.nan, np.nan)
