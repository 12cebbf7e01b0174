"""Algorithm 1: one iteration of reward learning around a host's policy updates."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from sb3_tare.data.labelled import Labelled
from sb3_tare.hosts.host import AnyHost, Host
from sb3_tare.hosts.off_policy import OffPolicyHost
from sb3_tare.learning.decomposing import Decomposer
from sb3_tare.learning.plans import Plan, WholePlan
from sb3_tare.learning.pooling import PooledPlan, PooledWholePlan, pools
from sb3_tare.learning.replaying import ReplayIteration, ReplayTrainer
from sb3_tare.learning.timing import AfterUpdate, BetweenPasses
from sb3_tare.learning.trainer import RewardTrainer
from sb3_tare.settings import LearnerSettings
from sb3_tare.utils.stopwatch import Stopwatch


class Iteration:
    """Labels parts of what a host collected and takes the reward steps that go with its policy updates.

    :param trainer: of the reward
    :param plan: which parts there are, and what validates each
    :param timing: when reward steps are taken
    :param clock: stands still while the host updates its policy
    """

    def __init__(self, trainer: RewardTrainer, plan: Plan, timing: AfterUpdate, clock: Stopwatch) -> None:
        self.trainer = trainer
        self.plan = plan
        self.timing = timing
        self.clock = clock

    @property
    def n_updates(self) -> int:
        """Updates of the policy after each rollout."""
        return self.plan.n_updates

    def updates(self, record: Any) -> Generator[None, None, None]:
        """Yield whenever the host is to update its policy on what it has been lent.

        However it ends, by ``close()`` too, the host has back what is its own.

        :param record: what the host noted while it collected
        """
        trainer, host = self.trainer, self.trainer.host
        last_labels: list[Labelled] = []
        self.clock.reset()
        with self.clock.running():
            steps = trainer.read(record)
            for planned in self.plan.updates(steps):  # line 2
                labelled = trainer.label(planned.training)  # A_phi of eq. 11 or 12
                if planned.validation is not None and not last_labels:
                    judged = labelled if planned.pooled is None else trainer.label(planned.pooled)
                    moved = planned.pooled is not None
                    trainer.measure_alignment(judged, planned.validation, moved)  # before any step has seen these rewards
                with self.timing.lending(labelled, planned) as loan, self.clock.paused():
                    yield  # lines 4 to 6, the host's own update
                self.timing.after(loan, planned)  # lines 8 to 10
                last_labels.append(loan.labelled)
            to_fit = self.plan.to_fit(last_labels)
            trainer.finish(last_labels, to_fit, share=len(host.collected(steps)) / len(steps))


def trainer_of(
    settings: LearnerSettings, host: AnyHost[Any], seed: int, decomposer_class: type[Decomposer]
) -> RewardTrainer | ReplayTrainer:
    """The trainer of a reward for ``host``.

    :param settings: of the learner
    :param host: adapter of the algorithm
    :param seed: of the initial weights and of all splits, shuffles and draws
    :param decomposer_class: of return decomposition beside an on-policy host
    """
    if isinstance(host, OffPolicyHost):
        return ReplayTrainer(settings, host, seed)
    assert isinstance(host, Host)
    return RewardTrainer(settings, host, seed, decomposer_class=decomposer_class)


def iteration_of(settings: LearnerSettings, trainer: RewardTrainer | ReplayTrainer) -> Iteration | ReplayIteration:
    """Algorithm 1 in the variant that the settings ask for, or what stands in its place off-policy.

    :param settings: of the learner
    :param trainer: of its reward
    """
    if isinstance(trainer, ReplayTrainer):
        return ReplayIteration(trainer)
    schedule, clock = settings.schedule, Stopwatch()
    is_split, is_pooled = schedule.validation == "split", pools(settings, trainer.host.rollout_steps)
    plan: Plan
    if is_split:
        plan = (PooledPlan if is_pooled else Plan)(trainer, schedule.swap)
    else:
        plan = (PooledWholePlan if is_pooled else WholePlan)(trainer)
    timing = (BetweenPasses if schedule.interleave else AfterUpdate)(trainer, clock)
    return Iteration(trainer, plan, timing, clock)


@dataclass(frozen=True)
class Attached:
    """All that belongs to a learner while it has a model.

    :param host: adapter of the model
    :param iteration: of reward learning around it
    :param drives_host: whether the learner runs the host's updates itself
    """

    host: AnyHost[Any]
    iteration: Iteration | ReplayIteration
    drives_host: bool

    @property
    def model(self) -> Any:
        """The algorithm."""
        return self.host.model

    def undoing(self) -> AbstractContextManager[None]:
        """Put the host's policy back where its own update leaves numbers that are not finite."""
        return self.host.undoing()

    @property
    def trainer(self) -> Any:
        """The trainer of the learner's reward."""
        return self.iteration.trainer
