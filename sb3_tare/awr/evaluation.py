"""Values of a critic along all paths of a memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from sb3_tare.awr.memory import PathMemory, Paths
from sb3_tare.data.episodes import End
from sb3_tare.data.rollout import Baseline
from sb3_tare.utils.nested import Observations, at_rows

CHUNK = 1024
"""Observations that are read or evaluated at once."""

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
        values = at_rows(lambda chunk: critic(memory.observations_at(chunk, env)), paths.rows, CHUNK)
    last_rows = (episodes.begins + episodes.lengths - 1).to(values.device)
    followed = episodes.ends != int(End.TERMINATION)
    end_values = values.new_zeros(len(episodes))
    if followed.any():
        ends = paths.rows[last_rows.cpu().numpy()[followed.numpy()]]
        behind = at_rows(lambda chunk: critic(memory.next_observations_at(chunk, env)), ends, CHUNK)
        end_values[followed.to(values.device)] = behind
    is_timeout = (episodes.ends == int(End.TIMEOUT)).to(values.device)
    next_values = torch.cat([values[1:], values.new_zeros(1)])
    next_values[last_rows] = end_values.masked_fill(is_timeout, 0.0)
    bootstraps = torch.zeros_like(values, dtype=torch.float64)
    bootstraps[last_rows] = (gamma * end_values).masked_fill(~is_timeout, 0.0).double()
    return Baseline(values, next_values, bootstraps)
