"""A pool of short rollouts that wait for a reward phase."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from sb3_tare.data.rollout import Rollout, joined


class Pool:
    """Rollouts, each in the same number of parts, until there are steps enough.

    :param least: steps
    """

    def __init__(self, least: int) -> None:
        self.least = least
        self._rollouts: list[list[Rollout]] = []

    def add(self, parts: Sequence[Rollout]) -> list[Rollout] | None:
        """Add the parts of a rollout; once there are steps enough, hand out what is pooled, part by part, and start anew.

        :return: for each part the pooled steps, or None as long as there are too few
        """
        self._rollouts = [each for each in self._rollouts if len(each) == len(parts)]  # other settings made other parts
        self._rollouts.append(list(parts))
        if sum(len(part) for each in self._rollouts for part in each) < self.least:
            return None
        pooled = [joined(rollouts) for rollouts in zip(*self._rollouts, strict=True)]
        self.clear()
        return pooled

    def clear(self) -> None:
        """Forget everything."""
        self._rollouts = []

    def state_dict(self) -> list[list[dict[str, Any]]]:
        """The pool as nested plain data and tensors."""
        return [[part.state_dict() for part in parts] for parts in self._rollouts]

    def load_state_dict(self, state: Sequence[Sequence[dict[str, Any]]], device: torch.device) -> None:
        """Take a :meth:`state_dict` over to ``device``."""
        self._rollouts = [[Rollout.from_state_dict(part, device) for part in parts] for parts in state]
