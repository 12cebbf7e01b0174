"""Short rollouts pooled until there are steps enough for a reward phase.

A reward phase costs nearly as much for 128 steps as for 2,048, and says less. Where a rollout has fewer steps than the setting
``reward_every``, the policy is updated on each rollout as ever, on the same steps in the same order; alignment, reward steps
and the second critic's fit wait until that many steps have been collected, and are then taken on all of them together. To a
reward phase they are one rollout: pieces of episodes stay cut where a rollout's edge cut them, with the values that followed
there, and each step keeps the log-probability under the policy that acted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from sb3_tare.data.labelled import Labelled
from sb3_tare.data.rollout import Part, Rollout
from sb3_tare.learning.plans import Plan, Planned, WholePlan
from sb3_tare.learning.trainer import RewardTrainer
from sb3_tare.settings import LearnerSettings


def pools(settings: LearnerSettings, rollout_steps: int | None) -> bool:
    """Whether rollouts of ``rollout_steps`` are pooled: they are too short for a reward phase, and there are such phases."""
    has_phases = settings.schedule.n_reward_updates > 0 or settings.critic.critics == 2
    return has_phases and rollout_steps is not None and rollout_steps < settings.schedule.reward_every


class PooledPlan(Plan):
    """Halves of each rollout that train the policy by turns; halves of all that is pooled train and validate the reward.

    A first half of the pool is made of the rollouts' first halves, so that no step validates what was learned from it.
    """

    def updates(self, steps: Part) -> Iterator[Planned]:
        """Yield the steps of each update of the policy, and those of its reward phase if one is due."""
        halves = self._halves(steps)
        pooled = _pooled(self.trainer, [half.sample for half in halves])
        if pooled is None:
            yield from [Planned(half, None) for half in halves][: self.n_updates]
        else:
            first, second = (self.trainer.appraise(half, half) for half in pooled)
            plans = [Planned(halves[0], second, first), Planned(halves[1], first, second)]
            yield from plans[: self.n_updates]
        self._to_fit = (pooled or [])[: self.n_updates]
        self.trainer.sign()

    def to_fit(self, labelled: Sequence[Labelled]) -> Sequence[Labelled]:
        """The pooled steps that trained the policy, if a reward phase was due, under the reward as it is now."""
        return _labelled(self.trainer, self._to_fit)


class PooledWholePlan(WholePlan):
    """Whole rollouts that train the policy; all that is pooled validates the reward on what was pooled before it."""

    def updates(self, steps: Part) -> Iterator[Planned]:
        """Yield the only update, after the reward step that has waited for these steps if they were the last it waited for."""
        trainer = self.trainer
        pooled = _pooled(trainer, [trainer.host.fetch(steps)])
        if pooled is not None:
            self._measure_alignment(pooled[0], moved=True)
            waiting = trainer.take_waiting()
            if waiting is not None:
                self._validate(waiting, pooled[0])
        yield Planned(self._sampled(steps), None)
        if pooled is not None and trainer.settings.schedule.n_reward_updates > 0:
            trainer.keep(pooled[0])
        self._to_fit = pooled or []
        trainer.sign()

    def to_fit(self, labelled: Sequence[Labelled]) -> Sequence[Labelled]:
        """The pooled steps, if a reward phase was due, under the reward as it is now."""
        return _labelled(self.trainer, self._to_fit)


def _pooled(trainer: RewardTrainer, parts: Sequence[Rollout]) -> list[Rollout] | None:
    """Parts of a rollout and what was pooled before them, if that is enough; another policy's rollouts are forgotten."""
    if not trainer.is_signed():
        trainer.pool.clear()
    return trainer.pool.add(parts)


@torch.no_grad()
def _labelled(trainer: RewardTrainer, rollouts: Sequence[Rollout]) -> list[Labelled]:
    return [trainer.label(trainer.appraise(rollout, rollout)) for rollout in rollouts]
