"""Values of a critic along all paths of a memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from sb3_tare.awr.memory import PathMemory, Paths
from sb3_tare.data.episodes import End
from sb3_tare.data.rollout import Baseline
from sb3_tare.utils.nested import Observations, concatenated

CHUNK = 1024
"""Observations that are evaluated at once: images of a whole memory would not fit."""

Critic = Callable[[Observations], Tensor]


@torch.no_grad()
def path_baseline(
    critic: Critic,
    memory: PathMemory,
    paths: Paths,
    gamma: float,
    env: VecNormalize | None = None,
    values: Tensor | None = None,
) -> Baseline:
    """Values ``[n]`` along the paths; bootstrapped at timeouts and cuts, zero behind a termination.

    :param critic: from observations to values ``[n]``
    :param env: normalises observations
    :param values: ``[n]`` the critic's along the paths, where they are known already
    """
    episodes = paths.episodes
    if values is None:
        values = in_chunks(critic, lambda rows: memory.observations_at(rows, env), paths.rows)
    last_rows = (episodes.begins + episodes.lengths - 1).to(values.device)
    followed = episodes.ends != int(End.TERMINATION)
    end_values = values.new_zeros(len(episodes))
    if followed.any():
        ends = paths.rows[last_rows.cpu().numpy()[followed.numpy()]]
        end_values[followed.to(values.device)] = in_chunks(critic, lambda rows: memory.next_observations_at(rows, env), ends)
    is_timeout = (episodes.ends == int(End.TIMEOUT)).to(values.device)
    next_values = torch.cat([values[1:], values.new_zeros(1)])
    next_values[last_rows] = end_values.masked_fill(is_timeout, 0.0)
    bootstraps = torch.zeros_like(values, dtype=torch.float64)
    bootstraps[last_rows] = (gamma * end_values).masked_fill(~is_timeout, 0.0).double()
    return Baseline(values, next_values, bootstraps)


def in_chunks(
    function: Callable[[Observations], Any], observations_at: Callable[[np.ndarray], Observations], rows: np.ndarray
) -> Any:
    """Apply ``function`` to the observations at all ``rows``, a few at a time.

    :param function: of observations ``[m, ...]``, which returns a tensor ``[m, ...]`` or a dictionary of them
    :param observations_at: gives the observations of some rows
    :param rows: ``[n]`` row numbers
    :return: its results for all rows, ``[n, ...]`` each
    """
    chunks = np.array_split(rows, -(-len(rows) // CHUNK))
    return concatenated([function(observations_at(chunk)) for chunk in chunks])
