"""Algorithm 1: one iteration of reward learning around a host's policy updates."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from sb3_tare.data.labelled import Labelled
from sb3_tare.learning.plans import Plan
from sb3_tare.learning.timing import AfterUpdate
from sb3_tare.learning.trainer import RewardTrainer
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
            for training, validation in self.plan.updates(steps):  # line 2
                labelled = trainer.label(training)  # A_phi of eq. 11 or 12
                if validation is not None and not last_labels:
                    trainer.measure_alignment(labelled, validation)  # before any step has seen these rewards
                with self.timing.lending(labelled, validation) as loan, self.clock.paused():
                    yield  # lines 4 to 6, the host's own update
                self.timing.after(loan, validation)  # lines 8 to 10
                last_labels.append(loan.labelled)
            collected = host.collected(steps)
            trainer.finish(collected, last_labels, share=len(collected) / len(steps))
