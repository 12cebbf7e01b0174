"""Memories of data that was collected elsewhere, for ``learn(collect=False)``."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer

from sb3_tare.awr.memory import PathMemory, memory_class_for
from sb3_tare.utils.images import channel_first


def memory_from_replay_buffer(buffer: ReplayBuffer) -> PathMemory:
    """All steps of a replay buffer of SB3, such as SAC's.

    Steps that do not follow one another, by their observations, are taken to belong to different paths.

    :param buffer: with actions in [-1, 1] where they are of a Box, as SB3's algorithms store them
    :raises ValueError: if it is empty, holds n-step returns, or keeps no terminal observations
    """
    if isinstance(buffer, NStepReplayBuffer):
        raise ValueError("a NStepReplayBuffer cannot be read as paths: fill an ordinary ReplayBuffer")
    if buffer.optimize_memory_usage:
        raise ValueError("a replay buffer with optimize_memory_usage=True keeps no terminal observations: fill one without")
    n_steps = buffer.size()
    if n_steps == 0:
        raise ValueError("the replay buffer is empty: fill it first")
    steps = (buffer.pos - n_steps + np.arange(n_steps)) % buffer.buffer_size
    memory = _memory(n_steps, buffer, buffer.n_envs)
    names = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
    memory.fill(*(_map(getattr(buffer, name), lambda array: array[steps]) for name in names))
    return memory


def memory_from_transitions(
    model: Any,
    observations: Any,
    actions: np.ndarray,
    rewards: np.ndarray,
    next_observations: Any,
    terminations: np.ndarray,
    timeouts: np.ndarray | None = None,
) -> PathMemory:
    """A memory of n steps, in time order, path behind path.

    Steps that do not follow one another, by their observations, are taken to belong to different paths.

    :param model: whose spaces and device the memory is for
    :param observations: ``[n, ...]`` as the model sees them (images with channels first), or a dictionary of such arrays
    :param actions: ``[n, ...]`` in units of the action space
    :param rewards: ``[n]``
    :param next_observations: as ``observations``
    :param terminations: ``[n]`` bool, True where the episode ended for good
    :param timeouts: ``[n]`` bool, True where a time limit ended it; None: nowhere
    :raises ValueError: if there are none, a shape is wrong, or a number is not finite
    """
    rewards = np.asarray(rewards)
    if rewards.ndim != 1 or len(rewards) == 0:
        raise ValueError(f"rewards must have shape (n,) with n of at least 1, got {rewards.shape}")
    terminations = _checked("terminations", terminations, rewards.shape).astype(bool)
    timeouts = np.zeros_like(terminations) if timeouts is None else _checked("timeouts", timeouts, rewards.shape).astype(bool)
    memory = _memory(len(rewards), model, n_envs=1)
    space = model.action_space
    actions = _checked("actions", actions, (len(rewards), *space.shape))
    if isinstance(space, spaces.Box):
        actions = model.policy.scale_action(actions)
    for name, given in (("observations", observations), ("next_observations", next_observations)):
        _check_observations(name, given, getattr(memory, name), len(rewards), model.observation_space)
    memory.fill(observations, next_observations, actions, rewards, terminations | timeouts, timeouts & ~terminations)
    return memory


def memory_from_minari(model: Any, dataset: Any) -> PathMemory:
    """All steps of a Minari data set.

    :param model: whose spaces and device the memory is for
    :param dataset: a ``minari.MinariDataset``, or the name of one that is on this machine; images channel first or last
    :raises ImportError: if ``minari`` is not installed
    :raises ValueError: as :func:`memory_from_transitions`
    """
    if isinstance(dataset, str):
        try:
            import minari
        except ImportError as error:
            raise ImportError("Minari data sets need the extra: pip install 'sb3-tare[minari]'") from error
        dataset = minari.load_dataset(dataset)
    episodes = list(dataset.iterate_episodes())
    seen = [channel_first(_map(episode.observations, np.asarray), model.observation_space) for episode in episodes]
    parts = {
        "observations": [_map(each, lambda array: array[:-1]) for each in seen],
        "next_observations": [_map(each, lambda array: array[1:]) for each in seen],
        **{name: [getattr(episode, name) for episode in episodes] for name in ("actions", "rewards", "terminations")},
        "timeouts": [episode.truncations for episode in episodes],
    }
    return memory_from_transitions(model, **{name: _concatenated(arrays) for name, arrays in parts.items()})


def _memory(n_steps: int, like: Any, n_envs: int) -> PathMemory:
    memory_class = memory_class_for(like.observation_space)
    return memory_class(n_steps * n_envs, like.observation_space, like.action_space, like.device, n_envs)


def _checked(name: str, array: Any, shape: tuple[int, ...]) -> np.ndarray:
    array = np.asarray(array)
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
    return array


def _check_observations(name: str, given: Any, expected: Any, n_steps: int, space: spaces.Space) -> None:
    if isinstance(expected, dict):
        assert isinstance(space, spaces.Dict)
        if not isinstance(given, dict) or given.keys() != expected.keys():
            raise ValueError(f"{name} must be a dictionary of {', '.join(expected)}")
        for key, array in expected.items():
            _check_observations(f"{name}[{key!r}]", given[key], array, n_steps, space[key])
    else:
        _checked(name, given, (n_steps, *space.shape))  # type: ignore[misc]


def _concatenated(parts: list[Any]) -> Any:
    if isinstance(parts[0], dict):
        return {key: _concatenated([part[key] for part in parts]) for key in parts[0]}
    return np.concatenate(parts)


def _map(value: Any, function: Any) -> Any:
    if isinstance(value, dict):
        return {key: _map(item, function) for key, item in value.items()}
    return function(value)
