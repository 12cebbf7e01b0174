"""The paper's chain, where the given reward points away from the goal (section 2.3 and appendix F)."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

LEFT, RIGHT = 0, 1
N_STATES = 11
START, GOAL = 5, N_STATES - 1
LEFT_REWARD = 1.0
RIGHT_REWARD_MEAN, RIGHT_REWARD_STD = 0.5, 1.0
GOAL_REWARD, GOAL_REWARD_LOSS = 10.0, 0.01


CELL = 32
"""Pixels along a side of one state's square."""


class Chain(gym.Env[np.int64, np.int64]):
    """Walk from state 5 of 0 to 10; the ends absorb, and state 10 is the goal.

    A move to the left pays 1, one to the right a draw from N(0.5, 1). The move that reaches the goal, the n-th of its
    episode, pays ``10 - 0.01 n`` on top. ``info["noiseless_reward"]`` is the mean of what was drawn.

    The paper has no time limit; without one, going to and fro earns 0.75 a step for ever. In 16 steps, going to and fro
    about the start earns 12 on average, and going right 12.45. It is not the best that can be done: walking to state 1 first
    and going to and fro there earns 13, and a policy that counts its steps can go to and fro before it reaches the goal.
    With ``time_limit=15`` or less, no policy that chooses its move by the state alone earns more than going right.

    The limit belongs to the task: it ends the episode and does not truncate it, as learners would add to a truncated
    episode what it could have earned without the limit.

    Observation: the state, ``Discrete(11)``. Action: ``Discrete(2)``, 0 goes left and 1 right.

    :param time_limit: steps after which an episode ends
    :param render_mode: ``"rgb_array"`` draws the states in a row: where one is in blue, the goal in green, the other end grey
    :raises ValueError: if ``time_limit`` is not a positive whole number, or there is no such ``render_mode``
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012, as in every environment of Gymnasium

    def __init__(self, time_limit: int = 16, render_mode: str | None = None) -> None:
        if not isinstance(time_limit, (int, np.integer)) or isinstance(time_limit, bool) or time_limit < 1:
            raise ValueError(f"time_limit must be a whole number of at least 1, got {time_limit!r}")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode must be 'rgb_array' or None, got {render_mode!r}")
        self.time_limit = time_limit
        self.render_mode = render_mode
        self.observation_space = spaces.Discrete(N_STATES)
        self.action_space = spaces.Discrete(2)
        self._state, self._steps = START, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.int64, dict[str, Any]]:
        """Go back to state 5; ``options`` are not used."""
        super().reset(seed=seed)
        self._state, self._steps = START, 0
        return np.int64(self._state), {}

    def step(self, action: np.int64) -> tuple[np.int64, float, bool, bool, dict[str, Any]]:
        """Move left (0) or right (1).

        :raises ValueError: if ``action`` is neither
        """
        if not self.action_space.contains(action):
            raise ValueError(f"action must be {LEFT} (left) or {RIGHT} (right), got {action!r}")
        self._steps += 1
        self._state += 1 if action == RIGHT else -1
        mean = RIGHT_REWARD_MEAN if action == RIGHT else LEFT_REWARD
        noise = RIGHT_REWARD_STD * self.np_random.standard_normal() if action == RIGHT else 0.0
        if self._state == GOAL:
            mean += GOAL_REWARD - GOAL_REWARD_LOSS * self._steps
        terminated = self._state in (0, GOAL) or self._steps >= self.time_limit
        return np.int64(self._state), mean + noise, terminated, False, {"noiseless_reward": mean}

    def render(self) -> NDArray[np.uint8] | None:  # type: ignore[override]
        """Picture ``[32, 352, 3]``, uint8, of all states; None without a render mode."""
        if self.render_mode is None:
            return None
        row = np.full((1, N_STATES, 3), 255, dtype=np.uint8)
        row[0, 0], row[0, GOAL] = (128, 128, 128), (0, 158, 115)
        row[0, self._state] = (0, 114, 178)
        return row.repeat(CELL, axis=0).repeat(CELL, axis=1)
