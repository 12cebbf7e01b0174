"""Generalised advantage estimation over a whole rollout (Schulman et al., 2016, eq. 16)."""

from __future__ import annotations

from itertools import accumulate

import numpy as np

MANY = 8
"""Environments from which on a scan of arrays is faster than one of numbers."""


def advantages_of(
    rewards: np.ndarray,
    values: np.ndarray,
    episode_starts: np.ndarray,
    last_values: np.ndarray,
    dones: np.ndarray,
    gamma: float,
    gae_lambda: float,
) -> np.ndarray:
    """Advantages ``[T, N]``, to the last bit those of ``RolloutBuffer.compute_returns_and_advantage``.

    delta_t = r_t + gamma v_{t+1} - v_t,   A_t = delta_t + gamma lambda A_{t+1}, both cut at the ends of episodes

    All that does not depend on A is computed for all steps at once.

    :param rewards: ``[T, N]`` float32
    :param values: ``[T, N]`` float32
    :param episode_starts: ``[T, N]`` float32, 1 where a step is the first of its episode
    :param last_values: ``[N]``, of the observations behind the last step
    :param dones: ``[N]`` bool, whether the last step ended its episode
    """
    goes_on = 1.0 - np.concatenate((episode_starts[1:], dones.astype(np.float32)[None]))
    next_values = np.concatenate((values[1:], last_values[None]))
    deltas = rewards + gamma * next_values * goes_on - values
    decays = gamma * gae_lambda * goes_on
    advantages = np.zeros_like(rewards)
    scan = _scan_arrays if rewards.shape[1] >= MANY else _scan_numbers
    scan(deltas[::-1], decays[::-1], advantages[::-1])
    return advantages


def _scan_arrays(deltas: np.ndarray, decays: np.ndarray, advantages: np.ndarray) -> None:
    """Fill ``advantages``, all ``[T, N]``, from the first row on, row by row."""
    following: np.ndarray | float = 0.0
    for delta, decay, advantage in zip(deltas, decays, advantages, strict=True):
        following = delta + decay * following
        advantage[:] = following


def _scan_numbers(deltas: np.ndarray, decays: np.ndarray, advantages: np.ndarray) -> None:
    """Fill ``advantages`` like :func:`_scan_arrays`, number by number: numpy's scalars round as its arrays do."""
    for delta, decay, advantage in zip(deltas.T, decays.T, advantages.T, strict=True):
        steps = zip(delta, decay, strict=True)
        sums = accumulate(steps, lambda following, step: step[0] + step[1] * following, initial=0.0)
        advantage[:] = [*sums][1:]
