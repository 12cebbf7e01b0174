"""Plans of an iteration: the steps that each policy update trains on, and those that validate it (Algorithm 1, line 2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sb3_tare.data.cutting import MIN_PART_STEPS, split
from sb3_tare.data.labelled import Appraised
from sb3_tare.data.rollout import Part
from sb3_tare.learning.trainer import RewardTrainer


class Planned(NamedTuple):
    """One update of the policy."""

    training: Appraised
    """The steps that it trains on"""
    validation: Appraised | None
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
        """Yield the steps of each update of the policy."""
        first, second = self._halves(steps)
        yield from [Planned(first, second), Planned(second, first)][: self.n_updates]

    def _halves(self, steps: Part) -> list[Appraised]:
        parts = [steps.select(half) for half in split(steps.reward.episodes, self.trainer.generator)]
        return [self._sampled(part) for part in parts]

    def _sampled(self, part: Part) -> Appraised:
        return self.trainer.appraise(part, self.trainer.host.sample(part, self.trainer.generator))


class WholePlan(Plan):
    """All steps train the policy at once; what validates them, if anything, is collected by the updated policy."""

    def __init__(self, trainer: RewardTrainer) -> None:
        super().__init__(trainer, swap=False)

    def updates(self, steps: Part) -> Iterator[Planned]:
        """Yield the only update, after the reward step that has waited for these steps."""
        trainer, host = self.trainer, self.trainer.host
        if trainer.decomposer is None and len(steps) >= 2 * MIN_PART_STEPS:
            first, second = (trainer.appraise(half.sample, half.sample) for half in self._halves(steps))
            trainer.measure_alignment(trainer.label(first), second)  # before any step has seen these rewards
        waiting = trainer.take_waiting()
        if waiting is not None:
            collected = host.fetch(host.collected(steps))
            trainer.reward_step(waiting, trainer.appraise(collected, collected))
        yield Planned(self._sampled(steps), None)
