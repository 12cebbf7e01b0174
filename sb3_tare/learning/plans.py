"""Which part of the host's steps each of its updates trains on, and which steps validate it (Algorithm 1, line 2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sb3_tare.data.cutting import MIN_PART_STEPS, split
from sb3_tare.data.rollout import Part, Rollout
from sb3_tare.learning.trainer import RewardTrainer


class Planned(NamedTuple):
    """One update of the policy."""

    part: Part
    """The steps that it trains on"""
    training: Rollout
    """Those of them that gradients are taken on"""
    validation: Rollout | None
    """The steps that validate it, if they are there yet"""


class Plan:
    """The halves of the host's episodes, split at random: each trains in its turn, and the other validates.

    :param trainer: of the reward
    :param swap: whether the second half trains too
    """

    def __init__(self, trainer: RewardTrainer, swap: bool = True) -> None:
        self.trainer = trainer
        self.n_updates = 2 if swap else 1

    def updates(self, steps: Part) -> Iterator[Planned]:
        """One for each update."""
        (first, second), (sampled, other) = self._halves(steps)
        planned = [Planned(first, sampled, other), Planned(second, other, sampled)]
        yield from planned[: self.n_updates]

    def _halves(self, steps: Part) -> tuple[list[Part], list[Rollout]]:
        trainer = self.trainer
        parts = [steps.select(half) for half in split(steps.reward.episodes, trainer.generator)]
        return parts, [trainer.host.sample(part, trainer.generator) for part in parts]


class WholePlan(Plan):
    """All steps train the policy at once; what validates them, if anything, is collected by the updated policy."""

    def __init__(self, trainer: RewardTrainer) -> None:
        super().__init__(trainer, swap=False)

    def updates(self, steps: Part) -> Iterator[Planned]:
        """The only one, after the reward step that has waited for these steps."""
        trainer, host = self.trainer, self.trainer.host
        if len(steps) >= 2 * MIN_PART_STEPS:
            _, (sampled, other) = self._halves(steps)
            trainer.measure_alignment(trainer.label(sampled, sampled), other)  # before any step has seen these rewards
        waiting = trainer.take_waiting()
        if waiting is not None:
            trainer.reward_step(trainer.label(waiting, waiting), host.fetch(host.collected(steps)))
        yield Planned(steps, host.sample(steps, trainer.generator), None)
