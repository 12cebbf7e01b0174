"""A word to the user where a policy goes on being trained while nothing is learned of its reward."""

from __future__ import annotations

import warnings

from sb3_tare.hosts.off_policy import OffPolicyHost
from sb3_tare.learning.replay_memory import ReplayMemory

PATIENCE = 10_000
"""Steps that a policy is trained on the environment's own rewards before its user is told."""


class Unlearned:
    """Warns once where episodes teach nothing, and says why.

    :param host: the algorithm
    :param memory: of its whole episodes
    """

    def __init__(self, host: OffPolicyHost, memory: ReplayMemory) -> None:
        self._host = host
        self._memory = memory
        self._has_warned = False

    def look(self, has_learned: bool) -> None:
        """Warn if it is time.

        :param has_learned: whether there is a learned reward that the policy is paid
        """
        if self._has_warned:
            return
        words = self._of_a_small_buffer() or (None if has_learned else self._of_patience())
        if words is not None:
            self._has_warned = True
            warnings.warn(words, stacklevel=2)

    def _of_a_small_buffer(self) -> str | None:
        size = self._host.buffer.buffer_size
        if len(self._memory) or self._memory.longest < size:
            return None
        return (
            f"an episode of {size} steps or more ended, and the replay buffer keeps {size} of each environment, so that no "
            "whole episode is in it and nothing is learned of the reward: raise buffer_size to that of several episodes"
        )

    def _of_patience(self) -> str | None:
        model, buffer = self._host.model, self._host.buffer
        n_rows = self._memory.n_written - self._memory.n_found
        n_steps = n_rows * buffer.n_envs
        if not model._n_updates or (n_steps < PATIENCE and n_rows <= buffer.buffer_size):
            return None
        if self._memory.totals.any():
            return None  # the first fit is about to come
        if len(self._memory):
            reason = "every episode so far has paid nothing in total. Totals of episodes are what a reward is learned from"
        else:
            reason = (
                f"no whole episode is in the replay buffer, which keeps {buffer.buffer_size} steps of each environment. Let "
                "episodes end, as gymnasium's TimeLimit does, and raise buffer_size to several of them"
            )
        return (
            f"{n_steps} steps after it started, nothing is learned of the reward of {type(model).__name__}, whose policy is "
            f"trained on the environment's own rewards meanwhile: {reason}"
        )
