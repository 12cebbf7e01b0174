"""Plans of an iteration: the steps that each policy update trains on, and those that validate it (Algorithm 1, line 2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sb3_tare.data.cutting import MIN_PART_STEPS, split
from sb3_tare.data.labelled import Appraised, Labelled
from sb3_tare.data.rollout import Part, Rollout
from sb3_tare.learning.trainer import RewardTrainer


class Planned(NamedTuple):
    """One update of the policy."""

    training: Appraised
    """The steps that it trains on"""
    validation: Appraised | None
    """The steps that validate it, if a reward step is to follow"""
    pooled: Appraised | None = None
    """The steps that the reward step differentiates, where these are not the training steps alone"""
    waits: bool = False
    """Whether a reward step is to follow once there are steps that validate it"""


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

    def to_fit(self, labelled: Sequence[Labelled]) -> Sequence[Labelled]:
        """The steps that the second critic is fitted to after all updates: ``labelled``, those that trained the policy."""
        return labelled

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
        host = self.trainer.host
        self._measure_alignment(steps)
        waiting = self.trainer.take_waiting()
        if waiting is not None:
            self._validate(waiting, host.fetch(host.collected(steps)))
        yield Planned(self._sampled(steps), None, waits=True)

    def _measure_alignment(self, steps: Part, moved: bool = False) -> None:
        trainer = self.trainer
        if trainer.decomposer is None and len(steps) >= 2 * MIN_PART_STEPS:
            first, second = (trainer.appraise(half.sample, half.sample) for half in self._halves(steps))
            trainer.measure_alignment(trainer.label(first), second, moved)  # before any step has seen these rewards

    def _validate(self, waiting: Labelled, collected: Rollout) -> None:
        """Take the reward step that has waited for what the updated policy collected."""
        self.trainer.reward_step(waiting, self.trainer.appraise(collected, collected))
