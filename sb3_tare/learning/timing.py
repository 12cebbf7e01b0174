"""Times of reward steps: after the host's whole update, between its passes over a part, or after each of its steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from sb3_tare.data.labelled import Labelled
from sb3_tare.hosts.host import Loan
from sb3_tare.hosts.optimiser_steps import watched_steps
from sb3_tare.hypergradient.adam import AdamStep
from sb3_tare.hypergradient.one_step import one_step_weights
from sb3_tare.hypergradient.update import PolicyUpdate
from sb3_tare.learning.plans import Planned
from sb3_tare.learning.trainer import RewardTrainer
from sb3_tare.policy.derivatives import unhooked
from sb3_tare.policy.gradients import Batch, PolicyGradients
from sb3_tare.policy.objectives import HostObjective, clipped_surrogate
from sb3_tare.utils.nested import take
from sb3_tare.utils.stopwatch import Stopwatch


class AfterUpdate:
    """Reward steps follow the host's whole update (the paper's Algorithm 1).

    :param trainer: of the reward
    :param clock: runs while the learner is at work, and not while the host is
    """

    def __init__(self, trainer: RewardTrainer, clock: Stopwatch) -> None:
        self.trainer = trainer
        self.clock = clock

    @contextmanager
    def lending(self, labelled: Labelled, planned: Planned) -> Iterator[Loan]:
        """Lend a part to the host for one update; its ``train()`` runs meanwhile."""
        with self.trainer.host.lending(labelled) as loan:
            yield loan

    def after(self, loan: Loan, planned: Planned) -> None:
        """Take the reward steps that follow the host's update, if any do, or let it wait for what validates it."""
        trainer = self.trainer
        if not trainer.settings.takes_hypergradients:
            return
        if planned.validation is not None:
            labelled = loan.labelled if planned.pooled is None else trainer.label(planned.pooled)
            trainer.reward_step(labelled, planned.validation)
        elif planned.waits:
            trainer.wait(loan.labelled)


class BetweenPasses(AfterUpdate):
    """Reward steps follow each of the host's passes over a part ("after each policy epoch")."""

    @contextmanager
    def lending(self, labelled: Labelled, planned: Planned) -> Iterator[Loan]:
        """Lend a part, and label it anew after each reward step."""

        def between_passes() -> None:
            with self.clock.running():
                self.after(loan, planned)
                loan.relabel(self.trainer.label(labelled.appraised))

        with self.trainer.host.lending(labelled, between_passes) as loan:
            yield loan


class AfterEachStep(AfterUpdate):
    """A reward step follows each of the host's steps, on the same mini-batch (LIRPG; Zheng et al., 2018).

    Every mini-batch gets the advantages of the reward as it is when the mini-batch is taken out of the buffer.
    """

    def __init__(self, trainer: RewardTrainer, clock: Stopwatch) -> None:
        super().__init__(trainer, clock)
        self.gradients = PolicyGradients(_Clipped(trainer.host.model), trainer.gradients.curvature)

    @contextmanager
    def lending(self, labelled: Labelled, planned: Planned) -> Iterator[Loan]:
        """Lend a part, and watch the optimiser's steps."""
        model = self.trainer.host.model
        places: Tensor | None = None

        def before_batch(taken: Tensor) -> None:
            nonlocal places
            with self.clock.running():
                places = taken
                loan.relabel(self.trainer.label(labelled.appraised))

        def after_step(step: AdamStep, parameters: Sequence[Parameter]) -> None:
            assert places is not None
            if self.trainer.settings.schedule.n_reward_updates > 0:
                with self.clock.running():
                    self._reward_step(loan.labelled, places, step, parameters)

        watching = watched_steps(model.policy.optimizer, model.max_grad_norm, after_step)
        learns = self.trainer.settings.schedule.n_reward_updates > 0
        undoing = self.trainer.optimisers.undoing("reward") if learns else nullcontext()
        with undoing, watching, self.trainer.host.lending(labelled, before_batch=before_batch) as loan:
            yield loan

    def after(self, loan: Loan, planned: Planned) -> None:
        """All reward steps have been taken."""

    def _reward_step(self, labelled: Labelled, places: Tensor, step: AdamStep, parameters: Sequence[Parameter]) -> None:
        steps = labelled.sample.policy.take(places)
        advantages = self._standardise(take(labelled.differentiable, places))
        extrinsic = self._standardise(take(labelled.appraised.sample_extrinsic, places))
        update = PolicyUpdate.of(self.gradients, Batch(steps, advantages.detach()), Batch(steps, extrinsic), parameters)
        through_second_moment = self.trainer.settings.one_step.through_second_moment  # type: ignore[attr-defined]
        with unhooked(self.trainer.host.policy):
            weights = one_step_weights(update, step, through_second_moment).weights
        self.trainer.step_along(weights, advantages)

    def _standardise(self, advantages: Tensor) -> Tensor:
        """Advantages of a mini-batch as PPO does it, which leaves a single one alone."""
        return self.trainer.host.standardise(advantages) if len(advantages) > 1 else advantages


class _Clipped:
    """PPO with the objective of its mini-batches, whose clip range may follow a schedule."""

    def __init__(self, model: Any) -> None:
        self.model = model

    @property
    def policy(self) -> Any:
        return self.model.policy

    @property
    def optimiser(self) -> Optimizer:
        return self.model.policy.optimizer

    @property
    def objective(self) -> HostObjective:
        clip_range = self.model.clip_range(self.model._current_progress_remaining)
        return HostObjective(partial(clipped_surrogate, clip_range=clip_range))
